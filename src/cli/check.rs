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
    #[arg(required_unless_present_any = ["ops", "graphs"], conflicts_with_all = ["ops", "graphs"])]
    what: Option<String>,
    /// Check every operation that there is
    #[arg(long, conflicts_with = "graphs")]
    ops: bool,
    /// Check N random graphs, with the seeds S, S + 1, ...
    #[arg(long, value_name = "N")]
    graphs: Option<u64>,
    /// Seed of the random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Checks derivatives, and for operations also kernels and definitions.
pub fn gradcheck(args: &GradcheckArgs) -> Outcome {
    match (&args.what, args.graphs) {
        (Some(name), _) => network(name, args),
        (None, Some(count)) => graphs(count, args),
        (None, None) => operations(args),
    }
}

/// Graphs between two lines about how far the work has come.
const TOLD: u64 = 1000;

fn graphs(count: u64, args: &GradcheckArgs) -> Outcome {
    let mut told = Ok(());
    let mut known = 0;
    let totals = check::check_graphs(args.seed, count, |totals| {
        if told.is_ok() {
            told = progress(totals, &mut known, args);
        }
    });
    told?;
    let failed = totals.failures.len();
    if args.json {
        line(
            &json!({ "graphs": totals.graphs, "nodes": totals.nodes, "learning": totals.learning,
            "operations": totals.ops.len(), "worst": totals.worst, "worst_share": totals.share,
            "worst_forward": totals.forward, "redrawn": totals.redrawn, "failed": failed })
            .to_string(),
        )?;
    } else {
        line(&format!(
            "{} graphs with {} nodes and {} different operations; {} learn, {} of these were refereed forwards\n\
             largest difference {:.1e}, largest share of a bound in f32 {:.2}, forwards {:.1e}; {} drawn again",
            totals.graphs,
            totals.nodes,
            totals.ops.len(),
            totals.learning,
            totals.refereed,
            totals.worst,
            totals.share,
            totals.forward,
            totals.redrawn
        ))?;
    }
    match failed {
        0 if args.json => Ok(()),
        0 => line("\nall graphs hold"),
        _ => {
            let seeds: Vec<String> = totals.failures.iter().take(10).map(|f| f.seed.to_string()).collect();
            let what = format!(
                "{failed} of {} graphs fail, the first of them with the seeds {}",
                totals.graphs,
                seeds.join(", ")
            );
            Err(Failure::Error(Error::failed(what).hint("one alone: geartrain gradcheck --graphs 1 --seed S")))
        }
    }
}

/// Tells new failures as they come, and people now and then how far the work has come.
fn progress(totals: &check::GraphTotals, known: &mut usize, args: &GradcheckArgs) -> Outcome {
    for failure in &totals.failures[*known..] {
        *known += 1;
        match args.json {
            true => line(
                &json!({ "seed": failure.seed, "failure": failure.failure.to_string(),
                "smaller": failure.smaller.to_string(), "nodes": failure.nodes })
                .to_string(),
            )?,
            false => line(&format!("{failure}again: geartrain gradcheck --graphs 1 --seed {}\n", failure.seed))?,
        }
    }
    match !args.json && totals.graphs.is_multiple_of(TOLD) {
        true => line(&format!("{} graphs, {} fail", totals.graphs, totals.failures.len())),
        false => Ok(()),
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
