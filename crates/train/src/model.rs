//! From a configuration to graphs: one that trains, one that evaluates, one that writes.

use geartrain_engine::compile::PASSES;
use geartrain_engine::compile::bf16;
use geartrain_engine::{DType, Graph, GraphError, NUMERICS_VERSION, Options, Program, State};
use geartrain_nn::optim::{self, AdamW, Momentum, Optimizer, Sgd};
use geartrain_nn::{Dropout, Gpt2};

use crate::config::{Activation, Config, Decay, ModelKind, OptimizerKind, Precision};
use crate::error::{Error, Result};

/// Rows of one evaluation batch.
pub const EVALUATION_ROWS: usize = 32;

/// The network that a configuration names, for `vocab` tokens.
pub fn network(config: &Config, vocab: usize) -> Gpt2 {
    let model = &config.model;
    match model.kind {
        ModelKind::Gpt2 => Gpt2 {
            vocab,
            context: model.context,
            layers: model.layers,
            heads: model.heads,
            width: model.width,
            bias: model.bias,
            tied: model.tied,
            activation: activation(model.activation),
        },
    }
}

fn activation(activation: Activation) -> geartrain_nn::Activation {
    match activation {
        Activation::Gelu => geartrain_nn::Activation::Gelu,
        Activation::GeluTanh => geartrain_nn::Activation::GeluTanh,
        Activation::Relu => geartrain_nn::Activation::Relu,
        Activation::Silu => geartrain_nn::Activation::Silu,
    }
}

/// The optimizer that a configuration names.
pub fn optimizer(config: &Config) -> Box<dyn Optimizer> {
    let optimizer = &config.optimizer;
    let [beta1, beta2] = optimizer.betas;
    match optimizer.kind {
        OptimizerKind::Sgd => Box::new(Sgd),
        OptimizerKind::Momentum => Box::new(Momentum { momentum: optimizer.momentum }),
        OptimizerKind::AdamW => Box::new(AdamW { betas: (beta1, beta2), eps: 1e-8, decay: optimizer.weight_decay }),
    }
}

/// One whole training step: forward, loss, backward, clipping and updates.
///
/// Inputs: `tokens` (batch, context) and `targets` (batch · context), u32; scalars `lr`, and those that the optimizer
/// and dropout read. Outputs: `loss` and `grad_norm`.
pub fn training_graph(config: &Config, vocab: usize, dtype: DType) -> Result<Graph> {
    let (b, t) = (config.train.batch, config.model.context);
    let g = Graph::new();
    {
        let tokens = g.input("tokens", DType::U32, [b, t]);
        let targets = g.input("targets", DType::U32, [b * t]);
        let dropout = Dropout::training(&g, config.model.dropout, config.train.seed);
        let logits = network(config, vocab).forward(&g, tokens, dtype, &dropout).named("logits");
        let loss = logits.cross_entropy(targets).mean_all().named("loss");
        if config.optimizer.decay == Decay::All {
            g.decay_all();
        }
        let lr = g.scalar("lr");
        let norm = optim::minimize(&g, loss, optimizer(config).as_ref(), lr, config.optimizer.clip);
        g.output("loss", loss);
        g.output("grad_norm", norm.map_err(model_error)?);
    }
    Ok(g)
}

/// Losses of every token of a batch. Inputs as [`training_graph`] with [`EVALUATION_ROWS`] rows; output `losses`.
pub fn evaluation_graph(config: &Config, vocab: usize, dtype: DType) -> Graph {
    let (b, t) = (EVALUATION_ROWS, config.model.context);
    let g = Graph::new();
    let tokens = g.input("tokens", DType::U32, [b, t]);
    let targets = g.input("targets", DType::U32, [b * t]);
    let logits = network(config, vocab).forward(&g, tokens, dtype, &Dropout::off());
    g.output("losses", logits.cross_entropy(targets));
    g
}

/// Logits after every token of one window. Input `tokens` (1, context); output `logits` (context, vocab).
pub fn writing_graph(config: &Config, vocab: usize, dtype: DType) -> Graph {
    let g = Graph::new();
    let tokens = g.input("tokens", DType::U32, [1, config.model.context]);
    g.output("logits", network(config, vocab).forward(&g, tokens, dtype, &Dropout::off()));
    g
}

/// Compiles a graph for a state.
pub fn compile(graph: &Graph, state: &State, config: &Config) -> Result<Program> {
    let options = Options::default();
    let threads = if config.train.threads == 0 { options.threads } else { config.train.threads };
    let passes = match config.train.precision {
        Precision::F32 => PASSES.to_vec(),
        Precision::Bf16 => bf16::passes(),
    };
    Program::compile_with(graph, state, Options { threads, ..options }, &passes).map_err(model_error)
}

/// The version of the numbers that training with this configuration gives.
pub fn numerics_version(config: &Config) -> String {
    match config.train.precision {
        Precision::F32 => NUMERICS_VERSION.to_string(),
        Precision::Bf16 => format!("{NUMERICS_VERSION}-{}", bf16::NUMERICS),
    }
}

/// A graph that cannot be built: the model's configuration does not fit together.
pub fn model_error(error: GraphError) -> Error {
    let hint = error.hint().map(str::to_string);
    let error = Error::usage(format!("the model cannot be built: {error}"));
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
