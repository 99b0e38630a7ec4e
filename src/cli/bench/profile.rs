//! `bench profile`: where the time of a step goes.

use geartrain::engine::peak;
use geartrain::train::Error;
use geartrain::workloads::Workload;
use serde_json::json;

use super::super::output::line;
use super::super::{Failure, Outcome};
use super::measure::{duration, median};
use super::{BenchArgs, options, prepare};

/// Bytes of three streams that no cache of a few MiB holds.
const STREAMS: usize = 96 << 20;
/// Steps that are measured at most.
const STEPS: usize = 200;

/// Prints the calls of a step by the time they take, with their share of what the machine could do: the longer of the
/// times that their arithmetic and their memory traffic need at the measured peaks, over the time they took.
pub fn profile(workload: &'static Workload, args: &BenchArgs) -> Outcome {
    let failed = |e: &dyn std::fmt::Display| -> Failure { Error::failed(format!("{}: {e}", workload.name)).into() };
    let options = options(args);
    let mut prepared = prepare(workload, args)?;
    let workers = options.threads as f64;
    let (gflops, gbytes) = (peak::multiply_add(options.isa, 5) * workers, peak::triad(options.isa, STREAMS, 3));
    let calls = prepared.program().calls();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); calls.len()];
    let begin = std::time::Instant::now();
    let mut steps = 0;
    while steps < 3 || (steps < STEPS && begin.elapsed().as_secs_f64() < args.seconds) {
        let round = prepared.profile().map_err(|e| failed(&e))?;
        steps += 1;
        // The first steps warm caches and branch predictors.
        if steps > 2 {
            times.iter_mut().zip(round).for_each(|(all, ns)| all.push(ns as f64 * 1e-9));
        }
    }
    let mut rows: Vec<(f64, usize)> = Vec::new();
    for (i, samples) in times.iter_mut().enumerate() {
        samples.sort_by(f64::total_cmp);
        rows.push((median(samples), i));
    }
    let total: f64 = rows.iter().map(|(time, _)| time).sum();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    if !args.json {
        line(&format!(
            "{}: {} a step in {} calls, {} threads; peaks {gflops:.0} GFLOP/s, {gbytes:.0} GB/s from memory\n",
            workload.name,
            duration(total),
            calls.len(),
            options.threads
        ))?;
        line("      time  share  GFLOP/s    GB/s  roofline  call")?;
    }
    for (time, i) in rows {
        let call = &calls[i];
        let (flops, bytes) = (call.flops as f64 / time / 1e9, call.bytes as f64 / time / 1e9);
        let (share, roofline) = (time / total, (flops / gflops).max(bytes / gbytes));
        if args.json {
            let row = json!({ "workload": workload.name, "call": i, "what": call.what, "shape": call.shape.dims(),
                "us": time * 1e6, "share": share, "gflops": flops, "gbytes": bytes, "roofline": roofline });
            line(&row.to_string())?;
        } else {
            let what = shorten(&call.what);
            line(&format!(
                "{:>10} {:>5.1}% {flops:>8.1} {bytes:>7.1} {:>8.0}%  {i}: {what} {}",
                duration(time),
                share * 100.0,
                roofline * 100.0,
                call.shape
            ))?;
        }
    }
    Ok(())
}

/// A long chain by its first and last operations.
fn shorten(what: &str) -> String {
    let words: Vec<&str> = what.split(' ').collect();
    match words.len() {
        0..=6 => what.to_string(),
        n => format!("{} .. {} ({n} operations)", words[..3].join(" "), words[n - 2..].join(" ")),
    }
}
