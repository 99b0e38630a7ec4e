//! What a run tells: one JSON object a line, in `metrics.jsonl` and on stdout with `--json`.
//!
//! Numbers have all their digits. JSON has no word for what is not finite, so those are the strings `"NaN"`,
//! `"Infinity"` and `"-Infinity"`, which Python's `float` and JavaScript's `Number` read.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::atomic;
use crate::error::{Error, Result};
use crate::scores::{Confusion, Fit, Scores};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A training step.
    Train(Train),
    /// Norms of each layer in a training step, with `train.norms`.
    Layers(Layers),
    /// An evaluation.
    Evaluation(Evaluation),
    /// A text that the model wrote.
    Sample(Sample),
    /// Which classes of a table are taken for which.
    Confusion(Confusion),
    /// The end of the run.
    Done(Done),
}

/// A training step, told at step 1, at every tenth and at the one that the run is to end with:
/// `{"step":100,"loss":2.31,"lr":0.001,"grad_norm":0.53,"ms":4.2}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Train {
    /// Its number, from 1.
    pub step: u64,
    /// Its loss before the update, in nats a token or row, or as [`Evaluation::val_loss`].
    #[serde(with = "number")]
    pub loss: f64,
    /// Its learning rate.
    #[serde(with = "number")]
    pub lr: f64,
    /// The norm of its whole gradient before clipping.
    #[serde(with = "number")]
    pub grad_norm: f64,
    /// Mean wall time of a step since the last line, in milliseconds, without evaluation and saving.
    #[serde(with = "number")]
    pub ms: f64,
}

/// Norms of each layer in a training step, with `train.norms`, behind the line of the same step; layers are in the order
/// of the model: `{"step":100,"layers":{"transformer.h.0":{"grad_norm":0.1,"update_norm":0.002}}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layers {
    /// The step, from 1.
    pub step: u64,
    /// Names and norms.
    #[serde(with = "ordered")]
    pub layers: ByLayer,
}

/// Layers with their norms, in the order of the model.
pub type ByLayer = Vec<(String, Norms)>;

/// The norms of a layer, see [`crate::norms`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Norms {
    /// Of its gradient, before clipping.
    #[serde(with = "number")]
    pub grad_norm: f64,
    /// Of the difference of its weights after and before the update.
    #[serde(with = "number")]
    pub update_norm: f64,
}

/// An evaluation: `{"step":100,"val_loss":2.4}`; of a table's classes with `"val_accuracy":0.95`, of its numbers with
/// `"val_rmse":3.1,"val_r2":0.82` in the units of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Steps done before it.
    pub step: u64,
    /// Loss on the validation part: nats a token or row; of numbers the mean squared error of the standardised target.
    #[serde(with = "number")]
    pub val_loss: f64,
    /// The share of rows whose class was predicted.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_number")]
    pub val_accuracy: Option<f64>,
    /// The root of the mean squared error.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_number")]
    pub val_rmse: Option<f64>,
    /// R², the share of the variance that is explained; not there where the target does not vary.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_number")]
    pub val_r2: Option<f64>,
}

impl Evaluation {
    /// What scores were reached after `step` steps.
    pub fn new(step: u64, scores: &Scores) -> Evaluation {
        let (val_accuracy, val_rmse, val_r2) = match &scores.fit {
            Some(Fit::Classes(confusion)) => (Some(confusion.accuracy()), None, None),
            Some(Fit::Numbers { rmse, r2 }) => (None, Some(*rmse), *r2),
            None => (None, None, None),
        };
        Evaluation { step, val_loss: scores.loss, val_accuracy, val_rmse, val_r2 }
    }
}

/// A text that the model wrote: `{"sample":"..."}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The text.
    pub sample: String,
}

/// The end of the run: `{"done":true,"steps":500,"val_loss":2.1,"run":"runs/names-gpt2-1"}`. With `"stopped_early":true`
/// where `train.patience` ended it before its planned steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Always true.
    pub done: bool,
    /// Steps done.
    pub steps: u64,
    /// The last validation loss; null where nothing is kept for validation.
    #[serde(with = "optional_number")]
    pub val_loss: Option<f64>,
    /// The run folder.
    pub run: String,
    /// Whether early stopping ended it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped_early: bool,
    /// After early stopping, the step that `val_loss` is of: the best one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_step: Option<u64>,
    /// The exit code of the signal that ended it before its time, 130 or 143.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<i32>,
}

impl Line {
    /// The line as JSON, without its end.
    pub fn json(&self) -> String {
        // Nothing in a line can fail to be written: keys are strings, and numbers that JSON lacks are strings too.
        serde_json::to_string(self).unwrap_or_default()
    }
}

macro_rules! from {
    ($($kind:ident),*) => {$(
        impl From<$kind> for Line {
            fn from(line: $kind) -> Line {
                Line::$kind(line)
            }
        }
    )*};
}
from!(Train, Layers, Evaluation, Sample, Confusion, Done);

