//! Which node owns memory, and which is only a view on another's.

use geartrain_kernels::{Region, View};

use crate::ir::graph::{Inner, Source};
use crate::ir::op::Kernel;

/// Where a node's elements are, before anything has an address.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    /// The node whose memory it is: itself, or an earlier one.
    pub base: usize,
    /// The view relative to the start of that memory.
    pub view: View,
    /// A movement that could not be a view: the elements of its input are first copied in row-major order.
    pub copied: bool,
}

/// The value of every node.
pub fn values(g: &Inner) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::with_capacity(g.nodes.len());
    for (i, node) in g.nodes.iter().enumerate() {
        let own = View::contiguous(node.ty.dtype, Region::ARENA, 0, node.ty.shape);
        let owner = Value { base: i, view: own, copied: false };
        values.push(match &node.source {
            Source::Apply(op, x) => {
                let types: Vec<_> = x.iter().map(|x| g.nodes[x.index()].ty).collect();
                match op.kernel(&types) {
                    Kernel::View(rearrange) => {
                        let from = values[x[0].index()];
                        match rearrange.view(&from.view) {
                            Some(view) => Value { view, copied: false, ..from },
                            // Only a reshape can fail, and after a copy it is the row-major view.
                            None => Value { copied: true, ..owner },
                        }
                    }
                    _ => owner,
                }
            }
            _ => owner,
        });
    }
    values
}
