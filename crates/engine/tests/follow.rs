//! Elementwise operations that follow a matrix product in its call.

use geartrain_engine::{DType, Graph, Init, Options, Program, State, Tensor};

/// What the calls of a program compute.
fn calls(g: &Graph) -> Vec<String> {
    let state = State::new(g, 1).unwrap();
    let program = Program::compile(g, &state, Options::default()).unwrap();
    program.calls().into_iter().map(|call| call.what).collect()
}

fn outputs(g: &Graph, names: &[&str], threads: usize) -> Vec<Tensor> {
    let state = State::new(g, 1).unwrap();
    let options = Options { threads, ..Options::default() };
    let mut program = Program::compile(g, &state, options).unwrap();
    let batch = program.batch();
    program.evaluate(&state, &batch).unwrap();
    names.iter().map(|name| program.tensor(name).unwrap()).collect()
}

#[test]
fn bias_activation_and_residual_are_part_of_the_product() {
    let g = Graph::new();
    let weight = |name: &str, shape: [usize; 2]| g.parameter(name, DType::F32, shape, Init::Normal { std: 1.0 });
    let bias = g.parameter("b", DType::F32, [6], Init::Normal { std: 1.0 });
    let x = weight("x", [5, 7]);
    let hidden = (x.matmul(weight("w", [7, 6])) + bias).tanh();
    g.output("y", hidden.matmul(weight("v", [6, 7])) + x);
    assert_eq!(calls(&g), ["matmul add tanh", "matmul add"]);
}

#[test]
fn a_group_has_one_product() {
    let g = Graph::new();
    let weight = |name: &str, shape: [usize; 2]| g.parameter(name, DType::F32, shape, Init::Normal { std: 1.0 });
    let x = weight("x", [4, 3]);
    g.output("y", (x.matmul(weight("w", [3, 2])) + x.matmul(weight("v", [3, 2]))).exp());
    let mut found = calls(&g);
    found.sort();
    assert_eq!(found, ["matmul", "matmul add exp"]);
}

#[test]
fn other_readers_find_the_product_as_it_was() {
    // With and without the product, and one of the values on the way, among the outputs.
    let build = |g: &Graph, all: bool| {
        let weight = |name: &str, shape: [usize; 2]| g.parameter(name, DType::F32, shape, Init::Normal { std: 1.0 });
        let bias = g.parameter("b", DType::F32, [65], Init::Normal { std: 1.0 });
        let z = weight("x", [130, 300]).matmul(weight("w", [300, 65]));
        let a = z + bias;
        g.output("y", (a.sigmoid() * z - a).exp());
        if all {
            g.output("z", z);
            g.output("a", a);
        }
    };
    let (alone, all) = (Graph::new(), Graph::new());
    build(&alone, false);
    build(&all, true);
    assert_eq!(calls(&alone).len(), 1);
    let expected = outputs(&all, &["y"], 1);
    for threads in [1, 2, 3, 7] {
        assert_eq!(outputs(&alone, &["y"], threads), expected, "{threads} threads");
        assert_eq!(outputs(&all, &["y"], threads), expected, "{threads} threads");
    }
    let [z, a] = &outputs(&all, &["z", "a"], 2)[..] else { panic!("two outputs") };
    assert_ne!(z, a);
    // The product is that of a graph that has nothing else.
    let g = Graph::new();
    let weight = |name: &str, shape: [usize; 2]| g.parameter(name, DType::F32, shape, Init::Normal { std: 1.0 });
    g.output("z", weight("x", [130, 300]).matmul(weight("w", [300, 65])));
    assert_eq!(&outputs(&g, &["z"], 1)[0], z);
}

#[test]
fn a_product_does_not_wait_for_a_late_reader() {
    let g = Graph::new();
    let weight = |name: &str, shape: [usize; 2]| g.parameter(name, DType::F32, shape, Init::Normal { std: 1.0 });
    let early = weight("x", [8, 8]).matmul(weight("w", [8, 8]));
    let (mut chain, v) = (weight("u", [8, 8]), weight("v", [8, 8]));
    for _ in 0..20 {
        chain = chain.matmul(v);
    }
    g.output("y", chain + early);
    let found = calls(&g);
    assert_eq!(found[0], "matmul");
    // The last product of the others takes the sum.
    assert_eq!(found.last().map(String::as_str), Some("matmul add"));
}
