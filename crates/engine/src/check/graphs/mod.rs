//! Random graphs through the whole compiler: each is drawn from a seed, and what its programs give is compared with the
//! interpreter, pass by pass, on several instruction sets and numbers of threads; gradients also with derivatives found
//! forwards. What fails is made smaller before it is shown.

mod draw;
mod programs;
mod shrink;
mod tame;

use std::collections::BTreeSet;
use std::fmt;

use crate::check::difference::{Comparison, dot};
use crate::check::gradcheck::forwards;
use crate::check::interpret::{Feed, evaluate};
use crate::check::sample::Draw;
use crate::check::{Check, Failure, tangent};
use crate::compile::{self, Pass, recompute, simplify};
use crate::ir::graph::{Graph, Inner, NodeId, Source, Var};
use crate::ir::types::DType;

/// How often a graph is drawn again because its numbers are too wild to compare.
const ATTEMPTS: u64 = 50;

/// A graph and the numbers of two steps; the second step reads the state that the first one left.
pub(crate) struct Subject {
    pub(crate) graph: Graph,
    pub(crate) feeds: [Feed; 2],
    pub(crate) dtype: DType,
}

/// What one graph was and how near its numbers came.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphReport {
    /// Its seed.
    pub seed: u64,
    /// Nodes that its results need.
    pub nodes: usize,
    /// The operations among them.
    pub ops: BTreeSet<&'static str>,
    /// Whether it has a loss, gradients and updates by them.
    pub learns: bool,
    /// Of a graph in f64, the largest relative difference between a program and the interpreter.
    pub worst: f64,
    /// Of a graph in f32, the largest share of an operation's own bound.
    pub share: f64,
    /// Error of its gradients against derivatives found forwards, if both exist.
    pub forward: Option<f64>,
    /// How many graphs were drawn before it and put aside: their numbers were too wild.
    pub redrawn: u64,
}

/// A graph that fails, as small as it could be made.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphFailure {
    /// Its seed.
    pub seed: u64,
    /// What did not hold in the graph as it was drawn.
    pub failure: Failure,
    /// What does not hold in the smaller graph.
    pub smaller: Failure,
    /// The nodes of the smaller graph, one a line, and its results.
    pub nodes: String,
}

impl fmt::Display for GraphFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {}: {}", self.seed, self.failure)?;
        write!(f, "made smaller: {}\n{}", self.smaller, self.nodes)
    }
}

impl std::error::Error for GraphFailure {}

/// What many graphs gave together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphTotals {
    /// Graphs checked.
    pub graphs: u64,
    /// Of them, those that learn.
    pub learning: u64,
    /// Of them, those whose gradients were also found forwards.
    pub refereed: u64,
    /// Nodes of all.
    pub nodes: usize,
    /// The operations that occurred.
    pub ops: BTreeSet<&'static str>,
    /// The largest of [`GraphReport::worst`].
    pub worst: f64,
    /// The largest of [`GraphReport::share`].
    pub share: f64,
    /// The largest of [`GraphReport::forward`].
    pub forward: f64,
    /// Graphs drawn and put aside.
    pub redrawn: u64,
    /// What failed.
    pub failures: Vec<GraphFailure>,
}

/// The passes of the compiler. For every other seed values are computed again however small they are: random graphs have
/// none that are worth it.
fn passes_for(seed: u64) -> Vec<Pass> {
    let small = |pass: &Pass| match (seed % 2, pass.name) {
        (1, "residuals") => Pass { name: pass.name, run: |g| recompute::residuals_from(g, 1) },
        _ => *pass,
    };
    compile::PASSES.iter().map(small).collect()
}

/// Checks the graphs of `count` seeds from `first` on, all passes applied; `progress` hears of each.
pub fn check_graphs(first: u64, count: u64, mut progress: impl FnMut(&GraphTotals)) -> GraphTotals {
    let mut totals = GraphTotals::default();
    for i in 0..count {
        totals.graphs += 1;
        let seed = first.wrapping_add(i);
        match check_graph(seed, &passes_for(seed)) {
            Ok(report) => totals.add(report),
            Err(failure) => totals.failures.push(*failure),
        }
        progress(&totals);
    }
    totals
}

impl GraphTotals {
    fn add(&mut self, report: GraphReport) {
        self.learning += u64::from(report.learns);
        self.refereed += u64::from(report.forward.is_some());
        self.nodes += report.nodes;
        self.ops.extend(report.ops);
        self.worst = self.worst.max(report.worst);
        self.share = self.share.max(report.share);
        self.forward = self.forward.max(report.forward.unwrap_or(0.0));
        self.redrawn += report.redrawn;
    }
}

