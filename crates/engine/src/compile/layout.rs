//! Which node owns memory, and which is only a view on another's.

use geartrain_kernels::{Region, View};

use std::sync::Arc;

use crate::ir::graph::{Inner, Node, NodeId, Source};
use crate::ir::op::Kernel;
use crate::ops::layout::Copy;

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

/// Adds the copies that execution needs: row-major inputs for routines that want them, and memory of their own for
/// outputs and new values that are only views on inputs or entries (the batch and the state are gone, or changed, when
/// they are read).
pub fn with_copies(g: &Inner) -> Inner {
    let values = values(g);
    let mut out = g.clone();
    out.nodes.clear();
    let mut to: Vec<NodeId> = Vec::with_capacity(g.nodes.len());
    let copy = |out: &mut Inner, id: NodeId| {
        let node = out.nodes[id.index()].clone();
        out.nodes.push(Node { source: Source::Apply(Arc::new(Copy), vec![id]), name: None, ..node });
        NodeId(out.nodes.len() as u32 - 1)
    };
    for node in &g.nodes {
        let mut node = node.clone();
        if let Source::Apply(op, x) = &mut node.source {
            let types: Vec<_> = x.iter().map(|x| g.nodes[x.index()].ty).collect();
            let strict = matches!(op.kernel(&types), Kernel::Call(routine) if routine.wants_row_major());
            for x in x.iter_mut() {
                let new = to[x.index()];
                *x = if strict && !values[x.index()].view.is_contiguous() { copy(&mut out, new) } else { new };
            }
        }
        out.nodes.push(node);
        to.push(NodeId(out.nodes.len() as u32 - 1));
    }
    let lent = |id: NodeId| matches!(g.nodes[values[id.index()].base].source, Source::Input(_) | Source::State(_));
    let mut own = |id: NodeId| if lent(id) { copy(&mut out, to[id.index()]) } else { to[id.index()] };
    let outputs: Vec<_> = g.outputs.iter().map(|(name, id)| (name.clone(), own(*id))).collect();
    let updates: Vec<_> = g.updates.iter().map(|(entry, id)| (*entry, own(*id))).collect();
    out.guards.iter_mut().for_each(|(_, id)| *id = to[id.index()]);
    (out.outputs, out.updates) = (outputs, updates);
    out
}
