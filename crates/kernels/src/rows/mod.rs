//! Kernels along the last axis: softmax, cross-entropy, normalisation and their gradients.
//!
//! Sums over a row follow the lane rule of [`crate::reduce::lanes`], so each row has one order, and rows are shared
//! among workers. Rows whose elements do not stand side by side are copied to scratch memory first.

#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use crate::isa::Isa;
use crate::math::Real;
use crate::reduce::axes::Axes;
use crate::reduce::dispatch::{Body, share};
use crate::reduce::lanes::{self, Add, Combine, LANES, Largest};
use crate::reduce::{arity, expect, float, for_float};
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::{DType, View};

/// Elements from which on several workers share the rows.
const PARALLEL: usize = 32 * 1024;

/// The same where every element costs an exponential.
const PARALLEL_EXP: usize = 8 * 1024;

/// The rows of an input.
struct Rows {
    view: View,
    rows: Axes,
    axis: Axes,
    count: usize,
    len: usize,
}

impl Rows {
    fn of(view: &View) -> Result<Rows, String> {
        let Some((&len, outer)) = view.shape.dims().split_last() else {
            return Err("a scalar has no last axis".to_string());
        };
        let last = outer.len();
        let (rows, axis) = (Axes::of(view, |i| i != last), Axes::of(view, |i| i == last));
        Ok(Rows { view: *view, rows, axis, count: outer.iter().product(), len })
    }

    /// Shape of the rows: that of the view without the last axis.
    fn outer(&self) -> &[usize] {
        let dims = self.view.shape.dims();
        &dims[..dims.len() - 1]
    }

    /// Scratch bytes for one row of `T` where [`Rows::row`] needs them.
    fn scratch<T>(&self) -> usize {
        if self.axis.is_run() { 0 } else { self.len * size_of::<T>() }
    }

    /// Address of the first element of row `r`.
    ///
    /// # Safety
    /// The row exists and has elements.
    #[inline(always)]
    unsafe fn start<T>(&self, bases: &Bases, r: usize) -> *const T {
        // SAFETY: the view was checked against its region.
        unsafe { bases.ptr::<T>(&self.view).add(self.rows.offset(r)) }
    }

    /// The elements of row `r` side by side: where they stand, or in `scratch`.
    ///
    /// # Safety
    /// The row exists and has elements, and `scratch` has room for it unless its elements are a run.
    #[inline(always)]
    unsafe fn row<'a, T: Real>(&self, bases: &Bases, r: usize, scratch: *mut T) -> &'a [T] {
        // SAFETY: as above; the caller does not keep the row beyond the step.
        unsafe {
            let x = self.axis.stage(self.start(bases, r), 0, self.len, scratch);
            std::slice::from_raw_parts(x, self.len)
        }
    }
}

/// Row `r` of a row-major output with rows of `len`.
///
/// # Safety
/// The row exists, and nobody else reads or writes it meanwhile.
#[inline(always)]
unsafe fn target<'a, T>(bases: &Bases, out: &View, r: usize, len: usize) -> &'a mut [T] {
    // SAFETY: the view was checked against its region.
    unsafe { std::slice::from_raw_parts_mut(bases.ptr::<T>(out).add(r * len), len) }
}

/// Rows a worker takes at least, so that two seldom write one cache line.
#[inline(always)]
fn grain(len: usize) -> usize {
    if len >= 16 { 1 } else { 16 }
}

/// Scratch bytes for [`exponentials`] of rows of `len`, which works on whole blocks.
fn exp_scratch<T: Real>(len: usize) -> usize {
    len.next_multiple_of(LANES) * size_of::<T>()
}

/// Puts exp(x - max(x)) of row `r` into `scratch`, zeros behind it up to a whole block, and returns max(x) and the sum.
///
/// # Safety
/// The row exists and has elements, and `scratch` has [`exp_scratch`] bytes.
#[inline(always)]
unsafe fn exponentials<T: Real>(rows: &Rows, bases: &Bases, r: usize, scratch: *mut T) -> (T, T) {
    let (len, whole) = (rows.len, rows.len / LANES * LANES);
    // SAFETY: as above. A block is read before it is written, so the row may stand in scratch.
    unsafe {
        let x = rows.axis.stage(rows.start(bases, r), 0, len, scratch);
        if len < LANES {
            // All in registers; the lane rule puts one element into each lane.
            let block = last_block(x, len, x.read());
            let most = lanes::tree::<T, Largest>(block);
            let exps = exp_block(block, most, len);
            scratch.cast::<[T; LANES]>().write(exps);
            return (most, lanes::tree::<T, Add>(exps));
        }
        let most = lanes::max(x, len);
        for at in (0..whole).step_by(LANES) {
            let block = x.add(at).cast::<[T; LANES]>().read();
            scratch.add(at).cast::<[T; LANES]>().write(exp_block(block, most, LANES));
        }
        if whole < len {
            let block = last_block(x.add(whole), len - whole, most);
            scratch.add(whole).cast::<[T; LANES]>().write(exp_block(block, most, len - whole));
        }
        (most, lanes::sum(scratch, len.next_multiple_of(LANES)))
    }
}