/// Draws the graph of a seed and checks it with `passes`.
///
/// # Errors
/// What did not hold, with the graph made smaller.
pub fn check_graph(seed: u64, passes: &[Pass]) -> Result<GraphReport, Box<GraphFailure>> {
    // Every fifth in f32, where bits and the bound of each operation are compared.
    let dtype = if seed % 5 == 4 { DType::F32 } else { DType::F64 };
    let drawn = (0..ATTEMPTS).find_map(|attempt| Some((attempt, draw::draw(seed, attempt, dtype)?)));
    let Some((redrawn, subject)) = drawn else {
        let failure = Failure::new(Check::Step, "graph", format!("no tame graph in {ATTEMPTS} attempts"));
        return Err(Box::new(GraphFailure { seed, smaller: failure.clone(), failure, nodes: String::new() }));
    };
    let checked = programs::check(&subject, seed, passes).and_then(|worst| Ok((worst, gradients(&subject, seed)?)));
    match checked {
        Ok((found, forward)) => {
            let (worst, share) = if dtype == DType::F64 { (found, 0.0) } else { (0.0, found) };
            Ok(GraphReport { worst, share, forward, redrawn, ..describe(&subject, seed) })
        }
        Err(failure) => Err(Box::new(shrink::smaller(subject, seed, passes, failure))),
    }
}

fn describe(subject: &Subject, seed: u64) -> GraphReport {
    let live = subject.graph.with(simplify::dead_code);
    let op = |source: &Source| if let Source::Apply(op, _) = source { Some(op.name()) } else { None };
    GraphReport {
        seed,
        nodes: live.nodes.len(),
        ops: live.nodes.iter().filter_map(|node| op(&node.source)).collect(),
        learns: live.outputs.iter().any(|(name, _)| name == "loss"),
        worst: 0.0,
        share: 0.0,
        forward: None,
        redrawn: 0,
    }
}

/// Names and nodes of all that a run leaves behind: outputs, guarded values, and new values of the state.
pub(crate) fn results(graph: &Graph) -> (Vec<String>, Vec<NodeId>) {
    graph.with(results_of)
}

pub(crate) fn results_of(g: &Inner) -> (Vec<String>, Vec<NodeId>) {
    let outputs = g.outputs.iter().map(|(name, id)| (name.clone(), *id));
    let guards = g.guards.iter().map(|(name, id)| (format!("guard {name}"), *id));
    let updates = g.updates.iter().map(|(entry, id)| (format!("state {}", g.entries[*entry].name), *id));
    outputs.chain(guards).chain(updates).unzip()
}

/// The gradients of a graph in f64, in one direction of all parameters, against the loss's derivative found forwards.
fn gradients(subject: &Subject, seed: u64) -> Result<Option<f64>, Failure> {
    let graph = &subject.graph;
    let outputs = graph.with(|g| g.outputs.clone());
    let find = |name: &str| outputs.iter().find(|(n, _)| n == name).map(|(_, id)| graph.var(*id));
    let (Some(loss), DType::F64) = (find("loss"), subject.dtype) else { return Ok(None) };
    let names: Vec<&str> = outputs.iter().filter_map(|(name, _)| name.strip_prefix("d_")).collect();
    let gradients: Vec<Var<'_>> = names.iter().filter_map(|name| find(&format!("d_{name}"))).collect();
    let failed = |e: String| Failure::new(Check::Forward, "loss", e);
    let values = evaluate(graph, &gradients, &subject.feeds[0]).map_err(|e| failed(e.to_string()))?;
    let mut worst = 0.0f64;
    for (name, gradient) in names.iter().zip(&values) {
        let direction = Draw::new(seed, name).direction(gradient.values.len());
        let Some(slope) = forwards(graph, loss, &subject.feeds[0], name, &direction)? else { return Ok(None) };
        let c = Comparison::new(dot(&gradient.values, &direction), slope);
        if !c.within(tangent::TOLERANCE) {
            let Comparison { analytic, numeric, error } = c;
            return Err(failed(format!("d_{name}: gradient {analytic:e}, forwards {numeric:e}, error {error:.1e}")));
        }
        worst = worst.max(c.error);
    }
    Ok(Some(worst))
}
