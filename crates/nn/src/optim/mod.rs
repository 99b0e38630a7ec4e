//! Optimizers: each adds its update to the graph, so that it is planned, shown and checked with the rest of the step.
//!
//! Letters: w parameter, g gradient, lr learning rate, t step counted from 1.
//!
//! - `sgd`: [`Sgd`], [`Momentum`], [`Nesterov`]
//! - `adam`: [`AdamW`], [`Adam`]
//! - `scaled`: [`RmsProp`], [`Adagrad`]
//! - `lion`: [`Lion`]

use geartrain_engine::ir::graph::Source;
use geartrain_engine::state::Entry;
use geartrain_engine::{DType, Graph, GraphError, Var};

mod adam;
mod lion;
mod scaled;
mod sgd;

pub use adam::{Adam, AdamW};
pub use lion::Lion;
pub use scaled::{Adagrad, RmsProp};
pub use sgd::{Momentum, Nesterov, Sgd};

/// What an update reads besides the parameter and its gradient.
#[derive(Clone, Copy)]
pub struct Rate<'g> {
    /// Learning rate, an f64 scalar.
    pub lr: Var<'g>,
    /// 1 - beta1^t, an f64 scalar, for rules that correct a bias.
    pub c1: Var<'g>,
    /// 1 - beta2^t.
    pub c2: Var<'g>,
}

/// One rule of gradient descent.
pub trait Optimizer {
    /// Its name, as the listing prints it.
    fn name(&self) -> &'static str;
    /// Adds the new value of `parameter` (and of its moments) to the graph.
    fn update<'g>(&self, entry: &Entry, parameter: Var<'g>, gradient: Var<'g>, rate: Rate<'g>);
    /// The bias corrections at step `t`, counted from 1: (1 - beta1^t, 1 - beta2^t).
    fn corrections(&self, _t: u64) -> (f64, f64) {
        (1.0, 1.0)
    }
}

/// The gradient with weight decay as part of it (L2 regularisation): g + decay · w, for entries it applies to.
fn coupled<'g>(entry: &Entry, w: Var<'g>, g: Var<'g>, decay: f64) -> Var<'g> {
    if entry.decay && decay != 0.0 { g + decay * w } else { g }
}

/// A trainable parameter and its gradient.
pub struct Gradient<'g> {
    /// The parameter.
    pub parameter: Var<'g>,
    /// Its entry of the state.
    pub entry: Entry,
    /// Its gradient, of the same type.
    pub value: Var<'g>,
}

/// Adds the whole backward half of a training step: gradients of all trainable parameters, the guard on the loss and
/// the gradient norm, clipping to `clip` (0: none), and the updates. It is [`gradients`] and then [`apply`].
///
/// The learning rate `lr` is an f64 scalar. Gives back the norm of all gradients before clipping.
///
/// # Errors
/// All errors of the graph, see [`Graph::grad`].
pub fn minimize<'g>(
    g: &'g Graph,
    loss: Var<'g>,
    optimizer: &dyn Optimizer,
    lr: Var<'g>,
    clip: f64,
) -> Result<Var<'g>, GraphError> {
    let gradients = gradients(g, loss)?;
    let norm = apply(g, &gradients, optimizer, lr, clip);
    g.check()?;
    Ok(norm)
}

/// Adds the gradients of all trainable parameters, in the order of their declaration, and the guard on the loss.
///
/// # Errors
/// All errors of the graph, see [`Graph::grad`].
pub fn gradients<'g>(g: &'g Graph, loss: Var<'g>) -> Result<Vec<Gradient<'g>>, GraphError> {
    let parameters = g.parameters();
    let w: Vec<Var<'g>> = parameters.iter().map(|(var, _)| *var).collect();
    let values = g.grad(loss, &w)?;
    g.guard("loss", loss);
    let pair = |((parameter, entry), value)| Gradient { parameter, entry, value };
    Ok(parameters.into_iter().zip(values).map(pair).collect())
}

/// Adds what turns gradients into updates: their norm with its guard, clipping to `clip` (0: none), and the new values.
/// The gradients may come from this graph or be read from the state.
///
/// The learning rate `lr` is an f64 scalar. Rules that correct a bias read the batch scalars `c1` and `c2`, to be set
/// from [`Optimizer::corrections`]. Gives back the norm of all gradients before clipping.
pub fn apply<'g>(
    g: &'g Graph,
    gradients: &[Gradient<'g>],
    optimizer: &dyn Optimizer,
    lr: Var<'g>,
    clip: f64,
) -> Var<'g> {
    let norm = g.update(|| {
        let values: Vec<Var<'g>> = gradients.iter().map(|gradient| gradient.value).collect();
        let norm = norm(&values).unwrap_or(lr);
        let corrects = optimizer.corrections(1) != (1.0, 1.0);
        // What needs no correction now never does: its rates are 1, or 1 - 0^t.
        let one = || g.number(DType::F64, 1.0);
        let (c1, c2) = if corrects { (g.scalar("c1"), g.scalar("c2")) } else { (one(), one()) };
        let scale = (clip > 0.0).then(|| norm.clip_scale(clip));
        for Gradient { parameter: w, entry, value } in gradients {
            let gradient = match scale {
                Some(scale) => *value * scale.cast(w.dtype()),
                None => *value,
            };
            optimizer.update(entry, *w, gradient, Rate { lr, c1, c2 });
        }
        norm
    });
    g.guard("gradient norm", norm);
    norm
}

/// The Euclidean norm of some values taken as one vector, an f64 scalar; `None` of none.
pub fn norm<'g>(values: &[Var<'g>]) -> Option<Var<'g>> {
    values.split_first().map(|(first, others)| first.global_norm(others))
}

/// The slot of [`average`] among a parameter's moments: far above those of any optimizer.
const AVERAGE: u8 = 100;

/// What the names of averaged weights end with.
pub const AVERAGE_SUFFIX: &str = "ema";

/// Adds an exponential moving average of the weights: e = decay · e + (1 - decay) · w after each update, w being the new
/// weight (Polyak and Juditsky, 1992, with constant decay). To be called after [`apply`].
///
/// The entry is the parameter's name and `.ema`. It is to start from the initial weight w₀ itself, so no bias is there to
/// be corrected: after t steps e = decay^t · w₀ + (1 - decay) · Σ decay^(t - i) · wᵢ, whose factors sum to 1.
pub fn average<'g>(g: &'g Graph, gradients: &[Gradient<'g>], decay: f64) {
    g.update(|| {
        for Gradient { parameter, entry, .. } in gradients {
            let Source::State(i) = g.node(parameter.id()).source else { continue };
            let new = g.with(|g| g.updates.iter().find(|(entry, _)| *entry == i).map(|(_, new)| *new));
            let average = g.entry(Entry::moment(entry, AVERAGE, AVERAGE_SUFFIX));
            g.assign(average, average.ema(new.map_or(*parameter, |new| g.var(new)), decay));
        }
    });
}
