//! The moving average of the weights that `train.ema` asks for; its formula is at [`optim::average`].
//!
//! It stands in the state beside the weights, so checkpoints hold it and a run goes on with it. Training does not read
//! it; evaluation, samples and `generate` read nothing else.

use std::borrow::Cow;
use std::sync::Arc;

use geartrain_engine::{Entry, Graph, Init, Role, State};
use geartrain_nn::optim;

use crate::error::{Error, Result};
use crate::model;

fn name(parameter: &Entry) -> String {
    format!("{}.{}", parameter.name, optim::AVERAGE_SUFFIX)
}

fn parameters(state: &State) -> Vec<Entry> {
    state.entries().iter().filter(|entry| entry.role == Role::Parameter).cloned().collect()
}

/// Sets each average of a state to its weight. To be called whenever weights are set from outside.
///
/// # Errors
/// A bug: an average has another type than its weight.
pub fn start(state: &mut State) -> Result<()> {
    for parameter in parameters(state) {
        if let Some(average) = state.get(&name(&parameter))
            && let Some(weight) = state.get(&parameter.name)
        {
            debug_assert_eq!(average.ty(), weight.ty());
            state.set(&name(&parameter), &weight).map_err(Error::bug)?;
        }
    }
    Ok(())
}

/// The weights that a model answers with: the averaged ones, under the names of the parameters, or the state itself
/// where it holds no average. Weights that are not trained have none and stay as they are.
///
/// # Errors
/// Too little memory.
pub fn weights(state: &State) -> Result<Cow<'_, State>> {
    let parameters = parameters(state);
    if !parameters.iter().any(|parameter| state.get(&name(parameter)).is_some()) {
        return Ok(Cow::Borrowed(state));
    }
    let g = Graph::new();
    for parameter in parameters {
        let value = state.get(&name(&parameter)).or_else(|| state.get(&parameter.name));
        let init = value.map_or(Init::ZEROS, |value| Init::Values(Arc::new(value)));
        g.entry(Entry { init, ..parameter });
    }
    State::new(&g, 0).map(Cow::Owned).map_err(model::model_error)
}
