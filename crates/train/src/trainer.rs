//! The training loop's parts: a step, an evaluation.

use geartrain_engine::run::program::Cost;
use geartrain_engine::{Batch, DType, Program, RunError, State};

use crate::config::Config;
use crate::data::{Corpus, Evaluation, Windows};
use crate::error::{Error, Result};
use crate::model;
use crate::schedule::Schedule;

/// What a training step reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Mean loss of the batch before the update, in nats a token.
    pub loss: f64,
    /// Learning rate of the update.
    pub lr: f64,
    /// Norm of the whole gradient before clipping.
    pub grad_norm: f64,
}

/// A model in training: its state, and the programs that work on it.
pub struct Trainer {
    config: Config,
    corpus: Corpus,
    state: State,
    step: Program,
    batch: Batch,
    evaluation: Option<(Program, Batch)>,
    schedule: Schedule,
    optimizer: Box<dyn geartrain_nn::optim::Optimizer>,
    vocab: usize,
}

impl Trainer {
    /// Builds the model with fresh weights.
    ///
    /// # Errors
    /// Sizes that do not fit together; too little text for one window.
    pub fn new(config: Config, corpus: Corpus) -> Result<Trainer> {
        let vocab = config.vocab_for(corpus.tokenizer.vocab_size())?;
        let graph = model::training_graph(&config, vocab, DType::F32)?;
        let state = State::new(&graph, config.train.seed).map_err(model::model_error)?;
        let step = model::compile(&graph, &state, &config)?;
        let batch = step.batch();
        let schedule = Schedule::from_config(&config);
        let optimizer = model::optimizer(&config);
        Windows::new(&corpus.train, config.data.order, config.train.seed, config.model.context, config.train.batch)?;
        Ok(Trainer { config, corpus, state, step, batch, evaluation: None, schedule, optimizer, vocab })
    }

    /// One step: forward, loss, backward and update, as one program. Steps are counted from 0.
    ///
    /// # Errors
    /// A loss or gradient norm that is not finite; the state is untouched then.
    pub fn step(&mut self, step: u64) -> Result<Step> {
        let config = &self.config;
        let (seed, context) = (config.train.seed, config.model.context);
        let windows = Windows::new(&self.corpus.train, config.data.order, seed, context, config.train.batch)?;
        let (tokens, targets) = self.batch.u32_pair("tokens", "targets").map_err(bug)?;
        windows.batch(step, tokens, targets);
        let lr = self.schedule.rate(step);
        let (c1, c2) = self.optimizer.corrections(step + 1);
        let scalars = [("lr", lr), ("c1", c1), ("c2", c2), ("step", step as f64), ("first_row", 0.0)];
        for (name, value) in scalars {
            // A scalar that this model does not read is not one of its inputs.
            let _ = self.batch.set_scalar(name, value);
        }
        self.step.run(&mut self.state, &self.batch).map_err(|error| stopped(step, error))?;
        let output = |name: &str| self.step.scalar(name).unwrap_or(f64::NAN);
        Ok(Step { loss: output("loss"), lr, grad_norm: output("grad_norm") })
    }

    /// Mean loss over the validation part in consecutive windows, in nats a token; `None` without one.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn evaluate(&mut self) -> Result<Option<f64>> {
        if self.corpus.validation.is_empty() {
            return Ok(None);
        }
        if self.evaluation.is_none() {
            let graph = model::evaluation_graph(&self.config, self.vocab, DType::F32);
            let program = model::compile(&graph, &self.state, &self.config)?;
            let batch = program.batch();
            self.evaluation = Some((program, batch));
        }
        let Some((program, batch)) = &mut self.evaluation else { return Ok(None) };
        evaluate(program, batch, &self.state, &self.corpus.validation, self.config.model.context).map(Some)
    }

    /// What is learned.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What is learned, to be replaced from a checkpoint.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is learned from.
    pub fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    /// Number of trainable numbers.
    pub fn parameters(&self) -> usize {
        self.state.parameters()
    }

    /// Tokens that one step reads.
    pub fn tokens_a_step(&self) -> usize {
        self.config.train.batch * self.config.model.context
    }

    /// What a step costs.
    pub fn cost(&self) -> Cost {
        self.step.cost()
    }
}

/// Mean loss of `tokens` in consecutive windows, in nats a token, summed in f64 in the order of the text.
///
/// # Errors
/// Fewer tokens than one window.
pub fn evaluate(
    program: &mut Program,
    batch: &mut Batch,
    state: &State,
    tokens: &[u32],
    context: usize,
) -> Result<f64> {
    let windows = Evaluation::new(tokens, context, model::EVALUATION_ROWS)?;
    let mut weights = vec![0.0; model::EVALUATION_ROWS];
    let mut sum = 0.0;
    for i in 0..windows.batches() {
        let (inputs, targets) = batch.u32_pair("tokens", "targets").map_err(bug)?;
        let rows = windows.fill(i, inputs, targets, &mut weights);
        program.evaluate(state, batch).map_err(bug)?;
        let losses = program.f32s("losses").unwrap_or(&[]);
        sum += losses.iter().take(rows * context).map(|loss| f64::from(*loss)).sum::<f64>();
    }
    Ok(sum / (windows.windows() * context) as f64)
}

fn stopped(step: u64, error: RunError) -> Error {
    match error {
        RunError::NonFinite { name, value } => {
            Error::non_finite(format!("the {name} became {value} at step {}", step + 1))
                .hint("lower --lr, or raise --set schedule.warmup; the last good state is saved")
        }
        other => bug(other),
    }
}

fn bug(error: impl std::fmt::Display) -> Error {
    Error::failed(format!("the step could not run: {error}"))
}
