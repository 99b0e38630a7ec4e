//! The checks are checked: each planted fault must be caught, and by the check that is there for it.
//!
//! Faults in operations are decorators around sound ones; faults in the compiler are passes that are added to the
//! list, and gradients with a node left out.

use std::sync::Arc;

use geartrain_engine::check::gradcheck::gradcheck_given;
use geartrain_engine::check::operation::check_cases;
use geartrain_engine::check::step::{check_step, check_step_with};
use geartrain_engine::check::{Check, Feed, gradcheck};
use geartrain_engine::compile::{PASSES, Pass};
use geartrain_engine::ir::graph::{Inner, Node, Source};
use geartrain_engine::ir::op::{Attrs, Rearrange};
use geartrain_engine::ir::origin::Role;
use geartrain_engine::ops::layout::{Broadcast, Copy as Identity, Slice as Range};
use geartrain_engine::ops::pad::Pad;
use geartrain_engine::ops::{arith, loss, matmul, scan, scatter, softmax, unary};
use geartrain_engine::{
    Array, Case, Cotangent, CustomFn, DType, Domain, Explain, Expr, Graph, Init, Kernel, Kind, NodeId, Op, Options,
    Routine, Rule, Shape, Slice, SliceMut, Type, Var, Vjp,
};

const SEED: u64 = 7;

type VjpRule = for<'a, 'g> fn(&Vjp<'a, 'g>) -> Vec<Cotangent<'g>>;
type Definition = for<'g> fn(&dyn Op, &[Var<'g>]) -> Option<Var<'g>>;

/// The one item of an operation that is wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Vjp(VjpRule),
    Kernel(fn(&[Type]) -> Kernel),
    Reference(fn(&dyn Op, &[Array], Shape) -> Vec<f64>),
    Expand(Definition),
}

/// An operation with a fault.
#[derive(Clone, Debug)]
struct Faulty {
    op: Arc<dyn Op>,
    fault: Fault,
}

impl Op for Faulty {
    fn name(&self) -> &'static str {
        self.op.name()
    }
    fn kind(&self) -> Kind {
        self.op.kind()
    }
    fn attrs(&self) -> Attrs {
        self.op.attrs()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        self.op.infer(x)
    }
    fn kernel(&self, x: &[Type]) -> Kernel {
        if let Fault::Kernel(kernel) = self.fault { kernel(x) } else { self.op.kernel(x) }
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        if let Fault::Expand(expand) = self.fault { expand(&*self.op, x) } else { self.op.expand(x) }
    }
    fn vjp<'g>(&self, rule: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        if let Fault::Vjp(vjp) = self.fault { vjp(rule) } else { self.op.vjp(rule) }
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        if let Fault::Reference(wrong) = self.fault { wrong(&*self.op, x, y) } else { self.op.reference(x, y) }
    }
    fn bound(&self, x: &[Array], y: &Array, eps: f64) -> Vec<f64> {
        self.op.bound(x, y, eps)
    }
    fn explain(&self) -> Explain {
        self.op.explain()
    }
    fn cases(&self) -> Vec<Case> {
        self.op.cases().into_iter().map(|case| faulty(case, self.fault)).collect()
    }
    fn print(&self, x: &[Expr], types: &[Type]) -> Expr {
        self.op.print(x, types)
    }
}

fn faulty(case: Case, fault: Fault) -> Case {
    Case { op: Arc::new(Faulty { op: case.op, fault }), inputs: case.inputs }
}

/// Plants `fault` in the operation of `cases` and wants it caught by each of `by`; the sound operation must pass.
#[track_caller]
fn caught_in(cases: Vec<Case>, fault: Fault, by: &[Check]) {
    let name = cases[0].op.name();
    let sound = check_cases(name, &cases, SEED);
    assert!(sound.passed(), "{name} fails without a fault: {:?}", sound.failures);
    let cases: Vec<Case> = cases.into_iter().map(|case| faulty(case, fault)).collect();
    let mut found: Vec<Check> = check_cases(name, &cases, SEED).failures.iter().map(|f| f.check).collect();
    found.sort();
    found.dedup();
    for check in by {
        assert!(found.contains(check), "not caught by {check:?}, only by {found:?}");
    }
}

