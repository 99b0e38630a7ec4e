//! Normalisation to mean 0 and variance 1, and its gradient.

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
    pub(super) group: usize,
}

impl Scale {
    pub(super) fn of(inputs: &[&Rows], eps: f64) -> Scale {
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
    unsafe fn moments<V: Wide>(self, rows: &[*const V::T], len: usize) -> ([V::T; GROUP], [V::T; GROUP]) {
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

/// y = (x - mean) * (1 / sqrt(variance + eps)) along the last axis, in two passes over the row.
pub(crate) fn normalize(isa: Isa, eps: f64, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [x]) = arity(outs, ins)?;
    let dtype = float(&[x, out])?;
    expect("output", &out, x.shape.dims())?;
    let x = Rows::of(&x)?;
    let scale = Scale::of(&[&x], eps);
    Ok(for_wide!(dtype, isa, V => Normalize::<V> { scale, x, out, kind: PhantomData }))
}

struct Normalize<V> {
    x: Rows,
    out: View,
    scale: Scale,
    kind: PhantomData<V>,
}

impl<V: Wide> Body for Normalize<V> {
    fn parallel(&self) -> bool {
        self.x.parallel(PARALLEL)
    }

    fn scratch(&self) -> usize {
        self.x.scratch::<V::T>()
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let len = self.x.len;
        if len == 0 {
            return Ok(());
        }
        let rows = share(worker, self.x.count, grain(len));
        for start in rows.clone().step_by(self.scale.group) {
            let count = self.scale.group.min(rows.end - start);
            // SAFETY: the rows exist, and they are this worker's.
            unsafe {
                let rows = self.x.group::<V::T, GROUP>(bases, start, count, worker.scratch.cast());
                let (means, rstds) = self.scale.moments::<V>(&rows[..count], len);
                let out = target::<V::T>(bases, &self.out, start, len);
                for i in 0..count {
                    let (mean, rstd) = (V::splat(means[i]), V::splat(rstds[i]));
                    wide::each::<V, 1>(out.add(i * len), [rows[i]], len, |_, [x]| x.sub(mean).mul(rstd));
                }
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
    let scale = Scale::of(&[&x, &ct], eps);
    Ok(for_wide!(dtype, isa, V => NormalizeGrad::<V> { scale, x, ct, out, kind: PhantomData }))
}

struct NormalizeGrad<V> {
    x: Rows,
    ct: Rows,
    out: View,
    scale: Scale,
    kind: PhantomData<V>,
}

impl<V: Wide> Body for NormalizeGrad<V> {
    fn parallel(&self) -> bool {
        self.x.parallel(PARALLEL)
    }

    fn scratch(&self) -> usize {
        self.x.scratch::<V::T>() + self.ct.scratch::<V::T>()
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let len = self.x.len;
        if len == 0 {
            return Ok(());
        }
        let rows = share(worker, self.x.count, grain(len));
        for start in rows.clone().step_by(self.scale.group) {
            let count = self.scale.group.min(rows.end - start);
            // SAFETY: the rows exist, they are this worker's, and scratch has room for those that are copied.
            unsafe {
                let second = worker.scratch.add(self.x.scratch::<V::T>());
                let xs = self.x.group::<V::T, GROUP>(bases, start, count, worker.scratch.cast());
                let cts = self.ct.group::<V::T, GROUP>(bases, start, count, second.cast());
                let (means, rstds) = self.scale.moments::<V>(&xs[..count], len);
                let (mut sums, mut products) = ([V::T::ZERO; GROUP], [V::T::ZERO; GROUP]);
                for i in 0..count {
                    sums[i] = wide::sum::<V>(cts[i], len);
                    let center = V::splat(means[i]);
                    // The padding adds 0 to a lane.
                    let pad = [means[i], V::T::ZERO];
                    products[i] =
                        wide::sum_of::<V, 2>([xs[i], cts[i]], pad, len, |lane, [x, ct]| ct.fma(x.sub(center), lane));
                }
                let of_ct = self.scale.means::<V>(&sums).lanes();
                let of_product = self.scale.means::<V>(&products).mul(V::load(rstds.as_ptr())).lanes();
                let out = target::<V::T>(bases, &self.out, start, len);
                for i in 0..count {
                    let (center, rstd) = (V::splat(means[i]), V::splat(rstds[i]));
                    let (of_ct, of_product) = (V::splat(of_ct[i]), V::splat(of_product[i]));
                    wide::each::<V, 2>(out.add(i * len), [xs[i], cts[i]], len, |_, [x, ct]| {
                        let y = x.sub(center).mul(rstd);
                        y.neg().fma(of_product, ct.sub(of_ct)).mul(rstd)
                    });
                }
            }
        }
        Ok(())
    }
}
