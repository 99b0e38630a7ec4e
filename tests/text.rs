//! Texts of every sort, from the command line: what is trained on, what is refused, and with which tokens.
//!
//! The memory that 100 MB take is measured by `cargo test --release --test text -- --ignored --nocapture`.

mod common;

use std::path::Path;

use common::{checkpoint, command, finished, json, run, text};
use serde_json::Value;
use tempfile::TempDir;

/// A model of which a step takes no time.
const TINY: &str =
    "--json --steps 3 --set model.layers=1 --set model.width=8 --set model.heads=2 --context 4 --batch 2";

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(dir.join(name), bytes).unwrap();
}

/// Standard error of what must be refused.
#[track_caller]
fn refused(dir: &Path, args: &str, code: i32) -> String {
    let (found, err) = run(dir, args).refused();
    assert_eq!(found, Some(code), "{args}: {err}");
    err
}

/// Trains on a text, evaluates and writes with the model. Gives the loss of the evaluation and what was written.
#[track_caller]
fn lives(dir: &Path, name: &str, args: &str) -> (f64, String) {
    let told = json(&run(dir, &format!("train {name} --out {name}.run {TINY} {args}")).good());
    let end = told.last().unwrap();
    let loss = end["val_loss"].as_f64().unwrap_or_else(|| panic!("no val_loss in {end}"));
    let again: Value = serde_json::from_str(&run(dir, &format!("eval {name}.run --json")).good()).unwrap();
    assert_eq!(again["val_loss"].as_f64(), Some(loss), "eval repeats the run's last loss");
    (loss, run(dir, &format!("generate {name}.run --tokens 12")).good())
}

#[test]
fn an_empty_file() {
    let dir = folder();
    write(dir.path(), "t", "");
    for tokenizer in ["char", "byte", "bpe"] {
        let err = refused(dir.path(), &format!("train t --set data.tokenizer={tokenizer}"), 2);
        assert_eq!(err, "error: `t` is empty\n\nhint: give a file with text in it\n");
    }
}

#[test]
fn one_byte() {
    let dir = folder();
    write(dir.path(), "t", "x");
    let what = "`t` is too short: its training part has 0 of 1 token, but a context of 64 needs at least 65";
    for tokenizer in ["char", "byte", "bpe"] {
        let err = refused(dir.path(), &format!("train t --set data.tokenizer={tokenizer}"), 2);
        assert_eq!(err, format!("error: {what}\n\nhint: use a longer text\n"));
    }
}

#[test]
fn one_character_more_than_the_context() {
    let dir = folder();
    write(dir.path(), "t", "abcde");
    let whole = format!("{TINY} --set data.validation=0");
    let told = json(&run(dir.path(), &format!("train t --out run {whole}")).good());
    assert!(told.last().unwrap()["val_loss"].is_null());
    run(dir.path(), "generate run --prompt ab --tokens 5").good();
    write(dir.path(), "t", "abcd");
    let err = refused(dir.path(), &format!("train t {whole}"), 2);
    let what = "`t` is too short: its training part has 4 of 4 tokens, but a context of 4 needs at least 5";
    assert_eq!(err, format!("error: {what}\n\nhint: lower --context to 3 or less, or use a longer text\n"));
}

#[test]
fn nul_bytes() {
    let dir = folder();
    write(dir.path(), "t", "a\0b\0\0".repeat(40));
    for tokenizer in ["char", "byte", "bpe"] {
        std::fs::copy(dir.path().join("t"), dir.path().join(tokenizer)).unwrap();
        let (loss, _) = lives(dir.path(), tokenizer, &format!("--set data.tokenizer={tokenizer}"));
        assert!(loss.is_finite() && loss > 0.0);
    }
}

#[test]
fn only_newlines() {
    let dir = folder();
    write(dir.path(), "t", "\n".repeat(200));
    let (loss, written) = lives(dir.path(), "t", "");
    assert_eq!(loss, 0.0, "there is one character, so there is nothing to guess");
    assert_eq!(written, "\n".repeat(13), "12 tokens, and the end of the output");
    write(dir.path(), "crlf", "\r\n".repeat(200));
    assert_eq!(lives(dir.path(), "crlf", "").0, 0.0);
}

#[test]
fn characters_of_four_bytes() {
    let dir = folder();
    let emoji = "😀🚀🦀😀🦀\n".repeat(60);
    for (tokenizer, tokens) in [("char", 4), ("byte", 256), ("bpe", 262)] {
        write(dir.path(), tokenizer, &emoji);
        let vocab = if tokenizer == "bpe" { "--set data.vocab=262" } else { "" };
        lives(dir.path(), tokenizer, &format!("--set data.tokenizer={tokenizer} {vocab}"));
        let file = std::fs::read_to_string(dir.path().join(format!("{tokenizer}.run/tokenizer.json"))).unwrap();
        let file: Value = serde_json::from_str(&file).unwrap();
        assert_eq!(file["model"]["vocab"].as_object().unwrap().len(), tokens);
        let written = run(dir.path(), &format!("generate {tokenizer}.run --prompt 🦀🚀 --tokens 9")).good();
        assert!(written.starts_with("🦀🚀"), "{written:?}");
    }
}

