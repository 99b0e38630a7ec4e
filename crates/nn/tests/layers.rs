//! Layers: gradients against central differences, causality, names and shapes, dropout, and the optimizers' updates
//! against plain loops.

use geartrain_engine::check::gradcheck;
use geartrain_engine::check::sample::Draw;
use geartrain_engine::check::{Feed, Report};
use geartrain_engine::{Array, Batch, DType, Data, Graph, Init, Options, Program, Shape, State, Tensor, Var};
use geartrain_nn::optim::{self, AdamW, Momentum, Optimizer, Sgd};
use geartrain_nn::{Activation, CausalSelfAttention, Dropout, Embedding, Gpt2, LayerNorm, Linear, Mlp};

/// All random numbers of this file come from it.
const SEED: u64 = 9;
const RANDOM: Init = Init::Normal { std: 0.5 };
const ACTIVATIONS: [Activation; 6] =
    [Activation::Sigmoid, Activation::Tanh, Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu];

fn draw(name: &str, shape: Shape) -> Array {
    Draw::new(SEED, name).array(shape)
}

/// Checks the gradient of a random weighting of y with respect to every parameter, each drawn from [-1, 1).
fn checked<'g>(g: &'g Graph, y: Var<'g>, scalars: &[(&str, f64)]) -> Report {
    let weights = draw("weights", y.shape());
    let loss = (y * y.constant_like(weights.shape, &weights.values)).sum_all();
    let mut feed = Feed::new();
    let (wrt, entries): (Vec<_>, Vec<_>) = g.parameters().into_iter().unzip();
    entries.iter().for_each(|e| feed.set(&e.name, draw(&e.name, e.ty.shape)));
    scalars.iter().for_each(|(name, value)| feed.set_tensor(name, &Tensor::scalar(DType::F64, *value)));
    let report = gradcheck(g, loss, &wrt, &feed, SEED).unwrap();
    assert!(report.passed(), "{report:#?}");
    assert_eq!(report.directions.len(), entries.len());
    for direction in &report.directions {
        assert!(direction.analytic.abs() > 1e-5, "nothing was checked: {direction:?}");
        assert!(direction.compiled.is_some(), "the program was not checked: {direction:?}");
    }
    report
}

/// An input of a layer, as a parameter so that its gradient is checked too.
fn wanted<'g>(g: &'g Graph, shape: impl Into<Shape>) -> Var<'g> {
    g.parameter("x", DType::F64, shape, RANDOM)
}

fn tokens(g: &Graph, rows: usize, columns: usize, vocab: u32) -> Var<'_> {
    let values = (0..rows * columns).map(|i| (i * i + 3 * i) as u32 % vocab).collect();
    g.constant(Tensor::new([rows, columns], Data::U32(values)).unwrap())
}

fn gpt2(bias: bool, tied: bool) -> Gpt2 {
    Gpt2 { vocab: 11, context: 5, layers: 2, heads: 2, width: 8, bias, tied, activation: Activation::Gelu }
}

#[test]
fn linear_and_layer_norm() {
    for bias in [false, true] {
        let g = Graph::new();
        let y = Linear { inputs: 5, outputs: 3, bias, init: RANDOM }.forward("fc", wanted(&g, [4, 5]));
        assert_eq!((checked(&g, y, &[]).directions.len(), y.shape()), (2 + usize::from(bias), [4, 3].into()));
        let g = Graph::new();
        let y = LayerNorm::new(7, bias).forward("norm", wanted(&g, [3, 7]));
        assert_eq!((checked(&g, y, &[]).directions.len(), y.shape()), (2 + usize::from(bias), [3, 7].into()));
    }
}

#[test]
fn embedding() {
    let g = Graph::new();
    let table = Embedding { rows: 7, width: 3, init: RANDOM }.table("wte", &g, DType::F64);
    let y = table.gather(tokens(&g, 2, 5, 7));
    assert_eq!(y.shape(), [2, 5, 3].into());
    checked(&g, y, &[]);
}

#[test]
fn mlp_with_each_activation() {
    for activation in ACTIVATIONS {
        let g = Graph::new();
        let y = Mlp { sizes: vec![3, 6, 5, 2], activation, bias: true }.forward(wanted(&g, [4, 3]));
        assert_eq!(checked(&g, y, &[]).directions.len(), 7, "{activation:?}");
    }
}

