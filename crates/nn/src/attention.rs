//! Causal self-attention: every token looks at itself and the tokens before it.

use geartrain_engine::{Init, Var};

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
        let t = x.shape().count() / (b * c).max(1);
        g.layer(name, || {
            let init = self.init.clone();
            let qkv = Linear { inputs: c, outputs: 3 * c, bias: self.bias, init }.forward("c_attn", x);
            let qkv = qkv.reshape([b, t, 3 * c]);
            // Only the composed form has weights that elements can fall out of; the other one never holds them all.
            let y = match dropout.is_off() {
                true => qkv.attention(h),
                false => qkv.attention_composed(h, |weights| dropout.forward(weights)),
            };
            let y = y.reshape([b * t, c]);
            let init = self.init_residual.clone();
            dropout.forward_rows(Linear { inputs: c, outputs: c, bias: self.bias, init }.forward("c_proj", y), b)
        })
    }
}
