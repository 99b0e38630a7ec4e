//! Residuals that backward computes again: less memory, the same bits.

use geartrain_engine::compile::{self, PASSES, Pass, recompute};
use geartrain_engine::ir::graph::{Inner, Source};
use geartrain_engine::{DType, Data, Graph, Init, Options, Program, State, Var};

/// A loss of `f` between two products, with the gradients of both weights; rows of 128 KiB.
fn network(rows: usize, f: impl for<'g> Fn(Var<'g>) -> Var<'g>) -> Graph {
    let g = Graph::new();
    {
        let x = g.input("x", DType::F32, [rows, 64]);
        let w = g.parameter("w", DType::F32, [64, 256], Init::Normal { std: 0.1 });
        let b = g.parameter("b", DType::F32, [256], Init::Normal { std: 0.1 });
        let v = g.parameter("v", DType::F32, [256, 64], Init::Normal { std: 0.1 });
        let loss = f(x.matmul(w) + b).matmul(v).square().mean_all();
        let gradients = g.grad(loss, &[w, b, v]).unwrap();
        g.output("loss", loss);
        for (name, gradient) in ["d_w", "d_b", "d_v"].iter().zip(gradients) {
            g.output(name, gradient);
        }
    }
    g
}

fn without() -> Vec<Pass> {
    PASSES.iter().filter(|pass| pass.name != "residuals").copied().collect()
}

/// The bits of all outputs, and the arena's bytes.
fn run(g: &Graph, passes: &[Pass]) -> (Vec<Vec<u32>>, usize) {
    let state = State::new(g, 5).unwrap();
    let mut program = Program::compile_with(g, &state, Options::default(), passes).unwrap();
    let mut batch = program.batch();
    (0..).zip(batch.f32s("x").unwrap()).for_each(|(i, x)| *x = (i as f32 * 0.37).sin());
    program.evaluate(&state, &batch).unwrap();
    let bits = |name: &str| match program.tensor(name).unwrap().data() {
        Data::F32(v) => v.iter().map(|x| x.to_bits()).collect(),
        _ => Vec::new(),
    };
    (["loss", "d_w", "d_b", "d_v"].map(bits).to_vec(), program.cost().arena_bytes)
}

fn count(g: &Inner, op: &str) -> usize {
    g.nodes.iter().filter(|node| matches!(&node.source, Source::Apply(o, _) if o.name() == op)).count()
}

/// Operations called `op` before and after the pass.
fn counts(g: &Graph, op: &str) -> (usize, usize) {
    let stages = compile::trace(g, PASSES).unwrap();
    let at = stages.iter().position(|(name, _)| *name == "residuals").unwrap();
    (count(&stages[at - 1].1, op), count(&stages[at].1, op))
}

#[test]
fn activations_take_less_memory_and_keep_their_bits() {
    let one = 128 * 256 * 4;
    for (name, f, saved) in [
        ("erf", (|x| x.gelu()) as for<'g> fn(Var<'g>) -> Var<'g>, 2 * one),
        ("tanh", |x| x.gelu_tanh(), 3 * one),
        ("sigmoid", |x| x.silu(), one),
    ] {
        let g = network(128, f);
        assert_eq!(counts(&g, name), (1, 2), "{name}");
        let ((bits, small), (expected, large)) = (run(&g, PASSES), run(&g, &without()));
        assert_eq!(bits, expected, "{name}");
        assert!(small + saved <= large, "{name}: {large} bytes to {small}");
    }
}

#[test]
fn what_others_keep_is_not_computed_again() {
    // The product with `v` reads the output in backward, too, and the slope is made of it.
    assert_eq!(counts(&network(128, |x| x.tanh()), "tanh"), (1, 1));
    assert_eq!(counts(&network(128, |x| x.sigmoid()), "sigmoid"), (1, 1));
}

#[test]
fn what_is_small_is_kept() {
    assert_eq!(counts(&network(4, |x| x.gelu()), "erf"), (1, 1));
}

#[test]
fn a_function_of_two_values_is_kept() {
    // x + x.softmax() needs both of its terms; its exponential is read by the product, and by its own slope.
    let g = network(128, |x| (x + x.softmax()).erf() + 1.0);
    assert_eq!(counts(&g, "erf"), (1, 1));
}

#[test]
fn without_gradients_nothing_changes() {
    let g = Graph::new();
    let x = g.input("x", DType::F32, [128, 256]);
    g.output("y", x.gelu().sum_all());
    let inner = g.with(recompute::residuals);
    assert_eq!(count(&inner, "erf"), 1);
}
