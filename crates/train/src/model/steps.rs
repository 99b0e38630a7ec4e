//! The graphs of a training step: one that does it all, or some that share it where a batch is computed in shards.
//!
//! With `train.grad_shards = n`, one graph computes the gradient of a shard, small ones add it to those before, and one
//! turns the sum into the update. The sum is a fixed binary tree, as of a counter: after shard i (from 0), the
//! gradient is added to as many waiting sums as i ends in ones in binary, the newest first, and waits where the next
//! digit stands. So n gradients need log2 n + 1 places, and nothing depends on where a shard was computed:
//!
//! ```text
//! shard 0   sum.0 = g
//! shard 1   sum.1 = sum.0 + g
//! shard 2   sum.0 = g
//! shard 3   update with (sum.1 + (sum.0 + g)) / 4
//! ```

use geartrain_engine::{Entry, Graph, State, Var};
use geartrain_nn::Dropout;
use geartrain_nn::optim::{self, Gradient};

use super::{Task, forward, model_error, optimizer};
use crate::config::{Config, Decay};
use crate::error::Result;
use crate::{average, norms};

/// The graphs of one training step.
pub struct Steps {
    /// The whole step (see [`training_graph`]); or, where a batch is computed in shards, forward, loss and backward for
    /// one: it reads the inputs of the task and the scalars of dropout, gives `loss`, and writes the gradient to the state.
    pub first: Graph,
    /// What follows a shard.
    pub sharing: Option<Sharing>,
}

/// The graphs that bring the gradients of shards together.
pub struct Sharing {
    /// `sums[k]` adds the gradient to `k` waiting sums and puts the result behind them.
    pub sums: Vec<Graph>,
    /// Adds the last gradient to all waiting sums, and updates: reads the scalars of the optimizer, gives `grad_norm`.
    pub update: Graph,
}

impl Steps {
    /// The graphs that a configuration asks for.
    ///
    /// # Errors
    /// A model that cannot be built, or that does not read what the task has.
    pub fn new(config: &Config, task: &Task) -> Result<Steps> {
        if config.train.grad_shards <= 1 {
            return Ok(Steps { first: training_graph(config, task)?, sharing: None });
        }
        let first = gradient_graph(config, task)?;
        let levels = config.train.grad_shards.ilog2() as usize;
        let sums = (0..levels).map(|k| sum_graph(&first, k)).collect();
        let update = update_graph(config, &first, levels)?;
        Ok(Steps { first, sharing: Some(Sharing { sums, update }) })
    }

    /// The state of a run that has not begun: all that any of the graphs reads or writes.
    ///
    /// # Errors
    /// More bytes than this machine has.
    pub fn state(&self, config: &Config) -> Result<State> {
        let graph = self.sharing.as_ref().map_or(&self.first, |sharing| &sharing.update);
        if config.train.norms {
            norms::declare(graph);
        }
        let mut state = State::new(graph, config.train.seed).map_err(model_error)?;
        average::start(&mut state)?;
        Ok(state)
    }
}

/// One whole training step: forward, loss, backward, clipping and updates.
///
/// Inputs: those of the task; scalars `lr`, and those that the optimizer and dropout read. Outputs: `loss`,
/// `grad_norm`, and with `train.norms` those of [`norms`].
///
/// # Errors
/// A model that cannot be built, or that does not read what the task has.
pub fn training_graph(config: &Config, task: &Task) -> Result<Graph> {
    let g = Graph::new();
    update(&g, config, &gradients(&g, config, task, config.train.batch)?)?;
    Ok(g)
}

/// Forward, loss and backward over some rows of a batch.
fn gradients<'g>(g: &'g Graph, config: &Config, task: &Task, rows: usize) -> Result<Vec<Gradient<'g>>> {
    let dropout = Dropout::training(g, config.model.dropout, config.train.seed);
    let forward = forward(g, config, task, rows, &dropout)?;
    let losses = forward.weights.map_or(forward.losses, |weights| forward.losses * weights);
    let loss = losses.mean_all().named("loss");
    if config.optimizer.decay == Decay::All {
        g.decay_all();
    }
    g.output("loss", loss);
    optim::gradients(g, loss).map_err(model_error)
}

/// What turns gradients into new weights.
fn update<'g>(g: &'g Graph, config: &Config, gradients: &[Gradient<'g>]) -> Result<()> {
    let norm = optim::apply(g, gradients, optimizer(config).as_ref(), g.scalar("lr"), config.optimizer.clip);
    g.output("grad_norm", norm);
    if config.train.ema > 0.0 {
        optim::average(g, gradients, config.train.ema);
    }
    if config.train.norms {
        norms::of_gradients(g, gradients);
    }
    g.check().map_err(model_error)
}

/// The slot of a shard's gradient among the moments of its parameter; sums that wait have the next ones.
const GRADIENT: u8 = 110;

/// The gradient of the newest shard, or the sum that waits at a level.
fn place<'g>(g: &'g Graph, entry: &Entry, level: Option<usize>) -> Var<'g> {
    let (slot, suffix) = match level {
        None => (GRADIENT, "grad".to_string()),
        Some(level) => (GRADIENT + 1 + level as u8, format!("grad_sum.{level}")),
    };
    g.entry(Entry { saved: false, ..Entry::moment(entry, slot, &suffix) })
}

fn gradient_graph(config: &Config, task: &Task) -> Result<Graph> {
    let g = Graph::new();
    for Gradient { entry, value, .. } in gradients(&g, config, task, config.train.batch / config.train.grad_shards)? {
        g.assign(place(&g, &entry, None), value);
    }
    g.check().map_err(model_error)?;
    Ok(g)
}

/// The newest gradient added to the sums of the levels below `levels`, the lowest first.
fn summed<'g>(g: &'g Graph, entry: &Entry, levels: usize) -> Var<'g> {
    (0..levels).fold(place(g, entry, None), |sum, level| place(g, entry, Some(level)) + sum)
}

fn sum_graph(gradient: &Graph, levels: usize) -> Graph {
    let g = Graph::new();
    for (_, entry) in gradient.parameters() {
        let sum = summed(&g, &entry, levels);
        g.assign(place(&g, &entry, Some(levels)), sum);
    }
    g
}

fn update_graph(config: &Config, gradient: &Graph, levels: usize) -> Result<Graph> {
    let g = Graph::new();
    for entry in gradient.with(|inner| inner.entries.clone()) {
        g.entry(entry);
    }
    // A power of two: the division rounds nothing.
    let share = 1.0 / config.train.grad_shards as f64;
    {
        let mut gradients = Vec::new();
        for (parameter, entry) in g.parameters() {
            let value = summed(&g, &entry, levels) * share;
            gradients.push(Gradient { parameter, entry, value });
        }
        update(&g, config, &gradients)?;
    }
    Ok(g)
}
