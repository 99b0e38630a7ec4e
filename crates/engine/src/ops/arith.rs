//! Add, sub, mul, div, neg.

use geartrain_kernels::math::Real;
use geartrain_kernels::{Map, Params};

use crate::ir::op::{Binding, Cotangent, Domain, Explain, Expr, Vjp};
use crate::ops::pointwise::{Pointwise, pointwise};

/// y = a + b
#[derive(Clone, Copy, Debug)]
pub struct Add;
/// y = a - b
#[derive(Clone, Copy, Debug)]
pub struct Sub;
/// y = a * b
#[derive(Clone, Copy, Debug)]
pub struct Mul;
/// y = a / b
#[derive(Clone, Copy, Debug)]
pub struct Div;
/// y = -a
#[derive(Clone, Copy, Debug)]
pub struct Neg;

pointwise!(Add: 2, Sub: 2, Mul: 2, Div: 2, Neg: 1);

const ANY: Domain = Domain::Between(-3.0, 3.0);

impl Map<2> for Add {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [a, b]: [T; 2]) -> T {
        a + b
    }
}
impl Pointwise<2> for Add {
    const NAME: &'static str = "add";
    const ULPS: f64 = 0.5;
    const EXPLAIN: Explain = Explain {
        what: "Adds two values.",
        formula: "y = a + b",
        derivative: "d_a = d_y, d_b = d_y",
        kinks: "",
        cost: "1 FLOP an element",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct), r.flows(1, || r.ct)]
    }
    fn reference(&self, [a, b]: [f64; 2]) -> f64 {
        a + b
    }
    fn domain(&self) -> [Domain; 2] {
        [ANY, ANY]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        Expr::infix(&x[0], "+", &x[1], Binding::Sum)
    }
}

impl Map<2> for Sub {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [a, b]: [T; 2]) -> T {
        a - b
    }
}
impl Pointwise<2> for Sub {
    const NAME: &'static str = "sub";
    const ULPS: f64 = 0.5;
    const EXPLAIN: Explain = Explain {
        what: "Subtracts b from a.",
        formula: "y = a - b",
        derivative: "d_a = d_y, d_b = -d_y",
        kinks: "",
        cost: "1 FLOP an element",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct), r.flows(1, || -r.ct)]
    }
    fn reference(&self, [a, b]: [f64; 2]) -> f64 {
        a - b
    }
    fn domain(&self) -> [Domain; 2] {
        [ANY, ANY]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        Expr::infix(&x[0], "-", &x[1], Binding::Sum)
    }
}

impl Map<2> for Mul {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [a, b]: [T; 2]) -> T {
        a * b
    }
}
impl Pointwise<2> for Mul {
    const NAME: &'static str = "mul";
    const ULPS: f64 = 0.5;
    const EXPLAIN: Explain = Explain {
        what: "Multiplies two values element by element.",
        formula: "y = a · b",
        derivative: "d_a = d_y · b, d_b = d_y · a",
        kinks: "",
        cost: "1 FLOP an element",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct * r.x[1]), r.flows(1, || r.ct * r.x[0])]
    }
    fn reference(&self, [a, b]: [f64; 2]) -> f64 {
        a * b
    }
    fn domain(&self) -> [Domain; 2] {
        [ANY, ANY]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        Expr::product(&x[0], &x[1])
    }
    fn neutral(&self) -> &'static [(usize, f64)] {
        &[(0, 1.0), (1, 1.0)]
    }
}

impl Map<2> for Div {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [a, b]: [T; 2]) -> T {
        a / b
    }
}
impl Pointwise<2> for Div {
    const NAME: &'static str = "div";
    const ULPS: f64 = 0.5;
    const EXPLAIN: Explain = Explain {
        what: "Divides a by b.",
        formula: "y = a / b",
        derivative: "d_a = d_y / b, d_b = -d_y · y / b",
        kinks: "",
        cost: "1 division an element",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let b = r.x[1];
        vec![r.flows(0, || r.ct / b), r.flows(1, || -(r.ct * r.y / b))]
    }
    fn reference(&self, [a, b]: [f64; 2]) -> f64 {
        a / b
    }
    fn domain(&self) -> [Domain; 2] {
        [ANY, Domain::Between(0.5, 3.0)]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        Expr::infix(&x[0], "/", &x[1], Binding::Product)
    }
    fn neutral(&self) -> &'static [(usize, f64)] {
        &[(1, 1.0)]
    }
}

impl Map<1> for Neg {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [a]: [T; 1]) -> T {
        -a
    }
}
impl Pointwise<1> for Neg {
    const NAME: &'static str = "neg";
    const ULPS: f64 = 0.5;
    const EXPLAIN: Explain = Explain {
        what: "Changes the sign.",
        formula: "y = -a",
        derivative: "d_a = -d_y",
        kinks: "",
        cost: "1 FLOP an element",
    };
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || -r.ct)]
    }
    fn reference(&self, [a]: [f64; 1]) -> f64 {
        -a
    }
    fn domain(&self) -> [Domain; 1] {
        [ANY]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        Expr { text: format!("-{}", x[0].within(Binding::Negation, true)), binding: Binding::Negation, lets: vec![] }
    }
}
