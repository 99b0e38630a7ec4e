//! The workloads, one after another as the recipe lists them.

use geartrain_engine::state::Entry;
use geartrain_nn::optim::{AdamW, Optimizer, Rate, Sgd};
use geartrain_nn::rnn::{Cell, by_time};
use geartrain_nn::{Activation, Dropout, Embedding, Gpt2, Linear, Mlp, Ngram, Rnn};

use super::recipe::{Start, uniform, whole};
use super::{Kind, Parameters, Training, Workload};
use crate::{DType, Data, Graph, GraphError, Init, Shape, Var};

/// Seeds of features and of targets.
const X: u32 = 1001;
const Y: u32 = 1002;
/// Characters.
const V: usize = 65;
/// Rows of the vocabulary of GPT-2.
const WORDS: usize = 50257;

/// Every workload once.
pub static WORKLOADS: &[Workload] = &[
    Workload { name: "xor", key: "W1", what: "XOR: 2-4-1, sigmoid, SGD, 17 parameters", kind: Kind::Training(XOR) },
    Workload { name: "tokens", key: "W2", what: "five tokens: 5-16-5, GELU, SGD", kind: Kind::Training(TOKENS) },
    Workload { name: "mlp", key: "W3", what: "classifier: 784-512-256-10, batch 128", kind: Kind::Training(MLP) },
    Workload {
        name: "ngram",
        key: "W4",
        what: "n-gram model: 256 x 16 tokens, 512 hidden",
        kind: Kind::Training(NGRAM),
    },
    Workload { name: "rnn", key: "W5", what: "RNN: 256 hidden, 32 x 64 tokens", kind: Kind::Training(RNN) },
    Workload { name: "gru", key: "W5gru", what: "GRU: 256 hidden, 32 x 64 tokens", kind: Kind::Training(GRU) },
    Workload { name: "gpt-small", key: "W6", what: "GPT-2: 4 x 128, 12 x 64 tokens", kind: Kind::Training(SMALL) },
    Workload {
        name: "gpt-small-tanh",
        key: "W6:tanh",
        what: "the same with GELU by tanh",
        kind: Kind::Training(SMALL_TANH),
    },
    Workload { name: "gpt-medium", key: "W7", what: "GPT-2: 6 x 384, 4 x 256 tokens", kind: Kind::Training(MEDIUM) },
    Workload { name: "large-vocab", key: "W8", what: "50,257 classes, 64 tokens", kind: Kind::Training(VOCABULARY) },
    Workload { name: "adamw", key: "W9a", what: "AdamW on 10 million parameters", kind: Kind::Other(adamw_alone) },
    Workload { name: "gelu", key: "W9b", what: "GELU forward and backward, 4 million", kind: Kind::Other(gelu_alone) },
];

fn sgd() -> Box<dyn Optimizer> {
    Box::new(Sgd)
}

fn adamw() -> Box<dyn Optimizer> {
    Box::new(AdamW { betas: (0.9, 0.999), eps: 1e-8, decay: 0.01 })
}

/// A parameter by its names there and here.
fn named(theirs: &str, ours: &str, start: Start) -> (String, String, Start) {
    (theirs.to_string(), ours.to_string(), start)
}

/// The recipe's `W1`, `b1`, `W2`, ... of the layers of an [`Mlp`].
fn layers(starts: &[(Start, Start)]) -> Parameters {
    let pair = |(i, (w, b)): (usize, &(Start, Start))| {
        let n = i + 1;
        let weight = named(&format!("W{n}"), &format!("layers.{i}.weight"), *w);
        [weight, named(&format!("b{n}"), &format!("layers.{i}.bias"), *b)]
    };
    starts.iter().enumerate().flat_map(pair).collect()
}

/// Weights and biases between -1 / √inputs and 1 / √inputs.
fn both(inputs: usize) -> (Start, Start) {
    let start = Start::Uniform(1.0 / (inputs as f64).sqrt());
    (start, start)
}