#[track_caller]
fn caught(op: impl Op, fault: Fault, by: &[Check]) {
    caught_in(op.cases(), fault, by);
}

fn one_case(op: impl Op, shapes: &[&[usize]]) -> Vec<Case> {
    let input = |dims: &&[usize]| (Shape::checked(dims).unwrap(), Domain::Between(-1.5, 1.5));
    vec![Case::new(op, shapes.iter().map(input).collect())]
}

// Derivatives.

#[test]
fn wrong_sign_in_a_vjp() {
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct), r.flows(1, || r.ct)]
    }
    caught(arith::Sub, Fault::Vjp(wrong), &[Check::First]);
}

#[test]
fn missing_factor() {
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct), r.flows(1, || r.ct * r.x[0])]
    }
    caught(arith::Mul, Fault::Vjp(wrong), &[Check::First]);
}

#[test]
fn cotangents_of_two_inputs_swapped() {
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct * r.x[0]), r.flows(1, || r.ct * r.x[1])]
    }
    caught(arith::Mul, Fault::Vjp(wrong), &[Check::First]);
}

#[test]
fn missing_broadcast_sum() {
    // The cotangent of the first row only.
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct.slice(0, 0, 1).reshape(r.x[0].shape()))]
    }
    caught_in(one_case(Broadcast([3, 5].into()), &[&[1, 5]]), Fault::Vjp(wrong), &[Check::First]);
}

#[test]
fn sum_over_the_wrong_axis() {
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct.sum(1).reshape(r.x[0].shape()))]
    }
    caught_in(one_case(Broadcast([4, 4].into()), &[&[1, 4]]), Fault::Vjp(wrong), &[Check::First]);
}

#[test]
fn swapped_transposes_in_matmul() {
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct.matmul(r.x[1])), r.flows(1, || r.x[0].matmul(r.ct))]
    }
    // Square: the shapes cannot tell.
    caught_in(one_case(matmul::Matmul, &[&[4, 4], &[4, 4]]), Fault::Vjp(wrong), &[Check::First]);
}

#[test]
fn vjp_with_the_input_for_the_output() {
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct * (1.0 - r.x[0] * r.x[0]))]
    }
    caught(unary::Tanh, Fault::Vjp(wrong), &[Check::First]);
}

#[test]
fn slope_where_relu_is_flat() {
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct)]
    }
    caught(unary::Relu, Fault::Vjp(wrong), &[Check::First]);
}

#[test]
fn slice_that_comes_back_one_place_off() {
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let len = r.x[0].shape().dims()[0];
        vec![r.flows(0, || r.y.graph().apply(Pad { axis: 0, before: 2, len }, &[r.ct]))]
    }
    caught_in(one_case(Range { axis: 0, start: 1, len: 2 }, &[&[5]]), Fault::Vjp(wrong), &[Check::First]);
}

#[test]
fn zero_where_it_flows() {
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct), Cotangent::Zero]
    }
    caught(arith::Add, Fault::Vjp(wrong), &[Check::Zero]);
}

#[test]
fn cotangent_left_out_or_of_another_shape() {
    fn short<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct)]
    }
    fn none<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct), Cotangent::Flows(None)]
    }
    fn shape<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct.sum_all()), r.flows(1, || r.ct)]
    }
    for wrong in [short as VjpRule, none, shape] {
        caught(arith::Add, Fault::Vjp(wrong), &[Check::Types]);
    }
}

#[test]
fn running_sum_that_comes_back_the_same_way() {
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct.cumsum(0))]
    }
    let op = scan::CumSum { axis: 0, reverse: false };
    caught_in(one_case(op, &[&[5]]), Fault::Vjp(wrong), &[Check::First]);
}

#[test]
fn cotangent_of_rows_that_were_replaced_again() {
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let base = r.ct.scatter(r.x[1], r.x[2].full(0.0));
        vec![r.flows(0, || base), Cotangent::Zero, r.flows(2, || r.ct.gather(r.x[1]))]
    }
    caught(scatter::Scatter, Fault::Vjp(wrong), &[Check::First]);
}

