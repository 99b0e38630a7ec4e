//! Running programs: what goes in, what comes out.

pub mod batch;
pub mod program;
