//! Two thousand command lines and configuration files that nobody means: whatever they are, they end with an exit code
//! of ours and an error that says what is wrong, never with a panic.
//!
//! Each is a sound one with a few changes drawn from its number, so that a failure names the number that repeats it:
//! `GEARTRAIN_MUTATION=N cargo test --release --test mutated`.

mod common;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{SMALL, run, text};

/// Changed command lines and changed configuration files.
const EACH: u64 = 1000;
/// One that still runs then had nothing to complain about, and is stopped.
const PATIENCE: Duration = Duration::from_secs(2);

/// A small generator of its own, so that a number alone decides what is drawn: SplitMix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

/// Sound command lines over the files that [`folder`] makes. Those that train stop at once.
const LINES: &[&str] = &[
    "train t.txt --until 1 --steps 3 --out new --json",
    "train t.txt --set model.layers=1 --set model.width=16 --set model.heads=2 --context 8 --batch 2 --until 1 --out new",
    "train t.txt --model ngram --steps 2 --context 4 --batch 2 --set model.hidden=8 --out new --seed 3 --threads 1",
    "train t.txt --model gru --steps 2 --context 4 --batch 2 --set model.hidden=8 --lr 0.01 --out new",
    "train t.txt --set data.tokenizer=byte --set schedule.kind=constant --set optimizer.kind=sgd --steps 2 --out new",
    "train --config c.toml --until 1 --out new",
    "train t.txt --set data.tokenizer=bpe --set data.vocab=280 --context 4 --batch 2 --steps 2 --set model.layers=1 --out new",
    "train d.csv --target class --steps 4 --set model.hidden=8 --set train.class_weights=balanced --out new --json",
    "train d.csv --target y --steps 4 --set data.missing=mean --set data.ignore=id --set train.batch=4 --out new",
    "predict table d.csv --json",
    "predict table d.csv --out new.csv",
    "eval table d.csv --json",
    "train t.txt --model ngram --steps 4 --batch 4 --set model.hidden=8 --set train.grad_shards=2 --set train.ema=0.5 \
     --set train.patience=1 --set train.eval_every=1 --set train.norms=true --tensorboard --out new",
    "train t.txt --model rnn --steps 4 --set model.hidden=8 --set schedule.kind=plateau --set optimizer.kind=lion --out new",
    "train t.txt --model ngram --steps 4 --set schedule.kind=onecycle --set optimizer.kind=rmsprop --set model.hidden=8 --out new",
    "resume run --until 6 --threads 1 --json",
    "generate run --prompt gear --tokens 5 --temperature 0.5 --top-k 3 --top-p 0.9 --seed 2",
    "eval run t.txt --threads 1 --json",
    "lesson xor --json",
    "lesson descent",
    "gradcheck --graphs 3 --seed 5",
    "explain xor",
    "explain matmul",
    "gradcheck tokens --seed 3",
    "bench xor --threads 1 --seconds 0.01 --json",
    "--help",
    "train --help",
    "--version",
];

/// Words that stand for nothing where they are put.
const WORDS: &[&str] = &[
    "",
    "-",
    "--",
    "=",
    "0",
    "-1",
    "1e400",
    "NaN",
    "inf",
    "99999999999999999999",
    "-0.0",
    "1.5",
    "x",
    "..",
    "/",
    "/dev/null",
    "/proc/self/mem",
    "run",
    "t.txt",
    "no/such",
    "é\u{301}",
    "\u{202e}",
    "a=b",
    "train.steps=",
    "=1",
    "--set",
    "--steps",
    "--json",
    "--out",
    "--prompt",
    "\n",
    "model.kind=ngram",
    "optimizer.betas=1,2,3",
    "data.path=",
    "--until",
    "0x10",
];

/// Values that mostly are of the right type, so that what is behind the first check is reached too.
const VALUES: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "5",
    "8",
    "16",
    "100",
    "0.0",
    "0.1",
    "0.5",
    "0.9",
    "1.0",
    "1e-8",
    "1e30",
    "true",
    "false",
    "[0.0, 0.5]",
    "\"byte\"",
    "\"sgd\"",
    "\"constant\"",
    "\"ngram\"",
    "\"gru\"",
    "\"all\"",
    "\"relu\"",
    "\"bf16\"",
];

