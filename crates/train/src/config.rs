//! The configuration of a run: five sections of keys, each with a type, a range, a default and a sentence of help.
//!
//! [`KEYS`] is the one table of them: defaults, reading, printing, range checks, suggestions and `--help` all walk it.
//! Values come, the later over the earlier, from the defaults for the data, a TOML file, and `--set key=value`; flags
//! such as `--steps` are short names of keys.

mod choices;
mod keys;
mod parse;

use std::fmt::Write as _;
use std::path::Path;

pub use choices::{
    Activation, Choice, ClassWeights, Decay, Missing, ModelKind, OptimizerKind, Order, Precision, ScheduleKind,
    TaskKind, TokenizerKind, TokenizerSource,
};
pub use keys::{KEYS, Key, KeyType, Range, When, keys_help};

use crate::error::{Error, Result};
use keys::Slot;
use parse::{Assignment, Value};

/// What is trained on; it decides the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// The embedded names: a model that trains in under a minute.
    Names,
    /// A text file or a folder of them.
    Text,
    /// A table of rows, one column of which is learned.
    Table,
}

impl DataKind {
    /// What it is called, as in `(names: 64)`.
    pub fn words(self) -> &'static str {
        match self {
            DataKind::Names => "the embedded names",
            DataKind::Text => "text",
            DataKind::Table => "table",
        }
    }

    /// Whether a model reads it.
    pub fn suits(self, model: ModelKind) -> bool {
        (self == DataKind::Table) == (model == ModelKind::Mlp)
    }

    /// The error of a model that does not read it; the hint names those that do.
    pub(crate) fn misfit(self, model: ModelKind) -> Error {
        let fitting = ModelKind::ALL.iter().filter(|model| self.suits(**model)).map(|model| model.name());
        let fitting = parse::one_of(&fitting.collect::<Vec<_>>());
        let (wrong, right) = match self {
            DataKind::Table => ("text", "table"),
            DataKind::Names | DataKind::Text => ("table", "text"),
        };
        Error::usage(format!("{} is a model of a {wrong}, and the data is a {right}", model.name()))
            .hint(format!("take --model {fitting}"))
    }

    /// The model that is trained on it where none is named.
    pub fn model(self) -> ModelKind {
        match self {
            DataKind::Names | DataKind::Text => ModelKind::Gpt2,
            DataKind::Table => ModelKind::Mlp,
        }
    }
}

/// Everything that decides a run. Field by field, see [`KEYS`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What is learned from.
    pub data: DataConfig,
    /// What learns.
    pub model: ModelConfig,
    /// How a gradient becomes an update.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes.
    pub schedule: ScheduleConfig,
    /// How long, in what batches, and what is kept.
    pub train: TrainConfig,
}

/// `[data]`: what is learned from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataConfig {
    /// A text file or a folder of them; `None` is the embedded names.
    pub path: Option<String>,
    /// What one token is.
    pub tokenizer: TokenizerSource,
    /// How many tokens a byte-pair encoding learns; 0 where that is left open.
    pub vocab: usize,
    /// The share that is never trained on, the end of a text or rows drawn from a table; 0 for none.
    pub validation: f64,
    /// Which windows of the text a step reads.
    pub order: Order,
    /// The column of a table that is learned, or the file of an array's targets.
    pub target: Option<String>,
    /// What is learned about the target.
    pub task: TaskKind,
    /// Columns of a table that are left out, with commas between them.
    pub ignore: Option<String>,
    /// Columns of a table whose numbers are names.
    pub categories: Option<String>,
    /// What an empty cell of a table is.
    pub missing: Missing,
}

