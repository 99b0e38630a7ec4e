//! The sharper checks are checked, too: faults that differences are too blunt for must be caught by derivatives found
//! forwards, and a wrong variant of every pass by random graphs.

use std::sync::Arc;

use geartrain_engine::check::operation::check_cases;
use geartrain_engine::check::{Check, check_graph};
use geartrain_engine::compile::{PASSES, Pass};
use geartrain_engine::ir::graph::{Inner, Node, Source};
use geartrain_engine::ir::op::Attr;
use geartrain_engine::ir::origin::Role;
use geartrain_engine::ops::layout::{Copy as Identity, Slice as Range};
use geartrain_engine::ops::{arith, loss, matmul, norm, reduce, unary};
use geartrain_engine::{Axes, Case, Cotangent, Kernel, Map, NodeId, Op, Params, Real, Tensor, TileFn, Type, Vjp};

mod common;
use common::faulty::{Fault, Faulty, VjpRule, faulty};

const SEED: u64 = 7;

/// Plants a derivative that is wrong in its ninth digit: differences must miss it, which shows that the second referee is
/// needed, and the forward derivative must not.
#[track_caller]
fn only_forwards(op: impl Op, wrong: VjpRule) {
    let cases: Vec<Case> = op.cases().into_iter().map(|case| faulty(case, Fault::Vjp(wrong))).collect();
    let mut found: Vec<Check> = check_cases(op.name(), &cases, SEED).failures.iter().map(|f| f.check).collect();
    found.sort();
    found.dedup();
    assert!(found.contains(&Check::Forward), "not caught forwards, only by {found:?}");
    assert!(!found.contains(&Check::First) && !found.contains(&Check::Compiled), "differences see it: {found:?}");
}

#[test]
fn slope_of_tanh_off_by_a_hundred_millionth() {
    only_forwards(unary::Tanh, |r| vec![r.flows(0, || r.ct * (1.00000001 - r.y * r.y))]);
}

#[test]
fn constant_of_erf_with_nine_digits() {
    let digits: VjpRule = |r| {
        let constant = (std::f64::consts::FRAC_2_SQRT_PI * 1e8).floor() / 1e8;
        vec![r.flows(0, || r.ct * (constant * (-(r.x[0] * r.x[0])).exp()))]
    };
    only_forwards(unary::Erf, digits);
}

#[test]
fn product_scaled_by_a_hundred_millionth() {
    only_forwards(matmul::Matmul, |r| {
        let (a, b) = (r.x[0], r.x[1]);
        vec![r.flows(0, || r.ct.matmul(b.t()) * 1.00000001), r.flows(1, || a.t().matmul(r.ct))]
    });
}

#[test]
fn share_of_a_maximum_a_little_too_large() {
    // Over all of the sound rule, by its own differentiation.
    fn wrong<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let one = |c: Cotangent<'g>| match c {
            Cotangent::Flows(Some(c)) => Cotangent::Flows(Some(c * 1.00000003)),
            other => other,
        };
        reduce::Max(Axes(1)).vjp(r).into_iter().map(one).collect()
    }
    let case = reduce::Max(Axes(1))
        .cases()
        .into_iter()
        .filter(|c| c.inputs[0].0.rank() == 1)
        .map(|c| faulty(c, Fault::Vjp(wrong)));
    let cases: Vec<Case> = case.collect();
    let found: Vec<Check> = check_cases("max", &cases, SEED).failures.iter().map(|f| f.check).collect();
    assert!(found.contains(&Check::Forward) && !found.contains(&Check::First), "{found:?}");
}

#[test]
fn norm_with_a_little_too_much_under_the_root() {
    only_forwards(norm::GlobalNorm, |r| (0..r.x.len()).map(|i| r.flows(i, || r.ct / (r.y + 1e-7) * r.x[i])).collect());
}

#[test]
fn factor_of_a_loss_a_little_too_small() {
    only_forwards(loss::MeanSquaredError, |r| {
        let d = |r: &Vjp<'_, '_>| 1.99999998 / r.x[0].shape().count() as f64;
        let grad = || (r.x[0] - r.x[1]) * d(r) * r.ct.broadcast_to(r.x[0].shape());
        vec![r.flows(0, grad), r.flows(1, || -grad())]
    });
}

