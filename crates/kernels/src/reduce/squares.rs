//! Sums of squares to one number: mean squared error and the norm of all gradients.

use std::marker::PhantomData;

use super::axes::Axes;
use super::dispatch::{Body, step};
use super::lanes::{self, Add, CHUNK, LANES, Part, Partials};
use super::wide::{self, Wide, for_wide};
use super::{PARALLEL, arity, expect, float};
use crate::isa::Isa;
use crate::math::Real;
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::{DType, View};

/// out () = mean of (a - y)² over all elements, summed by the lane rule with fused multiply-adds and divided by their
/// number at the end. No elements: NaN (0/0).
pub(crate) fn mean_squared_error(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [a, y]) = arity(outs, ins)?;
    let dtype = float(&[a, y, out])?;
    expect("second input", &y, a.shape.dims())?;
    expect("output", &out, &[])?;
    let len = a.shape.count();
    let lists = [Axes::of(&a, |_| true), Axes::of(&y, |_| true)];
    let ins = [a, y];
    Ok(for_wide!(dtype, isa, V => Mse::<V> {
        ins, out, lists, len, partials: Partials::new(len.div_ceil(CHUNK)), kind: PhantomData
    }))
}

struct Mse<V> {
    ins: [View; 2],
    out: View,
    lists: [Axes; 2],
    len: usize,
    partials: Partials,
    kind: PhantomData<V>,
}

impl<V: Wide> Body for Mse<V> {
    fn parallel(&self) -> bool {
        self.len >= PARALLEL
    }

    fn scratch(&self) -> usize {
        if self.lists.iter().all(Axes::is_run) { 0 } else { 2 * CHUNK.min(self.len) * size_of::<V::T>() }
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        // SAFETY: the views were checked against their regions, and one worker writes the output.
        unsafe {
            let ins = [0, 1].map(|k: usize| bases.ptr::<V::T>(&self.ins[k]).cast_const());
            let parts = MseParts { step: self, ins, scratch: worker.scratch.cast() };
            if let Some(total) = self.partials.total::<V::T, Add>(worker, &parts) {
                bases.ptr::<V::T>(&self.out).write(total / V::T::from_f64(self.len as f64));
            }
        }
        Ok(())
    }
}

struct MseParts<'a, V: Wide> {
    step: &'a Mse<V>,
    ins: [*const V::T; 2],
    scratch: *mut V::T,
}

impl<V: Wide> Part<V::T> for MseParts<'_, V> {
    #[inline(always)]
    unsafe fn part(&self, i: usize) -> V::T {
        let Mse { lists, len, .. } = self.step;
        let (at, size) = (i * CHUNK, (len - i * CHUNK).min(CHUNK));
        // SAFETY: the chunk exists, and scratch has room for one of each input unless both are runs.
        unsafe {
            let a = lists[0].stage(self.ins[0], at, size, self.scratch);
            let y = lists[1].stage(self.ins[1], at, size, self.scratch.wrapping_add(CHUNK.min(*len)));
            let zero = V::T::ZERO;
            let lanes = wide::chunk::<V, 2>(zero, [a, y], [zero; 2], size, |lane, [a, y]| {
                let d = a.sub(y);
                d.fma(d, lane)
            });
            lanes.sum()
        }
    }
}

/// out () f64 = sqrt of the sum of all squares, in f64: chunk by chunk by the lane rule, input after input. Neighbouring
/// inputs that a chunk has room for share its lanes: a small network's gradients cost one tree.
pub(crate) fn global_norm(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let [out] = outs else {
        return Err(format!("has 1 output, got {}", outs.len()));
    };
    expect("output", out, &[])?;
    if out.dtype != DType::F64 {
        return Err(format!("output is {}, expected f64", out.dtype.name()));
    }
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut room = 0;
    for (i, view) in ins.iter().enumerate() {
        if !view.dtype.is_float() || !view.is_contiguous() {
            return Err(format!("input {i} is not a row-major float"));
        }
        let len = view.shape.count();
        for at in (0..len).step_by(CHUNK) {
            let piece = Piece { view: i, at, len: (len - at).min(CHUNK) };
            match chunks.last_mut().filter(|_| piece.len <= room) {
                Some(chunk) => chunk.push(piece),
                None => {
                    chunks.push(vec![piece]);
                    room = CHUNK;
                }
            }
            room -= piece.len;
        }
    }
    let partials = Partials::new(chunks.len());
    let len = ins.iter().map(|v| v.shape.count()).sum();
    Ok(step(isa, GlobalNorm { ins: ins.to_vec(), out: *out, chunks, partials, len }))
}

/// Pieces whose squares are added in the same lanes.
type Chunk = Vec<Piece>;

/// A part of one input.
#[derive(Clone, Copy)]
struct Piece {
    view: usize,
    at: usize,
    len: usize,
}

struct GlobalNorm {
    ins: Vec<View>,
    out: View,
    chunks: Vec<Chunk>,
    partials: Partials,
    len: usize,
}

/// Adds the squares of a piece to the lanes, in f64.
///
/// # Safety
/// `len` elements can be read.
#[inline(always)]
unsafe fn squares<S: Real>(lanes: &mut [f64; LANES], x: *const S, len: usize) {
    // SAFETY: as above. The square of an f32 is exact in f64.
    unsafe {
        lanes::each(lanes, x, S::ZERO, len, |lane, x| {
            let x = x.to_f64();
            Real::mul_add(x, x, lane)
        });
    }
}

impl Body for GlobalNorm {
    fn parallel(&self) -> bool {
        self.len >= PARALLEL
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        // SAFETY: the views were checked against their regions, and one worker writes the output.
        unsafe {
            if let Some(total) = self.partials.total::<f64, Add>(worker, &NormParts { step: self, bases }) {
                bases.ptr::<f64>(&self.out).write(Real::sqrt(total));
            }
        }
        Ok(())
    }
}

struct NormParts<'a> {
    step: &'a GlobalNorm,
    bases: &'a Bases,
}

impl Part<f64> for NormParts<'_> {
    #[inline(always)]
    unsafe fn part(&self, i: usize) -> f64 {
        let mut lanes = [0.0; LANES];
        for Piece { view, at, len } in self.step.chunks[i].iter().copied() {
            let view = &self.step.ins[view];
            // SAFETY: pieces lie inside their views, which were checked.
            unsafe {
                match view.dtype {
                    DType::F32 => squares(&mut lanes, self.bases.ptr::<f32>(view).add(at).cast_const(), len),
                    _ => squares(&mut lanes, self.bases.ptr::<f64>(view).add(at).cast_const(), len),
                }
            }
        }
        lanes::tree::<f64, Add>(lanes)
    }
}
