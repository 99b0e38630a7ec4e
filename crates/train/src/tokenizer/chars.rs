//! One token a character.

use crate::error::Error;
use crate::words::thousands;

/// An id that no token has: the mark of a character that is not in the alphabet.
const NONE: u32 = u32::MAX;

/// The most characters that an error message lists.
const LISTED: usize = 120;

/// An alphabet: a number for each of its characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chars {
    /// The characters by id.
    pub chars: Vec<char>,
    /// Ids by code point, `NONE` where a character is not in the alphabet.
    ids: Vec<u32>,
}

impl Chars {
    pub fn new(chars: Vec<char>) -> Chars {
        let size = chars.iter().map(|c| *c as usize + 1).max().unwrap_or(0);
        let mut ids = vec![NONE; size];
        for (id, c) in chars.iter().enumerate() {
            ids[*c as usize] = id as u32;
        }
        Chars { chars, ids }
    }

    pub fn id(&self, c: char) -> Option<u32> {
        self.ids.get(c as usize).copied().filter(|id| *id != NONE)
    }

    pub fn char(&self, id: u32) -> char {
        self.chars.get(id as usize).copied().unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    /// A character that is not in the alphabet, with its line and column, both from 1.
    pub fn unknown(&self, c: char, (line, column): (usize, usize)) -> Error {
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
}

/// The characters that occur in a text.
#[derive(Debug)]
pub(super) struct Alphabet {
    seen: Vec<bool>,
}

impl Alphabet {
    pub fn new() -> Alphabet {
        Alphabet { seen: vec![false; char::MAX as usize + 1] }
    }

    pub fn add(&mut self, text: &str) {
        for c in text.chars() {
            self.seen[c as usize] = true;
        }
    }

    /// Numbered in the order of their code points.
    pub fn chars(&self) -> Chars {
        let occurring = self.seen.iter().enumerate().filter(|(_, seen)| **seen);
        Chars::new(occurring.filter_map(|(code, _)| char::from_u32(code as u32)).collect())
    }
}

/// A character as a message shows it: control characters escaped, everything else as it is.
fn shown(c: char) -> String {
    if c == '\'' || c == '"' || c == '\\' { c.to_string() } else { c.escape_debug().to_string() }
}
