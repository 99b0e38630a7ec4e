//! The operations, one file a family, and their registry.

pub mod along;
pub mod arith;
pub mod attention;
pub mod bounds;
pub mod composed;
pub mod concat;
pub mod gather;
pub mod layout;
pub mod loss;
pub mod mask;
pub mod matmul;
pub mod matmul_bf16;
pub mod norm;
pub mod pad;
pub mod pointwise;
pub mod pointwise_loss;
pub mod power;
pub mod random;
pub mod reduce;
pub mod rms;
pub mod scan;
pub mod scatter;
pub mod select;
pub mod softmax;
pub mod stop;
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
    &layout::Copy,
    &pad::Pad::EXAMPLE,
    &stop::StopGradient,
    &concat::Concat::EXAMPLE,
    &matmul::Matmul,
    &matmul_bf16::MatmulBf16,
    &reduce::Sum::EXAMPLE,
    &reduce::Max::EXAMPLE,
    &reduce::Argmax,
    &scan::CumSum::EXAMPLE,
    &unary::Exp,
    &unary::Ln,
    &unary::Sqrt,
    &power::Pow::EXAMPLE,
    &unary::Sin,
    &unary::Cos,
    &unary::Tanh,
    &unary::Sigmoid,
    &unary::Softplus,
    &unary::Relu,
    &unary::Erf,
    &select::Less,
    &select::LessEqual,
    &select::Equal,
    &select::Where,
    &bounds::Maximum,
    &bounds::Minimum,
    &bounds::Clamp::EXAMPLE,
    &bounds::Abs,
    &bounds::Sign,
    &select::Cast::EXAMPLE,
    &gather::Gather,
    &gather::ScatterAdd::EXAMPLE,
    &scatter::Scatter,
    &scatter::OneHot::EXAMPLE,
    &along::TopK::EXAMPLE,
    &along::TakeAlong,
    &along::AddAlong::EXAMPLE,
    &mask::Tri::EXAMPLE,
    &softmax::Softmax,
    &softmax::LogSoftmax,
    &attention::Attention::EXAMPLE,
    &attention::AttentionGrad::EXAMPLE,
    &loss::CrossEntropy,
    &loss::CrossEntropyGrad,
    &loss::MeanSquaredError,
    &pointwise_loss::Huber::EXAMPLE,
    &pointwise_loss::BinaryCrossEntropy,
    &norm::Normalize::EXAMPLE,
    &norm::NormalizeGrad::EXAMPLE,
    &rms::RmsNormalize::EXAMPLE,
    &rms::RmsNormalizeGrad::EXAMPLE,
    &norm::GlobalNorm,
    &random::DropoutMask::EXAMPLE,
    &update::Sgd,
    &update::Momentum::EXAMPLE,
    &update::Ema::EXAMPLE,
    &update::EmaSquare::EXAMPLE,
    &update::AdamW::EXAMPLE,
    &update::ClipScale::EXAMPLE,
];
