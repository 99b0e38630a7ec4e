//! Softmax, and the exponentials that it shares with cross-entropy and attention.

use std::marker::PhantomData;

use super::{Rows, grain, target};
use crate::isa::Isa;
use crate::math::Real;
use crate::reduce::dispatch::{Body, share};
use crate::reduce::lanes::{CHUNK, LANES};
use crate::reduce::wide::{self, Wide, for_wide};
use crate::reduce::{arity, expect, float};
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::View;

/// Elements from which on several workers share the rows, where every element costs an exponential.
pub(super) const PARALLEL_EXP: usize = 16 * 1024;

/// Most rows that are worked on side by side. The largest element, the sum and the quotients of one row wait for each
/// other; those of several do not.
pub(super) const GROUP: usize = LANES;

/// How the rows of a call are taken.
pub(super) struct Plan {
    /// Rows that are worked on side by side: as many as stay in the first cache.
    pub(super) group: usize,
    /// Elements between the exponentials of two rows in scratch memory; 0 where they stand in the output meanwhile.
    ///
    /// A row that ends within a block is written by a mask there, and what is read soon after from where a masked write
    /// might have gone has to wait for it: that is the start of the next row.
    stride: usize,
}

impl Plan {
    pub(super) fn of(x: &Rows) -> Plan {
        let group = if x.axis.is_run() { (2048 / x.len.max(1)).clamp(1, GROUP) } else { 1 };
        let within = group > 1 && !x.len.is_multiple_of(LANES);
        Plan { group, stride: if within { x.len.next_multiple_of(LANES) } else { 0 } }
    }

    /// Scratch bytes for a group of rows.
    pub(super) fn scratch<T>(&self, x: &Rows) -> usize {
        x.scratch::<T>() + self.group * self.stride * size_of::<T>()
    }
}

/// e = exp(f(x)) for each element of a row, written to `out` if `WRITE`; returns their sum by the lane rule.
///
/// The last block is filled up with `pad`, whose exponential is then taken away again. It should be one that costs
/// nothing: numbers so small that they are subnormal make a multiplication many times slower.
///
/// # Safety
/// `len` elements can be read and, if `WRITE`, `room` written, not less than `len`; they may be the same. The CPU can
/// run `V`.
#[inline(always)]
pub(crate) unsafe fn exponentials<V: Wide, const WRITE: bool>(
    x: *const V::T,
    (out, room): (*mut V::T, usize),
    len: usize,
    pad: V::T,
    f: impl Fn(V) -> V,
) -> V::T {
    let mut total = V::T::ZERO;
    let mut start = 0;
    while start < len {
        let end = len.min(start + CHUNK);
        let whole = end / LANES * LANES;
        // SAFETY: blocks below `whole` are whole, and the last one is read and written as far as the row goes.
        unsafe {
            let mut sums = V::splat(V::T::ZERO);
            let mut at = start;
            while at < whole {
                let e = f(V::load(x.add(at))).exp(LANES);
                if WRITE {
                    e.store(out.add(at));
                }
                sums = sums.add(e);
                at += LANES;
            }
            if whole < end {
                let first = V::first(end - whole);
                let e = f(V::load_first(x.add(whole), first, V::splat(pad))).exp(end - whole);
                if WRITE && whole + LANES <= room {
                    e.store(out.add(whole));
                } else if WRITE {
                    e.store_first(out.add(whole), first);
                }
                sums = sums.add(e.keep_first(first));
            }
            total = total + sums.sum();
        }
        start = end;
    }
    total
}

/// Some rows, at most [`GROUP`].
pub(super) struct Group<T> {
    /// Their elements.
    pub(super) rows: [*const T; GROUP],
    /// The largest element of each.
    pub(super) most: [T; GROUP],
    /// The sum of exp(x - most) over each.
    pub(super) sums: [T; GROUP],
    exps: *const T,
    stride: usize,
}

