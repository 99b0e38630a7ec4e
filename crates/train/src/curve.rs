//! The two curves of a run, as the plot and the chart draw them.

use crate::metrics::Line;

/// Training and validation loss by step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// Steps and losses of training, in the order they were told.
    pub train: Vec<(u64, f64)>,
    /// Steps and losses of the evaluations.
    pub validation: Vec<(u64, f64)>,
}

impl Curve {
    /// The losses in the lines of a run.
    pub fn of(lines: &[Line]) -> Curve {
        let mut curve = Curve::default();
        lines.iter().for_each(|line| curve.add(line));
        curve
    }

    /// Takes up one more line; lines without a loss change nothing.
    pub fn add(&mut self, line: &Line) {
        match line {
            Line::Train(line) => self.train.push((line.step, line.loss)),
            Line::Evaluation(line) => self.validation.push((line.step, line.val_loss)),
            Line::Layers(_) | Line::Sample(_) | Line::Confusion(_) | Line::Done(_) => {}
        }
    }

    /// The lowest and the highest step, never equal.
    pub(crate) fn steps(&self) -> (f64, f64) {
        let steps = self.train.iter().chain(&self.validation).map(|point| point.0 as f64);
        match bounds(steps) {
            (low, high) if low < high => (low, high),
            // Room by share, because far out one more or less is the same number.
            (only, _) if only.is_finite() => (only / 2.0, (only * 1.5).max(1.0)),
            _ => (0.0, 1.0),
        }
    }

    /// The lowest and the highest loss that can be drawn, never equal.
    pub(crate) fn losses(&self) -> (f64, f64) {
        let losses = self.train.iter().chain(&self.validation).map(|point| point.1);
        match bounds(losses.filter(|loss| drawable(*loss))) {
            (low, high) if high - low > low.abs() * 1e-9 => (low, high),
            (low, high) if low.is_finite() => {
                let around = (low.abs() / 20.0).max(1e-3);
                (low - around, high + around)
            }
            _ => (0.0, 1.0),
        }
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// Whether a loss can stand on an axis: finite, and not so large that everything else would be one point.
pub(crate) fn drawable(loss: f64) -> bool {
    loss.abs() < 1e30
}

/// At most `most` points: neighbours in equal groups, each at its mean step and mean drawable loss (NaN if it has none).
pub(crate) fn thinned(points: &[(u64, f64)], most: usize) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = points.iter().map(|(step, loss)| (*step as f64, *loss)).collect();
    points.chunks(points.len().div_ceil(most.max(1)).max(1)).map(mean).collect()
}

/// The mean place of some points across, and the mean height of those that can be drawn.
pub(crate) fn mean(points: &[(f64, f64)]) -> (f64, f64) {
    let across: f64 = points.iter().map(|point| point.0).sum();
    let drawn: Vec<f64> = points.iter().map(|point| point.1).filter(|y| drawable(*y)).collect();
    (across / points.len() as f64, drawn.iter().sum::<f64>() / drawn.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Done, Evaluation, Train};
    use crate::scores::Scores;

    fn curve(train: &[(u64, f64)]) -> Curve {
        Curve { train: train.to_vec(), validation: vec![] }
    }

    #[test]
    fn losses_are_taken_from_lines() {
        let lines = [
            Train { step: 1, loss: 3.0, lr: 0.1, grad_norm: 1.0, ms: 1.0 }.into(),
            Evaluation::new(1, &Scores { loss: 2.0, fit: None }).into(),
            Done {
                done: true,
                steps: 1,
                val_loss: None,
                run: String::new(),
                stopped_early: false,
                best_step: None,
                interrupted: None,
            }
            .into(),
        ];
        assert_eq!(Curve::of(&lines), Curve { train: vec![(1, 3.0)], validation: vec![(1, 2.0)] });
    }

    #[test]
    fn ranges_are_sound_and_never_empty() {
        let nan = f64::NAN;
        for (points, steps, losses) in [
            (vec![], (0.0, 1.0), (0.0, 1.0)),
            (vec![(1, 2.0)], (0.5, 1.5), (1.9, 2.1)),
            (vec![(5, 0.0), (9, 0.0)], (5.0, 9.0), (-0.001, 0.001)),
            (vec![(1, 3.0), (10, nan), (20, 1.0), (30, f64::INFINITY)], (1.0, 30.0), (1.0, 3.0)),
            (vec![(1, nan), (2, nan)], (1.0, 2.0), (0.0, 1.0)),
            (vec![(1, -f64::MAX), (2, f64::MAX)], (1.0, 2.0), (0.0, 1.0)),
            (vec![(u64::MAX - 1, 2.0), (u64::MAX, 4.0)], (2f64.powi(63), 1.5 * 2f64.powi(64)), (2.0, 4.0)),
            (vec![(1, 1e29), (2, -1e29)], (1.0, 2.0), (-1e29, 1e29)),
        ] {
            assert_eq!((curve(&points).steps(), curve(&points).losses()), (steps, losses), "{points:?}");
        }
    }

    #[test]
    fn thinning_takes_means() {
        let points: Vec<(u64, f64)> = (0..7).map(|i| (i, i as f64)).collect();
        assert_eq!(thinned(&points, 3), [(1.0, 1.0), (4.0, 4.0), (6.0, 6.0)]);
        assert_eq!(thinned(&points, 7).len(), 7);
        assert_eq!(thinned(&[], 7), []);
        assert_eq!(thinned(&[(1, f64::NAN), (3, 4.0)], 1), [(2.0, 4.0)]);
        assert!(thinned(&[(1, f64::NAN)], 1)[0].1.is_nan());
    }
}
