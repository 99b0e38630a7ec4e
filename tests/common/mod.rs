//! What the tests of the program share: running it, killing it, and reading what it wrote.
#![allow(dead_code, reason = "each test uses some of these")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A model of which a step takes a millisecond or two.
pub const SMALL: &str = "--set model.layers=2 --set model.width=32 --set model.heads=2 --set model.dropout=0.1 \
    --context 16 --batch 8";

/// What a finished process left.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Standard output of a run that must have ended well.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.out
    }

    /// The exit code, with all of standard error; nothing may stand on standard output.
    #[track_caller]
    pub fn refused(self) -> (Option<i32>, String) {
        assert_eq!(self.out, "", "{}", self.err);
        (self.code, self.err)
    }
}

/// The program in a folder, with arguments separated by blanks.
pub fn command(folder: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_geartrain"));
    command.current_dir(folder).env_remove("GEARTRAIN_ISA").args(args.split_whitespace()).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(folder: &Path, args: &str) -> Ran {
    finished(command(folder, args))
}

/// Runs a command to its end.
pub fn finished(mut command: Command) -> Ran {
    let done = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: done.status.code(), out: text(done.stdout), err: text(done.stderr) }
}

/// A run under way: its process, and its standard output.
pub struct Started {
    /// The process.
    pub child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Started {
    /// Starts it with `--json` among the arguments, so that its lines can be followed.
    pub fn new(folder: &Path, args: &str) -> Started {
        let mut child = command(folder, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Started { child, lines }
    }

    /// Waits for a line of this step or a later one.
    #[track_caller]
    pub fn wait_for(&mut self, step: u64) {
        loop {
            let line = self.lines.next().expect("the run goes on").unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["step"].as_u64().is_some_and(|found| found >= step) {
                return;
            }
        }
    }

    /// Ends it as `kill -9` does; it must still have been running.
    #[track_caller]
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), None, "the run ended before it was killed");
    }

    /// Sends a signal and gives what the process then did, with the rest of its standard output.
    pub fn signal(mut self, name: &str) -> Ran {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let out: String = self.lines.by_ref().map(|line| line.unwrap() + "\n").collect();
        let done = self.child.wait_with_output().unwrap();
        Ran { code: done.status.code(), out, err: String::from_utf8(done.stderr).unwrap() }
    }
}

/// The bytes of a checkpoint.
#[track_caller]
pub fn checkpoint(run: &Path, step: u64) -> Vec<u8> {
    let path = run.join(format!("checkpoints/step-{step:06}.safetensors"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The steps that have a checkpoint, rising.
pub fn checkpoints(run: &Path) -> Vec<u64> {
    let files = std::fs::read_dir(run.join("checkpoints")).unwrap();
    let step = |name: String| name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok();
    let mut steps: Vec<u64> = files.filter_map(|file| step(file.unwrap().file_name().into_string().unwrap())).collect();
    steps.sort_unstable();
    steps
}

/// Lines of JSON.
#[track_caller]
pub fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"))).collect()
}

/// Lines of JSON without what depends on the clock or the folder's name.
pub fn timeless(text: &str) -> Vec<Value> {
    let mut lines = json(text);
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.remove("ms");
        line.remove("run");
    }
    lines
}

/// What a run folder's metrics hold, without what depends on the clock or the folder's name.
pub fn metrics(run: &Path) -> Vec<Value> {
    timeless(&std::fs::read_to_string(run.join("metrics.jsonl")).unwrap())
}

/// A text of words in which every character comes early, so that any cut of its end has the same characters.
pub fn text(words: usize) -> String {
    const WORDS: [&str; 8] = ["gear", "train", "loss", "wheel", "tooth", "ratio", "shaft", "pinion"];
    let mut x = 7usize;
    let mut text = String::new();
    for i in 0..words {
        x = x * 1103515245 % 2147483647;
        let end = if i % 9 == 8 { '\n' } else { ' ' };
        text += WORDS[if i < 8 { i } else { x / 65536 % 8 }];
        text.push(end);
    }
    text.trim_end().to_string() + "\n"
}
