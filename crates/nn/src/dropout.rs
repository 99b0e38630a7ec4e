//! Dropout from the counter generator: which elements fall out depends on (seed, layer, step, row) alone.

use std::cell::Cell;

use geartrain_engine::{Graph, Var};

/// Sets elements to zero with probability `rate` and scales the others by 1 / (1 - rate) in training.
///
/// Reads the batch scalars `step` and `first_row` (the index of the batch's first row among all rows of the step).
pub struct Dropout<'g> {
    rate: f64,
    seed: u64,
    next: Cell<u32>,
    scalars: Option<(Var<'g>, Var<'g>)>,
}

impl<'g> Dropout<'g> {
    /// Dropout for training; a rate of 0 adds nothing to the graph.
    pub fn training(g: &'g Graph, rate: f64, seed: u64) -> Dropout<'g> {
        let scalars = (rate > 0.0).then(|| (g.scalar("step"), g.scalar("first_row")));
        Dropout { rate, seed, next: Cell::new(0), scalars }
    }

    /// No dropout: evaluation and generation.
    pub fn off() -> Dropout<'g> {
        Dropout { rate: 0.0, seed: 0, next: Cell::new(0), scalars: None }
    }

    /// Whether it changes nothing.
    pub fn is_off(&self) -> bool {
        self.scalars.is_none()
    }

    /// Applies the next dropout layer; the first axis of `x` counts rows.
    #[track_caller]
    pub fn forward(&self, x: Var<'g>) -> Var<'g> {
        let stream = self.next.replace(self.next.get() + 1);
        match self.scalars {
            Some((step, first_row)) => x.dropout(self.rate, self.seed, stream, step, first_row),
            None => x,
        }
    }

    /// As [`Dropout::forward`] for x (rows · n, c): n neighbouring vectors belong to one row, a text of n tokens.
    #[track_caller]
    pub fn forward_rows(&self, x: Var<'g>, rows: usize) -> Var<'g> {
        match self.scalars {
            Some(_) => self.forward(x.reshape([rows, x.shape().count() / rows.max(1)])).reshape(x.shape()),
            None => self.forward(x),
        }
    }
}
