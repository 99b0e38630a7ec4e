//! GPT-2, with the parameter names and layouts of Hugging Face's `transformers`.

use geartrain_engine::{DType, Graph, Init, Var};

use crate::attention::CausalSelfAttention;
use crate::dropout::Dropout;
use crate::embedding::Embedding;
use crate::linear::Linear;
use crate::mlp::Activation;
use crate::norm::LayerNorm;

/// A decoder-only transformer: token and position embeddings, pre-norm blocks of attention and a feed-forward network,
/// a last layer norm, and logits by the token embedding itself (tied) or a projection of their own.
///
/// Source: Radford et al., "Language models are unsupervised multitask learners", 2019. Weights start normal(0, 0.02),
/// residual projections normal(0, 0.02 / sqrt(2 · layers)).
#[derive(Clone, Debug, PartialEq)]
pub struct Gpt2 {
    /// V.
    pub vocab: usize,
    /// T, the most tokens the model sees.
    pub context: usize,
    /// Number of blocks.
    pub layers: usize,
    /// H.
    pub heads: usize,
    /// C.
    pub width: usize,
    /// Whether linear layers and layer norms have biases.
    pub bias: bool,
    /// Whether the logits use the token embedding.
    pub tied: bool,
    /// In the feed-forward network, whose hidden layer has 4 C columns.
    pub activation: Activation,
}

impl Gpt2 {
    /// The smallest of the four that were published, of 124,439,808 parameters.
    pub const SMALL: Gpt2 = Gpt2 {
        vocab: 50257,
        context: 1024,
        layers: 12,
        heads: 12,
        width: 768,
        bias: true,
        tied: true,
        activation: Activation::GeluTanh,
    };

    /// Logits (B·T, V) from tokens (B, T) u32.
    #[track_caller]
    pub fn forward<'g>(&self, g: &'g Graph, tokens: Var<'g>, dtype: DType, dropout: &Dropout<'g>) -> Var<'g> {
        let (b, t) = match tokens.shape().dims() {
            [b, t] => (*b, *t),
            _ => return g.fail("gpt2", geartrain_engine::Rule::new("tokens must be (batch, time)"), vec![tokens.ty()]),
        };
        let c = self.width;
        let init = Init::Normal { std: 0.02 };
        let (hidden, wte) = g.layer("transformer", || {
            let wte = Embedding { rows: self.vocab, width: c, init: init.clone() }.table("wte", g, dtype);
            let wpe = Embedding { rows: self.context, width: c, init: init.clone() }.table("wpe", g, dtype);
            let x = wte.gather(tokens) + wpe.slice(0, 0, t);
            let x = dropout.forward_rows(x.reshape([b * t, c]), b);
            let x = (0..self.layers).fold(x, |x, i| self.block(&format!("h.{i}"), x, b, dropout));
            (LayerNorm::new(c, self.bias).forward("ln_f", x), wte)
        });
        match self.tied {
            true => hidden.matmul(wte.t()),
            // (V, C), as Hugging Face keeps it.
            false => {
                let head = Embedding { rows: self.vocab, width: c, init }.table("lm_head", g, dtype);
                hidden.matmul(head.t())
            }
        }
    }

    /// x + attention(norm(x)), then x + mlp(norm(x)).
    fn block<'g>(&self, name: &str, x: Var<'g>, batch: usize, dropout: &Dropout<'g>) -> Var<'g> {
        let (c, bias) = (self.width, self.bias);
        let init = Init::Normal { std: 0.02 };
        let init_residual = Init::Normal { std: 0.02 / libm::sqrt(2.0 * self.layers as f64) };
        x.graph().layer(name, || {
            let attention = CausalSelfAttention {
                width: c,
                heads: self.heads,
                bias,
                init: init.clone(),
                init_residual: init_residual.clone(),
            };
            let x = x + attention.forward("attn", LayerNorm::new(c, bias).forward("ln_1", x), batch, dropout);
            let y = LayerNorm::new(c, bias).forward("ln_2", x);
            let y = x.graph().layer("mlp", || {
                let fc = Linear { inputs: c, outputs: 4 * c, bias, init };
                let proj = Linear { inputs: 4 * c, outputs: c, bias, init: init_residual };
                proj.forward("c_proj", self.activation.forward(fc.forward("c_fc", y)))
            });
            x + dropout.forward_rows(y, batch)
        })
    }

    /// Number of trainable numbers.
    pub fn parameters(&self) -> usize {
        let (c, bias) = (self.width, usize::from(self.bias));
        let linear = |i: usize, o: usize| i * o + bias * o;
        let norm = c + bias * c;
        let block = 2 * norm + linear(c, 3 * c) + linear(c, c) + linear(c, 4 * c) + linear(4 * c, c);
        let head = if self.tied { 0 } else { c * self.vocab };
        (self.vocab + self.context) * c + self.layers * block + norm + head
    }
}
