//! A text as a dataset: its tokens in two parts, read in windows.

use std::path::Path;
use std::sync::Arc;

use geartrain_engine::{Batch, State};

use crate::config::{Config, DataKind, Order, TokenizerKind, TokenizerSource};
use crate::data::cache::{self, TokenFile};
use crate::data::source::Scan;
use crate::data::tokens::{self, Gathered, Tokens};
use crate::data::{Dataset, Encoder, Evaluation, Kind, Part, Text, Windows, encoder_as};
use crate::error::{Error, Result};
use crate::model::{self, Task};
use crate::sample;
use crate::tokenizer::{Learner, Stream, Tokenizer};
use crate::words::{count, thousands};

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

/// Bytes of a text from which on its tokens are kept in the cache: they take longer to make than to check.
const CACHED: u64 = 4 << 20;

/// Tokens that a byte-pair encoding has where `data.vocab` does not say it.
const VOCAB: usize = 1024;

/// The tokens of a text in two parts, with the tokenizer they come from.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The training part: the first tokens of the text.
    pub train: Tokens,
    /// The validation part: the rest; empty where `data.validation` is 0.
    pub validation: Tokens,
    /// The tokenizer of the text.
    pub tokenizer: Tokenizer,
    /// SHA-256 of the normalised text, in hex.
    pub hash: String,
    /// A short name of the text, as for a run folder: the file's or folder's name without its ending, or `names`.
    pub name: String,
}

impl Corpus {
    /// Loads the text that a configuration names and splits its tokens. Without a `tokenizer`, the configuration says which:
    /// one that is made from the text, or one from a file.
    ///
    /// # Errors
    /// Those of [`Text::open`], [`Tokenizer::load`] and [`Corpus::new`]; a text that supports fewer tokens than asked for.
    pub fn load(config: &Config, tokenizer: Option<Tokenizer>) -> Result<Corpus> {
        let text = Text::open(config.data.path.as_deref().map(Path::new))?;
        let (tokenizer, scan) = match (tokenizer, &config.data.tokenizer) {
            (Some(tokenizer), _) => (tokenizer, text.read(&mut |_| Ok(()))?),
            (None, TokenizerSource::File(path)) => (Tokenizer::load(Path::new(path))?, text.read(&mut |_| Ok(()))?),
            (None, TokenizerSource::Made(kind)) => learn(&text, *kind, config.data.vocab)?,
        };
        let folder = cache::folder();
        Corpus::of(&text, &scan, tokenizer, folder.as_deref())?.split(
            &text,
            config.data.validation,
            config.model.context,
        )
    }

    /// Splits a text at `cut = floor((1 - validation) * n)` of its `n` tokens. Nothing is kept in the cache.
    ///
    /// # Errors
    /// A text that cannot be read, a character that the tokenizer does not know, or a part shorter than one window of
    /// `context` + 1 tokens.
    pub fn new(text: &Text, tokenizer: Tokenizer, validation: f64, context: usize) -> Result<Corpus> {
        let scan = text.read(&mut |_| Ok(()))?;
        Corpus::of(text, &scan, tokenizer, None)?.split(text, validation, context)
    }

    /// All tokens of a text, from the cache in a folder if it is large.
    fn of(text: &Text, scan: &Scan, tokenizer: Tokenizer, folder: Option<&Path>) -> Result<Corpus> {
        let width = tokens::width(tokenizer.vocab_size());
        let (hash, name) = (scan.hash.clone(), text.name.clone());
        let folder = folder.filter(|_| scan.bytes >= CACHED);
        let file = folder.map(|folder| TokenFile::new(folder, &scan.hash, &tokenizer.hash(), width));
        let mut all = file.as_ref().and_then(TokenFile::read);
        if let Some(file) = file.filter(|_| all.is_none())
            && file.write(|take| encode(text, scan, &tokenizer, take))?
        {
            all = file.read();
        }
        let all = match all {
            Some(all) => all,
            None => {
                let mut gathered = Gathered::new(width);
                encode(text, scan, &tokenizer, &mut |ids| {
                    gathered.add(ids);
                    Ok(())
                })?;
                gathered.tokens()
            }
        };
        Ok(Corpus { train: all, validation: Tokens::default(), tokenizer, hash, name })
    }

    fn split(self, text: &Text, validation: f64, context: usize) -> Result<Corpus> {
        let all = self.train;
        let (train, validated) = all.split_at(split_at(all.len(), validation));
        check_parts(&text.label, (train.len(), validated.len()), validation, context)?;
        Ok(Corpus { train, validation: validated, ..self })
    }
}

/// A tokenizer of the kind that a configuration asks for, made from a text; `vocab` is 0 where it does not say how large.
fn learn(text: &Text, kind: TokenizerKind, vocab: usize) -> Result<(Tokenizer, Scan)> {
    let mut learner = Learner::new(kind);
    let scan = text.read(&mut |part| {
        learner.push(part);
        Ok(())
    })?;
    let tokenizer = learner.finish(if vocab == 0 { VOCAB } else { vocab })?;
    let reached = tokenizer.vocab_size();
    if vocab > reached && kind == TokenizerKind::Bpe {
        let what = format!(
            "data.vocab asks for {}, but only {} can be learned from {}: after that, no pair of neighbours occurs twice",
            count(vocab, "token"),
            thousands(reached),
            text.label
        );
        return Err(Error::usage(what).hint(format!("set data.vocab to {reached} or less, or use a longer text")));
    }
    Ok((tokenizer, scan))
}

/// Gives the tokens of a text, a part after the other.
fn encode(text: &Text, scan: &Scan, tokenizer: &Tokenizer, take: cache::Take<'_>) -> Result<()> {
    let (mut stream, mut ids) = (Stream::new(tokenizer), Vec::new());
    let again = text.read(&mut |part| {
        ids.clear();
        stream.push(part, &mut ids).map_err(|error| error.at(&text.label))?;
        take(&ids)
    })?;
    ids.clear();
    stream.finish(&mut ids);
    take(&ids)?;
    if again == *scan {
        return Ok(());
    }
    Err(Error::failed(format!("{} changed while it was read", text.label)).hint("start again when it is finished"))
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

    fn part(&self, part: Part) -> &Tokens {
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
