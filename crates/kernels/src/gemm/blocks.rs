//! Products of any size: how the work is split among workers, cut into blocks, packed and handed to the tiles.

use std::ops::Range;

use super::layout::{Batch, Dims};
use super::micro::{Kernel, Panel, Tile};
use super::pack::Strided;
use super::{After, KC};
use crate::tape::Worker;

/// A copy of b pays from so many tiles of rows on.
const PACK_TILES: usize = 4;
/// Bytes of the block of a that is kept in the second-level cache.
const BLOCK_BYTES: usize = 384 * 1024;

/// A part of the work, as a divisor, that is given for sharing rows and not columns.
const NEARLY: usize = 16;

/// Rows that stand a multiple of so many bytes apart fall on few sets of the caches.
const CROWDED: usize = 2048;
/// Elements between copied rows, beyond their length, so that they do not.
const ROW_GAP: usize = 16;

/// How a block of a is read.
#[derive(Clone, Copy, PartialEq)]
enum Left {
    /// Where it stands.
    InPlace,
    /// From a copy of its rows.
    Rows,
    /// From a copy in the order of the tiles.
    Tiles,
}

/// How products of these sizes are computed with kernel `K`. The choices change the speed, never the bits.
pub(super) struct Blocks<K: Kernel> {
    dims: Dims,
    batch: Batch,
    left: Left,
    kernel: std::marker::PhantomData<K>,
}

/// Columns of the next panel when `left` remain: as many as fit, but the last two panels share evenly, because tiles of
/// one vector cannot hide the latency of their multiply-adds.
fn next_cols<K: Kernel>(left: usize) -> usize {
    match left > K::NR && left < 2 * K::NR {
        true => left.div_ceil(2).next_multiple_of(K::LANES),
        false => left.min(K::NR),
    }
}

/// A worker's part of a product: its rows and columns, and where the product begins in the output.
struct Part {
    rows: Range<usize>,
    cols: Range<usize>,
    start: usize,
}

impl<K: Kernel> Blocks<K> {
    /// Most rows of a block of a.
    const MC: usize = BLOCK_BYTES / (KC * size_of::<K::T>()) / K::MR * K::MR;

    /// A plan for `batch.count` products, each with at least one multiply-add.
    pub(super) fn new(dims: Dims, batch: Batch) -> Blocks<K> {
        // Tiles walk along k. A copy pays when several panels of columns read it.
        let crowded = (dims.rsa * size_of::<K::T>()).is_multiple_of(CROWDED);
        let left = match dims.csa {
            _ if K::COPIES => Left::Tiles,
            1 if crowded && dims.m >= 8 * K::MR && dims.n >= 8 * K::NR => Left::Rows,
            1 => Left::InPlace,
            _ if dims.n > K::NR => Left::Tiles,
            _ => Left::InPlace,
        };
        Blocks { dims, batch, left, kernel: std::marker::PhantomData }
    }

    /// Whether b is copied before `rows` rows are computed.
    fn pack_b(&self, rows: usize) -> bool {
        K::COPIES || self.dims.csb != 1 || rows > PACK_TILES * K::MR
    }

    /// Elements of the copies of b and of a.
    fn packed(&self) -> (usize, usize) {
        let depth = self.dims.k.min(KC);
        let b = if self.pack_b(self.dims.m) { (depth * K::NR).next_multiple_of(64) } else { 0 };
        let each = match self.left {
            Left::InPlace => 0,
            Left::Rows => depth + ROW_GAP,
            Left::Tiles => depth,
        };
        (b, self.dims.m.min(Self::MC) * each)
    }

    /// Bytes of scratch each worker needs.
    pub(super) fn scratch(&self) -> usize {
        let (b, a) = self.packed();
        (b + a) * size_of::<K::T>()
    }

    /// Computes this worker's share of all products.
    ///
    /// # Safety
    /// The operands are in bounds and the CPU can run `K`; nobody else touches this share of the output.
    pub(super) unsafe fn run(&self, a: *const K::T, b: *const K::T, c: *mut K::T, worker: &Worker, after: &After<'_>) {
        let Dims { m, n, .. } = self.dims;
        let whole = self.batch.count >= 4 * worker.count || self.batch.count.is_multiple_of(worker.count);
        let (items, rows, cols) = match whole {
            true => (worker.share(self.batch.count, 1), 0..m, 0..n),
            false => {
                let (rows, cols) = self.part(worker);
                (0..self.batch.count, rows, cols)
            }
        };
        for item in items {
            let (oa, ob) = self.batch.offsets(item);
            // SAFETY: the caller's promise; products and parts do not overlap.
            unsafe {
                let (a, b) = (a.wrapping_add(oa), b.wrapping_add(ob));
                let part = Part { rows: rows.clone(), cols: cols.clone(), start: item * m * n };
                self.product(a, b, c, &part, worker.scratch.cast(), after);
            }
        }
    }

