//! The order of execution, with elementwise chains joined to each other and to the product before them.
//!
//! One walk in graph order. An elementwise node joins the open groups of its inputs if they have its shape; a group is
//! closed, and takes its place in the order, when something outside reads one of its values. Open groups never depend
//! on each other, so joining them cannot make a cycle. A matrix product that an elementwise node reads soon opens a
//! group, too; a group has one product at most.

use std::collections::BTreeMap;

use crate::compile::layout::{self, Value};
use crate::ir::graph::{Inner, Source};
use crate::ir::op::Kernel;
use crate::ir::types::Shape;

/// One call to come.
#[derive(Clone, Debug)]
pub enum Unit {
    /// Elementwise nodes of one shape, in graph order.
    Tiles(Vec<usize>),
    /// A matrix product and elementwise nodes of its shape behind it, in graph order.
    Product(usize, Vec<usize>),
    /// A node with a routine of its own.
    Call(usize),
    /// The row-major copy that a movement node needs of its input.
    Copy(usize),
}

impl Unit {
    /// The nodes it computes.
    pub fn nodes(&self) -> &[usize] {
        match self {
            Unit::Tiles(nodes) | Unit::Product(_, nodes) => nodes,
            Unit::Call(node) | Unit::Copy(node) => std::slice::from_ref(node),
        }
    }
}

/// A chain longer than this is cut, so that its tiles stay in L1.
const LONGEST: usize = 48;

/// A product waits for elementwise nodes if one reads it within so many nodes: its operands stand in memory as long.
const SOON: usize = 16;

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
            Kernel::Call(routine) if routine.may_be_followed() && is_followed(g, values, wanted, i) => {
                walk.close(&owners);
                walk.open(g.nodes[i].ty.shape, Some(i), i);
            }
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
        walk.units.push(group.unit());
    }
    walk.units
}

/// Whether an elementwise node of its shape and type reads product `i` soon after it, as it stands.
fn is_followed(g: &Inner, values: &[Value], wanted: &[bool], i: usize) -> bool {
    let follows = |j: usize| {
        let node = &g.nodes[j];
        wanted[j]
            && (node.ty == g.nodes[i].ty)
            && node.inputs().iter().any(|x| x.index() == i)
            && matches!(layout::kernel(g, node), Some(Kernel::Tile(_)))
    };
    // A part of a concatenation stands among its neighbours.
    values[i].base == i && (i + 1..g.nodes.len().min(i + 1 + SOON)).any(follows)
}

struct Group {
    shape: Shape,
    product: Option<usize>,
    nodes: Vec<usize>,
}

impl Group {
    fn unit(self) -> Unit {
        match self.product {
            Some(product) if self.nodes.len() == 1 => Unit::Call(product),
            Some(product) => Unit::Product(product, self.nodes),
            None => Unit::Tiles(self.nodes),
        }
    }
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
                self.units.push(group.unit());
            }
        }
    }

    /// A new group with node `i`.
    fn open(&mut self, shape: Shape, product: Option<usize>, i: usize) {
        self.open.insert(self.next, Group { shape, product, nodes: vec![i] });
        self.group_of[i] = Some(self.next);
        self.next += 1;
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
                Some(first) if self.may_merge(first, id) => self.merge(first, id),
                Some(_) => outside.push(*owner),
            }
        }
        // A value that is read here in another shape must be finished first; that may close the group to join.
        self.close(&outside);
        let scalars = |open: &BTreeMap<usize, Group>| open.iter().find(|(_, g)| g.shape == shape).map(|(id, _)| *id);
        let id = match into.filter(|id| self.open.contains_key(id)) {
            Some(id) => Some(id),
            None if shape.count() == 1 && outside.is_empty() => scalars(&self.open),
            None => None,
        };
        match id.and_then(|id| self.open.get_mut(&id)) {
            Some(group) => {
                group.nodes.push(i);
                self.group_of[i] = id;
            }
            None => self.open(shape, None, i),
        }
    }

    fn may_merge(&self, first: usize, second: usize) -> bool {
        let (a, b) = (&self.open[&first], &self.open[&second]);
        a.nodes.len() + b.nodes.len() < LONGEST && (a.product.is_none() || b.product.is_none())
    }

    fn merge(&mut self, first: usize, second: usize) {
        let Some(group) = self.open.remove(&second) else { return };
        for node in &group.nodes {
            self.group_of[*node] = Some(first);
        }
        if let Some(into) = self.open.get_mut(&first) {
            into.product = into.product.or(group.product);
            into.nodes.extend(group.nodes);
            into.nodes.sort_unstable();
        }
    }
}