const XOR: Training = Training {
    parameters: || layers(&[(Start::Uniform(1.0), Start::Same(0.0)); 2]),
    optimizer: sgd,
    lr: 0.5,
    x: || ([4, 2].into(), Data::F32(vec![0., 0., 0., 1., 1., 0., 1., 1.])),
    y: || ([4, 1].into(), Data::F32(vec![0., 1., 1., 0.])),
    loss: |_, x, y, _| {
        let mlp = Mlp { sizes: vec![2, 4, 1], activation: Activation::Sigmoid, bias: true };
        mlp.forward(x).sigmoid().mean_squared_error(y)
    },
};

const TOKENS: Training = Training {
    parameters: || layers(&[(Start::Uniform(0.5), Start::Same(0.0)); 2]),
    optimizer: sgd,
    lr: 0.3,
    x: || ([4, 5].into(), Data::F32((0..20).map(|i| f32::from(i / 5 == i % 5)).collect())),
    y: || ([4].into(), Data::U32(vec![1, 2, 3, 4])),
    loss: |_, x, y, _| {
        let mlp = Mlp { sizes: vec![5, 16, 5], activation: Activation::GeluTanh, bias: true };
        mlp.forward(x).cross_entropy(y).mean_all()
    },
};

const MLP: Training = Training {
    parameters: || layers(&[both(784), both(512), both(256)]),
    optimizer: adamw,
    lr: 1e-3,
    x: || ([128, 784].into(), Data::F32(uniform(X, 128 * 784, 1.0))),
    y: || ([128].into(), Data::U32(whole(Y, 128, 10))),
    loss: |_, x, y, _| {
        let mlp = Mlp { sizes: vec![784, 512, 256, 10], activation: Activation::Relu, bias: true };
        mlp.forward(x).cross_entropy(y).mean_all()
    },
};

/// `rows` sequences of `len` tokens and as many targets.
fn sequences(seed: u32, rows: usize, len: usize) -> (Shape, Data) {
    ([rows, len].into(), Data::U32(whole(seed, rows * len, V as u32)))
}

fn targets(rows: usize) -> (Shape, Data) {
    ([rows].into(), Data::U32(whole(Y, rows, V as u32)))
}

const NGRAM: Training = Training {
    parameters: || {
        let (w, b) = both(512);
        vec![
            named("E", "embedding.weight", Start::Uniform(1.0)),
            named("W1", "hidden.weight", w),
            named("b1", "hidden.bias", b),
            named("W2", "output.weight", w),
            named("b2", "output.bias", b),
        ]
    },
    optimizer: adamw,
    lr: 1e-3,
    x: || sequences(X, 256, 16),
    y: || targets(256),
    loss: |g, x, y, dtype| {
        let model = Ngram { vocab: V, context: 16, embedding: 32, hidden: 512 };
        model.forward(g, x, dtype).cross_entropy(y).mean_all()
    },
};

fn recurrent_parameters() -> Parameters {
    let start = Start::Uniform(1.0 / 16.0);
    let mut all = vec![named("E", "embedding.weight", Start::Uniform(1.0))];
    all.extend([("Wx", "weight_x"), ("Wh", "weight_h"), ("bx", "bias_x"), ("bh", "bias_h")].map(|(theirs, ours)| {
        let ours = format!("rnn.{ours}");
        named(theirs, &ours, start)
    }));
    all.extend([named("Wo", "output.weight", start), named("bo", "output.bias", start)]);
    all
}

fn recurrent<'g>(g: &'g Graph, x: Var<'g>, y: Var<'g>, dtype: DType, cell: Cell) -> Var<'g> {
    let model = Rnn { vocab: V, embedding: 128, hidden: 256, cell };
    model.forward(g, x, dtype).cross_entropy(by_time(y)).mean_all()
}

const RNN: Training = Training {
    parameters: recurrent_parameters,
    optimizer: adamw,
    lr: 1e-3,
    x: || sequences(X, 32, 64),
    y: || sequences(Y, 32, 64),
    loss: |g, x, y, dtype| recurrent(g, x, y, dtype, Cell::Tanh),
};

const GRU: Training = Training { loss: |g, x, y, dtype| recurrent(g, x, y, dtype, Cell::Gru), ..RNN };

