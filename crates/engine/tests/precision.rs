//! Products in bfloat16: what the pass makes of a graph, and that plain loops compute the same bits.

use geartrain_engine::compile::{PASSES, Pass, bf16};
use geartrain_engine::{DType, Data, Graph, Init, Isa, Options, Program, State, Var};

/// Products forward and backward, some of which share operands.
fn network(dtype: DType, product: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g>) -> Graph {
    let g = Graph::new();
    {
        let x = g.input("x", dtype, [7, 37]);
        let w = g.parameter("w", dtype, [37, 19], Init::Normal { std: 1.0 });
        let v = g.parameter("v", dtype, [37, 19], Init::Normal { std: 1.0 });
        let (h, z) = (product(x, w), product(x, v));
        let ct = h.tanh();
        g.output("h", h);
        g.output("z", z);
        g.output("d_w", product(x.t(), ct));
        g.output("d_x", product(ct, w.t()));
    }
    g
}

/// The bits of outputs on the same numbers for every input.
fn bits(g: &Graph, passes: &[Pass], options: Options, names: &[&str]) -> Vec<Vec<u64>> {
    let state = State::new(g, 3).unwrap();
    let mut program = Program::compile_with(g, &state, options, passes).unwrap();
    let mut batch = program.batch();
    for name in batch.inputs().map(|(name, _)| name.to_string()).collect::<Vec<_>>() {
        for (i, x) in batch.f32s(&name).map(|x| x.iter_mut().enumerate().collect::<Vec<_>>()).unwrap_or_default() {
            *x = (i as f32 * 0.37).sin();
        }
    }
    program.evaluate(&state, &batch).unwrap();
    let bits = |name: &&str| match program.tensor(name).unwrap().data() {
        Data::F32(v) => v.iter().map(|x| u64::from(x.to_bits())).collect(),
        Data::F64(v) => v.iter().map(|x| x.to_bits()).collect(),
        Data::U32(v) => v.iter().map(|x| u64::from(*x)).collect(),
    };
    names.iter().map(bits).collect()
}

const OUTPUTS: [&str; 4] = ["h", "z", "d_w", "d_x"];

#[test]
fn the_pass_puts_products_in_bfloat16_in_the_place_of_others() {
    let by_hand = bits(&network(DType::F32, |a, b| a.matmul_bf16(b)), PASSES, Options::default(), &OUTPUTS);
    let plain = network(DType::F32, |a, b| a.matmul(b));
    for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.supported()) {
        for threads in [1, 2, 3, 7] {
            let options = Options { threads, isa };
            assert_eq!(bits(&plain, &bf16::passes(), options, &OUTPUTS), by_hand, "{isa:?}, {threads} threads");
        }
    }
    assert_ne!(bits(&plain, PASSES, Options::default(), &OUTPUTS), by_hand);
}

#[test]
fn a_product_is_a_chain_of_multiply_adds_of_rounded_numbers() {
    const K: usize = 101;
    let g = Graph::new();
    let (a, b) = (g.input("a", DType::F32, [1, K]), g.input("b", DType::F32, [K, 1]));
    g.output("y", a.matmul(b));
    let found = bits(&g, &bf16::passes(), Options::default(), &["y"]);
    let rounded = |i: usize| {
        // None of these numbers is special, and half a digit is added before the digits are cut off.
        let x = (i as f32 * 0.37).sin().to_bits();
        f32::from_bits((x + 0x7fff + (x >> 16 & 1)) & 0xffff_0000)
    };
    let sum = (0..K).fold(0f32, |sum, i| rounded(i).mul_add(rounded(i), sum));
    assert_eq!(found, [[u64::from(sum.to_bits())]]);
}

#[test]
fn products_in_f64_stay_as_they_are() {
    let plain = network(DType::F64, |a, b| a.matmul(b));
    let options = Options::default();
    assert_eq!(bits(&plain, &bf16::passes(), options, &OUTPUTS), bits(&plain, PASSES, options, &OUTPUTS));
}

#[test]
fn sums_over_time_are_joined_before() {
    let g = Graph::new();
    {
        let w = g.parameter("w", DType::F32, [5, 3], Init::Normal { std: 1.0 });
        let steps = (0..4).map(|t| g.input(&format!("x{t}"), DType::F32, [7, 5]).matmul(w).tanh().sum_all());
        let loss = steps.reduce(|a, b| a + b).unwrap();
        let d = g.grad(loss, &[w]).unwrap();
        g.output("d_w", d[0]);
    }
    let state = State::new(&g, 3).unwrap();
    let count = |passes: &[Pass], name: &str| {
        let program = Program::compile_with(&g, &state, Options::default(), passes).unwrap();
        program.calls().iter().filter(|call| call.what.split(' ').next() == Some(name)).count()
    };
    // Four steps forward, each with its tanh, and one joined product backward.
    assert_eq!((count(PASSES, "matmul"), count(PASSES, "matmul_bf16")), (5, 0));
    assert_eq!((count(&bf16::passes(), "matmul"), count(&bf16::passes(), "matmul_bf16")), (0, 5));
}

#[test]
fn there_is_no_gradient_and_no_other_type() {
    let g = Graph::new();
    let w = g.parameter("w", DType::F32, [3, 3], Init::ONES);
    let text = g.grad(w.matmul_bf16(w).sum_all(), &[w]).unwrap_err().to_string();
    assert!(text.contains("matmul_bf16") && text.contains("chosen after differentiating"), "{text}");
    let g = Graph::new();
    let w = g.parameter("w", DType::F64, [3, 3], Init::ONES);
    let _ = w.matmul_bf16(w);
    let text = g.check().unwrap_err().to_string();
    assert!(text.contains("wants two inputs of f32"), "{text}");
}
