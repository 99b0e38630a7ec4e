//! From graph to program, in named steps.
//!
//! 1. Passes rewrite the graph ([`PASSES`], in order); each result is verified.
//! 2. [`layout`]: which node owns memory and which is only a view on another's.
//! 3. [`fuse`]: the order of execution, with elementwise chains joined into one call each.
//! 4. [`plan`]: lifetimes to offsets in one arena; the peak is exact and known before the first run.
//! 5. [`lower`]: calls on a checked tape.

pub mod arena;
pub mod bf16;
pub mod fold;
pub mod fuse;
pub mod join;
pub mod layout;
pub mod lower;
pub mod pairs;
pub mod plan;
pub mod recompute;
pub mod simplify;
pub mod verify;

use crate::ir::error::{GraphError, OpError, Rule};
use crate::ir::graph::{Graph, Inner};

/// A rewrite of the graph.
#[derive(Clone, Copy)]
pub struct Pass {
    /// Its name, as listings print it.
    pub name: &'static str,
    /// The rewrite.
    pub run: fn(&Inner) -> Inner,
}

/// The passes, in order. They keep the bits of every value but those of sums over time. Transposes, slices and broadcasts need none: they become strides of the calls that read them.
pub static PASSES: &[Pass] = &[
    Pass { name: "dead code", run: simplify::dead_code },
    Pass { name: "algebra", run: simplify::algebra },
    Pass { name: "duplicates", run: simplify::duplicates },
    Pass { name: "constants", run: fold::constants },
    Pass { name: "slices of padded values", run: join::slices_of_padded },
    Pass { name: "sums over time", run: join::sums },
    Pass { name: "residuals", run: recompute::residuals },
    Pass { name: "dead code again", run: simplify::dead_code },
];

/// The graph before the first and after each pass, with the pass's name (`graph` for the first).
///
/// # Errors
/// All errors of the graph; a pass that made an ill-formed graph, named.
pub fn trace(graph: &Graph, passes: &[Pass]) -> Result<Vec<(&'static str, Inner)>, GraphError> {
    graph.check()?;
    let mut stages = vec![("graph", graph.with(Inner::clone))];
    for pass in passes {
        let after = (pass.run)(&stages[stages.len() - 1].1);
        if let Err(what) = verify::verify(&after) {
            let rule = Rule::new(format!("the pass made an ill-formed graph: {what}"));
            let location = std::panic::Location::caller();
            let error = OpError { op: pass.name.to_string(), rule, inputs: vec![], path: String::new(), location };
            GraphError::check(vec![error])?;
        }
        stages.push((pass.name, after));
    }
    Ok(stages)
}

/// The graph after all passes.
pub(crate) fn simplified(graph: &Graph, passes: &[Pass]) -> Result<Inner, GraphError> {
    Ok(trace(graph, passes)?.pop().map(|(_, inner)| inner).unwrap_or_default())
}
