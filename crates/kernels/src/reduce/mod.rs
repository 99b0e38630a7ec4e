//! Reductions over any axes: sum, max, argmax, mean squared error, global norm.
//!
//! The order of each sum follows from shape and axes alone (axes of length 1 do not count):
//! - the last axis is reduced: the lane rule of [`lanes`] over the list of reduced elements in row-major order;
//! - it is kept: the block rule. Blocks of [`BLOCK`] elements of that list are added one by one to +0, and the blocks'
//!   sums are added in order. It is the order in which columns can be summed side by side.
//!
//! Strides change nothing: elements that do not stand side by side are copied to scratch memory first.

mod argmax;
pub(crate) mod axes;
mod cumsum;
pub(crate) mod dispatch;
pub(crate) mod lanes;
mod squares;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod wide;

use std::marker::PhantomData;

pub(crate) use argmax::argmax;
use axes::Axes;
pub(crate) use cumsum::cumsum;
use dispatch::{Body, share};
use lanes::{Add, CHUNK, Combine, Largest, Part, Partials};
pub(crate) use squares::{global_norm, mean_squared_error};
use wide::{Wide, for_wide};

use crate::isa::Isa;
use crate::math::Real;
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::{DType, View};

/// Which reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    Sum,
    Max,
}

/// Elements of a block of the block rule.
pub(crate) const BLOCK: usize = 64;

/// Most columns that are summed side by side: their partial sums stay in L1.
const STRIP: usize = 512;

/// Elements from which on several workers share a reduction.
const PARALLEL: usize = 64 * 1024;

/// Outputs in one cache line, so that workers write different lines.
const LINE: usize = 16;

/// One output and `N` inputs, or what was expected.
pub(crate) fn arity<const N: usize>(outs: &[View], ins: &[View]) -> Result<(View, [View; N]), String> {
    match (outs, <[View; N]>::try_from(ins)) {
        ([out], Ok(ins)) => Ok((*out, ins)),
        _ => Err(format!("takes {N} inputs and 1 output, got {} and {}", ins.len(), outs.len())),
    }
}

/// The one float dtype of `views`, or what is wrong.
pub(crate) fn float(views: &[View]) -> Result<DType, String> {
    let dtype = views[0].dtype;
    match views.iter().find(|v| v.dtype != dtype) {
        _ if !dtype.is_float() => Err(format!("needs floats, got {}", dtype.name())),
        Some(other) => Err(format!("mixes {} and {}", dtype.name(), other.dtype.name())),
        None => Ok(dtype),
    }
}

/// Whether `dims` is the shape of `view`; `what` names it in the message.
pub(crate) fn expect(what: &str, view: &View, dims: &[usize]) -> Result<(), String> {
    if view.shape.dims() == dims {
        return Ok(());
    }
    Err(format!("{what} has shape {}, expected {dims:?}", view.shape))
}

/// A step of `$body`, in which `$T` is the float type that `$dtype` names.
macro_rules! for_float {
    ($dtype:expr, $isa:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::view::DType::F32 => {
                type $T = f32;
                $crate::reduce::dispatch::step($isa, $body)
            }
            _ => {
                type $T = f64;
                $crate::reduce::dispatch::step($isa, $body)
            }
        }
    };
}
pub(crate) use for_float;

/// Sum or largest element over the axes whose bit is set in `axes`; out keeps them with length 1.
pub(crate) fn build(isa: Isa, fold: Fold, axes: u8, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [input]) = arity(outs, ins)?;
    let dtype = float(&[input, out])?;
    let rank = input.shape.rank();
    let reduced = |axis: usize| axes >> axis & 1 == 1;
    if let Some(axis) = (rank..8).find(|axis| reduced(*axis)) {
        return Err(format!("axis {axis} does not exist in shape {}", input.shape));
    }
    let dims: Vec<usize> =
        input.shape.dims().iter().enumerate().map(|(i, d)| if reduced(i) { 1 } else { *d }).collect();
    expect("output", &out, &dims)?;
    let last = input.shape.dims().iter().rposition(|len| *len != 1);
    let plan = Plan { input, out, kept: Axes::of(&input, |i| !reduced(i)), list: Axes::of(&input, reduced) };
    // With nothing to reduce or to keep, both rules give the same.
    Ok(match (fold, last.is_none_or(reduced)) {
        (Fold::Sum, true) => for_wide!(dtype, isa, V => Lanes::<V, Add>::new(plan)),
        (Fold::Max, true) => for_wide!(dtype, isa, V => Lanes::<V, Largest>::new(plan)),
        (Fold::Sum, false) => for_float!(dtype, isa, T => Blocks::<T, Add>::new(plan)),
        (Fold::Max, false) => for_float!(dtype, isa, T => Blocks::<T, Largest>::new(plan)),
    })
}

