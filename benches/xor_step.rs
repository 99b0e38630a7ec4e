//! Time of one XOR training step in f32 through the public `Program::run`: all 17 parameters, forward to update.
//!
//!     cargo bench --bench xor_step

use std::time::Instant;

use geartrain::engine::Isa;
use geartrain::{DType, Options, Program, State, lesson};

fn main() {
    let graph = lesson::network("xor").map(|xor| xor.graph(DType::F32)).transpose().ok().flatten();
    let Some(graph) = graph else { return };
    let Ok(mut state) = State::new(&graph, 0) else { return };
    let options = Options { threads: 1, isa: Isa::best() };
    let Ok(mut program) = Program::compile(&graph, &state, options) else { return };
    let batch = program.batch();
    if std::env::args().any(|a| a == "--calls") {
        program.calls().iter().for_each(|call| println!("{}", call.what));
    }
    let mut rounds: Vec<f64> = Vec::new();
    for _ in 0..31 {
        let start = Instant::now();
        for _ in 0..10_000 {
            if program.run(&mut state, &batch).is_err() {
                return;
            }
        }
        rounds.push(start.elapsed().as_secs_f64() / 10_000.0 * 1e9);
    }
    rounds.sort_by(f64::total_cmp);
    println!("one XOR step: median {:.0} ns, fastest {:.0} ns, {} calls", rounds[15], rounds[0], program.cost().calls);
}