#[test]
fn attention() {
    for (bias, heads) in [(true, 2), (false, 1), (true, 4)] {
        let g = Graph::new();
        let layer = CausalSelfAttention { width: 4, heads, bias, init: RANDOM, init_residual: RANDOM };
        let y = layer.forward("attn", wanted(&g, [2 * 5, 4]), 2, &Dropout::off());
        assert_eq!(y.shape(), [10, 4].into());
        checked(&g, y, &[]);
    }
}

#[test]
fn gpt2_with_and_without_biases_and_tying() {
    // One text as long as the context, one shorter.
    for (bias, tied, time) in [(true, true, 5), (false, false, 3)] {
        let g = Graph::new();
        let y = gpt2(bias, tied).forward(&g, tokens(&g, 2, time, 11), DType::F64, &Dropout::off());
        assert_eq!(y.shape(), [2 * time, 11].into());
        checked(&g, y, &[]);
    }
}

#[test]
fn gpt2_in_training_with_dropout() {
    let g = Graph::new();
    let dropout = Dropout::training(&g, 0.25, SEED);
    let y = gpt2(true, true).forward(&g, tokens(&g, 2, 5, 11), DType::F64, &dropout);
    checked(&g, y, &[("step", 3.0), ("first_row", 0.0)]);
}

/// A program with a state drawn from [`SEED`], and a batch.
fn compiled(g: &Graph) -> (Program, State, Batch) {
    let state = State::new(g, SEED).unwrap();
    let program = Program::compile(g, &state, Options::default()).unwrap();
    let batch = program.batch();
    (program, state, batch)
}

#[test]
fn a_later_token_changes_no_earlier_logit() {
    const TIME: usize = 9;
    let g = Graph::new();
    let model = Gpt2 { context: TIME, ..gpt2(true, true) };
    let x = g.input("tokens", DType::U32, [2, TIME]);
    g.output("logits", model.forward(&g, x, DType::F32, &Dropout::off()));
    let (mut program, state, mut batch) = compiled(&g);
    let mut logits = |changed: Option<usize>| -> Vec<u32> {
        let text = batch.u32s("tokens").unwrap();
        text.iter_mut().enumerate().for_each(|(i, token)| *token = (i % 11) as u32);
        if let Some(i) = changed {
            text[i] = (text[i] + 5) % 11;
        }
        program.evaluate(&state, &batch).unwrap();
        program.f32s("logits").unwrap().iter().map(|l| l.to_bits()).collect()
    };
    let row = |bits: &[u32], i: usize| bits[i * 11..(i + 1) * 11].to_vec();
    let before = logits(None);
    for at in 0..TIME {
        let after = logits(Some(at));
        for i in 0..2 * TIME {
            // Only the first text changes, from this token on.
            let depends = (at..TIME).contains(&i);
            assert_eq!(row(&before, i) != row(&after, i), depends, "token {at} and the logits of token {i}");
        }
    }
}

/// Names and shapes of `GPT2LMHeadModel` in Hugging Face's transformers.
fn hugging_face(model: &Gpt2) -> Vec<(String, Vec<usize>)> {
    let (c, v) = (model.width, model.vocab);
    let mut all = Vec::new();
    let mut add = |name: String, weight: &[usize], bias: bool| {
        all.push((format!("{name}.weight"), weight.to_vec()));
        if bias {
            all.push((format!("{name}.bias"), vec![weight[weight.len() - 1]]));
        }
    };
    add("transformer.wte".to_string(), &[v, c], false);
    add("transformer.wpe".to_string(), &[model.context, c], false);
    for i in 0..model.layers {
        let block = |name: &str| format!("transformer.h.{i}.{name}");
        add(block("ln_1"), &[c], model.bias);
        add(block("attn.c_attn"), &[c, 3 * c], model.bias);
        add(block("attn.c_proj"), &[c, c], model.bias);
        add(block("ln_2"), &[c], model.bias);
        add(block("mlp.c_fc"), &[c, 4 * c], model.bias);
        add(block("mlp.c_proj"), &[4 * c, c], model.bias);
    }
    add("transformer.ln_f".to_string(), &[c], model.bias);
    if !model.tied {
        // Of `torch.nn.Linear`, which keeps (outputs, inputs), unlike the `Conv1D` of the blocks.
        add("lm_head".to_string(), &[v, c], false);
    }
    all
}

