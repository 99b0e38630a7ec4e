//! Geartrain trains neural networks and lets you see every gradient.
//!
//! This crate puts the parts together: the engine ([`Graph`], [`Program`], [`State`]), layers and optimizers ([`nn`]),
//! training of language models ([`train`]), the lessons that the command line shows ([`lesson`]),
//! and the workloads that it is measured with ([`workloads`]).
#![forbid(unsafe_code)]

pub mod lesson;
pub mod workloads;

pub use geartrain_engine as engine;
pub use geartrain_engine::{
    Batch, DType, Data, Graph, GraphError, Init, Op, Options, Program, Shape, State, Tensor, Type, Var,
};
pub use geartrain_nn as nn;
pub use geartrain_nn::optim;
pub use geartrain_train as train;