impl DataConfig {
    fn check(&self) -> Result<()> {
        let bpe = self.tokenizer == TokenizerSource::Made(TokenizerKind::Bpe);
        match self.vocab {
            0 => Ok(()),
            _ if !bpe => {
                Err(Error::usage("data.vocab is for data.tokenizer=bpe: other tokenizers have the size they have")
                    .hint("leave data.vocab out, or set data.tokenizer=bpe"))
            }
            1..=255 => Err(Error::usage(format!(
                "data.vocab must be at least 256, one token for each byte, got {}",
                self.vocab
            ))
            .hint("for example data.vocab = 1024")),
            _ => Ok(()),
        }
    }
}

/// `[model]`: what learns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelConfig {
    /// The kind of network.
    pub kind: ModelKind,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Numbers that stand for one token.
    pub width: usize,
    /// Numbers of the hidden layer or state.
    pub hidden: usize,
    /// Tokens that the model sees at once.
    pub context: usize,
    /// Size of the token table; 0 is the tokenizer's. See [`Config::vocab_for`].
    pub vocab: usize,
    /// Share of values dropped in training.
    pub dropout: f64,
    /// Whether the output layer shares the token table.
    pub tied: bool,
    /// Whether linear layers and layer norms add a bias.
    pub bias: bool,
    /// The function between the layers of the feed-forward part.
    pub activation: Activation,
}

/// `[optimizer]`: how a gradient becomes an update.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OptimizerConfig {
    /// The update rule.
    pub kind: OptimizerKind,
    /// The highest learning rate.
    pub lr: f64,
    /// The two decay rates of the moments of AdamW and Adam, or of Lion's means.
    pub betas: [f64; 2],
    /// What is added to a divisor.
    pub eps: f64,
    /// The decay rate of RMSProp's mean square.
    pub alpha: f64,
    /// Strength of weight decay.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub decay: Decay,
    /// The momentum of `momentum` and `nesterov`.
    pub momentum: f64,
    /// The largest norm of the whole gradient; 0 is no limit.
    pub clip: f64,
}

/// `[schedule]`: how the learning rate changes over a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScheduleConfig {
    /// The shape after the warm-up.
    pub kind: ScheduleKind,
    /// Steps of linear rise at the start.
    pub warmup: u64,
    /// The rate that a cosine ends at, and that others do not fall below.
    pub min_lr: f64,
    /// What `step`, `exponential` and `plateau` multiply the rate by.
    pub factor: f64,
    /// Steps over which `step` and `exponential` do; 0 is a fifth of those after the warm-up.
    pub every: u64,
    /// Evaluations without improvement that `plateau` lets pass.
    pub patience: u64,
    /// The share by which a loss must be lower for `plateau`.
    pub threshold: f64,
    /// The share of the steps in which `onecycle` rises.
    pub pct_start: f64,
    /// The highest rate of `onecycle` over its first.
    pub div_factor: f64,
    /// The first rate of `onecycle` over its last.
    pub final_div_factor: f64,
}

/// `[train]`: how long, in what batches, and what is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainConfig {
    /// Planned training steps.
    pub steps: u64,
    /// Windows read by one step.
    pub batch: usize,
    /// Parts that a batch is computed in.
    pub grad_shards: usize,
    /// What the moving average of the weights keeps of itself at each step; 0 is no average.
    pub ema: f64,
    /// Steps between evaluations; 0 is only at the end.
    pub eval_every: u64,
    /// How much the examples of a class count.
    pub class_weights: ClassWeights,
    /// Steps between checkpoints; 0 is only at the end.
    pub save_every: u64,
    /// Newest checkpoints kept beside the best one; 0 is all.
    pub keep: usize,
    /// Evaluations without improvement after which a run ends early; 0 is never.
    pub patience: u64,
    /// How much lower a loss must be for that.
    pub min_delta: f64,
    /// Whether norms of each layer are told.
    pub norms: bool,
    /// Whether an event file for TensorBoard is written.
    pub tensorboard: bool,
    /// What matrix products multiply.
    pub precision: Precision,
    /// Seed of the initial weights, the data order and dropout.
    pub seed: u64,
    /// Threads; 0 is one a core. They never change a result.
    pub threads: usize,
}

