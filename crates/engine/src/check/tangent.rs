//! Derivatives found forwards, as a second referee beside differences: how fast a value changes along one direction of
//! the inputs. No vjp rule takes part, and nothing is lost to a step size, so they are compared to ten digits.
//!
//! Each operation is followed by the first of these that fits:
//!
//! 1. its own [`crate::Op::tangent`]: elementwise functions are computed with dual numbers;
//! 2. its definition in other operations;
//! 3. where it is linear in each input, as its reference shows: f(dx) − f(0), the other inputs as they are;
//! 4. where it is straight around the point, as a maximum is: a difference, which is exact on a straight line.

use std::sync::Arc;

use crate::check::interpret::{Feed, InterpretError, apply, given};
use crate::compile::simplify;
use crate::ir::graph::{Graph, Inner, NodeId, Source};
use crate::ir::op::{Array, Op};
use crate::ir::types::{Shape, Type};

/// A forward derivative `f` agrees with a gradient `a` when |a − f| ≤ `TOLERANCE` (1 + max(|a|, |f|)).
pub const TOLERANCE: f64 = 1e-10;

/// Why there is no forward derivative.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TangentError {
    /// A value could not be computed at all.
    #[error(transparent)]
    Value(#[from] InterpretError),
    /// None of the ways fits.
    #[error("{0} has no derivative forwards: it is neither elementwise, defined by others, linear nor straight here")]
    NoRule(String),
}

/// The values of `wanted` and how fast each changes while the inputs and entries named in `moving` move by what it
/// holds, the others not at all.
///
/// # Errors
/// See [`TangentError`].
pub fn tangents(g: &Inner, wanted: &[NodeId], feed: &Feed, moving: &Feed) -> Result<Vec<(Array, Array)>, TangentError> {
    if wanted.contains(&NodeId::POISON) {
        return Err(InterpretError::Poison.into());
    }
    let needed = simplify::needed(g, wanted);
    let mut values: Vec<Option<(Array, Array)>> = vec![None; g.nodes.len()];
    for i in (0..g.nodes.len()).filter(|i| needed[*i]) {
        let node = &g.nodes[i];
        let leaf = |name: &str| -> Result<(Array, Array), TangentError> {
            let moves = moving.get(name).is_some() && node.ty.dtype.is_float();
            let slope = if moves { given(name, node.ty, moving)? } else { zeros(node.ty.shape) };
            Ok((given(name, node.ty, feed)?, slope))
        };
        values[i] = Some(match &node.source {
            Source::Input(k) => leaf(&g.inputs[*k].name)?,
            Source::State(k) => leaf(&g.entries[*k].name)?,
            Source::Constant(tensor) => {
                (Array { shape: tensor.shape(), values: tensor.to_f64() }, zeros(tensor.shape()))
            }
            Source::Apply(op, inputs) => {
                let (x, dx) = inputs.iter().filter_map(|x| values[x.index()].clone()).unzip();
                let types: Vec<Type> = inputs.iter().map(|x| g.nodes[x.index()].ty).collect();
                step(op, &Point { x, dx, types, y: node.ty })?
            }
        });
    }
    Ok(wanted.iter().filter_map(|id| values[id.index()].clone()).collect())
}

fn zeros(shape: Shape) -> Array {
    Array { shape, values: vec![0.0; shape.count()] }
}

/// Where an operation is differentiated.
struct Point {
    x: Vec<Array>,
    dx: Vec<Array>,
    types: Vec<Type>,
    y: Type,
}

impl Point {
    /// The inputs that move.
    fn moving(&self) -> impl Iterator<Item = usize> {
        (0..self.x.len()).filter(|i| self.dx[*i].values.iter().any(|v| *v != 0.0))
    }

