//! A whole training run has the same bits for any number of threads and any vector instructions.

mod common;

use std::path::Path;

use common::{checkpoint, command, finished, metrics};
use geartrain::engine::Isa;

/// Trains, and gives the last checkpoint.
fn train(folder: &Path, args: &str, name: &str, isa: Option<&str>) -> Vec<u8> {
    let mut command = command(folder, &format!("train --json --out {name} {args}"));
    if let Some(isa) = isa {
        command.env("GEARTRAIN_ISA", isa);
    }
    finished(command).good();
    let steps = *common::checkpoints(&folder.join(name)).last().unwrap();
    checkpoint(&folder.join(name), steps)
}

fn same_bits(args: &str) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let expected = train(folder, &format!("{args} --threads 1"), "one", None);
    let told = metrics(&folder.join("one"));
    let same = |name: &str, args: &str, isa: Option<&str>| {
        let found = train(folder, args, name, isa);
        assert!(found == expected, "{name}: the checkpoint differs from that of one thread");
        assert_eq!(metrics(&folder.join(name)), told, "{name}");
    };
    for threads in [2, 3, 7] {
        same(&format!("threads-{threads}"), &format!("{args} --threads {threads}"), None);
    }
    for (isa, name) in [(Isa::Portable, "portable"), (Isa::Avx2, "avx2"), (Isa::Avx512, "avx512")] {
        if isa.supported() {
            same(name, &format!("{args} --threads 2"), Some(name));
        }
    }
    // The comparison would notice another run.
    assert!(train(folder, &format!("{args} --seed 2"), "other", None) != expected);
}

#[test]
fn a_small_run_has_the_same_bits() {
    same_bits(&format!("{} --steps 30", common::SMALL));
}

/// Every sort of call here is long enough to be split among the threads: a step reads 512 tokens, the width is 64.
#[test]
fn a_run_on_the_parallel_paths_has_the_same_bits() {
    same_bits(
        "--set model.layers=2 --set model.width=64 --set model.heads=4 --set model.dropout=0.1 --context 32 \
         --batch 16 --steps 6 --set schedule.warmup=2",
    );
}

#[test]
fn a_run_in_shards_has_the_same_bits() {
    same_bits(&format!(
        "{} --steps 30 --set train.grad_shards=4 --set train.ema=0.9 --set train.norms=true \
         --set schedule.kind=plateau --set schedule.patience=0 --set train.eval_every=5",
        common::SMALL
    ));
}

/// Odd sizes: nothing here is a multiple of a vector's or a block's length.
#[test]
fn a_run_of_odd_sizes_has_the_same_bits() {
    same_bits(
        "--set model.layers=1 --set model.width=51 --set model.heads=3 --set model.dropout=0.2 --context 37 \
         --batch 13 --steps 5 --set model.bias=true --set model.tied=false --set optimizer.kind=momentum",
    );
}