fn changed_line(number: u64) -> Vec<OsString> {
    let mut draw = Draw(number);
    let line = draw.of(LINES);
    let mut words: Vec<Vec<u8>> = line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
    for _ in 0..1 + draw.below(2) {
        let at = draw.below(words.len());
        match draw.below(12) {
            0 => drop(words.remove(at)),
            1 => words.insert(at, words[at].clone()),
            2 => words.insert(at, draw.of(WORDS).as_bytes().to_vec()),
            3 => words[at] = draw.of(WORDS).as_bytes().to_vec(),
            4 => {
                let other = draw.below(words.len());
                words.swap(at, other);
            }
            5 => change_bytes(&mut draw, &mut words[at]),
            6..11 => {
                // What stands after `=`, or the whole of a word that is no flag.
                let value = draw.of(VALUES).trim_matches('"').as_bytes();
                match words[at].iter().position(|byte| *byte == b'=') {
                    Some(equals) => words[at].splice(equals + 1.., value.iter().copied()).for_each(drop),
                    None if !words[at].starts_with(b"--") && at > 0 => words[at] = value.to_vec(),
                    None => {}
                }
            }
            _ => {
                let keep = draw.below(words[at].len() + 1);
                words[at].truncate(keep);
            }
        }
        if words.is_empty() {
            break;
        }
    }
    // A zero byte cannot be part of an argument.
    words.iter_mut().for_each(|word| word.retain(|byte| *byte != 0));
    words.into_iter().map(OsString::from_vec).collect()
}

fn change_bytes(draw: &mut Draw, bytes: &mut Vec<u8>) {
    for _ in 0..1 + draw.below(3) {
        let at = draw.below(bytes.len());
        match draw.below(3) {
            0 if at < bytes.len() => bytes[at] = draw.next() as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << draw.below(8),
            _ => bytes.insert(at.min(bytes.len()), draw.next() as u8),
        }
    }
}

fn changed_file(number: u64, sound: &str) -> Vec<u8> {
    let mut draw = Draw(number);
    let mut lines: Vec<Vec<u8>> = sound.lines().map(|line| line.as_bytes().to_vec()).collect();
    for _ in 0..1 + draw.below(2) {
        let (at, other) = (draw.below(lines.len()), draw.below(lines.len()));
        match draw.below(12) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[other].clone()),
            2 => lines.swap(at, other),
            3 => set_value(&mut lines[at], draw.of(WORDS)),
            4..11 => set_value(&mut lines[at], draw.of(VALUES)),
            _ => change_bytes(&mut draw, &mut lines[at]),
        }
    }
    lines.join(&b'\n')
}

fn set_value(line: &mut Vec<u8>, value: &str) {
    if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
        line.splice(equals + 1.., value.bytes()).for_each(drop);
    }
}

/// A folder with a text, a configuration and a run to try things on.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.txt"), text(300)).unwrap();
    run(folder.path(), &format!("train t.txt {SMALL} --steps 4 --out run")).good();
    let config = std::fs::read_to_string(folder.path().join("run/config.toml")).unwrap();
    std::fs::write(folder.path().join("c.toml"), config).unwrap();
    let row = |i: usize| format!("{i},{},{},{}\n", i % 7, ["low", "high"][i % 2], i * i);
    let table: String = (0..40).map(row).collect();
    std::fs::write(folder.path().join("d.csv"), format!("id,x,class,y\n{table}")).unwrap();
    run(folder.path(), "train d.csv --target class --steps 4 --set model.hidden=8 --set data.ignore=id --out table")
        .good();
    folder
}

/// Runs it, for so long and with so much memory and no more.
fn ended(folder: &Path, args: &[OsString]) -> Option<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_geartrain"));
    // A process group of its own, so that a run that was stopped leaves nothing behind.
    command.current_dir(folder).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.process_group(0).spawn().unwrap();
    // Whoever does not read what is told would stop the one who tells it.
    let mut out = child.stdout.take().unwrap();
    let mut err = child.stderr.take().unwrap();
    let read_out = thread::spawn(move || read_all(&mut out));
    let read_err = thread::spawn(move || read_all(&mut err));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let (stdout, stderr) = (read_out.join().unwrap(), read_err.join().unwrap());
    status.map(|status| Output { status, stdout, stderr })
}