#[test]
fn log_softmax_whose_row_does_not_share() {
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct - r.y.exp() * r.ct)]
    }
    caught(softmax::LogSoftmax, Fault::Vjp(wrong), &[Check::First, Check::DefinitionVjp]);
}

#[test]
fn gradient_held_back_by_an_operation_that_computes() {
    fn wrong<'g>(_: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![Cotangent::Held]
    }
    caught(unary::Tanh, Fault::Vjp(wrong), &[Check::Stops]);
}

#[test]
fn right_vjp_that_cannot_be_differentiated_again() {
    // The value is right; y² was made of an operation that lets no gradient through.
    fn flat<'g>(_: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![Cotangent::Zero]
    }
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let frozen = Faulty { op: Arc::new(Identity), fault: Fault::Vjp(flat) };
        vec![r.flows(0, || r.ct * (1.0 - r.y.graph().apply(frozen, &[r.y * r.y])))]
    }
    let cases: Vec<Case> = unary::Tanh.cases().into_iter().map(|c| faulty(c, Fault::Vjp(wrong))).collect();
    let failures = check_cases("tanh", &cases, SEED).failures;
    assert!(failures.iter().any(|f| f.check == Check::Second), "not caught");
    assert!(failures.iter().all(|f| f.check == Check::Second), "first derivatives are right: {failures:?}");
}

// Kernels.

#[test]
fn kernel_of_another_operation() {
    let wrong = Fault::Kernel(|x| arith::Sub.kernel(x));
    caught(arith::Add, wrong, &[Check::KernelF64, Check::KernelF32]);
}

#[test]
fn kernel_that_reads_one_place_off() {
    let wrong = Fault::Kernel(|_| Kernel::View(Rearrange::Slice { axis: 0, start: 2, len: 2 }));
    caught_in(one_case(Range { axis: 0, start: 1, len: 2 }, &[&[5]]), wrong, &[Check::KernelF64, Check::KernelF32]);
}

#[test]
fn kernel_and_reference_a_little_apart() {
    let wrong = Fault::Reference(|op, x, y| op.reference(x, y).into_iter().map(|v| v + 1e-5).collect());
    caught(unary::Exp, wrong, &[Check::KernelF64, Check::KernelF32]);
}

#[test]
fn kernel_that_adds_to_a_stale_buffer() {
    fn kernel(_: &[Type]) -> Kernel {
        Kernel::Call(Routine::Custom(CustomFn::new(|x, y| match (x[0], y) {
            (Slice::F32(x), SliceMut::F32(y)) => y.iter_mut().zip(x).for_each(|(y, x)| *y -= x),
            (Slice::F64(x), SliceMut::F64(y)) => y.iter_mut().zip(x).for_each(|(y, x)| *y -= x),
            _ => {}
        })))
    }
    // Its first run is right: the arena starts with zeros.
    caught_in(one_case(arith::Neg, &[&[65]]), Fault::Kernel(kernel), &[Check::KernelF64, Check::KernelF32]);
}

#[test]
fn kernel_whose_bits_depend_on_the_run() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static RUNS: AtomicU32 = AtomicU32::new(0);
    fn kernel(_: &[Type]) -> Kernel {
        Kernel::Call(Routine::Custom(CustomFn::new(|x, y| {
            // A few of the last bits, differently in each run.
            let wrong = 1.0 + f64::from(RUNS.fetch_add(1, Ordering::Relaxed)) * f64::EPSILON;
            match (x[0], y) {
                (Slice::F32(x), SliceMut::F32(y)) => y.iter_mut().zip(x).for_each(|(y, x)| *y = libm::expf(*x)),
                (Slice::F64(x), SliceMut::F64(y)) => y.iter_mut().zip(x).for_each(|(y, x)| *y = libm::exp(*x) * wrong),
                _ => {}
            }
        })))
    }
    caught_in(one_case(unary::Exp, &[&[65]]), Fault::Kernel(kernel), &[Check::Bits]);
}

// Definitions.

#[test]
fn definition_with_another_constant() {
    fn wrong<'g>(op: &dyn Op, x: &[Var<'g>]) -> Option<Var<'g>> {
        op.expand(x).map(|y| y * 1.000001)
    }
    let by = [Check::Definition, Check::DefinitionVjp];
    caught(loss::MeanSquaredError, Fault::Expand(wrong), &by);
}

