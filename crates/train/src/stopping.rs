//! Early stopping: a run ends when its validation loss has not become lower for some evaluations.

use crate::config::Config;

/// What early stopping remembers; it is part of every checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Waiting {
    /// The loss to fall below.
    pub best: f64,
    /// The step that reached it.
    pub step: u64,
    /// Evaluations in a row that did not fall below it by `train.min_delta`.
    pub waited: u64,
}

/// Watches the planned evaluations of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stopping {
    patience: u64,
    min_delta: f64,
    waiting: Option<Waiting>,
}

impl Stopping {
    /// As a configuration asks for, going on from what a checkpoint holds.
    pub fn new(config: &Config, waiting: Option<Waiting>) -> Stopping {
        Stopping { patience: config.train.patience, min_delta: config.train.min_delta, waiting }
    }

    /// Takes note of a planned evaluation. A loss that is not a number is no improvement.
    pub fn evaluated(&mut self, step: u64, val_loss: f64) {
        if self.patience == 0 {
            return;
        }
        let waiting = self.waiting.get_or_insert(Waiting { best: f64::INFINITY, step, waited: 0 });
        if val_loss < waiting.best - self.min_delta {
            *waiting = Waiting { best: val_loss, step, waited: 0 };
        } else {
            waiting.waited += 1;
        }
    }

    /// What it waits for where it has waited long enough: the run is over.
    pub fn stopped(&self) -> Option<Waiting> {
        self.waiting.filter(|waiting| self.patience > 0 && waiting.waited >= self.patience)
    }

    /// What a checkpoint holds of it.
    pub fn waiting(&self) -> Option<Waiting> {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataKind;

    /// The evaluation, from 1, after which a run stops.
    fn stops(patience: &str, min_delta: &str, losses: &[f64]) -> Option<(usize, Waiting)> {
        let mut config = Config::defaults(DataKind::Text);
        config.set("train.patience", patience).unwrap();
        config.set("train.min_delta", min_delta).unwrap();
        let mut waiting = None;
        for (i, loss) in losses.iter().enumerate() {
            // A checkpoint after each evaluation.
            let mut stopping = Stopping::new(&config, waiting);
            stopping.evaluated(10 * (i as u64 + 1), *loss);
            waiting = stopping.waiting();
            if let Some(waiting) = stopping.stopped() {
                return Some((i + 1, waiting));
            }
        }
        None
    }

    #[test]
    fn it_waits_as_long_as_it_is_told() {
        let losses = [3.0, 2.0, 2.5, 1.9, 1.9, 2.0, f64::NAN, 1.0];
        let at = |waited| Waiting { best: 1.9, step: 40, waited };
        assert_eq!(stops("1", "0", &losses), Some((3, Waiting { best: 2.0, step: 20, waited: 1 })));
        assert_eq!(stops("2", "0", &losses), Some((6, at(2))));
        assert_eq!(stops("3", "0", &losses), Some((7, at(3))));
        assert_eq!(stops("4", "0", &losses), None);
        assert_eq!(stops("0", "0", &losses), None);
        // 1.9 is not enough below 2.0.
        assert_eq!(stops("4", "0.2", &losses), Some((6, Waiting { best: 2.0, step: 20, waited: 4 })));
        assert_eq!(stops("2", "0", &[f64::NAN, f64::NAN]).map(|(i, _)| i), Some(2));
    }
}
