//! Checks that need no trust in the code they check: an interpreter in f64, differences, and the registry's cases.
//!
//! - [`interpret`]: the value of any node, by the references of the operations.
//! - [`mod@gradcheck`]: gradients of any graph against central differences.
//! - [`operation`]: all checks of one operation, over its cases: kernel ([`agree`]), derivatives ([`derivative`]) and
//!   definition ([`definition`]).
//! - [`tangent`]: derivatives found forwards, without the vjp rules: dual numbers and linearity.
//! - [`step`]: what a whole program gives and writes, against the interpreter.
//! - [`graphs`]: random graphs through every pass, program and instruction set.
//!
//! Random numbers come from the counter generator: a check is repeated by its seed.

pub mod agree;
pub mod compiled;
pub mod definition;
pub mod derivative;
pub mod difference;
pub mod gradcheck;
pub mod graphs;
pub mod interpret;
pub mod operation;
pub mod sample;
pub mod step;
pub mod tangent;

use std::fmt;

pub use gradcheck::{Report, gradcheck};
pub use graphs::{GraphFailure, GraphReport, GraphTotals, check_graph, check_graphs};
pub use interpret::{Feed, evaluate};
pub use operation::{OpReport, check_all, check_op, table};

/// What was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Check {
    /// The operation accepts its own case, and its vjp gives well-typed cotangents.
    Types,
    /// The f64 kernel against the reference.
    KernelF64,
    /// The f32 kernel against the reference.
    KernelF32,
    /// The same bits on every instruction set and number of threads.
    Bits,
    /// First derivatives against differences.
    First,
    /// Derivatives of derivatives against differences.
    Second,
    /// First and second derivatives against those found forwards.
    Forward,
    /// Where no cotangent flows, the value does not move.
    Zero,
    /// Where a derivative does not exist, asking for it fails and names the operation.
    Stops,
    /// The compiled gradient against differences.
    Compiled,
    /// A fused operation against its definition.
    Definition,
    /// The vjp of a fused operation against the derivative of its definition.
    DefinitionVjp,
    /// A compiled step against the interpreter.
    Step,
}

impl Check {
    /// As tables and failures call it.
    pub fn name(self) -> &'static str {
        match self {
            Check::Types => "types",
            Check::KernelF64 => "f64 kernel",
            Check::KernelF32 => "f32 kernel",
            Check::Bits => "bits",
            Check::First => "first derivative",
            Check::Second => "second derivative",
            Check::Forward => "forward derivative",
            Check::Zero => "zero",
            Check::Stops => "stops",
            Check::Compiled => "compiled gradient",
            Check::Definition => "definition",
            Check::DefinitionVjp => "vjp of definition",
            Check::Step => "step",
        }
    }
}

/// One check that did not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Which check.
    pub check: Check,
    /// What it was done on: an operation with its attributes and shapes, or a value's name.
    pub on: String,
    /// What was found, with the numbers and the seed.
    pub what: String,
}

impl Failure {
    /// A failure of `check` on `on`.
    pub fn new(check: Check, on: impl Into<String>, what: impl Into<String>) -> Failure {
        Failure { check, on: on.into(), what: what.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.check.name(), self.on, self.what)
    }
}

impl std::error::Error for Failure {}