    /// The value with other numbers at input `i`.
    fn with(&self, op: &Arc<dyn Op>, i: usize, number: impl Fn(f64, f64) -> f64) -> Result<Vec<f64>, TangentError> {
        let mut x = self.x.clone();
        x[i].values.iter_mut().zip(&self.dx[i].values).for_each(|(x, dx)| *x = number(*x, *dx));
        Ok(apply(op, &x, self.y.shape)?.values)
    }
}

/// The value of an operation and its derivative along `dx`.
fn step(op: &Arc<dyn Op>, at: &Point) -> Result<(Array, Array), TangentError> {
    let y = apply(op, &at.x, at.y.shape)?;
    let still = at.moving().next().is_none() || !at.y.dtype.is_float();
    let slope = match still {
        true => vec![0.0; y.values.len()],
        false => match op.tangent(&at.x, &at.dx) {
            Some(slope) => slope,
            None => match through_definition(op, at)? {
                Some(slope) => slope,
                None => by_parts(op, at, &y)?,
            },
        },
    };
    match slope.len() == y.values.len() {
        true => Ok((y.clone(), Array { values: slope, shape: y.shape })),
        false => Err(TangentError::NoRule(op.name().to_string())),
    }
}

/// The derivative of the definition, for a fused operation.
fn through_definition(op: &Arc<dyn Op>, at: &Point) -> Result<Option<Vec<f64>>, TangentError> {
    let graph = Graph::new();
    let (mut feed, mut moving, mut x) = (Feed::new(), Feed::new(), Vec::new());
    for (i, ty) in at.types.iter().enumerate() {
        let name = format!("x{i}");
        x.push(graph.input(&name, ty.dtype, ty.shape));
        feed.set(&name, at.x[i].clone());
        moving.set(&name, at.dx[i].clone());
    }
    let Some(y) = op.expand(&x) else { return Ok(None) };
    let found = graph.with(|g| tangents(g, &[y.id()], &feed, &moving))?;
    Ok(found.into_iter().next().map(|(_, slope)| slope.values))
}

/// The sum over the inputs, each of which moves alone.
fn by_parts(op: &Arc<dyn Op>, at: &Point, y: &Array) -> Result<Vec<f64>, TangentError> {
    let mut total = vec![0.0; y.values.len()];
    for i in at.moving() {
        let part = match linear(op, at, i, y)? {
            Some(slope) => slope,
            None => straight(op, at, i, y)?.ok_or_else(|| TangentError::NoRule(op.name().to_string()))?,
        };
        total.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    Ok(total)
}

/// a − b; 0 where both are the same infinity, as behind a mask.
fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| if a == b { 0.0 } else { a - b }).collect()
}

/// The largest finite size among numbers, and 1.
fn size<'a>(numbers: impl IntoIterator<Item = &'a f64>) -> f64 {
    numbers.into_iter().filter(|v| v.is_finite()).fold(1.0f64, |m, v| m.max(v.abs()))
}

/// Whether two lists of numbers agree to `tolerance`.
fn close(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.iter().zip(b).all(|(a, b)| a == b || (a - b).abs() <= tolerance)
}

/// f(dx) − f(0), if f is linear in input `i` but for a constant: its changes from 0 to dx, from x to x + dx and from x
/// to x − 2 dx must agree.
fn linear(op: &Arc<dyn Op>, at: &Point, i: usize, y: &Array) -> Result<Option<Vec<f64>>, TangentError> {
    let slope = minus(&at.with(op, i, |_, dx| dx)?, &at.with(op, i, |_, _| 0.0)?);
    let once = minus(&at.with(op, i, |x, dx| x + dx)?, &y.values);
    let twice: Vec<f64> = minus(&y.values, &at.with(op, i, |x, dx| x - 2.0 * dx)?).iter().map(|v| v / 2.0).collect();
    // Differences of long sums are rounded as the sums are; what is bent misses by far more.
    let rounding = 1e-11 * size(y.values.iter().chain(&slope));
    Ok((close(&slope, &once, rounding) && close(&slope, &twice, rounding)).then_some(slope))
}

