//! What the program says and with which exit code when something is wrong: one line, a blank line, `hint: ...`.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use common::{checkpoint, command, json, run, text};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The whole of standard error, and the code; standard output must be empty.
#[track_caller]
fn fails(dir: &Path, args: &str, code: i32, what: &str, hint: &str) {
    let expected = format!("error: {what}\n\nhint: {hint}\n");
    assert_eq!(run(dir, args).refused(), (Some(code), expected), "{args}");
}

/// An error of a form that does not name all its words: a line, a blank line and a hint.
#[track_caller]
fn fails_in_form(dir: &Path, args: &str, code: i32, start: &str) {
    let (found, err) = run(dir, args).refused();
    assert_eq!(found, Some(code), "{args}: {err}");
    let lines: Vec<&str> = err.lines().collect();
    assert!(lines[0].starts_with(&format!("error: {start}")), "{args}: {err}");
    assert!(lines.len() >= 3 && lines[1].is_empty() && lines[2].starts_with("hint: "), "{args}: no hint in\n{err}");
}

/// A run of a few steps in the folder `a`.
fn trained() -> TempDir {
    let dir = folder();
    run(dir.path(), &format!("train --json --out a --steps 2 {}", common::SMALL)).good();
    dir
}

#[test]
fn a_model_larger_than_the_machine() {
    let dir = folder();
    let start = "the model cannot be built: state: the state takes ";
    fails_in_form(dir.path(), "train --set model.width=100000 --set model.heads=1000", 2, start);
    // A line for each of the weights, then the hint.
    let (code, err) = run(dir.path(), "train --set model.width=1000000 --set model.heads=1000").refused();
    let start =
        "error: the model cannot be built: state: `transformer.h.0.attn.c_attn.weight` has too many elements: f32";
    assert!(code == Some(2) && err.starts_with(start) && err.contains("\n\nhint: "), "{err}");
}

#[test]
fn unknown_flags_and_commands() {
    let dir = folder();
    fails_in_form(dir.path(), "train --stesp 5", 2, "unexpected argument '--stesp' found");
    fails_in_form(dir.path(), "trian", 2, "unrecognized subcommand 'trian'");
    fails_in_form(dir.path(), "resume", 2, "");
    fails_in_form(dir.path(), "train --until x", 2, "invalid value 'x' for '--until <N>'");
    fails_in_form(dir.path(), "train --steps -3", 2, "");
    assert!(run(dir.path(), "train --stesp 5").err.contains("--steps"), "the nearest flag is named");
    assert!(run(dir.path(), "trian").err.contains("train"), "the nearest command is named");
}

