//! Losses of single numbers, one for each element: Huber, and binary cross-entropy of logits.

use geartrain_kernels::math::Real;
use geartrain_kernels::{Map, Params};

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Binding, Cotangent, Domain, Explain, Expr, Vjp};
use crate::ops::pointwise::{Pointwise, number, pointwise};
use crate::ops::unary::ln_1p;

/// y = e² / 2 where |e| ≤ delta, else delta · (|e| - delta / 2), with e = a - b.
#[derive(Clone, Copy, Debug)]
pub struct Huber {
    /// Differences up to this are squared.
    pub delta: f64,
}
/// y = -(t · ln p + (1 - t) · ln(1 - p)) with p = sigmoid(z); inputs z and t.
#[derive(Clone, Copy, Debug)]
pub struct BinaryCrossEntropy;

pointwise!(Huber: 2, BinaryCrossEntropy: 2);

impl Huber {
    pub(crate) const EXAMPLE: Huber = Huber { delta: 1.0 };
}
impl Map<2> for Huber {
    #[inline(always)]
    fn map<T: Real>(params: &Params, [a, b]: [T; 2]) -> T {
        let (delta, half) = (T::from_f64(params[0]), T::from_f64(0.5));
        let size = (a - b).abs();
        // min(size, delta) · (size - min(size, delta) / 2) is both branches.
        let least = if size > delta { delta } else { size };
        least * (size - half * least)
    }
}
impl Pointwise<2> for Huber {
    const NAME: &'static str = "huber";
    const ULPS: f64 = 3.0;
    const EXPLAIN: Explain = Explain {
        what: "The loss of a regression that forgives outliers (Huber, 1964): small differences are squared, large ones \
               count in proportion.",
        formula: "y = e² / 2 where |e| ≤ delta, else delta · (|e| - delta / 2), with e = a - b",
        derivative: "d_a = d_y · min(max(a - b, -delta), delta), d_b = -d_a",
        kinks: "",
        cost: "5 FLOPs an element",
    };
    fn params(&self) -> Params {
        [self.delta, 0.0, 0.0, 0.0]
    }
    fn names(&self) -> &'static [&'static str] {
        &["delta"]
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        let e = x[0] - x[1];
        let near = e.clamp(-self.delta, self.delta);
        Some(near * (e - 0.5 * near))
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let slope = || (r.x[0] - r.x[1]).clamp(-self.delta, self.delta);
        vec![r.flows(0, || r.ct * slope()), r.flows(1, || -(r.ct * slope()))]
    }
    fn reference(&self, [a, b]: [f64; 2]) -> f64 {
        let e = a - b;
        match e.abs() <= self.delta {
            true => e * e / 2.0,
            false => self.delta * (e.abs() - self.delta / 2.0),
        }
    }
    fn scale(&self, [a, b]: [f64; 2], y: f64) -> f64 {
        // The rounding of a - b counts twice in its square.
        y.abs() + self.delta * (a - b).abs()
    }
    fn domain(&self) -> [Domain; 2] {
        // The second derivative jumps where the difference is delta: these are always on one side of it, both occur.
        [Domain::Away(&[-1.0, -0.5, 0.0, 0.5, 1.0]), Domain::Between(-0.04, 0.04)]
    }
    fn examples(&self) -> Vec<Huber> {
        vec![Huber::EXAMPLE, Huber { delta: 0.5 }]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        let delta = Expr::atom(format!("delta={}", number(self.delta).text));
        Expr::call("huber", &[x[0].clone(), x[1].clone(), delta])
    }
}

