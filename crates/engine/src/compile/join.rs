//! Sums over time steps: where one weight serves many steps, the sum of their small products is one large product.
//!
//! A chain of additions is taken apart into its terms. Terms of one kind become one operation on the concatenation of
//! their operands, which are computed side by side (see [`crate::compile::layout`]), so nothing is copied:
//!
//! - Σ aᵢᵀ @ bᵢ = [a₁; a₂; ...]ᵀ @ [b₁; b₂; ...]
//! - Σ of the columns of xᵢ = of the columns of [x₁; x₂; ...]
//! - Σ of values between zeros that fill an axis = [x₁, x₂, ...] along it
//!
//! The first two change the order of a sum, always and by the graph alone: this is the order that programs have.

use std::collections::HashMap;
use std::sync::Arc;

use crate::compile::simplify::rebuild;
use crate::ir::graph::{Inner, Node, NodeId, Source};
use crate::ir::op::{Attr, Op};
use crate::ir::types::{Axes, Type};
use crate::ops::arith::Add;
use crate::ops::concat::Concat;
use crate::ops::layout::{Reshape, Slice, Transpose};
use crate::ops::matmul::Matmul;
use crate::ops::reduce::Sum;

/// What a term of a sum is, with its operands; terms with equal keys are joined.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Term {
    /// aᵀ @ b.
    Product,
    /// x.sum(axis=0), in some shape.
    Columns,
    /// x between zeros along an axis.
    Padded { axis: usize },
    /// Anything else.
    Other(NodeId),
}

/// Joins the terms of all sums.
pub fn sums(g: &Inner) -> Inner {
    let uses = uses(g);
    let inner = |id: NodeId| is(g, id, "add") && uses[id.index()] == 1;
    let mut part_of_larger = vec![false; g.nodes.len()];
    for node in g.nodes.iter().filter(|node| matches!(&node.source, Source::Apply(op, _) if op.name() == "add")) {
        node.inputs().iter().filter(|x| inner(**x)).for_each(|x| part_of_larger[x.index()] = true);
    }
    let mut joiner = Joiner { g, out: g.clone_frame(), to: Vec::new(), runs: HashMap::new() };
    for (i, node) in g.nodes.iter().enumerate() {
        let id = NodeId(i as u32);
        let joined = (is(g, id, "add") && !part_of_larger[i]).then(|| {
            let mut terms = Vec::new();
            collect(g, id, &inner, &mut terms);
            joiner.sum(node, &terms)
        });
        let new = joined.flatten().unwrap_or_else(|| joiner.keep(node));
        joiner.to.push(new);
    }
    let Joiner { mut out, to, .. } = joiner;
    out.retarget(|id| to[id.index()]);
    out
}

/// How often each node is read, roots included.
fn uses(g: &Inner) -> Vec<usize> {
    let mut uses = vec![0; g.nodes.len()];
    g.nodes.iter().flat_map(Node::inputs).for_each(|x| uses[x.index()] += 1);
    g.roots().iter().for_each(|x| uses[x.index()] += 1);
    uses
}

fn is(g: &Inner, id: NodeId, name: &str) -> bool {
    matches!(&g.nodes[id.index()].source, Source::Apply(op, _) if op.name() == name)
}

/// The terms of the sum `id` from left to right. Chains are long, so no recursion.
fn collect(g: &Inner, id: NodeId, inner: &impl Fn(NodeId) -> bool, terms: &mut Vec<NodeId>) {
    let mut stack: Vec<NodeId> = g.nodes[id.index()].inputs().iter().rev().copied().collect();
    while let Some(x) = stack.pop() {
        match inner(x) {
            true => stack.extend(g.nodes[x.index()].inputs().iter().rev()),
            false => terms.push(x),
        }
    }
}

/// A graph that is being rewritten.
struct Joiner<'a> {
    g: &'a Inner,
    out: Inner,
    to: Vec<NodeId>,
    /// The concatenations along axis 0 that a node is a part of, with its position there; by new ids.
    runs: HashMap<NodeId, Vec<(NodeId, usize)>>,
}

