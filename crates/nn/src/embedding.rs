//! A table of vectors, looked up by index.

use geartrain_engine::{DType, Graph, Init, Var};

/// y (N, width) = weight (rows, width)[indices (N)].
#[derive(Clone, Debug)]
pub struct Embedding {
    /// Number of vectors.
    pub rows: usize,
    /// Length of a vector.
    pub width: usize,
    /// Initial vectors.
    pub init: Init,
}

impl Embedding {
    /// Declares `name.weight` and gives the table, (rows, width).
    #[track_caller]
    pub fn table<'g>(&self, name: &str, g: &'g Graph, dtype: DType) -> Var<'g> {
        g.layer(name, || g.parameter("weight", dtype, [self.rows, self.width], self.init.clone()))
    }
}
