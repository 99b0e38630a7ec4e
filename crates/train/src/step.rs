//! A training step as programs: one, or some that share it in shards.

use geartrain_engine::run::program::Cost;
use geartrain_engine::{Batch, Program, RunError, State};

use crate::config::Config;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::model::{Sharing, Steps, compile};

#[cfg(test)]
mod tests;

/// A program with what it reads.
struct Part {
    program: Program,
    batch: Batch,
}

impl Part {
    fn new(program: Program) -> Part {
        Part { batch: program.batch(), program }
    }

    fn set(&mut self, scalars: &[(&str, f64)]) {
        for (name, value) in scalars {
            // A scalar that this program does not read is not one of its inputs. Asked first: an error is allocated.
            if self.batch.inputs().any(|(input, _)| input == *name) {
                let _ = self.batch.set_scalar(name, *value);
            }
        }
    }

    fn run(&mut self, state: &mut State) -> std::result::Result<(), RunError> {
        self.program.run(state, &self.batch)
    }
}

/// The compiled [`Steps`], run in their order. Running allocates nothing.
pub(crate) struct Runner {
    /// The whole step, or the gradient of a shard.
    first: Part,
    /// Additions of gradients, and the update, where there are shards.
    shared: Option<(Vec<Part>, Part)>,
    shards: usize,
    rows: usize,
}

impl Runner {
    pub(crate) fn new(steps: &Steps, state: &State, config: &Config) -> Result<Runner> {
        let part = |graph| compile(graph, state, config).map(Part::new);
        let shared = match &steps.sharing {
            None => None,
            Some(Sharing { sums, update }) => Some((sums.iter().map(part).collect::<Result<_>>()?, part(update)?)),
        };
        let shards = config.train.grad_shards;
        Ok(Runner { first: part(&steps.first)?, shared, shards, rows: config.train.batch / shards })
    }

    /// Runs a step (from 0) and gives its loss, the mean of the shards'.
    pub(crate) fn run(
        &mut self,
        state: &mut State,
        data: &dyn Dataset,
        step: u64,
        scalars: &[(&str, f64)],
    ) -> Result<f64> {
        let mut loss = 0.0;
        for shard in 0..self.shards {
            let first_row = shard * self.rows;
            data.fill(step, first_row, &mut self.first.batch)?;
            self.first.set(scalars);
            self.first.set(&[("first_row", first_row as f64)]);
            let done = self.first.run(state).and_then(|()| self.share(state, shard, scalars));
            done.map_err(|error| stopped(step, error))?;
            loss += self.first.program.scalar("loss").unwrap_or(f64::NAN);
        }
        Ok(loss / self.shards as f64)
    }

    /// What follows the gradient of a shard.
    fn share(&mut self, state: &mut State, shard: usize, scalars: &[(&str, f64)]) -> std::result::Result<(), RunError> {
        let Some((sums, update)) = &mut self.shared else { return Ok(()) };
        match sums.get_mut(shard.trailing_ones() as usize) {
            Some(sum) => sum.run(state),
            // As many ones as there are digits: the last shard.
            None => {
                update.set(scalars);
                update.run(state)
            }
        }
    }

    /// A scalar output of the last step but for its loss.
    pub(crate) fn output(&self, name: &str) -> f64 {
        let last = self.shared.as_ref().map_or(&self.first, |(_, update)| update);
        last.program.scalar(name).unwrap_or(f64::NAN)
    }

    /// What a step costs; every program has an arena of its own.
    pub(crate) fn cost(&self) -> Cost {
        let mut cost = self.first.program.cost();
        let Some((sums, update)) = &self.shared else { return cost };
        (cost.calls, cost.flops) = (cost.calls * self.shards, cost.flops * self.shards as u64);
        let times = |k: usize| self.shards >> (k + 1);
        let parts = sums.iter().enumerate().map(|(k, sum)| (times(k), sum)).chain([(1, update)]);
        for (times, part) in parts {
            let own = part.program.cost();
            (cost.calls, cost.flops) = (cost.calls + times * own.calls, cost.flops + times as u64 * own.flops);
            cost.arena_bytes += own.arena_bytes;
            cost.live_bytes = cost.live_bytes.max(own.live_bytes);
        }
        cost
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
