//! The rates behind the warm-up, a function for each kind. `after` counts steps from its end; `length` is how many of
//! them are planned.

use std::f64::consts::PI;

use super::{Rule, Schedule};
use crate::config::ScheduleKind;

/// The rule of every kind.
pub(super) const RULES: &[(ScheduleKind, Rule)] = &[
    (ScheduleKind::Constant, constant),
    (ScheduleKind::Cosine, cosine),
    (ScheduleKind::Step, step),
    (ScheduleKind::Exponential, exponential),
    (ScheduleKind::OneCycle, one_cycle),
    (ScheduleKind::Plateau, plateau),
];

/// lr
pub(super) fn constant(s: &Schedule, _: u64, _: u64) -> f64 {
    s.lr
}

/// min_lr + 0.5 · (1 + cos(π · after / length)) · (lr - min_lr), operation by operation that of the usual small-GPT recipe, so
/// that curves can be laid over each other (Loshchilov and Hutter, 2017, without restarts).
pub(super) fn cosine(s: &Schedule, after: u64, length: u64) -> f64 {
    let min_lr = s.keys.min_lr;
    if after >= length {
        return min_lr;
    }
    let angle = PI * after as f64 / length as f64;
    min_lr + 0.5 * (1.0 + libm::cos(angle)) * (s.lr - min_lr)
}

/// max(min_lr, lr · factor^⌊after / every⌋): PyTorch's `StepLR` where min_lr is 0.
pub(super) fn step(s: &Schedule, after: u64, length: u64) -> f64 {
    falling(s, (after / every(s, length)) as f64)
}

/// max(min_lr, lr · factor^(after / every)): PyTorch's `ExponentialLR` where every is 1 and min_lr is 0.
pub(super) fn exponential(s: &Schedule, after: u64, length: u64) -> f64 {
    falling(s, after as f64 / every(s, length) as f64)
}

/// Up from lr / div_factor to lr over the first pct_start of the steps, then down to lr / div_factor / final_div_factor,
/// both along half a cosine wave: PyTorch's `OneCycleLR` with its defaults (Smith and Topin, 2018), without its momentum.
pub(super) fn one_cycle(s: &Schedule, after: u64, length: u64) -> f64 {
    let first = s.lr / s.keys.div_factor;
    let last = first / s.keys.final_div_factor;
    let (after, end) = (after as f64, length as f64 - 1.0);
    let top = s.keys.pct_start * length as f64 - 1.0;
    match (after < top, after < end) {
        (true, _) => wave(first, s.lr, after / top),
        (_, true) => wave(s.lr, last, (after - top) / (end - top)),
        _ => last,
    }
}

/// max(min_lr, lr · scale), the scale being what evaluations have left of it.
pub(super) fn plateau(s: &Schedule, _: u64, _: u64) -> f64 {
    (s.lr * s.plateau.scale).max(s.keys.min_lr)
}

/// Steps over which the rate falls by its factor.
fn every(s: &Schedule, length: u64) -> u64 {
    if s.keys.every == 0 { length.div_ceil(5) } else { s.keys.every }
}

fn falling(s: &Schedule, times: f64) -> f64 {
    (s.lr * libm::pow(s.keys.factor, times)).max(s.keys.min_lr)
}

/// Half a cosine wave from `start` to `end`.
fn wave(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) / 2.0 * (libm::cos(PI * share) + 1.0)
}
