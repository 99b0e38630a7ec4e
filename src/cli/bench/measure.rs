//! Timing.

use std::time::Instant;

/// Seconds of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// In the middle of all samples.
    pub median: f64,
    /// The shortest sample.
    pub fastest: f64,
}

/// Times `step` for some seconds, after warming up for a third of that. Short steps are timed in blocks of 2 ms.
///
/// # Errors
/// The first error of `step`.
pub fn measure<E>(seconds: f64, mut step: impl FnMut() -> Result<(), E>) -> Result<Times, E> {
    let (begin, mut warm) = (Instant::now(), 0usize);
    while warm < 2 || begin.elapsed().as_secs_f64() < seconds / 3.0 {
        step()?;
        warm += 1;
    }
    let each = begin.elapsed().as_secs_f64() / warm as f64;
    let block = (0.002 / each).ceil().max(1.0) as usize;
    let mut samples = Vec::new();
    let begin = Instant::now();
    while samples.len() < 3 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        for _ in 0..block {
            step()?;
        }
        samples.push(start.elapsed().as_secs_f64() / block as f64);
    }
    samples.sort_by(f64::total_cmp);
    Ok(Times { median: median(&samples), fastest: samples[0] })
}

/// The middle of sorted numbers; NaN where there are none.
pub fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// `93 ns`, `1.42 ms`: three digits.
pub fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "us"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// The most memory this process had at once, in bytes, where the system tells.
pub fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        let texts = [9.34e-8, 1.4159e-3, 0.0256, 12.0].map(duration);
        assert_eq!(texts, ["93.4 ns", "1.42 ms", "25.6 ms", "12.0 s"]);
    }

    #[test]
    fn a_step_that_fails_ends_it() {
        let mut left = 5;
        let step = || {
            left -= 1;
            if left == 0 { Err("done") } else { Ok(()) }
        };
        assert_eq!(measure(1000.0, step), Err("done"));
        let times = measure(0.01, || Ok::<(), ()>(())).unwrap();
        assert!(times.fastest > 0.0 && times.fastest <= times.median);
    }
}