#[test]
fn names_shapes_and_number_of_gpt2s_parameters() {
    for (bias, tied) in [(true, true), (true, false), (false, true), (false, false)] {
        let model = gpt2(bias, tied);
        let g = Graph::new();
        model.forward(&g, tokens(&g, 1, 5, 11), DType::F32, &Dropout::off());
        let state = State::new(&g, SEED).unwrap();
        let found: Vec<(String, Vec<usize>)> =
            state.entries().iter().map(|e| (e.name.clone(), e.ty.shape.dims().to_vec())).collect();
        let expected = hugging_face(&model);
        assert_eq!(found.len(), expected.len(), "bias {bias}, tied {tied}");
        found.iter().zip(&expected).for_each(|(found, expected)| assert_eq!(found, expected));
        assert_eq!(model.parameters(), state.parameters(), "bias {bias}, tied {tied}");
    }
}

#[test]
fn dropout_of_a_layer_does_not_depend_on_the_split_of_its_rows() {
    const COLUMNS: usize = 7;
    let mask = |rows: usize, first: f64, step: f64| -> Vec<f64> {
        let g = Graph::new();
        let dropout = Dropout::training(&g, 0.4, SEED);
        let ones = g.constant(Tensor::full(DType::F32, [rows, COLUMNS].into(), 1.0));
        let (_, second) = (dropout.forward(ones), dropout.forward(ones));
        g.output("y", second);
        let (mut program, state, mut batch) = compiled(&g);
        batch.set_scalar("step", step).unwrap();
        batch.set_scalar("first_row", first).unwrap();
        program.evaluate(&state, &batch).unwrap();
        program.tensor("y").unwrap().to_f64()
    };
    let whole = mask(64, 0.0, 2.0);
    assert_eq!([mask(40, 0.0, 2.0), mask(24, 40.0, 2.0)].concat(), whole);
    assert_ne!(mask(64, 0.0, 3.0), whole, "each step drops other elements");
    let dropped = whole.iter().filter(|y| **y == 0.0).count() as f64 / whole.len() as f64;
    assert!((dropped - 0.4).abs() < 0.1, "{dropped} of the elements were dropped");
    assert!(whole.iter().all(|y| *y == 0.0 || *y == f64::from(1.0f32 / 0.6)));
}

#[test]
fn dropout_of_gpt2_does_not_depend_on_the_split_of_the_batch() {
    let logits = |texts: std::ops::Range<usize>| -> Vec<f64> {
        let g = Graph::new();
        let dropout = Dropout::training(&g, 0.4, SEED);
        let x = g.input("tokens", DType::U32, [texts.len(), 5]);
        g.output("logits", gpt2(false, true).forward(&g, x, DType::F64, &dropout));
        let (mut program, state, mut batch) = compiled(&g);
        let own = batch.u32s("tokens").unwrap().iter_mut().zip(5 * texts.start..);
        own.for_each(|(token, i)| *token = (i % 11) as u32);
        batch.set_scalar("step", 1.0).unwrap();
        batch.set_scalar("first_row", texts.start as f64).unwrap();
        program.evaluate(&state, &batch).unwrap();
        program.tensor("logits").unwrap().to_f64()
    };
    let (parts, whole) = ([logits(0..3), logits(3..4)].concat(), logits(0..4));
    let other = parts.iter().zip(&whole).filter(|(part, whole)| part != whole).count();
    assert_eq!((parts.len(), other), (whole.len(), 0), "number of logits, and of those that differ");
}

/// Parameters with their gradients, in plain numbers.
struct Plain {
    w: [Vec<f64>; 2],
    /// Curvature and minimum of the loss: the gradient is a (w - target).
    a: [Vec<f64>; 2],
    target: [Vec<f64>; 2],
}

const SHAPES: [&[usize]; 2] = [&[2, 3], &[5]];
const RATE: f64 = 0.05;

impl Plain {
    fn new() -> Plain {
        let numbers =
            |name: &str| [0, 1].map(|i| draw(&format!("{name}{i}"), Shape::checked(SHAPES[i]).unwrap()).values);
        Plain { w: numbers("w"), a: numbers("a").map(|a| a.iter().map(|a| a + 1.5).collect()), target: numbers("t") }
    }

