//! Faults of the memory plan that random graphs found, each by hand.

use geartrain_engine::check::Feed;
use geartrain_engine::check::step::{check_step, check_step_with};
use geartrain_engine::{Array, DType, Graph, Init, Isa, Options, Shape};

const OPTIONS: Options = Options { threads: 1, isa: Isa::Portable };

fn feed(values: &[(&str, &[usize])]) -> Feed {
    let mut feed = Feed::new();
    for (k, (name, dims)) in values.iter().enumerate() {
        let shape = Shape::checked(dims).unwrap();
        let value = |i: usize| 0.3 + 0.17 * i as f64 - 0.2 * k as f64;
        feed.set(name, Array { shape, values: (0..shape.count()).map(value).collect() });
    }
    feed
}

// Values without elements stand where others begin or in the middle of them, and must harm none.

/// The gradient of a parameter stood in memory that was sized and given away for one without elements, which has the
/// same place in the state: the update was wrong, or the program was refused.
#[test]
fn a_parameter_beside_one_without_elements_is_learned() {
    for dims in [[&[0, 1][..], &[1, 7]], [&[1, 7], &[0, 1]], [&[3, 0], &[33, 5]]] {
        let g = Graph::new();
        let [a, b] =
            [0, 1].map(|i| g.parameter(["a", "b"][i], DType::F64, Shape::checked(dims[i]).unwrap(), Init::ZEROS));
        let x = g.input("x", DType::F64, Shape::checked(dims[1]).unwrap());
        let lr = g.scalar("lr");
        let loss = (a.tanh() * a).sum_all() + (b.tanh() * b.sum_all() * x).sum_all();
        let grads = g.grad(loss, &[a, b]).unwrap();
        for (p, grad) in [a, b].into_iter().zip(grads) {
            let m = g.entry(geartrain_engine::Entry::moment(
                &g.with(|g| g.entries[usize::from(p.id() == b.id())].clone()),
                0,
                "m",
            ));
            let next = m.momentum(grad, 0.5);
            g.assign(m, next);
            g.assign(p, p.sgd(next, lr));
            g.output(&format!("d{}", p.id().0), grad);
        }
        g.output("loss", loss);
        let feed =
            feed(&[("a", dims[0]), ("b", dims[1]), ("a.m", dims[0]), ("b.m", dims[1]), ("x", dims[1]), ("lr", &[])]);
        check_step(&g, &[feed], OPTIONS).unwrap();
    }
}

/// A product over no columns was refused where its empty operand stood in the middle of its result.
#[test]
fn an_operand_without_elements_overlaps_nothing() {
    let g = Graph::new();
    let (x, y) = (g.input("x", DType::F64, [1, 1]), g.input("y", DType::F64, [0, 3]));
    let v = g.input("v", DType::F64, [3, 0]);
    // The square is gone when the last product takes its place and more, where `none` stands.
    let square = x.matmul(x);
    let none = y.matmul(square.broadcast_to([3, 5]));
    let product = v.matmul(none);
    g.output("sum", product.sum_all());
    check_step(&g, &[feed(&[("x", &[1, 1]), ("y", &[0, 3]), ("v", &[3, 0])])], OPTIONS).unwrap();
}

/// The updates of neighbours in the state were joined into one call, also where one of them reads the old value of the
/// other; the program was refused.
#[test]
fn an_update_may_read_the_old_value_of_its_neighbour() {
    let g = Graph::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| g.parameter(name, DType::F64, [4, 4], Init::ZEROS));
    let [x, y] = ["x", "y"].map(|name| g.input(name, DType::F64, [4, 4]));
    g.assign(a, a - 0.5 * x + 0.25 * b);
    g.assign(b, b - 0.5 * y + 0.25 * c);
    let feed = feed(&[("a", &[4, 4]), ("b", &[4, 4]), ("c", &[4, 4]), ("x", &[4, 4]), ("y", &[4, 4])]);
    check_step(&g, &[feed], OPTIONS).unwrap();
}

/// Without the pass that drops dead code, a part of a concatenation that nobody wants was written to its place there, which
/// served another value by then.
#[test]
fn a_concatenation_that_nobody_wants_claims_no_memory() {
    let g = Graph::new();
    let (x, y) = (g.input("x", DType::F64, [2, 3]), g.input("y", DType::F64, [2, 8]));
    let first = x.exp();
    let square = first.matmul(first.t());
    let there = square.matmul(y);
    let second = x.tanh();
    let sums = second.exp().sum(1);
    g.concat(0, &[first, second]);
    g.output("sums", sums);
    g.output("there", there.sum(1));
    check_step_with(&g, &[feed(&[("x", &[2, 3]), ("y", &[2, 8])])], OPTIONS, &[]).unwrap();
}
