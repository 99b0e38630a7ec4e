//! A run whose numbers become infinite or NaN ends with exit code 3 and its last good state on disk.

mod common;

use common::{checkpoint, checkpoints, json, run};

const DIVERGES: &str = "--lr 1e30 --set optimizer.kind=sgd --set optimizer.clip=0 --set schedule.warmup=0";

#[test]
fn the_last_good_state_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let ran = run(dir, &format!("train --json --out a --steps 50 {DIVERGES} {}", common::SMALL));
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let steps = checkpoints(&dir.join("a"));
    let [last] = steps[..] else { panic!("{steps:?}") };
    let what = ran.err.strip_prefix("error: the ").unwrap();
    let tail = format!(
        " at step {}\n\nhint: lower --lr, or raise --set schedule.warmup; the last good state is saved\n",
        last + 1
    );
    assert!(what.ends_with(&tail), "{what:?} does not end with {tail:?}");
    let value = what.strip_suffix(&tail).unwrap();
    let known = |name: &str| ["NaN", "inf", "-inf"].iter().any(|v| value == format!("{name} became {v}"));
    assert!(known("loss") || known("gradient norm"), "{value}");
    // What was told before is whole, and nothing was told of the failed step.
    for line in json(&ran.out) {
        assert!(line["step"].as_u64().unwrap() <= last && line["loss"].is_number(), "{line}");
    }
    let loss = json(&run(dir, "eval a --json").good());
    assert_eq!(loss[0]["step"].as_u64(), Some(last));
    assert!(loss[0]["val_loss"].is_number(), "{loss:?}");
    run(dir, "generate a --tokens 5").good();
}

#[test]
fn the_saved_state_is_the_one_before_the_failed_step() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    // Which rate fails after some good steps depends on the last bit of many numbers, so a few are tried.
    let failing = ["100", "1e3", "3e4", "1e6", "1e8"].into_iter().find_map(|lr| {
        let args = format!("--steps 50 {DIVERGES} {}", common::SMALL).replace("1e30", lr);
        let ran = run(dir, &format!("train --json --out a-{lr} {args}"));
        assert!(matches!(ran.code, Some(0 | 3)), "{ran:?}");
        let last = *checkpoints(&dir.join(format!("a-{lr}"))).last().unwrap();
        (ran.code == Some(3) && last >= 2).then_some((format!("a-{lr}"), args, last))
    });
    let (a, args, last) = failing.expect("one of the rates fails after two good steps or more");
    // A run that stops there by itself has the same state; only what is known of the best step may differ.
    run(dir, &format!("train --json --out b --until {last} {args}")).good();
    let tensors = |name: &str| {
        let bytes = checkpoint(&dir.join(name), last);
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert!(tensors(&a) == tensors("b"));
    // Going on fails in the same way and changes nothing.
    let before = checkpoint(&dir.join(&a), last);
    assert_eq!(run(dir, &format!("resume {a} --json")).code, Some(3));
    assert!(checkpoint(&dir.join(&a), last) == before);
}
