//! A reference interpreter: the value of any node in f64, by [`crate::Op::reference`]. Slow and obvious.
//!
//! Everything is f64 whatever the graph's dtypes: a cast to f32 does not round.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ir::graph::{Graph, Inner, NodeId, Source, Var};
use crate::ir::op::{Array, Op};
use crate::ir::types::{Shape, Tensor, Type};
use crate::state::State;

/// Values of inputs and state entries, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Feed {
    values: BTreeMap<String, Array>,
}

impl Feed {
    /// No values.
    pub fn new() -> Feed {
        Feed::default()
    }

    /// The values of all entries of a state. Inputs are added with [`Feed::set`].
    pub fn of_state(state: &State) -> Feed {
        let mut feed = Feed::new();
        for entry in state.entries() {
            if let Some(tensor) = state.get(&entry.name) {
                feed.set(&entry.name, Array { shape: tensor.shape(), values: tensor.to_f64() });
            }
        }
        feed
    }

    /// Sets the value of an input or entry.
    pub fn set(&mut self, name: &str, value: Array) {
        self.values.insert(name.to_string(), value);
    }

    /// Sets the value of an input or entry from a tensor.
    pub fn set_tensor(&mut self, name: &str, value: &Tensor) {
        self.set(name, Array { shape: value.shape(), values: value.to_f64() });
    }

    /// The value of an input or entry.
    pub fn get(&self, name: &str) -> Option<&Array> {
        self.values.get(name)
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// A copy in which `name` has moved by `h` times `direction`.
    pub fn moved(&self, name: &str, h: f64, direction: &[f64]) -> Feed {
        let mut feed = self.clone();
        if let Some(array) = feed.values.get_mut(name) {
            array.values.iter_mut().zip(direction).for_each(|(x, v)| *x += h * v);
        }
        feed
    }
}

/// Why a graph could not be evaluated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InterpretError {
    /// The feed has no value for an input or entry.
    #[error("no value was given for `{0}`")]
    Missing(String),
    /// A value has another shape than its node.
    #[error("`{name}` has shape {expected}, got {found}")]
    Shape {
        /// The input, entry or operation.
        name: String,
        /// Its shape.
        expected: Box<Shape>,
        /// What was given.
        found: Box<Shape>,
    },
    /// A reference gave another number of elements than its operation's output has.
    #[error("the reference of {op} gives {found} numbers for shape {expected}")]
    Count {
        /// The operation.
        op: String,
        /// The shape of its output.
        expected: Box<Shape>,
        /// How many numbers came.
        found: usize,
    },
    /// A wanted value stands for an operation that failed.
    #[error("a wanted value is poisoned: an operation on the way to it failed")]
    Poison,
}

/// The values of `wanted`, given the inputs and entries that they need.
///
/// # Errors
/// See [`InterpretError`].
pub fn evaluate(graph: &Graph, wanted: &[Var<'_>], feed: &Feed) -> Result<Vec<Array>, InterpretError> {
    let ids: Vec<NodeId> = wanted.iter().map(Var::id).collect();
    graph.with(|g| evaluate_nodes(g, &ids, feed))
}

/// As [`evaluate`], on the contents of a graph.
pub fn evaluate_nodes(g: &Inner, wanted: &[NodeId], feed: &Feed) -> Result<Vec<Array>, InterpretError> {
    if wanted.contains(&NodeId::POISON) {
        return Err(InterpretError::Poison);
    }
    let mut needed = vec![false; g.nodes.len()];
    wanted.iter().for_each(|id| needed[id.index()] = true);
    for i in (0..g.nodes.len()).rev() {
        if needed[i] {
            g.nodes[i].inputs().iter().for_each(|x| needed[x.index()] = true);
        }
    }
    let mut values: Vec<Option<Array>> = vec![None; g.nodes.len()];
    for i in (0..g.nodes.len()).filter(|i| needed[*i]) {
        let node = &g.nodes[i];
        values[i] = Some(match &node.source {
            Source::Input(k) => given(&g.inputs[*k].name, node.ty, feed)?,
            Source::State(k) => given(&g.entries[*k].name, node.ty, feed)?,
            Source::Constant(tensor) => Array { shape: tensor.shape(), values: tensor.to_f64() },
            Source::Apply(op, inputs) => {
                let x: Vec<Array> = inputs.iter().filter_map(|x| values[x.index()].clone()).collect();
                apply(op, &x, node.ty.shape)?
            }
        });
    }
    Ok(wanted.iter().filter_map(|id| values[id.index()].clone()).collect())
}

/// The value of an operation by its reference.
pub fn apply(op: &Arc<dyn Op>, x: &[Array], shape: Shape) -> Result<Array, InterpretError> {
    let values = op.reference(x, shape);
    match values.len() == shape.count() {
        true => Ok(Array { shape, values }),
        false => {
            Err(InterpretError::Count { op: op.name().to_string(), expected: Box::new(shape), found: values.len() })
        }
    }
}

pub(crate) fn given(name: &str, ty: Type, feed: &Feed) -> Result<Array, InterpretError> {
    let array = feed.get(name).ok_or_else(|| InterpretError::Missing(name.to_string()))?;
    match array.shape == ty.shape && array.values.len() == ty.shape.count() {
        true => Ok(array.clone()),
        false => Err(InterpretError::Shape {
            name: name.to_string(),
            expected: Box::new(ty.shape),
            found: Box::new(array.shape),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Init};

    fn array<const N: usize>(values: [f64; N]) -> Array {
        Array { shape: [N].into(), values: values.to_vec() }
    }

    #[test]
    fn a_graph_by_hand() {
        let g = Graph::new();
        let x = g.input("x", DType::F64, [2]);
        let w = g.parameter("w", DType::F64, [2], Init::ZEROS);
        let y = (x * w + 1.0).sum_all();
        let mut feed = Feed::new();
        feed.set("x", array([2.0, 3.0]));
        feed.set("w", array([10.0, 100.0]));
        let values = evaluate(&g, &[y, x], &feed).unwrap();
        assert_eq!(values[0].values, [322.0]);
        assert_eq!(values[1].values, [2.0, 3.0]);
    }

    #[test]
    fn what_is_missing_or_misshapen_is_named() {
        let g = Graph::new();
        let x = g.input("x", DType::F64, [2]);
        let mut feed = Feed::new();
        assert_eq!(evaluate(&g, &[x], &feed), Err(InterpretError::Missing("x".to_string())));
        feed.set("x", array([1.0]));
        assert!(matches!(evaluate(&g, &[x], &feed), Err(InterpretError::Shape { .. })));
    }

    #[test]
    fn only_what_is_needed_is_evaluated() {
        let g = Graph::new();
        let x = g.input("x", DType::F64, [2]);
        let _unused = g.input("z", DType::F64, [2]) + x;
        let mut feed = Feed::new();
        feed.set("x", array([1.0, 2.0]));
        assert_eq!(evaluate(&g, &[x + x], &feed).unwrap()[0].values, [2.0, 4.0]);
    }
}
