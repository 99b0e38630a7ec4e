//! Softmax over the last axis, and its logarithm.

use geartrain_kernels::Routine;

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attrs, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{Shape, Type};
use crate::ops::pointwise::tiny;

/// y = e^x / Σ e^x along the last axis, with the row's maximum subtracted first.
#[derive(Clone, Copy, Debug)]
pub struct Softmax;
/// y = x - ln Σ e^x along the last axis, with the row's maximum subtracted first.
#[derive(Clone, Copy, Debug)]
pub struct LogSoftmax;

/// Length of the last axis; 1 for a scalar.
pub(crate) fn last(shape: Shape) -> usize {
    shape.dims().last().copied().unwrap_or(1)
}

/// Rows that operations on the last axis run at.
pub(crate) fn row_shapes() -> Vec<Shape> {
    vec![
        [4, 5].into(),
        [1].into(),
        [3, 1].into(),
        [3].into(),
        [7, 63].into(),
        [2, 3, 64].into(),
        [3, 65].into(),
        [2, 256].into(),
        [3, 521].into(),
        [0, 5].into(),
    ]
}

/// Rows of `x` with the row of the softmax.
pub(crate) fn softmax(x: &Array) -> Vec<f64> {
    let n = last(x.shape);
    let row = |row: &[f64]| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = row.iter().map(|v| libm::exp(v - max)).collect();
        let sum: f64 = e.iter().sum();
        e.into_iter().map(|v| v / sum).collect::<Vec<f64>>()
    };
    x.values.chunks(n.max(1)).flat_map(row).collect()
}

/// How far each element of a computed softmax may be from `y`.
///
/// An error of the exponent x - max, which is that difference times eps, becomes a relative error of the exponential;
/// the sum of a row takes the errors of its terms in their proportion, and one eps an addition.
pub(crate) fn softmax_bound(x: &Array, y: &[f64], eps: f64) -> Vec<f64> {
    let n = last(x.shape).max(1);
    let mut out = Vec::with_capacity(y.len());
    for (x, y) in x.values.chunks(n).zip(y.chunks(n)) {
        let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mean: f64 = x.iter().zip(y).map(|(x, y)| (max - x) * y).sum();
        let shared = mean + n as f64 + 12.0;
        out.extend(x.iter().zip(y).map(|(x, y)| y * (max - x + shared) * eps + 2.0 * tiny(eps)));
    }
    out
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        match x {
            [x] if x.dtype.is_float() && x.shape.rank() > 0 => Ok(*x),
            [_] => Err(Rule::new("wants floats with at least one axis")),
            _ => Err(Rule::new(format!("wants 1 input, got {}", x.len()))),
        }
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::Softmax)
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        // The result does not change when all of a row moves, so whatever cotangent flows back through the maximum
        // sums to zero over the row, at ties too.
        let axis = x[0].shape().rank() - 1;
        let e = (x[0] - x[0].max(axis)).exp();
        Some(e / e.sum(axis))
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let axis = r.y.shape().rank() - 1;
        vec![r.flows(0, || r.y * (r.ct - (r.ct * r.y).sum(axis)))]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        softmax(&x[0])
    }
    fn bound(&self, x: &[Array], y: &Array, eps: f64) -> Vec<f64> {
        softmax_bound(&x[0], &y.values, eps)
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Turns each row into probabilities: positive numbers that sum to 1. The row's largest element is \
                   subtracted first, so that no exponential overflows.",
            formula: "y[i] = e^x[i] / Σ e^x[j]",
            derivative: "d_x = y · (d_y - Σ d_y · y)",
            kinks: "",
            cost: "1 exponential and 4 FLOPs an element; the derivative reuses y",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |s: Shape| Case::new(Softmax, vec![(s, Domain::Between(-3.0, 3.0))]);
        row_shapes().into_iter().map(case).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("softmax", x)
    }
}

