//! Every message that a user can meet: those in `snapshots/messages.txt` are provoked here, read aloud once, and compared
//! ever since; the others are in another test's expectation, word for word. A text in the source that is neither fails.

use std::path::PathBuf;
use std::sync::LazyLock;

mod common;
#[path = "../crates/engine/tests/common/messages.rs"]
mod messages;
#[path = "messages/provoked.rs"]
mod provoked;

use messages::{Template, code_and_tests, is_told, literals, same_as_file, says_something, sources, templates};

/// What stands before a text that is a result, not a message: on standard output, for people.
const RESULTS: &[&str] = &["line(&format!(", "say(&format!(", "line(", "notes.push(format!("];

/// What stands before a text that is a message, be it a single word.
const ERRORS: &[&str] =
    &["Error::usage(", "Error::failed(", "Error::no_checkpoint(", "Error::non_finite(", "Error::bug(", ".hint("];

/// Texts that are no messages, by what they are instead.
const NO_MESSAGES: &[(&str, &[&str])] = &[
    (
        "results on standard output, for people",
        &[
            "{train} to learn from, none for validation",
            "loss {loss} nats a token",
            "most frequent mistakes, truth → prediction",
            "workload                median       fastest     GFLOP/s     memory  calls",
            "step {:>6}  validation loss {:.4}{accuracy}{rmse}{r2}",
            "steps {} to {end}",
            "no step is left",
            "loss {loss:.4}  rate {lr:.2e}  {speed} {}s/s  {} left",
            "lessons with a network",
            "{}, all done before",
            "{} in {time}, {} in all",
            "it was lower before: {loss:.4} at step {step}; fewer --steps, or --set train.patience=3, would keep that",
        ],
    ),
    ("names of kernels in a table", &["gelu by tanh", "sum of rows", "sum of columns"]),
    ("what a hash is made of", &["geartrain tokenizer {}", "words 1, unicode {:?}"]),
    ("what a text is searched for", &["to pass "]),
    (
        "promises of functions to their callers in Rust",
        &[
            "the default of {} is not one",
            "{value} was checked against the words of {}",
            "{value:?} is not of the type of {}",
            "tokens {start} and on of {}",
            "one row of targets for each of inputs",
            "inputs: one window a row",
            "targets: the answers of one window a row",
        ],
    ),
    ("gives way to the error behind it", &["not a text of this tokenizer"]),
    ("gives way to a line that is left out", &["an object"]),
];

/// Messages that no test provokes, by why.
const UNREACHABLE: &[(&str, &[&str])] = &[
    ("the reader takes every text that is UTF-8", &["{label} cannot be read as a table: {error}"]),
    (
        "the data would have to be larger than the memory",
        &[
            "{}: {rows} of {stride} numbers are too many for this machine",
            "leave columns out with --set data.ignore=NAMES",
            "take a part of them",
            "the text has more different words than a tokenizer can be trained on",
            "train it on a part of the text, then use its file: data.tokenizer=FILE",
        ],
    ),
    ("the system would have to refuse a signal handler", &["cannot listen to Ctrl-C: {reason}"]),
    (
        "the program would have to be wrong",
        &[
            "the step could not run: {reason}",
            "`{name}` is not whole",
            "the run answers no rows",
            "the model gave no logits",
            "cannot draw the loss curve: {reason}",
            "too large a shape",
            "please report it with the command that you ran",
        ],
    ),
    (
        "a derivative would have to be wrong",
        &[
            "{failed} of {} graphs fail, the first of them with the seeds {}",
            "one alone: geartrain gradcheck --graphs 1 --seed S",
            "these operations fail: {}",
            "a derivative differs from the numeric difference",
        ],
    ),
];

static TOLD: LazyLock<String> = LazyLock::new(provoked::all);