#[test]
fn unknown_keys_and_words_have_the_nearest_one() {
    let dir = folder();
    let near = "did you mean train.steps?";
    fails(dir.path(), "train --set train.stesp=5", 2, "unknown key `train.stesp`", near);
    fails(dir.path(), "train --set stesp=5", 2, "unknown key `stesp`", near);
    fails(
        dir.path(),
        "train --set model.kind=gtp2",
        2,
        "model.kind wants gpt2, ngram, rnn, gru or mlp, got `gtp2`",
        "did you mean gpt2?",
    );
    std::fs::write(dir.path().join("c.toml"), "[train]\nsteps = 10\n\n[modle]\nlayers = 2\n").unwrap();
    let what = "c.toml:5: unknown key `modle.layers`";
    fails(dir.path(), "train --config c.toml", 2, what, "did you mean model.layers?");
    fails(dir.path(), "lesson xro", 2, "there is no lesson `xro`", "did you mean xor?");
    fails(dir.path(), "lesson chainrule", 2, "there is no lesson `chainrule`", "did you mean chain-rule?");
    let lessons: Vec<&str> = geartrain::lesson::LESSONS.iter().map(|lesson| lesson.name).collect();
    fails(dir.path(), "lesson 42", 2, "there is no lesson `42`", &format!("there are: {}", lessons.join(", ")));
    fails(dir.path(), "gradcheck tokns", 2, "there is no lesson `tokns`", "did you mean tokens?");
    fails(dir.path(), "explain xro", 2, "there is nothing called `xro` to explain", "did you mean xor?");
    fails(dir.path(), "explain sigmiod", 2, "there is nothing called `sigmiod` to explain", "did you mean sigmoid?");
    fails_in_form(dir.path(), "explain 42", 2, "there is nothing called `42` to explain");
    for command in ["explain", "gradcheck"] {
        let what = "the lesson `descent` has no network of its own";
        fails(dir.path(), &format!("{command} descent"), 2, what, "these have: xor, tokens");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no run folder was made");
}

#[test]
fn bad_values() {
    let dir = folder();
    let whole = "for example train.steps = 2000";
    fails(dir.path(), "train --steps abc", 2, "train.steps wants a whole number, got `abc`", whole);
    let example = "for example --set train.steps=500; `geartrain train --help` lists the keys";
    fails(dir.path(), "train --set train.steps", 2, "--set wants key=value, got `train.steps`", example);
    let what = "model.width must be a multiple of model.heads, got a width of 30 and 4 heads";
    let hint = "with 4 heads, a width of 28 or 32 fits";
    fails(dir.path(), "train --set model.width=30 --set model.heads=4", 2, what, hint);
    std::fs::write(dir.path().join("c.toml"), "[train]\nsteps = \"x\"\n").unwrap();
    fails(dir.path(), "train --config c.toml", 2, "c.toml:2: train.steps wants a whole number, got `\"x\"`", whole);
    let hint = "--config wants a TOML file; `geartrain train --help` lists its keys";
    fails(dir.path(), "train --config no.toml", 2, "there is no configuration file `no.toml`", hint);
    let what = "data.tokenizer wants char, byte, bpe or the path of a tokenizer.json, got `bpe2`";
    fails(dir.path(), "train --set data.tokenizer=bpe2", 2, what, "did you mean bpe?");
    let what = "schedule.min_lr must not be above optimizer.lr, got 0.0001 and 0.00001";
    let hint = "set schedule.min_lr too, a tenth of the learning rate for example, or schedule.kind=constant";
    fails(dir.path(), "train --lr 1e-5", 2, what, hint);
}

#[test]
fn values_out_of_range_have_a_hint_too() {
    let dir = folder();
    fails_in_form(dir.path(), "train --steps 0", 2, "train.steps must be at least 1, got 0");
    fails_in_form(dir.path(), "train --lr -1", 2, "optimizer.lr must be above 0, got -1");
    std::fs::write(dir.path().join("c.toml"), "[train\nsteps = 3").unwrap();
    fails_in_form(dir.path(), "train --config c.toml", 2, "c.toml:1: not valid TOML");
    let dir = trained();
    fails_in_form(dir.path(), "generate a --temperature -1", 2, "--temperature must be at least 0, got -1");
    fails_in_form(dir.path(), "generate a --top-p 0", 2, "--top-p must be above 0 and at most 1, got 0");
}

#[test]
fn texts_that_cannot_be_read() {
    let dir = folder();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    let hint = "give a text file or a folder of text files, or leave DATA out to train on the embedded names";
    fails(dir.path(), "train no.txt", 2, "there is no file or folder `no.txt`", hint);
    write("empty.txt", b"");
    fails(dir.path(), "train empty.txt", 2, "`empty.txt` is empty", "give a file with text in it");
    write("mark.txt", "\u{feff}".as_bytes());
    fails(dir.path(), "train mark.txt", 2, "`mark.txt` is empty", "give a file with text in it");
    let latin = "if it is in Latin-1, convert it: iconv -f LATIN1 -t UTF-8 FILE > NEW";
    write("bad.txt", b"hello\nw\xffrld\n");
    let what = "`bad.txt` is not valid UTF-8: byte 0xff at offset 7, line 2";
    fails(dir.path(), "train bad.txt", 2, what, latin);
    // The offset counts bytes, also after characters of several, and a character cut short at the end is one too.
    write("cut.txt", "Ö€\n\n".repeat(100).bytes().chain([0xf0, 0x9f]).collect::<Vec<u8>>().as_slice());
    let what = "`cut.txt` is not valid UTF-8: byte 0xf0 at offset 700, line 201";
    fails(dir.path(), "train cut.txt", 2, what, latin);
    write("utf16.txt", b"\xff\xfea\0b\0");
    let what = "`utf16.txt` is not valid UTF-8: byte 0xff at offset 0, line 1";
    let hint = "it looks like UTF-16, convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW";
    fails(dir.path(), "train utf16.txt", 2, what, hint);
    write("t.csv", b"a,b\n1,2\n");
    let hint = "for example --target b; the columns: `a`, `b`";
    fails(dir.path(), "train t.csv", 2, "--target is missing: which column of t.csv is to be learned?", hint);
}

#[test]
fn texts_shorter_than_the_context() {
    let dir = folder();
    std::fs::write(dir.path().join("short.txt"), "hello world\n").unwrap();
    let what = "`short.txt` is too short: its training part has 10 of 12 tokens, but a context of 64 needs at least 65";
    fails(dir.path(), "train short.txt", 2, what, "lower --context to 1 or less, or use a longer text");
    std::fs::write(dir.path().join("most.txt"), "hello world\n".repeat(10)).unwrap();
    let what =
        "`most.txt` is too short: its validation part has 12 of 120 tokens, but a context of 16 needs at least 17";
    let hint = "lower --context to 11 or less, raise data.validation, set data.validation=0 to train without \
        evaluation, or use a longer text";
    fails(dir.path(), &format!("train most.txt {}", common::SMALL), 2, what, hint);
    // What the hint says works.
    let fits = common::SMALL.replace("16", "11");
    run(dir.path(), &format!("train most.txt --json --steps 1 --out a {fits}")).good();
    let fits = format!("--set data.validation=0 {}", common::SMALL);
    run(dir.path(), &format!("train most.txt --json --steps 1 --out b {fits}")).good();
}

#[test]
fn runs_that_are_not_there() {
    let dir = folder();
    for command in ["resume", "generate", "eval"] {
        let hint = "`geartrain train` makes one and prints its name when it begins";
        fails(dir.path(), &format!("{command} norun"), 4, "there is no run folder `norun`", hint);
    }
    let dir = trained();
    for command in ["resume", "generate", "eval"] {
        fails(dir.path(), &format!("{command} norun"), 4, "there is no run folder `norun`", "runs there: a");
    }
    std::fs::create_dir(dir.path().join("plain")).unwrap();
    let what = "`plain` is not the folder of a run: it has no config.toml";
    fails(dir.path(), "eval plain", 4, what, "runs there: a");
    std::fs::remove_file(dir.path().join("a/checkpoints/step-000002.safetensors")).unwrap();
    let hint = "it ended before it saved one; start it again with `geartrain train` and the same options";
    for command in ["resume", "generate", "eval"] {
        fails(dir.path(), &format!("{command} a"), 4, "the run `a` has no checkpoint", hint);
    }
}

#[test]
fn characters_that_the_model_does_not_know() {
    let dir = trained();
    let what = "the tokenizer does not know the character `Ж` (U+0416) at line 1, column 3";
    let hint = "the characters it knows are \\nABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz; a model trained \
        with data.tokenizer=byte takes any text";
    fails(dir.path(), "generate a --prompt AnЖ", 2, what, hint);
    std::fs::write(dir.path().join("other.txt"), "Anna\nÖ\n".repeat(20)).unwrap();
    let what = "`other.txt`: the tokenizer does not know the character `Ö` (U+00D6) at line 2, column 1";
    fails(dir.path(), "eval a other.txt", 2, what, hint);
}

#[test]
fn output_folders_that_are_not_empty() {
    let dir = trained();
    let before = checkpoint(&dir.path().join("a"), 2);
    fails_in_form(dir.path(), "train --out a", 2, "the output folder `a` is not empty: it has `");
    let err = run(dir.path(), "train --out a").err;
    let hint = "\n\nhint: --out wants a new or an empty folder; `geartrain resume a` goes on with the run there\n";
    assert!(err.ends_with(hint), "{err}");
    assert!(checkpoint(&dir.path().join("a"), 2) == before);
    std::fs::create_dir(dir.path().join("full")).unwrap();
    std::fs::write(dir.path().join("full/note"), "mine").unwrap();
    let hint = "--out wants a new or an empty folder";
    fails(dir.path(), "train --out full", 2, "the output folder `full` is not empty: it has `note`", hint);
    assert_eq!(std::fs::read_dir(dir.path().join("full")).unwrap().count(), 1, "nothing was put there");
    fails(dir.path(), "train --out full/note", 2, "the output folder `full/note` is a file", hint);
    // An empty one is fine.
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    run(dir.path(), &format!("train --json --out empty --steps 1 {}", common::SMALL)).good();
}

/// Reads the first line, then goes away, as `head -1` does.
#[track_caller]
fn head(dir: &Path, args: &str) {
    let mut child = command(dir, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(1, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.ends_with('\n'), "{args}: {line:?}");
    let done = child.wait_with_output().unwrap();
    let err = String::from_utf8(done.stderr).unwrap();
    assert_eq!((done.status.code(), err.as_str()), (Some(0), ""), "{args}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let dir = trained();
    let train = format!("--steps 30 {}", common::SMALL);
    for args in [
        "lesson",
        "lesson --json",
        "lesson xor --json",
        "lesson xor",
        "lesson optimizers",
        "explain tokens",
        "explain",
        "gradcheck --ops",
        "gradcheck --ops --json",
        "generate a --prompt Ann --tokens 3000",
        "train --help",
        "help",
    ] {
        head(dir.path(), args);
    }
    // A run whose reader went away is a run all the same: it is saved.
    head(dir.path(), &format!("train --json --out b {train}"));
    head(dir.path(), &format!("train --out c {train}"));
    assert!(checkpoint(&dir.path().join("b"), 30) == checkpoint(&dir.path().join("c"), 30));
}

#[test]
fn an_error_that_nobody_reads_keeps_its_code() {
    let dir = folder();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = command(dir.path(), "train no.txt").stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

/// Trains on a text in two ways of writing it.
fn first_loss(dir: &Path, name: &str, bytes: &[u8]) -> f64 {
    std::fs::write(dir.join(format!("{name}.txt")), bytes).unwrap();
    let args = format!("train {name}.txt --json --out {name} --steps 2 --set data.order=sequential {}", common::SMALL);
    json(&run(dir, &args).good())[0]["loss"].as_f64().unwrap()
}

#[test]
fn line_ends_and_byte_order_marks_do_not_matter() {
    let dir = folder();
    let text = text(300);
    let expected = first_loss(dir.path(), "plain", text.as_bytes());
    let crlf = text.replace('\n', "\r\n");
    let same = [("crlf", crlf.clone()), ("mark", format!("\u{feff}{text}")), ("both", format!("\u{feff}{crlf}"))];
    for (name, text) in same {
        assert_eq!(first_loss(dir.path(), name, text.as_bytes()), expected, "{name}");
        let bytes = |name: &str| checkpoint(&dir.path().join(name), 2);
        assert!(bytes(name) == bytes("plain"), "{name}");
    }
    assert_eq!(first_loss(dir.path(), "open", text.trim_end().as_bytes()), expected, "without the last newline");
    let other: String = text.chars().rev().collect();
    assert!(first_loss(dir.path(), "other", other.as_bytes()) != expected);
}
