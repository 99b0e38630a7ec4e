//! `bench --against`: another framework's script in turn with ours.

use std::process::Command;

use geartrain::train::Error;
use geartrain::workloads::Workload;
use serde_json::{Value, json};

use super::super::Outcome;
use super::super::output::{complain, line};
use super::measure::{duration, median};
use super::{BenchArgs, Peer, Precision, options, prepare, time};

impl Peer {
    /// Its name, as its script is called.
    fn name(self) -> &'static str {
        match self {
            Peer::Torch => "torch",
            Peer::Jax => "jax",
            Peer::Numpy => "numpy",
            Peer::Burn => "burn",
            Peer::Candle => "candle",
        }
    }

    /// What prints the times of a workload as a JSON row.
    fn command(self, args: &BenchArgs, workload: &Workload, threads: usize) -> Result<Command, String> {
        let variant: &[&str] = match self {
            Peer::Torch if args.precision == Precision::Bf16 => &["--variant", "fused-bf16"],
            _ if args.precision != Precision::F32 => return Err(format!("{} runs in f32 only", self.name())),
            Peer::Torch => &["--variant", "fused"],
            Peer::Jax => &["--variant", "jit"],
            Peer::Numpy => &[],
            Peer::Burn | Peer::Candle => return self.cargo(args, workload, threads),
        };
        let script = args.peers.join(format!("python/bench_{}.py", self.name()));
        if !script.is_file() {
            return Err(format!("no script {}", script.display()));
        }
        let (key, gelu) = match workload.key.split_once(':') {
            Some((key, gelu)) => (key, Some(gelu)),
            None => (workload.key, None),
        };
        let mut command = Command::new(&args.python);
        command.arg(script).args(["--workload", key, "--threads", &threads.to_string()]).args(variant);
        command.args(["--task", "bench", "--budget", &args.seconds.to_string()]);
        if let Some(gelu) = gelu {
            command.args(["--gelu", gelu]);
        }
        Ok(command)
    }

    /// Frameworks in Rust are built first, which takes minutes the first time.
    fn cargo(self, args: &BenchArgs, workload: &Workload, threads: usize) -> Result<Command, String> {
        let manifest = args.peers.join(format!("rust/{}/Cargo.toml", self.name()));
        if !manifest.is_file() {
            return Err(format!("no package {}", manifest.display()));
        }
        let mut command = Command::new("cargo");
        command.args(["run", "--release", "--quiet", "--manifest-path"]).arg(manifest);
        command.args(["--", workload.key, &args.seconds.to_string()]);
        command.env("RAYON_NUM_THREADS", threads.to_string());
        Ok(command)
    }
}

/// Measures ours and theirs in turn and prints the ratio of each pair's medians, and its median.
pub fn against(args: &BenchArgs, peer: Peer, chosen: &[&'static Workload]) -> Outcome {
    let threads = options(args).threads;
    if !args.json {
        line(&format!(
            "{threads} threads, {}, {} turns of {} s; ratio: our median over that of {}\n\n\
             workload                  ours        theirs   ratio   ratios of the turns",
            args.precision.name(),
            args.turns,
            args.seconds,
            peer.name()
        ))?;
    }
    let mut measured = 0;
    for workload in chosen {
        let mut prepared = prepare(workload, args)?;
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let mut failure = None;
        for _ in 0..args.turns.max(1) {
            let mine = time(&mut prepared, workload.name, args.seconds)?.median;
            match run(args, peer, workload, threads) {
                Ok(other) => {
                    ours.push(mine);
                    theirs.push(other);
                    ratios.push(mine / other);
                }
                Err(what) => {
                    failure = Some(what);
                    break;
                }
            }
        }
        if let Some(what) = failure {
            // A workload that the other framework lacks does not stop the others.
            complain(&format!("{}: {what}", workload.name));
            continue;
        }
        measured += 1;
        let turns: Vec<String> = ratios.iter().map(|r| format!("{r:.2}")).collect();
        let middle = |samples: &mut Vec<f64>| {
            samples.sort_by(f64::total_cmp);
            median(samples)
        };
        let (mine, other, ratio) = (middle(&mut ours), middle(&mut theirs), middle(&mut ratios));
        if args.json {
            let row = json!({ "workload": workload.name, "threads": threads, "precision": args.precision.name(), "against": peer.name(),
                "median_us": mine * 1e6, "their_median_us": other * 1e6, "ratio": ratio });
            line(&row.to_string())?;
        } else {
            line(&format!(
                "{:16} {:>13} {:>13} {ratio:>7.3}   {}",
                workload.name,
                duration(mine),
                duration(other),
                turns.join(" ")
            ))?;
        }
    }
    match measured {
        0 => Err(Error::failed(format!("{} ran none of the workloads", peer.name())).into()),
        _ => Ok(()),
    }
}

/// Seconds of the other framework's median step.
fn run(args: &BenchArgs, peer: Peer, workload: &Workload, threads: usize) -> Result<f64, String> {
    let mut command = peer.command(args, workload, threads)?;
    let done = command.output().map_err(|e| format!("cannot run {}: {e}", command.get_program().display()))?;
    let text = String::from_utf8_lossy(&done.stdout);
    let row = text.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    match row.as_ref().and_then(|row| row["median_us"].as_f64()) {
        Some(us) => Ok(us * 1e-6),
        None => {
            let errors = String::from_utf8_lossy(&done.stderr);
            let last = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it printed no figures");
            Err(format!("{} failed: {last}", peer.name()))
        }
    }
}
