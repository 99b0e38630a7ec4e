//! Derivatives of one operation, and derivatives of its derivatives, against central differences in random directions.
//!
//! With y = op(x...) and random ct and v: the vjp gives cotangents c of x, and Σ c·v must be the derivative of
//! Σ ct·y along v. For the second order c itself is the function: with random u, Σ c·u is differentiated along
//! directions of x and of ct.

use crate::check::compiled::Compiled;
use crate::check::difference::{Comparison, compare, dot};
use crate::check::interpret::{Feed, InterpretError, evaluate};
use crate::check::sample::{self, Draw};
use crate::check::{Check, Failure};
use crate::ir::graph::{Graph, Source, Var};
use crate::ir::op::{Array, Case, Cotangent, Vjp};
use crate::ir::types::DType;
use crate::run::program::Options;
use geartrain_kernels::isa::Isa;

/// Largest errors, as [`Comparison::error`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    /// Of first derivatives.
    pub first: f64,
    /// Of second derivatives.
    pub second: f64,
    /// Of both, as the compiled program gives them.
    pub compiled: f64,
}

/// One operation in a graph, with its cotangents.
pub(crate) struct Rig<'g> {
    pub(crate) graph: &'g Graph,
    pub(crate) x: Vec<Var<'g>>,
    pub(crate) y: Var<'g>,
    pub(crate) ct: Var<'g>,
    pub(crate) cotangents: Vec<Cotangent<'g>>,
    /// Values of the inputs `x0`, `x1`, ... and of `ct`.
    pub(crate) feed: Feed,
}

/// Builds y = op(x...) in f64 and the cotangents of all float inputs.
pub(crate) fn rig<'g>(graph: &'g Graph, case: &Case, seed: u64, on: &str) -> Result<Rig<'g>, Failure> {
    let types = |what: String| Failure::new(Check::Types, on, what);
    let x = sample::declare(graph, case, DType::F64);
    let y = graph.apply_shared(case.op.clone(), &x);
    graph.check().map_err(|e| types(e.to_string()))?;
    let ct_type = if y.dtype().is_float() { y.dtype() } else { DType::F64 };
    let ct = graph.input("ct", ct_type, y.shape());
    let wanted: Vec<bool> = x.iter().map(|x| x.dtype().is_float()).collect();
    // Without a float output there is nothing to hand a cotangent to: the rule must not look at it.
    let cotangents = case.op.vjp(&Vjp { x: &x, y, ct, wanted: &wanted });
    graph.check().map_err(|e| types(format!("the vjp: {e}")))?;
    if cotangents.len() != x.len() {
        return Err(types(format!("the vjp gives {} cotangents for {} inputs", cotangents.len(), x.len())));
    }
    for i in (0..x.len()).filter(|i| wanted[*i]) {
        match cotangents[i] {
            Cotangent::Flows(None) => return Err(types(format!("the vjp left out the cotangent of input {i}"))),
            Cotangent::Flows(Some(c)) if c.ty() != x[i].ty() => {
                return Err(types(format!("the cotangent of input {i} is {}, not {}", c.ty(), x[i].ty())));
            }
            _ => {}
        }
    }
    let mut feed = Feed::new();
    for (i, value) in sample::inputs(case, DType::F64, seed).into_iter().enumerate() {
        feed.set(&format!("x{i}"), value);
    }
    feed.set("ct", Draw::new(seed, "ct").array(y.shape()));
    Ok(Rig { graph, x, y, ct, cotangents, feed })
}

/// All derivative checks of one case.
pub fn check_derivatives(case: &Case, seed: u64, failures: &mut Vec<Failure>) -> Errors {
    let on = sample::describe(case);
    let graph = Graph::new();
    let mut errors = Errors::default();
    match rig(&graph, case, seed, &on) {
        Err(failure) => failures.push(failure),
        Ok(rig) => {
            if let Err(failure) = (Orders { rig, on, seed, errors: &mut errors, failures }).check(case) {
                failures.push(failure);
            }
        }
    }
    errors
}

/// A value that is differentiated: Σ over pairs of value · weight.
type Function<'g> = Vec<(Var<'g>, Array)>;

/// A derivative that was found by differences, to be found again in the compiled program.
struct Found {
    /// Name of the program's output that holds the gradient.
    output: String,
    what: String,
    direction: Vec<f64>,
    numeric: f64,
}