/// What is reduced to what. Output `o` is the reduction of `list` laid at element `o` of `kept`.
struct Plan {
    input: View,
    out: View,
    kept: Axes,
    list: Axes,
}

/// The lane rule. A single output is shared chunk by chunk, several ones output by output.
struct Lanes<V, C> {
    plan: Plan,
    outputs: usize,
    len: usize,
    grain: usize,
    partials: Partials,
    kind: PhantomData<(V, C)>,
}

impl<V: Wide, C: Combine> Lanes<V, C> {
    fn new(plan: Plan) -> Lanes<V, C> {
        let (outputs, len) = (plan.kept.count(), plan.list.count());
        let partials = Partials::new(if outputs == 1 { len.div_ceil(CHUNK) } else { 0 });
        let grain = if len < CHUNK { LINE } else { 1 };
        Lanes { plan, outputs, len, grain, partials, kind: PhantomData }
    }

    /// The result of the chunk that starts at position `at` of the list at `base`.
    ///
    /// # Safety
    /// `base` is the start of a list, `at < self.len`, and `scratch` is a worker's.
    #[inline(always)]
    unsafe fn chunk(&self, base: *const V::T, at: usize, scratch: *mut V::T) -> V::T {
        let len = (self.len - at).min(CHUNK);
        // SAFETY: the list lies in its region, and scratch holds a chunk unless the list is a run.
        unsafe {
            let x = self.plan.list.stage(base, at, len, scratch);
            C::lanes(wide::chunk::<V, 1>(C::identity(), [x], [C::identity()], len, |lane, [x]| C::blocks(lane, x)))
        }
    }
}

/// The chunks of a single output.
struct Single<'a, V: Wide, C> {
    step: &'a Lanes<V, C>,
    x: *const V::T,
    scratch: *mut V::T,
}

impl<V: Wide, C: Combine> Part<V::T> for Single<'_, V, C> {
    #[inline(always)]
    unsafe fn part(&self, i: usize) -> V::T {
        // SAFETY: the chunk exists.
        unsafe { self.step.chunk(self.x, i * CHUNK, self.scratch) }
    }
}

impl<V: Wide, C: Combine> Body for Lanes<V, C> {
    fn parallel(&self) -> bool {
        self.outputs * self.len >= PARALLEL && (self.outputs > self.grain || self.partials.len() > 1)
    }

    fn scratch(&self) -> usize {
        if self.plan.list.is_run() { 0 } else { CHUNK.min(self.len) * size_of::<V::T>() }
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let scratch = worker.scratch.cast::<V::T>();
        // SAFETY: both views were checked against their regions; offsets and outputs stay inside them, and workers
        // write different outputs.
        unsafe {
            let (x, out) = (bases.ptr::<V::T>(&self.plan.input).cast_const(), bases.ptr::<V::T>(&self.plan.out));
            if self.outputs == 1 {
                if let Some(total) = self.partials.total::<V::T, C>(worker, &Single { step: self, x, scratch }) {
                    out.write(total);
                }
                return Ok(());
            }
            for o in share(worker, self.outputs, self.grain) {
                // Wrapping, because an empty list may lie at the end of its region.
                let base = x.wrapping_add(self.plan.kept.offset(o));
                let mut total = C::identity::<V::T>();
                let mut at = 0;
                while at < self.len {
                    total = C::apply(total, self.chunk(base, at, scratch));
                    at += CHUNK;
                }
                out.add(o).write(total);
            }
        }
        Ok(())
    }
}

/// The block rule, many columns side by side.
struct Blocks<T, C> {
    plan: Plan,
    outputs: usize,
    len: usize,
    kind: PhantomData<fn() -> (T, C)>,
}

impl<T: Real, C: Combine> Blocks<T, C> {
    fn new(plan: Plan) -> Blocks<T, C> {
        let (outputs, len) = (plan.kept.count(), plan.list.count());
        Blocks { plan, outputs, len, kind: PhantomData }
    }

