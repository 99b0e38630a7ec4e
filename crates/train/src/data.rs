//! What is learned from. Each kind of data is a file here and a line in [`KINDS`]; the loop knows only [`Dataset`].
//!
//! A text is its tokens, split into a training part (the first) and a validation part (the last), and read in windows. A
//! table is its rows, some of them drawn for validation.

mod cache;
mod names;
mod source;
pub mod table;
pub mod text;
mod tokens;
mod windows;

use std::any::Any;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use geartrain_engine::{Batch, State};

pub use names::names;
pub use source::{Scan, Text};
pub use table::{Preprocessing, Questions, TableData};
pub use text::{Corpus, TextData};
pub use tokens::Tokens;
pub use windows::{Evaluation, Windows};

use crate::config::{Config, DataKind};
use crate::error::{Error, Result};
use crate::model::Task;

/// A kind of data.
pub struct Kind {
    /// What messages call it.
    pub name: &'static str,
    /// The file of a run folder that holds its [`Encoder`].
    pub encoder: &'static str,
    /// Which defaults of the configuration belong to it.
    pub defaults: DataKind,
    /// Whether it is what stands at a path, by the path's ending.
    pub reads: fn(&Path) -> bool,
    /// Reads the encoder of a run.
    pub decode: fn(&Path) -> Result<Arc<dyn Encoder>>,
    /// Loads what `data.path` names, with the encoder of a run, or one that is made from the data.
    pub load: Load,
}

/// Loads data with the encoder of a run, or with one that is made from it.
pub type Load = fn(&Config, Option<Arc<dyn Encoder>>) -> Result<Box<dyn Dataset>>;

/// Every kind of data there is; the first that reads a path is taken.
pub static KINDS: &[&Kind] = &[&table::csv::KIND, &table::npy::KIND, &text::KIND];

/// The kind of what stands at a path.
pub fn kind_of(path: &Path) -> &'static Kind {
    KINDS.iter().find(|kind| (kind.reads)(path)).copied().unwrap_or(&text::KIND)
}

/// Loads the data that a configuration names.
///
/// # Errors
/// Those of its kind.
pub fn load(config: &Config) -> Result<Box<dyn Dataset>> {
    let kind = config.data.path.as_deref().map_or(&text::KIND, |path| kind_of(Path::new(path)));
    (kind.load)(config, None)
}

/// Loads the data that a configuration names with the encoder of a run: see [`encoder_of`].
///
/// # Errors
/// Those of its kind.
pub fn load_with(config: &Config, encoder: Arc<dyn Encoder>) -> Result<Box<dyn Dataset>> {
    (encoder.kind().load)(config, Some(encoder))
}

/// What turned the data of the run in a folder into numbers.
///
/// # Errors
/// With exit code 4: it is not there or damaged.
pub fn encoder_of(folder: &Path) -> Result<Arc<dyn Encoder>> {
    let kind = KINDS.iter().find(|kind| folder.join(kind.encoder).is_file()).copied().unwrap_or(&text::KIND);
    (kind.decode)(&folder.join(kind.encoder))
}

/// One of the two parts of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What is learned from.
    Training,
    /// What is kept to see how well it went.
    Validation,
}

/// Data that a model can be trained on: a row is one example, a batch some rows, as inputs of the model's graphs.
pub trait Dataset: Debug {
    /// A short name, as for a run folder.
    fn name(&self) -> &str;
    /// SHA-256 of the data, in hex: a run goes on with the same data only.
    fn hash(&self) -> &str;
    /// A line for people: its name, how much there is, what there is.
    fn summary(&self) -> String;
    /// What was decided about it, in sentences for people.
    fn notes(&self) -> &[String] {
        &[]
    }
    /// What looks like a mistake in it, for people.
    fn warnings(&self) -> &[String] {
        &[]
    }
    /// The most rows that a batch may have.
    fn most_rows(&self) -> usize {
        usize::MAX
    }
    /// What a row is to people: how many of what.
    fn a_row(&self) -> (usize, &'static str);
    /// What turned it into numbers.
    fn encoder(&self) -> &dyn Encoder;
    /// Fills a batch with the rows of a step (from 0), from row `first` on. A pure function of the seed and the step,
    /// so that a run can be resumed or replayed at any step. Allocates nothing.
    ///
    /// # Errors
    /// The batch is not that of a graph for this data.
    fn fill(&self, step: u64, first: usize, batch: &mut Batch) -> Result<()>;
    /// How many batches of `rows` rows a part has, the last perhaps padded; 0 where it is empty.
    ///
    /// # Errors
    /// It is too small to be read.
    fn batches(&self, part: Part, rows: usize) -> Result<usize>;
    /// Fills batch `i` of a part and gives how many of its predictions count, the first ones; the others are padding.
    ///
    /// # Errors
    /// As [`Dataset::fill`].
    fn fill_part(&self, part: Part, rows: usize, i: usize, batch: &mut Batch) -> Result<usize>;
    /// What the trained model shows of itself at the end of a run.
    ///
    /// # Errors
    /// A model that does not fit the state.
    fn samples(&self, _config: &Config, _state: &State) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// What turns raw data into numbers, and numbers back. It is saved beside the checkpoints: a model without it is mute.
pub trait Encoder: Any + Debug {
    /// The kind of data that it is for.
    fn kind(&self) -> &'static Kind;
    /// The text of its file in the run folder.
    fn to_json(&self) -> String;
    /// SHA-256 of what decides the numbers, in hex.
    fn hash(&self) -> String;
    /// What a model of this data reads and answers.
    fn task(&self) -> Task;
}

/// The encoder of a run as one of a certain kind.
///
/// # Errors
/// It is of another kind.
pub fn encoder_as<E: Encoder>(encoder: &dyn Encoder) -> Result<&E> {
    (encoder as &dyn Any).downcast_ref::<E>().ok_or_else(|| {
        let learned = encoder.kind().name;
        Error::usage(format!("the run has learned from a {learned}, which this command cannot use"))
            .hint("`generate` writes with models of a text, `predict` answers with models of a table")
    })
}
