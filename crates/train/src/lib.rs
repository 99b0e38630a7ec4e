//! Training with Geartrain: configuration, data, tokenizers and schedules.
#![forbid(unsafe_code)]

pub mod config;
pub mod data;
pub mod error;
pub mod model;
pub mod sample;
pub mod schedule;
pub mod tokenizer;
pub mod trainer;

pub use error::{Error, ErrorKind};
