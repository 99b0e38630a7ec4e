//! The logarithm of softmax.

use std::marker::PhantomData;

use super::softmax::{Group, PARALLEL_EXP, Plan};
use super::{Rows, grain, target};
use crate::isa::Isa;
use crate::math::Real;
use crate::reduce::dispatch::{Body, share};
use crate::reduce::wide::{self, Wide, for_wide};
use crate::reduce::{arity, expect, float};
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::View;

/// out = (x - max) - ln(sum(exp(x - max))) along the last axis. Some elements of a row may be -inf (-inf comes out);
/// where all are, or one is +inf or NaN, the row is NaN.
pub(crate) fn log_softmax(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [x]) = arity(outs, ins)?;
    let dtype = float(&[x, out])?;
    expect("output", &out, x.shape.dims())?;
    let x = Rows::of(&x)?;
    Ok(for_wide!(dtype, isa, V => LogSoftmax::<V> { plan: Plan::of(&x), x, out, kind: PhantomData }))
}

struct LogSoftmax<V> {
    plan: Plan,
    x: Rows,
    out: View,
    kind: PhantomData<V>,
}

impl<V: Wide> Body for LogSoftmax<V> {
    fn parallel(&self) -> bool {
        self.x.parallel(PARALLEL_EXP)
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
        for start in rows.clone().step_by(self.plan.group) {
            let count = self.plan.group.min(rows.end - start);
            // SAFETY: the rows exist, and they are this worker's.
            unsafe {
                let out = target::<V::T>(bases, &self.out, start, len);
                let (range, scratch) = ([start, count], worker.scratch.cast());
                let group = Group::of::<V, false>(&self.plan, &self.x, bases, range, scratch, std::ptr::null_mut());
                let logs = V::load(group.sums.as_ptr()).map(count, Real::ln).lanes();
                for (i, log) in logs.into_iter().enumerate().take(count) {
                    let (most, log) = (V::splat(group.most[i]), V::splat(log));
                    wide::each::<V, 1>(out.add(i * len), [group.rows[i]], len, |_, [x]| x.sub(most).sub(log));
                }
            }
        }
        Ok(())
    }
}
