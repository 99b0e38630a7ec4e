//! Next-token prediction over "The capital of France Paris": 5 → 16 → 5.

use geartrain_engine::{DType, Data, Graph, Init, Tensor};
use geartrain_nn::init::RandomState;

use super::{Lesson, Outputs};

/// The five tokens.
pub const VOCABULARY: [&str; 5] = ["The", "capital", "of", "France", "Paris"];

/// GELU network, softmax and cross-entropy, plain gradient descent on all four pairs at once.
pub static LESSON: Lesson = Lesson {
    name: "tokens",
    title: "Tokens: a 5 → 16 → 5 network learns which word comes next (181 parameters)",
    epochs: 500,
    every: 100,
    rate: 0.3,
    examples: 4,
    build,
    describe,
};

fn build(g: &Graph, dtype: DType) -> Outputs<'_> {
    // np.random.seed(0), randn * 0.3
    let mut random = RandomState::new(0);
    let one_hot: Vec<f64> = (0..20).map(|i| f64::from(u8::from(i / 5 == i % 5))).collect();
    let x = match Tensor::from_f64(dtype, [4, 5], &one_hot) {
        Some(tensor) => g.constant(tensor).named("X"),
        None => g.number(dtype, f64::NAN),
    };
    let y = match Tensor::new([4], Data::U32(vec![1, 2, 3, 4])) {
        Some(tensor) => g.constant(tensor).named("y"),
        None => g.number(DType::U32, 0.0),
    };
    let w1 = g.parameter("W1", dtype, [5, 16], random.randn(dtype, [5, 16], 0.3));
    let b1 = g.parameter("b1", dtype, [1, 16], Init::ZEROS);
    let w2 = g.parameter("W2", dtype, [16, 5], random.randn(dtype, [16, 5], 0.3));
    let b2 = g.parameter("b2", dtype, [1, 5], Init::ZEROS);

    let z1 = (x.matmul(w1) + b1).named("z1");
    let a1 = z1.gelu_tanh().named("a1");
    let z2 = (a1.matmul(w2) + b2).named("z2");
    let loss = z2.cross_entropy(y).mean_all().named("loss");

    let probs = z2.softmax().named("probs");
    let answer = probs.argmax().cast(dtype);
    Outputs { loss, predictions: probs.max(1).reshape([4]), correct: answer.equal(y.cast(dtype)) }
}

fn describe(i: usize, prediction: f64) -> String {
    let (token, next) = (VOCABULARY[i % 4], VOCABULARY[i % 4 + 1]);
    format!("{:9} → {:9} {:.1} %", format!("{token:?}"), format!("{next:?}"), prediction * 100.0)
}
