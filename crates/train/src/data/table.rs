//! A table as a dataset: rows of numbers and words, and a target that is learned.
//!
//! A file is read into cells ([`csv`], [`npy`]), which `fit` looks at to decide how each column is read and how the rows
//! are split; `encode` turns cells into arrays. Everything after the reading is the same for every kind of file.

mod columns;
pub mod csv;
mod encode;
mod fit;
pub mod npy;
mod raw;
mod split;

use std::path::Path;
use std::sync::Arc;

use geartrain_engine::Batch;
use sha2::{Digest, Sha256};

pub use columns::Preprocessing;

use crate::config::{Config, Order as Reading};
use crate::data::{Dataset, Encoder, Part, encoder_as};
use crate::error::{Error, Result};
use crate::tokenizer::hex;
use crate::words::count;
use columns::{Learned, Source};
use encode::{Encoded, Targets, encode};
use raw::Raw;
use split::{Order, Split, split};

/// The file of a run folder that says how a table is read.
const FILE: &str = "preprocessing.json";

/// Whether a table must have its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// It is learned from or measured on.
    Learn,
    /// It is answered.
    Answer,
}

fn ends_with(path: &Path, end: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(end))
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn short_name(path: &Path) -> String {
    path.file_stem().map_or_else(|| "table".into(), |stem| stem.to_string_lossy().into_owned())
}

/// Reads the table that a configuration names.
fn read(source: Source, config: &Config, wanted: Use) -> Result<Raw> {
    let kind = source.kind();
    let Some(path) = config.data.path.as_deref().map(Path::new) else {
        return Err(Error::usage(format!("data.path is missing: where is the {}?", kind.name))
            .hint("name the file, as in `geartrain train FILE.csv --target COLUMN`"));
    };
    if !(kind.reads)(path) {
        let what = format!("the run has learned from a {}, and `{}` is not one", kind.name, path.display());
        return Err(Error::usage(what).hint("give data of the form that the run was trained with"));
    }
    let raw = match source {
        Source::Csv => csv::read(path, config, wanted)?,
        Source::Npy => npy::read(path, config, wanted)?,
    };
    // Rows are counted in 32 bits.
    match raw.rows > i32::MAX as usize {
        true => Err(Error::usage(format!("{} has {}", raw.label, count(raw.rows, "row"))).hint("take a part of them")),
        false => Ok(raw),
    }
}

/// The file of the targets, where the data is a pair of arrays.
pub(crate) fn target_file(config: &Config) -> Option<String> {
    let (path, target) = (Path::new(config.data.path.as_ref()?), config.data.target.as_ref()?);
    (npy::KIND.reads)(path).then(|| npy::target_file(path, target).to_string_lossy().into_owned())
}

/// Sets the targets of other data that a run is measured on: those that are named, which only arrays have in a file of
/// their own; or those beside it.
///
/// # Errors
/// A target is named for data of another kind.
pub(crate) fn retarget(
    config: &mut Config,
    encoder: &dyn Encoder,
    path: Option<&Path>,
    target: Option<&str>,
) -> Result<()> {
    let arrays = encoder.kind().name == npy::KIND.name;
    match (target, path) {
        (Some(target), _) if arrays => config.data.target = Some(target.to_string()),
        (Some(_), _) => {
            let what = "--target names the targets of another array, and the run has learned from none";
            return Err(Error::usage(what).hint("leave it out: the run knows what it answers"));
        }
        (None, Some(path)) if arrays => {
            let name = config.data.target.as_ref().and_then(|target| Path::new(target).file_name());
            config.data.target = name.map(|name| path.with_file_name(name).to_string_lossy().into_owned());
        }
        (None, _) => {}
    }
    Ok(())
}

/// Loads a table to learn from, or to measure a run on.
fn load(source: Source, config: &Config, encoder: Option<Arc<dyn Encoder>>) -> Result<Box<dyn Dataset>> {
    let raw = read(source, config, Use::Learn)?;
    let Some(encoder) = encoder else {
        let fit = fit::fit(&raw, config, source)?;
        let encoded = encode(&fit.preprocessing, &raw)?;
        let said = (fit.notes, fit.warnings);
        return Ok(Box::new(TableData::new(config, raw, fit.preprocessing, encoded, fit.split, said)));
    };
    let how: Preprocessing = encoder_as::<Preprocessing>(&*encoder)?.clone();
    let encoded = encode(&how, &raw)?;
    let classes = match &encoded.targets {
        Targets::Classes(classes) => classes.clone(),
        _ => vec![0; raw.rows],
    };
    let split = split(&classes, config.data.validation, config.train.seed);
    Ok(Box::new(TableData::new(config, raw, how, encoded, split, (Vec::new(), Vec::new()))))
}

