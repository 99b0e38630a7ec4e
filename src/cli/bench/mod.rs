//! `bench`: the workloads, the kernels, and where the time of a step goes.

mod against;
mod kernels;
mod measure;
mod profile;

use clap::{Args, ValueEnum};
use geartrain::Options;
use geartrain::engine::compile::{PASSES, Pass, bf16};
use geartrain::train::Error;
use geartrain::workloads::{self, Prepared, Workload};
use serde_json::json;

use super::output::{line, thousands};
use super::{Failure, Outcome};
use measure::{Times, measure};

/// What `bench` takes.
#[derive(Args)]
pub struct BenchArgs {
    /// Workloads; `kernels`; or `profile` and a workload; left out: all workloads
    #[arg(value_name = "WHAT", num_args = 0..)]
    what: Vec<String>,
    /// Worker threads: 1, 2, ...; left out: one a core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Seconds to measure each workload
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
    /// What matrix products multiply
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    precision: Precision,
    /// Run another framework on the same work in turn with ours, and print the ratio of the medians
    #[arg(long, value_name = "FRAMEWORK")]
    against: Option<Peer>,
    /// Turns with --against: ours, theirs, ours, theirs, ...
    #[arg(long, value_name = "N", default_value_t = 3)]
    turns: usize,
    /// The folder with what runs the other frameworks
    #[arg(long, value_name = "DIR", default_value = "tools/peers")]
    peers: std::path::PathBuf,
    /// The Python that has the other framework
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: std::path::PathBuf,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// A framework to be measured beside ours.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// PyTorch, eager with fused optimizers
    Torch,
    /// JAX, jitted
    Jax,
    /// NumPy, forward and backward by hand
    Numpy,
    /// burn on its flex backend; cargo builds it first, which takes minutes
    Burn,
    /// candle; cargo builds it first, which takes minutes
    Candle,
}

/// What matrix products multiply; everything else is f32.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// f32
    F32,
    /// f32 rounded to bfloat16
    Bf16,
}

impl Precision {
    /// Its name.
    fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }

    /// What compiles programs in it.
    fn passes(self) -> Vec<Pass> {
        match self {
            Precision::F32 => PASSES.to_vec(),
            Precision::Bf16 => bf16::passes(),
        }
    }
}

/// The learning rate of networks under AdamW while they are timed: the work is the same, and many steps on one batch
/// stay away from a loss of 0 and its denormal gradients.
const STILL: f64 = 1e-5;

/// Runs what is asked for.
pub fn bench(args: &BenchArgs) -> Outcome {
    let words: Vec<&str> = args.what.iter().map(String::as_str).collect();
    if args.threads == Some(0) {
        return Err(Error::usage("--threads must be at least 1").into());
    }
    if !(args.seconds.is_finite() && args.seconds > 0.0) {
        return Err(Error::usage("--seconds must be a number above 0").into());
    }
    match words.as_slice() {
        [] => all(args, workloads::WORKLOADS.iter().collect()),
        ["kernels"] => kernels::kernels(args),
        ["profile", name] => profile::profile(find(name)?, args),
        ["profile", ..] => Err(Error::usage("`bench profile` wants one workload").hint(names()).into()),
        names => all(args, names.iter().map(|name| find(name)).collect::<Result<_, _>>()?),
    }
}

fn find(name: &str) -> Result<&'static Workload, Failure> {
    workloads::find(name).ok_or_else(|| Error::usage(format!("there is no workload `{name}`")).hint(names()).into())
}

fn names() -> String {
    let names: Vec<&str> = workloads::WORKLOADS.iter().map(|w| w.name).collect();
    format!("the workloads are {}; `bench kernels` and `bench profile WORKLOAD` look closer", names.join(", "))
}

fn options(args: &BenchArgs) -> Options {
    let usual = Options::default();
    Options { threads: args.threads.unwrap_or(usual.threads), ..usual }
}

/// A workload, compiled, or why it cannot be.
fn prepare(workload: &Workload, args: &BenchArgs) -> Result<Prepared, Failure> {
    let still = match &workload.kind {
        workloads::Kind::Training(training) => (training.optimizer)().corrections(1) != (1.0, 1.0),
        workloads::Kind::Other(_) => false,
    };
    let prepared = workload.prepare(options(args), still.then_some(STILL), &args.precision.passes());
    prepared.map_err(|e| Error::failed(format!("{}: {e}", workload.name)).into())
}

/// Steps of a workload for some seconds.
fn time(prepared: &mut Prepared, name: &str, seconds: f64) -> Result<Times, Failure> {
    measure(seconds, || prepared.step()).map_err(|e| Error::failed(format!("{name}: {e}")).into())
}

fn all(args: &BenchArgs, chosen: Vec<&'static Workload>) -> Outcome {
    if let Some(peer) = args.against {
        return against::against(args, peer, &chosen);
    }
    let threads = options(args).threads;
    if !args.json {
        let head = "workload                median       fastest     GFLOP/s     memory  calls";
        line(&format!("{threads} threads, {}, medians of {} s\n\n{head}", args.precision.name(), args.seconds))?;
    }
    for workload in chosen {
        let mut prepared = prepare(workload, args)?;
        let times = time(&mut prepared, workload.name, args.seconds)?;
        let program = prepared.program();
        let (cost, bytes) = (program.cost(), prepared.bytes());
        let gflops = cost.flops as f64 / times.median / 1e9;
        if args.json {
            let row = json!({
                "workload": workload.name, "threads": threads, "precision": args.precision.name(), "median_us": times.median * 1e6,
                "min_us": times.fastest * 1e6, "flops": cost.flops, "gflops": gflops, "peak_bytes": bytes,
                "arena_bytes": cost.arena_bytes, "live_bytes": cost.live_bytes, "state_bytes": cost.state_bytes,
                "calls": cost.calls, "loss": prepared.loss(), "rss_bytes": measure::peak_rss(),
            });
            line(&row.to_string())?;
        } else {
            line(&format!(
                "{:16} {:>13} {:>13} {gflops:>11.1} {:>10} {:>6}",
                workload.name,
                measure::duration(times.median),
                measure::duration(times.fastest),
                format!("{} KiB", thousands(bytes / 1024)),
                cost.calls
            ))?;
        }
    }
    Ok(())
}
