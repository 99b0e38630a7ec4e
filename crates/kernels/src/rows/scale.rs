//! What normalisations have in common: groups of whole rows that are brought to a common scale.

use std::marker::PhantomData;

use super::{PARALLEL, Rows, grain, target};
use crate::isa::Isa;
use crate::math::Real;
use crate::reduce::dispatch::{Body, share};
use crate::reduce::lanes::LANES;
use crate::reduce::wide::{self, Wide, for_wide};
use crate::reduce::{arity, expect, float};
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::View;

/// Most rows that are worked on side by side: a row's sums, divisions and square root wait for each other, those of
/// several rows do not, and a division takes as long for one row as for all.
pub(super) const GROUP: usize = LANES;

/// How a call's rows are taken, and what turns a sum into a mean and a mean into a deviation.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    n: f64,
    eps: f64,
    /// Rows of a group: as many as stay in the first cache, one where rows are copied.
    group: usize,
}

impl Scale {
    fn of(inputs: &[Rows], eps: f64) -> Scale {
        let len = inputs[0].len;
        let runs = inputs.iter().all(|x| x.axis.is_run());
        Scale { n: len as f64, eps, group: if runs { (4096 / len.max(1)).clamp(1, GROUP) } else { 1 } }
    }

    /// sums / n.
    ///
    /// # Safety
    /// The CPU can run `V`.
    #[inline(always)]
    pub(super) unsafe fn means<V: Wide>(self, sums: &[V::T; GROUP]) -> V {
        // SAFETY: a group is a block.
        unsafe { V::load(sums.as_ptr()).div(V::splat(V::T::from_f64(self.n))) }
    }

    /// Mean and 1 / sqrt(variance + eps) of some rows: the mean first, then the mean of (x - mean)².
    ///
    /// # Safety
    /// At most [`GROUP`] rows with `len` elements, and the CPU can run `V`.
    #[inline(always)]
    pub(super) unsafe fn moments<V: Wide>(self, rows: &[*const V::T], len: usize) -> ([V::T; GROUP], [V::T; GROUP]) {
        let (one, eps) = (V::T::ONE, V::T::from_f64(self.eps));
        let (mut sums, mut squares) = ([V::T::ZERO; GROUP], [V::T::ONE; GROUP]);
        // SAFETY: as above; the padding `mean` adds 0 to a lane.
        unsafe {
            for (x, sum) in rows.iter().zip(&mut sums) {
                *sum = wide::sum::<V>(*x, len);
            }
            let means = self.means::<V>(&sums).lanes();
            for ((x, mean), sum) in rows.iter().zip(means).zip(&mut squares) {
                let center = V::splat(mean);
                *sum = wide::sum_of::<V, 1>([*x], [mean], len, |lane, [x]| {
                    let d = x.sub(center);
                    d.fma(d, lane)
                });
            }
            let deviations = self.means::<V>(&squares).add(V::splat(eps)).map(rows.len(), Real::sqrt);
            (means, V::splat(one).div(deviations).lanes())
        }
    }

    /// 1 / sqrt(mean(x²) + eps) of some rows.
    ///
    /// # Safety
    /// At most [`GROUP`] rows with `len` elements, and the CPU can run `V`.
    #[inline(always)]
    pub(super) unsafe fn inverse_rms<V: Wide>(self, rows: &[*const V::T], len: usize) -> [V::T; GROUP] {
        let mut squares = [V::T::ONE; GROUP];
        // SAFETY: as above; the padding adds 0 to a lane.
        unsafe {
            for (x, sum) in rows.iter().zip(&mut squares) {
                *sum = wide::sum_of::<V, 1>([*x], [V::T::ZERO], len, |lane, [x]| x.fma(x, lane));
            }
            let eps = V::splat(V::T::from_f64(self.eps));
            let roots = self.means::<V>(&squares).add(eps).map(rows.len(), Real::sqrt);
            V::splat(V::T::ONE).div(roots).lanes()
        }
    }
}

/// Some rows of `N` inputs and where their results go.
pub(super) struct Group<T, const N: usize> {
    /// The rows of each input.
    pub(super) rows: [[*const T; GROUP]; N],
    /// How many of them there are.
    pub(super) count: usize,
    /// Their elements.
    pub(super) len: usize,
    out: *mut T,
}

impl<T, const N: usize> Group<T, N> {
    /// Row `i` of each input.
    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> [*const T; N] {
        std::array::from_fn(|input| self.rows[input][i])
    }

    /// Where row `i` of the output goes.
    #[inline(always)]
    pub(super) fn target(&self, i: usize) -> *mut T {
        self.out.wrapping_add(i * self.len)
    }
}

/// A function of whole rows of `N` inputs of one shape, with an output of that shape.
pub(super) trait Rescale<const N: usize>: Send + Sync + 'static {
    /// Writes the results of a group.
    ///
    /// # Safety
    /// The rows exist and have elements, the targets are this worker's, and the CPU can run `V`.
    unsafe fn run<V: Wide>(scale: Scale, group: &Group<V::T, N>);
}

/// The step that runs a [`Rescale`] over all rows.
pub(super) fn step<F: Rescale<N>, const N: usize>(
    isa: Isa,
    eps: f64,
    outs: &[View],
    ins: &[View],
) -> Result<Box<dyn Step>, String> {
    let (out, inputs) = arity::<N>(outs, ins)?;
    let dtype = float(&[&inputs[..], &[out]].concat())?;
    for (view, what) in inputs[1..].iter().zip(std::iter::repeat("cotangent")).chain([(&out, "output")]) {
        expect(what, view, inputs[0].shape.dims())?;
    }
    let rows: Vec<Rows> = inputs.iter().map(Rows::of).collect::<Result<_, _>>()?;
    let scale = Scale::of(&rows, eps);
    let Ok(inputs) = <[Rows; N]>::try_from(rows) else { return Err(format!("takes {N} inputs")) };
    Ok(for_wide!(dtype, isa, V => Rescaled::<V, F, N> { inputs, out, scale, kind: PhantomData }))
}

struct Rescaled<V, F, const N: usize> {
    inputs: [Rows; N],
    out: View,
    scale: Scale,
    kind: PhantomData<(V, F)>,
}

impl<V: Wide, F: Rescale<N>, const N: usize> Body for Rescaled<V, F, N> {
    fn parallel(&self) -> bool {
        self.inputs[0].parallel(PARALLEL)
    }

    fn scratch(&self) -> usize {
        self.inputs.iter().map(Rows::scratch::<V::T>).sum()
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let len = self.inputs[0].len;
        if len == 0 {
            return Ok(());
        }
        let shared = share(worker, self.inputs[0].count, grain(len));
        for start in shared.clone().step_by(self.scale.group) {
            let count = self.scale.group.min(shared.end - start);
            // SAFETY: the rows exist, they are this worker's, and scratch has room for those that are copied.
            unsafe {
                let mut scratch = worker.scratch;
                let mut rows = [[std::ptr::null(); GROUP]; N];
                for (rows, input) in rows.iter_mut().zip(&self.inputs) {
                    *rows = input.group::<V::T, GROUP>(bases, start, count, scratch.cast());
                    scratch = scratch.add(input.scratch::<V::T>());
                }
                let out = target::<V::T>(bases, &self.out, start, len);
                F::run::<V>(self.scale, &Group { rows, count, len, out });
            }
        }
        Ok(())
    }
}
