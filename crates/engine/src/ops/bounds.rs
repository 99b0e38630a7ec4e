//! Size and bounds: abs, sign, maximum, minimum, clamp.

use geartrain_kernels::math::Real;
use geartrain_kernels::{Map, Params};

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Cotangent, Domain, Explain, Expr, Vjp};
use crate::ops::pointwise::{Pointwise, number, pointwise};
use crate::ops::select::{AWAY, NEAR_ZERO};

/// y = |x|
#[derive(Clone, Copy, Debug)]
pub struct Abs;
/// y = 1 where x > 0, -1 where x < 0, else x.
#[derive(Clone, Copy, Debug)]
pub struct Sign;
/// y = the larger of a and b.
#[derive(Clone, Copy, Debug)]
pub struct Maximum;
/// y = the smaller of a and b.
#[derive(Clone, Copy, Debug)]
pub struct Minimum;
/// y = x, but not below `low` and not above `high`.
#[derive(Clone, Copy, Debug)]
pub struct Clamp {
    /// The smallest result.
    pub low: f64,
    /// The largest result, not below `low`.
    pub high: f64,
}

pointwise!(Abs: 1, Sign: 1, Maximum: 2, Minimum: 2, Clamp: 1);

impl Map<1> for Abs {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        x.abs()
    }
}
impl Pointwise<1> for Abs {
    const NAME: &'static str = "abs";
    const ULPS: f64 = 0.0;
    const EXPLAIN: Explain = Explain {
        what: "Drops the sign of each element.",
        formula: "y = |x|",
        derivative: "d_x = d_y · sign(x)",
        kinks: "at x = 0, where the slope jumps from -1 to 1: 0 is chosen",
        cost: "1 FLOP an element",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct * r.x[0].sign())]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        if x < 0.0 { -x } else { x }
    }
    fn domain(&self) -> [Domain; 1] {
        [AWAY]
    }
}

impl Map<1> for Sign {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        // Zeros and NaN pass.
        let below = if x < T::ZERO { -T::ONE } else { x };
        if x > T::ZERO { T::ONE } else { below }
    }
}
impl Pointwise<1> for Sign {
    const NAME: &'static str = "sign";
    const ULPS: f64 = 0.0;
    const EXPLAIN: Explain = Explain {
        what: "Tells on which side of 0 each element is.",
        formula: "y = 1 where x > 0, -1 where x < 0, else 0",
        derivative: "zero almost everywhere: a small change of x does not move it",
        kinks: "at x = 0, where y jumps: the derivative is taken as 0",
        cost: "2 comparisons an element",
    };
    fn vjp<'g>(&self, _: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![Cotangent::Zero]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        if x == 0.0 { x } else { x.signum() }
    }
    fn domain(&self) -> [Domain; 1] {
        [AWAY]
    }
}

impl Map<2> for Maximum {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [a, b]: [T; 2]) -> T {
        // Neither holds if one of them is NaN; their sum then is NaN too.
        let larger = if a < b { b } else { a + b };
        if a >= b { a } else { larger }
    }
}
impl Pointwise<2> for Maximum {
    const NAME: &'static str = "maximum";
    const ULPS: f64 = 0.0;
    const EXPLAIN: Explain = Explain {
        what: "Takes the larger of each pair; NaN if one of them is.",
        formula: "y = max(a, b)",
        derivative: "d_a = d_y where a > b, else 0; d_b is the rest",
        kinks: "where a = b: both get half of d_y",
        cost: "1 comparison an element",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let (a, b) = (r.x[0], r.x[1]);
        vec![r.flows(0, || share(r.ct, a.greater(b), a, b)), r.flows(1, || share(r.ct, b.greater(a), a, b))]
    }
    fn reference(&self, [a, b]: [f64; 2]) -> f64 {
        match (a.is_nan(), b.is_nan()) {
            (true, _) => a,
            (_, true) => b,
            _ => a.max(b),
        }
    }
    fn domain(&self) -> [Domain; 2] {
        [AWAY, NEAR_ZERO]
    }
}

