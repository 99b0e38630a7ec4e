//! The first losses and gradients of small networks against PyTorch in f64 (`fixtures/traces.json`).
//!
//! Initial values and data come from a hash of (seed, element), so that any framework can make the same ones: W1 is
//! XOR, W2 five tokens, W3 a 784-512-256-10 classifier, W6 a GPT-2 of four layers (with exact and with tanh GELU).

use geartrain_engine::{DType, Data, Graph, Options, Program, Shape, State, Tensor, Var};
use geartrain_nn::optim::{self, AdamW, Optimizer, Sgd};
use geartrain_nn::{Activation, Dropout, Gpt2, Mlp};
use serde_json::Value;

/// Largest relative error of a loss in f32 and in f64, and of a gradient's norm in f64.
const F32: f64 = 2e-5;
const F64: f64 = 1e-8;

/// 24 bits for element `i` of the tensor with this seed.
fn hash(seed: u32, i: u32) -> u32 {
    let mut x = i.wrapping_add(seed.wrapping_mul(0x9E37_79B9));
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    (x ^ (x >> 16)) >> 8
}

/// Uniform in [-bound, bound), rounded to f32 as every framework does it.
fn uniform(seed: u32, count: usize, bound: f64) -> Vec<f32> {
    let unit = |i: u32| hash(seed, i) as f32 / 8_388_608.0 - 1.0;
    (0..count as u32).map(|i| unit(i) * bound as f32).collect()
}

fn whole(seed: u32, count: usize, below: u32) -> Vec<u32> {
    (0..count as u32).map(|i| hash(seed, i) % below).collect()
}

/// How a tensor starts.
#[derive(Clone, Copy)]
enum Start {
    Uniform(f64),
    Same(f32),
}

/// A network, its data and the rule that trains it.
struct Workload {
    /// Its key in the fixture.
    name: &'static str,
    /// Name in the fixture, name here, start; in the order of the seeds.
    parameters: Vec<(String, String, Start)>,
    optimizer: Box<dyn Optimizer>,
    lr: f64,
    /// Features or tokens, and labels or targets.
    x: fn() -> (Shape, Data),
    y: fn() -> (Shape, Data),
    loss: for<'g> fn(&'g Graph, Var<'g>, Var<'g>, DType) -> Var<'g>,
}

fn adamw() -> Box<dyn Optimizer> {
    Box::new(AdamW { betas: (0.9, 0.999), eps: 1e-8, decay: 0.01 })
}

/// The fixture's `W1`, `b1`, `W2`, ... of linear layers, which are called `layers.0.weight`, ... here.
fn linear(layers: &[(Start, Start)]) -> Vec<(String, String, Start)> {
    let pair = |(i, (w, b)): (usize, &(Start, Start))| {
        let named =
            |theirs: &str, ours: &str, start| (format!("{theirs}{}", i + 1), format!("layers.{i}.{ours}"), start);
        [named("W", "weight", *w), named("b", "bias", *b)]
    };
    layers.iter().enumerate().flat_map(pair).collect()
}

fn w1() -> Workload {
    Workload {
        name: "W1",
        parameters: linear(&[(Start::Uniform(1.0), Start::Same(0.0)); 2]),
        optimizer: Box::new(Sgd),
        lr: 0.5,
        x: || ([4, 2].into(), Data::F32(vec![0., 0., 0., 1., 1., 0., 1., 1.])),
        y: || ([4, 1].into(), Data::F32(vec![0., 1., 1., 0.])),
        loss: |_, x, y, _| {
            let mlp = Mlp { sizes: vec![2, 4, 1], activation: Activation::Sigmoid, bias: true };
            mlp.forward(x).sigmoid().mean_squared_error(y)
        },
    }
}

fn w2() -> Workload {
    Workload {
        name: "W2",
        parameters: linear(&[(Start::Uniform(0.5), Start::Same(0.0)); 2]),
        optimizer: Box::new(Sgd),
        lr: 0.3,
        x: || ([4, 5].into(), Data::F32((0..20).map(|i| f32::from(i / 5 == i % 5)).collect())),
        y: || ([4].into(), Data::U32(vec![1, 2, 3, 4])),
        loss: |_, x, y, _| {
            let mlp = Mlp { sizes: vec![5, 16, 5], activation: Activation::GeluTanh, bias: true };
            mlp.forward(x).cross_entropy(y).mean_all()
        },
    }
}

fn w3() -> Workload {
    let both = |inputs: f64| (Start::Uniform(1.0 / inputs.sqrt()), Start::Uniform(1.0 / inputs.sqrt()));
    Workload {
        name: "W3",
        parameters: linear(&[both(784.0), both(512.0), both(256.0)]),
        optimizer: adamw(),
        lr: 1e-3,
        x: || ([128, 784].into(), Data::F32(uniform(1001, 128 * 784, 1.0))),
        y: || ([128].into(), Data::U32(whole(1002, 128, 10))),
        loss: |_, x, y, _| {
            let mlp = Mlp { sizes: vec![784, 512, 256, 10], activation: Activation::Relu, bias: true };
            mlp.forward(x).cross_entropy(y).mean_all()
        },
    }
}

