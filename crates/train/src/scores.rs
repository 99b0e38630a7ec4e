//! How well a model does: its loss, and for tables which classes it takes for which, or how far its numbers are off.

use std::fmt::Write as _;

use geartrain_engine::Batch;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::{Answer, Task};

/// How well a model does on a part of the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Mean loss of a prediction: nats a token or row, or the mean squared error of standardised numbers.
    pub loss: f64,
    /// How its answers fit the targets of a table.
    pub fit: Option<Fit>,
}

/// How answers fit the targets of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Fit {
    /// Of classes.
    Classes(Confusion),
    /// Of numbers, in the units of the table.
    Numbers {
        /// The root of the mean squared error, over all rows and targets.
        rmse: f64,
        /// R² = 1 - Σ(y - a)² / Σ(y - mean y)², the mean over all targets; `None` where one does not vary.
        r2: Option<f64>,
    },
}

/// Which classes are taken for which: `{"confusion":[[9,1],[0,10]],"classes":["no","yes"]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// How many rows of a class (the row of the matrix) were taken for a class (its column).
    #[serde(rename = "confusion")]
    pub rows: Vec<Vec<u64>>,
    /// The names of the classes, in the order of rows and columns.
    pub classes: Vec<String>,
}

impl Scores {
    /// Which classes are taken for which.
    pub fn confusion(&self) -> Option<&Confusion> {
        match &self.fit {
            Some(Fit::Classes(confusion)) => Some(confusion),
            _ => None,
        }
    }

    /// A line for people, as in `validation loss 0.1234, accuracy 96.67 % (29 of 30)`.
    pub fn words(&self) -> String {
        let loss = format!("{:.4}", self.loss);
        match &self.fit {
            None => format!("loss {loss} nats a token"),
            Some(fit) => format!("loss {loss}, {}", fit.words()),
        }
    }
}

impl Fit {
    /// In words for people: `accuracy 96.67 % (29 of 30)`, or `RMSE 55.1, R² 0.49`.
    pub fn words(&self) -> String {
        match self {
            Fit::Classes(confusion) => {
                let (right, all) = (confusion.right(), confusion.all());
                format!("accuracy {:.2} % ({right} of {all})", 100.0 * confusion.accuracy())
            }
            Fit::Numbers { rmse, r2 } => {
                let r2 = r2.map_or(String::new(), |r2| format!(", R² {r2:.4}"));
                format!("RMSE {}{r2}", four_digits(*rmse))
            }
        }
    }
}

/// Four significant digits.
fn four_digits(x: f64) -> String {
    match x.abs() {
        size if (1e-3..1e6).contains(&size) => {
            let before = (libm::floor(libm::log10(size)) as i32).min(3);
            format!("{x:.*}", (3 - before) as usize)
        }
        0.0 => "0".to_string(),
        _ => format!("{x:.3e}"),
    }
}

impl Confusion {
    /// None of these classes seen yet.
    pub fn new(classes: &[String]) -> Confusion {
        Confusion { classes: classes.to_vec(), rows: vec![vec![0; classes.len()]; classes.len()] }
    }

    /// Counts a row.
    pub fn add(&mut self, truth: usize, answer: usize) {
        if let Some(count) = self.rows.get_mut(truth).and_then(|row| row.get_mut(answer)) {
            *count += 1;
        }
    }

    /// Rows whose class was predicted.
    pub fn right(&self) -> u64 {
        self.rows.iter().enumerate().map(|(i, row)| row[i]).sum()
    }

    /// All rows.
    pub fn all(&self) -> u64 {
        self.rows.iter().flatten().sum()
    }

    /// The share of rows whose class was predicted; NaN of none.
    pub fn accuracy(&self) -> f64 {
        self.right() as f64 / self.all() as f64
    }

    /// The matrix as text of at most 80 columns, or, with more classes than that has room for, its largest mistakes.
    pub fn table(&self) -> String {
        const WIDTH: usize = 80;
        const NAME: usize = 16;
        let shown = |name: &str, most: usize| match name.chars().count() {
            n if n <= most => name.to_string(),
            _ => name.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        };
        let longest = |names: &[String]| names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let left = longest(&self.classes).min(NAME);
        let digits = self.rows.iter().flatten().max().map_or(1, |n| n.to_string().len());
        let room = (WIDTH.saturating_sub(left) / self.classes.len().max(1)).saturating_sub(2);
        if room < digits.max(3.min(longest(&self.classes))) {
            return self.mistakes();
        }
        let column = longest(&self.classes).min(room).max(digits);
        let mut text = String::from("rows: truth, columns: prediction\n");
        let _ = write!(text, "{:left$}", "");
        for name in &self.classes {
            let _ = write!(text, "  {:>column$}", shown(name, column));
        }
        for (name, row) in self.classes.iter().zip(&self.rows) {
            let _ = write!(text, "\n{:left$}", shown(name, left));
            for n in row {
                let _ = write!(text, "  {n:>column$}");
            }
        }
        text
    }

