//! `predict`.

use std::path::PathBuf;

use clap::Args;
use geartrain::train::predict;

use super::Outcome;
use super::generate::open;
use super::output::{complain, line, print};

/// What `predict` takes.
#[derive(Args)]
pub struct PredictArgs {
    /// The run folder
    run: PathBuf,
    /// A table of the form that the run was trained on, with or without its target
    data: PathBuf,
    /// Write CSV into this new file; left out: on standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object a row
    #[arg(long, conflicts_with = "out")]
    json: bool,
}

/// Answers for every row of a table.
pub fn predict(args: &PredictArgs) -> Outcome {
    let trained = open(&args.run, &[])?;
    let predictions = predict::predict(&trained, &args.data)?;
    for warning in &predictions.warnings {
        complain(&format!("warning: {warning}"));
    }
    if let Some(words) = predictions.words() {
        complain(&words);
    }
    match &args.out {
        Some(path) => Ok(predictions.write(path)?),
        None if args.json => (0..predictions.rows()).try_for_each(|row| line(&predictions.json(row))),
        None => print(&predictions.csv()),
    }
}
