//! Fully connected networks.

use geartrain_engine::{Init, Var};

use crate::linear::Linear;

/// A function between layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x Φ(x), exactly
    #[default]
    Gelu,
    /// x Φ(x) by the tanh formula, as in GPT-2's published weights
    GeluTanh,
    /// max(x, 0)
    Relu,
    /// x / (1 + e^-x)
    Silu,
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// tanh x
    Tanh,
    /// ln(1 + e^x)
    Softplus,
    /// x where x > 0, else 0.01 x
    LeakyRelu,
    /// x where x > 0, else e^x - 1
    Elu,
}

/// Slope of [`Activation::LeakyRelu`] below 0, as PyTorch has it.
const LEAK: f64 = 0.01;

impl Activation {
    /// All of them.
    pub const ALL: [Activation; 9] = [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Relu,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Softplus,
        Activation::LeakyRelu,
        Activation::Elu,
    ];
    /// Their names, in the same order.
    pub const NAMES: [&str; 9] =
        ["gelu", "gelu_tanh", "relu", "silu", "sigmoid", "tanh", "softplus", "leaky_relu", "elu"];

    /// Its name, as in a configuration.
    pub fn name(self) -> &'static str {
        Activation::NAMES[self as usize]
    }

    /// Applies it.
    #[track_caller]
    pub fn forward<'g>(self, x: Var<'g>) -> Var<'g> {
        match self {
            Activation::Sigmoid => x.sigmoid(),
            Activation::Tanh => x.tanh(),
            Activation::Relu => x.relu(),
            Activation::Gelu => x.gelu(),
            Activation::GeluTanh => x.gelu_tanh(),
            Activation::Silu => x.silu(),
            Activation::Softplus => x.softplus(),
            Activation::LeakyRelu => x.leaky_relu(LEAK),
            Activation::Elu => x.elu(1.0),
        }
    }
}

/// Linear layers with an activation between them: `layers.0`, `layers.1`, ...
#[derive(Clone, Debug)]
pub struct Mlp {
    /// Columns of the input, of each hidden layer, and of the output.
    pub sizes: Vec<usize>,
    /// Between the layers, not after the last.
    pub activation: Activation,
    /// Whether layers have biases.
    pub bias: bool,
}

impl Mlp {
    /// y (N, outputs) from x (N, inputs). Kaiming normal weights.
    #[track_caller]
    pub fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let last = self.sizes.len().saturating_sub(2);
        let layer = |x: Var<'g>, (i, pair): (usize, &[usize])| {
            let init: Init = crate::init::kaiming_normal(pair[0]);
            let layer = Linear { inputs: pair[0], outputs: pair[1], bias: self.bias, init };
            let y = layer.forward(&format!("layers.{i}"), x);
            if i == last { y } else { self.activation.forward(y) }
        };
        self.sizes.windows(2).enumerate().fold(x, layer)
    }
}
