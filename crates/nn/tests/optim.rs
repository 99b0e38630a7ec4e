//! The optimizers' updates against plain loops.

use geartrain_engine::check::sample::Draw;
use geartrain_engine::{DType, Graph, Init, Options, Program, Shape, State, Tensor};
use geartrain_nn::optim::{self, Adagrad, Adam, AdamW, Lion, Momentum, Nesterov, Optimizer, RmsProp, Sgd};

/// All random numbers of this file come from it.
const SEED: u64 = 9;

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
            |name: &str| [0, 1].map(|i| Draw::new(SEED, &format!("{name}{i}")).direction(SHAPES[i].iter().product()));
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
    let mut state = State::new(&g, SEED).unwrap();
    let mut program = Program::compile(&g, &state, Options::default()).unwrap();
    let mut batch = program.batch();
    for t in 1..=5 {
        let (c1, c2) = optimizer.corrections(t);
        batch.set_scalar("lr", RATE).unwrap();
        // A rule that never corrects does not read them.
        let _ = (batch.set_scalar("c1", c1), batch.set_scalar("c2", c2));
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

/// Weight decay of the tests that have any.
const DECAY: f64 = 0.3;

/// The gradient with the decay in it: only w0 is a matrix.
fn coupled(i: usize, w: f64, g: f64, decay: f64) -> f64 {
    if i == 0 { g + decay * w } else { g }
}

#[test]
fn nesterov_is_a_plain_loop() {
    for (clip, decay) in [(0.0, 0.0), (0.1, 0.0), (0.0, DECAY), (0.1, DECAY)] {
        let mut m = [[0.0; 6]; 2];
        five_steps(&Nesterov { momentum: 0.8, decay }, clip, |_, i, j, w, g| {
            let g = coupled(i, w, g, decay);
            m[i][j] = 0.8 * m[i][j] + g;
            w - RATE * (g + 0.8 * m[i][j])
        });
    }
}

#[test]
fn adam_is_a_plain_loop() {
    let eps = 1e-8;
    let cases = [(0.9, 0.99, 0.0, 0.0), (0.9, 0.99, 0.0, DECAY), (0.9, 0.99, 0.1, DECAY), (0.0, 0.0, 0.0, 0.0)];
    for (beta1, beta2, clip, decay) in cases {
        let (mut m, mut v) = ([[0.0; 6]; 2], [[0.0; 6]; 2]);
        five_steps(&Adam { betas: (beta1, beta2), eps, decay }, clip, |t, i, j, w, g| {
            let g = coupled(i, w, g, decay);
            m[i][j] = beta1 * m[i][j] + (1.0 - beta1) * g;
            v[i][j] = beta2 * v[i][j] + (1.0 - beta2) * g * g;
            let (m, v) = (m[i][j] / (1.0 - beta1.powi(t)), v[i][j] / (1.0 - beta2.powi(t)));
            w - RATE * m / (v.sqrt() + eps)
        });
    }
}

#[test]
fn rmsprop_is_a_plain_loop() {
    let (alpha, eps) = (0.99, 1e-8);
    for (clip, decay) in [(0.0, 0.0), (0.0, DECAY), (0.1, DECAY)] {
        let mut v = [[0.0; 6]; 2];
        five_steps(&RmsProp { alpha, eps, decay }, clip, |_, i, j, w, g| {
            let g = coupled(i, w, g, decay);
            v[i][j] = alpha * v[i][j] + (1.0 - alpha) * g * g;
            w - RATE * g / (v[i][j].sqrt() + eps)
        });
    }
}

#[test]
fn adagrad_is_a_plain_loop() {
    let eps = 1e-10;
    for (clip, decay) in [(0.0, 0.0), (0.0, DECAY), (0.1, DECAY)] {
        let mut v = [[0.0; 6]; 2];
        five_steps(&Adagrad { eps, decay }, clip, |_, i, j, w, g| {
            let g = coupled(i, w, g, decay);
            v[i][j] += g * g;
            w - RATE * g / (v[i][j].sqrt() + eps)
        });
    }
}

#[test]
fn lion_is_a_plain_loop() {
    let (beta1, beta2) = (0.9, 0.99);
    for (clip, decay) in [(0.0, 0.0), (0.0, DECAY), (0.1, DECAY)] {
        let mut m = [[0.0; 6]; 2];
        five_steps(&Lion { betas: (beta1, beta2), decay }, clip, |_, i, j, w, g| {
            let direction = (beta1 * m[i][j] + (1.0 - beta1) * g).signum();
            m[i][j] = beta2 * m[i][j] + (1.0 - beta2) * g;
            let kept = if i == 0 { w - RATE * decay * w } else { w };
            kept - RATE * direction
        });
    }
}

/// Numbers of `torch.optim` by hand: w = 2, gradient w, lr 0.1, two steps.
#[test]
fn known_sequences() {
    let run = |optimizer: &dyn Optimizer| {
        let g = Graph::new();
        let init = Init::Values(Tensor::from_f64(DType::F64, [1, 1], &[2.0]).unwrap().into());
        let w = g.parameter("w", DType::F64, [1, 1], init);
        optim::minimize(&g, (w * w).sum_all() * 0.5, optimizer, g.scalar("lr"), 0.0).unwrap();
        let mut state = State::new(&g, SEED).unwrap();
        let mut program = Program::compile(&g, &state, Options::default()).unwrap();
        let mut batch = program.batch();
        batch.set_scalar("lr", 0.1).unwrap();
        let mut step = || {
            program.run(&mut state, &batch).unwrap();
            state.get("w").unwrap().to_f64()[0]
        };
        [step(), step()]
    };
    let check = |found: [f64; 2], wanted: [f64; 2]| {
        found.iter().zip(wanted).for_each(|(found, wanted)| close(*found, wanted, "w"));
    };
    // m = 2, step 2 + 1.8; then g = 1.62, m = 3.42, step 1.62 + 3.078.
    check(run(&Nesterov { momentum: 0.9, decay: 0.0 }), [1.62, 1.1502]);
    // The gradient over its own size; then 1.9 / sqrt(4 + 3.61).
    check(run(&Adagrad { eps: 0.0, decay: 0.0 }), [1.9, 1.9 - 0.1 * 1.9 / 7.61_f64.sqrt()]);
    // 2 / sqrt(0.25 · 4) = 2, so w = 1.8; then v = 0.75 + 0.25 · 3.24 = 1.56.
    check(run(&RmsProp { alpha: 0.75, eps: 0.0, decay: 0.0 }), [1.8, 1.8 - 0.18 / 1.56_f64.sqrt()]);
    // 2 · 0.95 - 0.1, then 1.8 · 0.95 - 0.1.
    check(run(&Lion { betas: (0.9, 0.99), decay: 0.5 }), [1.8, 1.61]);
}
