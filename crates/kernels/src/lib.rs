//! The machine: memory, loops, a thread pool and a tape of kernel calls that is checked once when it is built.
//!
//! Nothing here knows what a graph or a gradient is. The crate holds all of the project's `unsafe` code behind a safe
//! interface: a [`TapeBuilder`] accepts [`Routine`]s over [`View`]s and refuses any call that would read or write out
//! of bounds or overwrite its own input; a finished [`Tape`] can then be run any number of times without allocating.

pub mod isa;
mod mapping;
pub mod math;
mod memory;
mod pace;
pub mod peak;
pub mod philox;
mod pool;
mod routine;
mod shape;
mod tape;
mod view;

mod attention;
mod gather;
mod gemm;
mod pad;
mod random;
mod reduce;
mod rows;
mod tiles;

pub use mapping::Mapping;
pub use memory::{Memory, StateRef};
pub use pool::{Pool, Team};
pub use routine::{CustomFn, Routine, Slice, SliceMut};
pub use shape::{MAX_RANK, Shape};
pub use tape::{Fault, RunError, Tape, TapeBuilder, TapeError};
pub use tiles::{Arg, Compare, Instr, Map, Params, TileFn};
pub use view::{DType, Region, View};
