//! A network of 2 inputs, 4 hidden neurons and 1 output learns exclusive or.
//!
//!     cargo run --release --example xor
//!
//! Prints the loss every 500 steps, then what the network answers to its four inputs.

use geartrain::optim::{self, Sgd};
use geartrain::{DType, Graph, Init, Options, Program, State};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // What is computed: the network, its loss, and the update of its parameters.
    let g = Graph::new();
    let x = g.input("x", DType::F32, [4, 2]);
    let y = g.input("y", DType::F32, [4, 1]);
    let w1 = g.parameter("w1", DType::F32, [2, 4], Init::Normal { std: 1.0 });
    let b1 = g.parameter("b1", DType::F32, [4], Init::ZEROS);
    let w2 = g.parameter("w2", DType::F32, [4, 1], Init::Normal { std: 1.0 });
    let b2 = g.parameter("b2", DType::F32, [1], Init::ZEROS);
    let answers = ((x.matmul(w1) + b1).tanh().matmul(w2) + b2).sigmoid();
    let loss = answers.mean_squared_error(y);
    optim::minimize(&g, loss, &Sgd, g.number(DType::F64, 1.0), 0.0)?;
    g.output("loss", loss);
    g.output("answers", answers);

    // What is learned, how it is computed, and what is read.
    let mut state = State::new(&g, 42)?;
    let mut program = Program::compile(&g, &state, Options::default())?;
    let mut batch = program.batch();
    batch.f32s("x")?.copy_from_slice(&[0., 0., 0., 1., 1., 0., 1., 1.]);
    batch.f32s("y")?.copy_from_slice(&[0., 1., 1., 0.]);

    for step in 0..=3000 {
        program.run(&mut state, &batch)?;
        if step % 500 == 0 {
            println!("step {step:4}   loss {:.6}", program.scalar("loss").unwrap_or(f64::NAN));
        }
    }
    for (i, answer) in program.f32s("answers").into_iter().flatten().enumerate() {
        println!("{} xor {} = {answer:.3}", i / 2, i % 2);
    }
    Ok(())
}
