//! Text to token ids and back: one token a character, one a byte, or byte-pair encoding.
//!
//! `tokenizer.json` is in the format of Hugging Face's `tokenizers` library, which reads the file and gives the same ids:
//! - characters: a `WordLevel` model whose words are the single characters, with a `Split` pre-tokenizer that makes every
//!   code point (newlines too) a piece of its own and a `Fuse` decoder that joins them without spaces;
//! - bytes: a `BPE` model without merges over the 256 letters of the `ByteLevel` alphabet, each with its byte as the id;
//! - byte-pair encoding: a `BPE` model with merges over the same alphabet, words being cut by `ByteLevel` with GPT-2's rule.
//!
//! Which of the three a file holds is read from that structure, so the file needs no field of our own.

mod bpe;
mod chars;
mod file;
mod learn;
pub(crate) mod split;
mod stream;

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::atomic;
use crate::config::TokenizerKind;
use crate::error::{Error, Result};
use bpe::Bpe;
use chars::Chars;

pub use stream::{Learner, Stream};

/// A tokenizer. Two tokenizers are equal when they give the same ids to every text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenizer {
    model: Model,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Model {
    Chars(Chars),
    Bytes,
    Bpe(Arc<Bpe>),
}

impl From<Model> for Tokenizer {
    fn from(model: Model) -> Tokenizer {
        Tokenizer { model }
    }
}

impl Tokenizer {
    /// The tokenizer of a kind for a text: of `vocab` tokens, or of as many as the text supports, where that can be chosen.
    ///
    /// # Errors
    /// Those of [`Learner::finish`].
    pub fn new(kind: TokenizerKind, text: &str, vocab: usize) -> Result<Tokenizer> {
        let mut learner = Learner::new(kind);
        learner.push(text);
        learner.finish(vocab)
    }

    /// One token a character: the characters that occur in `text`, numbered in the order of their code points.
    pub fn chars(text: &str) -> Tokenizer {
        let mut alphabet = chars::Alphabet::new();
        alphabet.add(text);
        Model::Chars(alphabet.chars()).into()
    }

    /// One token a byte of the UTF-8 text: 256 tokens, any text.
    pub fn bytes() -> Tokenizer {
        Model::Bytes.into()
    }

    /// What tokens are.
    pub fn kind(&self) -> TokenizerKind {
        match self.model {
            Model::Chars(_) => TokenizerKind::Char,
            Model::Bytes => TokenizerKind::Byte,
            Model::Bpe(_) => TokenizerKind::Bpe,
        }
    }

    /// The number of different tokens; ids are below it.
    pub fn vocab_size(&self) -> usize {
        match &self.model {
            Model::Chars(chars) => chars.chars.len(),
            Model::Bytes => 256,
            Model::Bpe(bpe) => bpe.tokens.len(),
        }
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// A character that is not in the alphabet, with its line and column (both from 1).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = Vec::new();
        let mut stream = Stream::new(self);
        stream.push(text, &mut tokens)?;
        stream.finish(&mut tokens);
        Ok(tokens)
    }

    /// The text of token ids. Bytes that are not valid UTF-8, and ids that no token has, become U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        // 0xff never occurs in UTF-8, so what is no token decodes to U+FFFD too.
        let lossy = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        match &self.model {
            Model::Chars(chars) => tokens.iter().map(|id| chars.char(*id)).collect(),
            Model::Bytes => lossy(tokens.iter().map(|id| u8::try_from(*id).unwrap_or(0xff)).collect()),
            Model::Bpe(bpe) => {
                let bytes = |id: &u32| bpe.tokens.get(*id as usize).map_or(&[0xff][..], |token| token);
                lossy(tokens.iter().flat_map(bytes).copied().collect())
            }
        }
    }

    /// SHA-256 of what decides the ids (the kind and the tokens in order), in hex; the layout of the file does not matter.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(format!("geartrain tokenizer {}\n", self.kind().name()));
        match &self.model {
            Model::Chars(chars) => hasher.update(chars.chars.iter().collect::<String>()),
            Model::Bytes => {}
            Model::Bpe(bpe) => {
                for token in &bpe.tokens {
                    hasher.update((token.len() as u64).to_le_bytes());
                    hasher.update(token);
                }
                let added = bpe.added.iter().map(|token| token.id);
                for number in bpe.merges.iter().flat_map(|(a, b)| [*a, *b]).chain([u32::MAX]).chain(added) {
                    hasher.update(number.to_le_bytes());
                }
            }
        }
        hex(&hasher.finalize())
    }

    /// The text of `tokenizer.json`.
    pub fn to_json(&self) -> String {
        file::write(self)
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        atomic::replace_with(path, self.to_json().as_bytes())
    }

    /// Reads the text of a `tokenizer.json`: one that [`Tokenizer::to_json`] made, or that of any byte-level BPE which cuts
    /// words as GPT-2 does.
    ///
    /// # Errors
    /// It is not JSON, it is damaged, or it holds another kind of tokenizer.
    pub fn from_json(text: &str) -> Result<Tokenizer> {
        file::read(text)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// Those of [`Tokenizer::from_json`] with the path in front, or the file cannot be read.
    pub fn load(path: &Path) -> Result<Tokenizer> {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| Error::no_checkpoint(format!("cannot read `{}`: {reason}", path.display())))?;
        Tokenizer::from_json(&text).map_err(|error| error.at(path.display()))
    }
}

/// Bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
