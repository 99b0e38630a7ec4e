//! With `--json`, standard output is one JSON object of the documented form a line, and nothing else.

mod common;

use common::{json, run};
use serde_json::Value;

/// The sorted keys of an object.
fn keys(line: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Checks the lines of `train` and `resume`, from the first step after `from` to `to`, with evaluations at these steps; gives
/// the loss on the last line.
#[track_caller]
fn check_run(out: &str, from: u64, to: u64, planned: &[u64], samples: std::ops::RangeInclusive<usize>) -> f64 {
    assert!(out.ends_with('\n'));
    let lines = json(out);
    let mut trained = Vec::new();
    let (mut evaluated, mut sampled) = (Vec::new(), 0);
    for line in &lines[..lines.len() - 1] {
        match keys(line)[..] {
            ["grad_norm", "loss", "lr", "ms", "step"] => {
                trained.push(line["step"].as_u64().unwrap());
                for key in ["loss", "lr", "grad_norm", "ms"] {
                    assert!(line[key].as_f64().is_some_and(|x| x.is_finite() && x > 0.0), "{line}");
                }
                assert_eq!(sampled, 0, "samples come after all training");
            }
            ["step", "val_loss"] => {
                assert!(line["val_loss"].as_f64().is_some_and(|x| x.is_finite() && x > 0.0), "{line}");
                evaluated.push(line["step"].as_u64().unwrap());
            }
            ["sample"] => {
                assert!(line["sample"].is_string());
                sampled += 1;
            }
            _ => panic!("{line} is of no known form"),
        }
    }
    let expected: Vec<u64> = (from + 1..=to).filter(|s| *s == 1 || s % 10 == 0 || *s == to).collect();
    assert_eq!(trained, expected);
    assert_eq!(evaluated, planned, "evaluations: those that were planned, no more");
    assert!(samples.contains(&sampled), "{sampled} samples");
    let done = lines.last().unwrap();
    assert_eq!(keys(done), ["done", "run", "steps", "val_loss"]);
    assert_eq!(
        (&done["done"], &done["steps"], &done["run"]),
        (&Value::from(true), &Value::from(to), &Value::from("a"))
    );
    done["val_loss"].as_f64().unwrap()
}

/// The text of a number in a line, to its last digit.
fn digits<'a>(line: &'a str, key: &str) -> &'a str {
    let start = line.find(&format!("\"{key}\":")).unwrap() + key.len() + 3;
    line[start..].split([',', '}']).next().unwrap()
}

#[test]
fn train_resume_and_eval() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let args = format!("--json --out a --steps 45 --set train.eval_every=15 {}", common::SMALL);
    let ran = run(dir, &format!("train {args} --until 23"));
    assert_eq!(ran.err, "");
    let out = ran.good();
    check_run(&out, 0, 23, &[15], 0..=10);
    let out = run(dir, "resume a --json").good();
    let loss = check_run(&out, 23, 45, &[30, 45], 0..=10);
    let metrics = std::fs::read_to_string(dir.join("a/metrics.jsonl")).unwrap();
    assert!(metrics.ends_with(&out), "the metrics end with what was told");
    let last = out.lines().last().unwrap();
    for threads in ["", " --threads 1", " --threads 3"] {
        let eval = run(dir, &format!("eval a --json{threads}"));
        assert_eq!((eval.err.as_str(), eval.out.lines().count()), ("", 1));
        assert_eq!(keys(&json(&eval.out)[0]), ["step", "val_loss"]);
        assert_eq!(digits(&eval.out, "step"), "45");
        assert_eq!(digits(&eval.out, "val_loss"), digits(last, "val_loss"), "to the last digit");
    }
    // Losses are far from any that a broken model has: below that of guessing, and above 0.
    assert!(loss < (53f64).ln(), "{loss}");
}

#[test]
fn without_validation_the_loss_is_null() {
    let folder = tempfile::tempdir().unwrap();
    let args = format!("train --json --out a --steps 3 --set data.validation=0 {}", common::SMALL);
    let lines = json(&run(folder.path(), &args).good());
    assert_eq!(keys(lines.last().unwrap()), ["done", "run", "steps", "val_loss"]);
    assert!(lines.last().unwrap()["val_loss"].is_null());
    assert!(lines.iter().all(|line| line["val_loss"].is_null()), "nothing was evaluated");
    assert_eq!(run(folder.path(), "eval a --json").refused().0, Some(2));
}

