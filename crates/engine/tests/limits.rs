//! What is too large is refused with its size, before any memory is asked for.

use geartrain_engine::{DType, Graph, Init, Options, Program, State};

#[test]
fn a_state_larger_than_the_machine_is_refused() {
    let g = Graph::new();
    g.parameter("w", DType::F32, [1 << 20, 1 << 20], Init::Normal { std: 1.0 });
    let error = State::new(&g, 0).err().unwrap();
    let text = error.to_string();
    assert!(text.starts_with("state: the state takes 4096.0 GiB, and there are "), "{text}");
    assert!(error.hint().unwrap().contains("smaller"));
}

#[test]
fn many_entries_are_added_up_without_overflow() {
    let g = Graph::new();
    for i in 0..1000 {
        g.parameter(&format!("w{i}"), DType::F64, [1 << 20, 1 << 20], Init::ZEROS);
    }
    let text = State::new(&g, 0).err().unwrap().to_string();
    assert!(text.contains("takes 8192000.0 GiB"), "{text}");
}

#[test]
fn a_step_larger_than_the_machine_is_refused() {
    let g = Graph::new();
    let (x, y) = (g.input("x", DType::F32, [1 << 20, 1]), g.input("y", DType::F32, [1, 1 << 20]));
    // Every number of the product is needed twice, so that it must stand somewhere.
    let product = x.matmul(y).softmax();
    g.output("z", product.matmul(product).sum_all());
    let state = State::new(&g, 0).unwrap();
    let text = Program::compile(&g, &state, Options::default()).err().unwrap().to_string();
    assert!(text.contains("the step with its state takes") && text.contains("GiB, and there are"), "{text}");
}

#[test]
fn shapes_that_no_machine_can_hold_are_refused_where_they_are_declared() {
    let g = Graph::new();
    assert!(g.input("x", DType::F32, [usize::MAX, usize::MAX]).is_poison());
    assert!(g.parameter("w", DType::F32, [1 << 21, 1 << 20], Init::ZEROS).is_poison());
    let text = g.check().unwrap_err().to_string();
    assert!(text.contains("input: `x` has too many elements") && text.contains("state: `w` has too many"), "{text}");
}
