//! Byte-pair encoding (Gage, 1994; Sennrich and others, 2016) over bytes, as GPT-2's.
//!
//! A word begins as its bytes. Of the merges that apply to two neighbours, the one that was learned first is applied, the
//! leftmost place first, until none applies.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::split::Added;

/// Two neighbouring tokens.
pub(super) type Pair = (u32, u32);

/// Tokens, and the order in which they are made of each other.
#[derive(Clone, Debug)]
pub(super) struct Bpe {
    /// The bytes of each token, by id.
    pub tokens: Vec<Box<[u8]>>,
    /// What is joined, the first learned first.
    pub merges: Vec<Pair>,
    /// Tokens that are found in the text as they are, before words are cut.
    pub added: Vec<Added>,
    /// The id of each byte.
    bytes: [u32; 256],
    /// The place in `merges` of a pair, and what it becomes.
    ranks: HashMap<Pair, (u32, u32)>,
}

impl PartialEq for Bpe {
    fn eq(&self, other: &Bpe) -> bool {
        (&self.tokens, &self.merges, &self.added) == (&other.tokens, &other.merges, &other.added)
    }
}

impl Eq for Bpe {}

/// Why tokens and merges are not an encoding.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// No token stands for this byte alone.
    NoByte(u8),
    /// The merge of this number joins to what is no token.
    NoToken(usize),
}

impl Bpe {
    pub fn new(tokens: Vec<Box<[u8]>>, merges: Vec<Pair>, added: Vec<Added>) -> Result<Bpe, Broken> {
        // Where an added token has the bytes of another one, words are made of the other.
        let first = added.iter().filter_map(|token| Some((&**tokens.get(token.id as usize)?, token.id)));
        let of_added = |id: u32| added.iter().any(|token| token.id == id);
        let others = tokens.iter().zip(0..).filter(|(_, id)| !of_added(*id)).map(|(token, id)| (&**token, id));
        let ids: HashMap<&[u8], u32> = first.chain(others).collect();
        let mut bytes = [0; 256];
        for byte in 0..=255u8 {
            bytes[usize::from(byte)] = *ids.get(&[byte][..]).ok_or(Broken::NoByte(byte))?;
        }
        let mut ranks = HashMap::with_capacity(merges.len());
        for (rank, (a, b)) in merges.iter().enumerate() {
            let part = |id: &u32| tokens.get(*id as usize).ok_or(Broken::NoToken(rank));
            let joined = [&**part(a)?, &**part(b)?].concat();
            let id = *ids.get(&joined[..]).ok_or(Broken::NoToken(rank))?;
            ranks.insert((*a, *b), (rank as u32, id));
        }
        Ok(Bpe { tokens, merges, added, bytes, ranks })
    }

    /// Appends the tokens of one word.
    pub fn word(&self, word: &[u8], work: &mut Work, out: &mut Vec<u32>) {
        // Places are numbered with 32 bits; a word longer than that is taken in pieces.
        word.chunks(LONGEST).for_each(|piece| self.piece(piece, work, out));
    }

    fn piece(&self, piece: &[u8], work: &mut Work, out: &mut Vec<u32>) {
        let Work { symbols, queue } = work;
        symbols.clear();
        let last = piece.len() as u32 - 1;
        symbols.extend(piece.iter().zip(0..).map(|(byte, at)| Symbol {
            id: self.bytes[usize::from(*byte)],
            before: if at == 0 { NONE } else { at - 1 },
            next: if at == last { NONE } else { at + 1 },
        }));
        (0..last).for_each(|at| self.consider(symbols, at, queue));
        while let Some(Reverse((rank, at, next))) = queue.pop() {
            let (i, right) = (at as usize, next as usize);
            // What stands there may have been joined to something else since.
            let Some((now, id)) = self.ranks.get(&(symbols[i].id, symbols[right].id)) else { continue };
            if *now != rank || symbols[i].next != next {
                continue;
            }
            symbols[i].id = *id;
            symbols[right].id = NONE;
            let (before, after) = (symbols[i].before, symbols[right].next);
            symbols[i].next = after;
            if after != NONE {
                symbols[after as usize].before = at;
                self.consider(symbols, at, queue);
            }
            if before != NONE {
                self.consider(symbols, before, queue);
            }
        }
        out.extend(symbols.iter().map(|symbol| symbol.id).filter(|id| *id != NONE));
    }

    /// Puts the merge of a symbol and the one after it in the queue, if there is such a merge.
    fn consider(&self, symbols: &[Symbol], at: u32, queue: &mut Queue) {
        let Symbol { id, next, .. } = symbols[at as usize];
        if let Some((rank, _)) = self.ranks.get(&(id, symbols[next as usize].id)) {
            queue.push(Reverse((*rank, at, next)));
        }
    }
}

/// No symbol, or no token.
const NONE: u32 = u32::MAX;

/// Bytes of the longest word that is encoded as one.
const LONGEST: usize = 1 << 31;

/// The earliest merge first, then the leftmost place: rank, place of the left symbol, place of the right one.
type Queue = BinaryHeap<Reverse<(u32, u32, u32)>>;

/// A part of a word in work.
struct Symbol {
    /// Its token, or `NONE` when it became part of the symbol before it.
    id: u32,
    before: u32,
    next: u32,
}

/// Memory that encoding uses again and again.
#[derive(Default)]
pub(super) struct Work {
    symbols: Vec<Symbol>,
    queue: Queue,
}
