//! A run that was stopped in any way ends with the same bytes as one that was not.

mod common;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{Started, checkpoint, checkpoints, metrics, run};
use serde_json::Value;
use tempfile::TempDir;

/// 200 steps that together take a second or so: long enough to be stopped in the middle.
const RUN: &str = "--steps 200 --set schedule.warmup=20 --set train.save_every=20 --set train.keep=0 \
    --set train.eval_every=25";

/// A run of these arguments that nobody stopped: its last checkpoint and its metrics.
struct Straight {
    last: Vec<u8>,
    metrics: Vec<Value>,
}

impl Straight {
    fn new(dir: &Path, args: &str) -> Straight {
        run(dir, &format!("train --json --out straight {args}")).good();
        let run = dir.join("straight");
        Straight { last: checkpoint(&run, 200), metrics: metrics(&run) }
    }

    /// Compares a run that was stopped and resumed. `extra` are steps that it told besides the usual ones, because it
    /// was to stop there.
    #[track_caller]
    fn equals(&self, run: &Path, extra: &[u64]) {
        assert!(checkpoint(run, 200) == self.last, "the last checkpoint differs");
        let told = metrics(run);
        for (i, line) in told.iter().enumerate() {
            assert!(!told[..i].contains(line), "twice: {line}");
        }
        let usual = |line: &&Value| !line["step"].as_u64().is_some_and(|step| extra.contains(&step));
        let told: Vec<&Value> = told.iter().filter(usual).collect();
        let expected: Vec<&Value> = self.metrics.iter().filter(usual).collect();
        assert_eq!(told, expected);
    }
}

/// The names, with the arguments of a small model.
fn names() -> &'static (String, Straight) {
    static RUNS: OnceLock<(String, Straight)> = OnceLock::new();
    RUNS.get_or_init(|| {
        let (dir, args) = (folder(), format!("{RUN} {}", common::SMALL));
        let straight = Straight::new(dir.path(), &args);
        (args, straight)
    })
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A run on the names that stopped at a step as it was asked to.
fn stopped_at(dir: &Path, step: u64) -> PathBuf {
    run(dir, &format!("train --json --out a --until {step} {}", names().0)).good();
    dir.join("a")
}

fn steps(told: &[Value]) -> Vec<u64> {
    told.iter().filter(|line| line["loss"].is_number()).map(|line| line["step"].as_u64().unwrap()).collect()
}

#[test]
fn the_metrics_of_a_straight_run_are_as_documented() {
    let told = &names().1.metrics;
    let expected: Vec<u64> = std::iter::once(1).chain((10..=200).step_by(10)).collect();
    assert_eq!(steps(told), expected);
    let evaluated: Vec<u64> =
        told.iter().filter(|l| l["val_loss"].is_number()).filter_map(|l| l["step"].as_u64()).collect();
    assert_eq!(evaluated, (25..=200).step_by(25).collect::<Vec<u64>>());
    assert_eq!(told.last().unwrap()["steps"], 200);
}

#[test]
fn killed_with_9_and_resumed() {
    let (args, straight) = names();
    let dir = folder();
    let a = dir.path().join("a");
    let mut started = Started::new(dir.path(), &format!("train --json --out a {args}"));
    started.wait_for(110);
    started.kill();
    let newest = *checkpoints(&a).last().unwrap();
    assert!((100..200).contains(&newest), "{newest}");
    run(dir.path(), "resume a --json").good();
    straight.equals(&a, &[]);
}

#[test]
fn killed_twice_inside_epochs_of_data_in_order() {
    let dir = folder();
    let text = common::text(1000);
    std::fs::write(dir.path().join("words.txt"), &text).unwrap();
    let args = format!("words.txt {RUN} {} --set data.order=sequential", common::SMALL);
    // The steps of an epoch, so that no checkpoint's step ends one.
    let windows = (text.len() * 9 / 10 - 1) / 16;
    assert!(windows / 8 > 20 && (1..10).all(|k| k * 20 * 8 % windows != 0), "{windows} windows");
    let straight = Straight::new(dir.path(), &args);
    let a = dir.path().join("a");
    let mut started = Started::new(dir.path(), &format!("train --json --out a {args}"));
    started.wait_for(50);
    started.kill();
    let mut started = Started::new(dir.path(), "resume a --json --threads 1");
    started.wait_for(120);
    started.kill();
    run(dir.path(), "resume a --json --threads 2").good();
    straight.equals(&a, &[]);
}

