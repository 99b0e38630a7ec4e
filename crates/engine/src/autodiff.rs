//! Reverse-mode differentiation, from graph to graph.
//!
//! One walk from the loss back to the start. Each node hands its cotangent to the vjp rule of its operation, which
//! gives back a cotangent for each input; the first one that reaches a node is kept, later ones are added. Broadcasts
//! are nodes of their own, so no rule has to undo them.

use crate::ir::error::{GraphError, OpError, Rule};
use crate::ir::graph::{Graph, NodeId, Source, Var};
use crate::ir::op::{Cotangent, Op, Vjp};
use crate::ir::origin::Role;

impl Graph {
    /// The gradient of a scalar with respect to each of `wrt`, as new nodes of this graph.
    ///
    /// # Errors
    /// All errors of the graph so far; a loss that is not a float scalar; an operation without a derivative on the way;
    /// a value of `wrt` that no gradient reaches.
    pub fn grad<'g>(&'g self, loss: Var<'g>, wrt: &[Var<'g>]) -> Result<Vec<Var<'g>>, GraphError> {
        self.check()?;
        let wrong = |op: &str, rule: Rule, at: Var<'g>| OpError {
            op: op.to_string(),
            rule,
            inputs: vec![at.ty()],
            path: self.with(|g| g.scopes[g.nodes[at.id().index()].origin.scope as usize].clone()),
            location: self.node(at.id()).origin.location,
        };
        if loss.shape().count() != 1 || !loss.dtype().is_float() {
            let rule = Rule::new("the loss must be a float scalar").hint("take its mean or sum first");
            GraphError::check(vec![wrong("grad", rule, loss)])?;
        }
        let one = self.with_role(Role::VjpOf { node: loss.id(), operand: 0 }, || loss.full(1.0));
        let (cts, mut errors) = reverse(self, loss, one, wrt, 0);
        // What a rule could not build comes first: it is why nothing arrives elsewhere.
        self.check()?;
        for (value, ct) in wrt.iter().zip(&cts) {
            if ct.is_none() && errors.is_empty() {
                let name = self.node(value.id()).name.unwrap_or_else(|| format!("{value:?}"));
                let rule = Rule::new(format!("no gradient reaches `{name}`"))
                    .hint("use it on the way to the loss, or freeze it by leaving it out");
                errors.push(wrong("grad", rule, *value));
            }
        }
        GraphError::check(errors)?;
        Ok(cts.into_iter().flatten().collect())
    }
}

/// Cotangents of `wrt`, given the cotangent `ct` of `y`. `None` where nothing flows. Only nodes from `first` on are
/// differentiated; earlier ones are taken as given.
fn reverse<'g>(
    graph: &'g Graph,
    y: Var<'g>,
    ct: Var<'g>,
    wrt: &[Var<'g>],
    first: usize,
) -> (Vec<Option<Var<'g>>>, Vec<OpError>) {
    let reached = reached_from(graph, wrt, y.id());
    let mut cts: Vec<Option<Var<'g>>> = vec![None; y.id().index() + 1];
    let mut errors = Vec::new();
    cts[y.id().index()] = Some(ct);
    for i in (first..=y.id().index()).rev() {
        let (Some(ct), true) = (cts[i], reached[i]) else { continue };
        let id = NodeId(i as u32);
        let node = graph.node(id);
        let computed = |ct: &crate::ir::graph::Node| ct.name.is_none() && matches!(ct.source, Source::Apply(..));
        if let (Some(name), true) = (&node.name, computed(&graph.node(ct.id()))) {
            graph.set_name(ct.id(), format!("d_{name}"));
        }
        let Source::Apply(op, inputs) = &node.source else { continue };
        let wanted: Vec<bool> = inputs.iter().map(|x| reached[x.index()]).collect();
        let x: Vec<Var<'g>> = inputs.iter().map(|x| graph.var(*x)).collect();
        let given = graph.in_layer_of(id, || {
            graph.with_role(Role::VjpOf { node: id, operand: 0 }, || {
                op.vjp(&Vjp { x: &x, y: graph.var(id), ct, wanted: &wanted })
            })
        });
        let mut wrong = |what: String| {
            errors.push(OpError {
                op: op.name().to_string(),
                rule: Rule::new(what),
                inputs: x.iter().map(Var::ty).collect(),
                path: graph.with(|g| g.scopes[node.origin.scope as usize].clone()),
                location: node.origin.location,
            });
        };
        if given.len() != x.len() {
            wrong(format!("its vjp gives {} cotangents for {} inputs", given.len(), x.len()));
            continue;
        }
        for (operand, cotangent) in given.into_iter().enumerate().filter(|(k, _)| wanted[*k]) {
            match cotangent {
                Cotangent::Flows(Some(new)) if new.is_poison() => {}
                Cotangent::Flows(Some(new)) if new.ty() == x[operand].ty() => {
                    let slot = &mut cts[inputs[operand].index()];
                    *slot = Some(match *slot {
                        None => new,
                        Some(old) => graph.with_role(Role::Accumulate { node: inputs[operand] }, || old + new),
                    });
                }
                Cotangent::Flows(Some(new)) => {
                    wrong(format!("its cotangent of input {operand} is {}, not {}", new.ty(), x[operand].ty()));
                }
                Cotangent::Flows(None) => wrong(format!("its vjp left out the cotangent of input {operand}")),
                Cotangent::Zero | Cotangent::Held => {}
                Cotangent::Stops(why) => wrong(format!("no gradient passes through input {operand}: {why}")),
            }
        }
    }
    (wrt.iter().map(|v| cts.get(v.id().index()).copied().flatten()).collect(), errors)
}