#[test]
fn fused_vjp_without_its_factor() {
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let n = r.x[0].shape().count().max(1) as f64;
        let d = |r: &Vjp<'_, 'g>| (r.x[0] - r.x[1]) * r.ct.broadcast_to(r.x[0].shape()) * (1.0 / n);
        vec![r.flows(0, || d(r)), r.flows(1, || -d(r))]
    }
    caught(loss::MeanSquaredError, Fault::Vjp(wrong), &[Check::First, Check::DefinitionVjp]);
}

// The reverse walk.

fn feed(values: &[(&str, Shape)]) -> Feed {
    let mut feed = Feed::new();
    for (k, (name, shape)) in values.iter().enumerate() {
        let value = |i: usize| 0.3 + 0.17 * i as f64 - 0.4 * k as f64;
        feed.set(name, Array { shape: *shape, values: (0..shape.count()).map(value).collect() });
    }
    feed
}

#[test]
fn overwrite_for_accumulate() {
    let g = Graph::new();
    let x = g.input("x", DType::F64, [4]);
    let loss = (x * x.tanh() + x).sum_all();
    let feed = feed(&[("x", [4].into())]);
    assert!(gradcheck(&g, loss, &[x], &feed, SEED).unwrap().passed());
    let whole = g.grad(loss, &[x]).unwrap()[0];
    let node = g.node(whole.id());
    assert!(matches!(node.origin.role, Role::Accumulate { .. }));
    for part in node.inputs() {
        let report = gradcheck_given(&g, loss, &[x], &[g.var(*part)], &feed, SEED).unwrap();
        assert!(report.failures.iter().any(|f| f.check == Check::First), "half a gradient passed");
        assert!(report.failures.iter().any(|f| f.check == Check::Compiled), "half a gradient passed when compiled");
    }
}

// Passes.

/// A graph with two entries that read each other's old values, a gradient with two uses, and sums over both axes.
fn stepping(g: &Graph) {
    let x = g.input("x", DType::F64, [3, 3]);
    let p = g.parameter("p", DType::F64, [3, 3], Init::ZEROS);
    let q = g.parameter("q", DType::F64, [3, 3], Init::ZEROS);
    let loss = ((x * p).tanh() * p - q * x).sum_all();
    let grads = g.grad(loss, &[p, q]).unwrap();
    g.output("loss", loss);
    g.output("d_p", grads[0]);
    g.output("rows", p.sum(0).reshape([3]) + p.sum(1).reshape([3]));
    g.assign(p, p - 0.1 * grads[0] + 0.01 * q);
    g.assign(q, q - 0.1 * grads[1] + 0.5 * p);
}

#[track_caller]
fn caught_step(fault: fn(&Inner) -> Inner) {
    let g = Graph::new();
    stepping(&g);
    let feed = feed(&[("x", [3, 3].into()), ("p", [3, 3].into()), ("q", [3, 3].into())]);
    let moved = feed.moved("x", 0.5, &[1.0; 9]).moved("p", 0.25, &[-1.0; 9]);
    let options = Options::default();
    check_step(&g, &[feed.clone(), moved.clone()], options).unwrap();
    let mut passes: Vec<Pass> = vec![Pass { name: "fault", run: fault }];
    passes.extend(PASSES.iter().map(|p| Pass { name: p.name, run: p.run }));
    let failure = check_step_with(&g, &[feed, moved], options, &passes).unwrap_err();
    assert_eq!(failure.check, Check::Step, "{failure}");
    assert!(failure.what.contains("differs"), "{failure}");
}

/// The graph with its nodes changed by `change`.
fn rewritten(g: &Inner, change: impl Fn(&Inner, &mut Node)) -> Inner {
    let mut new = g.clone();
    for node in &mut new.nodes {
        change(g, node);
    }
    new
}

fn op_name(node: &Node) -> &'static str {
    if let Source::Apply(op, _) = &node.source { op.name() } else { "" }
}

