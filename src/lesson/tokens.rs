//! Next-token prediction over "The capital of France Paris": 5 → 16 → 5.

use geartrain_engine::{DType, Graph, Init};
use geartrain_nn::init::RandomState;

use super::compute::known;
use super::{Lesson, LessonError, Network, Outputs, Page};

/// The five tokens.
pub const VOCABULARY: [&str; 5] = ["The", "capital", "of", "France", "Paris"];

/// GELU network, softmax and cross-entropy, plain gradient descent on all four pairs at once.
pub static LESSON: Lesson = Lesson {
    name: "tokens",
    title: "Tokens: a 5 → 16 → 5 network learns the next word (181 parameters)",
    network: Some(&NETWORK),
    write,
};

static NETWORK: Network = Network { epochs: 500, every: 100, rate: 0.3, examples: 4, build, describe };

fn build(g: &Graph, dtype: DType) -> Outputs<'_> {
    // np.random.seed(0), randn * 0.3
    let mut random = RandomState::new(0);
    let one_hot: Vec<f64> = (0..20).map(|i| f64::from(u8::from(i / 5 == i % 5))).collect();
    let x = known(g, dtype, [4, 5], &one_hot).named("X");
    let y = known(g, DType::U32, [4], &[1., 2., 3., 4.]).named("y");
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

fn write(page: &mut Page) -> Result<(), LessonError> {
    page.paragraph(
        "A language model in miniature. It knows five words and sees one of them at a time, as a row of five numbers \
         with a single 1 in it. It answers with a probability for each word to come next, and is told which one did. \
         Compared with XOR, the activation is GELU instead of the sigmoid, and softmax with cross-entropy takes the \
         place of the squared error. The way back is the same: look for d_z2, where the two meet in one subtraction. \
         The values called t1, t2, ... are parts of GELU that are used more than once.",
    );
    let trained = NETWORK.show(page)?;
    let least = trained.after_last_update.iter().copied().fold(1.0, f64::min);
    page.paragraph(&format!(
        "Even the least certain of the four answers has {:.1} %. A large model does the same with a vocabulary many \
         thousand times larger, and looks at all the words before instead of the last one alone.",
        least * 100.0
    ));
    page.next(&["geartrain explain tokens", "geartrain gradcheck tokens", "geartrain lesson optimizers"]);
    Ok(())
}
