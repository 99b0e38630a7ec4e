//! Where a byte-pair encoding cuts a text into words: GPT-2's rule, written out by hand.
//!
//! The rule is the pattern `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` (Radford and others,
//! 2019): a word takes the space before it, and of several spaces before a word only the last.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// How far past the end of a piece the rule may look: three characters, those of `'re`, of up to four bytes.
const AHEAD: usize = 12;

/// What decides the words beside the text: the version of this file, and of the tables of Unicode. Raise the first when a
/// word is cut elsewhere.
pub(crate) fn version() -> String {
    format!("words 1, unicode {:?}", unicode_properties::UNICODE_VERSION)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Number,
        _ if c.is_whitespace() => Class::Space,
        _ if c.is_ascii() => Class::Other,
        _ => match c.general_category_group() {
            GeneralCategoryGroup::Letter => Class::Letter,
            GeneralCategoryGroup::Number => Class::Number,
            _ => Class::Other,
        },
    }
}

/// Bytes of the characters of one class that a text begins with.
fn run(text: &str, of: Class) -> usize {
    text.char_indices().find(|(_, c)| class(*c) != of).map_or(text.len(), |(end, _)| end)
}

/// Bytes of the first word of a text; 0 for an empty one.
fn word(text: &str) -> usize {
    if let Some(rest) = text.strip_prefix('\'')
        && let Some(ending) = ["s", "t", "re", "ve", "m", "ll", "d"].iter().find(|ending| rest.starts_with(**ending))
    {
        return 1 + ending.len();
    }
    let space = usize::from(text.starts_with(' '));
    match text[space..].chars().next().map(class) {
        Some(Class::Space) | None => spaces(text),
        Some(of) => space + run(&text[space..], of),
    }
}

/// Bytes of the spaces that a text begins with, without the last if a word follows it.
fn spaces(text: &str) -> usize {
    let end = run(text, Class::Space);
    let last = text[..end].chars().next_back().map_or(0, char::len_utf8);
    if end < text.len() && end > last { end - last } else { end }
}

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A word, to be encoded by itself.
    Word(&'a str),
    /// A token whose text stands in the text as it is, as `<|endoftext|>`.
    Added(u32),
}

/// A token that is found in a text before it is cut into words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Added {
    pub id: u32,
    pub text: String,
    pub special: bool,
}

/// Cuts a text that arrives in parts as it would be cut at once.
///
/// What can still change with the next part waits: a word is given only when all that the rule may look at is known, and
/// no added token may begin there.
pub(super) struct Cutter<'a> {
    added: &'a [Added],
    /// Bytes of the longest added token.
    longest: usize,
    pending: String,
    /// Nothing is looked at before this many bytes are there, so that one endless word is not walked again for every part.
    enough: usize,
}

