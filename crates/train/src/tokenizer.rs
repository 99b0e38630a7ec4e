//! Text to token ids and back: one token a character, or one a byte.
//!
//! `tokenizer.json` is in the format of Hugging Face's `tokenizers` library, which reads the file and gives the same ids:
//! - characters: a `WordLevel` model whose words are the single characters, with a `Split` pre-tokenizer that makes every
//!   code point (newlines too) a piece of its own and a `Fuse` decoder that joins them without spaces;
//! - bytes: a `BPE` model without merges over the 256 letters of the `ByteLevel` alphabet, each with its byte as the id.
//!
//! Which of the two a file holds is read from that structure, so the file needs no field of our own.

use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::config::TokenizerKind;
use crate::error::{Error, Result, thousands};

/// An id that no token has: the mark of a character that is not in the alphabet.
const NONE: u32 = u32::MAX;

/// The most characters that an error message lists.
const LISTED: usize = 120;

/// A character or byte tokenizer. Two tokenizers are equal when they give the same ids to every text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenizer {
    kind: TokenizerKind,
    /// Character tokens by id; empty for bytes.
    chars: Vec<char>,
    /// Ids by code point, `NONE` where a character is not in the alphabet; empty for bytes.
    ids: Vec<u32>,
}

impl Tokenizer {
    /// The tokenizer of a kind for a text.
    pub fn new(kind: TokenizerKind, text: &str) -> Tokenizer {
        match kind {
            TokenizerKind::Char => Tokenizer::chars(text),
            TokenizerKind::Byte => Tokenizer::bytes(),
        }
    }

    /// One token a character: the characters that occur in `text`, numbered in the order of their code points.
    pub fn chars(text: &str) -> Tokenizer {
        let mut seen = vec![false; char::MAX as usize + 1];
        for c in text.chars() {
            seen[c as usize] = true;
        }
        let occurring = seen.iter().enumerate().filter(|(_, seen)| **seen);
        Tokenizer::from_chars(occurring.filter_map(|(code, _)| char::from_u32(code as u32)).collect())
    }

    /// One token a byte of the UTF-8 text: 256 tokens, any text.
    pub fn bytes() -> Tokenizer {
        Tokenizer { kind: TokenizerKind::Byte, chars: Vec::new(), ids: Vec::new() }
    }

    fn from_chars(chars: Vec<char>) -> Tokenizer {
        let size = chars.iter().map(|c| *c as usize + 1).max().unwrap_or(0);
        let mut ids = vec![NONE; size];
        for (id, c) in chars.iter().enumerate() {
            ids[*c as usize] = id as u32;
        }
        Tokenizer { kind: TokenizerKind::Char, chars, ids }
    }

    /// Whether tokens are characters or bytes.
    pub fn kind(&self) -> TokenizerKind {
        self.kind
    }

