//! A random graph with the numbers it runs on, drawn from a seed.
//!
//! Operations come from the registry with the attributes of their own cases, so a new operation takes part without a
//! line here. Values are computed by the references while the graph grows: what leaves the domain of an operation is
//! squashed into it, and what grows too large is squashed by tanh, so that numbers stay comparable to ten digits.

use crate::check::graphs::Subject;
use crate::check::graphs::tame::{Range, is_tame};
use crate::check::interpret::{Feed, apply, given};
use crate::check::sample::{Draw, dtype_of};
use crate::ir::graph::{Graph, Source, Var};
use crate::ir::op::{Array, Case, Domain, Kind, Op};
use crate::ir::types::{DType, Shape, Tensor, Type};
use crate::ops::OPS;
use crate::state::{Entry, Init};

/// Lengths of axes: one, small ones, and some around the sizes of vectors.
const LENGTHS: [usize; 9] = [1, 2, 3, 5, 8, 17, 33, 4, 16];
/// Most elements of a value that goes on growing.
const LARGEST: usize = 2048;
/// Most elements of all inputs of a case that is taken as it is.
const LARGEST_CASE: usize = 800;
/// Beyond this size a value is squashed.
const TAME: f64 = 6.0;

/// Draws a graph; `None` where its numbers are too wild to compare, so that another one should be drawn.
pub(super) fn draw(seed: u64, attempt: u64, dtype: DType) -> Option<Subject> {
    let graph = Graph::new();
    let (feeds, ranges) = {
        let draw = Draw::new(seed, &format!("graph.{attempt}"));
        let mut artist = Artist {
            graph: &graph,
            draw,
            dtype,
            lengths: Vec::new(),
            pool: Vec::new(),
            feeds: Default::default(),
            values: Vec::new(),
            ranges: Vec::new(),
        };
        let drawn = artist.draw();
        // A graph with errors is no bad luck: the checks report them.
        if drawn.is_none() && artist.graph.check().is_ok() {
            return None;
        }
        (artist.feeds, artist.ranges)
    };
    let subject = Subject { graph, feeds, dtype };
    (subject.graph.check().is_err() || is_tame(&subject, &ranges, seed)).then_some(subject)
}

struct Artist<'g> {
    graph: &'g Graph,
    draw: Draw,
    dtype: DType,
    lengths: Vec<usize>,
    /// Floats of the graph's dtype to build on.
    pool: Vec<Var<'g>>,
    feeds: [Feed; 2],
    /// Of each node, on both feeds.
    values: Vec<[Array; 2]>,
    /// What operations want of their inputs.
    ranges: Vec<Range>,
}

impl<'g> Artist<'g> {
    fn chance(&mut self, percent: usize) -> bool {
        self.draw.below(100) < percent
    }

    fn draw(&mut self) -> Option<()> {
        for _ in 0..3 {
            let length = if self.chance(2) { 0 } else { LENGTHS[self.draw.below(LENGTHS.len())] };
            self.lengths.push(length);
        }
        for _ in 0..2 + self.draw.below(3) {
            let shape = self.shape();
            let leaf = self.fresh(shape, &Domain::Between(-2.0, 2.0));
            self.pool.push(leaf);
        }
        self.catch_up()?;
        for _ in 0..5 + self.draw.below(26) {
            let Some(value) = self.step() else { continue };
            self.catch_up()?;
            if let Some(value) = self.usable(value) {
                self.catch_up()?;
                self.pool.push(value);
            }
        }
        self.finish()
    }

    fn shape(&mut self) -> Shape {
        let rank = [0, 1, 2, 2, 2, 3][self.draw.below(6)];
        let dims: Vec<usize> = (0..rank).map(|_| self.lengths[self.draw.below(3)]).collect();
        Shape::checked(&dims).filter(|s| s.count() <= LARGEST).unwrap_or(Shape::SCALAR)
    }

