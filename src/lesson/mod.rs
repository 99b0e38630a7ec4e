//! The lessons: small networks whose every number can be followed.

pub mod tokens;
pub mod xor;

use geartrain_engine::listing::Listing;
use geartrain_engine::{DType, Graph, GraphError, Options, Program, RunError, State};
use geartrain_nn::optim::{self, Sgd};

use crate::Var;

/// A network with its data, small enough to print.
pub struct Lesson {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line saying what is learned.
    pub title: &'static str,
    /// Epochs of a full run.
    pub epochs: usize,
    /// Epochs between printed rows.
    pub every: usize,
    /// Learning rate of plain gradient descent.
    pub rate: f64,
    /// Number of examples.
    pub examples: usize,
    /// Builds the network: the loss, the predicted probabilities of the right or positive answer, and 1 for each
    /// example that is answered correctly (u32).
    pub build: for<'g> fn(&'g Graph, DType) -> Outputs<'g>,
    /// How prediction number `i` is written.
    pub describe: fn(usize, f64) -> String,
}

/// What a lesson's network computes.
pub struct Outputs<'g> {
    /// The mean loss.
    pub loss: Var<'g>,
    /// One probability an example.
    pub predictions: Var<'g>,
    /// 1 where the answer is right (u32).
    pub correct: Var<'g>,
}

/// All lessons that train, in the order of the course.
pub static LESSONS: &[&Lesson] = &[&xor::LESSON, &tokens::LESSON];

/// The lesson with this name.
pub fn find(name: &str) -> Option<&'static Lesson> {
    LESSONS.iter().find(|lesson| lesson.name == name).copied()
}

/// One epoch as it was before its update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Counted from 0.
    pub epoch: usize,
    /// Mean loss over the examples.
    pub loss: f64,
    /// Examples answered correctly.
    pub correct: usize,
}

impl Lesson {
    /// The whole training step as a graph: forward, loss, backward and update. Outputs: `loss`, `predictions`, `correct`.
    ///
    /// # Errors
    /// None for the built-in lessons; those of the graph otherwise.
    pub fn graph(&self, dtype: DType) -> Result<Graph, GraphError> {
        let g = Graph::new();
        {
            let outputs = self.step(&g, dtype)?;
            g.output("predictions", outputs.predictions);
            g.output("correct", outputs.correct);
        }
        Ok(g)
    }

    /// Adds the training step to a graph.
    fn step<'g>(&self, g: &'g Graph, dtype: DType) -> Result<Outputs<'g>, GraphError> {
        let outputs = (self.build)(g, dtype);
        let lr = g.number(DType::F64, self.rate);
        optim::minimize(g, outputs.loss, &Sgd, lr, 0.0)?;
        g.output("loss", outputs.loss);
        Ok(outputs)
    }

    /// The derived network, line by line.
    ///
    /// # Errors
    /// As [`Lesson::graph`].
    pub fn listing(&self) -> Result<String, GraphError> {
        let optimizer = format!("sgd, learning rate {}", self.rate);
        let g = Graph::new();
        self.step(&g, DType::F64)?;
        Ok(Listing::new(&g).to_text(&optimizer))
    }

    /// Trains for `epochs` in f64 and gives every epoch to `see`, then the predictions of the last forward pass and
    /// those after the last update.
    ///
    /// # Errors
    /// As [`Lesson::graph`]; a number that is not finite.
    pub fn train(&self, epochs: usize, mut see: impl FnMut(Epoch)) -> Result<Trained, LessonError> {
        let graph = self.graph(DType::F64)?;
        let mut state = State::new(&graph, 0)?;
        let mut program = Program::compile(&graph, &state, Options { threads: 1, ..Options::default() })?;
        let batch = program.batch();
        let read = |program: &Program| program.tensor("predictions").map(|t| t.to_f64()).unwrap_or_default();
        for epoch in 0..epochs {
            program.run(&mut state, &batch)?;
            let loss = program.scalar("loss").unwrap_or(f64::NAN);
            let correct = program.tensor("correct").map_or(0.0, |t| t.to_f64().iter().sum()) as usize;
            see(Epoch { epoch, loss, correct });
        }
        let last = read(&program);
        let parameters = state.parameters();
        program.run(&mut state, &batch)?;
        Ok(Trained { before_last_update: last, after_last_update: read(&program), parameters })
    }
}

/// The end of a lesson's training.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Predictions that the last epoch's loss was computed from.
    pub before_last_update: Vec<f64>,
    /// Predictions of the trained network.
    pub after_last_update: Vec<f64>,
    /// Number of trained numbers.
    pub parameters: usize,
}

/// Why a lesson could not be trained.
#[derive(Debug)]
pub enum LessonError {
    /// The graph is wrong.
    Graph(GraphError),
    /// A step failed.
    Run(RunError),
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

impl std::fmt::Display for LessonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LessonError::Graph(error) => error.fmt(f),
            LessonError::Run(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LessonError {}