impl Joiner<'_> {
    /// The node with its inputs renamed.
    fn keep(&mut self, node: &Node) -> NodeId {
        let mut node = node.clone();
        if let Source::Apply(_, inputs) = &mut node.source {
            inputs.iter_mut().for_each(|x| *x = self.to[x.index()]);
        }
        self.push(node)
    }

    fn push(&mut self, node: Node) -> NodeId {
        let id = NodeId(self.out.nodes.len() as u32);
        if let Source::Apply(op, x) = &node.source
            && op.attrs() == Concat::EXAMPLE.attrs()
            && op.name() == "concat"
        {
            for (position, part) in x.iter().enumerate() {
                self.runs.entry(*part).or_default().push((id, position));
            }
        }
        self.out.nodes.push(node);
        id
    }

    /// A new operation in the place of `like`.
    fn apply(&mut self, like: &Node, op: impl Op, x: Vec<NodeId>) -> Option<NodeId> {
        let types: Vec<Type> = x.iter().map(|x| self.out.nodes[x.index()].ty).collect();
        let ty = op.infer(&types).ok()?;
        let origin = like.origin;
        Some(self.push(Node { source: Source::Apply(Arc::new(op), x), ty, name: None, origin }))
    }

    /// The sum of `terms` with those of one kind joined; `None` where there is nothing to join.
    fn sum(&mut self, root: &Node, terms: &[NodeId]) -> Option<NodeId> {
        let mut kinds: Vec<(Term, Vec<NodeId>)> = Vec::new();
        for term in terms {
            let kind = self.kind(*term);
            match kinds.iter_mut().find(|(known, _)| !matches!(known, Term::Other(_)) && *known == kind) {
                Some((_, members)) => members.push(*term),
                None => kinds.push((kind, vec![*term])),
            }
        }
        if kinds.iter().all(|(_, members)| members.len() < 2) {
            return None;
        }
        let mut total = None;
        for (kind, members) in kinds {
            let joined = if members.len() < 2 { None } else { self.join(root, &kind, &members) };
            let parts: Vec<NodeId> = match joined {
                Some(id) => vec![id],
                None => members.iter().map(|id| self.to[id.index()]).collect(),
            };
            for part in parts {
                total = Some(match total {
                    None => part,
                    Some(sum) => self.apply(root, Add, vec![sum, part])?,
                });
            }
        }
        let total = total?;
        if self.out.nodes[total.index()].name.is_none() {
            self.out.nodes[total.index()].name.clone_from(&root.name);
        }
        Some(total)
    }

    fn kind(&self, id: NodeId) -> Term {
        let node = &self.g.nodes[id.index()];
        let Source::Apply(op, x) = &node.source else { return Term::Other(id) };
        let ty = |id: NodeId| self.g.nodes[id.index()].ty;
        match op.name() {
            "matmul" if node.ty.shape.rank() == 2 && self.turned(x[0]) => Term::Product,
            "reshape" if self.columns(id).is_some_and(|x| ty(x).shape.rank() == 2) => Term::Columns,
            "pad" => Term::Padded { axis: attribute(op.as_ref(), "axis") },
            _ => Term::Other(id),
        }
    }

    /// Whether a value is `x.T`; an order of axes may also leave them where they are.
    fn turned(&self, id: NodeId) -> bool {
        let turn = Transpose::new(&[1, 0]).map(|op| op.attrs());
        let Source::Apply(op, _) = &self.g.nodes[id.index()].source else { return false };
        op.name() == "transpose" && Some(op.attrs()) == turn
    }

    /// x of `x.sum(axis=0).reshape(..)`.
    fn columns(&self, id: NodeId) -> Option<NodeId> {
        let sum = *self.g.nodes[id.index()].inputs().first()?;
        let Source::Apply(op, x) = &self.g.nodes[sum.index()].source else { return None };
        (op.name() == "sum" && op.attrs() == Sum(Axes(1)).attrs()).then(|| x[0])
    }

    fn join(&mut self, root: &Node, kind: &Term, members: &[NodeId]) -> Option<NodeId> {
        let input = |g: &Inner, id: NodeId, k: usize| g.nodes[id.index()].inputs()[k];
        match kind {
            Term::Other(_) => None,
            Term::Product => {
                let pairs = members.iter().map(|id| {
                    let (a, b) = (input(self.g, input(self.g, *id, 0), 0), input(self.g, *id, 1));
                    (self.to[a.index()], self.to[b.index()])
                });
                let mut pairs: Vec<(NodeId, NodeId)> = pairs.collect();
                pairs.sort_by_key(|(a, _)| self.order(*a));
                let (a, b): (Vec<NodeId>, Vec<NodeId>) = pairs.into_iter().unzip();
                let (a, b) = (self.concat(root, a)?, self.concat(root, b)?);
                let a = self.apply(root, Transpose::new(&[1, 0])?, vec![a])?;
                self.apply(root, Matmul, vec![a, b])
            }
            Term::Columns => {
                let x = members.iter().map(|id| self.columns(*id).map(|x| self.to[x.index()]));
                let mut x: Vec<NodeId> = x.collect::<Option<_>>()?;
                x.sort_by_key(|x| self.order(*x));
                let all = self.concat(root, x)?;
                let sum = self.apply(root, Sum(Axes(1)), vec![all])?;
                self.apply(root, Reshape(root.ty.shape), vec![sum])
            }
            Term::Padded { axis } => {
                let mut parts: Vec<(usize, NodeId)> = Vec::new();
                for id in members {
                    let Source::Apply(op, x) = &self.g.nodes[id.index()].source else { return None };
                    parts.push((attribute(op.as_ref(), "before"), self.to[x[0].index()]));
                }
                parts.sort_unstable();
                let mut free = 0;
                for (before, x) in &parts {
                    // Parts that leave a gap or overlap are added up as before.
                    if *before != free {
                        return None;
                    }
                    free += self.out.nodes[x.index()].ty.shape.dims()[*axis];
                }
                if free != root.ty.shape.dims()[*axis] {
                    return None;
                }
                let parts: Vec<NodeId> = parts.into_iter().map(|(_, x)| x).collect();
                if *axis == 0 { self.concat(root, parts) } else { self.apply(root, Concat { axis: *axis }, parts) }
            }
        }
    }

    /// Where a value stands among others: in the concatenation that it is a part of, else in the order of the graph.
    fn order(&self, x: NodeId) -> (NodeId, usize) {
        let within = self.runs.get(&x).and_then(|places| places.first()).copied();
        within.unwrap_or((NodeId(u32::MAX), x.index()))
    }

    /// The parts one behind another: rows of a concatenation that exists, if they stand there so.
    fn concat(&mut self, root: &Node, parts: Vec<NodeId>) -> Option<NodeId> {
        let known = self.runs.get(parts.first()?).into_iter().flatten().find_map(|(id, first)| {
            let all = self.out.nodes[id.index()].inputs();
            (all.get(*first..first + parts.len())? == parts.as_slice()).then_some((*id, *first))
        });
        let rows = |g: &Inner, parts: &[NodeId]| -> usize {
            parts.iter().map(|x| g.nodes[x.index()].ty.shape.dims()[0]).sum()
        };
        match known {
            None => self.apply(root, Concat { axis: 0 }, parts),
            Some((id, first)) => {
                let before = self.out.nodes[id.index()].inputs()[..first].to_vec();
                let (start, len) = (rows(&self.out, &before), rows(&self.out, &parts));
                match len == self.out.nodes[id.index()].ty.shape.dims()[0] {
                    true => Some(id),
                    false => self.apply(root, Slice { axis: 0, start, len }, vec![id]),
                }
            }
        }
    }
}

