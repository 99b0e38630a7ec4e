//! The cotangents of queries, keys and values.
//!
//! With the probabilities p of a strip, which are computed again, and the cotangent d_y of its rows:
//! d_p = d_y vᵀ, d_s = p · (d_p - Σ p · d_p) / sqrt(d), and d_q = d_s k, d_k += d_sᵀ q, d_v += pᵀ d_y.

use std::marker::PhantomData;

use super::strip::Strip;
use super::{ROWS, Room, Sizes, gather, pack_rows};
use crate::gemm::direct::{Kernel, Matrix, Packed, Target, pack, packed, product};
use crate::math::Real;
use crate::reduce::dispatch::Body;
use crate::reduce::wide::Wide;
use crate::tape::{Bases, Fault, Worker};
use crate::view::View;

/// The step.
pub(super) struct Backward<K: Kernel, V> {
    sizes: Sizes,
    qkv: View,
    ct: View,
    out: View,
    room: Rooms,
    kernel: PhantomData<(K, V)>,
}

/// Offsets of the parts of scratch memory, in elements.
#[derive(Clone, Copy)]
struct Rooms {
    /// kᵀ, vᵀ and k as right operands.
    operands: [usize; 3],
    /// q and d_y of a strip, as they are multiplied from the left.
    rows: [usize; 2],
    /// The same as right operands.
    columns: [usize; 2],
    /// p and d_p.
    strips: [usize; 2],
    end: usize,
}

/// One head: its rows, with C elements from queries to keys and from keys to values.
#[derive(Clone, Copy)]
struct Head<T> {
    q: *const T,
    ct: *const T,
    /// Where the cotangent of q goes.
    out: *mut T,
    keys: Packed<T>,
    values: Packed<T>,
    /// Keys as rows.
    key_rows: Packed<T>,
}

impl<K: Kernel<T: Real>, V: Wide<T = K::T>> Backward<K, V> {
    pub(super) fn new(sizes: Sizes, qkv: View, ct: View, out: View) -> Backward<K, V> {
        let Sizes { time, d, .. } = sizes;
        let rows = ROWS.min(time);
        let mut room = Room(0);
        let transposed = packed::<K>(d, time);
        let operands = [transposed, transposed, packed::<K>(time, d)].map(|n| room.take(n));
        let left = [rows * d; 2].map(|n| room.take(n));
        let right = [packed::<K>(rows, d); 2].map(|n| room.take(n));
        let strips = [sizes.strip(); 2].map(|n| room.take(n));
        let room = Rooms { operands, rows: left, columns: right, strips, end: room.0 };
        Backward { sizes, qkv, ct, out, room, kernel: PhantomData }
    }

    /// The operands of head `item`, packed.
    ///
    /// # Safety
    /// As [`Body::run`].
    #[inline(always)]
    unsafe fn head(&self, bases: &Bases, scratch: *mut K::T, item: usize) -> Head<K::T> {
        let Sizes { time, d, .. } = self.sizes;
        let width = self.sizes.width();
        // SAFETY: the head's rows lie inside the views, and the parts of scratch were sized for them.
        unsafe {
            let q = bases.ptr::<K::T>(&self.qkv).add(self.sizes.queries(item)).cast_const();
            let (k, v) = (q.add(width), q.add(2 * width));
            let [keys, values, key_rows] = self.room.operands.map(|at| scratch.add(at));
            let columns = |at| Matrix { at, down: 1, across: 3 * width };
            Head {
                q,
                ct: bases.ptr::<K::T>(&self.ct).add(self.sizes.output(item)).cast_const(),
                out: bases.ptr::<K::T>(&self.out).add(self.sizes.queries(item)),
                keys: pack::<K>(keys, columns(k), [d, time]),
                values: pack::<K>(values, columns(v), [d, time]),
                key_rows: pack_rows::<K, V>(key_rows, k, 3 * width, [time, d]),
            }
        }
    }

    /// The cotangents that come from the queries `first..first + rows`.
    ///
    /// # Safety
    /// As [`Body::run`]; strips of a head come in ascending order.
    #[inline(always)]
    unsafe fn strip(&self, head: &Head<K::T>, scratch: *mut K::T, first: usize, rows: usize) {
        let (d, width, scale) = (self.sizes.d, self.sizes.width(), self.sizes.scale());
        let down = 3 * width;
        // SAFETY: the rows belong to the head, and the parts of scratch were sized for them.
        unsafe {
            let [p, ds] = self.room.strips.map(|at| {
                let at = scratch.add(at);
                Strip { at, stride: self.sizes.stride(), first, rows }
            });
            let [left_q, left_ct] = self.room.rows.map(|at| scratch.add(at));
            let q = gather::<V>(left_q, head.q.add(first * down), down, [rows, d]);
            let ct = gather::<V>(left_ct, head.ct.add(first * width), width, [rows, d]);
            p.fill::<K>(q, head.keys, d);
            p.softmax::<V>(scale);
            ds.fill::<K>(ct, head.values, d);
            ds.softmax_grad::<V>(&p, scale);

            let to = Target { at: head.out.add(first * down), down, add: false };
            product::<K>(to, ds.matrix(), head.key_rows, [rows, d, ds.keys()]);
            let [right_q, right_ct] = self.room.columns.map(|at| scratch.add(at));
            let q = pack_rows::<K, V>(right_q, q.at, d, [rows, d]);
            self.add(head.out.add(width), &ds, q);
            let ct = pack_rows::<K, V>(right_ct, ct.at, d, [rows, d]);
            self.add(head.out.add(2 * width), &p, ct);
        }
    }

    /// to (keys, d) += stripᵀ @ b (rows, d). The keys of the strip's own rows stand in no earlier strip, so there the
    /// sum begins.
    ///
    /// # Safety
    /// As [`Backward::strip`].
    #[inline(always)]
    unsafe fn add(&self, to: *mut K::T, strip: &Strip<K::T>, b: Packed<K::T>) {
        let (d, down) = (self.sizes.d, 3 * self.sizes.width());
        // SAFETY: the caller's promise.
        unsafe {
            let earlier = Target { at: to, down, add: true };
            product::<K>(earlier, strip.transposed(0), b, [strip.first, d, strip.rows]);
            let own = Target { at: to.add(strip.first * down), down, add: false };
            product::<K>(own, strip.transposed(strip.first), b, [strip.rows, d, strip.rows]);
        }
    }
}

impl<K: Kernel<T: Real>, V: Wide<T = K::T>> Body for Backward<K, V> {
    fn parallel(&self) -> bool {
        self.sizes.items() > 1 && self.sizes.parallel(5)
    }

    fn scratch(&self) -> usize {
        self.room.end * size_of::<K::T>()
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        if self.sizes.time == 0 {
            return Ok(());
        }
        let scratch: *mut K::T = worker.scratch.cast();
        for item in worker.share(self.sizes.items(), 1) {
            // SAFETY: the head is this worker's, and so is its part of the output.
            unsafe {
                let head = self.head(bases, scratch, item);
                for first in (0..self.sizes.time).step_by(ROWS) {
                    self.strip(&head, scratch, first, ROWS.min(self.sizes.time - first));
                }
            }
        }
        Ok(())
    }
}