/// The first derivative is right to the last digit, the second is off by a hundred millionth.
#[test]
fn second_derivative_a_little_off() {
    fn almost<'g>(r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct * 1.00000001)]
    }
    only_forwards(unary::Exp, |r| {
        let same = Faulty { op: Arc::new(Identity), fault: Fault::Vjp(almost) };
        vec![r.flows(0, || r.ct * r.y.graph().apply(same, &[r.y]))]
    });
}

// Passes. Each test replaces one pass, or adds one behind it, and wants some graph among these to fail.
const GRAPHS: u64 = 400;

/// Wrong values: by the interpreter, or where a graph in f32 comes first, by the program without passes.
const VALUES: &[Check] = &[Check::Step, Check::Bits];
/// Right values with other bits.
const BITS: &[Check] = &[Check::Bits];

/// Random graphs through passes of which those called `name` also do `fault`; by which check the first failing graph is
/// caught, and with how many nodes it is shown.
#[track_caller]
fn caught_by_graphs(name: &str, fault: fn(&Inner) -> Inner, by: &[Check]) {
    assert!(PASSES.iter().any(|pass| pass.name == name), "no pass is called {name}");
    let faulty = Pass { name: "fault", run: fault };
    let passes: Vec<Pass> =
        PASSES.iter().flat_map(|p| if p.name == name { vec![*p, faulty] } else { vec![*p] }).collect();
    // Some graphs cannot be made small: of the first that fail, the smallest.
    let failures = (0..GRAPHS).filter_map(|seed| check_graph(seed, &passes).err()).take(3);
    let failure = failures.min_by_key(|failure| failure.nodes.lines().count());
    let failure = failure.unwrap_or_else(|| panic!("not caught by {GRAPHS} graphs"));
    assert!(by.contains(&failure.failure.check), "{failure}");
    let lines = failure.nodes.lines().count();
    println!("seed {}, {lines} lines: {}", failure.seed, failure.failure);
    assert!(lines <= 60, "not made small, {lines} lines: {failure}");
    assert!(check_graph(failure.seed, PASSES).is_ok(), "the graph fails without the fault");
}

/// The graph with nodes changed by `change`, which sees the new ones before.
fn changed(g: &Inner, change: impl Fn(&Inner, &mut Node)) -> Inner {
    let mut new = g.clone();
    for i in 0..new.nodes.len() {
        let mut node = new.nodes[i].clone();
        change(&new, &mut node);
        new.nodes[i] = node;
    }
    new
}

fn name_of(node: &Node) -> &'static str {
    if let Source::Apply(op, _) = &node.source { op.name() } else { "" }
}

fn ty(g: &Inner, id: NodeId) -> Type {
    g.nodes[id.index()].ty
}

/// Replaces a node by a copy of an input of the same type.
fn becomes(node: &mut Node, x: NodeId) {
    node.source = Source::Apply(Arc::new(Identity), vec![x]);
}

/// The one number of a constant, also behind broadcasts and reshapes.
fn number(g: &Inner, mut id: NodeId) -> Option<f64> {
    loop {
        match &g.nodes[id.index()].source {
            Source::Constant(tensor) => return tensor.uniform(),
            Source::Apply(op, x) if ["broadcast", "reshape"].contains(&op.name()) => id = x[0],
            _ => return None,
        }
    }
}

#[test]
fn dead_code_that_takes_the_last_result_for_dead() {
    let fault = |g: &Inner| {
        let mut new = g.clone();
        new.updates.pop();
        new
    };
    caught_by_graphs("dead code", fault, VALUES);
}

#[test]
fn algebra_that_takes_one_as_neutral_on_both_sides_of_a_division() {
    let fault = |g: &Inner| {
        changed(g, |g, node| {
            if let ("div", &[a, b]) = (name_of(node), node.inputs())
                && number(g, a) == Some(1.0)
                && ty(g, b) == node.ty
            {
                becomes(node, b);
            }
        })
    };
    caught_by_graphs("algebra", fault, VALUES);
}

