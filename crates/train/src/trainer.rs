//! The training loop's parts: a step, an evaluation.

use geartrain_engine::run::program::Cost;
use geartrain_engine::{Batch, Program, RunError, State};

use crate::config::Config;
use crate::data::{Dataset, Part};
use crate::error::{Error, Result};
use crate::model;
use crate::schedule::Schedule;
use crate::scores::Tally;
pub use crate::scores::{Confusion, Fit, Scores};

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
    step: Program,
    batch: Batch,
    evaluator: Option<Evaluator>,
    schedule: Schedule,
    optimizer: Box<dyn geartrain_nn::optim::Optimizer>,
}

impl Trainer {
    /// Builds the model with fresh weights.
    ///
    /// # Errors
    /// Sizes that do not fit together; a model that does not read this data.
    pub fn new(mut config: Config, data: Box<dyn Dataset>) -> Result<Trainer> {
        config.train.batch = config.train.batch.min(data.most_rows()).max(1);
        let graph = model::training_graph(&config, &data.encoder().task())?;
        let state = State::new(&graph, config.train.seed).map_err(model::model_error)?;
        let step = model::compile(&graph, &state, &config)?;
        let batch = step.batch();
        let schedule = Schedule::from_config(&config);
        let optimizer = model::optimizer(&config);
        Ok(Trainer { config, data, state, step, batch, evaluator: None, schedule, optimizer })
    }

    /// One step: forward, loss, backward and update, as one program. Steps are counted from 0.
    ///
    /// # Errors
    /// A loss or gradient norm that is not finite; the state is untouched then.
    pub fn step(&mut self, step: u64) -> Result<Step> {
        self.data.fill(step, 0, &mut self.batch)?;
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

    /// How well the model does on the validation part; `None` without one.
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn evaluate(&mut self) -> Result<Option<Scores>> {
        if self.data.batches(Part::Validation, 1)? == 0 {
            return Ok(None);
        }
        let evaluator = match &mut self.evaluator {
            Some(evaluator) => evaluator,
            None => self.evaluator.insert(Evaluator::new(&self.config, &self.data.encoder().task(), &self.state)?),
        };
        evaluator.run(&self.state, &*self.data, Part::Validation).map(Some)
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

fn stopped(step: u64, error: RunError) -> Error {
    match error {
        RunError::NonFinite { name, value } => {
            Error::non_finite(format!("the {name} became {value} at step {}", step + 1))
                .hint("lower --lr, or raise --set schedule.warmup; the last good state is saved")
        }
        other => Error::bug(other),
    }
}
