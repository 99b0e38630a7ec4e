//! y = softmax(q kᵀ / sqrt(d), causal) v.

use std::marker::PhantomData;

use super::strip::Strip;
use super::{ROWS, Room, Sizes, gather, pack_rows};
use crate::gemm::direct::{Kernel, Matrix, Target, pack, packed, product};
use crate::math::Real;
use crate::reduce::dispatch::Body;
use crate::reduce::wide::Wide;
use crate::tape::{Bases, Fault, Worker};
use crate::view::View;

/// The step.
pub(super) struct Forward<K: Kernel, V> {
    sizes: Sizes,
    qkv: View,
    out: View,
    room: Rooms,
    kernel: PhantomData<(K, V)>,
}

/// Offsets of the parts of scratch memory, in elements.
#[derive(Clone, Copy)]
struct Rooms {
    keys: usize,
    values: usize,
    queries: usize,
    strip: usize,
    end: usize,
}

impl<K: Kernel<T: Real>, V: Wide<T = K::T>> Forward<K, V> {
    pub(super) fn new(sizes: Sizes, qkv: View, out: View) -> Forward<K, V> {
        let Sizes { time, d, .. } = sizes;
        let mut room = Room(0);
        let keys = room.take(packed::<K>(d, time));
        let values = room.take(packed::<K>(time, d));
        let queries = room.take(ROWS.min(time) * d);
        let strip = room.take(sizes.strip());
        let room = Rooms { keys, values, queries, strip, end: room.0 };
        Forward { sizes, qkv, out, room, kernel: PhantomData }
    }

    /// Every `stride`-th strip of head `item`, from number `start` on.
    ///
    /// # Safety
    /// As [`Body::run`].
    #[inline(always)]
    unsafe fn head(&self, bases: &Bases, scratch: *mut K::T, item: usize, start: usize, stride: usize) {
        let Sizes { time, d, .. } = self.sizes;
        let width = self.sizes.width();
        if start * ROWS >= time {
            return;
        }
        // SAFETY: the head's rows lie inside the views, and the parts of scratch were sized for them.
        unsafe {
            let q = bases.ptr::<K::T>(&self.qkv).add(self.sizes.queries(item)).cast_const();
            let y = bases.ptr::<K::T>(&self.out).add(self.sizes.output(item));
            let (k, v) = (q.add(width), q.add(2 * width));
            let keys = Matrix { at: k, down: 1, across: 3 * width };
            let keys = pack::<K>(scratch.add(self.room.keys), keys, [d, time]);
            let values = pack_rows::<K, V>(scratch.add(self.room.values), v, 3 * width, [time, d]);
            for first in (start * ROWS..time).step_by(stride * ROWS) {
                let rows = ROWS.min(time - first);
                let at = scratch.add(self.room.strip);
                let strip = Strip { at, stride: self.sizes.stride(), first, rows };
                let room = scratch.add(self.room.queries);
                let queries = gather::<V>(room, q.add(first * 3 * width), 3 * width, [rows, d]);
                strip.fill::<K>(queries, keys, d);
                strip.softmax::<V>(self.sizes.scale());
                let to = Target { at: y.add(first * width), down: width, add: false };
                product::<K>(to, strip.matrix(), values, [rows, d, strip.keys()]);
            }
        }
    }
}

impl<K: Kernel<T: Real>, V: Wide<T = K::T>> Body for Forward<K, V> {
    fn parallel(&self) -> bool {
        self.sizes.parallel(2)
    }

    fn scratch(&self) -> usize {
        self.room.end * size_of::<K::T>()
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let items = self.sizes.items();
        let even = items >= 4 * worker.count || items.is_multiple_of(worker.count);
        let mine = if even { worker.share(items, 1) } else { 0..items };
        for item in mine {
            // Where heads cannot be shared evenly their strips are dealt out in turn: later ones have more to do.
            let (start, stride) = if even { (0, 1) } else { ((worker.index + item) % worker.count, worker.count) };
            // SAFETY: the strips are this worker's, and so are the rows of the output.
            unsafe { self.head(bases, worker.scratch.cast(), item, start, stride) }
        }
        Ok(())
    }
}
