//! Constant folding: what depends on constants alone is computed once, by the same kernels, so with the same bits.

use std::sync::Arc;

use crate::compile::simplify::dead_code;
use crate::ir::graph::{Inner, NodeId, Source};
use crate::ir::op::Kind;
use crate::run::program::{Options, Program};
use crate::state::State;

/// Larger results stay in the program: they would cost more memory than time.
const LARGEST: usize = 1 << 16;

/// Replaces operations on constants by their values. Movement of a constant costs nothing and stays.
pub fn constants(g: &Inner) -> Inner {
    let mut known = vec![false; g.nodes.len()];
    for (i, node) in g.nodes.iter().enumerate() {
        known[i] = match &node.source {
            Source::Constant(_) => true,
            Source::Apply(_, x) => node.ty.shape.count() <= LARGEST && x.iter().all(|x| known[x.index()]),
            _ => false,
        };
    }
    let work = |i: usize| matches!(&g.nodes[i].source, Source::Apply(op, _) if op.kind() != Kind::Move);
    let foldable: Vec<usize> = (0..g.nodes.len()).filter(|i| known[*i] && work(*i)).collect();
    if foldable.is_empty() {
        return g.clone();
    }
    let mut alone = g.clone();
    alone.guards.clear();
    alone.updates.clear();
    alone.entries.clear();
    alone.inputs.clear();
    alone.outputs = foldable.iter().map(|i| (i.to_string(), NodeId(*i as u32))).collect();
    let alone = dead_code(&alone);
    let state = State::empty();
    // A constant that cannot be computed (an index out of range) stays and fails when the program runs.
    let Ok(mut program) = Program::build(&alone, &state, Options { threads: 1, ..Options::default() }) else {
        return g.clone();
    };
    let batch = program.batch();
    if program.evaluate(&state, &batch).is_err() {
        return g.clone();
    }
    let mut values = vec![None; g.nodes.len()];
    for i in foldable {
        values[i] = program.tensor(&i.to_string()).map(Arc::new);
    }
    let mut folded = g.clone();
    for (node, value) in folded.nodes.iter_mut().zip(values) {
        if let Some(tensor) = value {
            node.source = Source::Constant(tensor);
        }
    }
    folded
}
