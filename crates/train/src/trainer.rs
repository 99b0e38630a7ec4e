//! The training loop's parts: a step, an evaluation.

use std::borrow::Cow;

use geartrain_engine::run::program::Cost;
use geartrain_engine::{Batch, Program, State};

use crate::config::Config;
use crate::data::{Dataset, Part};
use crate::error::{Error, Result};
use crate::norms::Norms;
use crate::schedule::Schedule;
use crate::scores::Tally;
pub use crate::scores::{Confusion, Fit, Scores};
use crate::step::Runner;
use crate::{average, metrics, model};

/// What a training step reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Mean loss of the batch before the update.
    pub loss: f64,
    /// Learning rate of the update.
    pub lr: f64,
    /// Norm of the whole gradient before clipping.
    pub grad_norm: f64,
}

/// A model in training: its state, and the programs that work on it.
pub struct Trainer {
    config: Config,
    data: Box<dyn Dataset>,
    state: State,
    step: Runner,
    norms: Option<Norms>,
    evaluator: Option<Evaluator>,
    schedule: Schedule,
    optimizer: Box<dyn geartrain_nn::optim::Optimizer>,
}

impl Trainer {
    /// Builds the model with fresh weights.
    ///
    /// # Errors
    /// Sizes that do not fit together; a model that does not read this data; a setting that needs evaluations where
    /// nothing is kept for them.
    pub fn new(mut config: Config, data: Box<dyn Dataset>) -> Result<Trainer> {
        if let Some(what) = config.needs_evaluations()
            && data.batches(Part::Validation, 1)? == 0
        {
            return Err(Error::usage(format!("{what} needs evaluations, but nothing is kept for validation"))
                .hint("keep a part of the data with data.validation=0.1 for example"));
        }
        config.train.batch = batch_of(&config, data.most_rows())?;
        let steps = model::Steps::new(&config, &data.encoder().task())?;
        let state = steps.state(&config)?;
        let step = Runner::new(&steps, &state, &config)?;
        let norms = if config.train.norms { Some(Norms::new(&state, &config)?) } else { None };
        let schedule = Schedule::from_config(&config);
        let optimizer = model::optimizer(&config);
        Ok(Trainer { config, data, state, step, norms, evaluator: None, schedule, optimizer })
    }

    /// One step: forward, loss, backward and update, as one program or in shards. Steps are counted from 0.
    ///
    /// # Errors
    /// A loss or gradient norm that is not finite; the weights and moments are untouched then.
    pub fn step(&mut self, step: u64) -> Result<Step> {
        let lr = self.schedule.rate(step);
        let (c1, c2) = self.optimizer.corrections(step + 1);
        let scalars = [("lr", lr), ("c1", c1), ("c2", c2), ("step", step as f64)];
        let loss = self.step.run(&mut self.state, &*self.data, step, &scalars)?;
        Ok(Step { loss, lr, grad_norm: self.step.output("grad_norm") })
    }

    /// As [`Trainer::step`], with the norms of each layer where `train.norms` asks for them: the same step to the bit.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_and_norms(&mut self, step: u64) -> Result<(Step, Option<metrics::ByLayer>)> {
        if let Some(norms) = &mut self.norms {
            norms.before(&mut self.state).map_err(Error::bug)?;
        }
        let told = self.step(step)?;
        let runner = &self.step;
        let norms = self.norms.as_mut().map(|norms| norms.after(&self.state, |output| runner.output(output)));
        Ok((told, norms.transpose().map_err(Error::bug)?))
    }

    /// How well the model does on the validation part; `None` without one.
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn evaluate(&mut self) -> Result<Option<Scores>> {
        if self.data.batches(Part::Validation, 1)? == 0 {
            return Ok(None);
        }
        let weights = average::weights(&self.state)?;
        let evaluator = match &mut self.evaluator {
            Some(evaluator) => evaluator,
            None => self.evaluator.insert(Evaluator::new(&self.config, &self.data.encoder().task(), &weights)?),
        };
        evaluator.run(&weights, &*self.data, Part::Validation).map(Some)
    }

    /// The weights that the model answers with: the averaged ones with `train.ema`, else those of [`Trainer::state`].
    ///
    /// # Errors
    /// Too little memory.
    pub fn weights(&self) -> Result<Cow<'_, State>> {
        average::weights(&self.state)
    }

    /// How the learning rate changes.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// How the learning rate changes, to be told of evaluations.
    pub fn schedule_mut(&mut self) -> &mut Schedule {
        &mut self.schedule
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
    pub fn data(&self) -> &dyn Dataset {
        &*self.data
    }

    /// Number of trainable numbers.
    pub fn parameters(&self) -> usize {
        self.state.parameters()
    }

    /// What one step reads: how many of what.
    pub fn reads(&self) -> (usize, &'static str) {
        let (n, what) = self.data.a_row();
        (n * self.config.train.batch, what)
    }

    /// What a step costs.
    pub fn cost(&self) -> Cost {
        self.step.cost()
    }
}

/// The program that measures a model.
pub struct Evaluator {
    program: Program,
    batch: Batch,
    rows: usize,
    task: model::Task,
}

impl Evaluator {
    /// Compiles it for a state.
    ///
    /// # Errors
    /// A model that does not fit the task or the state.
    pub fn new(config: &Config, task: &model::Task, state: &State) -> Result<Evaluator> {
        let program = model::compile(&model::evaluation_graph(config, task)?, state, config)?;
        let batch = program.batch();
        Ok(Evaluator { program, batch, rows: model::evaluation_rows(config), task: task.clone() })
    }

    /// Measures a part of the data, summing in f64 in its order.
    ///
    /// # Errors
    /// A part that is too small to be read.
    pub fn run(&mut self, state: &State, data: &dyn Dataset, part: Part) -> Result<Scores> {
        let (mut sum, mut predictions, mut tally) = (0.0, 0, Tally::of(&self.task));
        for i in 0..data.batches(part, self.rows)? {
            let real = data.fill_part(part, self.rows, i, &mut self.batch)?;
            self.program.evaluate(state, &self.batch).map_err(Error::bug)?;
            let losses = self.program.f32s("losses").unwrap_or(&[]);
            sum += losses.iter().take(real).map(|loss| f64::from(*loss)).sum::<f64>();
            predictions += real;
            if let (Some(tally), Some(answers)) = (&mut tally, self.program.f32s("answers")) {
                tally.add_batch(&mut self.batch, answers, real)?;
            }
        }
        Ok(Scores { loss: sum / predictions as f64, fit: tally.map(Tally::fit) })
    }
}

/// The batch that the configuration asks for, or as many of its shards as there are rows for.
fn batch_of(config: &Config, rows: usize) -> Result<usize> {
    let (batch, shards) = (config.train.batch, config.train.grad_shards.max(1));
    match rows / shards * shards {
        _ if batch <= rows => Ok(batch),
        0 => Err(Error::usage(format!(
            "train.grad_shards must be at most {rows}, the number of rows to train on, got {shards}"
        ))),
        most => Ok(most),
    }
}