#[test]
fn only_whole_characters_are_printed() {
    let dir = folder();
    write(dir.path(), "t", "🦀".repeat(300));
    // 256 bytes and one merge: a crab is three tokens, and the model learns nothing but crabs.
    let args = "--json --steps 300 --lr 0.02 --set schedule.warmup=0 --model rnn --set model.width=16 \
        --set model.hidden=16 --context 4 --batch 8 --set data.tokenizer=bpe --set data.vocab=257";
    let args = format!("train t --out t.run {args}");
    run(dir.path(), &args).good();
    for tokens in 1..9 {
        let args = format!("generate t.run --prompt 🦀 --temperature 0 --tokens {tokens}");
        let written = run(dir.path(), &args).good();
        assert_eq!(written.trim_end(), "🦀".repeat(1 + tokens / 3), "{tokens} tokens");
    }
}

#[test]
fn a_file_in_latin1() {
    let dir = folder();
    write(dir.path(), "t", b"voil\xe0 du caf\xe9\n".repeat(99));
    for tokenizer in ["char", "byte", "bpe"] {
        let err = refused(dir.path(), &format!("train t --set data.tokenizer={tokenizer}"), 2);
        let what = "`t` is not valid UTF-8: byte 0xe0 at offset 4, line 1";
        let hint = "if it is in Latin-1, convert it: iconv -f LATIN1 -t UTF-8 FILE > NEW";
        assert_eq!(err, format!("error: {what}\n\nhint: {hint}\n"));
    }
}

#[test]
fn a_prompt_with_characters_that_were_never_seen() {
    let dir = folder();
    for tokenizer in ["char", "byte", "bpe"] {
        write(dir.path(), tokenizer, text(300));
        lives(dir.path(), tokenizer, &format!("--set data.tokenizer={tokenizer}"));
    }
    let what = "error: the tokenizer does not know the character `😀` (U+1F600) at line 1, column 5\n";
    let err = refused(dir.path(), "generate char.run --prompt gear😀", 2);
    assert!(err.starts_with(what), "{err}");
    for tokenizer in ["byte", "bpe"] {
        let written = run(dir.path(), &format!("generate {tokenizer}.run --prompt gear😀 --tokens 3")).good();
        assert!(written.starts_with("gear😀"), "{written:?}");
    }
}

#[test]
fn a_run_with_a_learned_tokenizer_goes_on_and_its_file_serves_others() {
    let dir = folder();
    write(dir.path(), "t", text(600));
    let args = format!("train t {TINY} --set data.tokenizer=bpe --set data.vocab=290");
    let straight = json(&run(dir.path(), &format!("{args} --out straight")).good());
    run(dir.path(), &format!("{args} --out stopped --until 1")).good();
    run(dir.path(), "resume stopped --json").good();
    assert!(checkpoint(&dir.path().join("straight"), 3) == checkpoint(&dir.path().join("stopped"), 3));
    // The file of a run is a tokenizer for another, and the checkpoint does not know where it came from.
    let file = "straight/tokenizer.json";
    std::fs::create_dir(dir.path().join("copied")).unwrap();
    std::fs::copy(dir.path().join(file), dir.path().join("copied/mine.json")).unwrap();
    let args = format!("train t {TINY} --set data.tokenizer");
    run(dir.path(), &format!("{args}={file} --out a")).good();
    let other = json(&run(dir.path(), &format!("{args}=copied/mine.json --out b")).good());
    assert!(checkpoint(&dir.path().join("a"), 3) == checkpoint(&dir.path().join("b"), 3));
    assert_eq!(other[0]["loss"], straight[0]["loss"], "the same tokens");
    // It is the run's own from then on.
    std::fs::remove_file(dir.path().join("copied/mine.json")).unwrap();
    run(dir.path(), "eval b").good();
    run(dir.path(), "resume b --json").good();
}

