//! Gradients of any graph in a random direction, against central differences and against derivatives found forwards.

use geartrain_kernels::isa::Isa;

use crate::check::compiled::Compiled;
use crate::check::derivative::all_f64;
use crate::check::difference::{self, Comparison, compare, dot};
use crate::check::interpret::{Feed, evaluate};
use crate::check::sample::Draw;
use crate::check::tangent::{self, TangentError, tangents};
use crate::check::{Check, Failure};
use crate::ir::graph::{Graph, Var};
use crate::ir::op::Array;
use crate::run::program::Options;

/// The derivative with respect to one value, in one random direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Direction {
    /// The value's name.
    pub name: String,
    /// Its gradient along the direction, by the interpreter.
    pub analytic: f64,
    /// Central difference of the loss.
    pub numeric: f64,
    /// |a − n| / (1 + max(|a|, |n|)).
    pub error: f64,
    /// The same error against the derivative found forwards; `None` where there is no such derivative, as on a bend.
    pub forward: Option<f64>,
    /// The same error of the compiled program's gradient; `None` where the graph computes in f32.
    pub compiled: Option<f64>,
}

/// What [`gradcheck`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The seed of the directions.
    pub seed: u64,
    /// The loss where the derivatives were taken.
    pub loss: f64,
    /// One line for each value.
    pub directions: Vec<Direction>,
    /// What did not hold.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Whether every derivative agrees.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// The largest error.
    pub fn worst(&self) -> f64 {
        self.directions
            .iter()
            .fold(0.0, |m, d| m.max(d.error).max(d.forward.unwrap_or(0.0)).max(d.compiled.unwrap_or(0.0)))
    }
}

/// Checks the gradient of `loss` with respect to each of `wrt` (inputs or state entries), where `feed` holds the
/// values of all inputs and entries that it needs. Adds the gradient's nodes and outputs `gradcheck.…` to the graph.
///
/// # Errors
/// A gradient that does not exist; a value that `feed` lacks; a graph that does not compile.
pub fn gradcheck<'g>(
    graph: &'g Graph,
    loss: Var<'g>,
    wrt: &[Var<'g>],
    feed: &Feed,
    seed: u64,
) -> Result<Report, Failure> {
    let gradients = graph.grad(loss, wrt).map_err(|e| Failure::new(Check::First, "loss", e.to_string()))?;
    gradcheck_given(graph, loss, wrt, &gradients, feed, seed)
}

/// As [`gradcheck`], for gradients that were made already.
///
/// # Errors
/// As [`gradcheck`].
pub fn gradcheck_given<'g>(
    graph: &'g Graph,
    loss: Var<'g>,
    wrt: &[Var<'g>],
    gradients: &[Var<'g>],
    feed: &Feed,
    seed: u64,
) -> Result<Report, Failure> {
    let fail = |e: crate::check::interpret::InterpretError| Failure::new(Check::First, "loss", e.to_string());
    let value = |feed: &Feed| evaluate(graph, &[loss], feed).map(|v| v[0].values[0]).map_err(fail);
    let at = evaluate(graph, gradients, feed).map_err(fail)?;
    let mut report = Report { seed, loss: value(feed)?, directions: Vec::new(), failures: Vec::new() };
    let mut along = Vec::new();
    for (i, (x, gradient)) in wrt.iter().zip(&at).enumerate() {
        let name = fed_name(graph, *x)?;
        let direction = Draw::new(seed, &name).direction(x.shape().count());
        let analytic = dot(&gradient.values, &direction);
        let c = compare(analytic, |h| value(&feed.moved(&name, h, &direction)))?;
        note(&mut report, Check::First, &name, c);
        graph.output(&format!("gradcheck.{i}"), gradients[i]);
        let forward = forwards(graph, loss, feed, &name, &direction)?.map(|slope| Comparison::new(analytic, slope));
        if let Some(f) = forward {
            note(&mut report, Check::Forward, &name, f);
        }
        let (Comparison { analytic, numeric, error }, forward) = (c, forward.map(|f| f.error));
        report.directions.push(Direction { name, analytic, numeric, error, forward, compiled: None });
        along.push(direction);
    }
    if all_f64(graph) {
        let options = Options { threads: 1, isa: Isa::best() };
        let mut program = Compiled::new(graph, options, Check::Compiled, "loss")?;
        program.run(feed)?;
        for (i, direction) in along.iter().enumerate() {
            let gradient = program.output(&format!("gradcheck.{i}"))?.to_f64();
            let c = Comparison::new(dot(&gradient, direction), report.directions[i].numeric);
            report.directions[i].compiled = Some(c.error);
            let name = report.directions[i].name.clone();
            note(&mut report, Check::Compiled, &name, c);
        }
    }
    Ok(report)
}

/// The derivative of the loss along `direction` of `name`, found forwards; `None` where there is none.
pub(crate) fn forwards(
    graph: &Graph,
    loss: Var<'_>,
    feed: &Feed,
    name: &str,
    direction: &[f64],
) -> Result<Option<f64>, Failure> {
    let Some(at) = feed.get(name) else { return Ok(None) };
    let mut moving = Feed::new();
    moving.set(name, Array { shape: at.shape, values: direction.to_vec() });
    match graph.with(|g| tangents(g, &[loss.id()], feed, &moving)) {
        Ok(found) => Ok(found.first().and_then(|(_, slope)| slope.values.first().copied())),
        Err(TangentError::NoRule(_)) => Ok(None),
        Err(e) => Err(Failure::new(Check::Forward, name, e.to_string())),
    }
}

fn note(report: &mut Report, check: Check, name: &str, c: Comparison) {
    let (tolerance, other) = match check {
        Check::Forward => (tangent::TOLERANCE, "forwards"),
        _ => (difference::TOLERANCE, "difference"),
    };
    if !c.within(tolerance) {
        let Comparison { analytic, numeric, error } = c;
        let seed = report.seed;
        let what = format!("gradient {analytic:e}, {other} {numeric:e}, error {error:.1e} (seed {seed})");
        report.failures.push(Failure::new(check, name, what));
    }
}

/// The name under which a value is fed: that of its input or entry.
fn fed_name(graph: &Graph, x: Var<'_>) -> Result<String, Failure> {
    use crate::ir::graph::Source;
    let name = (!x.is_poison()).then(|| graph.node(x.id()).source).and_then(|source| match source {
        Source::Input(i) => Some(graph.with(|g| g.inputs[i].name.clone())),
        Source::State(i) => Some(graph.with(|g| g.entries[i].name.clone())),
        _ => None,
    });
    name.ok_or_else(|| Failure::new(Check::First, format!("{x:?}"), "is neither an input nor an entry of the state"))
}