/// a · (1 / b)
#[derive(Clone, Copy, Debug)]
struct TimesInverse;

impl Map<2> for TimesInverse {
    fn map<T: Real>(_: &Params, [a, b]: [T; 2]) -> T {
        a * (T::ONE / b)
    }
}

/// The values are right to the last digit but one: only bits tell.
#[test]
fn algebra_that_turns_a_division_into_a_product() {
    let fault = |g: &Inner| {
        changed(g, |_, node| {
            if let ("div", Source::Apply(op, _)) = (name_of(node), &mut node.source) {
                let kernel = |x: &[Type]| Kernel::Tile(TileFn::map::<2, TimesInverse>(x[0].dtype, [0.0; 4]));
                *op = Arc::new(Faulty { op: op.clone(), fault: Fault::Kernel(kernel) });
            }
        })
    };
    caught_by_graphs("algebra", fault, BITS);
}

#[test]
fn duplicates_that_do_not_look_at_attributes() {
    let fault = |g: &Inner| {
        let mut new = g.clone();
        for i in 0..new.nodes.len() {
            let same = |j: &usize| {
                let (a, b) = (&g.nodes[*j], &g.nodes[i]);
                a.ty == b.ty && name_of(a) == name_of(b) && !a.inputs().is_empty() && a.inputs() == b.inputs()
            };
            if let Some(j) = (0..i).find(same) {
                becomes(&mut new.nodes[i], NodeId(j as u32));
            }
        }
        new
    };
    caught_by_graphs("duplicates", fault, VALUES);
}

#[test]
fn duplicates_that_do_not_look_at_the_order_of_operands() {
    let fault = |g: &Inner| {
        let mut new = g.clone();
        for i in 0..new.nodes.len() {
            let swapped = |j: &usize| {
                let (a, b) = (&g.nodes[*j], &g.nodes[i]);
                let turned: Vec<NodeId> = a.inputs().iter().rev().copied().collect();
                a.ty == b.ty && turned.len() == 2 && name_of(a) == name_of(b) && turned == b.inputs()
            };
            if let Some(j) = (0..i).find(swapped) {
                becomes(&mut new.nodes[i], NodeId(j as u32));
            }
        }
        new
    };
    let passes = [Pass { name: "fault", run: fault }];
    // Few graphs have both a - b and b - a; one is enough.
    assert!((0..3000).any(|seed| check_graph(seed, &passes).is_err()), "not caught");
}

#[test]
fn constants_that_are_folded_in_single_precision() {
    let fault = |g: &Inner| {
        changed(g, |_, node| {
            if let Source::Constant(tensor) = &node.source
                && tensor.uniform().is_none()
            {
                let rounded: Vec<f64> = tensor.to_f64().iter().map(|v| f64::from(*v as f32)).collect();
                let rounded = Tensor::from_f64(tensor.ty().dtype, tensor.shape(), &rounded);
                rounded.into_iter().for_each(|t| node.source = Source::Constant(Arc::new(t)));
            }
        })
    };
    caught_by_graphs("constants", fault, VALUES);
}

fn attribute(op: &dyn Op, name: &str) -> usize {
    let found = op.attrs().into_iter().find_map(|(key, value)| match value {
        Attr::Int(value) if key == name => Some(value as usize),
        _ => None,
    });
    found.unwrap_or(0)
}

#[test]
fn slices_of_padded_values_that_begin_one_place_off() {
    let fault = |g: &Inner| {
        changed(g, |g, node| {
            let Source::Apply(op, x) = &node.source else { return };
            let (axis, start, len) = (attribute(&**op, "axis"), attribute(&**op, "start"), attribute(&**op, "len"));
            if op.name() == "slice" && start > 0 && ty(g, x[0]).shape.dims()[axis] > len {
                node.source = Source::Apply(Arc::new(Range { axis, start: start - 1, len }), x.clone());
            }
        })
    };
    caught_by_graphs("slices of padded values", fault, VALUES);
}