    /// This worker's rows and columns of every product: a grid of parts, one for each worker, as cheap as possible for
    /// the worker with the most to do, packing included.
    fn part(&self, worker: &Worker) -> (Range<usize>, Range<usize>) {
        let Dims { m, n, k, csb, .. } = self.dims;
        let grain = |across: usize| if n >= 8 * across * K::NR { K::NR } else { K::LANES };
        // Packing an element costs as much as so many multiply-adds.
        let cost_a = match self.left {
            Left::InPlace => 0,
            Left::Rows => 2,
            Left::Tiles => 4,
        };
        let cost_b = if csb == 1 { 2 } else { 6 };
        let cost = |down: usize| {
            let across = worker.count / down;
            let rows = (m.div_ceil(K::MR).div_ceil(down) * K::MR).min(m);
            let cols = (n.div_ceil(grain(across)).div_ceil(across) * grain(across)).min(n);
            let pack_b = if self.pack_b(rows) { cost_b * cols } else { 0 };
            (rows * cols + pack_b + cost_a * rows).saturating_mul(k)
        };
        let downs = || (1..=worker.count).filter(|down| worker.count.is_multiple_of(*down));
        let least = downs().map(cost).min().unwrap_or(0);
        // Most other calls share rows: a worker finds its own ones of a in a near cache, but it reads
        // all of b.
        let extra = if n < 2 * m { least / NEARLY } else { 0 };
        let down = downs().rev().find(|down| cost(*down) <= least + extra).unwrap_or(1);
        let across = worker.count / down;
        let share = |index, count, items, grain| Worker { index, count, ..*worker }.share(items, grain);
        (share(worker.index / across, down, m, K::MR), share(worker.index % across, across, n, grain(across)))
    }

    /// A part of one product, block by block: the sums of the blocks of k are added in ascending order. What is complete
    /// goes through the chain `after` it.
    ///
    /// # Safety
    /// As [`Blocks::run`]; `scratch` has room for the copies.
    unsafe fn product(
        &self,
        a: *const K::T,
        b: *const K::T,
        c: *mut K::T,
        part: &Part,
        scratch: *mut K::T,
        after: &After<'_>,
    ) {
        let Dims { n, k, rsa, csa, rsb, csb, .. } = self.dims;
        let Part { rows, cols, start } = part;
        let pack_b = self.pack_b(rows.len());
        let room_a = scratch.wrapping_add(self.packed().0);
        let mc = rows.len().div_ceil(rows.len().div_ceil(Self::MC).max(1)).next_multiple_of(K::MR).min(Self::MC);
        for i in rows.clone().step_by(mc.max(1)) {
            let height = mc.min(rows.end - i);
            for p in (0..k).step_by(KC) {
                let depth = KC.min(k - p);
                // SAFETY: rows, columns and steps are inside the operands; the scratch was sized for them.
                unsafe {
                    let (at, rsa) = self.block(a.wrapping_add(i * rsa + p * csa), height, depth, room_a);
                    let mut j = cols.start;
                    while j < cols.end {
                        let width = next_cols::<K>(cols.end - j);
                        let (mut b, mut ldb) = (b.wrapping_add(p * rsb + j * csb), rsb);
                        if pack_b {
                            K::pack_b(scratch, Strided { at: b, depth, along_k: rsb, width, across: csb });
                            (b, ldb) = (scratch, K::NR);
                        }
                        let c = c.wrapping_add(start + i * n + j);
                        let add = p > 0;
                        let first =
                            Tile { depth, a: at, rsa, csa, b, ldb, step: 0, lane: 1, c, ldc: n, across: 0, add };
                        K::panel(&Panel { rows: height, cols: width, first, packed: self.left == Left::Tiles });
                        j += width;
                    }
                }
            }
            // A block of whole rows at a time: long runs are worth more than a nearer cache.
            // SAFETY: the sums of these rows are complete, and they are this worker's.
            unsafe { after.block(start + i * n + cols.start, height, cols.len(), n) }
        }
    }

    /// A block of a, copied to `room` if it is to be: its address and the stride of its rows.
    ///
    /// # Safety
    /// The block is in bounds and `room` large enough.
    unsafe fn block(&self, at: *const K::T, height: usize, depth: usize, room: *mut K::T) -> (*const K::T, usize) {
        let Dims { rsa, csa, .. } = self.dims;
        // SAFETY: the caller's promise.
        unsafe {
            match self.left {
                Left::InPlace => (at, rsa),
                Left::Rows => {
                    let each = depth + ROW_GAP;
                    for i in 0..height {
                        room.add(i * each).copy_from_nonoverlapping(at.add(i * rsa), depth);
                    }
                    (room, each)
                }
                Left::Tiles => {
                    K::pack_a(room, Strided { at, depth, along_k: csa, width: height, across: rsa });
                    (room, rsa)
                }
            }
        }
    }
}
