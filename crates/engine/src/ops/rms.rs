//! Normalising rows to a root mean square of 1.

use geartrain_kernels::Routine;

use crate::autodiff::vjp_of_definition;
use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attr, Attrs, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{Shape, Type};
use crate::ops::norm;
use crate::ops::pointwise::{number, tiny};
use crate::ops::softmax::last;

/// y = x / √(mean(x²) + eps) along the last axis.
#[derive(Clone, Copy, Debug)]
pub struct RmsNormalize {
    /// Keeps rows of zeros finite.
    pub eps: f64,
}
/// The cotangent of x for [`RmsNormalize`], from x and the cotangent of y.
#[derive(Clone, Copy, Debug)]
pub struct RmsNormalizeGrad {
    /// That of [`RmsNormalize`].
    pub eps: f64,
}

const ANY: Domain = Domain::Between(-3.0, 3.0);

/// √(mean(x²) + eps) of a row.
fn rms(x: &[f64], eps: f64) -> f64 {
    libm::sqrt(x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 + eps)
}

fn rows(x: &Array) -> std::slice::Chunks<'_, f64> {
    x.values.chunks(last(x.shape).max(1))
}

/// Relative error of a computed [`rms`]: no term of its sum is negative, and the root halves.
fn off(n: usize, eps: f64) -> f64 {
    (n as f64 / 2.0 + 4.0) * eps
}

impl RmsNormalize {
    pub(crate) const EXAMPLE: RmsNormalize = RmsNormalize { eps: 1e-5 };
}

impl Op for RmsNormalize {
    fn name(&self) -> &'static str {
        "rms_normalize"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        vec![("eps", Attr::float(self.eps))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        norm::infer(1, x)
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::RmsNormalize { eps: self.eps })
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        let x = x[0];
        Some(x / (x.square().mean(x.shape().rank() - 1) + self.eps).sqrt())
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.y.graph().apply(RmsNormalizeGrad { eps: self.eps }, &[r.x[0], r.ct]))]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        rows(&x[0]).flat_map(|row| row.iter().map(|v| v / rms(row, self.eps)).collect::<Vec<f64>>()).collect()
    }
    fn bound(&self, x: &[Array], y: &Array, eps: f64) -> Vec<f64> {
        y.values.iter().map(|y| y.abs() * (off(last(x[0].shape), eps) + 2.0 * eps) + tiny(eps)).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Scales each row to a root mean square of 1, the core of RMS normalisation (Zhang and Sennrich, 2019).",
            formula: "y = x / √(mean x² + eps)",
            derivative: "d_x = (d_y - y · mean(d_y · y)) / √(mean x² + eps)",
            kinks: "",
            cost: "3 FLOPs an element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        norm::shapes().into_iter().map(|s| Case::new(*self, vec![(s, ANY)])).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("rms_normalize", &[x[0].clone(), number(self.eps)])
    }
}

impl RmsNormalizeGrad {
    pub(crate) const EXAMPLE: RmsNormalizeGrad = RmsNormalizeGrad { eps: 1e-5 };
}

impl Op for RmsNormalizeGrad {
    fn name(&self) -> &'static str {
        "rms_normalize_grad"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        vec![("eps", Attr::float(self.eps))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        norm::infer(2, x)
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::RmsNormalizeGrad { eps: self.eps })
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        let (x, ct, axis) = (x[0], x[1], x[0].shape().rank() - 1);
        let rms = (x.square().mean(axis) + self.eps).sqrt();
        let y = x / rms;
        Some((ct - y * (ct * y).mean(axis)) / rms)
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vjp_of_definition(self, r)
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        let row = |(x, ct): (&[f64], &[f64])| {
            let rms = rms(x, self.eps);
            let along = ct.iter().zip(x).map(|(c, x)| c * x / rms).sum::<f64>() / x.len() as f64;
            ct.iter().zip(x).map(|(c, x)| (c - x / rms * along) / rms).collect::<Vec<f64>>()
        };
        rows(&x[0]).zip(rows(&x[1])).flat_map(row).collect()
    }
    fn bound(&self, x: &[Array], _: &Array, eps: f64) -> Vec<f64> {
        let row = |(x, ct): (&[f64], &[f64])| {
            let (rms, n) = (rms(x, self.eps), x.len() as f64);
            let size = ct.iter().zip(x).map(|(c, x)| (c * x / rms).abs()).sum::<f64>() / n;
            // Errors of the mean of ct · y, whose y are each as far off as rms is, and then of y again and of the quotient.
            let off = off(x.len(), eps);
            let along = size * ((n + 3.0) * eps + off);
            let at = |(c, x): (&f64, &f64)| {
                let y = (x / rms).abs();
                let parts = c.abs() + y * size;
                (y * along + parts * (2.0 * off + 6.0 * eps)) / rms + tiny(eps)
            };
            ct.iter().zip(x).map(at).collect::<Vec<f64>>()
        };
        rows(&x[0]).zip(rows(&x[1])).flat_map(row).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Carries a cotangent back through the normalisation of rows to a root mean square of 1: what would \
                   scale a whole row is taken out, because normalising undoes it.",
            formula: "d = (ct - y · mean(ct · y)) / √(mean x² + eps), y = rms_normalize(x)",
            derivative: "the derivative of this formula",
            kinks: "",
            cost: "8 FLOPs an element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        norm::shapes().into_iter().map(|s| Case::new(*self, vec![(s, ANY), (s, ANY)])).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("rms_normalize_grad", &[x[0].clone(), x[1].clone(), number(self.eps)])
    }
}

impl<'g> Var<'g> {
    /// Rows scaled to a root mean square of 1; `eps` is added to the mean of the squares.
    #[track_caller]
    pub fn rms_normalize(self, eps: f64) -> Var<'g> {
        self.graph().apply(RmsNormalize { eps }, &[self])
    }

    /// RMS normalisation over the last axis (Zhang and Sennrich, 2019): scaled rows times `gain`.
    #[track_caller]
    pub fn rms_norm(self, gain: Var<'g>, eps: f64) -> Var<'g> {
        self.rms_normalize(eps) * gain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{error, gradient, text};
    use crate::{DType, Graph, Init};

    #[test]
    fn they_print_as_calls() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F32, [4, 8], Init::ZEROS);
        let gain = g.parameter("g", DType::F32, [8], Init::ONES);
        assert_eq!(text(x.rms_norm(gain, 1e-6)), "rms_normalize(x, 1e-6) * g");
        let n = x.rms_normalize(1e-5).named("n");
        assert_eq!(text(gradient(n, x)), "rms_normalize_grad(x, d_n, 1e-5)");
    }

    #[test]
    fn rows_have_a_root_mean_square_of_one() {
        let x = Array { shape: [2, 2].into(), values: vec![3.0, 4.0, 0.0, 0.0] };
        let y = RmsNormalize { eps: 1e-12 }.reference(std::slice::from_ref(&x), x.shape);
        assert!((y[0] * y[0] + y[1] * y[1] - 2.0).abs() < 1e-12 && (y[1] / y[0] - 4.0 / 3.0).abs() < 1e-12);
        assert_eq!(y[2..], [0.0, 0.0]);
    }

    #[test]
    fn rows_without_elements_are_refused() {
        let g = Graph::new();
        assert!(g.input("e", DType::F32, [3, 0]).rms_normalize(1e-5).is_poison());
        assert_eq!(error(&g), "wants floats with a last axis that is not empty");
    }
}
