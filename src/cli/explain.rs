//! `explain`.

use clap::Args;
use geartrain::engine::ops::OPS;
use geartrain::lesson;
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
        let with_network = lesson::LESSONS.iter().filter(|lesson| lesson.network.is_some());
        let names = with_network.map(|lesson| lesson.name).chain(OPS.iter().map(|op| op.name()));
        let what = format!("there is nothing called `{}` to explain", args.what);
        Err(super::lesson::unknown(&what, &args.what, names))?;
    }
    let network = super::lesson::network(&args.what)?;
    print(&network.listing().map_err(|e| Error::failed(e.to_string()))?)
}
