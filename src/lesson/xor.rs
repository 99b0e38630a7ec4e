//! XOR: 2 inputs, 4 hidden neurons, 1 output; 17 parameters.

use geartrain_engine::{DType, Graph, Init};
use geartrain_nn::init::RandomState;

use super::compute::known;
use super::{Lesson, LessonError, Network, Outputs, Page};

/// Sigmoid network, mean squared error, plain gradient descent on all four examples at once.
pub static LESSON: Lesson = Lesson {
    name: "xor",
    title: "XOR: a 2 → 4 → 1 network learns exclusive or (17 parameters)",
    network: Some(&NETWORK),
    write,
};

static NETWORK: Network = Network { epochs: 5000, every: 1000, rate: 0.5, examples: 4, build, describe };

fn build(g: &Graph, dtype: DType) -> Outputs<'_> {
    // np.random.seed(42), randn * 0.5
    let mut random = RandomState::new(42);
    network(g, dtype, [random.randn(dtype, [2, 4], 0.5), random.randn(dtype, [4, 1], 0.5)], true)
}

/// The network with other starting weights W1 and W2, or without biases.
pub(super) fn network(g: &Graph, dtype: DType, [w1, w2]: [Init; 2], bias: bool) -> Outputs<'_> {
    let x = known(g, dtype, [4, 2], &[0., 0., 0., 1., 1., 0., 1., 1.]).named("X");
    let y = known(g, dtype, [4, 1], &[0., 1., 1., 0.]).named("y");
    let w1 = g.parameter("W1", dtype, [2, 4], w1);
    let b1 = bias.then(|| g.parameter("b1", dtype, [1, 4], Init::ZEROS));
    let w2 = g.parameter("W2", dtype, [4, 1], w2);
    let b2 = bias.then(|| g.parameter("b2", dtype, [1, 1], Init::ZEROS));

    let z1 = b1.map_or(x.matmul(w1), |b1| x.matmul(w1) + b1).named("z1");
    let a1 = z1.sigmoid().named("a1");
    let z2 = b2.map_or(a1.matmul(w2), |b2| a1.matmul(w2) + b2).named("z2");
    let a2 = z2.sigmoid().named("a2");
    let loss = a2.mean_squared_error(y).named("loss");
    let answer = a2.greater(a2.full(0.5)).cast(dtype);
    Outputs { loss, predictions: a2, correct: answer.equal(y) }
}

fn describe(i: usize, prediction: f64) -> String {
    let target = [0, 1, 1, 0][i % 4];
    format!("[{} {}] → {prediction:.3}   (target {target})", i / 2 % 2, i % 2)
}

fn write(page: &mut Page) -> Result<(), LessonError> {
    page.paragraph(
        "Exclusive or is 1 when exactly one of its two inputs is 1. No straight line separates its ones from its \
         zeros, so a single neuron cannot compute it; four hidden neurons can. Below is the whole of one training \
         step. Only its forward part is written in the source code. The engine derives the backward part from it, one \
         product of the chain rule a line, from the loss back to the first weights.",
    );
    let trained = NETWORK.show(page)?;
    let worst = trained.after_last_update.iter().zip([0.0, 1.0, 1.0, 0.0]).map(|(p, y)| (p - y).abs());
    let worst = worst.fold(0.0, f64::max);
    page.paragraph(&format!(
        "For a long time the loss hardly moves from what guessing 0.5 would give; then the hidden neurons divide the \
         work between them, and it falls. The worst of the four answers ends {worst:.3} away from its target. Nothing \
         but the lines above did this, {} times over.",
        NETWORK.epochs
    ));
    page.next(&["geartrain explain xor", "geartrain gradcheck xor", "geartrain lesson tokens"]);
    Ok(())
}