/// The file `metrics.jsonl`, open at its end.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// A new file.
    ///
    /// # Errors
    /// It exists already or cannot be written.
    pub fn create(path: &Path) -> Result<Metrics> {
        let file = File::create_new(path).map_err(|reason| Error::io("write", path, &reason))?;
        Ok(Metrics { path: path.to_path_buf(), file })
    }

    /// The file of a run that goes on after `step`: whole lines of steps up to there stay, byte for byte. Everything
    /// else goes: later steps, a torn last line, and the samples and the end that the run told when it stopped.
    ///
    /// # Errors
    /// The file cannot be read or written. One that is not there is made.
    pub fn resume(path: &Path, step: u64) -> Result<Metrics> {
        let bytes = read_bytes(path)?;
        let kept: Vec<u8> =
            bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| stays(line, step)).flatten().copied().collect();
        if kept != bytes || !path.exists() {
            atomic::replace_with(path, &kept)?;
        }
        let file = OpenOptions::new().append(true).open(path).map_err(|reason| Error::io("write", path, &reason))?;
        Ok(Metrics { path: path.to_path_buf(), file })
    }

    /// Adds a line; it is with the system when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, line: &Line) -> Result<()> {
        let text = line.json() + "\n";
        self.file.write_all(text.as_bytes()).map_err(|reason| Error::io("write", &self.path, &reason))
    }
}

/// The lines of a `metrics.jsonl`, in order; those of a kind not known here and a torn last one are left out. A file that
/// does not exist has none.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let bytes = read_bytes(path)?;
    Ok(bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(reason) if reason.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(reason) => Err(Error::io("read", path, &reason)),
    }
}

/// Whether a line is whole and of a step up to `last`. Asks for no more than that, so lines of other kinds stay too.
fn stays(line: &[u8], last: u64) -> bool {
    let value = line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice::<Value>(line).ok());
    value.and_then(|value| value.get("step")?.as_u64()).is_some_and(|step| step <= last)
}

/// Numbers, with strings for those that JSON lacks.
mod number {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    pub(super) enum Written {
        Number(f64),
        Text(String),
    }

    impl Written {
        pub(super) fn value<E: Error>(self) -> Result<f64, E> {
            match self {
                Written::Number(value) => Ok(value),
                Written::Text(text) if text == "NaN" => Ok(f64::NAN),
                Written::Text(text) if text == "Infinity" => Ok(f64::INFINITY),
                Written::Text(text) if text == "-Infinity" => Ok(f64::NEG_INFINITY),
                Written::Text(_) => Err(E::custom("not a number")),
            }
        }
    }

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        match *value {
            value if value.is_finite() => serializer.serialize_f64(value),
            value if value.is_nan() => serializer.serialize_str("NaN"),
            value if value > 0.0 => serializer.serialize_str("Infinity"),
            _ => serializer.serialize_str("-Infinity"),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Written::deserialize(deserializer)?.value()
    }
}

/// Names and values in their order, as an object.
mod ordered {
    use std::fmt::{Formatter, Result as Written};
    use std::marker::PhantomData;

    use serde::de::{MapAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(pairs: &[(String, T)], to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(pairs.iter().map(|(name, value)| (name, value)))
    }

    struct Pairs<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
        type Value = Vec<(String, T)>;

        fn expecting(&self, f: &mut Formatter<'_>) -> Written {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<(String, T)>, D::Error> {
        from.deserialize_map(Pairs(PhantomData))
    }
}

/// [`number`], or null.
mod optional_number {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::number::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        let written = Option::<super::number::Written>::deserialize(deserializer)?;
        written.map(super::number::Written::value).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(step: u64, loss: f64) -> Line {
        Train { step, loss, lr: 0.001, grad_norm: 0.1 + 0.2, ms: 4.2 }.into()
    }

    fn layers() -> Line {
        let norms = |name: &str, update_norm| (name.to_string(), Norms { grad_norm: 0.5, update_norm });
        Layers { step: 10, layers: vec![norms("h.2", 0.25), norms("h.10", f64::NAN), norms("a", 0.125)] }.into()
    }

    fn lines() -> Vec<Line> {
        vec![
            train(1, 3.5),
            train(10, 2.0),
            layers(),
            Evaluation::new(10, &Scores { loss: 2.25, fit: None }).into(),
            train(20, f64::INFINITY),
            Sample { sample: "Anna\n\"Ö\"".into() }.into(),
            Done {
                done: true,
                steps: 20,
                val_loss: Some(2.5),
                run: "runs/names-gpt2-1".into(),
                stopped_early: false,
                best_step: None,
                interrupted: None,
            }
            .into(),
        ]
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::create(&path).unwrap();
        for line in lines() {
            metrics.append(&line).unwrap();
        }
        (folder, path)
    }

