//! Norms of each layer's gradient and update, for `train.norms`.
//!
//! Those of the gradient, before clipping, are outputs of the step. That of the update is |w_new - w_old|: one small
//! program keeps the weights before a step that is told, and another measures how far they went. So other steps do
//! nothing for it, and no step computes its update in another way.

use geartrain_engine::{Entry, Graph, Program, RunError, State, Var};
use geartrain_nn::optim::{self, Gradient};

use crate::config::Config;
use crate::error::Result;
use crate::{metrics, model};

/// The layer of a parameter: its name up to the first number in it (`transformer.h.0` of
/// `transformer.h.0.attn.c_attn.weight`), or without its last part (`transformer.wte` of `transformer.wte.weight`).
pub fn layer_of(parameter: &str) -> &str {
    let parts = || parameter.match_indices('.').map(|(at, _)| &parameter[..at]).chain([parameter]);
    let numbered = |path: &&str| {
        path.rsplit('.').next().is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    let above = || parameter.rsplit_once('.').map_or(parameter, |(above, _)| above);
    parts().find(numbered).unwrap_or_else(above)
}

/// Parameters by layer, in the order of their declaration.
fn by_layer<T>(items: impl IntoIterator<Item = (String, T)>) -> Vec<(String, Vec<T>)> {
    let mut layers: Vec<(String, Vec<T>)> = Vec::new();
    for (parameter, item) in items {
        let layer = layer_of(&parameter);
        match layers.iter_mut().find(|(known, _)| known == layer) {
            Some((_, items)) => items.push(item),
            None => layers.push((layer.to_string(), vec![item])),
        }
    }
    layers
}

/// Adds the outputs `grad_norm LAYER` to a step.
pub(crate) fn of_gradients<'g>(g: &'g Graph, gradients: &[Gradient<'g>]) {
    for (layer, values) in by_layer(gradients.iter().map(|gradient| (gradient.entry.name.clone(), gradient.value))) {
        if let Some(norm) = g.update(|| optim::norm(&values)) {
            g.output(&format!("grad_norm {layer}"), norm);
        }
    }
}

/// The slot of the kept weights among the moments of a parameter.
const BEFORE: u8 = 101;

fn before<'g>(g: &'g Graph, entry: &Entry) -> Var<'g> {
    g.entry(Entry { saved: false, ..Entry::moment(entry, BEFORE, "before") })
}

/// Declares what [`Norms`] keeps in the state.
pub(crate) fn declare(g: &Graph) {
    for (_, entry) in g.parameters() {
        before(g, &entry);
    }
}

/// The two programs around a step that is told.
pub(crate) struct Norms {
    keep: Program,
    measure: Program,
    layers: Vec<String>,
}

impl Norms {
    pub(crate) fn new(state: &State, config: &Config) -> Result<Norms> {
        let (keep, measure) = (Graph::new(), Graph::new());
        let mut layers = Vec::new();
        for graph in [&keep, &measure] {
            for entry in state.entries() {
                graph.entry(entry.clone());
            }
        }
        for (w, entry) in keep.parameters() {
            keep.assign(before(&keep, &entry), w);
        }
        let moved = |(w, entry): (Var<'_>, Entry)| (entry.name.clone(), (w - before(&measure, &entry)).id());
        for (layer, moved) in by_layer(measure.parameters().into_iter().map(moved)) {
            let moved: Vec<Var<'_>> = moved.into_iter().map(|id| measure.var(id)).collect();
            if let Some(norm) = optim::norm(&moved) {
                measure.output(&layer, norm);
            }
            layers.push(layer);
        }
        let compile = |graph: &Graph| model::compile(graph, state, config);
        Ok(Norms { keep: compile(&keep)?, measure: compile(&measure)?, layers })
    }

    /// Keeps the weights before a step.
    pub(crate) fn before(&mut self, state: &mut State) -> std::result::Result<(), RunError> {
        self.keep.run(state, &self.keep.batch())
    }

    /// The norms after it; `grad_norm` reads an output of the step.
    pub(crate) fn after(
        &mut self,
        state: &State,
        grad_norm: impl Fn(&str) -> f64,
    ) -> std::result::Result<metrics::ByLayer, RunError> {
        self.measure.evaluate(state, &self.measure.batch())?;
        let norms = |layer: &String| {
            let update_norm = self.measure.scalar(layer).unwrap_or(f64::NAN);
            (layer.clone(), metrics::Norms { grad_norm: grad_norm(&format!("grad_norm {layer}")), update_norm })
        };
        Ok(self.layers.iter().map(norms).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_paths_up_to_a_number() {
        for (parameter, layer) in [
            ("transformer.h.0.attn.c_attn.weight", "transformer.h.0"),
            ("transformer.h.11.ln_1.weight", "transformer.h.11"),
            ("transformer.wte.weight", "transformer.wte"),
            ("hidden.bias", "hidden"),
            ("W1", "W1"),
            ("h1.weight", "h1"),
            ("a.1", "a.1"),
            ("", ""),
        ] {
            assert_eq!(layer_of(parameter), layer, "{parameter}");
        }
    }
}
