//! What is computed: typed values, operations, the graph that holds them and its errors.

pub mod builder;
pub mod error;
pub mod graph;
pub mod op;
pub mod origin;
pub mod types;
