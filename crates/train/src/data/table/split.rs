//! Which rows of a table are learned from, in which order, and which are kept for validation. All are pure functions of
//! the seed, so that another program can repeat them.

use std::sync::{Mutex, PoisonError};

use geartrain_kernels::philox::philox4x32_10;

/// Marks the draws of the split in the generator's counter: "spli" in ASCII.
const SPLIT: u32 = u32::from_be_bytes(*b"spli");
/// Marks the draws of the order: "rows" in ASCII.
const ROWS: u32 = u32::from_be_bytes(*b"rows");

/// `w0 + 2^32 * w1` of the words of Philox4x32-10 with the counter (i, low half of j, high half of j, stream) and the key
/// (low half of seed, high half of seed).
fn draw(seed: u64, stream: u32, i: u32, j: u64) -> u64 {
    let words = philox4x32_10([i, j as u32, (j >> 32) as u32, stream], [seed as u32, (seed >> 32) as u32]);
    u64::from(words[0]) | u64::from(words[1]) << 32
}

/// The rows of both parts, each in the order of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) train: Vec<u32>,
    pub(super) validation: Vec<u32>,
}

/// Splits rows by the class of each (all 0 where there are none).
///
/// Of the `n` rows of a class, `floor(share * n + 0.5)` are kept for validation, but never the last one: every class is
/// learned. They are those with the smallest draws of (seed, row).
pub(super) fn split(classes: &[u32], share: f64, seed: u64) -> Split {
    let mut rows: Vec<(u32, u64, u32)> =
        classes.iter().zip(0u32..).map(|(class, row)| (*class, draw(seed, SPLIT, row, 0), row)).collect();
    rows.sort_unstable();
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for class in rows.chunk_by(|a, b| a.0 == b.0) {
        let kept = ((share * class.len() as f64 + 0.5) as usize).min(class.len() - 1);
        validation.extend(class[..kept].iter().map(|(_, _, row)| *row));
        train.extend(class[kept..].iter().map(|(_, _, row)| *row));
    }
    train.sort_unstable();
    validation.sort_unstable();
    Split { train, validation }
}

/// The order in which the rows of a part are read: each epoch all of them once, without those that fill no batch.
///
/// Epoch `e` has them in the order of a Fisher-Yates shuffle from the last place to the first: place `i` is exchanged with
/// place `floor(x * (i + 1) / 2^64)`, `x` being the draw of (seed, i, e).
#[derive(Debug)]
pub(super) struct Order {
    rows: usize,
    batch: usize,
    seed: u64,
    shuffled: bool,
    /// The last epoch that was read; a later one takes its place without new memory.
    kept: Mutex<Epoch>,
}

#[derive(Debug, Default)]
struct Epoch {
    number: Option<u64>,
    order: Vec<u32>,
}

impl Order {
    /// The order of `rows` rows, `batch` of them a step, or as many as there are.
    pub(super) fn new(rows: usize, batch: usize, seed: u64, shuffled: bool) -> Order {
        let order = (0..rows as u32).collect();
        let batch = batch.clamp(1, rows.max(1));
        Order { rows, batch, seed, shuffled, kept: Mutex::new(Epoch { number: None, order }) }
    }

    /// Reads the rows of a step.
    pub(super) fn with<R>(&self, step: u64, read: impl FnOnce(&Rows<'_>) -> R) -> R {
        let batches = (self.rows / self.batch).max(1) as u64;
        let (epoch, start) = (step / batches, (step % batches) as usize * self.batch);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shuffled && kept.number != Some(epoch) {
            kept.shuffle(self.seed, epoch);
        }
        read(&Rows { order: &kept.order, start })
    }
}

/// The rows of one step.
pub(super) struct Rows<'a> {
    order: &'a [u32],
    start: usize,
}

impl Rows<'_> {
    /// The place of a row of the step in its part; `None` if the part is empty.
    pub(super) fn at(&self, row: usize) -> Option<usize> {
        self.order.get((self.start + row) % self.order.len().max(1)).map(|place| *place as usize)
    }
}

impl Epoch {
    fn shuffle(&mut self, seed: u64, epoch: u64) {
        self.number = Some(epoch);
        self.order.iter_mut().zip(0u32..).for_each(|(place, row)| *place = row);
        for last in (1..self.order.len()).rev() {
            let x = draw(seed, ROWS, last as u32, epoch);
            self.order.swap(last, ((u128::from(x) * (last as u128 + 1)) >> 64) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_split_in_proportion_and_learned() {
        // 100 of class 0, 50 of class 1, 7 of class 2, 1 of class 3.
        let classes: Vec<u32> = [(0, 100), (1, 50), (2, 7), (3, 1)].iter().flat_map(|(c, n)| vec![*c; *n]).collect();
        let parts = split(&classes, 0.2, 1337);
        let of = |rows: &[u32], class: u32| rows.iter().filter(|row| classes[**row as usize] == class).count();
        assert_eq!([0, 1, 2, 3].map(|class| of(&parts.validation, class)), [20, 10, 1, 0]);
        assert_eq!([0, 1, 2, 3].map(|class| of(&parts.train, class)), [80, 40, 6, 1]);
        let mut all = [parts.train.clone(), parts.validation.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..158).collect::<Vec<u32>>(), "every row is in one part");
        assert_eq!(split(&classes, 0.2, 1337), parts, "the seed decides");
        assert_ne!(split(&classes, 0.2, 1338), parts);
        assert!(split(&classes, 0.0, 1).validation.is_empty());
        assert_eq!(split(&[0, 1], 0.5, 1).train, [0, 1], "a single row of a class is learned from");
        assert_eq!(split(&[], 0.5, 1), Split { train: vec![], validation: vec![] });
    }

    #[test]
    fn an_epoch_has_every_row_once_and_the_next_another_order() {
        for (rows, batch) in [(7, 3), (12, 4), (1, 32), (65, 64), (5, 5)] {
            let order = Order::new(rows, batch, 3, true);
            let (n, batches) = (batch.min(rows), (rows / batch.min(rows)) as u64);
            let read = |epoch: u64| {
                let mut seen = Vec::new();
                for b in 0..batches {
                    order.with(epoch * batches + b, |rows| seen.extend((0..n).filter_map(|i| rows.at(i))));
                }
                seen
            };
            for epoch in [0, 1, 5, u64::MAX / batches / 2] {
                let mut seen = read(epoch);
                assert_eq!(read(epoch), seen, "a pure function of the step");
                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen.len(), n * batches as usize, "{rows} rows, batches of {n}, epoch {epoch}");
                assert!(seen.iter().all(|row| *row < rows));
            }
            assert!(rows < 7 || read(0) != read(1));
        }
    }

    #[test]
    fn no_rows_have_no_order() {
        assert_eq!(Order::new(0, 4, 1, true).with(3, |rows| rows.at(2)), None);
    }
}