/// The rate follows the validation loss, weights are averaged, the batch is summed from shards, layers are told, and the
/// run ends early.
#[test]
fn with_everything_on_killed_with_9_and_resumed() {
    let dir = folder();
    let args = format!(
        "{} --steps 1000 --lr 0.01 --set schedule.warmup=10 --set schedule.kind=plateau --set schedule.patience=1 \
         --set schedule.threshold=0.01 --set schedule.min_lr=0 --set train.ema=0.8 --set train.grad_shards=4 \
         --set train.norms=true --set train.patience=8 --set train.min_delta=0.02 --set train.keep=0 \
         --set train.save_every=15 --set train.eval_every=10 --tensorboard",
        common::SMALL
    );
    let told = run(dir.path(), &format!("train --out straight {args}")).good();
    let straight = dir.path().join("straight");
    let expected = metrics(&straight);
    let done = expected.last().unwrap();
    let last = done["steps"].as_u64().unwrap();
    assert_eq!((&done["stopped_early"], checkpoints(&straight).last()), (&Value::Bool(true), Some(&last)));
    assert!((250..1000).contains(&last), "it ends early, and not at once: {last}");
    let said = format!("\nstopped early at step {last}: no improvement over step {} for 8 evaluations\n", last - 80);
    assert!(told.contains(&said), "{told}");
    let rates: Vec<f64> = expected.iter().filter_map(|line| line["lr"].as_f64()).collect();
    assert!(0.01 / rates.last().unwrap() >= 16.0, "the rate has fallen: {rates:?}");

    let a = dir.path().join("a");
    for (step, command) in [(105, format!("train --json --out a {args}")), (205, "resume a --json".to_string())] {
        let mut started = Started::new(dir.path(), &command);
        started.wait_for(step);
        started.kill();
    }
    run(dir.path(), "resume a --json --threads 1").good();
    assert_eq!(checkpoints(&a), checkpoints(&straight));
    for step in checkpoints(&a) {
        assert!(checkpoint(&a, step) == checkpoint(&straight, step), "the checkpoint of step {step} differs");
    }
    assert_eq!(metrics(&a), expected);
    // TensorBoard gets each of them once, too.
    let events = std::fs::read(a.join("events.out.tfevents.geartrain")).unwrap();
    let in_events = events.windows(8).filter(|bytes| bytes == b"val_loss").count();
    assert_eq!(
        in_events,
        expected.iter().filter(|line| line["step"].is_number() && line["val_loss"].is_number()).count()
    );

    // A run that has stopped does not go on, and its best checkpoint is read.
    let out = run(dir.path(), "resume a --json").good();
    assert_eq!(steps(&common::json(&out)), [0; 0], "no step is trained");
    assert_eq!(metrics(&a), expected);
    let losses = expected.iter().filter(|line| line["step"].is_number() && line["val_loss"].is_number());
    let best =
        losses.min_by(|a, b| a["val_loss"].as_f64().unwrap().total_cmp(&b["val_loss"].as_f64().unwrap())).unwrap();
    assert_eq!(common::json(&run(dir.path(), "eval a --json").good()), std::slice::from_ref(best));
}

#[test]
fn killed_before_the_first_checkpoint_there_is_nothing_to_resume() {
    let dir = folder();
    let mut started = Started::new(dir.path(), &format!("train --json --out a {} --set train.save_every=0", names().0));
    started.wait_for(10);
    started.kill();
    let (code, err) = run(dir.path(), "resume a").refused();
    let hint = "it ended before it saved one; start it again with `geartrain train` and the same options";
    assert_eq!((code, err), (Some(4), format!("error: the run `a` has no checkpoint\n\nhint: {hint}\n")));
}

#[test]
fn until_stops_without_changing_the_plan() {
    let dir = folder();
    let a = stopped_at(dir.path(), 63);
    assert_eq!(checkpoints(&a), [20, 40, 60, 63]);
    let out = run(dir.path(), "resume a --json --until 117").good();
    let told = common::json(&out);
    assert_eq!(steps(&told), [70, 80, 90, 100, 110, 117]);
    assert_eq!(told.last().unwrap()["steps"], 117);
    // A step that is past already does no harm.
    run(dir.path(), "resume a --json --until 5").good();
    run(dir.path(), "resume a --json").good();
    names().1.equals(&a, &[63, 117]);
}

