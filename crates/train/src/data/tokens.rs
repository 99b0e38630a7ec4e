//! The tokens of a text: in memory, or in a file of the cache that is mapped.

use std::ops::Range;
use std::sync::Arc;

use geartrain_kernels::Mapping;

/// The most tokens that are numbered with two bytes.
const NARROW: usize = 1 << 16;

/// A row of token ids, or a part of one; a copy shares the memory. An id takes two bytes where a vocabulary is small enough.
#[derive(Clone, Debug)]
pub struct Tokens {
    store: Arc<Store>,
    range: Range<usize>,
}

#[derive(Debug)]
enum Store {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
    /// Little-endian ids of `width` bytes from byte `start` of a file on.
    Mapped {
        file: Mapping,
        start: usize,
        width: usize,
    },
}

/// The bytes that an id takes among `vocab` of them.
pub(super) fn width(vocab: usize) -> usize {
    if vocab <= NARROW { 2 } else { 4 }
}

impl Tokens {
    /// `count` ids of `width` bytes, little-endian, from byte `start` of a mapped file on.
    pub(super) fn mapped(file: Mapping, start: usize, width: usize, count: usize) -> Option<Tokens> {
        let end = count.checked_mul(width)?.checked_add(start)?;
        (end <= file.bytes().len())
            .then(|| Tokens { store: Store::Mapped { file, start, width }.into(), range: 0..count })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Whether they lie in a file.
    pub fn is_mapped(&self) -> bool {
        matches!(*self.store, Store::Mapped { .. })
    }

    /// Copies those from place `start` on, as many as there is room for. Allocates nothing.
    ///
    /// # Panics
    /// There are fewer.
    pub fn copy(&self, start: usize, out: &mut [u32]) {
        assert!(start <= self.len() && out.len() <= self.len() - start, "tokens {start} and on of {}", self.len());
        let (first, count) = (self.range.start + start, out.len());
        match &*self.store {
            Store::Narrow(ids) => {
                out.iter_mut().zip(&ids[first..first + count]).for_each(|(out, id)| *out = (*id).into())
            }
            Store::Wide(ids) => out.copy_from_slice(&ids[first..first + count]),
            Store::Mapped { file, start, width } => {
                let bytes = &file.bytes()[start + first * width..start + (first + count) * width];
                for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(*width)) {
                    *out = bytes.iter().rev().fold(0, |id, byte| id << 8 | u32::from(*byte));
                }
            }
        }
    }

    /// A copy of all of them.
    pub fn to_vec(&self) -> Vec<u32> {
        let mut all = vec![0; self.len()];
        self.copy(0, &mut all);
        all
    }

    /// The first `at` and the others.
    ///
    /// # Panics
    /// There are fewer.
    pub fn split_at(&self, at: usize) -> (Tokens, Tokens) {
        assert!(at <= self.len(), "{at} of {} tokens", self.len());
        let cut = self.range.start + at;
        let part = |range| Tokens { store: self.store.clone(), range };
        (part(self.range.start..cut), part(cut..self.range.end))
    }
}

impl Default for Tokens {
    fn default() -> Tokens {
        Tokens::from(Vec::new())
    }
}

impl From<Vec<u32>> for Tokens {
    fn from(ids: Vec<u32>) -> Tokens {
        Tokens { range: 0..ids.len(), store: Store::Wide(ids).into() }
    }
}

/// Tokens that are gathered in memory.
pub(super) enum Gathered {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

impl Gathered {
    pub fn new(width: usize) -> Gathered {
        if width == 2 { Gathered::Narrow(Vec::new()) } else { Gathered::Wide(Vec::new()) }
    }

    /// Adds ids that fit the width.
    pub fn add(&mut self, ids: &[u32]) {
        match self {
            Gathered::Narrow(all) => all.extend(ids.iter().map(|id| *id as u16)),
            Gathered::Wide(all) => all.extend_from_slice(ids),
        }
    }

    pub fn tokens(self) -> Tokens {
        match self {
            Gathered::Narrow(ids) => Tokens { range: 0..ids.len(), store: Store::Narrow(ids).into() },
            Gathered::Wide(ids) => Tokens::from(ids),
        }
    }
}
