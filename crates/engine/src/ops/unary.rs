//! Functions of one number: exp, ln, sqrt, sin, cos, tanh, sigmoid, softplus, relu, erf.

use std::f64::consts::FRAC_2_SQRT_PI;

use geartrain_kernels::math::Real;
use geartrain_kernels::{Map, Params};

use crate::ir::graph::Var;
use crate::ir::op::{Cotangent, Domain, Explain, Expr, Vjp};
use crate::ops::pointwise::{Pointwise, pointwise};

/// y = e^x
#[derive(Clone, Copy, Debug)]
pub struct Exp;
/// y = ln x
#[derive(Clone, Copy, Debug)]
pub struct Ln;
/// y = √x
#[derive(Clone, Copy, Debug)]
pub struct Sqrt;
/// y = sin x
#[derive(Clone, Copy, Debug)]
pub struct Sin;
/// y = cos x
#[derive(Clone, Copy, Debug)]
pub struct Cos;
/// y = tanh x
#[derive(Clone, Copy, Debug)]
pub struct Tanh;
/// y = 1 / (1 + e^-x)
#[derive(Clone, Copy, Debug)]
pub struct Sigmoid;
/// y = ln(1 + e^x)
#[derive(Clone, Copy, Debug)]
pub struct Softplus;
/// y = max(x, 0)
#[derive(Clone, Copy, Debug)]
pub struct Relu;
/// y = erf x
#[derive(Clone, Copy, Debug)]
pub struct Erf;

pointwise!(Exp: 1, Ln: 1, Sqrt: 1, Sin: 1, Cos: 1, Tanh: 1, Sigmoid: 1, Softplus: 1, Relu: 1, Erf: 1);

const ANY: Domain = Domain::Between(-3.0, 3.0);
const POSITIVE: Domain = Domain::Between(0.05, 3.0);

impl Map<1> for Exp {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        x.exp()
    }
}
impl Pointwise<1> for Exp {
    const NAME: &'static str = "exp";
    const ULPS: f64 = 2.0;
    const EXPLAIN: Explain = Explain {
        what: "Raises e to the power of each element.",
        formula: "y = e^x",
        derivative: "d_x = d_y · y",
        kinks: "",
        cost: "1 exponential an element; the derivative reuses y",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct * r.y)]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        libm::exp(x)
    }
    fn domain(&self) -> [Domain; 1] {
        [ANY]
    }
}

impl Map<1> for Ln {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        x.ln()
    }
}
impl Pointwise<1> for Ln {
    const NAME: &'static str = "ln";
    const ULPS: f64 = 2.0;
    const EXPLAIN: Explain = Explain {
        what: "Takes the natural logarithm of each element; it is -inf at 0 and NaN below.",
        formula: "y = ln x",
        derivative: "d_x = d_y / x",
        kinks: "",
        cost: "1 logarithm an element; the derivative is a division",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct / r.x[0])]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        libm::log(x)
    }
    fn domain(&self) -> [Domain; 1] {
        [POSITIVE]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        Expr::call("log", x)
    }
}

impl Map<1> for Sqrt {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        x.sqrt()
    }
}
impl Pointwise<1> for Sqrt {
    const NAME: &'static str = "sqrt";
    const ULPS: f64 = 0.5;
    const EXPLAIN: Explain = Explain {
        what: "Takes the square root of each element; it is NaN below 0.",
        formula: "y = √x",
        derivative: "d_x = d_y / (2 · y)",
        kinks: "at x = 0 the derivative is infinite",
        cost: "1 square root an element; the derivative reuses y",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct / (2.0 * r.y))]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        libm::sqrt(x)
    }
    fn domain(&self) -> [Domain; 1] {
        [POSITIVE]
    }
}

impl Map<1> for Sin {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        x.sin()
    }
}
impl Pointwise<1> for Sin {
    const NAME: &'static str = "sin";
    const ULPS: f64 = 2.0;
    const EXPLAIN: Explain = Explain {
        what: "Takes the sine of each element, an angle in radians. In f32 it is NaN where |x| > 2^50.",
        formula: "y = sin x",
        derivative: "d_x = d_y · cos x",
        kinks: "",
        cost: "1 sine an element; the derivative is a cosine",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct * r.x[0].cos())]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        libm::sin(x)
    }
    fn domain(&self) -> [Domain; 1] {
        [ANY]
    }
}

