//! `gradcheck`.

use clap::Args;
use geartrain::engine::check::{self, Feed};
use geartrain::engine::{DType, State};
use geartrain::train::Error;
use geartrain::{Graph, Var};
use serde_json::json;

use super::output::{complain, line, print};
use super::{Failure, Outcome};

/// What `gradcheck` takes.
#[derive(Args)]
pub struct GradcheckArgs {
    /// A lesson: xor or tokens
    #[arg(required_unless_present = "ops", conflicts_with = "ops")]
    what: Option<String>,
    /// Check every operation that there is
    #[arg(long)]
    ops: bool,
    /// Seed of the random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Checks derivatives, and for operations also kernels and definitions.
pub fn gradcheck(args: &GradcheckArgs) -> Outcome {
    match &args.what {
        Some(name) => network(name, args),
        None => operations(args),
    }
}

fn operations(args: &GradcheckArgs) -> Outcome {
    let reports = check::check_all(args.seed);
    if args.json {
        for r in &reports {
            let failures: Vec<String> = r.failures.iter().map(ToString::to_string).collect();
            let row = json!({ "op": r.op, "cases": r.cases, "passed": r.passed(), "failures": failures });
            line(&row.to_string())?;
        }
    } else {
        print(&check::table(&reports))?;
    }
    let failed: Vec<&str> = reports.iter().filter(|r| !r.passed()).map(|r| r.op.as_str()).collect();
    match failed.as_slice() {
        [] if args.json => Ok(()),
        [] => line(&format!("\nall {} operations hold", reports.len())),
        names => Err(Failure::Error(Error::failed(format!("these operations fail: {}", names.join(", "))))),
    }
}

fn network(name: &str, args: &GradcheckArgs) -> Outcome {
    let failed = |e: &dyn std::fmt::Display| Error::failed(e.to_string());
    let network = super::lesson::network(name)?;
    let g = Graph::new();
    let outputs = (network.build)(&g, DType::F64);
    let state = State::new(&g, 0).map_err(|e| failed(&e))?;
    let parameters: Vec<Var<'_>> = g.parameters().into_iter().map(|(var, _)| var).collect();
    let feed = Feed::of_state(&state);
    let report = check::gradcheck(&g, outputs.loss, &parameters, &feed, args.seed).map_err(|e| failed(&e))?;
    for d in &report.directions {
        let compiled = d.compiled.unwrap_or(0.0);
        if args.json {
            let row = json!({ "parameter": d.name, "analytic": d.analytic, "numeric": d.numeric, "error": d.error,
                "compiled_error": compiled });
            line(&row.to_string())?;
        } else {
            let (derived, numeric) = (d.analytic, d.numeric);
            line(&format!(
                "{:6} derived {derived:>19.12e}   numeric {numeric:>19.12e}   error {:.1e}",
                d.name, d.error
            ))?;
        }
    }
    for failure in &report.failures {
        complain(&failure.to_string());
    }
    match report.passed() {
        true => Ok(()),
        false => Err(Failure::Error(Error::failed("a derivative differs from the numeric difference"))),
    }
}
