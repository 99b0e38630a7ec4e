//! XOR: 2 inputs, 4 hidden neurons, 1 output; 17 parameters.

use geartrain_engine::{DType, Graph, Init, Tensor, Var};
use geartrain_nn::init::RandomState;

use super::{Lesson, Outputs};

/// Sigmoid network, mean squared error, plain gradient descent on all four examples at once.
pub static LESSON: Lesson = Lesson {
    name: "xor",
    title: "XOR: a 2 → 4 → 1 network learns exclusive or (17 parameters)",
    epochs: 5000,
    every: 1000,
    rate: 0.5,
    examples: 4,
    build,
    describe,
};

fn build(g: &Graph, dtype: DType) -> Outputs<'_> {
    // np.random.seed(42), randn * 0.5
    let mut random = RandomState::new(42);
    let x = data(g, dtype, [4, 2], &[0., 0., 0., 1., 1., 0., 1., 1.]).named("X");
    let y = data(g, dtype, [4, 1], &[0., 1., 1., 0.]).named("y");
    let w1 = g.parameter("W1", dtype, [2, 4], random.randn(dtype, [2, 4], 0.5));
    let b1 = g.parameter("b1", dtype, [1, 4], Init::ZEROS);
    let w2 = g.parameter("W2", dtype, [4, 1], random.randn(dtype, [4, 1], 0.5));
    let b2 = g.parameter("b2", dtype, [1, 1], Init::ZEROS);

    let z1 = (x.matmul(w1) + b1).named("z1");
    let a1 = z1.sigmoid().named("a1");
    let z2 = (a1.matmul(w2) + b2).named("z2");
    let a2 = z2.sigmoid().named("a2");
    let loss = a2.mean_squared_error(y).named("loss");
    let answer = a2.greater(a2.full(0.5)).cast(dtype);
    Outputs { loss, predictions: a2, correct: answer.equal(y) }
}

fn data<'g>(g: &'g Graph, dtype: DType, shape: [usize; 2], values: &[f64]) -> Var<'g> {
    match Tensor::from_f64(dtype, shape, values) {
        Some(tensor) => g.constant(tensor),
        None => g.number(dtype, f64::NAN),
    }
}

fn describe(i: usize, prediction: f64) -> String {
    let target = [0, 1, 1, 0][i % 4];
    format!("[{} {}] → {prediction:.3}   (target {target})", i / 2 % 2, i % 2)
}
