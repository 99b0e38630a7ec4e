//! A failing graph made smaller: fewer results, and values given instead of computed.

use crate::check::graphs::{GraphFailure, Subject, programs};
use crate::check::interpret::evaluate_nodes;
use crate::check::{Check, Failure};
use crate::compile::{Pass, simplify};
use crate::ir::graph::{Graph, Inner, Input, NodeId, Source, Var};
use crate::ir::types::DType;

/// Graphs tried on the way to a smaller one.
const TRIES: usize = 400;

/// The smallest failing graph that was found.
pub(super) fn smaller(subject: Subject, seed: u64, passes: &[Pass], failure: Failure) -> GraphFailure {
    let mut best = Subject { graph: graph_of(&subject.graph.with(simplify::dead_code)), ..subject };
    let mut last = failure.clone();
    // The relation of a gradient to its loss is lost with any node, and an ill-typed graph cannot be cut.
    if matches!(failure.check, Check::Forward | Check::Types) {
        return told(&best, seed, failure, last);
    }
    let mut tries = 0;
    while let Some((subject, failure)) = step(&best, seed, passes, failure.check, &mut tries) {
        (best, last) = (subject, failure);
    }
    told(&best, seed, failure, last)
}

fn told(best: &Subject, seed: u64, failure: Failure, smaller: Failure) -> GraphFailure {
    let (names, ids) = super::results(&best.graph);
    let mut nodes = best.graph.with(Inner::dump);
    for (name, id) in names.iter().zip(ids) {
        nodes += &format!("{name} = %{}\n", id.0);
    }
    GraphFailure { seed, failure, smaller, nodes }
}

/// The first smaller graph that fails in the same check.
fn step(from: &Subject, seed: u64, passes: &[Pass], check: Check, tries: &mut usize) -> Option<(Subject, Failure)> {
    let g = from.graph.with(Inner::clone);
    let results = g.outputs.len() + g.guards.len() + g.updates.len();
    let fewer = (0..if results > 1 { results } else { 0 }).map(|i| (without_result(&g, i), from.feeds.clone()));
    let given = (0..g.nodes.len()).rev().filter_map(|i| with_given(from, &g, i));
    for (inner, feeds) in fewer.chain(given) {
        *tries += 1;
        if *tries > TRIES {
            return None;
        }
        let subject = Subject { graph: graph_of(&simplify::dead_code(&inner)), feeds, dtype: from.dtype };
        match programs::check(&subject, seed, passes) {
            Err(failure) if failure.check == check => return Some((subject, failure)),
            _ => {}
        }
    }
    None
}

fn without_result(g: &Inner, i: usize) -> Inner {
    let mut g = g.clone();
    let (outputs, guards) = (g.outputs.len(), g.guards.len());
    if i < outputs {
        g.outputs.remove(i);
    } else if i < outputs + guards {
        g.guards.remove(i - outputs);
    } else {
        g.updates.remove(i - outputs - guards);
    }
    g
}

/// The value of operation `i` as an input.
fn with_given(from: &Subject, g: &Inner, i: usize) -> Option<(Inner, [crate::check::Feed; 2])> {
    let Source::Apply(..) = g.nodes[i].source else { return None };
    let (name, mut feeds) = (format!("cut{i}.{}", g.inputs.len()), from.feeds.clone());
    for feed in &mut feeds {
        let mut value = evaluate_nodes(g, &[NodeId(i as u32)], feed).ok()?.pop()?;
        if g.nodes[i].ty.dtype == DType::F32 {
            value.values.iter_mut().for_each(|v| *v = f64::from(*v as f32));
        }
        feed.set(&name, value);
    }
    let mut g = g.clone();
    g.nodes[i].source = Source::Input(g.inputs.len());
    g.inputs.push(Input { name, ty: g.nodes[i].ty });
    Some((g, feeds))
}

/// A graph with the nodes and results of `g`.
pub(super) fn graph_of(g: &Inner) -> Graph {
    let graph = Graph::new();
    {
        let mut to: Vec<Var<'_>> = Vec::new();
        for node in &g.nodes {
            let var = graph.with_role(node.origin.role, || match &node.source {
                Source::Input(k) => graph.input(&g.inputs[*k].name, node.ty.dtype, node.ty.shape),
                Source::State(k) => graph.entry(g.entries[*k].clone()),
                Source::Constant(tensor) => graph.constant((**tensor).clone()),
                Source::Apply(op, x) => {
                    let x: Vec<Var<'_>> = x.iter().map(|x| to[x.index()]).collect();
                    graph.apply_shared(op.clone(), &x)
                }
            });
            to.push(var);
        }
        g.outputs.iter().for_each(|(name, id)| graph.output(name, to[id.index()]));
        g.guards.iter().for_each(|(name, id)| graph.guard(name, to[id.index()]));
        for (entry, id) in &g.updates {
            graph.assign(graph.entry(g.entries[*entry].clone()), to[id.index()]);
        }
    }
    graph
}
