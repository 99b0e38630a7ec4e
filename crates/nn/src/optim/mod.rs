//! Optimizers: each adds its update to the graph, so that it is planned, shown and checked with the rest of the step.
//!
//! Letters: w parameter, g gradient, lr learning rate, t step counted from 1.
//!
//! - `sgd`: [`Sgd`], [`Momentum`], [`Nesterov`]
//! - `adam`: [`AdamW`], [`Adam`]
//! - `scaled`: [`RmsProp`], [`Adagrad`]
//! - `lion`: [`Lion`]

use geartrain_engine::state::Entry;
use geartrain_engine::{Graph, GraphError, Var};

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

/// Adds the whole backward half of a training step: gradients of all trainable parameters, the guard on the loss and
/// the gradient norm, clipping to `clip` (0: none), and the updates.
///
/// The learning rate `lr` is an f64 scalar. Rules that correct a bias read the batch scalars `c1` and `c2`, to be set
/// from [`Optimizer::corrections`]. Gives back the norm of all gradients before clipping.
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
    let parameters = g.parameters();
    let w: Vec<Var<'g>> = parameters.iter().map(|(var, _)| *var).collect();
    let gradients = g.grad(loss, &w)?;
    let norm = g.update(|| {
        let norm = match gradients.split_first() {
            Some((first, others)) => first.global_norm(others),
            None => lr,
        };
        let corrects = optimizer.corrections(1) != (1.0, 1.0);
        let (c1, c2) = if corrects { (g.scalar("c1"), g.scalar("c2")) } else { (lr, lr) };
        let scale = (clip > 0.0).then(|| norm.clip_scale(clip));
        for ((w, entry), gradient) in parameters.iter().zip(&gradients) {
            let gradient = match scale {
                Some(scale) => *gradient * scale.cast(w.dtype()),
                None => *gradient,
            };
            optimizer.update(entry, *w, gradient, Rate { lr, c1, c2 });
        }
        norm
    });
    g.guard("loss", loss);
    g.guard("gradient norm", norm);
    g.check()?;
    Ok(norm)
}