/// The last `len` elements of a row, filled up with `pad`.
///
/// # Safety
/// `len` elements, less than a block, can be read.
#[inline(always)]
unsafe fn last_block<T: Real>(x: *const T, len: usize, pad: T) -> [T; LANES] {
    let mut block = [pad; LANES];
    // SAFETY: as above.
    unsafe { lanes::copy_tail(x, block.as_mut_ptr(), len) };
    block
}

/// exp(x - most) of the first `len` elements, then zeros.
#[inline(always)]
fn exp_block<T: Real>(mut block: [T; LANES], most: T, len: usize) -> [T; LANES] {
    // f32 vectorises: there a whole block costs no more than a part of it.
    let work = if T::DTYPE == DType::F32 { LANES } else { len };
    for x in &mut block[..work] {
        *x = (*x - most).exp();
    }
    for (lane, x) in block.iter_mut().enumerate() {
        *x = if lane < len { *x } else { T::ZERO };
    }
    block
}

/// out = f(exps) for one row; `exps` is filled up to a whole block.
///
/// # Safety
/// `exps` is what [`exponentials`] left in scratch for a row as long as `out`.
#[inline(always)]
unsafe fn put_row<T: Real>(out: &mut [T], exps: *const T, f: impl Fn(T) -> T) {
    let (len, whole) = (out.len(), out.len() / LANES * LANES);
    for at in (0..len).step_by(LANES) {
        // SAFETY: the block lies in scratch, and as much of it as is copied in `out`.
        unsafe {
            let block = exps.add(at).cast::<[T; LANES]>().read().map(&f);
            if at < whole {
                out.as_mut_ptr().add(at).cast::<[T; LANES]>().write(block);
            } else {
                lanes::copy_tail(block.as_ptr(), out.as_mut_ptr().add(at), len - whole);
            }
        }
    }
}

/// out = exp(x - max) / sum(exp(x - max)) along the last axis, by a true division. Some elements of a row may be -inf
/// (0 comes out); where all are, or one is +inf or NaN, the row is NaN.
pub(crate) fn softmax(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [x]) = arity(outs, ins)?;
    let dtype = float(&[x, out])?;
    expect("output", &out, x.shape.dims())?;
    let x = Rows::of(&x)?;
    Ok(for_float!(dtype, isa, T => Softmax::<T> { x, out, kind: PhantomData }))
}

struct Softmax<T> {
    x: Rows,
    out: View,
    kind: PhantomData<fn() -> T>,
}

impl<T: Real> Body for Softmax<T> {
    fn parallel(&self) -> bool {
        self.x.count * self.x.len >= PARALLEL_EXP && self.x.count > 1
    }

    fn scratch(&self) -> usize {
        exp_scratch::<T>(self.x.len)
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        if self.x.len == 0 {
            return Ok(());
        }
        for r in share(worker, self.x.count, grain(self.x.len)) {
            // SAFETY: the row exists, and it is this worker's.
            unsafe {
                let scratch = worker.scratch.cast::<T>();
                let (_, sum) = exponentials(&self.x, bases, r, scratch);
                put_row(target(bases, &self.out, r, self.x.len), scratch, |e| e / sum);
            }
        }
        Ok(())
    }
}

/// Logits (.., v), one target (u32) for each row.
struct Labelled {
    logits: Rows,
    targets: View,
    places: Axes,
}

impl Labelled {
    fn of(logits: &View, targets: &View) -> Result<Labelled, String> {
        let logits = Rows::of(logits)?;
        if targets.dtype != DType::U32 {
            return Err(format!("targets are {}, expected u32", targets.dtype.name()));
        }
        expect("targets", targets, logits.outer())?;
        Ok(Labelled { targets: *targets, places: Axes::of(targets, |_| true), logits })
    }

