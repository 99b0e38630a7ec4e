//! The programs of one graph against the interpreter and against each other.

use geartrain_kernels::isa::Isa;

use crate::check::agree::{different_bits, roundoff, worst};
use crate::check::compiled::Compiled;
use crate::check::definition::distance;
use crate::check::graphs::{Subject, results, results_of};
use crate::check::interpret::{Feed, apply, evaluate_nodes, given};
use crate::check::step::{TOLERANCE, array};
use crate::check::{Check, Failure};
use crate::compile::{self, Pass, simplify};
use crate::ir::graph::{Graph, NodeId, Source};
use crate::ir::op::Array;
use crate::ir::types::{DType, Tensor};
use crate::run::program::Options;

/// The only pass that may change bits: it adds in another order.
const REORDERS: &str = "sums over time";

/// All checks of one graph; gives the largest difference.
pub(super) fn check(subject: &Subject, seed: u64, passes: &[Pass]) -> Result<f64, Failure> {
    subject.graph.check().map_err(|e| Failure::new(Check::Types, "graph", e.to_string()))?;
    if subject.dtype == DType::F64 {
        stages(subject, passes)?;
    }
    // Of two workers or one, both ways round.
    let threads = [1 + (seed % 2) as usize, 2 - (seed % 2) as usize];
    let plain = run(subject, &[], options(threads[0], Isa::best()))?;
    let optimised = run(subject, passes, options(threads[1], Isa::best()))?;
    let portable = run(subject, passes, options(threads[0], Isa::Portable))?;
    same_bits(&optimised, &portable, "two instruction sets")?;
    let keeping: Vec<Pass> = passes.iter().filter(|pass| pass.name != REORDERS).copied().collect();
    same_bits(&plain, &run(subject, &keeping, options(threads[1], Isa::Portable))?, "no pass and all that keep bits")?;
    match subject.dtype {
        DType::F64 => Ok(against_interpreter(subject, &plain, "without passes")?.max(against_interpreter(
            subject,
            &optimised,
            "with all passes",
        )?)),
        _ => node_by_node(subject, &plain),
    }
}

fn options(threads: usize, isa: Isa) -> Options {
    Options { threads, isa }
}

/// The graph after each pass, interpreted. In f32 a folded constant is rounded as the interpreter's is not; there the bits
/// of programs are compared instead.
fn stages(subject: &Subject, passes: &[Pass]) -> Result<(), Failure> {
    let feed = &subject.feeds[0];
    let failed = |e: String| Failure::new(Check::Step, "graph", e);
    let traced = compile::trace(&subject.graph, passes).map_err(|e| failed(e.to_string()))?;
    let (names, ids) = results(&subject.graph);
    let wanted = subject.graph.with(|g| evaluate_nodes(g, &ids, feed)).map_err(|e| failed(e.to_string()))?;
    for (pass, g) in &traced[1..] {
        let (found_names, found_ids) = results_of(g);
        if found_names != names {
            return Err(failed(format!("after `{pass}` the results are other ones: {}", found_names.join(", "))));
        }
        let found = evaluate_nodes(g, &found_ids, feed).map_err(|e| failed(format!("after `{pass}`: {e}")))?;
        for ((name, wanted), found) in names.iter().zip(&wanted).zip(&found) {
            let d = distance(found, wanted);
            if d.is_nan() || d > TOLERANCE {
                return Err(Failure::new(Check::Step, name, format!("differs by {d:.1e} after `{pass}`")));
            }
        }
    }
    Ok(())
}

/// What a program gave in each of two steps, and what each read.
struct Run {
    steps: Vec<(Feed, Vec<(String, Tensor)>)>,
}

/// Two steps; the second reads the state of the first.
fn run(subject: &Subject, passes: &[Pass], options: Options) -> Result<Run, Failure> {
    let mut program = Compiled::with_passes(&subject.graph, options, passes, Check::Step, "program")?;
    let outputs: Vec<String> = subject.graph.with(|g| g.outputs.iter().map(|(name, _)| name.clone()).collect());
    let mut steps = Vec::new();
    for (turn, inputs) in subject.feeds.iter().enumerate() {
        let mut feed = inputs.clone();
        match turn {
            0 => program.run(&feed)?,
            _ => {
                Feed::of_state(program.state()).iter().for_each(|(name, value)| feed.set(name, value.clone()));
                program.step(&feed)?;
            }
        }
        let mut values = Vec::new();
        for name in &outputs {
            values.push((name.clone(), program.output(name)?));
        }
        for entry in program.state().entries() {
            values.extend(program.state().get(&entry.name).map(|value| (format!("state {}", entry.name), value)));
        }
        steps.push((feed, values));
    }
    Ok(Run { steps })
}

fn same_bits(a: &Run, b: &Run, between: &str) -> Result<(), Failure> {
    for (turn, ((_, a), (_, b))) in a.steps.iter().zip(&b.steps).enumerate() {
        for ((name, a), (_, b)) in a.iter().zip(b) {
            if let Some(what) = different_bits(a, b) {
                return Err(Failure::new(Check::Bits, name, format!("{between} differ in step {turn}: {what}")));
            }
        }
    }
    Ok(())
}

