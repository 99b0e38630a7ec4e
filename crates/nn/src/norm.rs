//! Layer normalisation and RMS normalisation, with learned gains.

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

/// y = x / sqrt(mean(x²) + eps) * weight along the last axis (Zhang and Sennrich, 2019).
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// Length of the last axis.
    pub width: usize,
    /// Keeps the division finite.
    pub eps: f64,
}

impl RmsNorm {
    /// Llama's: eps 1e-5.
    pub fn new(width: usize) -> RmsNorm {
        RmsNorm { width, eps: 1e-5 }
    }

    /// y, of the shape of x (.., width). Declares `name.weight` (ones) and applies it.
    #[track_caller]
    pub fn forward<'g>(&self, name: &str, x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        g.layer(name, || {
            let gain = g.parameter("weight", x.dtype(), [self.width], Init::ONES);
            x.rms_norm(gain, self.eps)
        })
    }
}