impl<'a> Cutter<'a> {
    pub fn new(added: &'a [Added]) -> Cutter<'a> {
        let longest = added.iter().map(|token| token.text.len()).max().unwrap_or(0);
        Cutter { added, longest, pending: String::new(), enough: 0 }
    }

    /// Adds a part of the text.
    pub fn push(&mut self, text: &str, take: &mut dyn FnMut(Piece<'_>)) {
        self.pending.push_str(text);
        if self.pending.len() < self.enough {
            return;
        }
        let done = self.cut(false, take);
        self.enough = if done == 0 { 2 * self.pending.len() } else { 0 };
        self.pending.drain(..done);
    }

    /// The text has ended.
    pub fn finish(&mut self, take: &mut dyn FnMut(Piece<'_>)) {
        self.cut(true, take);
        self.pending.clear();
        self.enough = 0;
    }

    /// Gives every piece that is sure, and how many bytes they are.
    fn cut(&self, last: bool, take: &mut dyn FnMut(Piece<'_>)) -> usize {
        let text = &self.pending[..];
        // From here on, an added token may begin that is not whole yet.
        let known = if last { text.len() } else { text.len().saturating_sub(self.longest) };
        let mut at = 0;
        // Where each added token is next; looked for again only when that place is behind.
        let mut places: Vec<Option<usize>> = self.added.iter().map(|token| text.find(&token.text)).collect();
        while let Some((start, token)) = self.next(text, at, &mut places) {
            if start > known {
                return at + words(&text[at..], Some(known.saturating_sub(at)), take);
            }
            words(&text[at..start], None, take);
            take(Piece::Added(token.id));
            at = start + token.text.len();
        }
        let until = if last { None } else { Some(known.saturating_sub(at)) };
        at + words(&text[at..], until, take)
    }

    /// The first added token from a place on, and of several at one place the longest.
    fn next(&self, text: &str, at: usize, places: &mut [Option<usize>]) -> Option<(usize, &Added)> {
        for (place, token) in places.iter_mut().zip(self.added) {
            if place.is_some_and(|place| place < at) {
                *place = text[at..].find(&token.text).map(|start| at + start);
            }
        }
        let found = places.iter().zip(self.added).filter_map(|(place, token)| Some(((*place)?, token)));
        found.min_by_key(|(start, token)| (*start, usize::MAX - token.text.len()))
    }
}

/// Gives the words of a text, and how many bytes they are: all of them, or those that follow from its first `until` bytes.
fn words(text: &str, until: Option<usize>, take: &mut dyn FnMut(Piece<'_>)) -> usize {
    let mut at = 0;
    while at < text.len() {
        let end = at + word(&text[at..]);
        if until.is_some_and(|until| end + AHEAD > until) {
            break;
        }
        take(Piece::Word(&text[at..end]));
        at = end;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str, added: &[Added], part: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut take = |piece: Piece<'_>| {
            found.push(match piece {
                Piece::Word(word) => word.to_string(),
                Piece::Added(id) => format!("<{id}>"),
            });
        };
        let mut cutter = Cutter::new(added);
        let chars: Vec<char> = text.chars().collect();
        for part in chars.chunks(part) {
            cutter.push(&part.iter().collect::<String>(), &mut take);
        }
        cutter.finish(&mut take);
        found
    }

    #[test]
    fn words_are_gpt2s() {
        // Read off the pattern; the same as Hugging Face's ByteLevel gives.
        let whole = |text: &str| pieces(text, &[], usize::MAX);
        assert_eq!(whole("Hello world's 3rd!"), ["Hello", " world", "'s", " 3", "rd", "!"]);
        assert_eq!(whole("a  b"), ["a", " ", " b"]);
        assert_eq!(whole("a \n b"), ["a", " \n", " b"]);
        assert_eq!(whole("a\n\nb"), ["a", "\n", "\n", "b"]);
        assert_eq!(whole("a   "), ["a", "   "]);
        assert_eq!(whole("'re we're 'll"), ["'re", " we", "'re", " '", "ll"]);
        assert_eq!(whole("x\u{a0}y\u{2003}\u{2003}z"), ["x", "\u{a0}", "y", "\u{2003}", "\u{2003}", "z"]);
        assert_eq!(whole("e\u{301}é Ⅷ½ 中文"), ["e", "\u{301}", "é", " Ⅷ½", " 中文"]);
        assert_eq!(whole(" "), [" "]);
        assert_eq!(whole(""), [] as [&str; 0]);
    }

    #[test]
    fn parts_of_any_size_are_cut_as_the_whole() {
        let token = |id, text: &str| Added { id, text: text.to_string(), special: true };
        let added = [token(0, "<|end|>"), token(1, "<|end|>>"), token(2, "d|>")];
        let text = "we're 'r 'll  \n\n x <|end|>  <|end|>>y <|en <|end d|>\u{301}\u{301}' 're\u{1f600}\u{1f600}  \r\n "
            .repeat(3);
        for added in [&added[..], &[]] {
            let whole = pieces(&text, added, usize::MAX);
            for part in [1, 2, 3, 5, 7, 11, 17, 64] {
                assert_eq!(pieces(&text, added, part), whole, "parts of {part}");
            }
        }
        assert_eq!(pieces("a  <|end|>>b", &added, 1), ["a", "  ", "<1>", "b"]);
    }
}