    /// Computes the nodes that are new.
    fn catch_up(&mut self) -> Option<()> {
        let (known, feeds) = (&mut self.values, &self.feeds);
        self.graph.with(|g| {
            for node in &g.nodes[known.len()..] {
                let on = |turn: usize| match &node.source {
                    Source::Input(k) => given(&g.inputs[*k].name, node.ty, &feeds[turn]).ok(),
                    Source::State(k) => given(&g.entries[*k].name, node.ty, &feeds[turn]).ok(),
                    Source::Constant(t) => Some(Array { shape: t.shape(), values: t.to_f64() }),
                    Source::Apply(op, x) => {
                        let x: Vec<Array> = x.iter().map(|x| known[x.index()][turn].clone()).collect();
                        apply(op, &x, node.ty.shape).ok()
                    }
                };
                let both = [on(0)?, on(1)?];
                known.push(both);
            }
            Some(())
        })
    }

    fn all(&self, x: Var<'g>, holds: impl Fn(f64) -> bool) -> bool {
        self.values[x.id().index()].iter().all(|array| array.values.iter().all(|v| holds(*v)))
    }

    /// A result as something to build on.
    fn usable(&mut self, x: Var<'g>) -> Option<Var<'g>> {
        if x.is_poison() || x.shape().count() > LARGEST || (self.dtype == DType::F64 && x.dtype() == DType::F32) {
            return None;
        }
        if !self.all(x, f64::is_finite) {
            return None;
        }
        let x = x.cast(self.dtype);
        self.catch_up()?;
        Some(if self.all(x, |v| v.abs() <= TAME) { x } else { x.tanh() })
    }

    /// A new input or parameter with numbers of its own.
    fn fresh(&mut self, shape: Shape, domain: &Domain) -> Var<'g> {
        let dtype = dtype_of(domain, self.dtype);
        let n = self.graph.with(|g| g.nodes.len());
        let learned = dtype == self.dtype && matches!(domain, Domain::Between(..)) && self.chance(45);
        let name = format!("{}{n}", if learned { "w" } else { "x" });
        let mut first = None;
        for turn in 0..2 {
            let mut values = self.draw.domain(domain, shape.count());
            if dtype == DType::F32 {
                values.iter_mut().for_each(|v| *v = f64::from(*v as f32));
            }
            // Parameters hardly change in a step.
            let values = if learned && turn == 1 { first.take().unwrap_or(values) } else { values };
            first = Some(values.clone());
            self.feeds[turn].set(&name, Array { shape, values });
        }
        match learned {
            true => self.graph.parameter(&name, dtype, shape, Init::ZEROS),
            false => self.graph.input(&name, dtype, shape),
        }
    }