impl Map<1> for Cos {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        x.cos()
    }
}
impl Pointwise<1> for Cos {
    const NAME: &'static str = "cos";
    const ULPS: f64 = 2.0;
    const EXPLAIN: Explain = Explain {
        what: "Takes the cosine of each element, an angle in radians. In f32 it is NaN where |x| > 2^50.",
        formula: "y = cos x",
        derivative: "d_x = -d_y · sin x",
        kinks: "",
        cost: "1 cosine an element; the derivative is a sine",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || -(r.ct * r.x[0].sin()))]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        libm::cos(x)
    }
    fn domain(&self) -> [Domain; 1] {
        [ANY]
    }
}

impl Map<1> for Tanh {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        x.tanh()
    }
}
impl Pointwise<1> for Tanh {
    const NAME: &'static str = "tanh";
    const ULPS: f64 = 2.0;
    const EXPLAIN: Explain = Explain {
        what: "Squashes each element into (-1, 1).",
        formula: "y = tanh x",
        derivative: "d_x = d_y · (1 - y²)",
        kinks: "",
        cost: "1 hyperbolic tangent an element; the derivative reuses y",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct * (1.0 - r.y * r.y))]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        libm::tanh(x)
    }
    fn domain(&self) -> [Domain; 1] {
        [ANY]
    }
}

impl Map<1> for Sigmoid {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        x.sigmoid()
    }
}
impl Pointwise<1> for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const ULPS: f64 = 3.0;
    const EXPLAIN: Explain = Explain {
        what: "Squashes each element into (0, 1), the logistic function.",
        formula: "y = 1 / (1 + e^-x)",
        derivative: "d_x = d_y · y · (1 - y)",
        kinks: "",
        cost: "1 exponential and 1 division an element; the derivative reuses y",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        // In this order and grouping it prints as textbooks write it: d_y * y * (1 - y).
        vec![r.flows(0, || (r.ct * r.y) * (1.0 - r.y))]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        1.0 / (1.0 + libm::exp(-x))
    }
    fn domain(&self) -> [Domain; 1] {
        [ANY]
    }
}

/// ln(1 + e) for e in [0, 1], to a few units in the last place: what is lost of e in 1 + e is added again.
#[inline(always)]
pub(super) fn ln_1p<T: Real>(e: T) -> T {
    let sum = T::ONE + e;
    sum.ln() + (e - (sum - T::ONE)) / sum
}

impl Map<1> for Softplus {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        let above = if x <= T::ZERO { T::ZERO } else { x };
        above + ln_1p((-x.abs()).exp())
    }
}
impl Pointwise<1> for Softplus {
    const NAME: &'static str = "softplus";
    const ULPS: f64 = 3.0;
    const EXPLAIN: Explain = Explain {
        what: "A smooth relu: near 0 far below 0, near x far above. No exponential overflows.",
        formula: "y = ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|)",
        derivative: "d_x = d_y · sigmoid(x)",
        kinks: "",
        cost: "1 exponential, 1 logarithm and 1 division an element",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct * r.x[0].sigmoid())]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        if x > 0.0 { x + libm::log1p(libm::exp(-x)) } else { libm::log1p(libm::exp(x)) }
    }
    fn domain(&self) -> [Domain; 1] {
        [Domain::Between(-30.0, 30.0)]
    }
}

impl Map<1> for Relu {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        // A NaN is not at most 0, so it passes.
        let zero = T::from_f64(0.0);
        if x <= zero { zero } else { x }
    }
}
impl Pointwise<1> for Relu {
    const NAME: &'static str = "relu";
    const ULPS: f64 = 0.0;
    const EXPLAIN: Explain = Explain {
        what: "Keeps positive elements and replaces the others by 0.",
        formula: "y = max(x, 0)",
        derivative: "d_x = d_y where x > 0, else 0",
        kinks: "at x = 0, where the slope jumps from 0 to 1: 0 is chosen",
        cost: "1 comparison an element",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let x = r.x[0];
        vec![r.flows(0, || r.ct * x.greater(x.number(0.0)).cast(x.dtype()))]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        match x.is_nan() {
            true => x,
            false => x.max(0.0),
        }
    }
    fn domain(&self) -> [Domain; 1] {
        [Domain::Away(&[0.0])]
    }
}

impl Map<1> for Erf {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        x.erf()
    }
}
impl Pointwise<1> for Erf {
    const NAME: &'static str = "erf";
    const ULPS: f64 = 2.0;
    const EXPLAIN: Explain = Explain {
        what: "The error function: the share of a bell curve between -x and x.",
        formula: "y = 2 / √π · ∫₀ˣ e^(-t²) dt",
        derivative: "d_x = d_y · 2 / √π · e^(-x²)",
        kinks: "",
        cost: "1 error function an element; the derivative is an exponential",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let x = r.x[0];
        vec![r.flows(0, || r.ct * (FRAC_2_SQRT_PI * (-(x * x)).exp()))]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        libm::erf(x)
    }
    fn domain(&self) -> [Domain; 1] {
        [ANY]
    }
}