/// Outputs and the new state in f64; the largest difference.
fn against_interpreter(subject: &Subject, run: &Run, how: &str) -> Result<f64, Failure> {
    let (names, ids) = results(&subject.graph);
    let mut largest = 0.0f64;
    for (turn, (feed, values)) in run.steps.iter().enumerate() {
        let wanted = subject.graph.with(|g| evaluate_nodes(g, &ids, feed));
        let wanted = wanted.map_err(|e| Failure::new(Check::Step, "graph", e.to_string()))?;
        for (name, found) in values {
            let found = array(found);
            let wanted = match names.iter().position(|n| n == name) {
                Some(i) => wanted[i].clone(),
                // An entry that nobody writes stays what it is.
                None => match name.strip_prefix("state ").and_then(|entry| feed.get(entry)) {
                    Some(kept) => kept.clone(),
                    None => continue,
                },
            };
            let d = distance(&found, &wanted);
            if d.is_nan() || d > TOLERANCE {
                return Err(Failure::new(Check::Step, name, format!("differs by {d:.1e} in step {turn}, {how}")));
            }
            largest = largest.max(d);
        }
    }
    Ok(largest)
}

/// In f32 no bound holds for a whole graph, but each operation has its own: every node is an output, and is compared
/// with its reference on the very numbers that it read. Gives the largest share of a bound.
fn node_by_node(subject: &Subject, plain: &Run) -> Result<f64, Failure> {
    let live = subject.graph.with(simplify::dead_code);
    let watched = super::shrink::graph_of(&live);
    let (name, feed) = (|i: usize| format!("node {i}"), &subject.feeds[0]);
    watch(&watched, &name);
    let mut program = Compiled::with_passes(&watched, options(1, Isa::best()), &[], Check::KernelF32, "program")?;
    program.run(feed)?;
    let watched_run = live.outputs.iter().map(|(name, _)| Ok((name.clone(), program.output(name)?)));
    let watched_run = Run { steps: vec![(feed.clone(), watched_run.collect::<Result<_, Failure>>()?)] };
    same_bits(plain, &watched_run, "a program and one that shows all its values")?;
    watched.with(|g| {
        let mut values: Vec<Array> = Vec::new();
        let mut largest = 0.0f64;
        for (i, node) in g.nodes.iter().enumerate() {
            let failed = |e: String| Failure::new(Check::KernelF32, format!("%{i}"), e);
            let value = match &node.source {
                Source::Input(k) => given(&g.inputs[*k].name, node.ty, feed).map_err(|e| failed(e.to_string()))?,
                Source::State(k) => given(&g.entries[*k].name, node.ty, feed).map_err(|e| failed(e.to_string()))?,
                Source::Constant(tensor) => array(tensor),
                Source::Apply(op, inputs) => {
                    let x: Vec<Array> = inputs.iter().map(|x| values[x.index()].clone()).collect();
                    let found = program.output(&name(i))?;
                    let wanted = apply(op, &x, node.ty.shape).map_err(|e| failed(e.to_string()))?;
                    let types = inputs.iter().map(|x| g.nodes[x.index()].ty.dtype).chain([node.ty.dtype]);
                    let eps = types.map(roundoff).fold(0.0, f64::max);
                    // Numbers below the smallest normal one may vanish, and each of a sum may.
                    let terms = x.iter().map(|x| x.values.len()).max().unwrap_or(0).max(1) as f64;
                    let lost = if eps > 1e-10 { terms * f64::from(f32::MIN_POSITIVE) } else { 0.0 };
                    let mut bound = op.bound(&finite(&x), &wanted, eps);
                    bound.iter_mut().filter(|b| **b > 0.0).for_each(|b| *b += lost);
                    let (share, what) = worst(&found, &wanted, &bound);
                    if let Some(what) = what {
                        return Err(failed(format!("{}: {what}", op.name())));
                    }
                    largest = largest.max(share);
                    array(&found)
                }
            };
            values.push(value);
        }
        Ok(largest)
    })
}

/// Bounds are declared for numbers: an infinity, as behind a mask, counts as a large one.
fn finite(x: &[Array]) -> Vec<Array> {
    let mut x = x.to_vec();
    x.iter_mut().flat_map(|x| &mut x.values).filter(|v| v.is_infinite()).for_each(|v| *v = 1e3f64.copysign(*v));
    x
}

/// Makes every operation's value an output.
fn watch(graph: &Graph, name: &impl Fn(usize) -> String) {
    let computed: Vec<usize> =
        graph.with(|g| (0..g.nodes.len()).filter(|i| matches!(g.nodes[*i].source, Source::Apply(..))).collect());
    computed.into_iter().for_each(|i| graph.output(&name(i), graph.var(NodeId(i as u32))));
}
