//! Steps divided by the size of earlier gradients.

use geartrain_engine::Var;
use geartrain_engine::state::Entry;

use super::{Optimizer, Rate, coupled};

/// Steps divided by the root of a moving mean of squares (Tieleman and Hinton, 2012; PyTorch's form).
///
/// g += decay · w, v = alpha · v + (1 - alpha) g², w -= lr · g / (sqrt(v) + eps).
#[derive(Clone, Copy, Debug)]
pub struct RmsProp {
    /// Share of the old mean that is kept. PyTorch's is 0.99.
    pub alpha: f64,
    /// Keeps the division finite. PyTorch's is 1e-8.
    pub eps: f64,
    /// Weight decay as part of the gradient, for entries it applies to.
    pub decay: f64,
}

/// Steps divided by the root of the sum of all squares so far (Duchi, Hazan and Singer, 2011; PyTorch's form).
///
/// g += decay · w, v += g², w -= lr · g / (sqrt(v) + eps).
#[derive(Clone, Copy, Debug)]
pub struct Adagrad {
    /// Keeps the division finite. PyTorch's is 1e-10.
    pub eps: f64,
    /// Weight decay as part of the gradient, for entries it applies to.
    pub decay: f64,
}

impl Optimizer for RmsProp {
    fn name(&self) -> &'static str {
        "rmsprop"
    }
    fn update<'g>(&self, entry: &Entry, w: Var<'g>, g: Var<'g>, rate: Rate<'g>) {
        let g = coupled(entry, w, g, self.decay);
        let v = w.graph().entry(Entry::moment(entry, 0, "square_avg"));
        step([w, v], g, v.ema_square(g, self.alpha), rate, self.eps);
    }
}

impl Optimizer for Adagrad {
    fn name(&self) -> &'static str {
        "adagrad"
    }
    fn update<'g>(&self, entry: &Entry, w: Var<'g>, g: Var<'g>, rate: Rate<'g>) {
        let g = coupled(entry, w, g, self.decay);
        let v = w.graph().entry(Entry::moment(entry, 0, "sum"));
        step([w, v], g, v + g * g, rate, self.eps);
    }
}

/// The new `v`, and w - lr · g / (sqrt(v) + eps).
fn step<'g>([w, v]: [Var<'g>; 2], g: Var<'g>, new: Var<'g>, rate: Rate<'g>, eps: f64) {
    let graph = w.graph();
    graph.assign(v, new);
    graph.assign(w, w.sgd(g / (new.sqrt() + eps), rate.lr));
}
