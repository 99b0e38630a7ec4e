//! The two networks repeat the reference traces computed with NumPy (fixtures), loss by loss.

use geartrain::lesson::{self, Epoch};
use serde_json::Value;

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn repeats(name: &str) {
    let (lesson, fixture) = (lesson::network(name).unwrap(), fixture(name));
    let expected = numbers(&fixture["loss"]);
    let mut epochs: Vec<Epoch> = Vec::new();
    let trained = lesson.train(lesson.epochs, |e| epochs.push(e)).unwrap();
    assert_eq!(epochs.len(), expected.len());
    for (epoch, loss) in epochs.iter().zip(&expected) {
        let error = (epoch.loss - loss).abs() / loss.abs();
        assert!(error <= 1e-9, "epoch {}: {} is not {loss} (relative {error:e})", epoch.epoch, epoch.loss);
    }
    for (at, correct) in fixture["correct"].as_object().unwrap() {
        assert_eq!(epochs[at.parse::<usize>().unwrap()].correct as u64, correct.as_u64().unwrap(), "epoch {at}");
    }
    // The fixture's predictions: XOR's are those of the last forward pass, the tokens' those after the last update.
    let ours = if name == "xor" { trained.before_last_update } else { trained.after_last_update };
    for (ours, theirs) in ours.iter().zip(numbers(&fixture["predictions"])) {
        assert!((ours - theirs).abs() <= 1e-9, "prediction {ours} is not {theirs}");
    }
}

#[test]
fn xor_repeats_all_5000_losses() {
    repeats("xor");
}

#[test]
fn tokens_repeat_all_500_losses() {
    repeats("tokens");
}
