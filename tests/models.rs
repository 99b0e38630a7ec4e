//! Every language model, from the command line: it learns, it is measured again as it was, and it writes.

mod common;

use common::{json, run, text};
use serde_json::Value;

#[test]
fn each_model_learns_is_measured_and_writes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t.txt"), text(2000)).unwrap();
    for kind in ["gpt2", "ngram", "rnn", "gru"] {
        let args = "--json --steps 60 --context 8 --batch 16 --lr 0.01 --set schedule.warmup=5 --set model.layers=1 \
            --set model.width=16 --set model.heads=2 --set model.hidden=32 --set train.eval_every=30";
        let told = json(&run(dir.path(), &format!("train t.txt --model {kind} --out {kind} {args}")).good());
        let losses: Vec<f64> = told.iter().filter_map(|line| line["val_loss"].as_f64()).collect();
        let first = told[0]["loss"].as_f64().unwrap();
        // 17 characters: 2.8 nats before anything is learned.
        assert!((2.6..3.2).contains(&first), "{kind}: {first}");
        assert!(losses[0] < first - 0.3 && losses[1] < losses[0] - 0.05, "{kind}: {first}, then {losses:?}");

        let measured: Value = serde_json::from_str(&run(dir.path(), &format!("eval {kind} --json")).good()).unwrap();
        assert_eq!(measured["val_loss"].as_f64(), losses.last().copied(), "{kind}: to the digit");

        let generate = format!("generate {kind} --prompt gear --tokens 30 --seed 1");
        let written = run(dir.path(), &generate).good();
        assert!(written.starts_with("gear") && written.chars().count() == 4 + 30 + 1, "{kind}: {written:?}");
        assert_eq!(run(dir.path(), &generate).good(), written, "{kind}: the seed decides");
    }
}