/// The optimizer where none is named.
const USUAL_OPTIMIZER: OptimizerKind = OptimizerKind::AdamW;

impl Config {
    /// The defaults for a kind of data and the model that is usual for it.
    pub fn defaults(kind: DataKind) -> Config {
        Config::defaults_with(kind, kind.model())
    }

    /// The defaults for a kind of data and a model, with the optimizer that is usual for them.
    pub fn defaults_with(data: DataKind, model: ModelKind) -> Config {
        Config::defaults_for(data, model, USUAL_OPTIMIZER)
    }

    /// The defaults for a kind of data, a model and an optimizer.
    pub fn defaults_for(data: DataKind, model: ModelKind, optimizer: OptimizerKind) -> Config {
        let mut config = Config::default();
        for key in KEYS {
            let default = key.default_for(data, model, optimizer);
            let assigned = parse::value_of_text(key, default).map(|value| config.assign(key, value));
            debug_assert!(assigned.is_ok(), "the default of {} is not one", key.name);
        }
        (config.model.kind, config.optimizer.kind) = (model, optimizer);
        config
    }

    /// The configuration of a run: the defaults for the data it names, under the file, under the `sets` (key and value, as
    /// from `--set` and the flags that are short names of keys), the later winning. Ends with [`Config::check`].
    ///
    /// # Errors
    /// Those of [`Config::merge_file`], [`Config::set`] and [`Config::check`].
    pub fn build(file: Option<&Path>, sets: &[(String, String)]) -> Result<Config> {
        let mut assignments = match file {
            Some(path) => parse::file(path)?,
            None => Vec::new(),
        };
        for (name, text) in sets {
            let key = parse::known_key(name)?;
            assignments.push(Assignment { key, value: parse::value_of_text(key, text)? });
        }
        // The defaults depend on the data, the model and the optimizer, which the assignments may name.
        let mut named = Config::default();
        named.apply(&assignments);
        let data = named.data_kind();
        (named.model.kind, named.optimizer.kind) = (data.model(), USUAL_OPTIMIZER);
        named.apply(&assignments);
        let mut config = Config::defaults_for(data, named.model.kind, named.optimizer.kind);
        config.apply(&assignments);
        config.check()?;
        config.check_model()?;
        Ok(config)
    }

    /// Checks that the model reads the data that the configuration names.
    ///
    /// # Errors
    /// It does not; the hint names the models that do.
    pub fn check_model(&self) -> Result<()> {
        let (data, model) = (self.data_kind(), self.model.kind);
        if data != DataKind::Table && self.data.target.is_some() {
            return Err(Error::usage("data.target is the column of a table, and the data is a text")
                .hint("name a .csv, .tsv or .npy file, or leave --target out"));
        }
        if data.suits(model) { Ok(()) } else { Err(data.misfit(model)) }
    }

    /// What is trained on, by the ending of the path.
    pub fn data_kind(&self) -> DataKind {
        self.data.path.as_deref().map_or(DataKind::Names, |path| crate::data::kind_of(Path::new(path)).defaults)
    }

    /// Takes over what a TOML file sets, leaving the rest.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has an unknown key or a value of the wrong type or range: with file and line.
    pub fn merge_file(&mut self, path: &Path) -> Result<()> {
        let assignments = parse::file(path)?;
        self.apply(&assignments);
        Ok(())
    }

    /// Takes over what a TOML text sets; `label` names it in errors.
    ///
    /// # Errors
    /// As [`Config::merge_file`].
    pub fn merge_toml(&mut self, text: &str, label: &str) -> Result<()> {
        let assignments = parse::toml(text, label)?;
        self.apply(&assignments);
        Ok(())
    }

    /// Sets one key from text, as `--set train.steps=100` does.
    ///
    /// # Errors
    /// An unknown key, with the nearest known one, or a value of the wrong type or range.
    pub fn set(&mut self, key: &str, text: &str) -> Result<()> {
        let key = parse::known_key(key)?;
        let value = parse::value_of_text(key, text)?;
        self.assign(key, value);
        Ok(())
    }

