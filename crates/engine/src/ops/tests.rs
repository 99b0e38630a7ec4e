//! What the tests of the operations share: a plain printer and gradients by name. `crate::check` runs every case.

use crate::ir::graph::{Graph, Source, Var};
use crate::ir::op::Expr;
use crate::ir::types::Type;

/// The expression of a value in terms of named ones, with products by 1 and reshapes of one number left out.
pub(crate) fn expression(value: Var<'_>) -> Expr {
    let (graph, node) = (value.graph(), value.graph().node(value.id()));
    match &node.source {
        Source::Constant(tensor) => match tensor.uniform() {
            Some(number) => Expr::atom(number.to_string()),
            None => Expr::atom("constant"),
        },
        Source::Apply(op, inputs) => {
            for (operand, neutral) in op.neutral() {
                if uniform(graph.var(inputs[*operand])) == Some(*neutral) {
                    return inline(graph.var(inputs[1 - operand]));
                }
            }
            // Axes of length 1 come and go by broadcasting.
            if op.name() == "reshape" && node.ty.shape.count() == 1 {
                return inline(graph.var(inputs[0]));
            }
            let x: Vec<Expr> = inputs.iter().map(|i| inline(graph.var(*i))).collect();
            let types: Vec<Type> = inputs.iter().map(|i| graph.var(*i).ty()).collect();
            op.print(&x, &types)
        }
        _ => Expr::atom(node.name.clone().unwrap_or_default()),
    }
}

fn inline(value: Var<'_>) -> Expr {
    match value.graph().node(value.id()).name {
        Some(name) => Expr::atom(name),
        None => expression(value),
    }
}

/// The number that a constant, however moved, holds everywhere.
fn uniform(value: Var<'_>) -> Option<f64> {
    match &value.graph().node(value.id()).source {
        Source::Constant(tensor) => tensor.uniform(),
        Source::Apply(op, inputs) if ["broadcast", "reshape"].contains(&op.name()) => {
            uniform(value.graph().var(inputs[0]))
        }
        _ => None,
    }
}

/// The text of [`expression`].
pub(crate) fn text(value: Var<'_>) -> String {
    expression(value).text
}

/// The cotangent of `x` for a weighted sum of `y`; the cotangent of `y` is called `d_` and its name.
pub(crate) fn gradient<'g>(y: Var<'g>, x: Var<'g>) -> Var<'g> {
    let weight = y.graph().input(&format!("weight of {}", y.id().0), y.dtype(), y.shape());
    match y.graph().grad((y * weight).sum_all(), &[x]) {
        Ok(cts) => cts[0],
        Err(errors) => panic!("{errors}"),
    }
}

/// The first error of a graph.
pub(crate) fn error(graph: &Graph) -> String {
    graph.check().err().map(|e| e.errors()[0].rule.what.clone()).unwrap_or_default()
}
