//! Layers, models and optimizers: functions that add to a graph.
//!
//! A layer is plain data. Its `forward` declares the layer's parameters under the current layer path and gives back
//! the output, so calling it twice under one path shares the weights. Letters: B batch, T time (context), C width,
//! H heads, V vocabulary.
#![forbid(unsafe_code)]

pub mod attention;
pub mod dropout;
pub mod embedding;
pub mod gpt2;
pub mod init;
pub mod linear;
pub mod mlp;
pub mod ngram;
pub mod norm;
pub mod optim;
pub mod rnn;

pub use attention::CausalSelfAttention;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use gpt2::Gpt2;
pub use linear::Linear;
pub use mlp::{Activation, Mlp};
pub use ngram::Ngram;
pub use norm::{LayerNorm, RmsNorm};
pub use rnn::Rnn;
