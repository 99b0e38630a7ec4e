//! Matrix products of numbers rounded to bfloat16. The compiler puts them in the place of others
//! (`compile/bf16.rs`).

use geartrain_kernels::Routine;

use super::matmul::{Matmul, product};
use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attrs, Binding, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{DType, Shape, Type};

/// y (.., m, n) = bf16(a) (.., m, k) @ bf16(b) (.., k, n), added in f32; the leading axes of a and b agree.
#[derive(Clone, Copy, Debug)]
pub struct MatmulBf16;

impl Op for MatmulBf16 {
    fn name(&self) -> &'static str {
        "matmul_bf16"
    }
    fn kind(&self) -> Kind {
        Kind::Contract
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        if x.iter().any(|x| x.dtype != DType::F32) {
            return Err(Rule::new("wants two inputs of f32").hint("cast them"));
        }
        Matmul.infer(x)
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::MatmulBf16)
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, _: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let why = "a rounded number is a staircase; precision is chosen after differentiating";
        vec![Cotangent::Stops(why), Cotangent::Stops(why)]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        product(x, rounded)
    }
    fn bound(&self, x: &[Array], _: &Array, eps: f64) -> Vec<f64> {
        let k = x[0].shape.dims()[x[0].shape.rank() - 1];
        let size = product(x, |v| rounded(v).abs());
        // A sum that becomes subnormal loses itself.
        let lost = k as f64 * f64::from(f32::MIN_POSITIVE);
        size.into_iter().map(|s| s * (k + 1) as f64 * eps + lost).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Multiplies matrices of f32, each element rounded to the nearest bfloat16, of two equally near ones to the \
                   one with an even last digit; sums are f32. Subnormal elements and sums become 0.",
            formula: "y[i, j] = Σ bf16(a[i, k]) · bf16(b[k, j])",
            derivative: "none: it is a staircase. Precision is chosen when a program is compiled, after differentiation.",
            kinks: "everywhere",
            cost: "2 · m · n · k FLOPs, at twice the rate of f32 where the CPU has vdpbf16ps",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |a: Shape, b: Shape, size: f64| {
            Case::new(MatmulBf16, vec![(a, Domain::Single(-size, size)), (b, Domain::Single(-size, size))])
        };
        vec![
            case([4, 2].into(), [2, 4].into(), 1.0),
            case([1, 1].into(), [1, 1].into(), 1.0),
            case([3, 0].into(), [0, 5].into(), 1.0),
            case([0, 3].into(), [3, 5].into(), 1.0),
            case([63, 64].into(), [64, 65].into(), 1.0),
            case([3, 521].into(), [521, 17].into(), 1.0),
            case([2, 3, 5, 7].into(), [2, 3, 7, 4].into(), 1.0),
            case([3, 1, 64].into(), [3, 64, 1].into(), 1.0),
            // Where sums are subnormal, and where elements are.
            case([5, 33].into(), [33, 9].into(), 2e-19),
            case([5, 33].into(), [33, 9].into(), 2e-38),
        ]
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::infix(&x[0], "@", &x[1], Binding::Product)
    }
}

/// The nearest bfloat16 of an f32, by its exponent; 0 for subnormal numbers.
fn rounded(x: f64) -> f64 {
    if x.abs() < f64::from(f32::MIN_POSITIVE) || !x.is_finite() {
        return if x.is_finite() { 0.0 } else { x };
    }
    // The distance between neighbouring numbers of 8 digits around x.
    let (_, exponent) = libm::frexp(x);
    let step = libm::ldexp(1.0, exponent - 8);
    f64::from(((x / step).round_ties_even() * step) as f32)
}

impl<'g> Var<'g> {
    /// Matrix product with `b` of elements rounded to bfloat16; leading axes agree.
    #[track_caller]
    pub fn matmul_bf16(self, b: Var<'g>) -> Var<'g> {
        self.graph().apply(MatmulBf16, &[self, b])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_rounds_to_the_nearest_and_ties_to_even() {
        let of = |x: f32| rounded(f64::from(x)) as f32;
        assert_eq!(of(1.0 + 1.0 / 512.0), 1.0);
        assert_eq!(of(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(of(1.0 + 3.0 / 256.0), 1.0 + 1.0 / 64.0);
        assert_eq!(of(-1.0 - 1.5 / 256.0), -1.0 - 1.0 / 128.0);
        assert_eq!(of(f32::MAX), f32::INFINITY);
        assert_eq!(of(f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert_eq!(of(f32::MIN_POSITIVE), f32::MIN_POSITIVE);
        assert_eq!(of(f32::from_bits(0x007f_ffff)), 0.0);
        assert!(of(f32::NAN).is_nan());
    }
}
