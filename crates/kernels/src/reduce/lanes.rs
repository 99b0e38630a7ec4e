//! The lane rule: the one order in which a list of elements is summed, on every instruction set.
//!
//! The list is cut into chunks of [`CHUNK`] elements. Within a chunk, element `i` is added to lane `i % LANES`; the
//! lanes, which start at the identity, are then added in a fixed tree (lane `i` and `i + 8`, then `i + 4`, `i + 2`,
//! `i + 1`). Chunks are added in order to the identity. A chunk's result depends on nothing else, so workers can share
//! the chunks of a long list.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::dispatch::share;
use super::wide::{Wide, copy_first};
use crate::math::Real;
use crate::tape::Worker;

/// Virtual lanes of every reduction.
pub(crate) const LANES: usize = 16;

/// Elements of a chunk: small enough to stay in L1, large enough that combining chunks costs nothing.
pub(crate) const CHUNK: usize = 4096;

/// An associative operation with an identity.
pub(crate) trait Combine: Send + Sync + 'static {
    /// Leaves the other operand as it is.
    fn identity<T: Real>() -> T;
    /// The operation. `a` came first.
    fn apply<T: Real>(a: T, b: T) -> T;
    /// The operation on the lanes of two blocks.
    ///
    /// # Safety
    /// The CPU can run `V`.
    unsafe fn blocks<V: Wide>(a: V, b: V) -> V;
    /// [`tree`] over the lanes of a block.
    ///
    /// # Safety
    /// The CPU can run `V`.
    unsafe fn lanes<V: Wide>(block: V) -> V::T;
}

/// a + b. Sums start at +0, so no sum is ever -0 and adding +0 changes no bit of it.
pub(crate) struct Add;

impl Combine for Add {
    #[inline(always)]
    fn identity<T: Real>() -> T {
        T::ZERO
    }

    #[inline(always)]
    fn apply<T: Real>(a: T, b: T) -> T {
        a + b
    }

    #[inline(always)]
    unsafe fn blocks<V: Wide>(a: V, b: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { a.add(b) }
    }

    #[inline(always)]
    unsafe fn lanes<V: Wide>(block: V) -> V::T {
        // SAFETY: the caller's promise.
        unsafe { block.sum() }
    }
}

/// The larger one; NaN wins.
pub(crate) struct Largest;

impl Combine for Largest {
    #[inline(always)]
    fn identity<T: Real>() -> T {
        T::NEG_INFINITY
    }

    // Of equal ones `a`, so that the first of two zeros stays.
    #[inline(always)]
    fn apply<T: Real>(a: T, b: T) -> T {
        b.max(a)
    }

    #[inline(always)]
    unsafe fn blocks<V: Wide>(a: V, b: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { b.larger_or_nan(a) }
    }

    #[inline(always)]
    unsafe fn lanes<V: Wide>(block: V) -> V::T {
        // SAFETY: the caller's promise.
        tree::<V::T, Largest>(unsafe { block.lanes() })
    }
}

/// `put(lane, element)` for elements of another type than the lanes', a chunk of them at most. The last lanes are filled
/// up with `pad`, for which `put(lane, pad) == lane` must hold.
///
/// # Safety
/// `len` elements can be read.
#[inline(always)]
pub(crate) unsafe fn each<T: Real, S: Copy>(
    lanes: &mut [T; LANES],
    list: *const S,
    pad: S,
    len: usize,
    put: impl Fn(T, S) -> T,
) {
    let whole = len / LANES * LANES;
    let mut at = 0;
    while at < whole {
        for (lane, value) in lanes.iter_mut().enumerate() {
            // SAFETY: at + lane < whole <= len.
            *value = put(*value, unsafe { list.add(at + lane).read() });
        }
        at += LANES;
    }
    if whole < len {
        let mut tail = [pad; LANES];
        // SAFETY: len - whole < LANES elements remain.
        unsafe { copy_first(list.add(whole), tail.as_mut_ptr(), len - whole) };
        for (value, x) in lanes.iter_mut().zip(tail) {
            *value = put(*value, x);
        }
    }
}

/// The fixed tree over the lanes.
#[inline(always)]
pub(crate) fn tree<T: Real, C: Combine>(mut lanes: [T; LANES]) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = C::apply(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Computes the results of chunks. A trait and no closure, because only a method can demand to be inlined into the
/// function that has the instruction set.
pub(crate) trait Part<T> {
    /// The result of chunk `i`.
    ///
    /// # Safety
    /// The chunk exists, and the caller runs a step that computes it.
    unsafe fn part(&self, i: usize) -> T;
}

/// One result from many chunks, shared among workers: each leaves the results of its chunks here, and the last one to
/// arrive combines all of them in order. So the result does not depend on who computed what.
///
/// It relies on every one of the `count` workers running the step once in each run, as tapes do.
pub(crate) struct Partials {
    parts: Box<[AtomicU64]>,
    arrived: AtomicUsize,
}

impl Partials {
    /// Room for `chunks` results.
    pub(crate) fn new(chunks: usize) -> Partials {
        Partials { parts: (0..chunks).map(|_| AtomicU64::new(0)).collect(), arrived: AtomicUsize::new(0) }
    }

    /// Number of chunks.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// The combination of all chunks, for the one worker that is to write it.
    ///
    /// # Safety
    /// As for [`Part::part`], for all chunks.
    #[inline(always)]
    pub(crate) unsafe fn total<T: Real, C: Combine>(&self, worker: &Worker, parts: &impl Part<T>) -> Option<T> {
        let mut total = C::identity::<T>();
        let alone = worker.count == 1;
        for i in share(worker, self.parts.len(), 1) {
            // SAFETY: chunk i exists.
            let part = unsafe { parts.part(i) };
            if alone {
                total = C::apply(total, part);
            } else {
                // f64 holds every f32.
                self.parts[i].store(part.to_f64().to_bits(), Ordering::Relaxed);
            }
        }
        if alone {
            return Some(total);
        }
        // The counter's release and acquire order the stores above before the loads below.
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 < worker.count {
            return None;
        }
        self.arrived.store(0, Ordering::Relaxed);
        for part in &self.parts {
            total = C::apply(total, T::from_f64(f64::from_bits(part.load(Ordering::Relaxed))));
        }
        Some(total)
    }
}
