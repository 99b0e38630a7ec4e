//! Texts that are read in parts: learning a tokenizer from one, and its tokens.

use std::collections::HashMap;
use std::ops::Range;

use super::bpe::{Bpe, Work};
use super::chars::{Alphabet, Chars};
use super::learn::Words;
use super::split::{Cutter, Piece};
use super::{Model, Tokenizer};
use crate::config::TokenizerKind;
use crate::error::Result;

/// Words whose tokens are remembered, and the bytes of the longest of them.
const REMEMBERED: (usize, usize) = (1 << 17, 32);

/// A tokenizer in the making: what it must know of a text that arrives in parts.
pub struct Learner {
    seen: Seen,
}

enum Seen {
    Chars(Alphabet),
    Bytes,
    Words(Words, Cutter<'static>),
}

impl Learner {
    /// Of a kind.
    pub fn new(kind: TokenizerKind) -> Learner {
        let seen = match kind {
            TokenizerKind::Char => Seen::Chars(Alphabet::new()),
            TokenizerKind::Byte => Seen::Bytes,
            TokenizerKind::Bpe => Seen::Words(Words::default(), Cutter::new(&[])),
        };
        Learner { seen }
    }

    /// The next part of the text.
    pub fn push(&mut self, text: &str) {
        match &mut self.seen {
            Seen::Chars(alphabet) => alphabet.add(text),
            Seen::Bytes => {}
            Seen::Words(words, cutter) => cutter.push(text, &mut |piece| count(words, piece)),
        }
    }

    /// The tokenizer of the whole text: of `vocab` tokens, or of as many as the text supports, where that can be chosen.
    ///
    /// # Errors
    /// More different words than can be numbered.
    pub fn finish(self, vocab: usize) -> Result<Tokenizer> {
        Ok(match self.seen {
            Seen::Chars(alphabet) => Model::Chars(alphabet.chars()).into(),
            Seen::Bytes => Model::Bytes.into(),
            Seen::Words(mut words, mut cutter) => {
                cutter.finish(&mut |piece| count(&mut words, piece));
                Model::Bpe(words.learn(vocab)?.into()).into()
            }
        })
    }
}

fn count(words: &mut Words, piece: Piece<'_>) {
    if let Piece::Word(word) = piece {
        words.add(word);
    }
}

/// The tokens of a text that arrives in parts; they are those of the whole, wherever it is cut.
pub struct Stream<'t> {
    coder: Coder<'t>,
    /// Line and column of what comes next, from 1.
    place: (usize, usize),
}

enum Coder<'t> {
    Chars(&'t Chars),
    Bytes,
    Bpe(Cutter<'t>, Box<Memo<'t>>),
}

impl<'t> Stream<'t> {
    /// From the start of a text.
    pub fn new(tokenizer: &'t Tokenizer) -> Stream<'t> {
        let coder = match &tokenizer.model {
            Model::Chars(chars) => Coder::Chars(chars),
            Model::Bytes => Coder::Bytes,
            Model::Bpe(bpe) => Coder::Bpe(Cutter::new(&bpe.added), Box::new(Memo::new(bpe))),
        };
        Stream { coder, place: (1, 1) }
    }

    /// Appends the tokens that the next part of the text makes sure.
    ///
    /// # Errors
    /// A character that is not in the alphabet, with its line and column.
    pub fn push(&mut self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        match &mut self.coder {
            Coder::Chars(chars) => {
                for (offset, c) in text.char_indices() {
                    let unknown = || chars.unknown(c, after(self.place, &text[..offset]));
                    out.push(chars.id(c).ok_or_else(unknown)?);
                }
                self.place = after(self.place, text);
            }
            Coder::Bytes => out.extend(text.bytes().map(u32::from)),
            Coder::Bpe(cutter, words) => cutter.push(text, &mut |piece| words.encode(piece, out)),
        }
        Ok(())
    }

    /// Appends the tokens that are left when the text has ended.
    pub fn finish(&mut self, out: &mut Vec<u32>) {
        if let Coder::Bpe(cutter, words) = &mut self.coder {
            cutter.finish(&mut |piece| words.encode(piece, out));
        }
    }
}

/// The line and column after a text that begins at a place.
fn after((line, column): (usize, usize), text: &str) -> (usize, usize) {
    let lines = text.bytes().filter(|byte| *byte == b'\n').count();
    let last = text.rfind('\n').map_or(text, |at| &text[at + 1..]);
    (line + lines, if lines == 0 { column } else { 1 } + last.chars().count())
}

/// The tokens of words; those of short ones are remembered, because a text has the same words again and again.
struct Memo<'t> {
    bpe: &'t Bpe,
    work: Work,
    known: HashMap<Box<str>, Range<usize>>,
    tokens: Vec<u32>,
}

impl<'t> Memo<'t> {
    fn new(bpe: &'t Bpe) -> Memo<'t> {
        Memo { bpe, work: Work::default(), known: HashMap::new(), tokens: Vec::new() }
    }

    fn encode(&mut self, piece: Piece<'_>, out: &mut Vec<u32>) {
        let word = match piece {
            Piece::Word(word) => word,
            Piece::Added(id) => return out.push(id),
        };
        if let Some(range) = self.known.get(word) {
            return out.extend_from_slice(&self.tokens[range.clone()]);
        }
        let start = out.len();
        self.bpe.word(word.as_bytes(), &mut self.work, out);
        let (words, longest) = REMEMBERED;
        if word.len() <= longest && self.known.len() < words {
            let first = self.tokens.len();
            self.tokens.extend_from_slice(&out[start..]);
            self.known.insert(word.into(), first..self.tokens.len());
        }
    }
}
