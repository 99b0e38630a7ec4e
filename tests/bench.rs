//! The command `bench`: what it prints and what it refuses. How fast anything is, is no test.

mod common;

use common::run;
use serde_json::Value;

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_workload_is_one_object() {
    let folder = tempfile::tempdir().unwrap();
    let text = run(folder.path(), "bench xor --seconds 0.05 --threads 1 --json").good();
    let [row] = &rows(&text)[..] else { panic!("{text}") };
    assert_eq!((row["workload"].as_str(), row["threads"].as_u64()), (Some("xor"), Some(1)));
    for key in ["median_us", "min_us", "flops", "gflops", "peak_bytes", "arena_bytes", "live_bytes", "loss"] {
        assert!(row[key].as_f64().is_some_and(|v| v > 0.0 && v.is_finite()), "{key} of {row}");
    }
    assert!(row["min_us"].as_f64() <= row["median_us"].as_f64());
    assert!(row["live_bytes"].as_u64() <= row["arena_bytes"].as_u64());
}

#[test]
fn several_workloads_are_a_row_each() {
    let folder = tempfile::tempdir().unwrap();
    let all = rows(&run(folder.path(), "bench xor W2 --seconds 0.05 --json").good());
    let names: Vec<&str> = all.iter().filter_map(|row| row["workload"].as_str()).collect();
    assert_eq!(names, ["xor", "tokens"]);
}

#[test]
fn a_profile_is_a_row_a_call_and_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let calls = rows(&run(folder.path(), "bench profile tokens --seconds 0.05 --json").good());
    let bench = rows(&run(folder.path(), "bench tokens --seconds 0.05 --json").good());
    assert_eq!(Some(calls.len() as u64), bench[0]["calls"].as_u64());
    let shares: f64 = calls.iter().map(|row| row["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
    let times: Vec<f64> = calls.iter().map(|row| row["us"].as_f64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
}

#[test]
fn what_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (args, what) in [
        ("bench nothing", "there is no workload `nothing`"),
        ("bench profile", "wants one workload"),
        ("bench profile xor tokens", "wants one workload"),
        ("bench xor kernels", "there is no workload `kernels`"),
        ("bench profile nothing", "there is no workload `nothing`"),
        ("bench xor --threads 0", "--threads must be at least 1"),
        ("bench xor --seconds nan", "--seconds must be a number above 0"),
        ("bench xor --seconds 0", "--seconds must be a number above 0"),
        ("bench xor --seconds=-1", "--seconds must be a number above 0"),
        ("bench xor --against pencil", "invalid value 'pencil'"),
    ] {
        let (code, text) = run(folder.path(), args).refused();
        assert_eq!(code, Some(2), "{args}: {text}");
        assert!(text.contains(what) && text.contains("hint:"), "{args}: {text}");
    }
}

#[test]
fn a_framework_that_is_not_there_is_a_failure_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for (peer, what) in [("torch", "no script nowhere/python/bench_torch.py"), ("burn", "no package nowhere/rust/burn")]
    {
        let done = run(folder.path(), &format!("bench xor --seconds 0.05 --against {peer} --peers nowhere --json"));
        let (code, text) = done.refused();
        assert!(code == Some(1) && text.contains(&format!("xor: {what}")), "{text}");
    }
    let (code, text) =
        run(folder.path(), "bench xor --seconds 0.05 --against numpy --python ./nothing --json").refused();
    assert!(code == Some(1) && text.contains("xor: no script"), "{text}");
}