/// Differences over ever smaller steps to both sides, if all of them agree: then no bend is near. Steps are powers of
/// two and not small, so that rounding leaves twelve digits.
fn straight(op: &Arc<dyn Op>, at: &Point, i: usize, y: &Array) -> Result<Option<Vec<f64>>, TangentError> {
    for exponent in 8..=14 {
        let h = 1.0 / f64::from(1 << exponent);
        let mut slopes = Vec::new();
        for h in [h, -h, h / 2.0, -h / 2.0] {
            let moved = at.with(op, i, |x, dx| x + h * dx)?;
            slopes.push(minus(&moved, &y.values).iter().map(|v| v / h).collect::<Vec<f64>>());
        }
        let rounding = TOLERANCE / 2.0 * size(&slopes[0]);
        if slopes[1..].iter().all(|other| close(&slopes[0], other, rounding)) {
            return Ok(slopes.into_iter().next());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Var};

    fn slope(build: impl for<'g> Fn(Var<'g>) -> Var<'g>, x: &[f64], dx: &[f64]) -> Result<Vec<f64>, TangentError> {
        let graph = Graph::new();
        let y = build(graph.input("x", DType::F64, [x.len()]));
        let array = |v: &[f64]| Array { shape: [v.len()].into(), values: v.to_vec() };
        let (mut feed, mut moving) = (Feed::new(), Feed::new());
        feed.set("x", array(x));
        moving.set("x", array(dx));
        Ok(graph.with(|g| tangents(g, &[y.id()], &feed, &moving))?.remove(0).1.values)
    }

    #[test]
    fn each_way_by_hand() {
        // Elementwise: 2 x dx.
        assert_eq!(slope(|x| x * x, &[3.0, -1.0], &[1.0, 0.5]).unwrap(), [6.0, -1.0]);
        // Linear in each input: rows of x times a constant.
        assert_eq!(slope(|x| x.sum_all(), &[3.0, -1.0], &[1.0, 0.5]).unwrap(), [1.5]);
        assert_eq!(slope(|x| x.reshape([1, 2]).matmul(x.reshape([2, 1])), &[3.0, -1.0], &[1.0, 0.5]).unwrap(), [5.0]);
        // Through a definition: softmax with the probabilities 1/4 and 3/4.
        let p = slope(|x| x.reshape([1, 2]).softmax(), &[0.0, 3f64.ln()], &[1.0, 0.0]).unwrap();
        assert!((p[0] - 0.1875).abs() < 1e-15 && (p[1] + 0.1875).abs() < 1e-15, "{p:?}");
        // Straight: the larger one's.
        assert_eq!(slope(|x| x.max(0), &[3.0, -1.0], &[1.0, 0.5]).unwrap(), [1.0]);
        // On a bend there is no slope.
        assert!(matches!(slope(|x| x.max(0), &[3.0, 3.0], &[1.0, 0.5]), Err(TangentError::NoRule(op)) if op == "max"));
        // What is no float does not move.
        assert_eq!(slope(|x| x.greater(x.number(0.0)).cast(DType::F64), &[3.0, -1.0], &[1.0, 0.5]).unwrap(), [0.0; 2]);
    }

    #[test]
    fn a_bent_function_is_not_taken_for_a_straight_one() {
        use crate::ops::unary::Exp;
        let op: Arc<dyn Op> = Arc::new(Exp);
        let array = |v: f64| Array { shape: Shape::SCALAR, values: vec![v] };
        let ty = Type::new(DType::F64, Shape::SCALAR);
        let at = Point { x: vec![array(0.5)], dx: vec![array(1.0)], types: vec![ty], y: ty };
        let y = array(libm::exp(0.5));
        assert_eq!(linear(&op, &at, 0, &y).unwrap(), None);
        assert_eq!(straight(&op, &at, 0, &y).unwrap(), None);
    }
}
