//! The table of keys: the one place that names, types, bounds, defaults and explains them.

use std::fmt::Write as _;

use super::choices::{
    Activation, Choice, ClassWeights, Decay, Missing, ModelKind, OptimizerKind, Order, Precision, ScheduleKind,
    TaskKind, TokenizerKind,
};
use super::{Config, DataKind};

/// The largest whole number of a size: the engine indexes with 32 bits.
const MAX_SIZE: u64 = i32::MAX as u64;
/// The largest whole number that TOML holds.
const MAX_WHOLE: u64 = i64::MAX as u64;

/// One key of the configuration.
pub struct Key {
    /// The dotted name, as in `train.steps`.
    pub name: &'static str,
    /// What its values are.
    pub kind: KeyType,
    /// The default for GPT-2 on a text.
    pub default: &'static str,
    /// Other defaults for other data and models; the last that applies is taken.
    pub others: &'static [(When, &'static str)],
    /// The command-line flag that is a short name of it, or empty.
    pub flag: &'static str,
    /// A sentence saying what it does.
    pub help: &'static str,
    pub(super) slot: fn(&mut Config) -> Slot<'_>,
}

/// Where another default of a key applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// For a kind of data.
    Data(DataKind),
    /// For a model.
    Model(ModelKind),
    /// For a model on the embedded names, which are too few for what it does on a text.
    Named(ModelKind),
    /// For an optimizer.
    Optimizer(OptimizerKind),
}

impl When {
    fn applies(self, data: DataKind, model: ModelKind, optimizer: OptimizerKind) -> bool {
        match self {
            When::Data(kind) => kind == data,
            When::Model(kind) => kind == model,
            When::Named(kind) => kind == model && data == DataKind::Names,
            When::Optimizer(kind) => kind == optimizer,
        }
    }

    /// As in `(ngram: 512)`.
    fn words(self) -> String {
        match self {
            When::Data(kind) => kind.words().to_string(),
            When::Model(kind) => kind.name().to_string(),
            When::Named(kind) => format!("{} on names", kind.name()),
            When::Optimizer(kind) => kind.name().to_string(),
        }
    }
}

/// What the values of a key are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyType {
    /// A whole number from `min` to `max`, both included.
    Whole {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A finite number in a range.
    Number(Range),
    /// Two numbers, each in a range.
    Pair(Range),
    /// `true` or `false`.
    Flag,
    /// One word of these.
    Choice(&'static [&'static str]),
    /// One word of these, or the path of a file.
    ChoiceOrFile(&'static [&'static str]),
    /// The path of a file or folder.
    Path,
    /// Names of columns, between commas where there are several.
    Names,
}

/// Which numbers fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Above 0.
    Positive,
    /// 0 or above.
    NotNegative,
    /// At least 0 and below 1.
    BelowOne,
    /// From 0 to 0.5, both included.
    UpToHalf,
    /// Above 0 and below 1.
    Within,
}

impl Range {
    /// Whether a number fits; infinities and NaN never do.
    pub fn holds(self, x: f64) -> bool {
        x.is_finite()
            && match self {
                Range::Positive => x > 0.0,
                Range::NotNegative => x >= 0.0,
                Range::BelowOne => (0.0..1.0).contains(&x),
                Range::UpToHalf => (0.0..=0.5).contains(&x),
                Range::Within => x > 0.0 && x < 1.0,
            }
    }

    /// The range in words, as after "must be".
    pub fn words(self) -> &'static str {
        match self {
            Range::Positive => "above 0",
            Range::NotNegative => "at least 0",
            Range::BelowOne => "at least 0 and below 1",
            Range::UpToHalf => "from 0 to 0.5",
            Range::Within => "above 0 and below 1",
        }
    }
}