/// Which nodes up to `last` depend on one of `wrt` through floats.
fn reached_from(graph: &Graph, wrt: &[Var<'_>], last: NodeId) -> Vec<bool> {
    let mut reached = vec![false; last.index() + 1];
    for value in wrt {
        if let Some(r) = reached.get_mut(value.id().index()) {
            *r = true;
        }
    }
    graph.with(|g| {
        for (i, node) in g.nodes[..=last.index()].iter().enumerate() {
            reached[i] |= node.inputs().iter().any(|x| reached[x.index()]);
            reached[i] &= node.ty.dtype.is_float();
        }
    });
    reached
}

/// The vjp of a fused operation as the derivative of its definition: slower, but always there.
pub fn vjp_of_definition<'g>(op: &dyn Op, rule: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
    let graph = rule.y.graph();
    // The definition's own nodes come from here on. Its inputs may depend on each other: their way is not walked here.
    let first = graph.with(|g| g.nodes.len());
    let Some(y) = op.expand(rule.x) else {
        return vec![Cotangent::Stops("it has no definition in other operations"); rule.x.len()];
    };
    let wrt: Vec<Var<'g>> = (0..rule.x.len()).filter(|i| rule.wants(*i)).map(|i| rule.x[i]).collect();
    let (mut all, errors) = reverse(graph, y, rule.ct, &wrt, first);
    // A value that stands at several operands has one cotangent for all of them: the first operand takes it.
    for i in 1..all.len() {
        if wrt[..i].iter().any(|earlier| earlier.id() == wrt[i].id()) {
            all[i] = None;
        }
    }
    let mut cts = all.into_iter();
    (0..rule.x.len())
        .map(|i| match (rule.wants(i), errors.is_empty()) {
            (false, _) => Cotangent::Flows(None),
            (true, false) => Cotangent::Stops("its definition has no derivative"),
            (true, true) => match cts.next().flatten() {
                Some(ct) => Cotangent::Flows(Some(ct)),
                None => Cotangent::Zero,
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::check::{Feed, evaluate};
    use crate::ir::op::Array;
    use crate::{DType, Graph, Var};

    /// An input of a fused operation that depends on another input of it is counted once.
    #[test]
    fn inputs_of_a_definition_may_depend_on_each_other() {
        let graph = Graph::new();
        let w = graph.input("w", DType::F64, [3]);
        let mut feed = Feed::new();
        feed.set("w", Array { shape: [3].into(), values: vec![1.0, 2.0, 3.0] });
        let slope = |y: Var<'_>| {
            let d = graph.grad(y.sum_all(), &[w]).unwrap()[0];
            evaluate(&graph, &[d], &feed).unwrap().remove(0).values
        };
        assert_eq!(slope(w.momentum(2.0 * w, 0.5)), [2.5, 2.5, 2.5]);
        assert_eq!(slope((2.0 * w).momentum(w, 0.5)), [2.0, 2.0, 2.0]);
        assert_eq!(slope(w.momentum(w, 0.5)), [1.5, 1.5, 1.5]);
    }
}
