//! Layers: gradients against central differences, causality, names and shapes, dropout.

use geartrain_engine::check::gradcheck;
use geartrain_engine::check::sample::Draw;
use geartrain_engine::check::{Feed, Report};
use geartrain_engine::{Array, Batch, DType, Data, Graph, Init, Options, Program, Shape, State, Tensor, Var};
use geartrain_nn::{Activation, CausalSelfAttention, Dropout, Embedding, Gpt2, LayerNorm, Linear, Mlp, RmsNorm};

/// All random numbers of this file come from it.
const SEED: u64 = 9;
const RANDOM: Init = Init::Normal { std: 0.5 };

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
fn linear_and_norms() {
    let g = Graph::new();
    let y = RmsNorm::new(7).forward("norm", wanted(&g, [3, 7]));
    assert_eq!((checked(&g, y, &[]).directions.len(), y.shape()), (2, [3, 7].into()));
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
    for activation in Activation::ALL {
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