    /// The pairs of classes that are confused most.
    fn mistakes(&self) -> String {
        const MOST: usize = 10;
        let pairs = self.rows.iter().enumerate().flat_map(|(truth, row)| {
            row.iter().enumerate().filter(move |(i, n)| *i != truth && **n > 0).map(move |(i, n)| (*n, truth, i))
        });
        let mut pairs: Vec<(u64, usize, usize)> = pairs.collect();
        pairs.sort_by_key(|(n, truth, i)| (std::cmp::Reverse(*n), *truth, *i));
        let mut text = String::from("most frequent mistakes, truth → prediction");
        for (n, truth, i) in pairs.iter().take(MOST) {
            let _ = write!(text, "\n  {} → {}: {n}", self.classes[*truth], self.classes[*i]);
        }
        if pairs.is_empty() {
            text.push_str("\n  none");
        }
        text
    }
}

/// Adds up how answers fit, in f64 and in the order of the rows.
#[derive(Clone, Debug)]
pub enum Tally {
    /// Of classes.
    Classes(Confusion),
    /// Of numbers.
    Numbers(Vec<Sums>),
}

/// Sums over the rows of one target of numbers, standardised.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    std: f64,
    rows: f64,
    errors: f64,
    truth: f64,
    squares: f64,
}

impl Tally {
    /// Nothing yet; `None` where a task has no rows.
    pub fn of(task: &Task) -> Option<Tally> {
        match task {
            Task::Tokens { .. } => None,
            Task::Rows(columns) => Some(match &columns.answer {
                Answer::Classes { names, .. } => Tally::Classes(Confusion::new(names)),
                Answer::Numbers { stds } => {
                    Tally::Numbers(stds.iter().map(|std| Sums { std: *std, ..Sums::default() }).collect())
                }
            }),
        }
    }

    /// Adds the first `rows` answers of a batch.
    ///
    /// # Errors
    /// A batch of another task.
    pub(crate) fn add_batch(&mut self, batch: &mut Batch, answers: &[f32], rows: usize) -> Result<()> {
        match self {
            Tally::Classes(_) => {
                let targets = batch.u32s("targets").map_err(Error::bug)?;
                self.add_classes(&targets[..rows.min(targets.len())], answers);
            }
            Tally::Numbers(sums) => {
                let n = rows * sums.len();
                let targets = batch.f32s("targets").map_err(Error::bug)?;
                self.add_numbers(&targets[..n.min(targets.len())], answers);
            }
        }
        Ok(())
    }

    /// Adds rows with these classes and the probabilities that were answered.
    pub fn add_classes(&mut self, classes: &[u32], answers: &[f32]) {
        let Tally::Classes(confusion) = self else { return };
        let n = confusion.classes.len();
        for (i, class) in classes.iter().enumerate() {
            if let Some(answer) = class_of(answers, n, i) {
                confusion.add(*class as usize, answer);
            }
        }
    }

    /// Adds rows with these standardised targets (rows, targets) and the answers of the same form.
    pub fn add_numbers(&mut self, targets: &[f32], answers: &[f32]) {
        let Tally::Numbers(sums) = self else { return };
        let k = sums.len().max(1);
        for (i, (target, answer)) in targets.iter().zip(answers).enumerate() {
            let (y, a, sum) = (f64::from(*target), f64::from(*answer), &mut sums[i % k]);
            sum.rows += 1.0;
            sum.errors += (y - a) * (y - a);
            sum.truth += y;
            sum.squares += y * y;
        }
    }

    /// What was added up.
    pub fn fit(self) -> Fit {
        match self {
            Tally::Classes(confusion) => Fit::Classes(confusion),
            Tally::Numbers(sums) => {
                let mean = |f: &dyn Fn(&Sums) -> f64| sums.iter().map(f).sum::<f64>() / sums.len() as f64;
                let varies = |sum: &Sums| sum.squares - sum.truth * sum.truth / sum.rows;
                let r2 = mean(&|sum| 1.0 - sum.errors / varies(sum));
                let all_vary = sums.iter().all(|sum| varies(sum) > 1e-12 * sum.squares);
                let rmse = libm::sqrt(mean(&|sum| sum.errors / sum.rows * sum.std * sum.std));
                Fit::Numbers { rmse, r2: all_vary.then_some(r2) }
            }
        }
    }
}

/// The class that is answered of a row: the most probable, the first of equals. Of two classes `answers` has one
/// probability a row, that of the second.
pub fn class_of(answers: &[f32], classes: usize, row: usize) -> Option<usize> {
    if classes == 2 {
        return answers.get(row).map(|p| usize::from(*p > 0.5));
    }
    let row = answers.get(row * classes..(row + 1) * classes)?;
    let best = row.iter().enumerate().fold(0, |best, (i, p)| if *p > row[best] { i } else { best });
    Some(best)
}

#[cfg(test)]
mod tests;
