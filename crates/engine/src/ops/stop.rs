//! A value that counts as a constant for derivatives.

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attrs, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Rearrange, Vjp};
use crate::ir::types::{Shape, Type};

/// y = x, through which no gradient flows.
#[derive(Clone, Copy, Debug)]
pub struct StopGradient;

impl Op for StopGradient {
    fn name(&self) -> &'static str {
        "stop_gradient"
    }
    fn kind(&self) -> Kind {
        Kind::Move
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        match x {
            [x] => Ok(*x),
            _ => Err(Rule::new(format!("wants 1 input, got {}", x.len()))),
        }
    }
    fn kernel(&self, x: &[Type]) -> Kernel {
        // The view that x is already.
        Kernel::View(Rearrange::Broadcast(x[0].shape))
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, _: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![Cotangent::Held]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        x[0].values.clone()
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        vec![0.0; y.values.len()]
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Passes a value on and its gradient not: what comes before is taken as constant here.",
            formula: "y = x",
            derivative: "d_x = 0, because it was asked for, not because y stays as it is",
            kinks: "",
            cost: "none",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let shapes: [Shape; 5] = [Shape::SCALAR, [0].into(), [65].into(), [3, 5].into(), [2, 1, 7].into()];
        shapes.into_iter().map(|s| Case::new(StopGradient, vec![(s, Domain::Between(-3.0, 3.0))])).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("stop_gradient", x)
    }
}

impl<'g> Var<'g> {
    /// This value as a constant: no gradient flows through it.
    #[track_caller]
    pub fn stop_gradient(self) -> Var<'g> {
        self.graph().apply(StopGradient, &[self])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::tests::{gradient, text};
    use crate::{DType, Graph, Init};

    #[test]
    fn the_gradient_takes_the_other_ways_alone() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F64, [3], Init::ZEROS);
        let y = (x.stop_gradient() * x).named("y");
        assert_eq!(text(y), "stop_gradient(x) * x");
        assert_eq!(text(gradient(y, x)), "d_y * stop_gradient(x)");
        let nothing = g.grad(x.stop_gradient().sum_all(), &[x]).unwrap_err().to_string();
        assert!(nothing.contains("no gradient reaches `x`"), "{nothing}");
    }
}
