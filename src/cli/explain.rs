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
    /// A lesson (xor, tokens) or an operation (sigmoid, matmul, ...); left out: lists them
    what: Option<String>,
}

/// Prints the listing of a lesson's network, or what an operation is.
pub fn explain(args: &ExplainArgs) -> Outcome {
    let with_network = || lesson::LESSONS.iter().filter(|lesson| lesson.network.is_some()).map(|lesson| lesson.name);
    let Some(what) = &args.what else {
        list("lessons with a network", with_network())?;
        return list("operations", OPS.iter().map(|op| op.name()));
    };
    if let Some(op) = OPS.iter().find(|op| op.name() == what) {
        let text = op.explain();
        line(&format!("{}: {}", op.name(), text.what))?;
        line(&format!("  formula     {}", text.formula))?;
        line(&format!("  derivative  {}", text.derivative))?;
        if !text.kinks.is_empty() {
            line(&format!("  kinks       {}", text.kinks))?;
        }
        return line(&format!("  cost        {}", text.cost));
    }
    if lesson::find(what).is_none() {
        let error = format!("there is nothing called `{what}` to explain");
        Err(super::lesson::unknown(&error, what, with_network().chain(OPS.iter().map(|op| op.name()))))?;
    }
    let network = super::lesson::network(what)?;
    print(&network.listing().map_err(|e| Error::failed(e.to_string()))?)
}

/// Names under a heading, in lines of 80 columns.
fn list<'a>(heading: &str, names: impl Iterator<Item = &'a str>) -> Outcome {
    let mut lines = vec![String::new()];
    for name in names {
        if lines.last().is_some_and(|line| line.len() + name.len() + 3 > 80) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            *line += &format!("  {name}");
        }
    }
    line(heading)?;
    lines.iter().try_for_each(|text| line(text))
}
