//! Normalisation of rows to a root mean square of 1, and its gradient.

use std::marker::PhantomData;

use super::normalize::{GROUP, Scale};
use super::{PARALLEL, Rows, grain, target};
use crate::isa::Isa;
use crate::reduce::dispatch::{Body, share};
use crate::reduce::wide::{self, Wide, for_wide};
use crate::reduce::{arity, expect, float};
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::View;

/// y = x * (1 / sqrt(mean(x²) + eps)) along the last axis.
pub(crate) fn rms_normalize(isa: Isa, eps: f64, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [x]) = arity(outs, ins)?;
    let dtype = float(&[x, out])?;
    expect("output", &out, x.shape.dims())?;
    let x = Rows::of(&x)?;
    let scale = Scale::of(&[&x], eps);
    Ok(for_wide!(dtype, isa, V => Rms::<V> { scale, x, out, kind: PhantomData }))
}

struct Rms<V> {
    x: Rows,
    out: View,
    scale: Scale,
    kind: PhantomData<V>,
}

impl<V: Wide> Body for Rms<V> {
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
                let inverses = self.scale.inverse_rms::<V>(&rows[..count], len);
                let out = target::<V::T>(bases, &self.out, start, len);
                for i in 0..count {
                    let inverse = V::splat(inverses[i]);
                    wide::each::<V, 1>(out.add(i * len), [rows[i]], len, |_, [x]| x.mul(inverse));
                }
            }
        }
        Ok(())
    }
}

/// dx = r * (ct - y * mean(ct * y)) with y and r = 1 / sqrt(mean(x²) + eps) as [`rms_normalize`] has them; mean(ct * y)
/// is computed as mean(ct * x) * r.
pub(crate) fn rms_normalize_grad(isa: Isa, eps: f64, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [x, ct]) = arity(outs, ins)?;
    let dtype = float(&[x, ct, out])?;
    expect("cotangent", &ct, x.shape.dims())?;
    expect("output", &out, x.shape.dims())?;
    let (x, ct) = (Rows::of(&x)?, Rows::of(&ct)?);
    let scale = Scale::of(&[&x, &ct], eps);
    Ok(for_wide!(dtype, isa, V => RmsGrad::<V> { scale, x, ct, out, kind: PhantomData }))
}

struct RmsGrad<V> {
    x: Rows,
    ct: Rows,
    out: View,
    scale: Scale,
    kind: PhantomData<V>,
}

impl<V: Wide> Body for RmsGrad<V> {
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
        let zero = <V::T as crate::math::Real>::ZERO;
        let rows = share(worker, self.x.count, grain(len));
        for start in rows.clone().step_by(self.scale.group) {
            let count = self.scale.group.min(rows.end - start);
            // SAFETY: the rows exist, they are this worker's, and scratch has room for those that are copied.
            unsafe {
                let second = worker.scratch.add(self.x.scratch::<V::T>());
                let xs = self.x.group::<V::T, GROUP>(bases, start, count, worker.scratch.cast());
                let cts = self.ct.group::<V::T, GROUP>(bases, start, count, second.cast());
                let inverses = self.scale.inverse_rms::<V>(&xs[..count], len);
                let mut products = [zero; GROUP];
                for i in 0..count {
                    // The padding adds 0 to a lane.
                    products[i] =
                        wide::sum_of::<V, 2>([xs[i], cts[i]], [zero; 2], len, |lane, [x, ct]| ct.fma(x, lane));
                }
                let means = self.scale.means::<V>(&products).mul(V::load(inverses.as_ptr())).lanes();
                let out = target::<V::T>(bases, &self.out, start, len);
                for i in 0..count {
                    let (inverse, mean) = (V::splat(inverses[i]), V::splat(means[i]));
                    wide::each::<V, 2>(out.add(i * len), [xs[i], cts[i]], len, |_, [x, ct]| {
                        x.mul(inverse).neg().fma(mean, ct).mul(inverse)
                    });
                }
            }
        }
        Ok(())
    }
}
