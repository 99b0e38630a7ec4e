//! Graphs, gradients and step programs.
//!
//! - [`Graph`]: what is computed. Append-only typed nodes; [`Var`] is a `Copy` handle with operators.
//! - [`Graph::grad`]: reverse-mode differentiation as graph to graph.
//! - [`Program`]: how it is computed: a flat tape of kernel calls on one arena.
//! - [`State`]: what is learned. [`Batch`]: what is read.
//!
//! ```
//! use geartrain_engine::{DType, Graph, Init, Options, Program, State};
//! let g = Graph::new();
//! let x = g.parameter("x", DType::F64, [], Init::Constant(1.25));
//! let y = ((2.0 * x) * (2.0 * x)).named("y");
//! let d_x = g.grad(y, &[x]).unwrap()[0];
//! g.output("y", y);
//! g.output("d_x", d_x);
//! let mut state = State::new(&g, 0).unwrap();
//! let mut program = Program::compile(&g, &state, Options::default()).unwrap();
//! let batch = program.batch();
//! program.run(&mut state, &batch).unwrap();
//! assert_eq!(program.scalar("y"), Some(6.25));
//! assert_eq!(program.scalar("d_x"), Some(10.0));
//! ```
#![forbid(unsafe_code)]

pub mod autodiff;
pub mod check;
pub mod compile;
pub mod ir;
mod limit;
pub mod listing;
pub mod ops;
pub mod run;
pub mod state;

pub use geartrain_kernels::isa::Isa;
pub use geartrain_kernels::math::Real;
pub use geartrain_kernels::{CustomFn, Map, Params, Routine, Slice, SliceMut, TileFn};
pub use geartrain_kernels::{peak, philox};
pub use ir::error::{GraphError, OpError, Rule};
pub use ir::graph::{Graph, NodeId, Var};
pub use ir::op::{Array, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
pub use ir::types::{Axes, DType, Data, Shape, Tensor, Type};
pub use run::batch::Batch;
pub use run::program::{Call, Cost, Options, Program, RunError};
pub use state::{Entry, Init, Role, State};

/// The version of the numbers: training with one version, one config and the same data gives the same bits. It changes
/// whenever a kernel or a pass changes a bit of any value.
pub const NUMERICS_VERSION: &str = "4";