    #[test]
    fn lines_are_the_contract() {
        let text: Vec<String> = lines().iter().map(Line::json).collect();
        assert_eq!(
            text,
            [
                r#"{"step":1,"loss":3.5,"lr":0.001,"grad_norm":0.30000000000000004,"ms":4.2}"#,
                r#"{"step":10,"loss":2.0,"lr":0.001,"grad_norm":0.30000000000000004,"ms":4.2}"#,
                r#"{"step":10,"layers":{"h.2":{"grad_norm":0.5,"update_norm":0.25},"h.10":{"grad_norm":0.5,"update_norm":"NaN"},"a":{"grad_norm":0.5,"update_norm":0.125}}}"#,
                r#"{"step":10,"val_loss":2.25}"#,
                r#"{"step":20,"loss":"Infinity","lr":0.001,"grad_norm":0.30000000000000004,"ms":4.2}"#,
                r#"{"sample":"Anna\n\"Ö\""}"#,
                r#"{"done":true,"steps":20,"val_loss":2.5,"run":"runs/names-gpt2-1"}"#,
            ]
        );
        let none = Line::from(Done {
            done: true,
            steps: 2,
            val_loss: None,
            run: "r".into(),
            stopped_early: true,
            best_step: Some(1),
            interrupted: None,
        });
        assert_eq!(
            none.json(),
            r#"{"done":true,"steps":2,"val_loss":null,"run":"r","stopped_early":true,"best_step":1}"#
        );
        assert_eq!(serde_json::from_str::<Line>(&none.json()).unwrap(), none);
    }

    #[test]
    fn lines_of_tables_are_the_contract() {
        let confusion = Confusion { classes: vec!["no".into(), "yes".into()], rows: vec![vec![3, 0], vec![1, 4]] };
        let classes = Scores { loss: 0.25, fit: Some(Fit::Classes(confusion.clone())) };
        let numbers = |r2| Scores { loss: 0.25, fit: Some(Fit::Numbers { rmse: 3.5, r2 }) };
        let lines: [(Line, &str); 4] = [
            (Evaluation::new(10, &classes).into(), r#"{"step":10,"val_loss":0.25,"val_accuracy":0.875}"#),
            (
                Evaluation::new(10, &numbers(Some(0.5))).into(),
                r#"{"step":10,"val_loss":0.25,"val_rmse":3.5,"val_r2":0.5}"#,
            ),
            (Evaluation::new(10, &numbers(None)).into(), r#"{"step":10,"val_loss":0.25,"val_rmse":3.5}"#),
            (confusion.into(), r#"{"confusion":[[3,0],[1,4]],"classes":["no","yes"]}"#),
        ];
        for (line, text) in lines {
            assert_eq!(line.json(), text);
            assert_eq!(serde_json::from_str::<Line>(text).unwrap(), line);
        }
    }

    #[test]
    fn numbers_come_back_to_the_bit() {
        let mut x = 0.3f64;
        for _ in 0..2000 {
            x = (x * 3.99 * (1.0 - x)).abs();
            let Line::Train(found) = serde_json::from_str(&train(1, x * 1e-7).json()).unwrap() else { panic!() };
            assert_eq!(found.loss.to_bits(), (x * 1e-7).to_bits());
        }
        for (value, text) in [(f64::NAN, r#""NaN""#), (f64::NEG_INFINITY, r#""-Infinity""#), (-0.0, "-0.0")] {
            let json = train(1, value).json();
            assert!(json.contains(&format!(r#""loss":{text},"#)), "{json}");
            let Line::Train(found) = serde_json::from_str(&json).unwrap() else { panic!() };
            assert_eq!(found.loss.to_bits(), value.to_bits());
        }
    }

    #[test]
    fn what_is_appended_is_read() {
        let (_folder, path) = file();
        // Compared as they are printed: NaN equals nothing.
        let printed = |lines: Vec<Line>| lines.iter().map(Line::json).collect::<Vec<_>>();
        assert_eq!(printed(read(&path).unwrap()), printed(lines()));
        assert_eq!(read(&path.with_file_name("no")).unwrap(), []);
        assert!(Metrics::create(&path).is_err());
    }

    #[test]
    fn resuming_cuts_back_to_the_step() {
        for (step, kept) in [(0, 0), (1, 1), (9, 1), (10, 4), (19, 4), (20, 5), (99, 5)] {
            let (_folder, path) = file();
            let before = std::fs::read_to_string(&path).unwrap();
            let mut metrics = Metrics::resume(&path, step).unwrap();
            let expected: String = before.split_inclusive('\n').take(kept).collect();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expected, "step {step}");
            metrics.append(&train(100, 1.0)).unwrap();
            assert_eq!(read(&path).unwrap().len(), kept + 1);
        }
    }

    #[test]
    fn a_torn_line_goes_and_an_unknown_kind_stays() {
        let (_folder, path) = file();
        let whole = train(5, 1.0).json();
        for cut in 0..whole.len() {
            let text = format!("{{\"step\":3,\"new\":1}}\n\u{fffd}\0\n\n{}", &whole[..cut]);
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap(), []);
            Metrics::resume(&path, 10).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"step\":3,\"new\":1}\n");
        }
        // A whole line without its end may be the first part of a longer number.
        std::fs::write(&path, &whole).unwrap();
        Metrics::resume(&path, 10).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_missing_file_is_made_on_resuming() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        Metrics::resume(&path, 10).unwrap().append(&train(11, 1.0)).unwrap();
        assert_eq!(read(&path).unwrap(), [train(11, 1.0)]);
    }
}
