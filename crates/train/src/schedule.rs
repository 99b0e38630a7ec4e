//! The learning rate of each step, computed on the host in f64.
//!
//! Both kinds rise linearly over the first `warmup` steps. Steps count from 0. The formulas, operation by operation, are
//! those of the usual small-GPT recipe, so that curves can be laid over each other:
//!
//! ```text
//! step <  warmup   lr * (step + 1) / warmup
//! constant         lr
//! cosine           min_lr + 0.5 * (1 + cos(pi * (step - warmup) / max(1, steps - warmup))) * (lr - min_lr)
//! ```

use crate::config::{Config, ScheduleKind};

/// How the learning rate changes over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// A constant rate after the warm-up.
    Constant {
        /// The rate.
        lr: f64,
        /// Steps of linear rise; 0 for none.
        warmup: u64,
    },
    /// A fall along half a cosine wave after the warm-up.
    Cosine {
        /// The highest rate, reached at the end of the warm-up.
        lr: f64,
        /// The rate that the wave ends at.
        min_lr: f64,
        /// Steps of linear rise; 0 for none.
        warmup: u64,
        /// The planned number of steps of the whole run.
        steps: u64,
    },
}

impl Schedule {
    /// The schedule that a configuration asks for.
    pub fn from_config(config: &Config) -> Schedule {
        let (lr, warmup) = (config.optimizer.lr, config.schedule.warmup);
        match config.schedule.kind {
            ScheduleKind::Constant => Schedule::Constant { lr, warmup },
            ScheduleKind::Cosine => {
                Schedule::Cosine { lr, min_lr: config.schedule.min_lr, warmup, steps: config.train.steps }
            }
        }
    }

    /// The learning rate of a step, counted from 0. From the planned end on, a cosine stays at its lowest rate.
    pub fn rate(&self, step: u64) -> f64 {
        match *self {
            Schedule::Constant { lr, warmup } | Schedule::Cosine { lr, warmup, .. } if step < warmup => {
                lr * (step + 1) as f64 / warmup as f64
            }
            Schedule::Constant { lr, .. } => lr,
            Schedule::Cosine { min_lr, warmup, steps, .. } if step >= steps.max(warmup + 1) => min_lr,
            Schedule::Cosine { lr, min_lr, warmup, steps } => {
                let length = steps.saturating_sub(warmup).max(1) as f64;
                let angle = std::f64::consts::PI * (step - warmup) as f64 / length;
                min_lr + 0.5 * (1.0 + libm::cos(angle)) * (lr - min_lr)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataKind;

    /// Steps and rates of `1e-3 * (step + 1) / 100 if step < 100 else 1e-4 + 0.5 * (1 + cos(pi * (step - 100) /
    /// max(1, 2000 - 100))) * (1e-3 - 1e-4)`, printed by Python with 17 digits.
    const FROM_PYTHON: [(u64, f64); 10] = [
        (0, 1e-05),
        (1, 2e-05),
        (99, 0.001),
        (100, 0.001),
        (101, 0.0009999993848585915),
        (500, 0.0009051132292283772),
        (1049, 0.0005507440610789162),
        (1050, 0.00055),
        (1777, 0.00013024535909028935),
        (1999, 0.00010000061514140841),
    ];

    #[test]
    fn cosine_repeats_the_python_formula() {
        let schedule = Schedule::Cosine { lr: 1e-3, min_lr: 1e-4, warmup: 100, steps: 2000 };
        for (step, want) in FROM_PYTHON {
            let got = schedule.rate(step);
            assert!((got - want).abs() <= 4e-16 * want, "step {step}: {got:e} against {want:e}");
        }
    }

    #[test]
    fn the_default_recipe_is_that_formula() {
        let config = Config::defaults(DataKind::Text);
        assert_eq!(
            Schedule::from_config(&config),
            Schedule::Cosine { lr: 1e-3, min_lr: 1e-4, warmup: 100, steps: 2000 }
        );
    }

    #[test]
    fn constant_rises_and_stays() {
        let schedule = Schedule::Constant { lr: 0.5, warmup: 4 };
        let rates: Vec<f64> = (0..6).map(|step| schedule.rate(step)).collect();
        assert_eq!(rates, [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]);
        assert_eq!(Schedule::Constant { lr: 0.5, warmup: 0 }.rate(0), 0.5);
        let mut config = Config::defaults(DataKind::Text);
        config.set("schedule.kind", "constant").unwrap();
        assert_eq!(Schedule::from_config(&config), Schedule::Constant { lr: 1e-3, warmup: 100 });
    }

    #[test]
    fn cosine_starts_at_the_top_and_ends_at_the_bottom() {
        let schedule = Schedule::Cosine { lr: 1.0, min_lr: 0.25, warmup: 0, steps: 10 };
        assert_eq!(schedule.rate(0), 1.0);
        assert!(schedule.rate(9) > 0.25);
        assert_eq!(schedule.rate(10), 0.25);
        assert_eq!(schedule.rate(u64::MAX), 0.25);
        assert!((0..9).all(|step| schedule.rate(step) > schedule.rate(step + 1)));
    }

    #[test]
    fn a_warmup_longer_than_the_run_only_rises() {
        let schedule = Schedule::Cosine { lr: 1.0, min_lr: 0.1, warmup: 8, steps: 4 };
        assert_eq!((0..4).map(|step| schedule.rate(step)).collect::<Vec<_>>(), [0.125, 0.25, 0.375, 0.5]);
        assert_eq!(schedule.rate(8), 1.0);
        assert_eq!(schedule.rate(9), 0.1);
    }
}
