//! Running sums.

use geartrain_kernels::Routine;

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attr, Attrs, Binding, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{Shape, Type};
use crate::ops::pointwise::tiny;

/// y\[i\] = x\[0\] + .. + x\[i\] along an axis, added in this order; in reverse y\[i\] = x\[n - 1\] + .. + x\[i\].
#[derive(Clone, Copy, Debug)]
pub struct CumSum {
    /// Which axis.
    pub axis: usize,
    /// Whether it begins at the end.
    pub reverse: bool,
}

impl CumSum {
    pub(crate) const EXAMPLE: CumSum = CumSum { axis: 0, reverse: false };

    /// Running sums of `f` of the elements.
    fn sums(&self, x: &Array, f: impl Fn(f64) -> f64) -> Vec<f64> {
        let dims = x.shape.dims();
        let below: usize = dims[self.axis + 1..].iter().product();
        let place = |i: usize| i / below % dims[self.axis];
        // All elements of the line of element `i` that are not behind it.
        let term = |i: usize, k: usize| x.values[i - place(i) * below + k * below];
        let sum = |i: usize| match self.reverse {
            true => (place(i)..dims[self.axis]).map(|k| f(term(i, k))).sum(),
            false => (0..=place(i)).map(|k| f(term(i, k))).sum(),
        };
        (0..x.values.len()).map(sum).collect()
    }
}

impl Op for CumSum {
    fn name(&self) -> &'static str {
        "cumsum"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        vec![("axis", Attr::Int(self.axis as u64)), ("reverse", Attr::Int(u64::from(self.reverse)))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [x] = x else { return Err(Rule::new(format!("wants 1 input, got {}", x.len()))) };
        if !x.dtype.is_float() {
            return Err(Rule::new("wants floats").hint("cast it first"));
        }
        match self.axis < x.shape.rank() {
            true => Ok(*x),
            false => Err(Rule::new(format!("axis {} of a value with {} axes", self.axis, x.shape.rank()))),
        }
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::CumSum { axis: self.axis, reverse: self.reverse })
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let back = CumSum { axis: self.axis, reverse: !self.reverse };
        vec![r.flows(0, || r.y.graph().apply(back, &[r.ct]))]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        self.sums(&x[0], |v| v)
    }
    fn bound(&self, x: &[Array], _: &Array, eps: f64) -> Vec<f64> {
        let terms = x[0].shape.dims()[self.axis] as f64;
        self.sums(&x[0], f64::abs).into_iter().map(|s| s * terms * eps + tiny(eps)).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Adds up the elements along an axis and keeps every sum on the way.",
            formula: "y[i] = x[0] + .. + x[i]",
            derivative: "d_x[i] = d_y[i] + .. + d_y[n - 1]: the running sum from the other end",
            kinks: "",
            cost: "1 FLOP an element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |axis, reverse, shape: Shape| {
            Case::new(CumSum { axis, reverse }, vec![(shape, Domain::Between(-3.0, 3.0))])
        };
        vec![
            case(0, false, [1].into()),
            case(0, false, [7].into()),
            case(0, true, [65].into()),
            case(1, false, [3, 256].into()),
            case(0, false, [63, 64].into()),
            case(1, true, [2, 5, 3].into()),
            case(0, false, [521].into()),
            case(1, false, [3, 0].into()),
            case(0, true, [0, 3].into()),
        ]
    }
    fn print(&self, x: &[Expr], types: &[Type]) -> Expr {
        let sums = format!("{}.cumsum(axis={})", self.flipped(&x[0].within(Binding::Atom, false)), self.axis);
        let _ = types;
        Expr::atom(self.flipped(&sums))
    }
    fn flops(&self, x: &[Type]) -> Option<u64> {
        x.first().map(|x| x.shape.count() as u64)
    }
}

impl CumSum {
    /// The text of a value with its axis turned around, if the sum begins at the end.
    fn flipped(&self, x: &str) -> String {
        let axes = [vec![":"; self.axis], vec!["::-1"]].concat().join(", ");
        if self.reverse { format!("{x}[{axes}]") } else { x.to_string() }
    }
}

impl<'g> Var<'g> {
    /// Running sums along an axis, each of all elements up to its own, added one by one.
    #[track_caller]
    pub fn cumsum(self, axis: usize) -> Var<'g> {
        self.graph().apply(CumSum { axis, reverse: false }, &[self])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{error, gradient, text};
    use crate::{DType, Graph, Init};

    #[test]
    fn the_gradient_runs_the_other_way() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F32, [2, 3], Init::ZEROS);
        let y = x.cumsum(1).named("y");
        assert_eq!(text(y), "x.cumsum(axis=1)");
        assert_eq!(text(gradient(y, x)), "d_y[:, ::-1].cumsum(axis=1)[:, ::-1]");
        assert_eq!(text((x + 1.0).cumsum(0)), "(x + 1).cumsum(axis=0)");
        let values = Array { shape: [2, 3].into(), values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        let sums = |axis, reverse| CumSum { axis, reverse }.reference(std::slice::from_ref(&values), [2, 3].into());
        assert_eq!(sums(1, false), [1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
        assert_eq!(sums(1, true), [6.0, 5.0, 3.0, 15.0, 11.0, 6.0]);
        assert_eq!(sums(0, false), [1.0, 2.0, 3.0, 5.0, 7.0, 9.0]);
    }

    #[test]
    fn what_is_refused() {
        let g = Graph::new();
        assert!(g.input("x", DType::F32, [3]).cumsum(1).is_poison());
        assert_eq!(error(&g), "axis 1 of a value with 1 axes");
        assert!(g.input("i", DType::U32, [3]).cumsum(0).is_poison());
    }
}