/// Step 50 is also one at which the run evaluates: it is told once.
#[test]
fn until_a_step_that_evaluates_tells_it_once() {
    let dir = folder();
    let a = stopped_at(dir.path(), 50);
    let evaluations = |told: &[Value]| told.iter().filter(|l| l["step"] == 50 && l["val_loss"].is_number()).count();
    assert_eq!(evaluations(&metrics(&a)), 1, "the evaluation of step 50");
    run(dir.path(), "resume a --json").good();
    names().1.equals(&a, &[]);
}

#[test]
fn a_finished_run_is_resumed_without_a_change() {
    let dir = folder();
    let (args, straight) = names();
    run(dir.path(), &format!("train --json --out a {args}")).good();
    let out = run(dir.path(), "resume a --json").good();
    let done = common::json(&out).pop().unwrap();
    assert_eq!((&done["done"], &done["steps"]), (&Value::Bool(true), &Value::from(200)));
    assert_eq!(done["val_loss"], straight.metrics.last().unwrap()["val_loss"]);
    straight.equals(&dir.path().join("a"), &[]);
}

fn saves_and_ends(signal: &str, code: i32) {
    let dir = folder();
    let a = dir.path().join("a");
    let mut started = Started::new(dir.path(), &format!("train --json --out a {}", names().0));
    started.wait_for(50);
    let ran = started.signal(signal);
    assert_eq!((ran.code, ran.err.as_str()), (Some(code), ""), "{}", ran.out);
    let done = common::json(&ran.out).pop().unwrap();
    let stopped = done["steps"].as_u64().unwrap();
    assert!(done["done"] == true && (50..200).contains(&stopped), "{done}");
    assert_eq!(checkpoints(&a).last(), Some(&stopped));
    run(dir.path(), "resume a --json").good();
    names().1.equals(&a, &[]);
}

#[test]
fn ctrl_c_saves_first() {
    saves_and_ends("INT", 130);
}

#[test]
fn sigterm_saves_first() {
    saves_and_ends("TERM", 143);
}

