//! Powers with a constant exponent.

use geartrain_kernels::math::Real;
use geartrain_kernels::{Map, Params};

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Binding, Cotangent, Domain, Explain, Expr, Vjp};
use crate::ops::pointwise::{Pointwise, number, pointwise};

/// y = x^p
#[derive(Clone, Copy, Debug)]
pub struct Pow {
    /// The exponent.
    pub p: f64,
}

pointwise!(Pow: 1);

impl Pow {
    pub(crate) const EXAMPLE: Pow = Pow { p: 3.0 };
}
impl Map<1> for Pow {
    /// In f64 for f32 too, so that it is rounded once. Small whole exponents are products.
    #[inline(always)]
    fn map<T: Real>(params: &Params, [x]: [T; 1]) -> T {
        let (x, p) = (x.to_f64(), params[0]);
        let square = x * x;
        T::from_f64(if p == 2.0 {
            square
        } else if p == 3.0 {
            square * x
        } else if p == 4.0 {
            square * square
        } else if p == -1.0 {
            1.0 / x
        } else if p == -2.0 {
            1.0 / square
        } else {
            libm::pow(x, p)
        })
    }
}
impl Pointwise<1> for Pow {
    const NAME: &'static str = "pow";
    const ULPS: f64 = 2.0;
    const EXPLAIN: Explain = Explain {
        what: "Raises each element to the power p, a constant. Elements below 0 want a whole p: the result is NaN otherwise.",
        formula: "y = x^p",
        derivative: "d_x = d_y · p · x^(p - 1)",
        kinks: "at x = 0 the derivative is infinite where p < 1",
        cost: "1 or 2 products an element where p is 2, 3 or 4, a division where it is -1 or -2, else 1 power; the \
               derivative as much again",
    };
    fn params(&self) -> Params {
        [self.p, 0.0, 0.0, 0.0]
    }
    fn names(&self) -> &'static [&'static str] {
        &["p"]
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let (x, p) = (r.x[0], self.p);
        // x^0 is 1 everywhere; 0 · x^-1 would be NaN at 0.
        match p == 0.0 {
            true => vec![Cotangent::Zero],
            false => vec![r.flows(0, || r.ct * (p * x.pow(p - 1.0)))],
        }
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        x.powf(self.p)
    }
    fn domain(&self) -> [Domain; 1] {
        match self.p.fract() == 0.0 {
            true => [Domain::Away(&[-0.2, -0.1, 0.0, 0.1, 0.2])],
            false => [Domain::Between(0.25, 3.0)],
        }
    }
    fn examples(&self) -> Vec<Pow> {
        [2.0, 3.0, 4.0, -1.0, -2.0, -3.0, 0.5, -1.5, 7.0].map(|p| Pow { p }).to_vec()
    }
    fn print(&self, x: &[Expr]) -> Expr {
        let text = format!("{} ** {}", x[0].within(Binding::Atom, true), number(self.p).text);
        Expr { binding: Binding::Negation, ..Expr::atom(text) }
    }
}

impl<'g> Var<'g> {
    /// Each element to the power `p`, a finite number. An element below 0 gives NaN unless `p` is whole. 0 to a power below 0
    /// is infinite, and anything to the power 0 is 1. For a power that varies write `(p * x.ln()).exp()`.
    #[track_caller]
    pub fn pow(self, p: f64) -> Var<'g> {
        match p {
            1.0 => self,
            p if p.is_finite() => Var::elementwise(Pow { p }, &[self]),
            p => self.graph().fail("pow", Rule::new(format!("wants a finite exponent, got {p}")), vec![self.ty()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{error, gradient, text};
    use crate::{DType, Graph, Init};

    #[test]
    fn powers_print_as_python_writes_them() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F64, [3], Init::ONES);
        let y = x.pow(3.0).named("y");
        assert_eq!(text(y), "x ** 3");
        assert_eq!(text(gradient(y, x)), "d_y * 3 * x ** 2".replace("3 * x ** 2", "(3 * x ** 2)"));
        assert_eq!(text(gradient(x.pow(2.0).named("z"), x)), "d_z * (2 * x)");
        assert_eq!(text(-(x + 1.0).pow(-0.5)), "-((x + 1) ** -0.5)");
        assert_eq!(text((-x).pow(2.0).pow(2.0)), "((-x) ** 2) ** 2");
        assert_eq!(text(2.0 * x.pow(2.0) - x.pow(1.0)), "2 * x ** 2 - x");
    }

    #[test]
    fn corners() {
        let pow = |x: f64, p: f64| Pow::map(&[p, 0.0, 0.0, 0.0], [x]);
        assert_eq!([pow(-2.0, 3.0), pow(0.0, 0.0), pow(-3.0, 0.0), pow(0.0, -1.0)], [-8.0, 1.0, 1.0, f64::INFINITY]);
        assert!(pow(-2.0, 0.5).is_nan() && pow(f64::NAN, 2.0).is_nan());
        // The square of a large f32 overflows only at the end.
        assert_eq!(Pow::map(&[-2.0, 0.0, 0.0, 0.0], [1e20f32]), 1e-40);
    }

    #[test]
    fn a_constant_has_no_gradient_and_exponents_are_finite() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F64, [3], Init::ZEROS);
        assert!(g.grad(x.pow(0.0).sum_all(), &[x]).is_err(), "nothing reaches x");
        assert!(x.pow(f64::INFINITY).is_poison());
        assert_eq!(error(&g), "wants a finite exponent, got inf");
    }
}