impl Map<2> for Minimum {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [a, b]: [T; 2]) -> T {
        // Neither holds if one of them is NaN; their sum then is NaN too.
        let smaller = if a > b { b } else { a + b };
        if a <= b { a } else { smaller }
    }
}
impl Pointwise<2> for Minimum {
    const NAME: &'static str = "minimum";
    const ULPS: f64 = 0.0;
    const EXPLAIN: Explain = Explain {
        what: "Takes the smaller of each pair; NaN if one of them is.",
        formula: "y = min(a, b)",
        derivative: "d_a = d_y where a < b, else 0; d_b is the rest",
        kinks: "where a = b: both get half of d_y",
        cost: "1 comparison an element",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let (a, b) = (r.x[0], r.x[1]);
        vec![r.flows(0, || share(r.ct, a.less(b), a, b)), r.flows(1, || share(r.ct, b.less(a), a, b))]
    }
    fn reference(&self, [a, b]: [f64; 2]) -> f64 {
        match (a.is_nan(), b.is_nan()) {
            (true, _) => a,
            (_, true) => b,
            _ => a.min(b),
        }
    }
    fn domain(&self) -> [Domain; 2] {
        [AWAY, NEAR_ZERO]
    }
}

impl Clamp {
    pub(crate) const EXAMPLE: Clamp = Clamp { low: -1.0, high: 2.0 };
}
impl Map<1> for Clamp {
    #[inline(always)]
    fn map<T: Real>(params: &Params, [x]: [T; 1]) -> T {
        // A NaN is on neither side, so it passes.
        let (low, high) = (T::from_f64(params[0]), T::from_f64(params[1]));
        let raised = if x < low { low } else { x };
        if raised > high { high } else { raised }
    }
}
impl Pointwise<1> for Clamp {
    const NAME: &'static str = "clamp";
    // For bounds that are rounded to f32.
    const ULPS: f64 = 0.5;
    const EXPLAIN: Explain = Explain {
        what: "Replaces elements below a bound by it, and those above another bound by that one.",
        formula: "y = min(max(x, low), high)",
        derivative: "d_x = d_y where low ≤ x ≤ high, else 0",
        kinks: "at both bounds, where the slope jumps between 0 and 1: 1 is chosen",
        cost: "2 comparisons an element",
    };
    fn params(&self) -> Params {
        [self.low, self.high, 0.0, 0.0]
    }
    fn names(&self) -> &'static [&'static str] {
        &["low", "high"]
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let x = r.x[0];
        let within = || {
            let (above, below) = (x.greater_equal(x.number(self.low)), x.less_equal(x.number(self.high)));
            above.cast(x.dtype()) * below.cast(x.dtype())
        };
        vec![r.flows(0, || r.ct * within())]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        if x.is_nan() { x } else { x.max(self.low).min(self.high) }
    }
    fn domain(&self) -> [Domain; 1] {
        [Domain::Away(&[-1.0, 0.25, 2.0])]
    }
    fn examples(&self) -> Vec<Clamp> {
        vec![Clamp::EXAMPLE, Clamp { low: 0.25, high: 0.25 }]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        Expr::call("clip", &[x[0].clone(), number(self.low), number(self.high)])
    }
}

/// The share of `ct` that goes to one of `a` and `b`: all where it wins, half where they are equal.
fn share<'g>(ct: Var<'g>, wins: Var<'g>, a: Var<'g>, b: Var<'g>) -> Var<'g> {
    ct * (wins.cast(ct.dtype()) + 0.5 * a.equal(b).cast(ct.dtype()))
}

