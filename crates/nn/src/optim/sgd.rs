//! Gradient descent, plain and with momentum.

use geartrain_engine::Var;
use geartrain_engine::state::Entry;

use super::{Optimizer, Rate, coupled};

/// w -= lr · g
#[derive(Clone, Copy, Debug)]
pub struct Sgd;

/// m = momentum · m + g, w -= lr · m (Polyak, 1964; PyTorch's form)
#[derive(Clone, Copy, Debug)]
pub struct Momentum {
    /// Share of the old direction that is kept.
    pub momentum: f64,
}

/// Momentum that looks ahead (Nesterov, 1983; Sutskever et al., 2013; PyTorch's form).
///
/// g += decay · w, m = momentum · m + g, w -= lr · (g + momentum · m).
#[derive(Clone, Copy, Debug)]
pub struct Nesterov {
    /// Share of the old direction that is kept.
    pub momentum: f64,
    /// Weight decay as part of the gradient, for entries it applies to.
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

impl Optimizer for Nesterov {
    fn name(&self) -> &'static str {
        "nesterov"
    }
    fn update<'g>(&self, entry: &Entry, w: Var<'g>, g: Var<'g>, rate: Rate<'g>) {
        let graph = w.graph();
        let g = coupled(entry, w, g, self.decay);
        let m = graph.entry(Entry::moment(entry, 0, "momentum"));
        let new = m.momentum(g, self.momentum);
        graph.assign(m, new);
        graph.assign(w, w.sgd(new.momentum(g, self.momentum), rate.lr));
    }
}
