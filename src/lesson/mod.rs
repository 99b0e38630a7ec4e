//! The lessons: pages of text, tables and small plots whose numbers the engine computes as they are written.
//!
//! A lesson is a file with a [`Lesson`] and a line in [`LESSONS`].

mod activations;
mod chain_rule;
mod compute;
mod descent;
mod initialisation;
mod loss;
mod network;
mod number;
mod optimizers;
pub mod page;
mod scale;
pub mod tokens;
pub mod xor;

use geartrain_engine::{GraphError, RunError};

pub use network::{Epoch, Network, Outputs, Trained};
pub use page::Page;

/// One lesson.
pub struct Lesson {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line saying what is learned.
    pub title: &'static str,
    /// The network that it trains, for `explain` and `gradcheck`.
    pub network: Option<&'static Network>,
    /// Writes its page.
    pub write: fn(&mut Page) -> Result<(), LessonError>,
}

/// All lessons, in the order of the course.
pub static LESSONS: &[&Lesson] = &[
    &loss::LESSON,
    &descent::LESSON,
    &chain_rule::LESSON,
    &activations::LESSON,
    &initialisation::LESSON,
    &xor::LESSON,
    &tokens::LESSON,
    &optimizers::LESSON,
    &scale::LESSON,
];

/// The lesson with this name.
pub fn find(name: &str) -> Option<&'static Lesson> {
    LESSONS.iter().find(|lesson| lesson.name == name).copied()
}

/// The network of the lesson with this name.
pub fn network(name: &str) -> Option<&'static Network> {
    find(name).and_then(|lesson| lesson.network)
}

impl Lesson {
    /// Its page, computed on `threads` threads, which change nothing in it.
    ///
    /// # Errors
    /// None for the built-in lessons; otherwise what the engine says.
    pub fn page(&self, threads: usize) -> Result<Page, LessonError> {
        let mut page = Page::new(threads);
        page.title(self.title);
        (self.write)(&mut page)?;
        Ok(page)
    }
}

/// Why a lesson could not be written.
#[derive(Debug)]
pub enum LessonError {
    /// The graph is wrong.
    Graph(GraphError),
    /// A step failed.
    Run(RunError),
    /// A network cannot be built as configured.
    Train(geartrain_train::Error),
    /// A program has no output of this name and size.
    Missing(String),
}

impl From<GraphError> for LessonError {
    fn from(error: GraphError) -> LessonError {
        LessonError::Graph(error)
    }
}

impl From<RunError> for LessonError {
    fn from(error: RunError) -> LessonError {
        LessonError::Run(error)
    }
}

impl From<geartrain_train::Error> for LessonError {
    fn from(error: geartrain_train::Error) -> LessonError {
        LessonError::Train(error)
    }
}

impl std::fmt::Display for LessonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LessonError::Graph(error) => error.fmt(f),
            LessonError::Run(error) => error.fmt(f),
            LessonError::Train(error) => error.fmt(f),
            LessonError::Missing(output) => write!(f, "the program has no output `{output}`"),
        }
    }
}

impl std::error::Error for LessonError {}