/// Where a text of the source is told.
#[derive(PartialEq)]
enum By {
    /// The file that this test compares.
    File,
    /// What another test expects.
    Tests,
    /// `--help`, which every key is in.
    Help,
    Nothing,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The texts of the program and those of its tests.
fn texts() -> (Vec<Template>, Vec<Template>) {
    let (mut made, mut expected) = (Vec::new(), Vec::new());
    for below in ["crates/train", "src/cli", "tests"] {
        for path in sources(&folder().join(below)) {
            let place = path.strip_prefix(folder()).unwrap_or(&path).display().to_string();
            let source = std::fs::read_to_string(&path).unwrap();
            let is_test = below == "tests" || place.contains("/tests/") || place.ends_with("/tests.rs");
            let (code, tests) = match is_test {
                true => ("", source.as_str()),
                false => code_and_tests(&source),
            };
            made.extend(literals(&place, code, RESULTS).into_iter().filter(says_something));
            made.extend(templates(&place, code, ERRORS).into_iter().filter(|t| !says_something(t)));
            // This file and what it starts quote messages without comparing them.
            if !place.starts_with("tests/messages") {
                expected.extend(literals(&place, tests, &[]));
            }
        }
    }
    (made, expected)
}

#[test]
fn messages_are_known() {
    same_as_file(&folder().join("tests/snapshots/messages.txt"), &TOLD);
}

/// Whether a list has a text.
fn lists(list: &[(&str, &[&str])], text: &str) -> bool {
    list.iter().any(|(_, texts)| texts.contains(&text))
}

/// Every text of the source that is a message, with what tells it.
fn told_by() -> Vec<(Template, By)> {
    let (made, expected) = texts();
    let help = |args| common::run(&folder(), args).good();
    let help = help("--help") + &help("train --help");
    let by = |text: &str| match () {
        () if is_told(text, &TOLD) => By::File,
        () if expected.iter().any(|e| is_told(text, &e.text)) => By::Tests,
        () if is_told(text, &help) => By::Help,
        () => By::Nothing,
    };
    let with = |t: Template| {
        let by = by(&t.text);
        (t, by)
    };
    made.into_iter().map(with).collect()
}

#[test]
fn the_scanner_sees_what_is_planted() {
    let source = r##"// Error::usage("a comment it is")
        let quote = ('"', '\'', 'x'); let r: &'static str = r#"raw "text" here"#;
        line(&format!("a result, {n} of them"))?;
        let what = format!("{n} is \"not\" \
            {m}");
        Error::usage(what).hint("try\nagain, please")"##;
    let found = literals("a.rs", source, RESULTS);
    let texts: Vec<&str> = found.iter().map(|t| t.text.as_str()).collect();
    assert_eq!(texts, ["raw \"text\" here", "{n} is \"not\" {m}", "try", "again, please"]);
    assert_eq!(found[1].place, "a.rs:4");
    assert_eq!(found.iter().map(says_something).collect::<Vec<_>>(), [true, true, false, true]);
    let tests = "let a = 1;\n#[cfg(test)]\nmod tests;\nlet b = 2;\n#[cfg(test)]\nmod tests {\nlet c = 3;";
    assert!(code_and_tests(tests).0.contains("b = 2") && !code_and_tests(tests).0.contains("c = 3"));
}

#[test]
fn every_text_of_the_source_is_told() {
    let all = told_by();
    let listed = |t: &Template| lists(NO_MESSAGES, &t.text) || lists(UNREACHABLE, &t.text);
    let count = |wanted| all.iter().filter(|(t, by)| *by == wanted && !listed(t)).count();
    println!("{} in the file, {} in other tests, {} in the help", count(By::File), count(By::Tests), count(By::Help));
    let untold = all.iter().filter(|(t, by)| *by == By::Nothing && !listed(t));
    let untold: Vec<String> = untold.map(|(t, _)| format!("{}: {}", t.place, t.text)).collect();
    assert!(untold.is_empty(), "no test tells these texts:\n{}", untold.join("\n"));
    // The lists name nothing that is gone, or that is told by now.
    for text in NO_MESSAGES.iter().chain(UNREACHABLE).flat_map(|(_, texts)| *texts) {
        assert!(all.iter().any(|(t, by)| t.text == *text && *by == By::Nothing), "need not be listed: {text}");
    }
}
