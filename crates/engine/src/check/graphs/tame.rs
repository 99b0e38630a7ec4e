//! Whether the numbers of a random graph can be compared at all: nothing wild, and nothing that hinges on rounding.

use crate::check::graphs::Subject;
use crate::check::interpret::{Feed, apply, evaluate_nodes, given};
use crate::check::sample::Draw;
use crate::compile::simplify;
use crate::ir::graph::{Inner, NodeId, Source};
use crate::ir::op::Array;

/// A value that an operation wants between two numbers.
pub(super) type Range = (NodeId, f64, f64);

/// How much more than a kernel may round is added to each value, to see what hinges on it.
const NOISE: f64 = 3.0;

/// How values are made a little wrong. What is about to tip one way or the other tips in one of the first two; what
/// differs at 0 alone, as the square of a sign does, shows in the last.
#[derive(Clone, Copy)]
enum Wrong {
    /// By random amounts.
    Up,
    /// By the same amounts the other way.
    Down,
    /// What is no larger than that becomes 0.
    Nothing,
}

const WRONGS: [Wrong; 3] = [Wrong::Up, Wrong::Down, Wrong::Nothing];

/// Whether all results are finite and not large, and hardly move when inputs and the results of all operations move by
/// what kernels may round: no comparison is about to tip, and rounding is not amplified. Operations must get what they
/// want in the second step, too, when the state is another one.
pub(super) fn is_tame(subject: &Subject, ranges: &[Range], seed: u64) -> bool {
    let (names, ids) = super::results(&subject.graph);
    let wanted: Vec<NodeId> = ids.iter().copied().chain(ranges.iter().map(|(id, ..)| *id)).collect();
    let mut feed = subject.feeds[0].clone();
    for turn in 0..2 {
        let moved = |g: &Inner, wrong| noisy(g, &ids, &feed, wrong, &mut Draw::new(seed, &format!("noise.{turn}")));
        let found = subject.graph.with(|g| {
            let moved: Option<Vec<_>> = WRONGS.into_iter().map(|wrong| moved(g, wrong)).collect();
            Some((evaluate_nodes(g, &wanted, &feed).ok()?, moved?))
        });
        let Some((values, moved)) = found else { return false };
        let (values, bounded) = values.split_at(ids.len());
        let small = |a: &Array| a.values.iter().all(|v| v.abs() < 1e4);
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 2e-11 * (1.0 + a.abs());
        let steady = |(a, b): (&Array, &Array)| a.values.iter().zip(&b.values).all(near);
        let inside = |(a, (_, low, high)): (&Array, &Range)| a.values.iter().all(|v| (low..=high).contains(&v));
        if !values.iter().all(small)
            || !moved.iter().all(|moved| values.iter().zip(moved).all(steady))
            || !bounded.iter().zip(ranges).all(inside)
        {
            return false;
        }
        if turn == 0 {
            // The next step reads the state that this one leaves.
            feed = subject.feeds[1].clone();
            for (name, value) in names.iter().zip(values) {
                name.strip_prefix("state ").into_iter().for_each(|entry| feed.set(entry, value.clone()));
            }
        }
    }
    true
}

/// The values of `wanted` where every value on the way is a little wrong: inputs in their last digits, results by
/// [`NOISE`] times what their operation's kernel may differ from its reference.
fn noisy(g: &Inner, wanted: &[NodeId], feed: &Feed, wrong: Wrong, draw: &mut Draw) -> Option<Vec<Array>> {
    let needed = simplify::needed(g, wanted);
    let mut values: Vec<Option<Array>> = vec![None; g.nodes.len()];
    for (i, node) in g.nodes.iter().enumerate().filter(|(i, _)| needed[*i]) {
        let (mut value, bound) = match &node.source {
            Source::Input(k) => (given(&g.inputs[*k].name, node.ty, feed).ok()?, None),
            Source::State(k) => (given(&g.entries[*k].name, node.ty, feed).ok()?, None),
            Source::Constant(t) => (Array { shape: t.shape(), values: t.to_f64() }, Some(vec![0.0; t.shape().count()])),
            Source::Apply(op, x) => {
                let x: Vec<Array> = x.iter().filter_map(|x| values[x.index()].clone()).collect();
                let y = apply(op, &x, node.ty.shape).ok()?;
                let bound = op.bound(&x, &y, f64::EPSILON / 2.0);
                (y, Some(bound))
            }
        };
        let whole = value.values.iter().all(|v| v.fract() == 0.0);
        let size = |v: f64| if whole { 0.0 } else { v.abs() * f64::EPSILON };
        let bound = bound.unwrap_or_else(|| value.values.iter().map(|v| size(*v)).collect());
        // Below this there is only what a bound grants to numbers that vanish.
        for (v, b) in value.values.iter_mut().zip(bound).filter(|(_, b)| *b > 1e-300 && b.is_finite()) {
            let by = NOISE * b * draw.between(-1.0, 1.0);
            *v = match wrong {
                Wrong::Up => *v + by,
                Wrong::Down => *v - by,
                Wrong::Nothing if v.abs() <= NOISE * b => 0.0,
                Wrong::Nothing => *v,
            };
        }
        values[i] = Some(value);
    }
    wanted.iter().map(|id| values[id.index()].clone()).collect()
}