#[test]
fn a_run_in_use_is_refused() {
    let dir = folder();
    let long = names().0.replace("--steps 200", "--steps 1000000");
    let mut started = Started::new(dir.path(), &format!("train --json --out a {long}"));
    started.wait_for(20);
    let (code, err) = run(dir.path(), "resume a --json").refused();
    let expected = "error: the run folder `a` is in use by another process\n\n\
        hint: wait until that run ends, or stop it with Ctrl-C: it saves first\n";
    assert_eq!((code, err.as_str()), (Some(1), expected));
    assert_eq!(run(dir.path(), "train --out a --steps 1").code, Some(2));
    // Reading is not refused.
    started.wait_for(40);
    run(dir.path(), "eval a").good();
    started.kill();
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    type Damage = fn(&mut Vec<u8>);
    let damage: [(&str, Damage); 2] = [
        ("its checksum does not match", |bytes| {
            let last = bytes.len() - 1;
            bytes[last / 2] ^= 1;
        }),
        ("", |bytes| bytes.truncate(bytes.len() / 2)),
    ];
    for (reason, damage) in damage {
        let dir = folder();
        let a = stopped_at(dir.path(), 100);
        let path = a.join("checkpoints/step-000100.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let ran = run(dir.path(), "resume a --json");
        let start = format!("warning: checkpoint `a/checkpoints/step-000100.safetensors` is damaged: {reason}");
        assert!(ran.err.starts_with(&start), "{}", ran.err);
        assert_eq!((ran.err.lines().count(), ran.code), (1, Some(0)), "{}", ran.err);
        names().1.equals(&a, &[]);
    }
}

#[test]
fn without_any_whole_checkpoint_there_is_nothing_to_load() {
    let dir = folder();
    let a = stopped_at(dir.path(), 20);
    std::fs::write(a.join("checkpoints/step-000020.safetensors"), "no").unwrap();
    for command in ["resume a", "eval a", "generate a"] {
        let (code, err) = run(dir.path(), command).refused();
        assert_eq!(code, Some(4), "{err}");
        assert!(err.starts_with("error: the run `a` has no checkpoint that can be used: checkpoint `a/"), "{err}");
        assert!(
            err.ends_with("\n\nhint: it was the only one; copy it back from another place, or start the run again\n")
        );
    }
}

#[test]
fn changed_files_are_refused() {
    let dir = folder();
    let data = dir.path().join("words.txt");
    std::fs::write(&data, common::text(500)).unwrap();
    run(dir.path(), &format!("train words.txt --json --out a --until 5 {}", names().0)).good();
    let before = checkpoint(&dir.path().join("a"), 5);
    let changes: [(&str, &str, &str, String, &str); 3] = [
        (
            "words.txt",
            "loss",
            "toll",
            format!("`{}` has changed", std::fs::canonicalize(&data).unwrap().display()),
            "put the old data back, or start a new run",
        ),
        (
            "a/config.toml",
            "lr = 0.001",
            "lr = 0.002",
            "config.toml has changed".to_string(),
            "put the old file back; a run is finished as it was planned",
        ),
        ("a/tokenizer.json", "\"a\"", "\"z\"", String::new(), ""),
    ];
    for (file, old, new, what, hint) in changes {
        let path = dir.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{file} has no {old}");
        std::fs::write(&path, text.replacen(old, new, 1)).unwrap();
        let (code, err) = run(dir.path(), "resume a").refused();
        if what.is_empty() {
            assert!(matches!(code, Some(2 | 4)) && err.contains("\n\nhint: "), "{file}: {code:?} {err}");
        } else {
            let expected = format!("error: {what} since the run started\n\nhint: {hint}\n");
            assert_eq!((code, err), (Some(2), expected), "{file}");
        }
        std::fs::write(&path, text).unwrap();
    }
    // With everything put back, and the text moved to another place, the run goes on.
    assert!(checkpoint(&dir.path().join("a"), 5) == before);
    std::fs::rename(&data, dir.path().join("moved.txt")).unwrap();
    assert_eq!(run(dir.path(), "resume a").code, Some(2));
    run(dir.path(), "resume a --json --data moved.txt --until 7").good();
    assert_eq!(checkpoints(&dir.path().join("a")), [5, 7]);
}

#[test]
fn products_in_bfloat16_have_numbers_of_their_own() {
    let (args, straight) = names();
    let dir = folder();
    run(dir.path(), &format!("train --json --out b --until 100 {args} --set train.precision=bf16")).good();
    run(dir.path(), "resume b --json").good();
    let b = dir.path().join("b");
    run(dir.path(), &format!("train --json --out c {args} --set train.precision=bf16 --threads 1")).good();
    let last = checkpoint(&b, 200);
    assert!(last == checkpoint(&dir.path().join("c"), 200), "stopped or not, on any number of threads");
    // The header of a checkpoint names its numbers.
    let version = format!("\"numerics_version\":\"{}-bf16\"", geartrain::engine::NUMERICS_VERSION);
    let header = String::from_utf8_lossy(&last[..last.len().min(8192)]).into_owned();
    assert!(header.contains(&version), "{header}");
    // The loss of f32, nearly.
    let loss = |told: &[Value]| told.iter().rev().find_map(|line| line["val_loss"].as_f64()).unwrap();
    let (ours, full) = (loss(&metrics(&b)), loss(&straight.metrics));
    assert!(ours != full && (ours - full).abs() < 0.02, "{ours} {full}");
}

/// What a run that stopped early tells and writes at its end is what its best checkpoint gives afterwards.
#[test]
fn an_early_stop_ends_with_its_best() {
    let dir = folder();
    // Letters at random: all that can be learned is learned soon, and what comes after is learned by heart.
    let mut x = 1u32;
    let mut letter = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (x >> 29) as u8)
    };
    let lines: String = (0..60).map(|_| (0..8).map(|_| letter()).collect::<String>() + "\n").collect();
    std::fs::write(dir.path().join("letters.txt"), lines).unwrap();
    let model = "--model ngram --context 4 --batch 16 --set model.hidden=64 --steps 1000";
    let stops = "--set train.patience=2 --set train.eval_every=20 --set train.save_every=50";
    let out = run(dir.path(), &format!("train letters.txt {model} {stops} --json --out a")).good();
    let done = common::json(&out).pop().unwrap();
    let (steps, best) = (done["steps"].as_u64().unwrap(), done["best_step"].as_u64().unwrap());
    assert_eq!((done["stopped_early"].as_bool(), steps - best), (Some(true), 40), "{done}");
    let told: Vec<Value> = common::json(&out).into_iter().filter(|line| line["val_loss"].is_f64()).collect();
    let lowest = told.iter().map(|line| line["val_loss"].as_f64().unwrap()).fold(f64::INFINITY, f64::min);
    assert_eq!(done["val_loss"].as_f64(), Some(lowest));
    let measured = common::json(&run(dir.path(), "eval a --json").good()).remove(0);
    assert_eq!((&measured["step"], &measured["val_loss"]), (&done["best_step"], &done["val_loss"]));
    // There is nothing to go on with, and it is told in the same words.
    let again = common::json(&run(dir.path(), "resume a --json").good()).pop().unwrap();
    assert_eq!(again, done);
}
