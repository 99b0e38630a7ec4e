//! What goes wrong around a run: disks that are full, folders that are read-only, processes that end at the worst time.
//! Nothing of it loses a checkpoint that was there.
//!
//! Elsewhere: checkpoints cut at every place and with every bit flipped (`crates/train/src/checkpoint/tests.rs`), readers
//! that go away and texts of awkward lengths (`errors.rs`), runs killed and resumed, two processes in one folder
//! (`resume.rs`), tables (`tables.rs`), changed command lines (`mutated.rs`).

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Ran, SMALL, checkpoint, checkpoints, finished, run, text};

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.txt"), text(500)).unwrap();
    folder
}

/// Runs the program in a shell that sets limits first.
fn limited(folder: &Path, limits: &str, args: &str) -> Ran {
    let mut command = Command::new("sh");
    let line = format!("{limits} exec \"$0\" {args}");
    command.current_dir(folder).stdin(Stdio::null()).args(["-c", &line, env!("CARGO_BIN_EXE_geartrain")]);
    finished(command)
}

/// No file may grow beyond 32 KiB, so that a checkpoint of this model cannot be written: the same failed `write` as on a
/// full disk, for any user on any machine. (The signal that comes with it is ignored, as the system then returns an error.)
#[test]
fn a_checkpoint_that_does_not_fit_on_the_disk() {
    let dir = folder();
    let args = format!("train t.txt {SMALL} --steps 6 --set train.save_every=2 --out a");
    let ran = limited(dir.path(), "trap '' XFSZ; ulimit -f 64;", &args);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.starts_with("error: cannot write `a/checkpoints/step-000002.safetensors`: "), "{}", ran.err);
    let left: Vec<_> = std::fs::read_dir(dir.path().join("a/checkpoints")).unwrap().collect();
    assert!(left.is_empty(), "nothing half written stays: {left:?}");

    // With a checkpoint on the disk already, it stays what it was and the run goes on from it.
    run(dir.path(), &format!("train t.txt {SMALL} --steps 6 --set train.save_every=2 --out b --until 2 --json")).good();
    let before = checkpoint(&dir.path().join("b"), 2);
    let ran = limited(dir.path(), "trap '' XFSZ; ulimit -f 64;", "resume b --json");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(checkpoint(&dir.path().join("b"), 2) == before);
    assert_eq!(checkpoints(&dir.path().join("b")), [2]);
    run(dir.path(), "resume b --json").good();
    run(dir.path(), &format!("train t.txt {SMALL} --steps 6 --set train.save_every=2 --out c --json")).good();
    assert!(checkpoint(&dir.path().join("b"), 6) == checkpoint(&dir.path().join("c"), 6));
}

/// A disk of 1 MiB that is full, where this user may make one.
#[test]
fn a_full_disk() {
    let dir = folder();
    let args = format!("train ../t.txt {SMALL} --steps 40 --set train.save_every=2 --set train.keep=0 --out a");
    let script = format!(
        "mkdir disk && mount -t tmpfs -o size=1m none disk || exit 99; cd disk; \"$0\" {args}; code=$?; \
         ls a/checkpoints > ../left; \"$0\" eval a ../t.txt > ../evaluated 2>&1; exit $code"
    );
    let mut command = Command::new("unshare");
    command.current_dir(dir.path()).stdin(Stdio::null());
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, env!("CARGO_BIN_EXE_geartrain")]);
    let Ok(output) = command.output() else { return };
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(99) || err.starts_with("unshare: ") {
        // The limit on file sizes above shows the same without any right.
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(err.contains("error: cannot write `a/") && err.contains("No space left on device"), "{err}");
    let left = std::fs::read_to_string(dir.path().join("left")).unwrap();
    assert!(left.lines().count() >= 1 && left.lines().all(|name| name.ends_with(".safetensors")), "{left}");
    let evaluated = std::fs::read_to_string(dir.path().join("evaluated")).unwrap();
    assert!(evaluated.starts_with("step ") && evaluated.contains(": loss "), "the checkpoints are whole: {evaluated}");
}