/// The recipe's names of GPT-2's tensors and Hugging Face's.
fn gpt2_parameters(layers: usize) -> Parameters {
    let (std, residual) = (0.035, 0.035 / (2.0 * layers as f64).sqrt());
    let block = |i: usize| {
        let names = [
            ("ln1", "ln_1", Start::Same(1.0)),
            ("qkv", "attn.c_attn", Start::Uniform(std)),
            ("proj", "attn.c_proj", Start::Uniform(residual)),
            ("ln2", "ln_2", Start::Same(1.0)),
            ("fc", "mlp.c_fc", Start::Uniform(std)),
            ("fc2", "mlp.c_proj", Start::Uniform(residual)),
        ];
        names.map(|(theirs, ours, start)| {
            named(&format!("{theirs}.{i}"), &format!("transformer.h.{i}.{ours}.weight"), start)
        })
    };
    let one = |theirs: &str, ours: &str, start| named(theirs, &format!("transformer.{ours}.weight"), start);
    let mut all = vec![one("wte", "wte", Start::Uniform(std)), one("wpe", "wpe", Start::Uniform(std))];
    all.extend((0..layers).flat_map(block));
    all.push(one("lnf", "ln_f", Start::Same(1.0)));
    all
}

fn gpt2<'g>(g: &'g Graph, x: Var<'g>, y: Var<'g>, dtype: DType, shape: [usize; 3], activation: Activation) -> Var<'g> {
    let [layers, heads, width] = shape;
    let context = x.shape().dims()[1];
    let model = Gpt2 { vocab: V, context, layers, heads, width, bias: false, tied: true, activation };
    model.forward(g, x, dtype, &Dropout::off()).cross_entropy(y).mean_all()
}

const SMALL: Training = Training {
    parameters: || gpt2_parameters(4),
    optimizer: adamw,
    lr: 1e-3,
    x: || sequences(X, 12, 64),
    y: || targets(12 * 64),
    loss: |g, x, y, dtype| gpt2(g, x, y, dtype, [4, 4, 128], Activation::Gelu),
};

const SMALL_TANH: Training =
    Training { loss: |g, x, y, dtype| gpt2(g, x, y, dtype, [4, 4, 128], Activation::GeluTanh), ..SMALL };

const MEDIUM: Training = Training {
    parameters: || gpt2_parameters(6),
    x: || sequences(X, 4, 256),
    y: || targets(4 * 256),
    loss: |g, x, y, dtype| gpt2(g, x, y, dtype, [6, 6, 384], Activation::Gelu),
    ..SMALL
};

const VOCABULARY: Training = Training {
    parameters: || {
        let start = Start::Uniform(1.0 / 16.0);
        let embedding = named("E", "embedding.weight", Start::Uniform(1.0));
        vec![embedding, named("W1", "output.weight", start), named("b1", "output.bias", start)]
    },
    optimizer: adamw,
    lr: 1e-3,
    x: || ([64].into(), Data::U32(whole(X, 64, WORDS as u32))),
    y: || ([64].into(), Data::U32(whole(Y, 64, WORDS as u32))),
    loss: |g, x, y, dtype| {
        let table = Embedding { rows: WORDS, width: 256, init: Init::ZEROS }.table("embedding", g, dtype);
        let head = Linear { inputs: 256, outputs: WORDS, bias: true, init: Init::ZEROS };
        head.forward("output", table.gather(x)).cross_entropy(y).mean_all()
    },
};

/// One update of 10 million parameters from a gradient that is given.
fn adamw_alone(g: &Graph) -> Result<(), GraphError> {
    let p = g.parameter("p", DType::F32, [10_000_000], Init::Uniform { bound: 1.0 });
    let gradient = g.input("gradient", DType::F32, [10_000_000]);
    let rate = Rate { lr: g.scalar("lr"), c1: g.scalar("c1"), c2: g.scalar("c2") };
    for (_, entry) in g.parameters() {
        let entry: Entry = entry;
        adamw().update(&entry, p, gradient, rate);
    }
    g.check()
}

/// GELU by tanh of 4 million numbers, and the gradient of its input from one of its output.
fn gelu_alone(g: &Graph) -> Result<(), GraphError> {
    let x = g.input("x", DType::F32, [4_000_000]);
    let ct = g.input("ct", DType::F32, [4_000_000]);
    let y = x.gelu_tanh();
    let gradient = g.grad((y * ct).sum_all(), &[x])?;
    g.output("y", y);
    g.output("d_x", gradient[0]);
    g.check()
}