    /// Reduces `width` columns, `stride` apart from `x` on.
    ///
    /// # Safety
    /// `x` is the first column's first element, the columns and their outputs exist, and `block` has room for `width`.
    #[inline(always)]
    unsafe fn strip(&self, x: *const T, stride: usize, out: *mut T, width: usize, block: *mut T) {
        let (run, step) = self.plan.list.inner();
        if width <= LINE && run == self.len && run <= BLOCK {
            // The same order, without the set-up that long rows are worth.
            for i in 0..width {
                // SAFETY: column i exists, and `run` elements `step` apart are all of its list.
                unsafe {
                    let column = x.wrapping_add(i * stride);
                    let sum = (0..run).fold(C::identity(), |sum, r| C::apply(sum, column.add(r * step).read()));
                    out.add(i).write(sum);
                }
            }
            return;
        }
        let mut walk = self.plan.list.walk();
        let mut left = self.len;
        // The first block goes straight to the output: adding its sum to the identity would change nothing.
        let mut partial = out;
        // SAFETY: the caller vouches for `width` elements behind `out` and `block`, which do not overlap.
        unsafe {
            if left == 0 {
                std::slice::from_raw_parts_mut(out, width).fill(C::identity());
            }
            while left > 0 {
                let rows = left.min(BLOCK);
                let mut fresh = true;
                for _ in 0..rows / 4 {
                    let rows = [walk.step(), walk.step(), walk.step(), walk.step()].map(|at| x.add(at));
                    add_rows::<T, C, 4>(partial, fresh, rows, stride, width);
                    fresh = false;
                }
                for _ in 0..rows % 4 {
                    add_rows::<T, C, 1>(partial, fresh, [x.add(walk.step())], stride, width);
                    fresh = false;
                }
                if partial == block {
                    add_rows::<T, C, 1>(out, false, [block], 1, width);
                }
                partial = block;
                left -= rows;
            }
        }
    }
}

impl<T: Real, C: Combine> Body for Blocks<T, C> {
    fn parallel(&self) -> bool {
        self.outputs * self.len >= PARALLEL && self.outputs > LINE
    }

    fn scratch(&self) -> usize {
        STRIP.min(self.outputs) * size_of::<T>()
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let (columns, stride) = self.plan.kept.inner();
        let range = share(worker, self.outputs, LINE);
        let mut at = range.start;
        while at < range.end {
            let column = if columns == self.outputs { at } else { at % columns };
            let width = (columns - column).min(range.end - at).min(STRIP);
            // SAFETY: outputs at..at + width are columns of one row of columns; views were checked against their
            // regions, and workers write different outputs.
            unsafe {
                // Wrapping, because an empty list may lie at the end of its region.
                let x = bases.ptr::<T>(&self.plan.input).wrapping_add(self.plan.kept.offset(at));
                self.strip(x, stride, bases.ptr::<T>(&self.plan.out).add(at), width, worker.scratch.cast());
            }
            at += width;
        }
        Ok(())
    }
}

/// acc = acc + row 0 + row 1 + .., in this order, for `width` columns that stand `stride` apart in the rows.
/// If `fresh`, the identity stands for the old acc.
///
/// # Safety
/// `acc` has `width` elements and each row as many columns, apart from `acc`.
#[inline(always)]
unsafe fn add_rows<T: Real, C: Combine, const R: usize>(
    acc: *mut T,
    fresh: bool,
    rows: [*const T; R],
    stride: usize,
    width: usize,
) {
    let add = |i: usize, at: usize, old: T| {
        // SAFETY: i < width, at is column i.
        unsafe { acc.add(i).write(rows.iter().fold(old, |sum, row| C::apply(sum, row.add(at).read()))) }
    };
    // SAFETY: i < width.
    let old = |i: usize| unsafe { acc.add(i).read() };
    match (stride, fresh) {
        (1, true) => (0..width).for_each(|i| add(i, i, C::identity())),
        (1, false) => (0..width).for_each(|i| add(i, i, old(i))),
        (_, true) => (0..width).for_each(|i| add(i, i * stride, C::identity())),
        (_, false) => (0..width).for_each(|i| add(i, i * stride, old(i))),
    }
}
