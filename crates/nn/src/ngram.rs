//! The n-gram language model: a window of embeddings, one hidden layer, the next token.

use geartrain_engine::{DType, Graph, Init, Rule, Var};

use crate::embedding::Embedding;
use crate::init::xavier_uniform;
use crate::linear::Linear;

/// Predicts the token after a window of `context` tokens from their embeddings, put side by side.
///
/// Source: Bengio, Ducharme, Vincent, Jauvin, "A neural probabilistic language model", 2003 (without its direct
/// connections from the embeddings to the output).
#[derive(Clone, Debug, PartialEq)]
pub struct Ngram {
    /// V.
    pub vocab: usize,
    /// T, the number of tokens that are seen.
    pub context: usize,
    /// Length of an embedding.
    pub embedding: usize,
    /// Columns of the hidden layer.
    pub hidden: usize,
}

impl Ngram {
    /// Logits (N, V) of the tokens after N windows (N, T) u32.
    #[track_caller]
    pub fn forward<'g>(&self, g: &'g Graph, windows: Var<'g>, dtype: DType) -> Var<'g> {
        let (n, t) = match windows.shape().dims() {
            [n, t] if *t == self.context => (*n, *t),
            _ => {
                let rule = Rule::new(format!("windows must be (rows, {})", self.context));
                return g.fail("ngram", rule, vec![windows.ty()]);
            }
        };
        let inputs = t * self.embedding;
        let table = Embedding { rows: self.vocab, width: self.embedding, init: Init::Normal { std: 1.0 } };
        let x = table.table("embedding", g, dtype).gather(windows).reshape([n, inputs]);
        let init = xavier_uniform(inputs, self.hidden);
        let h = Linear { inputs, outputs: self.hidden, bias: true, init }.forward("hidden", x).tanh();
        let init = xavier_uniform(self.hidden, self.vocab);
        Linear { inputs: self.hidden, outputs: self.vocab, bias: true, init }.forward("output", h)
    }
}
