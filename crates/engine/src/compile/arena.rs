//! Free memory by offset, while values come and go.

use std::collections::BTreeMap;

/// Bytes between the starts of buffers are a multiple of this.
pub const ALIGN: usize = 64;

/// Memory that will be wanted for a value that has its place already.
#[derive(Clone, Copy, Debug)]
struct Claim {
    start: usize,
    end: usize,
    /// The call that writes it.
    born: usize,
}

/// The arena while the calls are walked in order.
///
/// Gradients have their places before anything else (see [`Arena::claim`]). Until one is computed, its memory serves
/// other values that are gone by then.
#[derive(Default)]
pub struct Arena {
    free: BTreeMap<usize, usize>,
    claims: Vec<Claim>,
    end: usize,
    live: usize,
    /// The most bytes that were in use at one call: no plan for this order of calls needs less.
    pub most: usize,
}

impl Arena {
    /// Bytes of the arena so far.
    pub fn bytes(&self) -> usize {
        self.end
    }

    /// A block of memory at the end, to be claimed in pieces.
    pub fn reserve(&mut self, bytes: usize) -> usize {
        let (at, bytes) = (self.end, bytes.next_multiple_of(ALIGN));
        self.end += bytes;
        self.give_back(at, bytes);
        at
    }

    /// Keeps `bytes` at `start` of a reserved block for a value that call `born` computes.
    pub fn claim(&mut self, start: usize, bytes: usize, born: usize) {
        self.claims.push(Claim { start, end: start + bytes, born });
    }

    /// Takes the claimed memory that begins at `start`, now that its value is computed.
    pub fn take_claimed(&mut self, start: usize) {
        let Some(at) = self.claims.iter().position(|claim| claim.start == start) else { return };
        let Claim { start, end, .. } = self.claims.swap_remove(at);
        let piece = self.free.range(..=start).next_back().map(|(a, l)| (*a, *l));
        if let Some((at, len)) = piece.filter(|(at, len)| at + len >= end) {
            self.free.remove(&at);
            if start > at {
                self.free.insert(at, start - at);
            }
            if at + len > end {
                self.free.insert(end, at + len - end);
            }
        }
        self.use_more(end - start);
    }

    /// Whether memory from `start` on may serve a value until call `until`.
    pub fn allows(&self, start: usize, bytes: usize, until: usize) -> bool {
        self.blocking(start, bytes, until).is_none()
    }

    /// The end of a claim that overlaps this memory and is due by then.
    fn blocking(&self, start: usize, bytes: usize, until: usize) -> Option<usize> {
        let due = |claim: &&Claim| claim.born <= until && claim.start < start + bytes && start < claim.end;
        self.claims.iter().filter(due).map(|claim| claim.end).max()
    }

    /// Memory for a value that is read until call `until`: in the smallest free piece that is large enough, or new
    /// (growing the last piece where it is free).
    pub fn take(&mut self, bytes: usize, until: usize) -> usize {
        let place = |(at, len): (&usize, &usize)| {
            let mut start = *at;
            while start + bytes <= at + len {
                match self.blocking(start, bytes, until) {
                    None => return Some((*len, start, *at)),
                    Some(end) => start = end.next_multiple_of(ALIGN),
                }
            }
            None
        };
        let best = self.free.iter().filter(|(_, len)| **len >= bytes).filter_map(place).min();
        self.use_more(bytes);
        if let Some((len, start, at)) = best {
            self.free.remove(&at);
            if start > at {
                self.free.insert(at, start - at);
            }
            if at + len > start + bytes {
                self.free.insert(start + bytes, at + len - start - bytes);
            }
            return start;
        }
        let at = match self.free.last_key_value() {
            Some((at, len)) if at + len == self.end && self.allows(*at, bytes, until) => *at,
            _ => self.end,
        };
        self.free.remove(&at);
        self.end = at + bytes;
        at
    }

    /// Memory of a value that nobody reads any more.
    pub fn give(&mut self, at: usize, len: usize) {
        self.live -= len;
        self.give_back(at, len);
    }

    fn give_back(&mut self, mut at: usize, mut len: usize) {
        if len == 0 {
            return;
        }
        if let Some((before, size)) = self.free.range(..at).next_back().map(|(a, l)| (*a, *l))
            && before + size == at
        {
            self.free.remove(&before);
            (at, len) = (before, size + len);
        }
        if let Some(size) = self.free.remove(&(at + len)) {
            len += size;
        }
        self.free.insert(at, len);
    }

    fn use_more(&mut self, bytes: usize) {
        self.live += bytes;
        self.most = self.most.max(self.live);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_memory_is_used_again() {
        let mut arena = Arena::default();
        let (a, b) = (arena.take(128, 5), arena.take(64, 5));
        arena.give(a, 128);
        assert_eq!(arena.take(64, 9), a);
        assert_eq!(arena.take(64, 9), a + 64);
        arena.give(b, 64);
        assert_eq!(arena.take(256, 9), b, "the last piece grows");
        assert_eq!((arena.bytes(), arena.most), (b + 256, 384));
    }

    #[test]
    fn claimed_memory_serves_until_it_is_due() {
        let mut arena = Arena::default();
        let block = arena.reserve(256);
        arena.claim(block, 128, 10);
        arena.claim(block + 128, 128, 4);
        // Until call 5 only the first half is free; until call 12 nothing is.
        assert_eq!(arena.take(128, 5), block);
        let outside = arena.take(64, 12);
        assert_eq!(outside, 256);
        assert!(!arena.allows(block, 128, 10) && arena.allows(block, 128, 9));
        arena.take_claimed(block + 128);
        arena.give(block, 128);
        arena.take_claimed(block);
        assert_eq!(arena.take(64, 20), 320, "no claimed memory is given out");
    }
}
