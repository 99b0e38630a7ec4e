//! Where a node comes from: without it nobody could be shown a gradient.

use std::panic::Location;

use crate::ir::graph::NodeId;

/// Why a node is in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Written by the model.
    Forward,
    /// Part of the cotangent of operand `operand` of node `node`.
    VjpOf {
        /// The node that is differentiated.
        node: NodeId,
        /// Which of its operands the cotangent belongs to.
        operand: usize,
    },
    /// The sum of two cotangents of node `node`.
    Accumulate {
        /// The node whose cotangents are added.
        node: NodeId,
    },
    /// Part of the optimizer's update.
    Update,
}

/// Provenance of a node.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Why it is there.
    pub role: Role,
    /// Index of its layer path in the graph.
    pub scope: u32,
    /// The line of the caller's source that made it.
    pub location: &'static Location<'static>,
}