/// Where a key's value lies in a [`Config`].
pub(super) enum Slot<'a> {
    Whole(&'a mut u64),
    Size(&'a mut usize),
    Number(&'a mut f64),
    Pair(&'a mut [f64; 2]),
    Flag(&'a mut bool),
    Choice(&'a mut dyn Choice),
    /// A path or names; `None` where there is nothing.
    Text(&'a mut Option<String>),
}

impl Key {
    /// The section, as `train` of `train.steps`.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name inside its section, as `steps` of `train.steps`.
    pub fn short(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, short)| short)
    }

    /// The default for a kind of data, a model and an optimizer, as text.
    pub fn default_for(&self, data: DataKind, model: ModelKind, optimizer: OptimizerKind) -> &'static str {
        let applies = |(when, _): &&(When, &str)| when.applies(data, model, optimizer);
        self.others.iter().rev().find(applies).map_or(self.default, |(_, value)| value)
    }

    const fn but(self, others: &'static [(When, &'static str)]) -> Key {
        Key { others, ..self }
    }

    const fn flag(self, flag: &'static str) -> Key {
        Key { flag, ..self }
    }
}

type SlotFn = fn(&mut Config) -> Slot<'_>;

const fn key(name: &'static str, kind: KeyType, default: &'static str, slot: SlotFn, help: &'static str) -> Key {
    Key { name, kind, default, others: &[], flag: "", help, slot }
}

const fn whole(min: u64) -> KeyType {
    KeyType::Whole { min, max: MAX_WHOLE }
}

const fn size(min: u64) -> KeyType {
    KeyType::Whole { min, max: MAX_SIZE }
}

const NAMES: When = When::Data(DataKind::Names);
const NGRAM: When = When::Model(ModelKind::Ngram);
const NGRAM_NAMES: When = When::Named(ModelKind::Ngram);
const RNN_NAMES: When = When::Named(ModelKind::Rnn);
const GRU_NAMES: When = When::Named(ModelKind::Gru);
const RNN: When = When::Model(ModelKind::Rnn);
const GRU: When = When::Model(ModelKind::Gru);
const MLP: When = When::Model(ModelKind::Mlp);
const TABLE: When = When::Data(DataKind::Table);
const SGD: When = When::Optimizer(OptimizerKind::Sgd);
const MOMENTUM: When = When::Optimizer(OptimizerKind::Momentum);
const NESTEROV: When = When::Optimizer(OptimizerKind::Nesterov);
const ADAM: When = When::Optimizer(OptimizerKind::Adam);
const RMSPROP: When = When::Optimizer(OptimizerKind::RmsProp);
const ADAGRAD: When = When::Optimizer(OptimizerKind::Adagrad);

/// Every key, in the order in which a configuration is written.
#[rustfmt::skip] // One key is two or three lines: what it is, where it lies, what it does.
pub const KEYS: &[Key] = &[
    key("data.path", KeyType::Path, "", |c| Slot::Text(&mut c.data.path),
        "A UTF-8 text file or a folder of them, or a .csv, .tsv or .npy table. Without it, the embedded names.").flag("DATA"),
    key("data.tokenizer", KeyType::ChoiceOrFile(TokenizerKind::NAMES), "char", |c| Slot::Choice(&mut c.data.tokenizer),
        "What one token is: a character, a byte of the UTF-8, a frequent sequence of bytes, or what a tokenizer.json says."),
    key("data.vocab", size(0), "0", |c| Slot::Size(&mut c.data.vocab),
        "How many tokens bpe learns, the 256 bytes among them; 0 for up to 1024."),
    key("data.validation", KeyType::Number(Range::UpToHalf), "0.1", |c| Slot::Number(&mut c.data.validation),
        "The share that is kept for evaluation, the end of a text or rows drawn from a table; 0 for none.").but(&[(TABLE, "0.2")]),
    key("data.order", KeyType::Choice(Order::NAMES), "shuffle", |c| Slot::Choice(&mut c.data.order),
        "Which windows of the text a step reads: at random places, or one after the other."),
    key("data.target", KeyType::Names, "", |c| Slot::Text(&mut c.data.target),
        "The column of a table that is learned; for X.npy, the file y.npy.").flag("--target"),
    key("data.task", KeyType::Choice(TaskKind::NAMES), "auto", |c| Slot::Choice(&mut c.data.task),
        "What is learned about the target: its class, its number, or what its values look like."),
    key("data.ignore", KeyType::Names, "", |c| Slot::Text(&mut c.data.ignore),
        "Columns of a table that are left out, with commas between them."),
    key("data.categories", KeyType::Names, "", |c| Slot::Text(&mut c.data.categories),
        "Columns of a table whose numbers are only names, as postal codes are."),
    key("data.missing", KeyType::Choice(Missing::NAMES), "refuse", |c| Slot::Choice(&mut c.data.missing),
        "What an empty cell of a table is: an error, or the mean of its column (among words, a word of its own)."),

    key("model.kind", KeyType::Choice(ModelKind::NAMES), "gpt2", |c| Slot::Choice(&mut c.model.kind),
        "The network.").but(&[(TABLE, "mlp")]).flag("--model"),
    key("model.layers", size(1), "4", |c| Slot::Size(&mut c.model.layers),
        "How many transformer blocks, or hidden layers of mlp.").but(&[(MLP, "2")]),
    key("model.heads", size(1), "4", |c| Slot::Size(&mut c.model.heads),
        "How many attention heads a block has; they share its width."),
    key("model.width", size(1), "128", |c| Slot::Size(&mut c.model.width),
        "How many numbers stand for one token.").but(&[(NAMES, "64"), (NGRAM, "32"), (RNN, "64"), (GRU, "64")]),
    key("model.hidden", size(1), "512", |c| Slot::Size(&mut c.model.hidden),
        "How many numbers the hidden layer or state has; gpt2 has 4 times its width.").but(&[(NGRAM_NAMES, "128"), (RNN, "256"), (GRU, "256"), (MLP, "128")]),
    key("model.context", size(1), "64", |c| Slot::Size(&mut c.model.context),
        "How many tokens the model sees at once.").but(&[(NAMES, "32"), (NGRAM, "16"), (NGRAM_NAMES, "8")]).flag("--context"),
    key("model.vocab", size(0), "0", |c| Slot::Size(&mut c.model.vocab),
        "How many tokens the model has room for; 0 for as many as the tokenizer has."),
    key("model.dropout", KeyType::Number(Range::BelowOne), "0.0", |c| Slot::Number(&mut c.model.dropout),
        "The share of values that training drops at random.").but(&[(MLP, "0.1")]),
    key("model.tied", KeyType::Flag, "true", |c| Slot::Flag(&mut c.model.tied),
        "Whether the output layer shares the table of tokens."),
    key("model.bias", KeyType::Flag, "false", |c| Slot::Flag(&mut c.model.bias),
        "Whether linear layers and layer norms add a bias.").but(&[(MLP, "true")]),
    key("model.activation", KeyType::Choice(&Activation::NAMES), "gelu", |c| Slot::Choice(&mut c.model.activation),
        "The function inside the feed-forward part, or between layers; gelu is the exact one.").but(&[(MLP, "silu")]),

    key("optimizer.kind", KeyType::Choice(OptimizerKind::NAMES), "adamw", |c| Slot::Choice(&mut c.optimizer.kind),
        "The update rule."),
    key("optimizer.lr", KeyType::Number(Range::Positive), "0.001", |c| Slot::Number(&mut c.optimizer.lr),
        "The learning rate at its highest.").but(&[(NGRAM, "0.002"), (RNN, "0.003"), (GRU, "0.003"), (RNN_NAMES, "0.002"), (GRU_NAMES, "0.002"), (MLP, "0.003"), (SGD, "0.1"), (MOMENTUM, "0.05"), (NESTEROV, "0.05"), (ADAGRAD, "0.01")]).flag("--lr"),
    key("optimizer.betas", KeyType::Pair(Range::BelowOne), "0.9, 0.99", |c| Slot::Pair(&mut c.optimizer.betas),
        "How slowly the mean and the mean square of the gradient change in adamw and adam; lion has two means."),
    key("optimizer.eps", KeyType::Number(Range::Positive), "1e-8", |c| Slot::Number(&mut c.optimizer.eps),
        "What adamw, adam, rmsprop and adagrad add to what they divide by."),
    key("optimizer.alpha", KeyType::Number(Range::BelowOne), "0.99", |c| Slot::Number(&mut c.optimizer.alpha),
        "How slowly the mean square of the gradient changes in rmsprop."),
    key("optimizer.weight_decay", KeyType::Number(Range::NotNegative), "0.1", |c| Slot::Number(&mut c.optimizer.weight_decay),
        "How strongly weights are drawn to 0; not in sgd and momentum, and as part of the gradient but for adamw and lion.").but(&[(MLP, "1.0"), (NESTEROV, "0.0"), (ADAM, "0.0"), (RMSPROP, "0.0"), (ADAGRAD, "0.0")]),
    key("optimizer.decay", KeyType::Choice(Decay::NAMES), "matrices", |c| Slot::Choice(&mut c.optimizer.decay),
        "What weight decay acts on: matrices only, or biases and gains too."),
    key("optimizer.momentum", KeyType::Number(Range::BelowOne), "0.9", |c| Slot::Number(&mut c.optimizer.momentum),
        "The share of its direction that momentum and nesterov keep."),
    key("optimizer.clip", KeyType::Number(Range::NotNegative), "1.0", |c| Slot::Number(&mut c.optimizer.clip),
        "The largest norm of the whole gradient; longer ones are scaled down to it. 0 for no limit."),

    key("schedule.kind", KeyType::Choice(ScheduleKind::NAMES), "cosine", |c| Slot::Choice(&mut c.schedule.kind),
        "The learning rate after the warm-up; step, exponential and plateau fall by schedule.factor."),
    key("schedule.warmup", whole(0), "100", |c| Slot::Whole(&mut c.schedule.warmup),
        "Over how many steps the learning rate rises at the start; onecycle has its own rise."),
    key("schedule.min_lr", KeyType::Number(Range::NotNegative), "0.0001", |c| Slot::Number(&mut c.schedule.min_lr),
        "The learning rate that a cosine ends at, and below which step, exponential and plateau do not fall."),
    key("schedule.factor", KeyType::Number(Range::Within), "0.5", |c| Slot::Number(&mut c.schedule.factor),
        "What step, exponential and plateau multiply the learning rate by."),
    key("schedule.every", whole(0), "0", |c| Slot::Whole(&mut c.schedule.every),
        "Over how many steps step and exponential fall by that factor; 0 for a fifth of those after the warm-up."),
    key("schedule.patience", whole(0), "2", |c| Slot::Whole(&mut c.schedule.patience),
        "How many evaluations in a row plateau lets pass without a lower validation loss; the next one lowers the rate."),
    key("schedule.threshold", KeyType::Number(Range::BelowOne), "0.0001", |c| Slot::Number(&mut c.schedule.threshold),
        "By which share the validation loss must fall for plateau to call it lower."),
    key("schedule.pct_start", KeyType::Number(Range::Within), "0.3", |c| Slot::Number(&mut c.schedule.pct_start),
        "The share of the steps in which onecycle rises."),
    key("schedule.div_factor", KeyType::Number(Range::Positive), "25.0", |c| Slot::Number(&mut c.schedule.div_factor),
        "onecycle starts at the highest learning rate divided by this."),
    key("schedule.final_div_factor", KeyType::Number(Range::Positive), "10000.0", |c| Slot::Number(&mut c.schedule.final_div_factor),
        "onecycle ends at its first learning rate divided by this."),

    key("train.steps", whole(1), "2000", |c| Slot::Whole(&mut c.train.steps),
        "How many training steps are planned.").but(&[(NAMES, "1000"), (NGRAM, "12000"), (NGRAM_NAMES, "1000"), (RNN_NAMES, "600"), (GRU_NAMES, "400")]).flag("--steps"),
    key("train.batch", size(1), "12", |c| Slot::Size(&mut c.train.batch),
        "How many windows of the text, or rows of the table, a step reads.").but(&[(NAMES, "32"), (NGRAM, "256"), (RNN, "32"), (GRU, "32"), (MLP, "32")]).flag("--batch"),
    key("train.grad_shards", size(1), "1", |c| Slot::Size(&mut c.train.grad_shards),
        "In how many parts, a power of two, a batch is computed one after the other: the more, the less memory."),
    key("train.ema", KeyType::Number(Range::BelowOne), "0.0", |c| Slot::Number(&mut c.train.ema),
        "Answer with a moving average of the weights, which keeps this share of itself at each step (0.99: about 100 steps); 0 for none."),
    key("train.eval_every", whole(0), "500", |c| Slot::Whole(&mut c.train.eval_every),
        "How many steps lie between evaluations; 0 for one at the end.").but(&[(NAMES, "250"), (NGRAM, "3000"), (NGRAM_NAMES, "250"), (RNN_NAMES, "100"), (GRU_NAMES, "100"), (MLP, "200")]),
    key("train.class_weights", KeyType::Choice(ClassWeights::NAMES), "none", |c| Slot::Choice(&mut c.train.class_weights),
        "Whether every example counts the same, or every class, so that rare ones are not passed over."),
    key("train.save_every", whole(0), "500", |c| Slot::Whole(&mut c.train.save_every),
        "How many steps lie between checkpoints; 0 for one at the end.").but(&[(NGRAM, "3000"), (NGRAM_NAMES, "500"), (RNN_NAMES, "200"), (GRU_NAMES, "200"), (MLP, "200")]),
    key("train.keep", size(0), "3", |c| Slot::Size(&mut c.train.keep),
        "How many of the newest checkpoints are kept beside the best one; 0 for all."),
    key("train.patience", whole(0), "0", |c| Slot::Whole(&mut c.train.patience),
        "After how many evaluations in a row without a lower validation loss the run ends early; 0 for never."),
    key("train.min_delta", KeyType::Number(Range::NotNegative), "0.0", |c| Slot::Number(&mut c.train.min_delta),
        "By how much the validation loss must fall for train.patience to call it lower."),
    key("train.norms", KeyType::Flag, "false", |c| Slot::Flag(&mut c.train.norms),
        "Whether the metrics have the norms of each layer's gradient and update."),
    key("train.tensorboard", KeyType::Flag, "false", |c| Slot::Flag(&mut c.train.tensorboard),
        "Whether the run folder gets an event file that TensorBoard reads.").flag("--tensorboard"),
    key("train.precision", KeyType::Choice(Precision::NAMES), "f32", |c| Slot::Choice(&mut c.train.precision),
        "What matrix products multiply: f32, or numbers rounded to bfloat16, faster on CPUs with avx512_bf16."),
    key("train.seed", whole(0), "1337", |c| Slot::Whole(&mut c.train.seed),
        "Decides the initial weights, the data order and dropout.").flag("--seed"),
    key("train.threads", size(0), "0", |c| Slot::Size(&mut c.train.threads),
        "How many threads compute; 0 for one a core. The results are the same for any number.").flag("--threads"),
];

/// Keys that are planned and not built, each with what to do until then.
pub(super) const PLANNED_KEYS: &[(&str, &str)] =
    &[("model.kv_heads", "it belongs to Llama models, which are not available yet; leave the key out")];

/// Values that are planned and not built.
pub(super) const PLANNED_VALUES: &[(&str, &[&str])] = &[("model.kind", &["lstm", "llama"])];

/// The keys with their defaults and help, a section after the other, for `--help`.
pub fn keys_help() -> String {
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        if key.section() != section {
            let gap = if text.is_empty() { "" } else { "\n" };
            section = key.section();
            let _ = writeln!(text, "{gap}[{section}]");
        }
        let mut help = key.help.to_string();
        if let KeyType::Choice(words) = key.kind {
            let _ = write!(help, " [{}]", words.join(", "));
        }
        if let KeyType::ChoiceOrFile(words) = key.kind {
            let _ = write!(help, " [{}, FILE]", words.join(", "));
        }
        if !key.others.is_empty() {
            let others: Vec<String> =
                key.others.iter().map(|(when, value)| format!("{}: {value}", when.words())).collect();
            let _ = write!(help, " ({})", others.join(", "));
        }
        if !key.flag.is_empty() {
            let _ = write!(help, " ({})", key.flag);
        }
        let _ = writeln!(text, "  {:<16} {:<9}  {help}", key.short(), key.default);
    }
    text
}