    /// The target of row `r`, or the fault that it is.
    ///
    /// # Safety
    /// The row exists.
    #[inline(always)]
    unsafe fn target(&self, bases: &Bases, r: usize) -> Result<usize, Fault> {
        // SAFETY: the view was checked against its region.
        let value = unsafe { bases.ptr::<u32>(&self.targets).add(self.places.offset(r)).read() };
        let limit = self.logits.len;
        if (value as usize) < limit { Ok(value as usize) } else { Err(Fault { row: r, value, limit }) }
    }
}

/// out = log(sum(exp(x - max))) + (max - x[target]) for each row: the second difference is small wherever the loss is,
/// so nothing cancels at large logits. A row with a bad target gives 0 and a fault.
pub(crate) fn cross_entropy(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [logits, targets]) = arity(outs, ins)?;
    let dtype = float(&[logits, out])?;
    let x = Labelled::of(&logits, &targets)?;
    expect("output", &out, x.logits.outer())?;
    Ok(for_float!(dtype, isa, T => CrossEntropy::<T> { x, out, kind: PhantomData }))
}

struct CrossEntropy<T> {
    x: Labelled,
    out: View,
    kind: PhantomData<fn() -> T>,
}

impl<T: Real> Body for CrossEntropy<T> {
    fn parallel(&self) -> bool {
        self.x.logits.count * self.x.logits.len >= PARALLEL_EXP && self.x.logits.count > 1
    }

    fn scratch(&self) -> usize {
        exp_scratch::<T>(self.x.logits.len)
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let logits = &self.x.logits;
        let (_, stride) = logits.axis.inner();
        let mut outcome = Ok(());
        for r in share(worker, logits.count, grain(logits.len)) {
            // SAFETY: the row exists, it has elements if its target is one of them, and its output is this worker's.
            unsafe {
                let loss = match self.x.target(bases, r) {
                    Ok(at) => {
                        let (most, sum) = exponentials::<T>(logits, bases, r, worker.scratch.cast());
                        sum.ln() + (most - logits.start::<T>(bases, r).add(at * stride).read())
                    }
                    Err(fault) => {
                        outcome = outcome.and(Err(fault));
                        T::ZERO
                    }
                };
                bases.ptr::<T>(&self.out).add(r).write(loss);
            }
        }
        outcome
    }
}

/// out = (softmax(logits) - onehot(targets)) * ct for each row. A row with a bad target gives zeros and a fault.
pub(crate) fn cross_entropy_grad(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [logits, targets, ct]) = arity(outs, ins)?;
    let dtype = float(&[logits, ct, out])?;
    let x = Labelled::of(&logits, &targets)?;
    expect("cotangent", &ct, x.logits.outer())?;
    expect("output", &out, logits.shape.dims())?;
    let places = Axes::of(&ct, |_| true);
    Ok(for_float!(dtype, isa, T => CrossEntropyGrad::<T> { x, ct, places, out, kind: PhantomData }))
}

struct CrossEntropyGrad<T> {
    x: Labelled,
    ct: View,
    places: Axes,
    out: View,
    kind: PhantomData<fn() -> T>,
}

impl<T: Real> Body for CrossEntropyGrad<T> {
    fn parallel(&self) -> bool {
        self.x.logits.count * self.x.logits.len >= PARALLEL_EXP && self.x.logits.count > 1
    }

    fn scratch(&self) -> usize {
        exp_scratch::<T>(self.x.logits.len)
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let logits = &self.x.logits;
        let mut outcome = Ok(());
        for r in share(worker, logits.count, grain(logits.len)) {
            // SAFETY: the row exists, it has elements if its target is one of them, and its output is this worker's.
            unsafe {
                let out = target::<T>(bases, &self.out, r, logits.len);
                match self.x.target(bases, r) {
                    Ok(at) => {
                        let ct = bases.ptr::<T>(&self.ct).add(self.places.offset(r)).read();
                        let scratch = worker.scratch.cast::<T>();
                        let (_, sum) = exponentials(logits, bases, r, scratch);
                        put_row(out, scratch, |e| e / sum * ct);
                        out[at] = (scratch.add(at).read() / sum - T::ONE) * ct;
                    }
                    Err(fault) => {
                        outcome = outcome.and(Err(fault));
                        out.fill(T::ZERO);
                    }
                }
            }
        }
        outcome
    }
}