#[test]
fn tokenizers_that_cannot_be_had() {
    let dir = folder();
    write(dir.path(), "t", text(300));
    let err = refused(dir.path(), "train t --set data.tokenizer=no.json", 4);
    assert!(err.starts_with("error: cannot read `no.json`: "), "{err}");
    write(dir.path(), "bad.json", "{\"model\": {\"type\": \"BPE\", \"vocab\": {}, ");
    let err = refused(dir.path(), "train t --set data.tokenizer=bad.json", 4);
    assert!(err.starts_with("error: bad.json: the tokenizer is not valid JSON: EOF"), "{err}");
    write(dir.path(), "bert.json", "{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}}");
    let err = refused(dir.path(), "train t --set data.tokenizer=bert.json", 4);
    let what =
        "error: bert.json: the tokenizer is not of a kind that can be read: its model is of type WordPiece\n\nhint: ";
    assert!(err.starts_with(what), "{err}");
    let err = refused(dir.path(), "train t --set data.tokenizer=bpe --set data.vocab=100", 2);
    let hint = "for example data.vocab = 1024";
    assert_eq!(
        err,
        format!("error: data.vocab must be at least 256, one token for each byte, got 100\n\nhint: {hint}\n")
    );
    let err = refused(dir.path(), "train t --set data.vocab=1000", 2);
    assert!(err.starts_with("error: data.vocab is for data.tokenizer=bpe: "), "{err}");
    let err = refused(dir.path(), "train t --set data.tokenizer=bpe --set data.vocab=9000", 2);
    let start = "error: data.vocab asks for 9,000 tokens, but only 2";
    let end = " can be learned from `t`: after that, no pair of neighbours occurs twice\n\nhint: set data.vocab to 2";
    assert!(err.starts_with(start) && err.contains(end), "{err}");
}

#[test]
fn large_texts_are_kept_in_the_cache() {
    let dir = folder();
    let text = text(150_000).repeat(6);
    assert!(text.len() > 4 << 20);
    write(dir.path(), "t", &text);
    let train = |out: &str, cache: &str| {
        let mut command = command(dir.path(), &format!("train t --out {out} --set data.validation=0 {TINY}"));
        command.env("GEARTRAIN_CACHE", cache);
        let ran = finished(command);
        assert_eq!(ran.err, "");
        ran.good();
        checkpoint(&dir.path().join(out), 3)
    };
    let kept = || {
        let files = std::fs::read_dir(dir.path().join("cache")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap()).map(|file| (file.len(), file.modified().unwrap())).collect()
    };
    let first = train("a", "cache");
    let files: Vec<_> = kept();
    assert_eq!((files.len(), files[0].0), (1, 64 + 2 * text.len() as u64 + 40));
    assert!(train("b", "cache") == first);
    assert_eq!(kept(), files, "it is only read");
    // No folder, and one that cannot be made.
    assert!(train("c", "") == first);
    assert!(train("d", "t/cache") == first);
    assert_eq!(kept(), files);
}

/// 100 MB of lines of some of 200,000 words, rare ones rarely.
#[cfg(target_os = "linux")]
fn write_large(path: &Path) {
    use std::io::Write;
    const SYLLABLES: [&str; 16] =
        ["ka", "ro", "mi", "te", "lun", "sar", "no", "vel", "qui", "ber", "é", "ß", "gli", "po", "zu", "s'"];
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let (mut x, mut written) = (1u64, 0);
    while written < 100_000_000 {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = (x >> 33) as f64 / f64::from(1u32 << 31);
        let mut word = (200_000.0 * draw.powi(3)) as usize;
        let mut text = String::new();
        while word > 0 || text.is_empty() {
            text += SYLLABLES[word % 16];
            word /= 16;
        }
        text.push(if x >> 60 == 0 { '\n' } else { ' ' });
        written += text.len();
        file.write_all(text.as_bytes()).unwrap();
    }
    file.flush().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "writes 400 MB and takes some seconds"]
fn a_hundred_megabytes_take_less_than_500_of_memory() {
    let dir = folder();
    write_large(&dir.path().join("t"));
    for tokenizer in ["char", "byte", "bpe --set data.vocab=8192"] {
        for start in ["first", "second"] {
            let name = tokenizer.split(' ').next().unwrap();
            let args =
                format!("train t --out {name}-{start} {TINY} --set data.validation=0 --set data.tokenizer={tokenizer}");
            let began = std::time::Instant::now();
            let mut command = command(dir.path(), &args);
            command.env("GEARTRAIN_CACHE", "cache").stdout(std::process::Stdio::null());
            let mut child = command.spawn().unwrap();
            // The most memory that it had so far, in kB, as the system tells while it runs.
            let (status, mut most) = (format!("/proc/{}/status", child.id()), 0);
            while child.try_wait().unwrap().is_none() {
                let told = std::fs::read_to_string(&status).unwrap_or_default();
                let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                most = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(most);
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            assert!(child.wait().unwrap().success());
            println!("{name}, {start} start: {} MB, {:.1} s", most / 1000, began.elapsed().as_secs_f64());
            assert!((1000..500_000).contains(&most), "{name}: {most} kB");
        }
    }
}