fn read_all(from: &mut impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Whether a process ended as ours may: with a code of the list, and with an error in our form or none.
fn fault(output: &Output) -> Option<String> {
    let err = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    let sound = match code {
        Some(0) => !err.contains("panicked") && !err.starts_with("error"),
        // Without any word there is no mistake to name: the help says what could be given.
        Some(2) if err.contains("\nUsage: geartrain <COMMAND>") => true,
        Some(1..=4) => err.contains("error: ") && !err.contains("has a bug") && !err.contains("panicked"),
        _ => false,
    };
    (!sound).then(|| format!("code {code:?}, stderr {err}"))
}

/// Runs every number of a half on the machine's cores, each core in a folder of its own, and lists the faults.
fn faults(args_of: impl Fn(&Path, u64) -> Vec<OsString> + Sync) -> Vec<String> {
    let only: Option<u64> = std::env::var("GEARTRAIN_MUTATION").ok().and_then(|number| number.parse().ok());
    let workers = thread::available_parallelism().map_or(1, usize::from) as u64;
    let work = |worker: u64| {
        let folder = folder();
        let (mut found, mut stopped) = (Vec::new(), 0);
        for number in (worker..EACH).step_by(workers as usize).filter(|number| only.is_none_or(|only| only == *number))
        {
            let args = args_of(folder.path(), number);
            match ended(folder.path(), &args) {
                Some(output) => found.extend(fault(&output).map(|fault| format!("number {number}: {args:?}: {fault}"))),
                None => stopped += 1,
            }
            for made in ["new", "runs"] {
                let _ = std::fs::remove_dir_all(folder.path().join(made));
            }
            let _ = std::fs::remove_file(folder.path().join("new.csv"));
        }
        (found, stopped)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        let (mut all, mut stopped) = (Vec::new(), 0);
        for (found, late) in workers.into_iter().map(|worker| worker.join().unwrap()) {
            all.extend(found);
            stopped += late;
        }
        // A few ask for a long training; many would hang for another reason.
        if stopped > EACH / 20 {
            all.push(format!("{stopped} of {EACH} did not come to an end"));
        }
        all
    })
}

#[test]
fn changed_command_lines_end_in_order() {
    let faults = faults(|_, number| changed_line(number));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn changed_configurations_end_in_order() {
    let faults = faults(|folder, number| {
        let sound = std::fs::read_to_string(folder.join("c.toml")).unwrap();
        std::fs::write(folder.join("changed.toml"), changed_file(number, &sound)).unwrap();
        let args = ["train", "--config", "changed.toml", "--until", "1", "--out", "new"];
        args.iter().map(OsString::from).collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Otherwise their changes would reach no further than they do.
#[test]
fn unchanged_they_are_sound() {
    let folder = folder();
    for line in LINES {
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let output = ended(folder.path(), &args).unwrap_or_else(|| panic!("too slow: {line}"));
        assert_eq!(output.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        let _ = std::fs::remove_dir_all(folder.path().join("new"));
    }
}

/// What the checks above look for is found where it is.
#[test]
fn a_panic_would_be_found() {
    let output = |code: i32, err: &str| Output {
        status: std::os::unix::process::ExitStatusExt::from_raw(code << 8),
        stdout: Vec::new(),
        stderr: err.as_bytes().to_vec(),
    };
    assert_eq!(fault(&output(2, "error: unknown key\n")), None);
    assert_eq!(fault(&output(0, "warning: x\n")), None);
    assert!(fault(&output(70, "geartrain has a bug: panicked at")).is_some());
    assert!(fault(&output(101, "thread 'main' panicked")).is_some());
    assert!(fault(&output(2, "")).is_some(), "a failure says what is wrong");
    let killed = Output { status: std::os::unix::process::ExitStatusExt::from_raw(11), ..output(0, "") };
    assert!(fault(&killed).is_some(), "a signal of the system is a fault");
}