struct Orders<'a, 'g> {
    rig: Rig<'g>,
    on: String,
    seed: u64,
    errors: &'a mut Errors,
    failures: &'a mut Vec<Failure>,
}

impl<'g> Orders<'_, 'g> {
    fn check(mut self, case: &Case) -> Result<(), Failure> {
        let (graph, name) = (self.rig.graph, case.op.name());
        let value: Function<'g> = vec![(self.rig.y, self.value("ct"))];
        let (mut found, mut flows, mut wrt) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..self.rig.x.len() {
            let x = self.rig.x[i];
            match self.rig.cotangents[i] {
                _ if !x.dtype().is_float() => {}
                Cotangent::Stops(_) => self.stops(name, i),
                Cotangent::Held => self.held(i)?,
                Cotangent::Zero => self.zero(&value, i)?,
                Cotangent::Flows(c) => {
                    let Some(c) = c else { continue };
                    flows.push((i, c));
                    wrt.push((format!("x{i}"), x));
                    found.extend(self.direction(Check::First, &value, c, &format!("x{i}"), &format!("d_x{i}"))?);
                }
            }
        }
        if flows.is_empty() {
            return Ok(());
        }
        wrt.push(("ct".to_string(), self.rig.ct));
        // The second order: differentiate Σ c·u. Each of wrt takes part with a factor 0, so that one that c does not
        // depend on has the gradient 0 instead of none.
        let zero = |v: Var<'g>| (v * 0.0).sum_all();
        let anchors = wrt.iter().map(|(_, v)| zero(*v).cast(DType::F64)).reduce(|a, b| a + b);
        let (mut terms, mut slope) = (Vec::new(), Vec::new());
        for (i, c) in &flows {
            let u = format!("u{i}");
            let values = Draw::new(self.seed, &u).array(c.shape());
            terms.push((*c * graph.input(&u, c.dtype(), c.shape())).sum_all().cast(DType::F64));
            self.rig.feed.set(&u, values.clone());
            slope.push((*c, values));
        }
        let Some(loss) = terms.into_iter().chain(anchors).reduce(|a, b| a + b) else { return Ok(()) };
        let vars: Vec<Var<'g>> = wrt.iter().map(|(_, v)| *v).collect();
        let gradients = graph.grad(loss, &vars).map_err(|e| self.failure(Check::Second, e.to_string()))?;
        for ((name, _), gradient) in wrt.iter().zip(gradients) {
            found.extend(self.direction(Check::Second, &slope, gradient, name, &format!("dd_{name}"))?);
        }
        self.compiled(&found)
    }

    /// One derivative: `gradient` is that of `function` with respect to `name`.
    fn direction(
        &mut self,
        check: Check,
        function: &Function<'g>,
        gradient: Var<'g>,
        name: &str,
        output: &str,
    ) -> Result<Option<Found>, Failure> {
        let direction = Draw::new(self.seed, output).direction(gradient.shape().count());
        let analytic = dot(&self.evaluate(check, &[gradient], &self.rig.feed)?[0].values, &direction);
        let c = compare(analytic, |h| self.moved(check, function, name, h, &direction))?;
        let largest = if check == Check::First { &mut self.errors.first } else { &mut self.errors.second };
        *largest = largest.max(c.error);
        let what = format!("with respect to {name}");
        self.rig.graph.output(output, gradient);
        if c.holds() {
            return Ok(Some(Found { output: output.to_string(), what, direction, numeric: c.numeric }));
        }
        self.disagree(check, &what, c);
        Ok(None)
    }

    /// Declared Zero: the value must not move at all.
    fn zero(&mut self, function: &Function<'g>, i: usize) -> Result<(), Failure> {
        // A host scalar stands on the very values where it may jump: a step's number, say.
        if self.rig.x[i].dtype() == DType::F64
            && self.rig.x[i].shape().rank() == 0
            && is_whole(&self.value(&format!("x{i}")))
        {
            return Ok(());
        }
        let name = format!("x{i}");
        let direction = Draw::new(self.seed, &name).direction(self.rig.x[i].shape().count());
        let c = compare(0.0, |h| self.moved(Check::Zero, function, &name, h, &direction))?;
        if c.numeric != 0.0 {
            self.disagree(Check::Zero, &format!("with respect to {name}, which is declared Zero"), c);
        }
        Ok(())
    }

    /// Declared Stops: asking for the gradient must fail and name the operation.
    fn stops(&mut self, name: &str, i: usize) {
        let loss = (self.rig.y * 1.0).sum_all();
        match self.rig.graph.grad(loss, &[self.rig.x[i]]) {
            Ok(_) => self.push(Check::Stops, format!("input {i} is declared Stops, but grad gives a gradient")),
            Err(e) if !e.errors().iter().any(|e| e.op == name) => {
                self.push(Check::Stops, format!("grad stops at input {i}, but does not name the operation: {e}"));
            }
            Err(_) => {}
        }
    }

    /// Declared Held: only an operation that gives its input back may hold a gradient, others have a derivative. None
    /// reaches the input then, so asking for it alone must fail.
    fn held(&mut self, i: usize) -> Result<(), Failure> {
        let values = self.evaluate(Check::Stops, &[self.rig.x[i], self.rig.y], &self.rig.feed)?;
        if values[0] != values[1] {
            self.push(Check::Stops, format!("input {i} is declared Held, but the output is not that input"));
        }
        if self.rig.graph.grad((self.rig.y * 1.0).sum_all(), &[self.rig.x[i]]).is_ok() {
            self.push(Check::Stops, format!("input {i} is declared Held, but grad gives a gradient"));
        }
        Ok(())
    }

    /// The same gradients from the compiled program.
    fn compiled(&mut self, found: &[Found]) -> Result<(), Failure> {
        // Where something is computed in f32 the program is right, but not to six digits of a difference.
        if !all_f64(self.rig.graph) {
            return Ok(());
        }
        let options = Options { threads: 1, isa: Isa::best() };
        let mut program = Compiled::new(self.rig.graph, options, Check::Compiled, &self.on)?;
        program.run(&self.rig.feed)?;
        for f in found {
            let gradient = program.output(&f.output)?.to_f64();
            let c = Comparison::new(dot(&gradient, &f.direction), f.numeric);
            self.errors.compiled = self.errors.compiled.max(c.error);
            if !c.holds() {
                self.disagree(Check::Compiled, &format!("{} ({})", f.what, f.output), c);
            }
        }
        Ok(())
    }

    fn moved(&self, check: Check, f: &Function<'g>, name: &str, h: f64, direction: &[f64]) -> Result<f64, Failure> {
        let vars: Vec<Var<'g>> = f.iter().map(|(v, _)| *v).collect();
        let values = self.evaluate(check, &vars, &self.rig.feed.moved(name, h, direction))?;
        Ok(values.iter().zip(f).map(|(value, (_, weight))| dot(&value.values, &weight.values)).sum())
    }

    fn evaluate(&self, check: Check, vars: &[Var<'g>], feed: &Feed) -> Result<Vec<Array>, Failure> {
        evaluate(self.rig.graph, vars, feed).map_err(|e: InterpretError| self.failure(check, e.to_string()))
    }

    fn value(&self, name: &str) -> Array {
        self.rig.feed.get(name).cloned().unwrap_or(Array { shape: [0].into(), values: Vec::new() })
    }

    fn disagree(&mut self, check: Check, what: &str, c: Comparison) {
        let Comparison { analytic, numeric, error } = c;
        self.push(check, format!("{what}: gradient {analytic:e}, difference {numeric:e}, error {error:.1e}"));
    }

    fn push(&mut self, check: Check, what: String) {
        let failure = self.failure(check, what);
        self.failures.push(failure);
    }

    fn failure(&self, check: Check, what: String) -> Failure {
        Failure::new(check, &self.on, format!("{what} (seed {})", self.seed))
    }
}

fn is_whole(array: &Array) -> bool {
    array.values.iter().all(|x| x.fract() == 0.0)
}

/// Whether a graph computes in f64 alone.
pub(crate) fn all_f64(graph: &Graph) -> bool {
    graph.with(|g| {
        let f32s =
            |node: &crate::ir::graph::Node| node.ty.dtype == DType::F32 && !matches!(node.source, Source::Constant(_));
        !g.nodes.iter().any(f32s)
    })
}
