//! What is learned from: a text, its tokens, and the windows of tokens that each step reads.
//!
//! [`Text`] is loaded from a file, a folder or the embedded names; a [`Corpus`] is its tokens, split into a training part
//! (the first) and a validation part (the last); [`Windows`] says which windows of the training part a step reads, and
//! [`Evaluation`] cuts a part into consecutive windows.

mod names;
mod source;
mod windows;

use std::path::Path;

pub use names::names;
pub use source::Text;
pub use windows::{Evaluation, Windows};

use crate::config::Config;
use crate::error::{Error, Result, count, thousands};
use crate::tokenizer::Tokenizer;

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

#[cfg(test)]
mod tests;
