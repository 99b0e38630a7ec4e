//! `explain`.

use clap::Args;
use geartrain::engine::ops::OPS;
use geartrain::train::Error;

use super::Outcome;
use super::output::{line, print};

/// What `explain` takes.
#[derive(Args)]
pub struct ExplainArgs {
    /// A lesson (xor, tokens) or an operation (sigmoid, matmul, ...)
    what: String,
}

/// Prints the listing of a lesson's network, or what an operation is.
pub fn explain(args: &ExplainArgs) -> Outcome {
    if let Some(op) = OPS.iter().find(|op| op.name() == args.what) {
        let text = op.explain();
        line(&format!("{}: {}", op.name(), text.what))?;
        line(&format!("  formula     {}", text.formula))?;
        line(&format!("  derivative  {}", text.derivative))?;
        if !text.kinks.is_empty() {
            line(&format!("  kinks       {}", text.kinks))?;
        }
        return line(&format!("  cost        {}", text.cost));
    }
    if geartrain::lesson::find(&args.what).is_none() {
        let names: Vec<&str> = geartrain::lesson::LESSONS.iter().map(|l| l.name).collect();
        let ops: Vec<&str> = OPS.iter().map(|op| op.name()).collect();
        let hint = format!("lessons: {}\noperations: {}", names.join(", "), ops.join(", "));
        Err(Error::usage(format!("there is nothing called `{}` to explain", args.what)).hint(hint))?;
    }
    let lesson = super::lesson::find(&args.what)?;
    print(&lesson.listing().map_err(|e| Error::failed(e.to_string()))?)
}
