//! A whole compiled step against the interpreter: every output and every updated entry of the state.

use crate::check::compiled::Compiled;
use crate::check::definition::distance;
use crate::check::interpret::{Feed, evaluate_nodes};
use crate::check::{Check, Failure};
use crate::compile::{self, Pass};
use crate::ir::graph::{Graph, NodeId};
use crate::ir::op::Array;
use crate::ir::types::Tensor;
use crate::run::program::Options;

/// Outputs and entries may differ by this much, relative to their largest number and to 1. For graphs in f64.
pub const TOLERANCE: f64 = 1e-10;

/// Runs a graph's program on each of `feeds` in turn and compares outputs and the state afterwards with the
/// interpreter, which reads every entry as it was before the step. Gives the largest relative difference.
///
/// # Errors
/// A graph that does not compile or run; a value that a feed lacks; the first value that differs.
pub fn check_step(graph: &Graph, feeds: &[Feed], options: Options) -> Result<f64, Failure> {
    check_step_with(graph, feeds, options, compile::PASSES)
}

/// As [`check_step`], with other passes.
///
/// # Errors
/// As [`check_step`].
pub fn check_step_with(graph: &Graph, feeds: &[Feed], options: Options, passes: &[Pass]) -> Result<f64, Failure> {
    let (outputs, updates) = graph.with(|g| {
        let updates: Vec<(String, NodeId)> =
            g.updates.iter().map(|(entry, id)| (g.entries[*entry].name.clone(), *id)).collect();
        (g.outputs.clone(), updates)
    });
    let wanted: Vec<NodeId> = outputs.iter().chain(&updates).map(|(_, id)| *id).collect();
    let mut program = Compiled::with_passes(graph, options, passes, Check::Step, "program")?;
    let mut largest = 0.0f64;
    for (turn, feed) in feeds.iter().enumerate() {
        let values = graph.with(|g| evaluate_nodes(g, &wanted, feed));
        let values = values.map_err(|e| Failure::new(Check::Step, "program", e.to_string()))?;
        program.run(feed)?;
        for (k, wanted) in values.iter().enumerate() {
            let (name, found) = match k.checked_sub(outputs.len()) {
                None => (&outputs[k].0, Some(program.output(&outputs[k].0)?)),
                Some(u) => (&updates[u].0, program.state().get(&updates[u].0)),
            };
            let d = found.map_or(f64::INFINITY, |found| distance(&array(&found), wanted));
            if d.is_nan() || d > TOLERANCE {
                return Err(Failure::new(Check::Step, name, format!("differs by {d:.1e} in run {turn}")));
            }
            largest = largest.max(d);
        }
    }
    Ok(largest)
}

/// A tensor in f64.
pub(crate) fn array(tensor: &Tensor) -> Array {
    Array { shape: tensor.shape(), values: tensor.to_f64() }
}
