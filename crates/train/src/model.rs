//! From a configuration to graphs: one that trains, one that evaluates, one that writes.

mod rows;
mod steps;
mod tokens;

use geartrain_engine::compile::PASSES;
use geartrain_engine::compile::bf16;
use geartrain_engine::{DType, Graph, GraphError, NUMERICS_VERSION, Options, Program, State, Var};
use geartrain_nn::Dropout;
use geartrain_nn::optim::{Adagrad, Adam, AdamW, Lion, Momentum, Nesterov, Optimizer, RmsProp, Sgd};

pub use rows::{Answer, Columns, Embedded};
pub use steps::{Sharing, Steps, training_graph};
pub use tokens::{answers_a_window, writing_graph};

use crate::config::{Config, DataKind, OptimizerKind, Precision};
use crate::error::{Error, Result};

/// What a model reads and what it answers: the one thing on which data and model must agree.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Windows of tokens in, what comes next out. Inputs `tokens` (rows, context) and `targets` (rows · answers), u32.
    Tokens {
        /// Different tokens of the tokenizer.
        vocab: usize,
    },
    /// Rows of a table in, the target of each out. Inputs: see [`Columns`].
    Rows(Columns),
}

impl Task {
    /// What its losses are, as over a chart of them.
    pub fn loss_label(&self) -> &'static str {
        match self {
            Task::Tokens { .. } => "loss (nats a token)",
            Task::Rows(Columns { answer: Answer::Classes { .. }, .. }) => "loss (nats a row)",
            Task::Rows(Columns { answer: Answer::Numbers { .. }, .. }) => "loss (squared error, standardised)",
        }
    }
}

/// What a forward pass gives.
struct Forward<'g> {
    /// The loss of each prediction, in the order of the targets.
    losses: Var<'g>,
    /// How much each of them counts in training; the same where there is none.
    weights: Option<Var<'g>>,
    /// What is predicted of each row of a table: probabilities, or standardised numbers.
    answers: Option<Var<'g>>,
}

/// Adds the forward pass over `rows` rows and its inputs to a graph.
fn forward<'g>(g: &'g Graph, config: &Config, task: &Task, rows: usize, dropout: &Dropout<'g>) -> Result<Forward<'g>> {
    let data = match task {
        Task::Tokens { .. } => DataKind::Text,
        Task::Rows(_) => DataKind::Table,
    };
    match task {
        _ if !data.suits(config.model.kind) => Err(data.misfit(config.model.kind)),
        Task::Tokens { vocab } => tokens::forward(g, config, config.vocab_for(*vocab)?, rows, dropout),
        Task::Rows(columns) => Ok(rows::forward(g, config, columns, rows, dropout)),
    }
}

/// Rows of one evaluation batch: few where a row has many predictions.
pub fn evaluation_rows(config: &Config) -> usize {
    match answers_a_window(config) {
        1 => 512,
        _ => 32,
    }
}

/// The optimizer that a configuration names.
pub fn optimizer(config: &Config) -> Box<dyn Optimizer> {
    let optimizer = &config.optimizer;
    let [beta1, beta2] = optimizer.betas;
    let (betas, eps, decay, momentum) = ((beta1, beta2), optimizer.eps, optimizer.weight_decay, optimizer.momentum);
    match optimizer.kind {
        OptimizerKind::Sgd => Box::new(Sgd),
        OptimizerKind::Momentum => Box::new(Momentum { momentum }),
        OptimizerKind::Nesterov => Box::new(Nesterov { momentum, decay }),
        OptimizerKind::AdamW => Box::new(AdamW { betas, eps, decay }),
        OptimizerKind::Adam => Box::new(Adam { betas, eps, decay }),
        OptimizerKind::RmsProp => Box::new(RmsProp { alpha: optimizer.alpha, eps, decay }),
        OptimizerKind::Adagrad => Box::new(Adagrad { eps, decay }),
        OptimizerKind::Lion => Box::new(Lion { betas, decay }),
    }
}

/// Losses of every prediction of a batch of [`evaluation_rows`]. Inputs: those of the task. Output: `losses`,
/// and of a table `answers`.
///
/// # Errors
/// As [`training_graph`].
pub fn evaluation_graph(config: &Config, task: &Task) -> Result<Graph> {
    let g = Graph::new();
    {
        let forward = forward(&g, config, task, evaluation_rows(config), &Dropout::off())?;
        g.output("losses", forward.losses);
        if let Some(answers) = forward.answers {
            g.output("answers", answers);
        }
    }
    Ok(g)
}

/// Answers for a batch of [`evaluation_rows`] rows of a table. Inputs: those of [`Columns`] without `targets`. Output:
/// `answers`.
pub fn prediction_graph(config: &Config, columns: &Columns) -> Graph {
    let g = Graph::new();
    g.output("answers", rows::answers(&g, config, columns, evaluation_rows(config)));
    g
}

/// Compiles a graph for a state.
///
/// # Errors
/// A graph that is wrong or too large, or that does not fit the state.
pub fn compile(graph: &Graph, state: &State, config: &Config) -> Result<Program> {
    let options = Options::default();
    let threads = if config.train.threads == 0 { options.threads } else { config.train.threads };
    let passes = match config.train.precision {
        Precision::F32 => PASSES.to_vec(),
        Precision::Bf16 => bf16::passes(),
    };
    Program::compile_with(graph, state, Options { threads, ..options }, &passes).map_err(model_error)
}

/// The version of the numbers that training with this configuration gives.
pub fn numerics_version(config: &Config) -> String {
    match config.train.precision {
        Precision::F32 => NUMERICS_VERSION.to_string(),
        Precision::Bf16 => format!("{NUMERICS_VERSION}-{}", bf16::NUMERICS),
    }
}

/// A graph that cannot be built: the model's configuration does not fit together.
pub fn model_error(error: GraphError) -> Error {
    let hint = error.hint().map(str::to_string);
    let error = Error::usage(format!("the model cannot be built: {error}"));
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// All models are trained in this dtype.
const DTYPE: DType = DType::F32;
