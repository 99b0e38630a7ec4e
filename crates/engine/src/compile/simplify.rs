//! Dead code, duplicates and neutral operands. No rewrite changes a bit of any value: x · 0 stays, and no division
//! becomes a product.

use std::collections::HashMap;

use crate::ir::graph::{Inner, Node, NodeId, Source};
use crate::ir::op::{Attrs, Kind};
use crate::ir::types::Type;

/// Copies the graph node by node. `known` says for each node (with new inputs) which node of the new graph it is, if it
/// is one that stands there already or that it adds.
pub(crate) fn rebuild(g: &Inner, mut known: impl FnMut(&mut Inner, &Node) -> Option<NodeId>) -> Inner {
    let mut out = g.clone_frame();
    let mut to: Vec<NodeId> = Vec::with_capacity(g.nodes.len());
    for node in &g.nodes {
        let mut node = node.clone();
        if let Source::Apply(_, inputs) = &mut node.source {
            inputs.iter_mut().for_each(|x| *x = to[x.index()]);
        }
        to.push(match known(&mut out, &node) {
            Some(earlier) => earlier,
            None => {
                out.nodes.push(node);
                NodeId(out.nodes.len() as u32 - 1)
            }
        });
    }
    out.retarget(|id| to[id.index()]);
    out
}

impl Inner {
    /// Everything but the nodes.
    pub(crate) fn clone_frame(&self) -> Inner {
        let mut frame = Inner::default();
        frame.nodes.reserve(self.nodes.len());
        frame.inputs.clone_from(&self.inputs);
        frame.entries.clone_from(&self.entries);
        frame.outputs.clone_from(&self.outputs);
        frame.updates.clone_from(&self.updates);
        frame.guards.clone_from(&self.guards);
        frame.scopes.clone_from(&self.scopes);
        frame
    }

    pub(crate) fn retarget(&mut self, to: impl Fn(NodeId) -> NodeId) {
        self.outputs.iter_mut().for_each(|(_, id)| *id = to(*id));
        self.guards.iter_mut().for_each(|(_, id)| *id = to(*id));
        self.updates.iter_mut().for_each(|(_, id)| *id = to(*id));
    }
}

/// Which nodes the roots need.
pub(crate) fn needed(g: &Inner, roots: &[NodeId]) -> Vec<bool> {
    let mut needed = vec![false; g.nodes.len()];
    roots.iter().for_each(|r| needed[r.index()] = true);
    for i in (0..g.nodes.len()).rev() {
        if needed[i] {
            g.nodes[i].inputs().iter().for_each(|x| needed[x.index()] = true);
        }
    }
    needed
}

/// Drops nodes that no output, guard or update needs.
pub fn dead_code(g: &Inner) -> Inner {
    let needed = needed(g, &g.roots());
    let mut out = g.clone_frame();
    let mut to = vec![NodeId::POISON; g.nodes.len()];
    for (i, node) in g.nodes.iter().enumerate().filter(|(i, _)| needed[*i]) {
        let mut node = node.clone();
        if let Source::Apply(_, inputs) = &mut node.source {
            inputs.iter_mut().for_each(|x| *x = to[x.index()]);
        }
        out.nodes.push(node);
        to[i] = NodeId(out.nodes.len() as u32 - 1);
    }
    out.retarget(|id| to[id.index()]);
    out
}

/// The one number that a node holds in every element, as far as constants and movement show it.
pub(crate) fn uniform(g: &Inner, mut id: NodeId) -> Option<f64> {
    loop {
        match &g.nodes[id.index()].source {
            Source::Constant(tensor) => return tensor.uniform(),
            Source::Apply(op, x) if op.kind() == Kind::Move => id = x[0],
            _ => return None,
        }
    }
}

/// Operations with a neutral operand become their other operand: x · 1, x / 1.
pub fn algebra(g: &Inner) -> Inner {
    rebuild(g, |out, node| {
        let Source::Apply(op, x) = &node.source else { return None };
        let unchanged = |(position, value): &(usize, f64)| {
            let neutral = x.get(*position).and_then(|x| uniform(out, *x)) == Some(*value);
            let other = x.get(1 - position)?;
            (neutral && out.nodes[other.index()].ty == node.ty).then_some(*other)
        };
        op.neutral().iter().find_map(unchanged)
    })
}

/// Equal operations on equal inputs are computed once.
pub fn duplicates(g: &Inner) -> Inner {
    #[derive(PartialEq, Eq, Hash)]
    enum Key {
        Constant(Type, Vec<u8>),
        Apply(&'static str, Attrs, Vec<NodeId>),
    }
    let mut seen: HashMap<Key, NodeId> = HashMap::new();
    rebuild(g, |out, node| {
        let key = match &node.source {
            Source::Constant(tensor) => Key::Constant(node.ty, tensor.to_le_bytes()),
            Source::Apply(op, x) => Key::Apply(op.name(), op.attrs(), x.clone()),
            _ => return None,
        };
        let next = NodeId(out.nodes.len() as u32);
        match *seen.entry(key).or_insert(next) {
            known if known == next => None,
            known => Some(known),
        }
    })
}
