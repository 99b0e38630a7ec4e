//! y = x W + b.

use geartrain_engine::{Init, Shape, Var};

/// y (N, outputs) = x (N, inputs) @ weight (inputs, outputs) + bias (outputs).
#[derive(Clone, Debug)]
pub struct Linear {
    /// Columns of x.
    pub inputs: usize,
    /// Columns of y.
    pub outputs: usize,
    /// Whether there is a bias (zeros at first).
    pub bias: bool,
    /// Initial weights.
    pub init: Init,
}

impl Linear {
    /// Declares `name.weight` and `name.bias` and applies them.
    #[track_caller]
    pub fn forward<'g>(&self, name: &str, x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        g.layer(name, || {
            let shape: Shape = [self.inputs, self.outputs].into();
            let y = x.matmul(g.parameter("weight", x.dtype(), shape, self.init.clone()));
            match self.bias {
                true => y + g.parameter("bias", x.dtype(), [self.outputs], Init::ZEROS),
                false => y,
            }
        })
    }
}
