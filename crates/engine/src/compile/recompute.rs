//! Residuals that backward computes again instead of reading what forward kept.
//!
//! Elementwise arithmetic is cheap beside memory: where backward wants several elementwise functions of one value, such
//! as x / √2 and 1 + erf(x / √2) for the slope of GELU, that value is kept alone. The copies join the chains that read
//! them, so they never stand in memory. A value that a matrix product or a sum reads is kept as it is.

use std::collections::{HashMap, HashSet};

use super::simplify::rebuild;
use crate::ir::graph::{Inner, Node, NodeId, Source};
use crate::ir::op::Kind;
use crate::ir::origin::Role;

/// Bytes below which a value is not worth a second computation: it stays in a near cache.
const WORTH: usize = 64 * 1024;
/// Most operations that are done again for one value.
const MOST: usize = 12;

/// Gives backward copies of its own of elementwise values, where fewer bytes are kept then.
pub fn residuals(g: &Inner) -> Inner {
    residuals_from(g, WORTH)
}

/// As [`residuals`], for values from so many bytes on: checks use small ones.
pub(crate) fn residuals_from(g: &Inner, least: usize) -> Inner {
    let readers = Readers::of(g);
    let again = readers.computed_again(least);
    let mut copies = Copies { readers: &readers, to: Vec::with_capacity(g.nodes.len()), known: HashMap::new() };
    rebuild(g, |out, node| {
        let old = &g.nodes[copies.to.len()];
        let mut node = node.clone();
        if let (true, Source::Apply(_, inputs)) = (is_late(old), &mut node.source) {
            for (input, x) in inputs.iter_mut().zip(old.inputs()).filter(|(_, x)| again.contains(x)) {
                *input = copies.copy(out, *x);
            }
        }
        out.nodes.push(node);
        let new = NodeId(out.nodes.len() as u32 - 1);
        copies.to.push(new);
        Some(new)
    })
}

/// Whether a node comes after the forward pass.
fn is_late(node: &Node) -> bool {
    node.origin.role != Role::Forward
}

fn is_elementwise(node: &Node) -> bool {
    matches!(&node.source, Source::Apply(op, _) if op.kind() == Kind::Elementwise)
}

fn bytes(node: &Node) -> usize {
    node.ty.shape.count() * node.ty.dtype.size()
}

/// Who reads each value after the forward pass.
struct Readers<'a> {
    g: &'a Inner,
    /// Anybody.
    late: Vec<bool>,
    /// Somebody who wants it in memory, or the caller.
    kept: Vec<bool>,
}

impl Readers<'_> {
    fn of(g: &Inner) -> Readers<'_> {
        let (mut late, mut kept) = (vec![false; g.nodes.len()], vec![false; g.nodes.len()]);
        for node in g.nodes.iter().filter(|node| is_late(node)) {
            for x in node.inputs() {
                late[x.index()] = true;
                kept[x.index()] |= !is_elementwise(node);
            }
        }
        g.roots().iter().for_each(|root| kept[root.index()] = true);
        Readers { g, late, kept }
    }

    /// Whether a value can be computed again: an elementwise one that nobody wants in memory.
    fn is_open(&self, id: NodeId) -> bool {
        is_elementwise(&self.g.nodes[id.index()]) && !self.kept[id.index()]
    }

    /// What backward is to compute again, of values with so many bytes or more.
    fn computed_again(&self, least: usize) -> HashSet<NodeId> {
        let mut groups: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
        for (i, node) in self.g.nodes.iter().enumerate() {
            let id = NodeId(i as u32);
            let worth = self.late[i] && !is_late(node) && self.is_open(id) && bytes(node) >= least;
            if let Some(source) = worth.then(|| self.source(id)).flatten() {
                groups.entry(source).or_default().push(id);
            }
        }
        groups.retain(|source, values| {
            let freed: usize = values.iter().map(|x| bytes(&self.g.nodes[x.index()])).sum();
            let held = if self.late[source.index()] { 0 } else { bytes(&self.g.nodes[source.index()]) };
            freed > held
        });
        groups.into_values().flatten().collect()
    }

    /// The one value that an open one is an elementwise function of, besides parameters, inputs and constants; None if
    /// there is none or more than one, or if too much would have to be done again.
    fn source(&self, id: NodeId) -> Option<NodeId> {
        let (mut found, mut open, mut stack) = (None, HashSet::new(), vec![id]);
        while let Some(id) = stack.pop() {
            if self.is_open(id) {
                if open.insert(id) {
                    stack.extend(self.g.nodes[id.index()].inputs());
                }
            } else if !self.stands_anyway(id) && found.replace(id).is_some_and(|other| other != id) {
                return None;
            }
            if open.len() > MOST {
                return None;
            }
        }
        found
    }

    /// Whether a value is a view on something that is there for the whole step.
    fn stands_anyway(&self, id: NodeId) -> bool {
        match &self.g.nodes[id.index()].source {
            Source::Apply(op, x) => op.kind() == Kind::Move && self.stands_anyway(x[0]),
            _ => true,
        }
    }
}

/// The new graph's nodes for those of the old one.
struct Copies<'a> {
    readers: &'a Readers<'a>,
    /// As forward has them.
    to: Vec<NodeId>,
    /// As backward has them.
    known: HashMap<NodeId, NodeId>,
}

impl Copies<'_> {
    /// A copy of an open value and of all that it is made of, down to what is kept.
    fn copy(&mut self, out: &mut Inner, id: NodeId) -> NodeId {
        let node = &self.readers.g.nodes[id.index()];
        let Source::Apply(op, inputs) = &node.source else { return self.to[id.index()] };
        if !self.readers.is_open(id) {
            return self.to[id.index()];
        }
        if let Some(known) = self.known.get(&id) {
            return *known;
        }
        let inputs = inputs.iter().map(|x| self.copy(out, *x)).collect();
        out.nodes.push(Node { source: Source::Apply(op.clone(), inputs), name: None, ..node.clone() });
        let new = NodeId(out.nodes.len() as u32 - 1);
        self.known.insert(id, new);
        new
    }
}