/// The rows of a table to be answered, their targets perhaps unknown.
#[derive(Debug)]
pub struct Questions {
    raw: Raw,
    encoded: Encoded,
    stride: usize,
    names: Vec<String>,
    /// What the run has not seen, and columns that it does not read.
    pub warnings: Vec<String>,
}

impl Questions {
    /// Reads the table at a path for the model of a run.
    ///
    /// # Errors
    /// Columns that are not there, and cells that are not what their columns hold: with their places.
    pub fn read(config: &Config, how: &Preprocessing, path: &Path) -> Result<Questions> {
        let mut config = config.clone();
        config.data.path = Some(path.to_string_lossy().into_owned());
        let mut raw = read(how.source, &config, Use::Answer)?;
        let known = |name: &String| {
            how.columns.iter().any(|column| column.name == *name)
                || *name == how.target.name
                || how.left_out.contains(name)
        };
        let more: Vec<String> = raw.columns.iter().filter(|name| !known(name)).cloned().collect();
        let (targets, mut warnings) = (std::mem::take(&mut raw.targets), Vec::new());
        if how.source == Source::Npy && !more.is_empty() {
            let (found, read) = (count(raw.columns.len(), "column"), raw.columns.len() - more.len());
            return Err(Error::usage(format!("{} has {found}, and the run has learned from {read}", raw.label))
                .hint("give an array of the form that the run was trained with"));
        }
        if !more.is_empty() {
            warnings.push(format!("columns that the model does not read: {}", raw::list(&more)));
        }
        let mut encoded = encode(how, &raw)?;
        raw.targets = targets;
        // A target that is there is compared with the answers, if it is whole.
        match encode::targets(how, &raw) {
            Ok(targets) => encoded.targets = targets,
            Err(reason) => warnings.push(format!("the answers are not compared with the target: {reason}")),
        }
        warnings.append(&mut encoded.warnings);
        let names = word_inputs(&encoded);
        Ok(Questions { stride: how.numbers(), names, encoded, raw, warnings })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.raw.rows
    }

    /// Where a row stands, for a message.
    pub fn place(&self, row: usize) -> String {
        self.raw.cells.row(row)
    }

    /// Fills the inputs `features` and `words.0`, `words.1`, ... of a batch with the rows from `first` on; those after the
    /// last are zeros.
    ///
    /// # Errors
    /// A batch of another model.
    pub fn fill(&self, first: usize, rows: usize, batch: &mut Batch) -> Result<()> {
        let row = |i: usize| Some(first + i).filter(|row| *row < self.rows());
        fill_inputs(&self.encoded, &self.names, self.stride, rows, row, batch)
    }

    /// The class of every row, where the table tells it.
    pub fn classes(&self) -> Option<&[u32]> {
        match &self.encoded.targets {
            Targets::Classes(classes) => Some(classes),
            _ => None,
        }
    }

    /// The standardised targets (rows, targets), where the table tells them.
    pub fn numbers(&self) -> Option<&[f32]> {
        match &self.encoded.targets {
            Targets::Numbers(numbers) => Some(numbers),
            _ => None,
        }
    }
}

fn word_inputs(encoded: &Encoded) -> Vec<String> {
    (0..encoded.words.len()).map(|i| format!("words.{i}")).collect()
}

/// Copies rows into the inputs of a batch; `None` is a row of zeros.
fn fill_inputs(
    encoded: &Encoded,
    names: &[String],
    stride: usize,
    rows: usize,
    row: impl Fn(usize) -> Option<usize>,
    batch: &mut Batch,
) -> Result<()> {
    if stride > 0 {
        let features = batch.f32s("features").map_err(Error::bug)?;
        for (i, to) in features.chunks_exact_mut(stride).enumerate().take(rows) {
            match row(i) {
                Some(row) => to.copy_from_slice(&encoded.numbers[row * stride..(row + 1) * stride]),
                None => to.fill(0.0),
            }
        }
    }
    for (name, words) in names.iter().zip(&encoded.words) {
        for (i, to) in batch.u32s(name).map_err(Error::bug)?.iter_mut().enumerate().take(rows) {
            *to = row(i).map_or(0, |row| words[row]);
        }
    }
    Ok(())
}