#[test]
fn standard_output_on_a_full_disk() {
    let dir = folder();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for args in ["lesson xor --json", "explain xor", "train --help"] {
        let mut command = common::command(dir.path(), args);
        let done = command.stdout(full()).stderr(Stdio::piped()).output().unwrap();
        let err = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{args}: {err}");
        assert!(err.starts_with("error: cannot write to standard output: No space left on device"), "{args}: {err}");
    }
    // A run whose lines cannot be written is a run all the same: it ends, is saved, and says so by its exit code.
    let mut command = common::command(dir.path(), &format!("train t.txt {SMALL} --steps 3 --out a --json"));
    let done = command.stdout(full()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(checkpoints(&dir.path().join("a")), [3]);
}

/// A folder in which nobody, whatever rights they have, can make anything.
#[test]
fn a_folder_that_is_read_only() {
    let dir = folder();
    let data = dir.path().join("t.txt").display().to_string();
    let (code, err) = run(dir.path(), &format!("train {data} {SMALL} --steps 2 --out /proc/geartrain")).refused();
    assert_eq!(code, Some(1), "{err}");
    assert!(err.starts_with("error: cannot make the folder `/proc/geartrain`: "), "{err}");
    let (code, err) = run(Path::new("/proc"), &format!("train {data} {SMALL} --steps 2")).refused();
    assert_eq!(code, Some(1), "{err}");
    assert!(err.starts_with("error: cannot make the folder `runs`: "), "{err}");
}

/// Two processes that start in one new folder at the same moment: one runs, the other is refused, and nothing is mixed.
#[test]
fn two_runs_that_want_the_same_folder() {
    let dir = folder();
    let alone = format!("train t.txt {SMALL} --steps 30 --json --out");
    run(dir.path(), &format!("{alone} alone")).good();
    for round in 0..5 {
        let out = format!("a{round}");
        let start = || {
            let mut command = common::command(dir.path(), &format!("{alone} {out}"));
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let both = [start(), start()].map(|child| child.wait_with_output().unwrap());
        let mut codes = both.each_ref().map(|done| done.status.code().unwrap());
        codes.sort_unstable();
        let errors: String = both.iter().map(|done| String::from_utf8_lossy(&done.stderr).into_owned()).collect();
        assert!(codes[0] == 0 && (codes[1] == 1 || codes[1] == 2), "{codes:?} {errors}");
        assert!(errors.contains("in use by another process") || errors.contains("is not empty"), "{errors}");
        let (ours, straight) = (dir.path().join(&out), dir.path().join("alone"));
        assert!(checkpoint(&ours, 30) == checkpoint(&straight, 30));
        assert_eq!(common::metrics(&ours), common::metrics(&straight));
    }
}

/// Ends a run that saves after every step at many different moments, most of them inside a save.
fn ended_while_saving(signal: &str, code: Option<i32>) {
    let dir = folder();
    // A state of 4 MiB: a save takes several times as long as a step.
    let big = "--set model.layers=1 --set model.width=256 --set model.heads=1 --context 8 --batch 1";
    let args = format!("train t.txt {big} --steps 12 --set train.save_every=1 --set train.keep=0 --json --out");
    run(dir.path(), &format!("{args} straight")).good();
    for round in 0..8 {
        let out = format!("a{round}");
        let mut started = common::Started::new(dir.path(), &format!("{args} {out}"));
        started.wait_for(1);
        std::thread::sleep(Duration::from_millis(round * 3));
        let ran = started.signal(signal);
        // It may have come to its end before.
        assert!(ran.code == code || ran.code == Some(0), "{ran:?}");
        let folder = dir.path().join(&out);
        let resumed = run(dir.path(), &format!("resume {out} --json"));
        if checkpoints(&folder).is_empty() {
            assert_eq!((code, resumed.code), (None, Some(4)), "only a killed one may have saved nothing");
            continue;
        }
        assert_eq!((resumed.code, resumed.err.as_str()), (Some(0), ""), "no checkpoint was damaged");
        assert!(checkpoint(&folder, 12) == checkpoint(&dir.path().join("straight"), 12), "{out}");
        let names: Vec<_> = std::fs::read_dir(folder.join("checkpoints")).unwrap().collect();
        assert_eq!(names.len(), checkpoints(&folder).len(), "no leftovers: {names:?}");
    }
}

#[test]
fn sigterm_during_a_save() {
    ended_while_saving("TERM", Some(143));
}

#[test]
fn kill_during_a_save() {
    ended_while_saving("KILL", None);
}
