//! Optimizers: each adds its update to the graph, so that it is planned, shown and checked with the rest of the step.

use geartrain_engine::state::Entry;
use geartrain_engine::{Graph, GraphError, Var};

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

/// w -= lr · g
#[derive(Clone, Copy, Debug)]
pub struct Sgd;

/// m = momentum · m + g, w -= lr · m (Polyak, 1964; PyTorch's form)
#[derive(Clone, Copy, Debug)]
pub struct Momentum {
    /// Share of the old direction that is kept.
    pub momentum: f64,
}

/// Adam with decoupled weight decay (Kingma and Ba, 2015; Loshchilov and Hutter, 2019).
///
/// m = β1 m + (1 - β1) g, v = β2 v + (1 - β2) g², then w -= lr · decay · w, then
/// w -= (lr / c1) · m / (sqrt(v) / sqrt(c2) + eps).
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// β1, β2.
    pub betas: (f64, f64),
    /// Keeps the division finite.
    pub eps: f64,
    /// Weight decay, for entries it applies to.
    pub decay: f64,
}

impl Optimizer for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }
    fn update<'g>(&self, _: &Entry, w: Var<'g>, g: Var<'g>, rate: Rate<'g>) {
        w.graph().assign(w, w.sgd(g, rate.lr));
    }
}

impl Optimizer for Momentum {
    fn name(&self) -> &'static str {
        "momentum"
    }
    fn update<'g>(&self, entry: &Entry, w: Var<'g>, g: Var<'g>, rate: Rate<'g>) {
        let graph = w.graph();
        let m = graph.entry(Entry::moment(entry, 0, "momentum"));
        let new = m.momentum(g, self.momentum);
        graph.assign(m, new);
        graph.assign(w, w.sgd(new, rate.lr));
    }
}

impl Optimizer for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }
    fn update<'g>(&self, entry: &Entry, w: Var<'g>, g: Var<'g>, rate: Rate<'g>) {
        let graph = w.graph();
        let m = graph.entry(Entry::moment(entry, 0, "exp_avg"));
        let v = graph.entry(Entry::moment(entry, 1, "exp_avg_sq"));
        let new_m = m.ema(g, self.betas.0);
        let new_v = v.ema_square(g, self.betas.1);
        graph.assign(m, new_m);
        graph.assign(v, new_v);
        let decay = if entry.decay { self.decay } else { 0.0 };
        graph.assign(w, w.adamw(new_m, new_v, [rate.lr, rate.c1, rate.c2], self.eps, decay));
    }
    fn corrections(&self, t: u64) -> (f64, f64) {
        let one_minus = |beta: f64| 1.0 - libm::pow(beta, t as f64);
        (one_minus(self.betas.0), one_minus(self.betas.1))
    }
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
