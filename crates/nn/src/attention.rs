//! Causal self-attention from operations: every token looks at itself and the tokens before it.

use geartrain_engine::{Data, Init, Tensor, Var};

use crate::dropout::Dropout;
use crate::linear::Linear;

/// Causal multi-head self-attention as in GPT-2.
///
/// softmax(q kᵀ / sqrt(C / H), masked) v, with q, k, v from one projection `c_attn` (C, 3C) and the heads' results put
/// together by `c_proj` (C, C). Source: Vaswani et al., "Attention is all you need", 2017.
#[derive(Clone, Debug)]
pub struct CausalSelfAttention {
    /// C, a multiple of the number of heads.
    pub width: usize,
    /// H.
    pub heads: usize,
    /// Whether the projections have biases.
    pub bias: bool,
    /// Initial weights of `c_attn`.
    pub init: Init,
    /// Initial weights of `c_proj`, which writes to the residual stream.
    pub init_residual: Init,
}

impl CausalSelfAttention {
    /// y (B·T, C) from x (B·T, C).
    #[track_caller]
    pub fn forward<'g>(&self, name: &str, x: Var<'g>, batch: usize, dropout: &Dropout<'g>) -> Var<'g> {
        let g = x.graph();
        let (b, c, h) = (batch, self.width, self.heads);
        let (t, d) = (x.shape().count() / (b * c).max(1), c / h.max(1));
        g.layer(name, || {
            let init = self.init.clone();
            let qkv = Linear { inputs: c, outputs: 3 * c, bias: self.bias, init }.forward("c_attn", x);
            // (B·T, 3C) -> q, k, v of shape (B, H, T, d): slices and transposes only change strides.
            let head = |i: usize| qkv.slice(1, i * c, c).reshape([b, t, h, d]).transpose(&[0, 2, 1, 3]);
            let (q, k, v) = (head(0), head(1), head(2));
            let scores = q.matmul(k.t()) * (1.0 / libm::sqrt(d as f64));
            let past = causal_mask(x, t);
            let scores = past.select(scores, scores.number(f64::NEG_INFINITY));
            let weights = dropout.forward(scores.softmax());
            let y = weights.matmul(v).transpose(&[0, 2, 1, 3]).reshape([b * t, c]);
            let init = self.init_residual.clone();
            dropout.forward_rows(Linear { inputs: c, outputs: c, bias: self.bias, init }.forward("c_proj", y), b)
        })
    }
}

/// (T, T) u32: 1 where column <= row.
fn causal_mask<'g>(like: Var<'g>, t: usize) -> Var<'g> {
    let values = (0..t * t).map(|i| u32::from(i % t <= i / t)).collect();
    let g = like.graph();
    match Tensor::new([t, t], Data::U32(values)) {
        Some(mask) => g.constant(mask),
        None => like,
    }
}
