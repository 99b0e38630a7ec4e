//! The index of the largest element along the last axis.

use std::marker::PhantomData;

use super::axes::Axes;
use super::dispatch::{Body, share};
use super::lanes::{CHUNK, Combine, Largest};
use super::wide::{self, Wide, for_wide};
use super::{LINE, PARALLEL, Plan, arity, expect, float};
use crate::isa::Isa;
use crate::math::Real;
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::{DType, View};

/// Index of the first largest element along the last axis (u32); NaN counts as largest. An empty last axis is refused.
pub(crate) fn argmax(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [input]) = arity(outs, ins)?;
    let dtype = float(&[input])?;
    let dims = input.shape.dims();
    let Some((&len, rows)) = dims.split_last() else {
        return Err("a scalar has no last axis".to_string());
    };
    expect("output", &out, rows)?;
    if out.dtype != DType::U32 {
        return Err(format!("output is {}, expected u32", out.dtype.name()));
    }
    if len == 0 || len > u32::MAX as usize {
        return Err(format!("the last axis has {len} elements, expected 1 to 2^32 - 1"));
    }
    let axis = rows.len();
    let plan = Plan { input, out, kept: Axes::of(&input, |i| i != axis), list: Axes::of(&input, |i| i == axis) };
    let outputs = plan.kept.count();
    Ok(for_wide!(dtype, isa, V => Argmax::<V> { outputs, len, plan, kind: PhantomData }))
}

struct Argmax<V> {
    plan: Plan,
    outputs: usize,
    len: usize,
    kind: PhantomData<V>,
}

impl<V: Wide> Body for Argmax<V> {
    fn parallel(&self) -> bool {
        self.outputs * self.len >= PARALLEL && self.outputs > 1
    }

    fn scratch(&self) -> usize {
        if self.plan.list.is_run() { 0 } else { self.len * size_of::<V::T>() }
    }

    // The largest element vectorises, and so does the search for it; finding both at once does not.
    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let grain = if self.len < CHUNK { LINE } else { 1 };
        for o in share(worker, self.outputs, grain) {
            // SAFETY: the row lies in its region and fits in scratch; workers write different outputs.
            unsafe {
                let base = bases.ptr::<V::T>(&self.plan.input).cast_const().add(self.plan.kept.offset(o));
                let row = self.plan.list.stage(base, 0, self.len, worker.scratch.cast());
                let row = std::slice::from_raw_parts(row, self.len);
                // The larger of zeros does not matter: they are equal.
                let put = |most: V, [x]: [V; 1]| x.larger_or_nan(most);
                let none = V::T::NEG_INFINITY;
                let most = Largest::lanes(wide::chunk(none, [row.as_ptr()], [none], self.len, put));
                let first = if most.is_nan() { find(row, V::T::is_nan) } else { find(row, |x| x == most) };
                bases.ptr::<u32>(&self.plan.out).add(o).write(first as u32);
            }
        }
        Ok(())
    }
}

/// Position of the first element for which `is` holds; one exists.
#[inline(always)]
fn find<T: Real>(row: &[T], is: impl Fn(T) -> bool) -> usize {
    let mut start = 0;
    for block in row.chunks_exact(64) {
        if block.iter().fold(false, |any, x| any | is(*x)) {
            break;
        }
        start += 64;
    }
    start + row[start..].iter().position(|x| is(*x)).unwrap_or(0)
}
