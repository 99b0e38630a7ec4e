//! Training with Geartrain: configuration, data, tokenizers, the loop, run folders and checkpoints.
#![forbid(unsafe_code)]

mod atomic;
mod average;
pub mod chart;
pub mod checkpoint;
pub mod config;
pub mod curve;
pub mod data;
pub mod error;
pub mod interrupt;
pub mod metrics;
pub mod model;
pub mod norms;
pub mod plot;
pub mod predict;
pub mod run_folder;
pub mod sample;
pub mod schedule;
pub mod scores;
pub mod session;
mod step;
pub mod stopping;
pub mod tensorboard;
pub mod tokenizer;
pub mod trainer;
pub mod words;

pub use error::{Error, ErrorKind};
