//! Which tokens a step reads: a pure function of (seed, step), so that a run can be resumed or replayed at any step.

use geartrain_kernels::philox::philox4x32_10;

use crate::config::Order;
use crate::data::Tokens;
use crate::error::{Error, Result};
use crate::words::{count, thousands};

/// Marks the draws of this file in the generator's counter: "data" in ASCII.
const STREAM: u32 = 0x6461_7461;

/// The windows of the training part that each step reads.
///
/// A window is `context` inputs and, one token later, the targets: as many as the model answers, the last ones of the
/// window. Those that answer after every token have `context` of them, an n-gram model has one.
///
/// - `shuffle`: row `r` of step `s` starts at `floor(x * (len - context) / 2^64)`, uniform over every place where a window
///   fits. `x` is `w0 + 2^32 * w1` of the words of Philox4x32-10 with the counter `(r, low half of s, high half of s,
///   0x64617461)` and the key `(low half of seed, high half of seed)`.
/// - `sequential`: window `k` starts at `k * answers`; step `s` reads windows `s * batch` and on, and after the last whole
///   window comes the first again.
#[derive(Clone, Copy, Debug)]
pub struct Windows<'a> {
    tokens: &'a Tokens,
    order: Order,
    seed: u64,
    context: usize,
    answers: usize,
    batch: usize,
}

impl<'a> Windows<'a> {
    /// Windows of `context` tokens over `tokens`, `batch` of them a step.
    ///
    /// # Errors
    /// A context or batch of 0, or fewer than `context` + 1 tokens.
    pub fn new(tokens: &'a Tokens, order: Order, seed: u64, context: usize, batch: usize) -> Result<Windows<'a>> {
        check(tokens, context, batch)?;
        Ok(Windows { tokens, order, seed, context, answers: context, batch })
    }

    /// The same windows for a model that answers only the last `answers` tokens of each, from 1 to the context.
    #[must_use]
    pub fn answers(self, answers: usize) -> Windows<'a> {
        Windows { answers: answers.clamp(1, self.context), ..self }
    }

    /// The tokens of one window, and so the length of a row.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The windows of one step.
    pub fn rows(&self) -> usize {
        self.batch
    }

    /// Where the window of a row of a step starts.
    pub fn start(&self, step: u64, row: usize) -> usize {
        match self.order {
            Order::Shuffle => {
                let counter = [row as u32, step as u32, (step >> 32) as u32, STREAM];
                let words = philox4x32_10(counter, [self.seed as u32, (self.seed >> 32) as u32]);
                let x = u64::from(words[0]) | u64::from(words[1]) << 32;
                let places = self.tokens.len() - self.context;
                ((u128::from(x) * places as u128) >> 64) as usize
            }
            Order::Sequential => {
                let whole = whole_windows(self.tokens, self.context, self.answers) as u128;
                let window = (u128::from(step) * self.batch as u128 + row as u128) % whole;
                window as usize * self.answers
            }
        }
    }

    /// Fills (rows, context) inputs and (rows, answers) targets with the rows of a step from `first` on, as many as
    /// there is room for: the whole batch, or a shard of it. Allocates nothing.
    ///
    /// # Panics
    /// The buffers have room for different numbers of rows.
    pub fn batch(&self, step: u64, first: usize, inputs: &mut [u32], targets: &mut [u32]) {
        assert_eq!(inputs.len() / self.context, targets.len() / self.answers, "one row of targets for each of inputs");
        let rows = inputs.chunks_exact_mut(self.context).zip(targets.chunks_exact_mut(self.answers));
        for (row, (inputs, targets)) in rows.enumerate() {
            copy_window(self.tokens, self.start(step, first + row), inputs, targets);
        }
    }
}

/// A part of a text cut into windows whose answers follow each other, read a batch at a time.
///
/// Window `k` starts at `k * answers`; there are `(len - 1 - context) / answers + 1` of them, and the tokens after the last
/// are left out.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation<'a> {
    tokens: &'a Tokens,
    context: usize,
    answers: usize,
    rows: usize,
}

impl<'a> Evaluation<'a> {
    /// Consecutive windows of `context` tokens over `tokens`, `rows` of them a batch.
    ///
    /// # Errors
    /// A context or row count of 0, or fewer than `context` + 1 tokens.
    pub fn new(tokens: &'a Tokens, context: usize, rows: usize) -> Result<Evaluation<'a>> {
        check(tokens, context, rows)?;
        Ok(Evaluation { tokens, context, answers: context, rows })
    }

    /// The same for a model that answers only the last `answers` tokens of a window, from 1 to the context.
    #[must_use]
    pub fn answers(self, answers: usize) -> Evaluation<'a> {
        Evaluation { answers: answers.clamp(1, self.context), ..self }
    }

    /// The number of windows; the mean over them weighs each alike.
    pub fn windows(&self) -> usize {
        whole_windows(self.tokens, self.context, self.answers)
    }

    /// The number of batches, the last perhaps padded.
    pub fn batches(&self) -> usize {
        self.windows().div_ceil(self.rows)
    }

    /// Fills the (rows, context) inputs and (rows, answers) targets of a batch and gives the number of its rows that hold
    /// a window. The rows after them are padding, token 0 throughout.
    ///
    /// # Panics
    /// A buffer has the wrong length.
    pub fn fill(&self, batch: usize, inputs: &mut [u32], targets: &mut [u32]) -> usize {
        assert_eq!(inputs.len(), self.rows * self.context, "inputs: one window a row");
        assert_eq!(targets.len(), self.rows * self.answers, "targets: the answers of one window a row");
        let first = batch.saturating_mul(self.rows);
        let real = self.windows().saturating_sub(first).min(self.rows);
        let rows = inputs.chunks_exact_mut(self.context).zip(targets.chunks_exact_mut(self.answers));
        for (row, (inputs, targets)) in rows.enumerate() {
            if row < real {
                copy_window(self.tokens, (first + row) * self.answers, inputs, targets);
            } else {
                inputs.fill(0);
                targets.fill(0);
            }
        }
        real
    }
}

/// Windows that fit one after the other, each with the target of its last token.
fn whole_windows(tokens: &Tokens, context: usize, answers: usize) -> usize {
    (tokens.len() - 1 - context) / answers + 1
}

/// The inputs from `start` on, and the tokens that follow the last of them: as many targets as there is room for.
fn copy_window(tokens: &Tokens, start: usize, inputs: &mut [u32], targets: &mut [u32]) {
    let end = start + inputs.len();
    tokens.copy(start, inputs);
    tokens.copy(end + 1 - targets.len(), targets);
}

fn check(tokens: &Tokens, context: usize, rows: usize) -> Result<()> {
    if context == 0 || rows == 0 {
        return Err(Error::usage(format!("a batch needs rows and a context, got {rows} rows of {context} tokens")));
    }
    // Short texts with the reason and a way out are refused by `Corpus::new`; this guards other token arrays.
    if tokens.len() <= context {
        let have = count(tokens.len(), "token");
        let (context, needed) = (thousands(context), thousands(context.saturating_add(1)));
        return Err(Error::usage(format!("the text has {have}, but a context of {context} needs at least {needed}"))
            .hint("use a longer text or a model with a shorter context"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
