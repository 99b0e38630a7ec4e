//! An operation of one's own: squareplus, (x + √(x² + 4)) / 2, a smooth relative of relu (Barron, 2021). Its kernel is a
//! safe scalar function. It is checked as the built-in operations are, then used and trained in a network.
//!
//!     cargo run --release --example custom_op
//!
//! Prints the table of checks (errors of kernels, and of derivatives against differences), then the losses of a network
//! that learns the absolute value with it.

use geartrain::engine::check::{check_op, table};
use geartrain::engine::ops::pointwise::Pointwise;
use geartrain::engine::{Cotangent, Domain, Explain, Map, Params, Real, Vjp, pointwise};
use geartrain::nn::Linear;
use geartrain::optim::{self, Momentum};
use geartrain::{DType, Graph, Init, Options, Program, State, Var};

/// y = (x + √(x² + 4)) / 2
#[derive(Clone, Copy, Debug)]
struct Squareplus;

// Makes it an operation of one operand, from the two implementations below.
pointwise!(Squareplus: 1);

impl Map<1> for Squareplus {
    // One source for f32 and f64 and for every instruction set; chains with other elementwise operations are fused.
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        (x + (x * x + T::from_f64(4.0)).sqrt()) * T::from_f64(0.5)
    }
}

impl Pointwise<1> for Squareplus {
    const NAME: &'static str = "squareplus";
    const ULPS: f64 = 4.0;
    const EXPLAIN: Explain = Explain {
        what: "A smooth relative of relu, made of a square root.",
        formula: "y = (x + √(x² + 4)) / 2",
        derivative: "d_x = d_y · y / √(x² + 4)",
        kinks: "",
        cost: "1 square root an element",
    };
    fn vjp<'g>(&self, rule: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let x = rule.x[0];
        vec![rule.flows(0, || rule.ct * rule.y / (x * x + 4.0).sqrt())]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        // The same function, written another way.
        2.0 / ((x * x + 4.0).sqrt() - x)
    }
    fn scale(&self, [x]: [f64; 1], _: f64) -> f64 {
        // Both forms cancel for large |x|, so the rounding error is relative to x, not to y.
        x * x + 4.0
    }
    fn domain(&self) -> [Domain; 1] {
        [Domain::Between(-3.0, 3.0)]
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        // Its definition in other operations: the checks compare both, and their derivatives.
        Some((x[0] + (x[0] * x[0] + 4.0).sqrt()) / 2.0)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let report = check_op(&Squareplus, 0);
    println!("{}", table(std::slice::from_ref(&report)));
    if !report.passed() {
        return Err("squareplus does not pass its checks".into());
    }

    // 33 numbers from -2 to 2 and their absolute values.
    let g = Graph::new();
    let (x, y) = (g.input("x", DType::F32, [33, 1]), g.input("y", DType::F32, [33, 1]));
    let linear = |inputs, outputs| Linear { inputs, outputs, bias: true, init: Init::Normal { std: 1.0 } };
    let hidden = g.apply(Squareplus, &[linear(1, 8).forward("hidden", x)]);
    let loss = linear(8, 1).forward("output", hidden).mean_squared_error(y);
    optim::minimize(&g, loss, &Momentum { momentum: 0.9 }, g.number(DType::F64, 0.01), 1.0)?;
    g.output("loss", loss);
    let mut state = State::new(&g, 1)?;
    let mut program = Program::compile(&g, &state, Options::default())?;
    let mut batch = program.batch();
    let values = (0..33).map(|i| i as f32 / 8.0 - 2.0);
    batch.f32s("x")?.iter_mut().zip(values.clone()).for_each(|(x, value)| *x = value);
    batch.f32s("y")?.iter_mut().zip(values).for_each(|(y, value)| *y = value.abs());
    for step in 0..=2000 {
        program.run(&mut state, &batch)?;
        if step % 400 == 0 {
            println!("step {step:4}   loss {:.6}", program.scalar("loss").unwrap_or(f64::NAN));
        }
    }
    Ok(())
}
