//! Operations on rows whose output takes the place of a value that nobody reads afterwards.

use geartrain_engine::{DType, Data, Graph, Init, Options, Program, State};

/// Logits (`rows`, 512), their loss and the gradient of the weight; the logits themselves are an output if `kept`.
fn classifier(rows: usize, kept: bool) -> Graph {
    let g = Graph::new();
    {
        let x = g.input("x", DType::F32, [rows, 16]);
        let targets = g.input("targets", DType::U32, [rows]);
        let w = g.parameter("w", DType::F32, [16, 512], Init::Normal { std: 0.5 });
        let logits = x.matmul(w);
        let loss = logits.cross_entropy(targets).mean_all();
        let gradients = g.grad(loss, &[w]).unwrap();
        g.output("loss", loss);
        g.output("d_w", gradients[0]);
        if kept {
            g.output("logits", logits);
        }
    }
    g
}

/// The bits of loss and gradient, and the arena's bytes.
fn run(g: &Graph) -> (Vec<Vec<u32>>, usize) {
    let state = State::new(g, 3).unwrap();
    let mut program = Program::compile(g, &state, Options::default()).unwrap();
    let mut batch = program.batch();
    (0..).zip(batch.f32s("x").unwrap()).for_each(|(i, x)| *x = (i as f32 * 0.37).sin());
    (0..).zip(batch.u32s("targets").unwrap()).for_each(|(i, target)| *target = i * 77 % 512);
    program.evaluate(&state, &batch).unwrap();
    let bits = |name: &str| match program.tensor(name).unwrap().data() {
        Data::F32(v) => v.iter().map(|x| x.to_bits()).collect(),
        _ => Vec::new(),
    };
    (["loss", "d_w"].map(bits).to_vec(), program.cost().arena_bytes)
}

#[test]
fn the_gradient_of_logits_stands_where_they_stood() {
    for rows in [1, 65, 256] {
        let matrix = rows * 512 * 4;
        let (alone, kept) = (run(&classifier(rows, false)), run(&classifier(rows, true)));
        assert_eq!(alone.0, kept.0);
        // Kept, the logits need memory of their own.
        assert_eq!(alone.1 + matrix, kept.1, "{rows} rows");
    }
}