const LAYERS: usize = 4;

/// The fixture's names of GPT-2's tensors and Hugging Face's.
fn gpt2_parameters() -> Vec<(String, String, Start)> {
    let (std, residual) = (0.035, 0.035 / (2.0 * LAYERS as f64).sqrt());
    let block = |i: usize| {
        let names = [
            ("ln1", "ln_1", Start::Same(1.0)),
            ("qkv", "attn.c_attn", Start::Uniform(std)),
            ("proj", "attn.c_proj", Start::Uniform(residual)),
            ("ln2", "ln_2", Start::Same(1.0)),
            ("fc", "mlp.c_fc", Start::Uniform(std)),
            ("fc2", "mlp.c_proj", Start::Uniform(residual)),
        ];
        names.map(|(theirs, ours, start)| (format!("{theirs}.{i}"), format!("transformer.h.{i}.{ours}.weight"), start))
    };
    let one = |theirs: &str, start| (theirs.to_string(), format!("transformer.{theirs}.weight"), start);
    let mut all = vec![one("wte", Start::Uniform(std)), one("wpe", Start::Uniform(std))];
    all.extend((0..LAYERS).flat_map(block));
    all.push(("lnf".to_string(), "transformer.ln_f.weight".to_string(), Start::Same(1.0)));
    all
}

fn gpt2<'g>(g: &'g Graph, x: Var<'g>, y: Var<'g>, dtype: DType, activation: Activation) -> Var<'g> {
    let model =
        Gpt2 { vocab: 65, context: 64, layers: LAYERS, heads: 4, width: 128, bias: false, tied: true, activation };
    model.forward(g, x, dtype, &Dropout::off()).cross_entropy(y).mean_all()
}

fn w6(activation: Activation) -> Workload {
    let exact = activation == Activation::Gelu;
    Workload {
        name: if exact { "W6" } else { "W6:tanh" },
        parameters: gpt2_parameters(),
        optimizer: adamw(),
        lr: 1e-3,
        x: || ([12, 64].into(), Data::U32(whole(1001, 12 * 64, 65))),
        y: || ([12 * 64].into(), Data::U32(whole(1002, 12 * 64, 65))),
        loss: match exact {
            true => |g, x, y, dtype| gpt2(g, x, y, dtype, Activation::Gelu),
            false => |g, x, y, dtype| gpt2(g, x, y, dtype, Activation::GeluTanh),
        },
    }
}

impl Workload {
    fn fixture(&self) -> Value {
        let all: Value = serde_json::from_str(include_str!("fixtures/traces.json")).unwrap();
        all[self.name].clone()
    }

