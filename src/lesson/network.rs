//! A network with its data, small enough to print: its listing, its training, and both on a page.

use geartrain_engine::listing::Listing;
use geartrain_engine::{DType, Graph, GraphError, Options, Program, State, Var};
use geartrain_nn::optim::{self, Sgd};
use serde_json::json;

use super::page::{Format, column, row};
use super::{LessonError, Page};

/// A network and how it is trained.
pub struct Network {
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

/// The end of a training.
pub struct Trained {
    /// Predictions that the last epoch's loss was computed from.
    pub before_last_update: Vec<f64>,
    /// Predictions of the trained network.
    pub after_last_update: Vec<f64>,
    /// The trained parameters.
    pub state: State,
}

/// Makes the loss of a network one training step of plain gradient descent. Outputs: `loss`, `predictions`, `correct`.
///
/// # Errors
/// Those of the graph.
pub fn step<'g>(g: &'g Graph, outputs: &Outputs<'g>, rate: f64) -> Result<(), GraphError> {
    let lr = g.number(DType::F64, rate);
    optim::minimize(g, outputs.loss, &Sgd, lr, 0.0)?;
    g.output("loss", outputs.loss);
    g.output("predictions", outputs.predictions);
    g.output("correct", outputs.correct);
    Ok(())
}

/// Runs a training step `epochs` times from the initial values of `seed` and gives every epoch to `see`, then the
/// predictions of the last forward pass and those after the last update.
///
/// # Errors
/// Those of the graph; a number that is not finite.
pub fn train(graph: &Graph, seed: u64, epochs: usize, mut see: impl FnMut(Epoch)) -> Result<Trained, LessonError> {
    let mut state = State::new(graph, seed)?;
    let mut program = Program::compile(graph, &state, Options { threads: 1, ..Options::default() })?;
    let batch = program.batch();
    let read = |program: &Program| program.tensor("predictions").map(|t| t.to_f64()).unwrap_or_default();
    for epoch in 0..epochs {
        program.run(&mut state, &batch)?;
        let loss = program.scalar("loss").unwrap_or(f64::NAN);
        let correct = program.tensor("correct").map_or(0.0, |t| t.to_f64().iter().sum()) as usize;
        see(Epoch { epoch, loss, correct });
    }
    let before_last_update = read(&program);
    let trained = state.clone();
    program.run(&mut state, &batch)?;
    Ok(Trained { before_last_update, after_last_update: read(&program), state: trained })
}

impl Network {
    /// The whole training step as a graph: forward, loss, backward and update. Outputs: `loss`, `predictions`, `correct`.
    ///
    /// # Errors
    /// None for the built-in lessons; those of the graph otherwise.
    pub fn graph(&self, dtype: DType) -> Result<Graph, GraphError> {
        let g = Graph::new();
        step(&g, &(self.build)(&g, dtype), self.rate)?;
        Ok(g)
    }

    /// The derived network, line by line.
    ///
    /// # Errors
    /// As [`Network::graph`].
    pub fn lines(&self) -> Result<Listing, GraphError> {
        let g = Graph::new();
        let outputs = (self.build)(&g, DType::F64);
        optim::minimize(&g, outputs.loss, &Sgd, g.number(DType::F64, self.rate), 0.0)?;
        g.output("loss", outputs.loss);
        Ok(Listing::new(&g))
    }

    /// The rule that trains it, in words.
    pub fn optimizer(&self) -> String {
        format!("sgd, learning rate {}", self.rate)
    }

    /// The derived network as `explain` prints it.
    ///
    /// # Errors
    /// As [`Network::graph`].
    pub fn listing(&self) -> Result<String, GraphError> {
        Ok(self.lines()?.to_text(&self.optimizer()))
    }

    /// Trains for `epochs` in f64 and gives every epoch to `see`, then the predictions of the last forward pass and
    /// those after the last update.
    ///
    /// # Errors
    /// As [`Network::graph`]; a number that is not finite.
    pub fn train(&self, epochs: usize, see: impl FnMut(Epoch)) -> Result<Trained, LessonError> {
        train(&self.graph(DType::F64)?, 0, epochs, see)
    }

    /// The listing, the training and the predictions on a page; every epoch and the predictions as JSON.
    ///
    /// # Errors
    /// As [`Network::train`].
    pub fn show(&self, page: &mut Page) -> Result<Trained, LessonError> {
        page.listing(&self.lines()?, Some(&self.optimizer()));
        let mut epochs: Vec<Epoch> = Vec::new();
        let trained = self.train(self.epochs, |epoch| epochs.push(epoch))?;
        for e in &epochs {
            page.record(json!({ "epoch": e.epoch, "loss": e.loss, "correct": e.correct }));
        }
        page.finish("predictions", json!(trained.after_last_update));
        let shown = epochs.iter().filter(|e| e.epoch.is_multiple_of(self.every) || e.epoch + 1 == self.epochs);
        let rows: Vec<_> = shown.map(|e| row![e.epoch, e.loss, format!("{}/{}", e.correct, self.examples)]).collect();
        page.heading("Training");
        let columns =
            [column("epoch", Format::Plain), column("loss", Format::Fixed(4)), column("correct", Format::Text)];
        page.text_table(&columns, &rows);
        page.heading("Predictions of the trained network");
        let predictions = trained.after_last_update.iter().enumerate();
        page.verbatim(&predictions.map(|(i, p)| format!("{}\n", (self.describe)(i, *p))).collect::<String>());
        Ok(trained)
    }
}
