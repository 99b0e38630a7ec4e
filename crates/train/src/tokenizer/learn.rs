//! Learning a byte-pair encoding: again and again, the two neighbours that occur most often become one token.
//!
//! Among pairs that occur equally often, the one of the smaller ids is taken, so that the result depends on the text alone.
//! It is that of Hugging Face's `BpeTrainer` with the byte alphabet and pairs that occur at least twice.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use super::bpe::{Bpe, Pair};
use super::file::bytes_in_order;
use crate::error::{Error, Result};

/// How often two neighbours must occur to become a token.
const LEAST: i64 = 2;

/// No symbol.
const NONE: u32 = u32::MAX;

/// The words of a text, each once, with how often they occur.
#[derive(Debug, Default)]
pub(super) struct Words {
    counts: HashMap<Box<str>, i64>,
}

impl Words {
    pub fn add(&mut self, word: &str) {
        match self.counts.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(word.into(), 1)),
        }
    }

    /// An encoding of `vocab` tokens, or of as many as there are: the words may be used up.
    ///
    /// # Errors
    /// More different words than can be numbered.
    pub fn learn(self, vocab: usize) -> Result<Bpe> {
        let mut tokens: Vec<Box<[u8]>> = bytes_in_order().map(|byte| [byte].into()).collect();
        let mut ids: HashMap<Box<[u8]>, u32> = tokens.iter().cloned().zip(0..).collect();
        let mut merges = Vec::new();
        let mut table = Table::new(self, &ids)?;
        while tokens.len() < vocab
            && let Some((a, b)) = table.best()
        {
            let joined = [&*tokens[a as usize], &*tokens[b as usize]].concat().into_boxed_slice();
            // The same bytes may have been joined of other parts before.
            let id = *ids.entry(joined).or_insert_with_key(|joined| {
                tokens.push(joined.clone());
                tokens.len() as u32 - 1
            });
            merges.push((a, b));
            table.join((a, b), id);
        }
        Bpe::new(tokens, merges, Vec::new()).map_err(|broken| Error::bug(format!("{broken:?}")))
    }
}

/// Where a pair occurs, and how often in the text.
#[derive(Default)]
struct Places {
    count: i64,
    /// The symbols that it has begun at; some may have become part of others since.
    starts: Vec<u32>,
}

/// All words one after the other, as chains of symbols, with the places of every pair (as in Larsson and Moffat, 1999): a
/// merge costs as much as there are places, however long the words are.
struct Table {
    /// The tokens, `NONE` where one has become part of the one before it.
    symbols: Vec<u32>,
    /// The symbol before each in its word, or `NONE`.
    before: Vec<u32>,
    /// The symbol after each in its word, or `NONE`.
    next: Vec<u32>,
    /// The number of each symbol's word.
    word: Vec<u32>,
    /// How often each word occurs.
    counts: Vec<i64>,
    pairs: HashMap<Pair, Places>,
    /// Pairs with how often they occurred when they were put there: the most frequent first, then the smallest.
    queue: BinaryHeap<(i64, Reverse<Pair>)>,
}

impl Table {
    fn new(words: Words, ids: &HashMap<Box<[u8]>, u32>) -> Result<Table> {
        let length: usize = words.counts.keys().map(|word| word.len()).sum();
        if length >= NONE as usize {
            return Err(Error::usage("the text has more different words than a tokenizer can be trained on")
                .hint("train it on a part of the text, then use its file: data.tokenizer=FILE"));
        }
        let (mut symbols, mut word_of) = (Vec::with_capacity(length), Vec::with_capacity(length));
        let (mut before, mut next) = (Vec::with_capacity(length), Vec::with_capacity(length));
        let mut counts = Vec::with_capacity(words.counts.len());
        for (word, count) in words.counts {
            let first = symbols.len() as u32;
            symbols.extend(word.bytes().map(|byte| ids[&[byte][..]]));
            let last = symbols.len() as u32 - 1;
            before.extend((first..=last).map(|at| if at == first { NONE } else { at - 1 }));
            next.extend((first..=last).map(|at| if at == last { NONE } else { at + 1 }));
            word_of.resize(symbols.len(), counts.len() as u32);
            counts.push(count);
        }
        let (pairs, queue) = (HashMap::new(), BinaryHeap::new());
        let mut table = Table { symbols, before, next, word: word_of, counts, pairs, queue };
        (0..length as u32).for_each(|at| table.count(at, 1));
        table.queue = table.pairs.iter().map(|(pair, places)| (places.count, Reverse(*pair))).collect();
        Ok(table)
    }

    /// The pair that a symbol and the one after it are.
    fn pair(&self, at: u32) -> Option<Pair> {
        let a = *self.symbols.get(at as usize)?;
        let b = *self.symbols.get(self.next[at as usize] as usize)?;
        (a != NONE).then_some((a, b))
    }

    /// Counts the pair that begins at a symbol, if one does: by 1 that it is there, by -1 that it is there no more.
    fn count(&mut self, at: u32, by: i64) {
        let Some(pair) = self.pair(at) else { return };
        let places = self.pairs.entry(pair).or_default();
        places.count += by * self.counts[self.word[at as usize] as usize];
        if by > 0 {
            places.starts.push(at);
        }
    }

    /// The pair that is joined next.
    fn best(&mut self) -> Option<Pair> {
        loop {
            let (count, Reverse(pair)) = self.queue.pop().filter(|(count, _)| *count >= LEAST)?;
            let now = self.pairs.get(&pair).map_or(0, |places| places.count);
            match now.cmp(&count) {
                Ordering::Equal => return Some(pair),
                Ordering::Less => self.queue.push((now, Reverse(pair))),
                // It occurs more often since, and stands in the queue once more.
                Ordering::Greater => {}
            }
        }
    }

    /// Makes every place of a pair one symbol.
    fn join(&mut self, pair: Pair, id: u32) {
        let Some(mut places) = self.pairs.remove(&pair) else { return };
        // From the left, because of three equal symbols in a row the first two are joined.
        places.starts.sort_unstable();
        let mut grown = Vec::new();
        for at in places.starts {
            if self.pair(at) != Some(pair) {
                continue;
            }
            let (i, right) = (at as usize, self.next[at as usize]);
            let (before, after) = (self.before[i], self.next[right as usize]);
            self.count(before, -1);
            self.count(right, -1);
            self.symbols[i] = id;
            self.symbols[right as usize] = NONE;
            self.next[i] = after;
            if after != NONE {
                self.before[after as usize] = at;
            }
            self.count(before, 1);
            self.count(at, 1);
            grown.extend([before, at].iter().filter_map(|at| self.pair(*at)));
        }
        // What is left of the pair itself are places that overlapped, which are gone.
        self.pairs.remove(&pair);
        grown.sort_unstable();
        grown.dedup();
        for pair in grown {
            if let Some(places) = self.pairs.get(&pair) {
                self.queue.push((places.count, Reverse(pair)));
            }
        }
    }
}