    fn gradients(&self, clip: f64) -> [Vec<f64>; 2] {
        let g = [0, 1].map(|i| {
            let of = |((w, a), t): ((&f64, &f64), &f64)| a * (w - t);
            self.w[i].iter().zip(&self.a[i]).zip(&self.target[i]).map(of).collect::<Vec<f64>>()
        });
        let norm = g.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let scale = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        g.map(|g| g.iter().map(|g| g * scale).collect())
    }
}

/// Runs five steps of an optimizer and of `rule`, a plain loop of it: (t, tensor, element, w, gradient) gives the new w.
fn five_steps(optimizer: &dyn Optimizer, clip: f64, mut rule: impl FnMut(i32, usize, usize, f64, f64) -> f64) {
    let mut plain = Plain::new();
    let g = Graph::new();
    let part = |i: usize| {
        let shape = Shape::checked(SHAPES[i]).unwrap();
        let init = Init::Values(Tensor::from_f64(DType::F64, shape, &plain.w[i]).unwrap().into());
        let w = g.parameter(&format!("w{i}"), DType::F64, shape, init);
        let d = w - w.constant_like(shape, &plain.target[i]);
        (d * d * w.constant_like(shape, &plain.a[i])).sum_all() * 0.5
    };
    let loss = part(0) + part(1);
    let norm = optim::minimize(&g, loss, optimizer, g.scalar("lr"), clip).unwrap();
    g.output("norm", norm);
    let (mut program, mut state, mut batch) = compiled(&g);
    for t in 1..=5 {
        let (c1, c2) = optimizer.corrections(t);
        batch.set_scalar("lr", RATE).unwrap();
        if (c1, c2) != (1.0, 1.0) {
            batch.set_scalar("c1", c1).unwrap();
            batch.set_scalar("c2", c2).unwrap();
        }
        let unclipped = plain.gradients(0.0).iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let gradients = plain.gradients(clip);
        for (i, gradient) in gradients.iter().enumerate() {
            for (j, gradient) in gradient.iter().enumerate() {
                plain.w[i][j] = rule(t as i32, i, j, plain.w[i][j], *gradient);
            }
        }
        program.run(&mut state, &batch).unwrap();
        close(program.scalar("norm").unwrap(), unclipped, "norm");
        for i in 0..2 {
            let name = format!("w{i}");
            let found = state.get(&name).unwrap().to_f64();
            assert_ne!(found, Plain::new().w[i], "{name} did not move");
            found.iter().zip(&plain.w[i]).for_each(|(got, want)| close(*got, *want, &name));
        }
    }
}

fn close(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-14 * (1.0 + want.abs()), "{what}: {got} is not {want}");
}

#[test]
fn sgd_and_clipping_are_a_plain_loop() {
    // No limit, one that always cuts, one that never does.
    for clip in [0.0, 0.1, 1e3] {
        five_steps(&Sgd, clip, |_, _, _, w, g| w - RATE * g);
    }
}

#[test]
fn momentum_is_a_plain_loop() {
    for clip in [0.0, 0.1] {
        let mut m = [[0.0; 6]; 2];
        five_steps(&Momentum { momentum: 0.8 }, clip, |_, i, j, w, g| {
            m[i][j] = 0.8 * m[i][j] + g;
            w - RATE * m[i][j]
        });
    }
}

#[test]
fn adamw_is_a_plain_loop() {
    let (beta1, beta2, eps, decay) = (0.9, 0.99, 1e-8, 0.3);
    for clip in [0.0, 0.1] {
        let (mut m, mut v) = ([[0.0; 6]; 2], [[0.0; 6]; 2]);
        five_steps(&AdamW { betas: (beta1, beta2), eps, decay }, clip, |t, i, j, w, g| {
            m[i][j] = beta1 * m[i][j] + (1.0 - beta1) * g;
            v[i][j] = beta2 * v[i][j] + (1.0 - beta2) * g * g;
            // Only w0 is a matrix.
            let kept = if i == 0 { w - RATE * decay * w } else { w };
            let (m, v) = (m[i][j] / (1.0 - beta1.powi(t)), v[i][j] / (1.0 - beta2.powi(t)));
            kept - RATE * m / (v.sqrt() + eps)
        });
    }
}