    /// The loss on the one batch of this workload, which is a constant of the graph.
    fn build<'g>(&self, g: &'g Graph, dtype: DType) -> Var<'g> {
        let constant = |(shape, data): (Shape, Data)| {
            let tensor = Tensor::new(shape, data).unwrap();
            let dtype = if tensor.ty().dtype == DType::U32 { DType::U32 } else { dtype };
            g.constant(Tensor::from_f64(dtype, shape, &tensor.to_f64()).unwrap())
        };
        (self.loss)(g, constant((self.x)()), constant((self.y)()), dtype)
    }

    /// A state of the graph with the initial values of the fixture, which are exact in f32.
    fn state(&self, g: &Graph) -> State {
        let mut state = State::new(g, 0).unwrap();
        let declared = g.parameters().len();
        assert_eq!(self.parameters.len(), declared, "{}: number of parameters", self.name);
        for (seed, (_, name, start)) in (1..).zip(&self.parameters) {
            let ty = state.get(name).unwrap_or_else(|| panic!("no parameter {name}")).ty();
            let values = match start {
                Start::Uniform(bound) => uniform(seed, ty.shape.count(), *bound),
                Start::Same(value) => vec![*value; ty.shape.count()],
            };
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            state.set(name, &Tensor::from_f64(ty.dtype, ty.shape, &values).unwrap()).unwrap();
        }
        state
    }

    /// Six losses: before any update and after each of five.
    fn losses(&self, dtype: DType) -> Vec<f64> {
        let g = Graph::new();
        let loss = self.build(&g, dtype);
        g.decay_all();
        optim::minimize(&g, loss, self.optimizer.as_ref(), g.number(DType::F64, self.lr), 0.0).unwrap();
        g.output("loss", loss);
        let mut state = self.state(&g);
        let mut program = Program::compile(&g, &state, Options::default()).unwrap();
        let mut batch = program.batch();
        let step = |t: u64| {
            let (c1, c2) = self.optimizer.corrections(t);
            if (c1, c2) != (1.0, 1.0) {
                batch.set_scalar("c1", c1).unwrap();
                batch.set_scalar("c2", c2).unwrap();
            }
            program.run(&mut state, &batch).unwrap();
            program.scalar("loss").unwrap()
        };
        (1..=6).map(step).collect()
    }

    fn losses_agree(&self, dtype: DType, tolerance: f64) {
        let fixture = self.fixture();
        let ours = self.losses(dtype);
        let theirs: Vec<f64> = fixture["torch_f64"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(theirs.len(), ours.len());
        let worst = ours.iter().zip(&theirs).map(|(a, b)| relative(*a, *b)).fold(0.0, f64::max);
        println!("{} {}: losses within {worst:.1e}", self.name, dtype.name());
        assert!(worst <= tolerance, "{}: {ours:?}\nare not {theirs:?}", self.name);
    }

    /// The norm of every parameter's gradient at the initial values, in f64.
    fn gradients_agree(&self) {
        let expected = self.fixture()["grad_l2_step0_f64"].clone();
        let g = Graph::new();
        let loss = self.build(&g, DType::F64);
        let (w, entries): (Vec<_>, Vec<_>) = g.parameters().into_iter().unzip();
        let gradients = g.grad(loss, &w).unwrap();
        for (entry, gradient) in entries.iter().zip(&gradients) {
            g.output(&entry.name, gradient.global_norm(&[]));
        }
        let state = self.state(&g);
        let mut program = Program::compile(&g, &state, Options::default()).unwrap();
        let batch = program.batch();
        program.evaluate(&state, &batch).unwrap();
        assert_eq!(expected.as_object().unwrap().len(), self.parameters.len());
        let mut worst: f64 = 0.0;
        for (theirs, ours, _) in &self.parameters {
            let (got, want) = (program.scalar(ours).unwrap(), expected[theirs].as_f64().unwrap());
            worst = worst.max(relative(got, want));
            assert!(relative(got, want) <= F64, "{}: gradient of {ours}: {got} is not {want}", self.name);
        }
        println!("{}: gradient norms within {worst:.1e}", self.name);
    }

    /// The initial values and the data are those that PyTorch had.
    fn starts_agree(&self) {
        let fixture = self.fixture();
        let g = Graph::new();
        self.build(&g, DType::F32);
        let state = self.state(&g);
        for (theirs, ours, _) in &self.parameters {
            let (expected, tensor) = (&fixture["init"][theirs], state.get(ours).unwrap());
            let dims: Vec<u64> = tensor.shape().dims().iter().map(|n| *n as u64).collect();
            assert_eq!(Value::from(dims), expected["shape"], "{ours}");
            begins(ours, &tensor.to_f64(), &expected["first4"], &expected["sum_f64"]);
        }
        for (name, (_, data)) in [("x", (self.x)()), ("y", (self.y)())] {
            let values: Vec<f64> = match data {
                Data::F32(v) => v.into_iter().map(f64::from).collect(),
                Data::F64(v) => v,
                Data::U32(v) => v.into_iter().map(f64::from).collect(),
            };
            let data = &fixture["data"];
            begins(name, &values, &data[format!("{name}_first8")], &data[format!("{name}_sum")]);
        }
    }
}

/// The first values exactly, and the sum to the rounding of a sum.
fn begins(name: &str, values: &[f64], first: &Value, sum: &Value) {
    for (value, expected) in values.iter().zip(first.as_array().unwrap()) {
        assert_eq!(*value, expected.as_f64().unwrap(), "{name}");
    }
    let (got, want) = (values.iter().sum::<f64>(), sum.as_f64().unwrap());
    let size: f64 = values.iter().map(|v| v.abs()).sum();
    assert!((got - want).abs() <= 1e-13 * size, "{name}: sum {got} is not {want}");
}

fn relative(got: f64, want: f64) -> f64 {
    // A NaN is no agreement.
    if got.is_nan() { f64::INFINITY } else { (got - want).abs() / want.abs() }
}

#[test]
fn initial_values_and_data() {
    for workload in [w1(), w2(), w3(), w6(Activation::Gelu), w6(Activation::GeluTanh)] {
        workload.starts_agree();
    }
}

#[test]
fn losses_in_f32() {
    for workload in [w1(), w2(), w3(), w6(Activation::Gelu), w6(Activation::GeluTanh)] {
        workload.losses_agree(DType::F32, F32);
    }
}

#[test]
fn losses_in_f64() {
    for workload in [w1(), w2(), w3(), w6(Activation::Gelu), w6(Activation::GeluTanh)] {
        workload.losses_agree(DType::F64, F64);
    }
}

#[test]
fn gradient_norms_in_f64() {
    for workload in [w1(), w2(), w3(), w6(Activation::Gelu), w6(Activation::GeluTanh)] {
        workload.gradients_agree();
    }
}
