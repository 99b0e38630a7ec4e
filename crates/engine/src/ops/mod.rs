//! The operations, one file a family, and their registry.

pub mod arith;
pub mod attention;
pub mod composed;
pub mod concat;
pub mod gather;
pub mod layout;
pub mod loss;
pub mod matmul;
pub mod matmul_bf16;
pub mod norm;
pub mod pointwise;
pub mod random;
pub mod reduce;
pub mod select;
pub mod softmax;
pub mod unary;
pub mod update;

#[cfg(test)]
pub(crate) mod tests;

use crate::ir::op::Op;

/// Every built-in operation once, with example attributes. Gradient checks, `explain` and the documentation iterate it.
pub static OPS: &[&dyn Op] = &[
    &arith::Add,
    &arith::Sub,
    &arith::Mul,
    &arith::Div,
    &arith::Neg,
    &layout::Reshape::EXAMPLE,
    &layout::Transpose::EXAMPLE,
    &layout::Broadcast::EXAMPLE,
    &layout::Slice::EXAMPLE,
    &layout::Pad::EXAMPLE,
    &layout::Copy,
    &concat::Concat::EXAMPLE,
    &matmul::Matmul,
    &matmul_bf16::MatmulBf16,
    &reduce::Sum::EXAMPLE,
    &reduce::Max::EXAMPLE,
    &reduce::Argmax,
    &unary::Exp,
    &unary::Ln,
    &unary::Sqrt,
    &unary::Tanh,
    &unary::Sigmoid,
    &unary::Relu,
    &unary::Erf,
    &select::Less,
    &select::LessEqual,
    &select::Equal,
    &select::Where,
    &select::Maximum,
    &select::Cast::EXAMPLE,
    &gather::Gather,
    &gather::ScatterAdd::EXAMPLE,
    &softmax::Softmax,
    &attention::Attention::EXAMPLE,
    &attention::AttentionGrad::EXAMPLE,
    &loss::CrossEntropy,
    &loss::CrossEntropyGrad,
    &loss::MeanSquaredError,
    &norm::Normalize::EXAMPLE,
    &norm::NormalizeGrad::EXAMPLE,
    &norm::GlobalNorm,
    &random::DropoutMask::EXAMPLE,
    &update::Sgd,
    &update::Momentum::EXAMPLE,
    &update::Ema::EXAMPLE,
    &update::EmaSquare::EXAMPLE,
    &update::AdamW::EXAMPLE,
    &update::ClipScale::EXAMPLE,
];
