//! What turns the cells of a table into numbers and answers into words: `preprocessing.json` of a run.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::raw::LARGEST;
use super::{csv, npy};
use crate::data::{Encoder, Kind};
use crate::error::{Error, Result};
use crate::model::{Answer, Columns, Embedded, Task};

/// The version of the file's form.
const VERSION: u32 = 1;

/// Columns of words become columns of 0 and 1 up to this many different words, and embeddings above.
pub(super) const ONE_HOT: usize = 16;

/// What a run learned about the columns of its table. All figures are of the training part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    pub(super) version: u32,
    pub(super) source: Source,
    /// Whether empty cells are taken.
    pub(super) missing: bool,
    /// The columns that it does not read: those that were to be ignored, and those of one value.
    pub(super) left_out: Vec<String>,
    /// The columns that the model reads, in the order of the table.
    pub(super) columns: Vec<Column>,
    pub(super) target: Target,
}

/// Where the table came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Source {
    Csv,
    Npy,
}

impl Source {
    pub(super) fn kind(self) -> &'static Kind {
        match self {
            Source::Csv => &csv::KIND,
            Source::Npy => &npy::KIND,
        }
    }
}

/// A column that the model reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) form: Form,
}

/// How a column is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "lowercase")]
pub(super) enum Form {
    /// (x - mean) / std: one number.
    Number { mean: f64, std: f64 },
    /// 1 at the place of the word, else 0: a number for each word. Another word is all zeros.
    #[serde(rename = "one_hot")]
    OneHot { words: Vec<String> },
    /// A learned vector for each word, from row 1 on. Row 0 is for those that the training part has once or never.
    Embedding { words: Vec<String>, width: usize },
}

/// The column that is learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Target {
    /// Its name; the columns of several numbers are `y0`, `y1`, ...
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) form: Learned,
}

/// What is learned about the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "lowercase")]
pub(super) enum Learned {
    /// One of these classes; `rows` counts their examples in the training part.
    Classification { classes: Vec<String>, rows: Vec<usize>, numbers: bool },
    /// (y - mean) / std of each number.
    Regression { numbers: Vec<Scale> },
}

/// The mean and the standard deviation of a number in the training part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Scale {
    pub(super) mean: f64,
    pub(super) std: f64,
}

/// The columns that are read, and the names of those that are not.
pub(super) type Parts = (Vec<Column>, Vec<String>);

/// The length of the vectors of an embedding: the square root of the number of words, rounded up, at most 32.
pub(super) fn embedding_width(words: usize) -> usize {
    (libm::ceil(libm::sqrt(words as f64)) as usize).clamp(1, 32)
}

impl Preprocessing {
    /// What the columns of a table with these roles are turned into.
    pub(super) fn new(source: Source, missing: bool, (columns, left_out): Parts, target: Target) -> Preprocessing {
        Preprocessing { version: VERSION, source, missing, left_out, columns, target }
    }

    /// Reads the file of a run.
    ///
    /// # Errors
    /// With exit code 4: it is not there or damaged.
    pub(super) fn decode(path: &Path) -> Result<Arc<dyn Encoder>> {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| Error::no_checkpoint(format!("cannot read `{}`: {reason}", path.display())))?;
        let damaged = |reason: String| {
            Error::no_checkpoint(format!("`{}` is damaged: {reason}", path.display()))
                .hint("restore the file from a copy of the run folder")
        };
        let read: Preprocessing = serde_json::from_str(&text).map_err(|reason| damaged(reason.to_string()))?;
        read.check().map_err(damaged)?;
        Ok(Arc::new(read))
    }

    /// Whether it is one that [`super::fit`] could have made.
    fn check(&self) -> std::result::Result<(), String> {
        let scale = |Scale { mean, std }: &Scale| mean.abs() <= LARGEST && *std > 0.0 && *std <= LARGEST;
        let unique = |words: &[String]| words.iter().collect::<HashSet<_>>().len() == words.len() && !words.is_empty();
        let column = |column: &Column| match &column.form {
            Form::Number { mean, std } => scale(&Scale { mean: *mean, std: *std }),
            Form::OneHot { words } => unique(words),
            Form::Embedding { words, width } => unique(words) && *width == embedding_width(words.len()),
        };
        if self.version != VERSION {
            return Err(format!("it has version {}, and this program reads {VERSION}", self.version));
        }
        if let Some(column) = self.columns.iter().find(|c| !column(c)) {
            return Err(format!("column `{}` has impossible figures", column.name));
        }
        let names: Vec<String> = self.columns.iter().map(|column| column.name.clone()).collect();
        let target = match &self.target.form {
            Learned::Classification { classes, rows, .. } => {
                unique(classes) && classes.len() >= 2 && classes.len() == rows.len() && rows.iter().all(|n| *n > 0)
            }
            Learned::Regression { numbers } => !numbers.is_empty() && numbers.iter().all(scale),
        };
        match (unique(&names), target) {
            (false, _) => Err("its columns are not all different".to_string()),
            (_, false) => Err("its target has impossible figures".to_string()),
            (true, true) => Ok(()),
        }
    }

    /// How many numbers stand for a row in the model's input `features`.
    pub(super) fn numbers(&self) -> usize {
        let one = |column: &Column| match &column.form {
            Form::Number { .. } => 1,
            Form::OneHot { words } => words.len(),
            Form::Embedding { .. } => 0,
        };
        self.columns.iter().map(one).sum()
    }

    /// The names of what it answers: classes, or the target's numbers.
    pub fn answers(&self) -> Vec<String> {
        match &self.target.form {
            Learned::Classification { classes, .. } => classes.clone(),
            Learned::Regression { numbers } if numbers.len() == 1 => vec![self.target.name.clone()],
            Learned::Regression { numbers } => (0..numbers.len()).map(|i| format!("{}{i}", self.target.name)).collect(),
        }
    }

    /// The numbers that answers (one for each of [`Preprocessing::answers`]) stand for in the units of the table; `None`
    /// where the answers are classes.
    pub fn in_units(&self, answers: &[f32]) -> Option<Vec<f64>> {
        let Learned::Regression { numbers } = &self.target.form else { return None };
        Some(answers.iter().zip(numbers).map(|(x, scale)| f64::from(*x) * scale.std + scale.mean).collect())
    }
}

impl Encoder for Preprocessing {
    fn kind(&self) -> &'static Kind {
        self.source.kind()
    }
    fn to_json(&self) -> String {
        // Nothing in it can fail to be written: keys are strings and numbers are finite.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
    fn hash(&self) -> String {
        super::sha256(self.to_json().as_bytes())
    }
    fn task(&self) -> Task {
        let embedded = |column: &Column| match &column.form {
            Form::Embedding { words, width } => Some(Embedded { rows: words.len() + 1, width: *width }),
            _ => None,
        };
        let answer = match &self.target.form {
            Learned::Classification { classes, rows, .. } => {
                Answer::Classes { names: classes.clone(), rows: rows.clone() }
            }
            Learned::Regression { numbers } => {
                Answer::Numbers { stds: numbers.iter().map(|scale| scale.std).collect() }
            }
        };
        let embedded = self.columns.iter().filter_map(embedded).collect();
        Task::Rows(Columns { numbers: self.numbers(), embedded, answer })
    }
}