#[test]
fn sums_over_time_that_mix_up_their_steps() {
    let fault = |g: &Inner| {
        changed(g, |g, node| {
            let late = node.origin.role != Role::Forward;
            if let ("concat", true, Source::Apply(_, x)) = (name_of(node), late, &mut node.source)
                && ty(g, x[0]) == ty(g, x[1])
            {
                x.swap(0, 1);
            }
        })
    };
    caught_by_graphs("sums over time", fault, VALUES);
}

#[test]
fn sums_over_time_that_forget_a_step() {
    let fault = |g: &Inner| {
        changed(g, |g, node| {
            let late = node.origin.role != Role::Forward;
            if let ("concat", true, Source::Apply(_, x)) = (name_of(node), late, &mut node.source)
                && ty(g, x[0]) == ty(g, x[1])
            {
                x[1] = x[0];
            }
        })
    };
    caught_by_graphs("sums over time", fault, VALUES);
}

#[test]
fn residuals_that_are_computed_again_from_another_value() {
    let fault = |g: &Inner| {
        changed(g, |g, node| {
            let forward =
                |x: &NodeId| g.nodes[x.index()].origin.role == Role::Forward && name_of(&g.nodes[x.index()]) == "tanh";
            let late = node.origin.role != Role::Forward;
            if let (true, Source::Apply(_, x)) = (late, &mut node.source) {
                for x in x.iter_mut().filter(|x| forward(x)) {
                    *x = g.nodes[x.index()].inputs()[0];
                }
            }
        })
    };
    caught_by_graphs("residuals", fault, VALUES);
}

#[test]
fn dead_code_that_shifts_what_products_read() {
    let fault = |g: &Inner| {
        changed(g, |g, node| {
            if let ("matmul", Source::Apply(_, x)) = (name_of(node), &mut node.source)
                && ty(g, x[0]) == ty(g, x[1])
            {
                x.swap(0, 1);
            }
        })
    };
    caught_by_graphs("dead code again", fault, VALUES);
}

#[test]
fn pass_that_forgets_to_transpose_a_square() {
    let fault = |g: &Inner| {
        changed(g, |g, node| {
            if let ("transpose", &[x]) = (name_of(node), node.inputs())
                && ty(g, x) == node.ty
            {
                becomes(node, x);
            }
        })
    };
    caught_by_graphs("algebra", fault, VALUES);
}

#[test]
fn pass_that_adds_in_another_order() {
    // (a + b) + c as a + (b + c).
    let fault = |g: &Inner| {
        let mut new = g.clone();
        for i in 0..new.nodes.len() {
            let ("add", &[ab, c]) = (name_of(&new.nodes[i]), new.nodes[i].inputs()) else { continue };
            let ("add", &[a, b]) = (name_of(&new.nodes[ab.index()]), new.nodes[ab.index()].inputs()) else { continue };
            let once =
                g.nodes.iter().flat_map(Node::inputs).filter(|x| **x == ab).count() == 1 && !g.roots().contains(&ab);
            if once && c < ab {
                new.nodes[ab.index()].source = Source::Apply(Arc::new(arith::Add), vec![b, c]);
                new.nodes[i].source = Source::Apply(Arc::new(arith::Add), vec![a, ab]);
            }
        }
        new
    };
    caught_by_graphs("algebra", fault, BITS);
}

/// A kernel that is a little off in f32 alone is seen at its node, by the operation's own bound.
#[test]
fn pass_that_computes_an_elementwise_operation_with_another_kernel() {
    let fault = |g: &Inner| {
        changed(g, |_, node| {
            if let ("sigmoid", Source::Apply(op, _)) = (name_of(node), &mut node.source) {
                *op = Arc::new(Faulty { op: op.clone(), fault: Fault::Kernel(|x| unary::Tanh.kernel(x)) });
            }
        })
    };
    caught_by_graphs("algebra", fault, BITS);
}

#[test]
fn every_pass_has_a_planted_fault() {
    let source = include_str!("faults_graphs.rs");
    for pass in PASSES {
        assert!(
            source.contains(&format!("caught_by_graphs(\"{}\"", pass.name)),
            "no fault is planted in `{}`",
            pass.name
        );
    }
}
