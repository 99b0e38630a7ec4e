//! An operation of one's own: squareplus, (x + √(x² + 4)) / 2, a smooth relative of relu (Barron, 2021). Its kernel is a
//! safe scalar function. It is checked as the built-in operations are, then used and trained in a network.
//!
//!     cargo run --release --example custom_op
//!
//! Prints the table of checks (errors of kernels, and of derivatives against differences), then the losses of a network
//! that learns the absolute value with it.

use geartrain::engine::check::{check_op, table};
use geartrain::engine::ir::op::Attrs;
use geartrain::engine::ops::pointwise::{awkward_shapes, infer};
use geartrain::engine::{Array, Case, Cotangent, CustomFn, Domain, Explain, Expr, Kernel, Kind, Op, Routine, Rule};
use geartrain::engine::{Slice, SliceMut, Vjp};
use geartrain::nn::Linear;
use geartrain::optim::{self, Momentum};
use geartrain::{DType, Graph, Init, Options, Program, Shape, State, Type, Var};

/// y = (x + √(x² + 4)) / 2
#[derive(Clone, Copy, Debug)]
struct Squareplus;

fn squareplus(x: f64) -> f64 {
    (x + (x * x + 4.0).sqrt()) / 2.0
}

impl Op for Squareplus {
    fn name(&self) -> &'static str {
        "squareplus"
    }
    fn kind(&self) -> Kind {
        Kind::Elementwise
    }
    fn attrs(&self) -> Attrs {
        Attrs::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        infer(1, x)
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::Custom(CustomFn::new(|x, y| match (x, y) {
            ([Slice::F32(x)], SliceMut::F32(y)) => {
                y.iter_mut().zip(*x).for_each(|(y, x)| *y = squareplus(f64::from(*x)) as f32);
            }
            ([Slice::F64(x)], SliceMut::F64(y)) => y.iter_mut().zip(*x).for_each(|(y, x)| *y = squareplus(*x)),
            // `infer` lets no other types through.
            _ => {}
        })))
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        // Its definition in other operations: the checks compare both, and their derivatives.
        Some((x[0] + (x[0] * x[0] + 4.0).sqrt()) / 2.0)
    }
    fn vjp<'g>(&self, rule: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let x = rule.x[0];
        vec![rule.flows(0, || rule.ct * rule.y / (x * x + 4.0).sqrt())]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        // The same function, written another way.
        x[0].values.iter().map(|x| 2.0 / ((x * x + 4.0).sqrt() - x)).collect()
    }
    fn bound(&self, x: &[Array], _: &Array, eps: f64) -> Vec<f64> {
        // Both forms cancel for large |x|, so the error is relative to x, not to y.
        x[0].values.iter().map(|x| 8.0 * eps * (x * x + 4.0)).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "A smooth relative of relu, made of a square root.",
            formula: "y = (x + √(x² + 4)) / 2",
            derivative: "d_x = d_y · y / √(x² + 4)",
            kinks: "",
            cost: "1 square root an element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        awkward_shapes().into_iter().map(|shape| Case::new(*self, vec![(shape, Domain::Between(-3.0, 3.0))])).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("squareplus", x)
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