    /// A value to build on, recent ones more often.
    fn pick(&mut self) -> Var<'g> {
        let n = self.pool.len();
        let i = self.draw.below(n).max(if self.chance(50) { self.draw.below(n) } else { 0 });
        self.pool[i]
    }

    /// A value in another shape: broadcast where it fits, else its elements over and over.
    fn fit(&mut self, x: Var<'g>, shape: Shape) -> Var<'g> {
        if crate::ir::types::broadcast(x.shape(), shape) == Some(shape) {
            return x.broadcast_to(shape);
        }
        let (have, want) = (x.shape().count(), shape.count());
        if have == 0 || want > 16 * LARGEST {
            return self.fresh(shape, &Domain::Between(-2.0, 2.0));
        }
        let flat = x.reshape([have]);
        if want <= have {
            let start = self.draw.below(have - want + 1);
            return flat.slice(0, start, want).reshape(shape);
        }
        let times = want.div_ceil(have);
        flat.broadcast_to([times, have]).reshape([times * have]).slice(0, 0, want).reshape(shape)
    }

    /// A value of the pool in a shape and a domain.
    fn operand(&mut self, shape: Shape, domain: &Domain) -> Option<Var<'g>> {
        let (low, high) = match domain {
            Domain::Scalar(_) => return Some(self.fresh(shape, domain)),
            Domain::Index(limit) if *limit >= 2 && self.chance(25) => {
                let (a, b) = (self.pick(), self.pick());
                let (a, b) = (self.fit(a, shape), self.fit(b, shape));
                return Some(a.less(b));
            }
            Domain::Index(_) => return Some(self.fresh(shape, domain)),
            Domain::Away(_) | Domain::Distinct => (-TAME, TAME),
            Domain::Between(low, high) | Domain::Single(low, high) => (*low, *high),
        };
        let dtype = dtype_of(domain, self.dtype);
        let x = self.pick();
        let x = self.fit(x, shape).cast(dtype);
        self.catch_up()?;
        let inside = x.is_poison() || self.all(x, |v| (low..=high).contains(&v));
        let (middle, half) = ((low + high) / 2.0, 0.5 * (high - low));
        let x = if inside { x } else { middle + half * x.tanh() };
        if !x.is_poison() && !matches!(domain, Domain::Away(_) | Domain::Distinct) {
            self.ranges.push((x.id(), low, high));
        }
        Some(x)
    }

    /// Applies a case's operation to values in `shapes`.
    fn apply(&mut self, case: &Case, shapes: &[Shape]) -> Option<Var<'g>> {
        let types: Vec<Type> = case
            .inputs
            .iter()
            .zip(shapes)
            .map(|((_, domain), shape)| Type::new(dtype_of(domain, self.dtype), *shape))
            .collect();
        let y = case.op.infer(&types).ok()?;
        if self.dtype == DType::F64 && types.iter().chain([&y]).any(|t| t.dtype == DType::F32) {
            return None;
        }
        let mut x = Vec::new();
        for ((_, domain), shape) in case.inputs.iter().zip(shapes) {
            x.push(self.operand(*shape, domain)?);
        }
        Some(self.graph.apply_shared(case.op.clone(), &x))
    }

    fn step(&mut self) -> Option<Var<'g>> {
        match self.draw.below(100) {
            0..38 => self.elementwise(),
            38..58 => self.of_registry(),
            58..64 => self.again(),
            64..68 => self.neutral(),
            68..71 => Some(self.recurrence()),
            71..74 => self.folded(),
            _ => self.structure(),
        }
    }

    /// An elementwise operation on values of one shape of the graph.
    fn elementwise(&mut self) -> Option<Var<'g>> {
        let case = self.case(|op| op.kind() == Kind::Elementwise, |_| true)?;
        let shape = self.pick().shape();
        let shapes = vec![shape; case.inputs.len()];
        self.apply(&case, &shapes)
    }

    /// Any other operation, at the shapes of one of its cases.
    fn of_registry(&mut self) -> Option<Var<'g>> {
        let size = |case: &Case| case.inputs.iter().map(|(shape, _)| shape.count()).sum::<usize>();
        let small = |case: &Case| case.inputs.is_empty() || (1..=LARGEST_CASE).contains(&size(case));
        let case = self.case(|op| op.kind() != Kind::Elementwise, small)?;
        let shapes: Vec<Shape> = case.inputs.iter().map(|(shape, _)| *shape).collect();
        self.apply(&case, &shapes)
    }

    /// A case of an operation of the registry.
    fn case(&mut self, wanted: impl Fn(&dyn Op) -> bool, fits: impl Fn(&Case) -> bool) -> Option<Case> {
        let ops: Vec<&&dyn Op> = OPS.iter().filter(|op| wanted(**op)).collect();
        let op = ops.get(self.draw.below(ops.len()))?;
        let mut cases: Vec<Case> = op.cases().into_iter().filter(fits).collect();
        let i = self.draw.below(cases.len());
        (!cases.is_empty()).then(|| cases.swap_remove(i))
    }

    /// The same operation on the same values as before.
    fn again(&mut self) -> Option<Var<'g>> {
        match self.graph.node(self.pick().id()).source {
            Source::Apply(op, x) => {
                let x: Vec<Var<'g>> = x.iter().map(|x| self.graph.var(*x)).collect();
                Some(self.graph.apply_shared(op, &x))
            }
            _ => None,
        }
    }

    /// An operation with its neutral operand.
    fn neutral(&mut self) -> Option<Var<'g>> {
        let case = self.case(|op| !op.neutral().is_empty(), |_| true)?;
        let neutral = case.op.neutral();
        let (position, value) = neutral[self.draw.below(neutral.len())];
        let x = self.pick();
        let one = x.full(value);
        Some(self.graph.apply_shared(case.op, &if position == 0 { [one, x] } else { [x, one] }))
    }

    /// A value times arithmetic on constants.
    fn folded(&mut self) -> Option<Var<'g>> {
        let x = self.pick();
        let values = self.draw.direction(x.shape().count());
        let constant = self.graph.constant(Tensor::from_f64(self.dtype, x.shape(), &values)?);
        let two = x.number(2.0) + x.number(0.25);
        Some(x * (constant * two).tanh() + constant.sum_all())
    }

    /// One weight at three to five steps of a sequence.
    fn recurrence(&mut self) -> Var<'g> {
        let (steps, rows, width) = (3 + self.draw.below(3), 1 + self.draw.below(4), 1 + self.draw.below(9));
        let x = self.pick();
        let x = self.fit(x, [steps, rows, width].into());
        let w = self.fresh([width, width].into(), &Domain::Between(-0.5, 0.5));
        let b = self.fresh([width].into(), &Domain::Between(-0.5, 0.5));
        let mut h = self.fresh([rows, width].into(), &Domain::Between(-1.0, 1.0));
        let mut states = Vec::new();
        for t in 0..steps {
            h = (x.slice(0, t, 1).reshape([rows, width]) + h.matmul(w) + b).tanh();
            states.push(h);
        }
        if self.chance(50) { h } else { self.graph.concat(0, &states) }
    }

    /// Movement, reductions and products at shapes of the graph.
    fn structure(&mut self) -> Option<Var<'g>> {
        let x = self.pick();
        let (shape, rank) = (x.shape(), x.shape().rank());
        let axis = self.draw.below(rank);
        let length = shape.dims().get(axis).copied();
        Some(match self.draw.below(9) {
            0 | 1 if rank >= 2 => {
                let (m, k) = (shape.dims()[rank - 2], shape.dims()[rank - 1]);
                let n = self.lengths[self.draw.below(3)];
                let other = self.pick();
                match self.draw.below(3) {
                    0 => x.matmul(self.fit(other, shape.with(rank - 2, k).with(rank - 1, n))),
                    1 => x.t().matmul(self.fit(other, shape.with(rank - 1, n))),
                    _ => self.fit(other, shape.with(rank - 2, n).with(rank - 1, m)).matmul(x),
                }
            }
            2 if rank >= 1 => x.sum(axis),
            3 if length? >= 1 => {
                if self.chance(50) {
                    x.max(axis)
                } else {
                    x.sum(axis) * (1.0 / length? as f64)
                }
            }
            4 if rank >= 2 => {
                let mut order: Vec<usize> = (0..rank).collect();
                for i in (1..rank).rev() {
                    order.swap(i, self.draw.below(i + 1));
                }
                x.transpose(&order)
            }
            5 if length? >= 1 => {
                let len = 1 + self.draw.below(length?);
                let start = self.draw.below(length? - len + 1);
                x.slice(axis, start, len)
            }
            6 if rank >= 1 => {
                let parts = 1 + self.draw.below(3);
                let mut all = vec![x];
                for _ in 0..parts {
                    let (other, len) = (self.pick(), 1 + self.draw.below(4));
                    all.push(self.fit(other, shape.with(axis, len)));
                }
                self.graph.concat(axis, &all)
            }
            7 if *shape.dims().first()? >= 1 => {
                let limit = shape.dims()[0] as u32;
                let n = 1 + self.draw.below(6);
                x.gather(self.fresh([n].into(), &Domain::Index(limit)))
            }
            _ => {
                let other = self.pick();
                let row = self.fit(other, Shape::checked(&shape.dims()[rank.saturating_sub(1)..])?);
                if self.chance(50) { x + row } else { row * x }
            }
        })
    }

    /// Outputs, and either a loss with gradients and updates by them, or updates by other values.
    fn finish(&mut self) -> Option<()> {
        let outputs = 1 + self.draw.below(4);
        for i in 0..outputs {
            let y = if i == 0 { *self.pool.last()? } else { self.pick() };
            self.graph.output(&format!("y{i}"), y);
        }
        let parameters: Vec<Var<'g>> = self.graph.parameters().into_iter().map(|(p, _)| p).collect();
        let learned = !parameters.is_empty() && self.chance(80) && self.learn(&parameters)?;
        if !learned {
            for (i, p) in parameters.iter().enumerate() {
                let (other, fresh) = (parameters[self.draw.below(parameters.len())], self.pick());
                let (other, fresh) = (self.fit(other, p.shape()), self.fit(fresh, p.shape()));
                if i == 0 || self.chance(60) {
                    self.graph.assign(*p, (0.5 * other + fresh).tanh());
                }
            }
        }
        self.catch_up()
    }

    /// A loss of some values and all parameters; false where an operation on the way has no derivative.
    fn learn(&mut self, parameters: &[Var<'g>]) -> Option<bool> {
        let mut loss = self.graph.number(self.dtype, 0.0);
        for _ in 0..1 + self.draw.below(3) {
            let y = self.pick();
            let scale = 1.0 / y.shape().count().max(1) as f64;
            loss = loss + scale * if self.chance(50) { (y * y).sum_all() } else { y.sum_all() };
        }
        // Every parameter takes part.
        for p in parameters {
            loss = loss + 0.01 * (*p * *p).sum_all();
        }
        let loss = loss.named("loss");
        let Ok(gradients) = self.graph.grad(loss, parameters) else { return Some(false) };
        self.catch_up()?;
        self.graph.output("loss", loss);
        if self.chance(50) {
            self.graph.guard("loss", loss);
        }
        for (p, gradient) in parameters.iter().zip(gradients) {
            let name = self.graph.node(p.id()).name?;
            // Not all gradients are kept: most only serve the update.
            self.graph.output(&format!("d_{name}"), gradient);
            self.update(*p, gradient, parameters);
        }
        Some(true)
    }

    fn update(&mut self, p: Var<'g>, gradient: Var<'g>, parameters: &[Var<'g>]) {
        self.graph.update(|| match self.draw.below(4) {
            0 => self.graph.assign(p, p - 0.05 * gradient),
            1 => {
                let lr = self.fresh(Shape::SCALAR, &Domain::Scalar(0.03));
                self.graph.assign(p, p.sgd(gradient, lr));
            }
            2 => {
                let entry = self.graph.with(|g| match g.nodes[p.id().index()].source {
                    Source::State(k) => Some(g.entries[k].clone()),
                    _ => None,
                });
                let Some(entry) = entry else { return };
                let moment = Entry::moment(&entry, 0, "m");
                for feed in &mut self.feeds {
                    feed.set(&moment.name, Array { shape: p.shape(), values: vec![0.125; p.shape().count()] });
                }
                let m = self.graph.entry(moment);
                let next = m.momentum(gradient, 0.75);
                self.graph.assign(m, next);
                self.graph.assign(p, p - 0.02 * next);
            }
            // Reads another parameter, which has to be its old value.
            _ => {
                let other = parameters[self.draw.below(parameters.len())];
                let other = self.fit(other, p.shape());
                self.graph.assign(p, p - 0.05 * gradient + 0.01 * other);
            }
        });
    }
}
