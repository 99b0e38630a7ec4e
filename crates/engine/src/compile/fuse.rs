//! The order of execution, with elementwise chains joined.
//!
//! One walk in graph order. An elementwise node joins the open groups of its inputs if they have its shape; a group is
//! closed, and takes its place in the order, when something outside reads one of its values. Open groups never depend
//! on each other, so joining them cannot make a cycle.

use std::collections::BTreeMap;

use crate::compile::layout::Value;
use crate::ir::graph::{Inner, Source};
use crate::ir::op::Kernel;
use crate::ir::types::Shape;

/// One call to come.
#[derive(Clone, Debug)]
pub enum Unit {
    /// Elementwise nodes of one shape, in graph order.
    Tiles(Vec<usize>),
    /// A node with a routine of its own.
    Call(usize),
    /// The row-major copy that a movement node needs of its input.
    Copy(usize),
}

impl Unit {
    /// The nodes it computes.
    pub fn nodes(&self) -> &[usize] {
        match self {
            Unit::Tiles(nodes) => nodes,
            Unit::Call(node) | Unit::Copy(node) => std::slice::from_ref(node),
        }
    }
}

/// A chain longer than this is cut, so that its tiles stay in L1.
const LONGEST: usize = 48;

/// The calls that compute the nodes marked in `wanted`, in an order that respects all dependencies.
pub fn schedule(g: &Inner, values: &[Value], wanted: &[bool]) -> Vec<Unit> {
    let mut walk = Walk { units: Vec::new(), open: BTreeMap::new(), group_of: vec![None; g.nodes.len()], next: 0 };
    for i in (0..g.nodes.len()).filter(|i| wanted[*i]) {
        let Source::Apply(op, x) = &g.nodes[i].source else { continue };
        let types: Vec<_> = x.iter().map(|x| g.nodes[x.index()].ty).collect();
        // A view on a group's value is read through the node that computes it.
        let owners: Vec<usize> = x.iter().map(|x| values[x.index()].from).collect();
        match op.kernel(&types) {
            Kernel::Tile(_) => walk.join(i, g.nodes[i].ty.shape, &owners, x.iter().map(|x| x.index())),
            Kernel::Call(_) | Kernel::Concat { .. } => {
                walk.close(&owners);
                walk.units.push(Unit::Call(i));
            }
            Kernel::View(_) if values[i].copied => {
                walk.close(&owners);
                walk.units.push(Unit::Copy(i));
            }
            Kernel::View(_) => {}
        }
    }
    while let Some((_, group)) = walk.open.pop_first() {
        walk.units.push(Unit::Tiles(group.nodes));
    }
    walk.units
}

struct Group {
    shape: Shape,
    nodes: Vec<usize>,
}

struct Walk {
    units: Vec<Unit>,
    open: BTreeMap<usize, Group>,
    group_of: Vec<Option<usize>>,
    next: usize,
}

impl Walk {
    /// Closes the open groups that hold one of `nodes`.
    fn close(&mut self, nodes: &[usize]) {
        for node in nodes {
            if let Some(group) = self.group_of[*node].and_then(|id| self.open.remove(&id)) {
                self.units.push(Unit::Tiles(group.nodes));
            }
        }
    }

    fn join(&mut self, i: usize, shape: Shape, owners: &[usize], x: impl Iterator<Item = usize>) {
        let mut into: Option<usize> = None;
        let mut outside = Vec::new();
        for (owner, x) in owners.iter().zip(x) {
            let Some(id) = self.group_of[*owner].filter(|id| self.open.contains_key(id)) else { continue };
            let fits = *owner == x && self.open[&id].shape == shape && self.open[&id].nodes.len() < LONGEST;
            match into {
                _ if !fits => outside.push(*owner),
                None => into = Some(id),
                Some(first) if first == id => {}
                Some(first) if self.open[&first].nodes.len() + self.open[&id].nodes.len() < LONGEST => {
                    self.merge(first, id);
                }
                Some(_) => outside.push(*owner),
            }
        }
        // A value that is read here in another shape must be finished first; that may close the group to join.
        self.close(&outside);
        let scalars = |open: &BTreeMap<usize, Group>| open.iter().find(|(_, g)| g.shape == shape).map(|(id, _)| *id);
        let id = match into.filter(|id| self.open.contains_key(id)) {
            Some(id) => id,
            None if shape.count() == 1 && outside.is_empty() => scalars(&self.open).unwrap_or(self.next),
            None => self.next,
        };
        if id == self.next {
            self.next += 1;
            self.open.insert(id, Group { shape, nodes: Vec::new() });
        }
        if let Some(group) = self.open.get_mut(&id) {
            group.nodes.push(i);
        }
        self.group_of[i] = Some(id);
    }

    fn merge(&mut self, first: usize, second: usize) {
        let Some(group) = self.open.remove(&second) else { return };
        for node in &group.nodes {
            self.group_of[*node] = Some(first);
        }
        if let Some(into) = self.open.get_mut(&first) {
            into.nodes.extend(group.nodes);
            into.nodes.sort_unstable();
        }
    }
}
