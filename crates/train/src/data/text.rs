//! A text as a dataset: its tokens in two parts, read in windows.

use std::path::Path;
use std::sync::Arc;

use geartrain_engine::{Batch, State};

use crate::config::{Config, DataKind, Order};
use crate::data::{Dataset, Encoder, Evaluation, Kind, Part, Text, Windows, encoder_as};
use crate::error::{Error, Result, count, thousands};
use crate::model::{self, Task};
use crate::sample;
use crate::tokenizer::Tokenizer;

/// A UTF-8 text file, a folder of them, or the embedded names.
pub static KIND: Kind = Kind {
    name: "text",
    encoder: "tokenizer.json",
    defaults: DataKind::Text,
    reads: |_| true,
    decode: |path| Ok(Arc::new(Tokenizer::load(path)?)),
    load: |config, encoder| {
        let tokenizer = encoder.map(|encoder| encoder_as::<Tokenizer>(&*encoder).cloned()).transpose()?;
        Ok(Box::new(TextData::new(config, Corpus::load(config, tokenizer)?)))
    },
};

/// The tokens of a text in two parts, with the tokenizer they come from.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The training part: the first tokens of the text.
    pub train: Vec<u32>,
    /// The validation part: the rest; empty where `data.validation` is 0.
    pub validation: Vec<u32>,
    /// The tokenizer of the text.
    pub tokenizer: Tokenizer,
    /// SHA-256 of the normalised text, in hex.
    pub hash: String,
    /// A short name of the text, as for a run folder: the file's or folder's name without its ending, or `names`.
    pub name: String,
}

impl Corpus {
    /// Loads the text that a configuration names and splits its tokens. Without a `tokenizer`, one is made from the text.
    ///
    /// # Errors
    /// Those of [`Text::load`] and [`Corpus::new`].
    pub fn load(config: &Config, tokenizer: Option<Tokenizer>) -> Result<Corpus> {
        let text = Text::load(config.data.path.as_deref().map(Path::new))?;
        let tokenizer = tokenizer.unwrap_or_else(|| Tokenizer::new(config.data.tokenizer, &text.text));
        Corpus::new(&text, tokenizer, config.data.validation, config.model.context)
    }

    /// Splits a text at `cut = floor((1 - validation) * n)` of its `n` tokens.
    ///
    /// # Errors
    /// A character that the tokenizer does not know, or a part shorter than one window of `context` + 1 tokens.
    pub fn new(text: &Text, tokenizer: Tokenizer, validation: f64, context: usize) -> Result<Corpus> {
        let mut train = tokenizer.encode(&text.text).map_err(|error| error.at(&text.label))?;
        let all = train.len();
        let part = train.split_off(split_at(all, validation));
        check_parts(&text.label, (train.len(), part.len()), validation, context)?;
        Ok(Corpus { train, validation: part, tokenizer, hash: text.hash.clone(), name: text.name.clone() })
    }
}

/// The number of training tokens among `n`: the product in f64 cut to a whole number, as Python's `int(0.9 * n)`.
fn split_at(n: usize, validation: f64) -> usize {
    (((1.0 - validation) * n as f64) as usize).min(n)
}

/// Refuses parts that do not hold one window: `context` inputs, and the target of the last of them.
fn check_parts(label: &str, (train, rest): (usize, usize), validation: f64, context: usize) -> Result<()> {
    let needed = context.saturating_add(1);
    let validated = validation > 0.0;
    let (part, tokens) = match (train < needed, validated && rest < needed) {
        (true, _) => ("training", train),
        (false, true) => ("validation", rest),
        (false, false) => return Ok(()),
    };
    let what = format!(
        "{label} is too short: its {part} part has {} of {}, but a context of {} needs at least {}",
        thousands(tokens),
        count(train + rest, "token"),
        thousands(context),
        thousands(needed)
    );
    Err(Error::usage(what).hint(shorter_context((train, rest), validated, needed, part == "validation")))
}

fn shorter_context((train, rest): (usize, usize), validated: bool, needed: usize, only_validation: bool) -> String {
    let smallest = if validated { train.min(rest) } else { train };
    let mut ways = Vec::new();
    if smallest >= 2 {
        ways.push(format!("lower --context to {} or less", smallest - 1));
    }
    if only_validation && (train + rest) / 2 >= needed {
        ways.push("raise data.validation".to_string());
    }
    if only_validation {
        ways.push("set data.validation=0 to train without evaluation".to_string());
    }
    ways.push("use a longer text".to_string());
    let last = ways.len() - 1;
    if last == 0 { ways.remove(0) } else { format!("{}, or {}", ways[..last].join(", "), ways[last]) }
}

/// A corpus that is read in windows of a model's context.
#[derive(Clone, Debug)]
pub struct TextData {
    /// Its tokens.
    pub corpus: Corpus,
    order: Order,
    seed: u64,
    context: usize,
    answers: usize,
    batch: usize,
}

impl TextData {
    /// A corpus with the windows that a configuration asks for.
    pub fn new(config: &Config, corpus: Corpus) -> TextData {
        TextData {
            corpus,
            order: config.data.order,
            seed: config.train.seed,
            context: config.model.context,
            answers: model::answers_a_window(config),
            batch: config.train.batch,
        }
    }

    fn part(&self, part: Part) -> &[u32] {
        match part {
            Part::Training => &self.corpus.train,
            Part::Validation => &self.corpus.validation,
        }
    }

    fn evaluation(&self, part: Part, rows: usize) -> Result<Evaluation<'_>> {
        Ok(Evaluation::new(self.part(part), self.context, rows)?.answers(self.answers))
    }
}

impl Dataset for TextData {
    fn name(&self) -> &str {
        &self.corpus.name
    }
    fn hash(&self) -> &str {
        &self.corpus.hash
    }
    fn summary(&self) -> String {
        let tokens = self.corpus.train.len() + self.corpus.validation.len();
        format!("{}: {}, {} different", self.name(), count(tokens, "token"), self.corpus.tokenizer.vocab_size())
    }
    fn a_row(&self) -> (usize, &'static str) {
        (self.context, "token")
    }
    fn encoder(&self) -> &dyn Encoder {
        &self.corpus.tokenizer
    }
    fn fill(&self, step: u64, first: usize, batch: &mut Batch) -> Result<()> {
        let windows = Windows::new(&self.corpus.train, self.order, self.seed, self.context, self.batch)?;
        let (tokens, targets) = batch.u32_pair("tokens", "targets").map_err(Error::bug)?;
        windows.answers(self.answers).batch(step, first, tokens, targets);
        Ok(())
    }
    fn batches(&self, part: Part, rows: usize) -> Result<usize> {
        if self.part(part).is_empty() { Ok(0) } else { Ok(self.evaluation(part, rows)?.batches()) }
    }
    fn fill_part(&self, part: Part, rows: usize, i: usize, batch: &mut Batch) -> Result<usize> {
        let (tokens, targets) = batch.u32_pair("tokens", "targets").map_err(Error::bug)?;
        Ok(self.evaluation(part, rows)?.fill(i, tokens, targets) * self.answers)
    }
    fn samples(&self, config: &Config, state: &State) -> Result<Vec<String>> {
        sample::samples(config, &self.corpus, state)
    }
}

impl Encoder for Tokenizer {
    fn kind(&self) -> &'static Kind {
        &KIND
    }
    fn to_json(&self) -> String {
        Tokenizer::to_json(self)
    }
    fn hash(&self) -> String {
        Tokenizer::hash(self)
    }
    fn task(&self) -> Task {
        Task::Tokens { vocab: self.vocab_size() }
    }
}

#[cfg(test)]
mod tests;