#[test]
fn a_text_ends_with_one_sample() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("words.txt"), common::text(400)).unwrap();
    let args = format!("train words.txt --json --out a --steps 3 {}", common::SMALL);
    check_run(&run(folder.path(), &args).good(), 0, 3, &[3], 1..=1);
}

#[test]
fn lessons() {
    let folder = tempfile::tempdir().unwrap();
    for (name, epochs) in [("xor", 5000), ("tokens", 500)] {
        let ran = run(folder.path(), &format!("lesson {name} --json"));
        assert_eq!(ran.err, "");
        let lines = json(&ran.good());
        assert_eq!(lines.len(), epochs + 1);
        for (epoch, line) in lines[..epochs].iter().enumerate() {
            assert_eq!(keys(line), ["correct", "epoch", "loss"]);
            assert_eq!(line["epoch"], epoch);
            assert!(line["correct"].as_u64().unwrap() <= 4);
            assert!(line["loss"].as_f64().is_some_and(|x| x.is_finite() && x > 0.0), "{line}");
        }
        let done = &lines[epochs];
        assert_eq!((keys(done), &done["done"]), (vec!["done", "predictions"], &Value::from(true)));
        let predictions = done["predictions"].as_array().unwrap();
        assert_eq!(predictions.len(), 4);
        assert!(predictions.iter().all(|p| (0.0..=1.0).contains(&p.as_f64().unwrap())));
    }
    let list = json(&run(folder.path(), "lesson --json").good());
    let names: Vec<&Value> = list.iter().map(|line| &line["lesson"]).collect();
    let known: Vec<&str> = geartrain::lesson::LESSONS.iter().map(|lesson| lesson.name).collect();
    assert_eq!(names, known);
}

#[test]
fn gradcheck() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["xor", "tokens"] {
        let lines = json(&run(folder.path(), &format!("gradcheck {name} --json")).good());
        let parameters: Vec<&Value> = lines.iter().map(|line| &line["parameter"]).collect();
        assert_eq!(parameters, ["W1", "b1", "W2", "b2"]);
        for line in &lines {
            assert_eq!(keys(line), ["analytic", "compiled_error", "error", "numeric", "parameter"]);
            let number = |key: &str| line[key].as_f64().unwrap();
            let (derived, numeric) = (number("analytic"), number("numeric"));
            assert!((derived - numeric).abs() <= 1e-6 * (1.0 + derived.abs().max(numeric.abs())), "{line}");
            assert!(number("error") <= 1e-6 && number("compiled_error") <= 1e-6, "{line}");
        }
    }
    let lines = json(&run(folder.path(), "gradcheck --ops --json").good());
    let ops: Vec<&str> = lines.iter().map(|line| line["op"].as_str().unwrap()).collect();
    let known: Vec<&str> = geartrain::engine::ops::OPS.iter().map(|op| op.name()).collect();
    assert_eq!(ops, known);
    for line in &lines {
        assert_eq!(keys(line), ["cases", "failures", "op", "passed"]);
        assert!(line["passed"] == true && line["failures"].as_array().unwrap().is_empty(), "{line}");
        assert!(line["cases"].as_u64().unwrap() > 0, "{line}");
    }
}

#[test]
fn numbers_have_all_their_digits() {
    let folder = tempfile::tempdir().unwrap();
    let out = run(folder.path(), "lesson tokens --json").good();
    let trained = geartrain::lesson::network("tokens").unwrap();
    let mut losses = Vec::new();
    trained.train(500, |epoch| losses.push(epoch.loss)).unwrap();
    let told: Vec<u64> = out.lines().take(500).map(|l| digits(l, "loss").parse::<f64>().unwrap().to_bits()).collect();
    assert_eq!(told, losses.iter().map(|l| l.to_bits()).collect::<Vec<_>>());
}
