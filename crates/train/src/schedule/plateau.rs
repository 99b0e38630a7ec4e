//! What a schedule that follows the validation loss remembers.

use crate::config::ScheduleConfig;

/// The state of `schedule.kind = plateau` after some evaluations; it is part of every checkpoint.
///
/// As PyTorch's `ReduceLROnPlateau` (mode min, relative threshold, no cool-down): a loss below best · (1 - threshold)
/// is the new best; of others, the one after `patience` in a row multiplies the rate by `factor`, and counting starts anew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plateau {
    /// The loss to fall below.
    pub best: f64,
    /// Evaluations in a row that did not.
    pub waited: u64,
    /// What the learning rate is multiplied by.
    pub scale: f64,
}

impl Default for Plateau {
    fn default() -> Plateau {
        Plateau { best: f64::INFINITY, waited: 0, scale: 1.0 }
    }
}

impl Plateau {
    /// Takes note of an evaluation. A loss that is not a number is no improvement.
    pub(super) fn evaluated(&mut self, val_loss: f64, keys: &ScheduleConfig) {
        if val_loss < self.best * (1.0 - keys.threshold) {
            (self.best, self.waited) = (val_loss, 0);
            return;
        }
        self.waited += 1;
        if self.waited > keys.patience {
            (self.scale, self.waited) = (self.scale * keys.factor, 0);
        }
    }
}
