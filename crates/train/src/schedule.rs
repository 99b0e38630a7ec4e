//! The learning rate of each step, computed on the host in f64.
//!
//! Steps count from 0. All kinds but one-cycle rise linearly over the first `warmup` steps, to lr · (step + 1) / warmup; what
//! follows is a function of `rules.rs`. A new kind is a function and a line there, and a word of [`ScheduleKind`].

mod plateau;
mod rules;
#[cfg(test)]
mod tests;

pub use plateau::Plateau;

use crate::config::{Config, ScheduleConfig, ScheduleKind};

/// The rate `after` so many steps behind the warm-up, of the `length` planned ones (at least 1).
type Rule = fn(&Schedule, after: u64, length: u64) -> f64;

fn rule(kind: ScheduleKind) -> Rule {
    rules::RULES.iter().find(|(known, _)| *known == kind).map_or(rules::constant, |(_, rule)| *rule)
}

/// Whether a kind stays at or above `schedule.min_lr`.
pub(crate) fn has_floor(kind: ScheduleKind) -> bool {
    !matches!(kind, ScheduleKind::Constant | ScheduleKind::OneCycle)
}

/// How the learning rate changes over a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    lr: f64,
    steps: u64,
    keys: ScheduleConfig,
    plateau: Plateau,
}

impl Schedule {
    /// The schedule that a configuration asks for.
    pub fn from_config(config: &Config) -> Schedule {
        let (lr, steps, keys) = (config.optimizer.lr, config.train.steps, config.schedule.clone());
        Schedule { lr, steps, keys, plateau: Plateau::default() }
    }

    /// A constant rate after `warmup` steps of linear rise.
    pub fn constant(lr: f64, warmup: u64) -> Schedule {
        let keys = ScheduleConfig { kind: ScheduleKind::Constant, warmup, ..ScheduleConfig::default() };
        Schedule { lr, steps: 0, keys, plateau: Plateau::default() }
    }

    /// A fall along half a cosine wave, from `lr` after `warmup` steps of linear rise to `min_lr` at the last of `steps`.
    pub fn cosine(lr: f64, min_lr: f64, warmup: u64, steps: u64) -> Schedule {
        let keys = ScheduleConfig { kind: ScheduleKind::Cosine, min_lr, warmup, ..ScheduleConfig::default() };
        Schedule { lr, steps, keys, plateau: Plateau::default() }
    }

    /// The learning rate of a step, counted from 0. From the planned end on, a cosine stays at its lowest rate.
    pub fn rate(&self, step: u64) -> f64 {
        let warmup = if self.keys.kind == ScheduleKind::OneCycle { 0 } else { self.keys.warmup };
        if step < warmup {
            return self.lr * (step + 1) as f64 / warmup as f64;
        }
        rule(self.keys.kind)(self, step - warmup, self.steps.saturating_sub(warmup).max(1))
    }

    /// Takes note of a planned evaluation: `plateau` alone acts on it.
    pub fn evaluated(&mut self, val_loss: f64) {
        if self.keys.kind == ScheduleKind::Plateau {
            self.plateau.evaluated(val_loss, &self.keys);
        }
    }

    /// What evaluations have decided so far, for a checkpoint; `None` where they decide nothing.
    pub fn plateau(&self) -> Option<Plateau> {
        (self.keys.kind == ScheduleKind::Plateau).then_some(self.plateau)
    }

    /// Goes on from what a checkpoint holds.
    pub fn restore(&mut self, plateau: Option<Plateau>) {
        self.plateau = plateau.unwrap_or_default();
    }
}