    /// The value of a key, written as TOML; `None` for an unknown key and for a `data.path` that is not set.
    pub fn get(&self, key: &str) -> Option<String> {
        let key = KEYS.iter().find(|known| known.name == key)?;
        self.value(key).toml()
    }

    /// Checks every range, and what keys must satisfy together.
    ///
    /// # Errors
    /// The first value that does not fit.
    pub fn check(&self) -> Result<()> {
        for key in KEYS {
            parse::check_range(key, &self.value(key))?;
        }
        let (width, heads) = (self.model.width, self.model.heads);
        if self.model.kind == ModelKind::Gpt2 && width % heads != 0 {
            let below = width / heads * heads;
            let fitting = if below == 0 { heads.to_string() } else { format!("{below} or {}", below + heads) };
            return Err(Error::usage(format!(
                "model.width must be a multiple of model.heads, got a width of {width} and {heads} heads"
            ))
            .hint(format!("with {heads} heads, a width of {fitting} fits")));
        }
        self.data.check()?;
        self.check_schedule()?;
        self.check_shards()
    }

    fn check_schedule(&self) -> Result<()> {
        let (lr, lowest, kind) = (self.optimizer.lr, self.schedule.min_lr, self.schedule.kind);
        if crate::schedule::has_floor(kind) && lowest > lr {
            return Err(Error::usage(format!("schedule.min_lr must not be above optimizer.lr, got {lowest} and {lr}"))
                .hint("set schedule.min_lr too, a tenth of the learning rate for example, or schedule.kind=constant"));
        }
        let Some(what) = self.needs_evaluations() else { return Ok(()) };
        let missing = match (self.data.validation == 0.0, self.train.eval_every == 0) {
            (true, _) => "data.validation is 0",
            (_, true) => "train.eval_every is 0",
            _ => return Ok(()),
        };
        Err(Error::usage(format!("{what} needs evaluations during training, but {missing}")).hint(
            "keep a part of the data with data.validation=0.1, and measure it with train.eval_every=100 for example",
        ))
    }