impl Map<2> for BinaryCrossEntropy {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [z, t]: [T; 2]) -> T {
        let above = if z <= T::ZERO { T::ZERO } else { z };
        // In this order nothing is lost where the target is 1 and the logit large.
        (above - z * t) + ln_1p((-z.abs()).exp())
    }
}
impl Pointwise<2> for BinaryCrossEntropy {
    const NAME: &'static str = "binary_cross_entropy";
    const ULPS: f64 = 3.0;
    const EXPLAIN: Explain = Explain {
        what: "The loss of a yes-or-no question, in nats: z is the logit of yes, t the wanted probability, 0 or 1 or \
               between. Sigmoid and logarithm are taken in one step, which neither overflows nor loses small losses.",
        formula: "y = -(t · ln p + (1 - t) · ln(1 - p)) = max(z, 0) - z · t + ln(1 + e^-|z|), with p = sigmoid(z)",
        derivative: "d_z = d_y · (sigmoid(z) - t), d_t = -d_y · z",
        kinks: "",
        cost: "1 exponential, 1 logarithm, 1 division and 6 FLOPs an element",
    };
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        Some(x[0].softplus() - x[0] * x[1])
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let (z, t) = (r.x[0], r.x[1]);
        vec![r.flows(0, || r.ct * (z.sigmoid() - t)), r.flows(1, || -(r.ct * z))]
    }
    fn reference(&self, [z, t]: [f64; 2]) -> f64 {
        // ln p = -ln(1 + e^-z), and ln(1 - p) = -ln(1 + e^z).
        t * libm::log1p(libm::exp(-z)) + (1.0 - t) * libm::log1p(libm::exp(z))
    }
    fn scale(&self, [z, t]: [f64; 2], y: f64) -> f64 {
        y.abs() + z.abs() + (z * t).abs()
    }
    fn domain(&self) -> [Domain; 2] {
        [Domain::Between(-9.0, 9.0), Domain::Between(0.0, 1.0)]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        let [z, t] = x else { return Expr::call(Self::NAME, x) };
        let above = Expr::call("maximum", &[z.clone(), Expr::atom("0")]);
        let first = Expr::infix(&above, "-", &Expr::product(z, t), Binding::Sum);
        let log = Expr::atom(format!("log1p(exp(-abs({})))", z.text));
        Expr::infix(&first, "+", &log, Binding::Sum)
    }
}

impl<'g> Var<'g> {
    /// Huber loss of each element against `b`: half the square of a difference up to `delta` (above 0), beyond it in
    /// proportion. The shape is that of both; take [`Var::mean_all`] for one number.
    #[track_caller]
    pub fn huber(self, b: Var<'g>, delta: f64) -> Var<'g> {
        match delta > 0.0 && delta.is_finite() {
            true => Var::elementwise(Huber { delta }, &[self, b]),
            false => {
                let rule = Rule::new(format!("wants a finite delta above 0, got {delta}"));
                self.graph().fail("huber", rule, vec![self.ty(), b.ty()])
            }
        }
    }

    /// Loss of each of these logits for its target, a float from 0 (no) to 1 (yes), in nats. The shape is that of both;
    /// take [`Var::mean_all`] for one number.
    #[track_caller]
    pub fn binary_cross_entropy(self, targets: Var<'g>) -> Var<'g> {
        Var::elementwise(BinaryCrossEntropy, &[self, targets])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{error, gradient, text};
    use crate::{DType, Graph, Init};

    #[test]
    fn losses_and_gradients_print_as_formulas() {
        let g = Graph::new();
        let z = g.parameter("z", DType::F64, [4, 1], Init::ZEROS);
        let y = g.input("y", DType::F64, [4, 1]);
        let l = z.binary_cross_entropy(y).named("l");
        assert_eq!(text(l), "maximum(z, 0) - z * y + log1p(exp(-abs(z)))");
        assert_eq!(text(gradient(l, z)), "d_l * (sigmoid(z) - y)");
        let l = z.huber(y, 0.5).named("l");
        assert_eq!(text(l), "huber(z, y, delta=0.5)");
        assert_eq!(text(gradient(l, z)), "d_l * clip(z - y, -0.5, 0.5)");
        assert_eq!(text(gradient(l, y)), "-(d_l * clip(z - y, -0.5, 0.5))");
    }

    #[test]
    fn a_sure_and_right_answer_costs_little_but_not_nothing() {
        let loss = |z: f32, t: f32| BinaryCrossEntropy::map(&[0.0; 4], [z, t]);
        for small in [loss(50.0, 1.0), loss(-50.0, 0.0)] {
            assert!((f64::from(small) / libm::exp(-50.0) - 1.0).abs() < 2e-7);
        }
        assert_eq!([loss(1e4, 0.0), loss(-1e4, 1.0)], [1e4; 2]);
        assert_eq!(loss(0.0, 0.3), std::f32::consts::LN_2);
    }

    #[test]
    fn both_sides_of_delta() {
        let loss = |e: f64| Huber::map(&[2.0, 0.0, 0.0, 0.0], [1.0 + e, 1.0]);
        assert_eq!([loss(0.0), loss(1.0), loss(-2.0), loss(5.0)], [0.0, 0.5, 2.0, 8.0]);
        assert!(loss(f64::NAN).is_nan());
        let g = Graph::new();
        let x = g.input("x", DType::F32, [3]);
        assert!(x.huber(x, 0.0).is_poison());
        assert_eq!(error(&g), "wants a finite delta above 0, got 0");
    }
}
