//! Recurrent language models: a hidden state that is carried from token to token, unrolled in time.

use geartrain_engine::{DType, Graph, Init, Rule, Shape, Var};

use crate::embedding::Embedding;
use crate::linear::Linear;

/// How a hidden state follows from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// h = tanh(x Wx + bx + h Wh + bh) (Elman, "Finding structure in time", 1990).
    Tanh,
    /// r, z = sigmoid(x Wx + bx + h Wh + bh), n = tanh(x Wxn + bxn + r · (h Whn + bhn)), h = n + z · (h - n); columns
    /// in the order r, z, n (Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014; in the form
    /// with the reset gate behind the product, as cuDNN and PyTorch have it).
    Gru,
}

impl Cell {
    /// Blocks of columns in its weights.
    fn gates(self) -> usize {
        match self {
            Cell::Tanh => 1,
            Cell::Gru => 3,
        }
    }
}

/// Embeddings, one recurrent layer that starts from zeros, and logits after every token.
///
/// Rows of all values go by time, then by batch: a step of time is a run of B rows, and the products of all steps with
/// the same weights are one product.
#[derive(Clone, Debug, PartialEq)]
pub struct Rnn {
    /// V.
    pub vocab: usize,
    /// Length of an embedding.
    pub embedding: usize,
    /// H, columns of the hidden state.
    pub hidden: usize,
    /// The recurrence.
    pub cell: Cell,
}

impl Rnn {
    /// Logits (T·B, V) from tokens (B, T) u32, row t·B + b after token t of sequence b: see [`by_time`].
    #[track_caller]
    pub fn forward<'g>(&self, g: &'g Graph, tokens: Var<'g>, dtype: DType) -> Var<'g> {
        let (b, t) = match tokens.shape().dims() {
            [b, t] => (*b, *t),
            _ => return g.fail("rnn", Rule::new("tokens must be (batch, time)"), vec![tokens.ty()]),
        };
        let bound = Init::Uniform { bound: 1.0 / libm::sqrt(self.hidden.max(1) as f64) };
        let table = Embedding { rows: self.vocab, width: self.embedding, init: Init::Normal { std: 1.0 } };
        let x = table.table("embedding", g, dtype).gather(by_time(tokens));
        let states = g.layer("rnn", || self.states(g, x, (b, t), &bound));
        let head = Linear { inputs: self.hidden, outputs: self.vocab, bias: true, init: bound.clone() };
        head.forward("output", states)
    }

    /// Hidden states (T·B, H) from inputs (T·B, embedding).
    fn states<'g>(&self, g: &'g Graph, x: Var<'g>, (b, t): (usize, usize), bound: &Init) -> Var<'g> {
        let (h, columns) = (self.hidden, self.cell.gates() * self.hidden);
        let weight = |name: &str, shape: Shape| g.parameter(name, x.dtype(), shape, bound.clone());
        let (wx, wh) = (weight("weight_x", [self.embedding, columns].into()), weight("weight_h", [h, columns].into()));
        let (bx, bh) = (weight("bias_x", [columns].into()), weight("bias_h", [columns].into()));
        // What does not wait for a hidden state is computed for all times at once.
        let given = match self.cell {
            Cell::Tanh => x.matmul(wx) + (bx + bh),
            Cell::Gru => x.matmul(wx) + bx,
        };
        let mut states = vec![g.number(x.dtype(), 0.0).broadcast_to([b, h])];
        for step in 0..t {
            let (given, before) = (given.slice(0, step * b, b), states[step]);
            states.push(match self.cell {
                Cell::Tanh => (given + before.matmul(wh)).tanh(),
                Cell::Gru => gru(given, before.matmul(wh) + bh, before),
            });
        }
        g.concat(0, &states).slice(0, b, t * b)
    }
}

/// One step of a gated recurrent unit from the parts of input and hidden state, each (B, 3H), and the state before.
fn gru<'g>(x: Var<'g>, h: Var<'g>, before: Var<'g>) -> Var<'g> {
    let width = before.shape().dims()[1];
    let gate = |i: usize| (x.slice(1, i * width, width), h.slice(1, i * width, width));
    let ((xr, hr), (xz, hz), (xn, hn)) = (gate(0), gate(1), gate(2));
    let (r, z) = ((xr + hr).sigmoid(), (xz + hz).sigmoid());
    let n = (xn + r * hn).tanh();
    n + z * (before - n)
}

/// (B, T) as a run (T·B) in the order in which [`Rnn`] has its rows.
#[track_caller]
pub fn by_time(x: Var<'_>) -> Var<'_> {
    x.t().reshape([x.shape().count()])
}
