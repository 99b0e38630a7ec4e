//! Products in bfloat16: what the pass computes is what a graph computes that rounds by hand.

use geartrain_engine::compile::bf16::ROUND_PRODUCTS;
use geartrain_engine::compile::{PASSES, Pass};
use geartrain_engine::{DType, Data, Graph, Init, Isa, Options, Program, State, Var};

/// Products forward and backward, some of which share operands; `round` is applied to each operand.
fn network(dtype: DType, round: impl for<'g> Fn(Var<'g>) -> Var<'g>) -> Graph {
    let g = Graph::new();
    {
        let x = g.input("x", dtype, [7, 37]);
        let w = g.parameter("w", dtype, [37, 19], Init::Normal { std: 1.0 });
        let v = g.parameter("v", dtype, [37, 19], Init::Normal { std: 1.0 });
        let (h, z) = (round(x).matmul(round(w)), round(x).matmul(round(v)));
        let ct = h.tanh();
        g.output("h", h);
        g.output("z", z);
        g.output("d_w", round(x.t()).matmul(round(ct)));
        g.output("d_x", round(ct).matmul(round(w.t())));
    }
    g
}

/// The bits of all outputs.
fn outputs(g: &Graph, passes: &[Pass], options: Options) -> Vec<Vec<u64>> {
    let state = State::new(g, 3).unwrap();
    let mut program = Program::compile_with(g, &state, options, passes).unwrap();
    let mut batch = program.batch();
    for (i, x) in batch.f32s("x").map(|x| x.iter_mut().enumerate().collect::<Vec<_>>()).unwrap_or_default() {
        *x = (i as f32 * 0.37).sin();
    }
    program.evaluate(&state, &batch).unwrap();
    let bits = |name: &str| match program.tensor(name).unwrap().data() {
        Data::F32(v) => v.iter().map(|x| u64::from(x.to_bits())).collect(),
        Data::F64(v) => v.iter().map(|x| x.to_bits()).collect(),
        Data::U32(v) => v.iter().map(|x| u64::from(*x)).collect(),
    };
    ["h", "z", "d_w", "d_x"].map(bits).to_vec()
}

fn rounding() -> Vec<Pass> {
    std::iter::once(ROUND_PRODUCTS).chain(PASSES.iter().copied()).collect()
}

#[test]
fn the_pass_rounds_the_operands_of_products() {
    let by_hand = outputs(&network(DType::F32, |x| x.round_bf16()), PASSES, Options::default());
    let plain = network(DType::F32, |x| x);
    for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
        for threads in [1, 2, 3] {
            assert_eq!(outputs(&plain, &rounding(), Options { threads, isa }), by_hand, "{isa:?}, {threads} threads");
        }
    }
    assert_ne!(outputs(&plain, PASSES, Options::default()), by_hand);
}

#[test]
fn products_in_f64_stay_as_they_are() {
    let plain = network(DType::F64, |x| x);
    let options = Options::default();
    assert_eq!(outputs(&plain, &rounding(), options), outputs(&plain, PASSES, options));
}

#[test]
fn a_gradient_does_not_pass_through_a_rounding() {
    let g = Graph::new();
    let w = g.parameter("w", DType::F32, [3], Init::ONES);
    let text = g.grad(w.round_bf16().sum_all(), &[w]).unwrap_err().to_string();
    assert!(text.contains("round_bf16") && text.contains("round after differentiating"), "{text}");
}
