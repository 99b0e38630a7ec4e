//! Lion.

use geartrain_engine::Var;
use geartrain_engine::state::Entry;

use super::{Optimizer, Rate};

/// Steps of one size along the sign of a moving mean, with decoupled weight decay (Chen et al., 2023, "Symbolic discovery
/// of optimization algorithms"). Its learning rate is a few times smaller than Adam's, its decay as much larger.
///
/// u = sign(β1 m + (1 - β1) g), w = w · (1 - lr · decay) - lr · u, then m = β2 m + (1 - β2) g.
#[derive(Clone, Copy, Debug)]
pub struct Lion {
    /// β1, β2. The authors' are 0.9 and 0.99.
    pub betas: (f64, f64),
    /// Weight decay, for entries it applies to.
    pub decay: f64,
}

impl Optimizer for Lion {
    fn name(&self) -> &'static str {
        "lion"
    }
    fn update<'g>(&self, entry: &Entry, w: Var<'g>, g: Var<'g>, rate: Rate<'g>) {
        let graph = w.graph();
        let m = graph.entry(Entry::moment(entry, 0, "exp_avg"));
        let direction = m.ema(g, self.betas.0).sign();
        let kept = match entry.decay && self.decay != 0.0 {
            true => w * (1.0 - rate.lr.cast(w.dtype()) * self.decay),
            false => w,
        };
        graph.assign(m, m.ema(g, self.betas.1));
        graph.assign(w, kept.sgd(direction, rate.lr));
    }
}
