//! Which node owns memory, and which is only a view on another's.

use geartrain_kernels::{Region, View};

use std::sync::Arc;

use crate::ir::graph::{Inner, Node, NodeId, Source};
use crate::ir::op::Kernel;
use crate::ops::layout::Copy;

/// Where a node's elements are, before anything has an address.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    /// The node whose memory it is: itself, an earlier one that it is a view on, or the concatenation it is a part of.
    pub base: usize,
    /// The node that computes the elements: itself, or an earlier one that it is a view on.
    pub from: usize,
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
        let owner = Value { base: i, from: i, view: own, copied: false };
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
    place_parts(g, &mut values);
    values
}

/// Lets the parts of concatenations stand where they will be read, so that nothing is copied: parts that are computed
/// by a call of their own, lie side by side as a whole, and are no part of anything else.
fn place_parts(g: &Inner, values: &mut [Value]) {
    let mut places: Vec<Option<(usize, usize)>> = vec![None; g.nodes.len()];
    let assigned: Vec<usize> = g.updates.iter().map(|(_, id)| id.index()).collect();
    for (i, node) in g.nodes.iter().enumerate() {
        let Some(Kernel::Concat { axis, starts }) = kernel(g, node) else { continue };
        let dims = node.ty.shape.dims();
        if dims[..axis].iter().any(|d| *d != 1) {
            continue;
        }
        let row: usize = dims[axis + 1..].iter().product();
        for (x, start) in node.inputs().iter().zip(starts) {
            let part = x.index();
            let computed = match kernel(g, &g.nodes[part]) {
                Some(Kernel::Tile(_) | Kernel::Call(_)) => true,
                Some(Kernel::View(_)) => values[part].copied,
                _ => false,
            };
            if computed && places[part].is_none() && !assigned.contains(&part) {
                places[part] = Some((i, start * row));
            }
        }
    }
    for value in values.iter_mut() {
        if let Some((base, offset)) = places[value.base] {
            value.base = base;
            value.view.offset += offset;
        }
    }
}

/// How a node is computed, if it is an operation.
pub fn kernel(g: &Inner, node: &Node) -> Option<Kernel> {
    let Source::Apply(op, x) = &node.source else { return None };
    let types: Vec<_> = x.iter().map(|x| g.nodes[x.index()].ty).collect();
    Some(op.kernel(&types))
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