    /// The setting that acts on validation losses during training, if there is one.
    pub fn needs_evaluations(&self) -> Option<&'static str> {
        match (self.schedule.kind == ScheduleKind::Plateau, self.train.patience > 0) {
            (true, _) => Some("schedule.kind = plateau"),
            (_, true) => Some("train.patience"),
            _ => None,
        }
    }

    fn check_shards(&self) -> Result<()> {
        let (batch, shards) = (self.train.batch, self.train.grad_shards);
        if shards.is_power_of_two() && batch.is_multiple_of(shards) {
            return Ok(());
        }
        let fitting: Vec<String> =
            (0..8).map(|k| 1usize << k).filter(|n| batch.is_multiple_of(*n)).map(|n| n.to_string()).collect();
        Err(Error::usage(format!(
            "train.grad_shards must be a power of two that divides train.batch, got {shards} and a batch of {batch}"
        ))
        .hint(format!("for a batch of {batch}, set it to {}", parse::one_of(&fitting))))
    }

    /// The size of the model's token table for a tokenizer of `tokens` tokens: `model.vocab`, or as many where that is 0.
    ///
    /// # Errors
    /// `model.vocab` is smaller than the tokenizer's.
    pub fn vocab_for(&self, tokens: usize) -> Result<usize> {
        match self.model.vocab {
            0 => Ok(tokens),
            vocab if vocab < tokens => Err(Error::usage(format!(
                "model.vocab must be at least {tokens}, the size of the tokenizer, got {vocab}"
            ))
            .hint("leave model.vocab at 0 to take the tokenizer's size")),
            vocab => Ok(vocab),
        }
    }

    /// The whole configuration as TOML, every key in the order of [`KEYS`]; reading it gives the same configuration.
    pub fn resolved(&self) -> String {
        self.write(|_| true)
    }

    /// The part of the configuration that decides results, as TOML: all but `data.path`, `train.threads` and
    /// `train.tensorboard`. A tokenizer from a file is named as in the run folder, and targets in a file by the name alone.
    pub fn for_checkpoint(&self) -> String {
        let mut config = self.clone();
        if let TokenizerSource::File(path) = &mut config.data.tokenizer {
            *path = "tokenizer.json".to_string();
        }
        if let Some(file) = crate::data::table::target_file(self) {
            config.data.target = Path::new(&file).file_name().map(|name| name.to_string_lossy().into_owned());
        }
        config.write(|key| !["data.path", "train.threads", "train.tensorboard"].contains(&key.name))
    }

    /// Whether a run that goes on with this configuration goes on as the one of [`Config::for_checkpoint`] that a checkpoint
    /// holds. Keys that are younger than the checkpoint must have their defaults.
    pub fn is_planned_as(&self, checkpoint: &str) -> bool {
        let mut then = Config::defaults_for(self.data_kind(), self.model.kind, self.optimizer.kind);
        then.merge_toml(checkpoint, "checkpoint").is_ok() && then.for_checkpoint() == self.for_checkpoint()
    }

    fn write(&self, wanted: impl Fn(&Key) -> bool) -> String {
        let mut text = String::new();
        let mut section = "";
        for key in KEYS.iter().filter(|key| wanted(key)) {
            let Some(value) = self.value(key).toml() else { continue };
            if key.section() != section {
                let gap = if text.is_empty() { "" } else { "\n" };
                section = key.section();
                let _ = writeln!(text, "{gap}[{section}]");
            }
            let _ = writeln!(text, "{} = {value}", key.short());
        }
        text
    }

    fn value(&self, key: &Key) -> Value {
        // The table gives write access only; a copy of these few numbers is read through it.
        match (key.slot)(&mut self.clone()) {
            Slot::Whole(slot) => Value::Whole(*slot),
            Slot::Size(slot) => Value::Whole(*slot as u64),
            Slot::Number(slot) => Value::Number(*slot),
            Slot::Pair(slot) => Value::Pair(*slot),
            Slot::Flag(slot) => Value::Flag(*slot),
            Slot::Choice(slot) => Value::Text(slot.chosen().to_string()),
            Slot::Text(slot) => Value::Text(slot.clone().unwrap_or_default()),
        }
    }

    fn apply(&mut self, assignments: &[Assignment]) {
        for Assignment { key, value } in assignments {
            self.assign(key, value.clone());
        }
    }

    /// Stores a value that was checked against the key's type and range.
    fn assign(&mut self, key: &Key, value: Value) {
        match ((key.slot)(self), value) {
            (Slot::Whole(slot), Value::Whole(value)) => *slot = value,
            (Slot::Size(slot), Value::Whole(value)) => *slot = usize::try_from(value).unwrap_or(usize::MAX),
            (Slot::Number(slot), Value::Number(value)) => *slot = value,
            (Slot::Pair(slot), Value::Pair(value)) => *slot = value,
            (Slot::Flag(slot), Value::Flag(value)) => *slot = value,
            (Slot::Choice(slot), Value::Text(value)) => {
                let known = slot.choose(&value);
                debug_assert!(known, "{value} was checked against the words of {}", key.name);
            }
            (Slot::Text(slot), Value::Text(value)) => *slot = Some(value).filter(|text| !text.is_empty()),
            (_, value) => debug_assert!(false, "{value:?} is not of the type of {}", key.name),
        }
    }
}

/// Splits the `key=value` of `--set`.
///
/// # Errors
/// There is no `=`.
pub fn split_set(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_string(), value.trim().to_string())),
        None => Err(Error::usage(format!("--set wants key=value, got `{text}`"))
            .hint("for example --set train.steps=500; `geartrain train --help` lists the keys")),
    }
}

#[cfg(test)]
mod tests;