/// Mean and 1 / sqrt(variance + eps) of a row: the mean first, then the mean of (x - mean)².
#[inline(always)]
fn moments<T: Real>(x: &[T], n: T, eps: T) -> (T, T) {
    // SAFETY: the pointers are those of the slice; the padding `mean` adds 0 to a lane.
    unsafe {
        let mean = lanes::sum(x.as_ptr(), x.len()) / n;
        let squares = lanes::list::<T, Add, T, 1>([x.as_ptr()], [mean], x.len(), |lane, [x]| {
            let d = x - mean;
            d.mul_add(d, lane)
        });
        (mean, T::ONE / (squares / n + eps).sqrt())
    }
}

/// y = (x - mean) * (1 / sqrt(variance + eps)) along the last axis, in two passes over the row.
pub(crate) fn normalize(isa: Isa, eps: f64, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [x]) = arity(outs, ins)?;
    let dtype = float(&[x, out])?;
    expect("output", &out, x.shape.dims())?;
    let x = Rows::of(&x)?;
    Ok(for_float!(dtype, isa, T => Normalize::<T> {
        n: T::from_f64(x.len as f64), eps: T::from_f64(eps), x, out
    }))
}

struct Normalize<T> {
    x: Rows,
    out: View,
    n: T,
    eps: T,
}

impl<T: Real> Body for Normalize<T> {
    fn parallel(&self) -> bool {
        self.x.count * self.x.len >= PARALLEL && self.x.count > 1
    }

    fn scratch(&self) -> usize {
        self.x.scratch::<T>()
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        if self.x.len == 0 {
            return Ok(());
        }
        for r in share(worker, self.x.count, grain(self.x.len)) {
            // SAFETY: the row exists, and it is this worker's.
            let (x, out) = unsafe {
                (self.x.row::<T>(bases, r, worker.scratch.cast()), target::<T>(bases, &self.out, r, self.x.len))
            };
            let (mean, rstd) = moments(x, self.n, self.eps);
            for (y, x) in out.iter_mut().zip(x) {
                *y = (*x - mean) * rstd;
            }
        }
        Ok(())
    }
}

/// dx = rstd * (ct - mean(ct) - y * mean(ct * y)) with y and rstd = 1 / sqrt(variance + eps) as [`normalize`] has them;
/// mean(ct * y) is computed as mean(ct * (x - mean)) * rstd.
pub(crate) fn normalize_grad(isa: Isa, eps: f64, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [x, ct]) = arity(outs, ins)?;
    let dtype = float(&[x, ct, out])?;
    expect("cotangent", &ct, x.shape.dims())?;
    expect("output", &out, x.shape.dims())?;
    let (x, ct) = (Rows::of(&x)?, Rows::of(&ct)?);
    Ok(for_float!(dtype, isa, T => NormalizeGrad::<T> {
        n: T::from_f64(x.len as f64), eps: T::from_f64(eps), x, ct, out
    }))
}

struct NormalizeGrad<T> {
    x: Rows,
    ct: Rows,
    out: View,
    n: T,
    eps: T,
}

impl<T: Real> Body for NormalizeGrad<T> {
    fn parallel(&self) -> bool {
        self.x.count * self.x.len >= PARALLEL && self.x.count > 1
    }

    fn scratch(&self) -> usize {
        self.x.scratch::<T>() + self.ct.scratch::<T>()
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        if self.x.len == 0 {
            return Ok(());
        }
        for r in share(worker, self.x.count, grain(self.x.len)) {
            // SAFETY: the row exists, it is this worker's, and scratch has room for the rows that are copied.
            let (x, ct, out) = unsafe {
                let second = worker.scratch.add(self.x.scratch::<T>());
                (
                    self.x.row::<T>(bases, r, worker.scratch.cast()),
                    self.ct.row::<T>(bases, r, second.cast()),
                    target::<T>(bases, &self.out, r, self.x.len),
                )
            };
            let (mean, rstd) = moments(x, self.n, self.eps);
            // SAFETY: both rows have `len` elements; the padding adds 0 to a lane.
            let (of_ct, of_product) = unsafe {
                let lists = [x.as_ptr(), ct.as_ptr()];
                let product = lanes::list::<T, Add, T, 2>(lists, [mean, Add::identity()], x.len(), |lane, [x, ct]| {
                    ct.mul_add(x - mean, lane)
                });
                (lanes::sum(ct.as_ptr(), ct.len()) / self.n, product / self.n * rstd)
            };
            for ((dx, x), ct) in out.iter_mut().zip(x).zip(ct) {
                let y = (*x - mean) * rstd;
                *dx = (-y).mul_add(of_product, *ct - of_ct) * rstd;
            }
        }
        Ok(())
    }
}
