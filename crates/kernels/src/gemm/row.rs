//! One row times a matrix whose rows are contiguous, as decoding needs it: b is read once, in the order in which it stands
//! in memory, and the sums have the order of all products.

use super::lanes::Lanes;
use super::layout::{Batch, Dims};
use super::micro::Single;
use super::{After, KC, Way};
use crate::tape::Worker;

/// Rows of b that are added in one go, so that a sum is loaded and stored once for all of them.
const ROWS: usize = 8;
/// Most sums on the way at a time: with the rows that they meet they stay in the first-level cache.
const SUMS: usize = 2048;
/// Columns that a worker takes at least.
const GRAIN: usize = 64;

/// c (width) = x (depth) @ b (depth, width).
pub(crate) struct Row<T> {
    depth: usize,
    x: *const T,
    /// Between the elements of x.
    stride: usize,
    b: *const T,
    /// Between the rows of b.
    ldb: usize,
    width: usize,
    c: *mut T,
    /// Room for [`SUMS`] elements; used if b has more than [`KC`] rows.
    room: *mut T,
}

/// Computes a row: several rows of b at a time are added to a stretch of sums.
///
/// # Safety
/// All operands are in bounds, and the CPU has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn row<V: Lanes>(r: &Row<V::T>) {
    // SAFETY: rows below `depth` and columns below `width` are in bounds.
    unsafe {
        for j in (0..r.width).step_by(SUMS) {
            let (width, c) = (SUMS.min(r.width - j), r.c.add(j));
            for p in (0..r.depth).step_by(KC) {
                let (sums, end) = (if p == 0 { c } else { r.room }, r.depth.min(p + KC));
                let mut k = p;
                while k < end {
                    let (x, b) = (r.x.wrapping_add(k * r.stride), r.b.wrapping_add(k * r.ldb + j));
                    let s = Stretch { x, stride: r.stride, b, ldb: r.ldb, width, sums, first: k == p };
                    k += if end - k >= ROWS { add::<V, ROWS>(&s) } else { add::<V, 1>(&s) };
                }
                if p > 0 {
                    for i in (0..width).step_by(V::N) {
                        let (mask, c) = (V::mask(V::N.min(width - i)), c.add(i));
                        V::load_first(c, mask).add(V::load_first(sums.add(i), mask)).store_first(c, mask);
                    }
                }
            }
        }
    }
}

/// Some rows of b that are added to `width` sums.
struct Stretch<T> {
    x: *const T,
    stride: usize,
    b: *const T,
    ldb: usize,
    width: usize,
    sums: *mut T,
    /// Whether the sums begin here.
    first: bool,
}

/// Adds R rows; returns R.
///
/// # Safety
/// All operands are in bounds, and the CPU has the instructions of `V`.
#[inline(always)]
unsafe fn add<V: Lanes, const R: usize>(s: &Stretch<V::T>) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let x: [V; R] = std::array::from_fn(|r| V::splat(*s.x.wrapping_add(r * s.stride)));
        let zero = V::splat(V::T::default());
        let whole = s.width / V::N * V::N;
        for i in (0..whole).step_by(V::N) {
            let mut sum = if s.first { zero } else { V::load(s.sums.add(i)) };
            for (r, x) in x.into_iter().enumerate() {
                sum = x.fma(V::load(s.b.wrapping_add(r * s.ldb + i)), sum);
            }
            sum.store(s.sums.add(i));
        }
        if whole < s.width {
            let (mask, to) = (V::mask(s.width - whole), s.sums.add(whole));
            let mut sum = if s.first { zero } else { V::load_first(to, mask) };
            for (r, x) in x.into_iter().enumerate() {
                sum = x.fma(V::load_first(s.b.wrapping_add(r * s.ldb + whole), mask), sum);
            }
            sum.store_first(to, mask);
        }
    }
    R
}

/// Products of one row each.
pub(super) struct Rows<K: Single> {
    dims: Dims,
    batch: Batch,
    parallel: bool,
    kernel: std::marker::PhantomData<K>,
}

impl<K: Single> Rows<K> {
    /// A plan for `batch.count` products with `dims.m == 1`.
    pub(super) fn new(dims: Dims, batch: Batch, parallel: bool) -> Rows<K> {
        Rows { dims, batch, parallel, kernel: std::marker::PhantomData }
    }
}

impl<K: Single> Way for Rows<K> {
    type T = K::T;

    fn parallel(&self) -> bool {
        self.parallel
    }

    fn scratch(&self) -> usize {
        if self.dims.k > KC { SUMS * size_of::<K::T>() } else { 0 }
    }

    unsafe fn run(&self, a: *const K::T, b: *const K::T, c: *mut K::T, worker: &Worker, after: &After<'_>) {
        let Dims { n, k, csa, rsb, .. } = self.dims;
        let (items, cols) = match self.batch.count >= worker.count {
            true => (worker.share(self.batch.count, 1), 0..n),
            false => (0..self.batch.count, worker.share(n, GRAIN)),
        };
        let room = worker.scratch.cast();
        for item in items {
            let (oa, ob) = self.batch.offsets(item);
            let (x, b) = (a.wrapping_add(oa), b.wrapping_add(ob + cols.start));
            let (start, width) = (item * n + cols.start, cols.len());
            let c = c.wrapping_add(start);
            // SAFETY: the caller's promise; products and parts do not overlap.
            unsafe {
                K::row(&Row { depth: k, x, stride: csa, b, ldb: rsb, width, c, room });
                after.done(start, width);
            }
        }
    }
}