#[test]
fn pass_that_drops_accumulation() {
    caught_step(|g| {
        rewritten(g, |_, node| {
            if let (Role::Accumulate { .. }, Source::Apply(op, x)) = (node.origin.role, &mut node.source) {
                *op = Arc::new(Identity);
                x.truncate(1);
            }
        })
    });
}

#[test]
fn pass_that_updates_in_place_before_the_last_reader() {
    // The new q reads the new p.
    caught_step(|g| {
        let mut new = g.clone();
        let old = g.nodes.iter().position(|n| n.name.as_deref() == Some("p")).unwrap();
        let (p, q) = (g.updates[0].1, g.updates[1].1);
        for i in p.index() + 1..=q.index() {
            if let Source::Apply(_, x) = &mut new.nodes[i].source {
                x.iter_mut().filter(|x| x.index() == old).for_each(|x| *x = p);
            }
        }
        new
    });
}

#[test]
fn pass_that_merges_sums_over_different_axes() {
    caught_step(|g| {
        rewritten(g, |_, node| {
            let column = node.ty.shape == Shape::from([3, 1]);
            if let ("sum", true, Source::Apply(op, _)) = (op_name(node), column, &mut node.source) {
                *op = Arc::new(Faulty { op: op.clone(), fault: Fault::Kernel(other_axis) });
            }
        })
    });
}

/// The sum over the first axis, as a column.
fn other_axis(_: &[Type]) -> Kernel {
    Kernel::Call(Routine::Custom(CustomFn::new(|x, y| {
        if let (Slice::F64(x), SliceMut::F64(y)) = (x[0], y) {
            let n = y.len();
            (0..n).for_each(|j| y[j] = (0..n).map(|i| x[i * n + j]).sum());
        }
    })))
}

#[test]
fn pass_that_drops_an_update() {
    caught_step(|g| {
        let mut new = g.clone();
        new.updates.pop();
        new
    });
}

#[test]
fn pass_that_folds_a_state_entry_as_if_it_were_constant() {
    caught_step(|g| {
        let mut new = g.clone();
        let node = new.nodes.iter_mut().find(|n| n.name.as_deref() == Some("q")).unwrap();
        let zeros = geartrain_engine::Tensor::full(node.ty.dtype, node.ty.shape, 0.0);
        node.source = Source::Constant(Arc::new(zeros));
        new
    });
}

#[test]
fn pass_that_turns_a_difference_around() {
    caught_step(|g| {
        rewritten(g, |_, node| {
            if let ("sub", Source::Apply(_, x)) = (op_name(node), &mut node.source) {
                x.reverse();
            }
        })
    });
}

#[test]
fn pass_that_makes_an_ill_formed_graph_is_named() {
    let g = Graph::new();
    stepping(&g);
    let backward = |g: &Inner| {
        rewritten(g, |g, node| {
            if let Source::Apply(_, x) = &mut node.source {
                x[0] = NodeId(g.nodes.len() as u32 - 1);
            }
        })
    };
    let passes = [Pass { name: "reads what comes later", run: backward }];
    let feed = feed(&[("x", [3, 3].into()), ("p", [3, 3].into()), ("q", [3, 3].into())]);
    let failure = check_step_with(&g, &[feed], Options::default(), &passes).unwrap_err();
    assert!(failure.what.contains("reads what comes later"), "{failure}");
}

// A derivative that does not exist.

/// `grad` fails where a Stops lies on the way, names the operation and says why; the check asserts that it does.
#[test]
fn a_stop_is_an_error_that_names_the_operation() {
    fn stops<'g>(_: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![Cotangent::Stops("planted")]
    }
    let cases: Vec<Case> = unary::Exp.cases().into_iter().map(|case| faulty(case, Fault::Vjp(stops))).collect();
    let report = check_cases("exp", &cases, SEED);
    assert!(report.passed(), "{:?}", report.failures);

    let g = Graph::new();
    let w = g.parameter("w", DType::F64, [3], Init::ONES);
    let stopped = g.apply(Faulty { op: Arc::new(unary::Exp), fault: Fault::Vjp(stops) }, &[w]);
    let error = g.grad(stopped.sum_all(), &[w]).unwrap_err().to_string();
    assert!(error.starts_with("exp: no gradient passes through input 0: planted; inputs: f64 (3,)"), "{error}");
}