/// A whole number among an operation's attributes.
fn attribute(op: &dyn Op, name: &str) -> usize {
    let find = |(key, value): &(&str, Attr)| match value {
        Attr::Int(value) if *key == name => Some(*value as usize),
        _ => None,
    };
    op.attrs().iter().find_map(find).unwrap_or(0)
}

/// A slice of a padded value that lies inside the value is a slice of the value.
pub fn slices_of_padded(g: &Inner) -> Inner {
    rebuild(g, |out, node| {
        let Source::Apply(op, x) = &node.source else { return None };
        let Source::Apply(pad, inner) = out.nodes[x[0].index()].source.clone() else { return None };
        let axis = attribute(op.as_ref(), "axis");
        if op.name() != "slice" || pad.name() != "pad" || attribute(pad.as_ref(), "axis") != axis {
            return None;
        }
        let (start, len) = (attribute(op.as_ref(), "start"), attribute(op.as_ref(), "len"));
        let (before, n) = (attribute(pad.as_ref(), "before"), out.nodes[inner[0].index()].ty.shape.dims()[axis]);
        let inside = start >= before && start + len <= before + n;
        inside.then(|| {
            let slice = Slice { axis, start: start - before, len };
            let source = Source::Apply(Arc::new(slice), inner);
            out.nodes.push(Node { source, ..node.clone() });
            NodeId(out.nodes.len() as u32 - 1)
        })
    })
}
