//! Layer normalisation with a learned gain and bias.

use geartrain_engine::{Init, Var};

/// y = (x - mean) / sqrt(variance + eps) * weight + bias along the last axis.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// Length of the last axis.
    pub width: usize,
    /// Whether there is a bias (zeros at first).
    pub bias: bool,
    /// Keeps the division finite.
    pub eps: f64,
}

impl LayerNorm {
    /// GPT-2's: eps 1e-5.
    pub fn new(width: usize, bias: bool) -> LayerNorm {
        LayerNorm { width, bias, eps: 1e-5 }
    }

    /// Declares `name.weight` (ones) and `name.bias` and applies them.
    #[track_caller]
    pub fn forward<'g>(&self, name: &str, x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        g.layer(name, || {
            let gain = g.parameter("weight", x.dtype(), [self.width], Init::ONES);
            let bias = self.bias.then(|| g.parameter("bias", x.dtype(), [self.width], Init::ZEROS));
            x.layer_norm(gain, bias, self.eps)
        })
    }
}