    /// The number of different tokens; ids are below it.
    pub fn vocab_size(&self) -> usize {
        match self.kind {
            TokenizerKind::Char => self.chars.len(),
            TokenizerKind::Byte => 256,
        }
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// A character that is not in the alphabet, with its line and column (both from 1).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if self.kind == TokenizerKind::Byte {
            return Ok(text.bytes().map(u32::from).collect());
        }
        let mut tokens = Vec::with_capacity(text.len());
        for (offset, c) in text.char_indices() {
            match self.ids.get(c as usize) {
                Some(&id) if id != NONE => tokens.push(id),
                _ => return Err(self.unknown(c, &text[..offset])),
            }
        }
        Ok(tokens)
    }

    fn unknown(&self, c: char, before: &str) -> Error {
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let known = if self.chars.len() <= LISTED {
            format!("the characters it knows are {}", self.chars.iter().map(|c| shown(*c)).collect::<String>())
        } else {
            format!("it knows {} characters", thousands(self.chars.len()))
        };
        Error::usage(format!(
            "the tokenizer does not know the character `{}` (U+{:04X}) at line {line}, column {column}",
            shown(c),
            c as u32
        ))
        .hint(format!("{known}; a model trained with data.tokenizer=byte takes any text"))
    }

    /// The text of token ids. Bytes that are not valid UTF-8, and ids that no token has, become U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        match self.kind {
            TokenizerKind::Char => {
                let char_of = |id: &u32| self.chars.get(*id as usize).copied().unwrap_or(char::REPLACEMENT_CHARACTER);
                tokens.iter().map(char_of).collect()
            }
            // 0xff never occurs in UTF-8, so an id above 255 decodes to U+FFFD too.
            TokenizerKind::Byte => {
                let bytes: Vec<u8> = tokens.iter().map(|id| u8::try_from(*id).unwrap_or(0xff)).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
        }
    }

    /// SHA-256 of what decides the ids (the kind and the tokens in order), in hex; the layout of the file does not matter.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(format!("geartrain tokenizer {}\n", self.kind.name()));
        hasher.update(self.chars.iter().collect::<String>());
        hex(&hasher.finalize())
    }

    /// The text of `tokenizer.json`.
    pub fn to_json(&self) -> String {
        let value = match self.kind {
            TokenizerKind::Char => {
                let vocab: Map<String, Value> =
                    (self.chars.iter().zip(0u32..)).map(|(c, id)| (c.to_string(), id.into())).collect();
                json!({
                    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
                    "pre_tokenizer": char_split(), "post_processor": null, "decoder": {"type": "Fuse"},
                    "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}
                })
            }
            TokenizerKind::Byte => {
                let vocab: Map<String, Value> =
                    (0..=255u8).map(|byte| (byte_letter(byte).to_string(), byte.into())).collect();
                json!({
                    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
                    "pre_tokenizer": byte_level(), "post_processor": null, "decoder": byte_level(),
                    "model": {
                        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                        "ignore_merges": false, "vocab": vocab, "merges": []
                    }
                })
            }
        };
        format!("{value:#}\n")
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.to_json()).map_err(|reason| Error::io("write", path, &reason))
    }

    /// Reads the text of a `tokenizer.json` that [`Tokenizer::to_json`] made or that has the same structure.
    ///
    /// # Errors
    /// It is not JSON, or not a character or byte tokenizer.
    pub fn from_json(text: &str) -> Result<Tokenizer> {
        let value: Value = serde_json::from_str(text)
            .map_err(|reason| Error::no_checkpoint(format!("the tokenizer is not valid JSON: {reason}")))?;
        let vocab = value["model"]["vocab"].as_object();
        let byte_level = value["pre_tokenizer"]["type"] == "ByteLevel";
        let merged = value["model"]["merges"].as_array().is_some_and(|merges| !merges.is_empty());
        match (value["model"]["type"].as_str(), vocab) {
            (Some("WordLevel"), Some(vocab)) if value["pre_tokenizer"] == char_split() => read_chars(vocab),
            (Some("BPE"), Some(vocab)) if byte_level && !merged => read_bytes(vocab),
            (Some(kind), _) => Err(not_ours(&format!("its model is a {kind} of another form"))),
            (None, _) => Err(Error::no_checkpoint("the tokenizer has no model")
                .hint("a tokenizer.json in the format of Hugging Face's tokenizers library is needed")),
        }
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

fn char_split() -> Value {
    json!({"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false})
}

fn byte_level() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})
}

fn not_ours(why: &str) -> Error {
    Error::no_checkpoint(format!("the tokenizer is neither a character nor a byte tokenizer: {why}"))
        .hint("tokenizers with merges and other kinds are not available yet")
}

fn read_chars(vocab: &Map<String, Value>) -> Result<Tokenizer> {
    let mut chars = vec![None; vocab.len()];
    for (token, id) in vocab {
        let mut letters = token.chars();
        let (Some(c), None) = (letters.next(), letters.next()) else {
            return Err(not_ours(&format!("the token `{}` is not one character", token.escape_debug())));
        };
        match id.as_u64().and_then(|id| chars.get_mut(usize::try_from(id).ok()?)) {
            Some(slot @ None) => *slot = Some(c),
            _ => return Err(ids_wrong(vocab.len())),
        }
    }
    Ok(Tokenizer::from_chars(chars.into_iter().flatten().collect()))
}

fn read_bytes(vocab: &Map<String, Value>) -> Result<Tokenizer> {
    let is_byte = |byte: u8| vocab.get(&byte_letter(byte).to_string()).and_then(Value::as_u64) == Some(byte.into());
    if vocab.len() != 256 || !(0..=255).all(is_byte) {
        return Err(not_ours("its tokens are not the 256 bytes in their order"));
    }
    Ok(Tokenizer::bytes())
}

fn ids_wrong(size: usize) -> Error {
    Error::no_checkpoint(format!(
        "the tokenizer is damaged: its {} tokens must have the ids from 0 to {}, each once",
        thousands(size),
        size.saturating_sub(1)
    ))
}

/// The letter that stands for a byte in `ByteLevel` files: printable Latin-1 bytes are themselves, the others follow from
/// U+0100 on in the order of their values (GPT-2's table).
fn byte_letter(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// A character as a message shows it: control characters escaped, everything else as it is.
fn shown(c: char) -> String {
    if c == '\'' || c == '"' || c == '\\' { c.to_string() } else { c.escape_debug().to_string() }
}

/// Bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
