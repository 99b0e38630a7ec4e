//! Adam, with its weight decay apart from the gradient or part of it.

use geartrain_engine::Var;
use geartrain_engine::state::Entry;

use super::{Optimizer, Rate, coupled};

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

/// Adam with weight decay as part of the gradient (Kingma and Ba, 2015; PyTorch's form).
///
/// g += decay · w, m = β1 m + (1 - β1) g, v = β2 v + (1 - β2) g², then w -= (lr / c1) · m / (sqrt(v) / sqrt(c2) + eps).
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// β1, β2.
    pub betas: (f64, f64),
    /// Keeps the division finite.
    pub eps: f64,
    /// Weight decay as part of the gradient, for entries it applies to.
    pub decay: f64,
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

impl Optimizer for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }
    fn update<'g>(&self, entry: &Entry, w: Var<'g>, g: Var<'g>, rate: Rate<'g>) {
        // Its gradient has the decay; the rest is AdamW without.
        let rest = AdamW { betas: self.betas, eps: self.eps, decay: 0.0 };
        rest.update(entry, w, coupled(entry, w, g, self.decay), rate);
    }
    fn corrections(&self, t: u64) -> (f64, f64) {
        AdamW { betas: self.betas, eps: self.eps, decay: 0.0 }.corrections(t)
    }
}