impl<'g> Var<'g> {
    /// |x| of each element; its derivative at 0 is 0.
    #[track_caller]
    pub fn abs(self) -> Var<'g> {
        Var::elementwise(Abs, &[self])
    }

    /// 1 where an element is above 0, -1 where it is below, and the element itself if it is ±0 or NaN. No gradient flows.
    #[track_caller]
    pub fn sign(self) -> Var<'g> {
        Var::elementwise(Sign, &[self])
    }

    /// The larger of each pair; tied pairs share the cotangent evenly.
    #[track_caller]
    pub fn maximum(self, b: Var<'g>) -> Var<'g> {
        Var::elementwise(Maximum, &[self, b])
    }

    /// The smaller of each pair; tied pairs share the cotangent evenly.
    #[track_caller]
    pub fn minimum(self, b: Var<'g>) -> Var<'g> {
        Var::elementwise(Minimum, &[self, b])
    }

    /// Each element, or the nearer of the finite bounds `low` and `high` if it is outside. At a bound its derivative is 1.
    #[track_caller]
    pub fn clamp(self, low: f64, high: f64) -> Var<'g> {
        match low <= high && low.is_finite() && high.is_finite() {
            true => Var::elementwise(Clamp { low, high }, &[self]),
            false => {
                let rule = Rule::new(format!("wants finite bounds, the lower one first, got {low} and {high}"));
                self.graph().fail("clamp", rule.hint("for one bound take maximum or minimum"), vec![self.ty()])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{error, gradient, text};
    use crate::{DType, Graph, Init};

    #[test]
    fn gradients_print_as_choices() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F32, [3], Init::ZEROS);
        let y = g.parameter("y", DType::F32, [3], Init::ZEROS);
        let m = x.maximum(y).named("m");
        assert_eq!(text(gradient(m, x)), "d_m * ((y < x) + 0.5 * (x == y))");
        let m = x.minimum(y).named("m");
        assert_eq!(text(gradient(m, x)), "d_m * ((x < y) + 0.5 * (x == y))");
        assert_eq!(text(gradient(m, y)), "d_m * ((y < x) + 0.5 * (x == y))");
        assert_eq!(text(gradient(x.abs().named("a"), x)), "d_a * sign(x)");
        let c = x.clamp(-1.0, 1e-8).named("c");
        assert_eq!(text(c), "clip(x, -1, 1e-8)");
        assert_eq!(text(gradient(x.clamp(-1.0, 0.5).named("c"), x)), "d_c * ((x >= -1) * (x <= 0.5))");
    }

    fn values<const N: usize, P: Pointwise<N>>(op: P, cases: &[([f64; N], f64)]) {
        for (x, y) in cases {
            assert_eq!(P::map::<f64>(&op.params(), *x).to_bits(), y.to_bits(), "{x:?}");
            assert_eq!(op.reference(*x).to_bits(), y.to_bits(), "reference of {x:?}");
        }
    }

    #[test]
    fn ties_zeros_and_infinities() {
        let inf = f64::INFINITY;
        values(Maximum, &[([1.0, 2.0], 2.0), ([2.0, 1.0], 2.0), ([3.0, 3.0], 3.0), ([-inf, 1.0], 1.0)]);
        values(Minimum, &[([1.0, 2.0], 1.0), ([2.0, 1.0], 1.0), ([3.0, 3.0], 3.0), ([inf, 1.0], 1.0)]);
        values(Abs, &[([-2.0], 2.0), ([-inf], inf), ([0.5], 0.5)]);
        values(Sign, &[([-2.0], -1.0), ([-0.0], -0.0), ([0.0], 0.0), ([inf], 1.0), ([1e-300], 1.0)]);
        values(Clamp::EXAMPLE, &[([-2.0], -1.0), ([-1.0], -1.0), ([0.5], 0.5), ([2.0], 2.0), ([inf], 2.0)]);
    }

    #[test]
    fn nan_passes() {
        let (nan, none) = (f64::NAN, [0.0; 4]);
        assert!(Maximum::map(&none, [nan, 1.0]).is_nan() && Maximum::map(&none, [1.0, nan]).is_nan());
        assert!(Minimum::map(&none, [nan, 1.0]).is_nan() && Minimum::map(&none, [1.0, nan]).is_nan());
        assert!(Sign::map(&none, [nan]).is_nan() && Clamp::map(&Clamp::EXAMPLE.params(), [nan]).is_nan());
        assert!(
            Pointwise::reference(&Minimum, [1.0, nan]).is_nan()
                && Pointwise::reference(&Clamp::EXAMPLE, [nan]).is_nan()
        );
    }

    #[test]
    fn bounds_in_the_wrong_order_are_refused() {
        let g = Graph::new();
        let x = g.input("x", DType::F32, [3]);
        assert!(x.clamp(1.0, 0.5).is_poison());
        assert_eq!(error(&g), "wants finite bounds, the lower one first, got 1 and 0.5");
        assert!(x.clamp(f64::NAN, 0.5).is_poison() && x.clamp(0.0, f64::INFINITY).is_poison());
    }
}
