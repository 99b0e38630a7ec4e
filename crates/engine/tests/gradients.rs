//! Gradients of small networks, and gradients of their gradients, against central differences; whole steps against the
//! interpreter.

use geartrain_engine::check::step::check_step;
use geartrain_engine::check::{Check, Feed, gradcheck};
use geartrain_engine::{Array, DType, Graph, Init, Isa, Options, State, Tensor, Var};

const SEED: u64 = 3;

fn parameter<'g>(g: &'g Graph, name: &str, dims: [usize; 2], std: f64) -> Var<'g> {
    g.parameter(name, DType::F64, dims, Init::Normal { std })
}

/// Two layers and a mean squared error, with its parameters.
fn network(g: &Graph) -> (Var<'_>, Vec<Var<'_>>) {
    let (x, y) = (g.input("X", DType::F64, [4, 2]), g.input("y", DType::F64, [4, 1]));
    let w1 = parameter(g, "W1", [2, 5], 1.0);
    let b1 = parameter(g, "b1", [1, 5], 0.5);
    let w2 = parameter(g, "W2", [5, 1], 1.0);
    let b2 = parameter(g, "b2", [1, 1], 0.5);
    let a1 = (x.matmul(w1) + b1).tanh();
    let a2 = (a1.matmul(w2) + b2).sigmoid();
    let d = a2 - y;
    ((d * d).sum_all() / 4.0, vec![w1, b1, w2, b2])
}

fn feed(g: &Graph, seed: u64) -> Feed {
    let mut feed = Feed::of_state(&State::new(g, seed).unwrap());
    feed.set("X", Array { shape: [4, 2].into(), values: vec![0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0] });
    feed.set("y", Array { shape: [4, 1].into(), values: vec![0.0, 1.0, 1.0, 0.0] });
    feed
}

#[test]
fn gradient_of_a_network() {
    let g = Graph::new();
    let (loss, wrt) = network(&g);
    let report = gradcheck(&g, loss, &wrt, &feed(&g, SEED), SEED).unwrap();
    assert!(report.passed(), "{report:?}");
    assert_eq!(report.directions.len(), 4);
    assert!(report.directions.iter().all(|d| d.analytic.abs() > 1e-4), "nothing was checked: {report:?}");
    assert!(report.directions.iter().all(|d| d.compiled.is_some()));
    assert!(report.worst() <= 1e-6);
}

#[test]
fn gradient_of_the_gradient_of_a_network() {
    let g = Graph::new();
    let (loss, wrt) = network(&g);
    let grads = g.grad(loss, &wrt).unwrap();
    let squares = grads.iter().map(|d| (*d * *d).sum_all()).reduce(|a, b| a + b).unwrap();
    let report = gradcheck(&g, squares, &wrt, &feed(&g, SEED), SEED).unwrap();
    assert!(report.passed(), "{report:?}");
    assert!(report.directions.iter().all(|d| d.analytic.abs() > 1e-4), "nothing was checked: {report:?}");
}

#[test]
fn an_f32_network_is_checked_by_the_interpreter() {
    let g = Graph::new();
    let x = g.input("x", DType::F32, [3]);
    let loss = (x * x * x).sum_all();
    let mut feed = Feed::new();
    feed.set_tensor("x", &Tensor::from_f64(DType::F32, [3], &[0.1, -0.7, 1.3]).unwrap());
    let report = gradcheck(&g, loss, &[x], &feed, SEED).unwrap();
    assert!(report.passed(), "{report:?}");
    assert_eq!(report.directions[0].compiled, None);
}

#[test]
fn what_cannot_be_checked_is_an_error() {
    let g = Graph::new();
    let (loss, wrt) = network(&g);
    let mut without = feed(&g, SEED);
    without = without.iter().filter(|(name, _)| *name != "y").fold(Feed::new(), |mut feed, (name, value)| {
        feed.set(name, value.clone());
        feed
    });
    let failure = gradcheck(&g, loss, &wrt, &without, SEED).unwrap_err();
    assert!(failure.what.contains("`y`"), "{failure}");
    let failure = gradcheck(&g, wrt[0], &wrt, &feed(&g, SEED), SEED).unwrap_err();
    assert_eq!(failure.check, Check::First);
    assert!(failure.what.contains("scalar"), "{failure}");
}

#[test]
fn a_training_step_is_what_the_interpreter_says() {
    let g = Graph::new();
    let (loss, wrt) = network(&g);
    let grads = g.grad(loss, &wrt).unwrap();
    g.output("loss", loss);
    g.guard("loss", loss);
    for (w, d) in wrt.iter().zip(grads) {
        g.assign(*w, *w - 0.5 * d);
    }
    let feeds = [feed(&g, 1), feed(&g, 2)];
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        for threads in [1, 3] {
            check_step(&g, &feeds, Options { threads, isa }).unwrap();
        }
    }
}