impl Op for LogSoftmax {
    fn name(&self) -> &'static str {
        "log_softmax"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        Softmax.infer(x)
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::LogSoftmax)
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        let axis = x[0].shape().rank() - 1;
        let moved = x[0] - x[0].max(axis);
        Some(moved - moved.exp().sum(axis).ln())
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let axis = r.y.shape().rank() - 1;
        vec![r.flows(0, || r.ct - r.y.exp() * r.ct.sum(axis))]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        let row = |row: &[f64]| {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log = libm::log(row.iter().map(|v| libm::exp(v - max)).sum());
            row.iter().map(|v| v - max - log).collect::<Vec<f64>>()
        };
        x[0].values.chunks(last(x[0].shape).max(1)).flat_map(row).collect()
    }
    fn bound(&self, x: &[Array], y: &Array, eps: f64) -> Vec<f64> {
        let (n, probs) = (last(x[0].shape).max(1), softmax(&x[0]));
        let row = |((x, p), y): ((&[f64], &[f64]), &[f64])| {
            let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            // The relative error of the sum is the absolute one of its logarithm.
            let sum = x.iter().zip(p).map(|(x, p)| (max - x) * p).sum::<f64>() + n as f64 + 8.0;
            let log = (n as f64).ln();
            let at = |(x, y): (&f64, &f64)| (sum + 3.0 * log + 2.0 * (max - x) + 2.0 * y.abs()) * eps + tiny(eps);
            x.iter().zip(y).map(at).collect::<Vec<f64>>()
        };
        x[0].values.chunks(n).zip(probs.chunks(n)).zip(y.values.chunks(n)).flat_map(row).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "The logarithms of the probabilities that softmax gives, in one step, which neither overflows nor \
                   loses small probabilities.",
            formula: "y[i] = x[i] - ln Σ e^x[j]",
            derivative: "d_x = d_y - softmax(x) · Σ d_y",
            kinks: "",
            cost: "1 exponential and 4 FLOPs an element; the derivative another exponential",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |s: Shape| Case::new(LogSoftmax, vec![(s, Domain::Between(-3.0, 3.0))]);
        row_shapes().into_iter().map(case).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("log_softmax", x)
    }
}

impl<'g> Var<'g> {
    /// Softmax along the last axis.
    #[track_caller]
    pub fn softmax(self) -> Var<'g> {
        self.graph().apply(Softmax, &[self])
    }

    /// Natural logarithm of softmax along the last axis.
    #[track_caller]
    pub fn log_softmax(self) -> Var<'g> {
        self.graph().apply(LogSoftmax, &[self])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{error, gradient, text};
    use crate::{DType, Graph, Init};

    #[test]
    fn it_prints_as_a_call_and_its_gradient_in_terms_of_y() {
        let g = Graph::new();
        let z = g.parameter("z", DType::F64, [4, 5], Init::ZEROS);
        let p = z.softmax().named("probs");
        assert_eq!(text(p), "softmax(z)");
        let d_z = "probs * (d_probs - (d_probs * probs).sum(axis=1, keepdims=True))";
        assert_eq!(text(gradient(p, z)), d_z);
    }

    #[test]
    fn the_logarithm_prints_as_a_call() {
        let g = Graph::new();
        let z = g.parameter("z", DType::F64, [4, 5], Init::ZEROS);
        let y = z.log_softmax().named("y");
        assert_eq!(text(y), "log_softmax(z)");
        assert_eq!(text(gradient(y, z)), "d_y - exp(y) * d_y.sum(axis=1, keepdims=True)");
        let x = Array { shape: [3].into(), values: vec![1000.0, 0.0, f64::NEG_INFINITY] };
        assert_eq!(LogSoftmax.reference(&[x], [3].into()), [0.0, -1000.0, f64::NEG_INFINITY]);
    }

    #[test]
    fn rows_sum_to_one_and_large_numbers_do_not_overflow() {
        let x = Array { shape: [2, 3].into(), values: vec![1000.0, 1000.0, 1000.0, -1000.0, 0.0, -1000.0] };
        assert_eq!(softmax(&x), [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_scalar_is_refused() {
        let g = Graph::new();
        assert!(g.scalar("x").softmax().is_poison());
        assert_eq!(error(&g), "wants floats with at least one axis");
    }
}
