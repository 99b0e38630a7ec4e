//! Language models: tokens in, logits of the next token out.

use geartrain_engine::{DType, Graph, Rule, Var};
use geartrain_nn::rnn::{self, Cell};
use geartrain_nn::{Dropout, Gpt2, Ngram, Rnn};

use super::{DTYPE, Forward};
use crate::config::{Config, ModelKind};
use crate::error::Result;

/// How many tokens of a window the configured model predicts, the last ones: all, or one.
pub fn answers_a_window(config: &Config) -> usize {
    match config.model.kind {
        ModelKind::Ngram => 1,
        ModelKind::Gpt2 | ModelKind::Rnn | ModelKind::Gru => config.model.context,
        ModelKind::Mlp => 1,
    }
}

/// Logits (rows · answers, vocab) after tokens (rows, context): by row and then by time, or by time and then by row
/// where the model is recurrent.
fn logits<'g>(g: &'g Graph, config: &Config, vocab: usize, tokens: Var<'g>, dropout: &Dropout<'g>) -> Var<'g> {
    let model = &config.model;
    let (context, hidden) = (model.context, model.hidden);
    let rnn = |cell| Rnn { vocab, embedding: model.width, hidden, cell };
    match model.kind {
        ModelKind::Gpt2 => Gpt2 {
            vocab,
            context,
            layers: model.layers,
            heads: model.heads,
            width: model.width,
            bias: model.bias,
            tied: model.tied,
            activation: model.activation,
        }
        .forward(g, tokens, DTYPE, dropout),
        ModelKind::Ngram => Ngram { vocab, context, embedding: model.width, hidden }.forward(g, tokens, DTYPE),
        ModelKind::Rnn => rnn(Cell::Tanh).forward(g, tokens, DTYPE),
        ModelKind::Gru => rnn(Cell::Gru).forward(g, tokens, DTYPE),
        ModelKind::Mlp => {
            let rule = Rule::new("reads rows of a table, not tokens").hint("take --model gpt2, ngram, rnn or gru");
            g.fail("mlp", rule, vec![tokens.ty()])
        }
    }
}

/// Whether the rows of a model's logits go by time first.
fn by_time(config: &Config) -> bool {
    matches!(config.model.kind, ModelKind::Rnn | ModelKind::Gru)
}

/// The losses of every prediction, by row and then by time.
pub(super) fn forward<'g>(
    g: &'g Graph,
    config: &Config,
    vocab: usize,
    rows: usize,
    dropout: &Dropout<'g>,
) -> Result<Forward<'g>> {
    let (context, answers) = (config.model.context, answers_a_window(config));
    let tokens = g.input("tokens", DType::U32, [rows, context]);
    let targets = g.input("targets", DType::U32, [rows * answers]);
    let logits = logits(g, config, vocab, tokens, dropout).named("logits");
    let losses = match by_time(config) {
        true => {
            let losses = logits.cross_entropy(rnn::by_time(targets.reshape([rows, answers])));
            losses.reshape([answers, rows]).t().reshape([rows * answers])
        }
        false => logits.cross_entropy(targets),
    };
    Ok(Forward { losses, weights: None, answers: None })
}

/// Logits after every token of one window. Input `tokens` (1, context); output `logits` (answers, vocab).
pub fn writing_graph(config: &Config, vocab: usize) -> Graph {
    let g = Graph::new();
    let tokens = g.input("tokens", DType::U32, [1, config.model.context]);
    g.output("logits", logits(&g, config, vocab, tokens, &Dropout::off()));
    g
}

#[cfg(test)]
mod tests;
