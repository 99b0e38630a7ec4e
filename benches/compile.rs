//! How long it takes to make a training step of GPT-2 with 124 million parameters: `cargo bench --bench compile`.

use std::time::Instant;

use geartrain::nn::{Dropout, Gpt2};
use geartrain::optim::{self, AdamW};
use geartrain::{DType, Graph, Options, Program, State};

fn main() {
    let config = Gpt2::SMALL;
    let begin = Instant::now();
    let g = Graph::new();
    let tokens = g.input("tokens", DType::U32, [1, config.context]);
    let targets = g.input("targets", DType::U32, [config.context]);
    let logits = config.forward(&g, tokens, DType::F32, &Dropout::off());
    let loss = logits.cross_entropy(targets).mean_all();
    let adamw = AdamW { betas: (0.9, 0.95), eps: 1e-8, decay: 0.1 };
    optim::minimize(&g, loss, &adamw, g.scalar("lr"), 1.0).expect("a correct graph");
    let graph = begin.elapsed();
    let state = State::new(&g, 1).expect("room for the state");
    let begin = Instant::now();
    let program = Program::compile(&g, &state, Options::default()).expect("room for the step");
    let compile = begin.elapsed();
    let (nodes, cost) = (g.with(|g| g.nodes.len()), program.cost());
    println!(
        "{} parameters, {nodes} nodes, {} calls, {} MiB of values: graph and gradients {:.1} ms, program {:.1} ms",
        config.parameters(),
        cost.calls,
        cost.arena_bytes >> 20,
        graph.as_secs_f64() * 1e3,
        compile.as_secs_f64() * 1e3
    );
}