impl<'g> Var<'g> {
    /// e to the power of each element.
    #[track_caller]
    pub fn exp(self) -> Var<'g> {
        Var::elementwise(Exp, &[self])
    }

    /// Natural logarithm of each element.
    #[track_caller]
    pub fn ln(self) -> Var<'g> {
        Var::elementwise(Ln, &[self])
    }

    /// Square root of each element.
    #[track_caller]
    pub fn sqrt(self) -> Var<'g> {
        Var::elementwise(Sqrt, &[self])
    }

    /// Sine of each element, in radians. In f32 it is NaN where |x| > 2^50.
    #[track_caller]
    pub fn sin(self) -> Var<'g> {
        Var::elementwise(Sin, &[self])
    }

    /// Cosine of each element, in radians. In f32 it is NaN where |x| > 2^50.
    #[track_caller]
    pub fn cos(self) -> Var<'g> {
        Var::elementwise(Cos, &[self])
    }

    /// Hyperbolic tangent of each element.
    #[track_caller]
    pub fn tanh(self) -> Var<'g> {
        Var::elementwise(Tanh, &[self])
    }

    /// 1 / (1 + e^-x) of each element.
    #[track_caller]
    pub fn sigmoid(self) -> Var<'g> {
        Var::elementwise(Sigmoid, &[self])
    }

    /// ln(1 + e^x) of each element.
    #[track_caller]
    pub fn softplus(self) -> Var<'g> {
        Var::elementwise(Softplus, &[self])
    }

    /// max(x, 0) of each element; its derivative at 0 is 0.
    #[track_caller]
    pub fn relu(self) -> Var<'g> {
        Var::elementwise(Relu, &[self])
    }

    /// Error function of each element.
    #[track_caller]
    pub fn erf(self) -> Var<'g> {
        Var::elementwise(Erf, &[self])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{gradient, text};
    use crate::{DType, Graph, Init};

    #[test]
    fn derivatives_print_as_textbooks_write_them() {
        let g = Graph::new();
        let z = g.parameter("z", DType::F64, [4, 1], Init::ZEROS);
        let of = |a: Var<'_>| text(gradient(a.named("a"), z));
        assert_eq!(of(z.sigmoid()), "d_a * a * (1 - a)");
        assert_eq!(of(z.tanh()), "d_a * (1 - a * a)");
        assert_eq!(of(z.exp()), "d_a * a");
        assert_eq!(of(z.ln()), "d_a / z");
        assert_eq!(of(z.sqrt()), "d_a / (2 * a)");
        assert_eq!(of(z.relu()), "d_a * (z > 0)");
        assert_eq!(of(z.softplus()), "d_a * sigmoid(z)");
        assert_eq!(of(z.sin()), "d_a * cos(z)");
        assert_eq!(of(z.cos()), "-(d_a * sin(z))");
        assert_eq!(of(z.erf()), "d_a * (1.1283791670955126 * exp(-(z * z)))");
    }

    #[test]
    fn values_print_as_calls() {
        let g = Graph::new();
        let z = g.parameter("z", DType::F64, [4, 1], Init::ZEROS);
        assert_eq!(text(z.ln()), "log(z)");
        assert_eq!(text((z + 1.0).sigmoid()), "sigmoid(z + 1)");
    }

    #[test]
    fn relu_passes_nan_and_is_zero_below_zero() {
        for (x, y) in [(-1.0, 0.0), (0.0, 0.0), (-0.0, 0.0), (2.5, 2.5), (f64::NEG_INFINITY, 0.0)] {
            assert_eq!(Relu::map(&[0.0; 4], [x]), y);
            assert_eq!(Pointwise::reference(&Relu, [x]), y);
        }
        assert!(Relu::map(&[0.0; 4], [f32::NAN]).is_nan());
        assert!(Pointwise::reference(&Relu, [f64::NAN]).is_nan());
    }

    #[test]
    fn softplus_keeps_its_digits_far_out() {
        let softplus = |x: f32| Softplus::map(&[0.0; 4], [x]);
        assert!((f64::from(softplus(-50.0)) / libm::exp(-50.0) - 1.0).abs() < 2e-7);
        assert_eq!([softplus(200.0), softplus(-200.0)], [200.0, 0.0]);
        assert_eq!([softplus(f32::INFINITY), softplus(f32::NEG_INFINITY)], [f32::INFINITY, 0.0]);
        assert!(softplus(f32::NAN).is_nan());
    }

    #[test]
    fn whole_numbers_are_refused() {
        let g = Graph::new();
        assert!(g.input("i", DType::U32, [3]).exp().is_poison());
    }
}