impl<T: Real> Group<T> {
    /// Works on rows `start..start + count`. If `WRITE`, the exponentials exp(x - most) are kept in scratch memory or
    /// in `out`, as `plan` has it.
    ///
    /// Where an element is NaN or infinite the largest one is not the row's, but the sum is NaN all the same.
    ///
    /// # Safety
    /// The rows exist and have elements, `count` is at most that of `plan`, which is the plan for them, `scratch` has as
    /// many bytes as it asks for, and, if `WRITE`, the rows of `out` can be written; they may be those of `x`. The CPU
    /// can run `V`.
    #[inline(always)]
    pub(super) unsafe fn of<V: Wide<T = T>, const WRITE: bool>(
        plan: &Plan,
        x: &Rows,
        bases: &Bases,
        [start, count]: [usize; 2],
        scratch: *mut T,
        out: *mut T,
    ) -> Group<T> {
        // Rows that are copied are not kept in scratch memory otherwise: they come one by one.
        let (exps, stride) = if plan.stride > 0 { (scratch, plan.stride) } else { (out, x.len) };
        // SAFETY: the caller's promise.
        unsafe {
            let rows = x.group::<T, GROUP>(bases, start, count, scratch);
            let mut group = Group { rows, most: [T::ZERO; GROUP], sums: [T::ONE; GROUP], exps, stride };
            for (most, row) in group.most.iter_mut().zip(&rows[..count]) {
                *most = wide::largest::<V>(*row, x.len);
            }
            for (i, row) in rows[..count].iter().enumerate() {
                let (most, to) = (group.most[i], (exps.wrapping_add(i * stride), stride));
                let least = V::splat(most);
                group.sums[i] = exponentials::<V, WRITE>(*row, to, x.len, most, |x| x.sub(least));
            }
            group
        }
    }

    /// The exponentials of row `i`.
    #[inline(always)]
    pub(super) fn exps(&self, i: usize) -> *const T {
        self.exps.wrapping_add(i * self.stride)
    }
}

/// out = exp(x - max) / sum(exp(x - max)) along the last axis, by a true division. Some elements of a row may be -inf
/// (0 comes out); where all are, or one is +inf or NaN, the row is NaN.
pub(crate) fn softmax(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    along_rows::<false>(isa, outs, ins)
}

/// out = (x - max) - ln(sum(exp(x - max))) along the last axis. Some elements of a row may be -inf (-inf comes out);
/// where all are, or one is +inf or NaN, the row is NaN.
pub(crate) fn log_softmax(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    along_rows::<true>(isa, outs, ins)
}

fn along_rows<const LOG: bool>(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [x]) = arity(outs, ins)?;
    let dtype = float(&[x, out])?;
    expect("output", &out, x.shape.dims())?;
    let x = Rows::of(&x)?;
    Ok(for_wide!(dtype, isa, V => Softmax::<V, LOG> { plan: Plan::of(&x), x, out, kind: PhantomData }))
}

/// Probabilities, or if `LOG` their logarithms.
struct Softmax<V, const LOG: bool> {
    plan: Plan,
    x: Rows,
    out: View,
    kind: PhantomData<V>,
}

impl<V: Wide, const LOG: bool> Softmax<V, LOG> {
    /// Writes rows `start..start + count` to `out`.
    ///
    /// # Safety
    /// As for [`Group::of`], whose `out` it is; the rows of `out` can be written.
    #[inline(always)]
    unsafe fn group(&self, bases: &Bases, [start, count]: [usize; 2], scratch: *mut V::T, out: *mut V::T) {
        let (range, len) = ([start, count], self.x.len);
        // SAFETY: the caller's promise; logarithms need no exponentials afterwards, so none are written.
        unsafe {
            if LOG {
                let none = std::ptr::null_mut();
                let group = Group::of::<V, false>(&self.plan, &self.x, bases, range, scratch, none);
                let logs = V::load(group.sums.as_ptr()).map(count, Real::ln).lanes();
                for (i, log) in logs.into_iter().enumerate().take(count) {
                    let (most, log) = (V::splat(group.most[i]), V::splat(log));
                    wide::each::<V, 1>(out.add(i * len), [group.rows[i]], len, |_, [x]| x.sub(most).sub(log));
                }
            } else {
                let group = Group::of::<V, true>(&self.plan, &self.x, bases, range, scratch, out);
                for i in 0..count {
                    let sum = V::splat(group.sums[i]);
                    wide::each::<V, 1>(out.add(i * len), [group.exps(i)], len, |_, [e]| e.div(sum));
                }
            }
        }
    }
}

impl<V: Wide, const LOG: bool> Body for Softmax<V, LOG> {
    fn parallel(&self) -> bool {
        self.x.parallel(PARALLEL_EXP)
    }

    fn scratch(&self) -> usize {
        if LOG { self.x.scratch::<V::T>() } else { self.plan.scratch::<V::T>(&self.x) }
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let len = self.x.len;
        if len == 0 {
            return Ok(());
        }
        let rows = share(worker, self.x.count, grain(len));
        for start in rows.clone().step_by(self.plan.group) {
            let count = self.plan.group.min(rows.end - start);
            // SAFETY: the rows exist, and they are this worker's.
            unsafe {
                let out = target::<V::T>(bases, &self.out, start, len);
                self.group(bases, [start, count], worker.scratch.cast(), out);
            }
        }
        Ok(())
    }
}
