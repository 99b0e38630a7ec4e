//! Normalisation to mean 0 and variance 1, and its gradient.

use std::marker::PhantomData;

use super::{PARALLEL, Rows, grain, target};
use crate::isa::Isa;
use crate::math::Real;
use crate::reduce::dispatch::{Body, share};
use crate::reduce::wide::{self, Wide, for_wide};
use crate::reduce::{arity, expect, float};
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::View;

/// What turns a sum into a mean and a mean into a deviation.
#[derive(Clone, Copy)]
struct Scale {
    n: f64,
    eps: f64,
}

impl Scale {
    /// Mean and 1 / sqrt(variance + eps) of a row: the mean first, then the mean of (x - mean)².
    ///
    /// # Safety
    /// The row has `len` elements, and the CPU can run `V`.
    #[inline(always)]
    unsafe fn moments<V: Wide>(self, x: *const V::T, len: usize) -> (V::T, V::T) {
        let (n, eps) = (V::T::from_f64(self.n), V::T::from_f64(self.eps));
        // SAFETY: as above; the padding `mean` adds 0 to a lane.
        unsafe {
            let mean = wide::sum::<V>(x, len) / n;
            let center = V::splat(mean);
            let squares = wide::sum_of::<V, 1>([x], [mean], len, |lane, [x]| {
                let d = x.sub(center);
                d.fma(d, lane)
            });
            (mean, V::T::ONE / (squares / n + eps).sqrt())
        }
    }
}

/// y = (x - mean) * (1 / sqrt(variance + eps)) along the last axis, in two passes over the row.
pub(crate) fn normalize(isa: Isa, eps: f64, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [x]) = arity(outs, ins)?;
    let dtype = float(&[x, out])?;
    expect("output", &out, x.shape.dims())?;
    let x = Rows::of(&x)?;
    let scale = Scale { n: x.len as f64, eps };
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
        for r in share(worker, self.x.count, grain(len)) {
            // SAFETY: the row exists, and it is this worker's.
            unsafe {
                let x = self.x.row::<V::T>(bases, r, worker.scratch.cast());
                let (mean, rstd) = self.scale.moments::<V>(x, len);
                let (mean, rstd) = (V::splat(mean), V::splat(rstd));
                wide::each::<V, 1>(target(bases, &self.out, r, len), [x], len, |_, [x]| x.sub(mean).mul(rstd));
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
    let scale = Scale { n: x.len as f64, eps };
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
        let (len, n) = (self.x.len, V::T::from_f64(self.scale.n));
        if len == 0 {
            return Ok(());
        }
        for r in share(worker, self.x.count, grain(len)) {
            // SAFETY: the row exists, it is this worker's, and scratch has room for the rows that are copied.
            unsafe {
                let x = self.x.row::<V::T>(bases, r, worker.scratch.cast());
                let second = worker.scratch.add(self.x.scratch::<V::T>());
                let ct = self.ct.row::<V::T>(bases, r, second.cast());
                let (mean, rstd) = self.scale.moments::<V>(x, len);
                let of_ct = V::splat(wide::sum::<V>(ct, len) / n);
                let center = V::splat(mean);
                // The padding adds 0 to a lane.
                let product =
                    wide::sum_of::<V, 2>([x, ct], [mean, V::T::ZERO], len, |lane, [x, ct]| ct.fma(x.sub(center), lane));
                let (of_product, rstd) = (V::splat(product / n * rstd), V::splat(rstd));
                wide::each::<V, 2>(target(bases, &self.out, r, len), [x, ct], len, |_, [x, ct]| {
                    let y = x.sub(center).mul(rstd);
                    y.neg().fma(of_product, ct.sub(of_ct)).mul(rstd)
                });
            }
        }
        Ok(())
    }
}