/// A table that is learned from.
#[derive(Debug)]
pub struct TableData {
    name: String,
    hash: String,
    rows: usize,
    columns: usize,
    how: Preprocessing,
    encoded: Encoded,
    split: Split,
    order: Order,
    names: Vec<String>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl TableData {
    fn new(
        config: &Config,
        raw: Raw,
        how: Preprocessing,
        encoded: Encoded,
        split: Split,
        (notes, warnings): (Vec<String>, Vec<String>),
    ) -> TableData {
        let shuffled = config.data.order == Reading::Shuffle;
        let order = Order::new(split.train.len(), config.train.batch, config.train.seed, shuffled);
        let (rows, columns, names) = (raw.rows, raw.columns.len(), word_inputs(&encoded));
        TableData { name: raw.name, hash: raw.hash, rows, columns, how, encoded, split, order, names, notes, warnings }
    }

    fn part(&self, part: Part) -> &[u32] {
        match part {
            Part::Training => &self.split.train,
            Part::Validation => &self.split.validation,
        }
    }

    /// Numbers of the target of a row.
    fn targets(&self) -> usize {
        match &self.how.target.form {
            Learned::Classification { .. } => 1,
            Learned::Regression { numbers } => numbers.len(),
        }
    }

    /// Copies rows of the table into a batch; `None` is a row of zeros.
    fn copy(&self, rows: usize, row: impl Fn(usize) -> Option<usize>, batch: &mut Batch) -> Result<()> {
        fill_inputs(&self.encoded, &self.names, self.how.numbers(), rows, &row, batch)?;
        match &self.encoded.targets {
            Targets::None => {}
            Targets::Classes(classes) => {
                for (i, to) in batch.u32s("targets").map_err(Error::bug)?.iter_mut().enumerate().take(rows) {
                    *to = row(i).map_or(0, |row| classes[row]);
                }
            }
            Targets::Numbers(numbers) => {
                let k = self.targets();
                let targets = batch.f32s("targets").map_err(Error::bug)?;
                for (i, to) in targets.chunks_exact_mut(k).enumerate().take(rows) {
                    match row(i) {
                        Some(row) => to.copy_from_slice(&numbers[row * k..(row + 1) * k]),
                        None => to.fill(0.0),
                    }
                }
            }
        }
        Ok(())
    }

    /// Rows of a batch.
    fn rows_of(&self, batch: &mut Batch) -> Result<usize> {
        match &self.encoded.targets {
            Targets::Numbers(_) => Ok(batch.f32s("targets").map_err(Error::bug)?.len() / self.targets().max(1)),
            _ => Ok(batch.u32s("targets").map_err(Error::bug)?.len()),
        }
    }
}

impl Dataset for TableData {
    fn name(&self) -> &str {
        &self.name
    }
    fn hash(&self) -> &str {
        &self.hash
    }
    fn summary(&self) -> String {
        format!("{}: {} of {}", self.name, count(self.rows, "row"), count(self.columns, "column"))
    }
    fn notes(&self) -> &[String] {
        &self.notes
    }
    fn warnings(&self) -> &[String] {
        &self.warnings
    }
    fn a_row(&self) -> (usize, &'static str) {
        (1, "row")
    }
    fn most_rows(&self) -> usize {
        self.split.train.len()
    }
    fn encoder(&self) -> &dyn Encoder {
        &self.how
    }
    fn fill(&self, step: u64, first: usize, batch: &mut Batch) -> Result<()> {
        let rows = self.rows_of(batch)?;
        self.order.with(step, |order| {
            let row = |i: usize| order.at(first + i).map(|place| self.split.train[place] as usize);
            self.copy(rows, row, batch)
        })
    }
    fn batches(&self, part: Part, rows: usize) -> Result<usize> {
        Ok(self.part(part).len().div_ceil(rows.max(1)))
    }
    fn fill_part(&self, part: Part, rows: usize, i: usize, batch: &mut Batch) -> Result<usize> {
        let (part, first) = (self.part(part), i.saturating_mul(rows));
        self.copy(rows, |i| part.get(first + i).map(|row| *row as usize), batch)?;
        Ok(part.len().saturating_sub(first).min(rows))
    }
}

#[cfg(test)]
mod tests;
