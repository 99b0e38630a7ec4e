//! Cross-entropy of logits and its gradient.

use std::marker::PhantomData;

use super::softmax::{GROUP, Group, PARALLEL_EXP, Plan};
use super::{Rows, grain, target};
use crate::isa::Isa;
use crate::math::Real;
use crate::reduce::axes::Axes;
use crate::reduce::dispatch::{Body, share};
use crate::reduce::wide::{self, Wide, for_wide};
use crate::reduce::{arity, expect, float};
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::{DType, View};

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
    Ok(for_wide!(dtype, isa, V => CrossEntropy::<V> { plan: Plan::of(&x.logits), x, out, kind: PhantomData }))
}

struct CrossEntropy<V> {
    plan: Plan,
    x: Labelled,
    out: View,
    kind: PhantomData<V>,
}

impl<V: Wide> Body for CrossEntropy<V> {
    fn parallel(&self) -> bool {
        self.x.logits.parallel(PARALLEL_EXP)
    }

    fn scratch(&self) -> usize {
        self.x.logits.scratch::<V::T>()
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let logits = &self.x.logits;
        let mut outcome = Ok(());
        let (rows, most) = (share(worker, logits.count, grain(logits.len)), self.plan.group);
        for start in rows.clone().step_by(most) {
            let count = most.min(rows.end - start);
            // SAFETY: the rows exist, a target that is one of them says that they have elements, and `count` outputs are
            // this worker's.
            unsafe {
                let range = if logits.len == 0 { [start, 0] } else { [start, count] };
                let scratch = worker.scratch.cast();
                let mut group = Group::of::<V, false>(&self.plan, logits, bases, range, scratch, std::ptr::null_mut());
                let mut rest = [V::T::ZERO; GROUP];
                for (i, rest) in rest.iter_mut().enumerate().take(count) {
                    match self.x.target(bases, start + i) {
                        Ok(at) => *rest = group.most[i] - group.rows[i].add(at).read(),
                        Err(fault) => {
                            // ln 1 + 0 = 0.
                            group.sums[i] = V::T::ONE;
                            outcome = outcome.and(Err(fault));
                        }
                    }
                }
                // A logarithm alone costs as much as the rest of a short row.
                let losses = V::load(group.sums.as_ptr()).map(count, Real::ln).add(V::load(rest.as_ptr()));
                losses.store_first(bases.ptr::<V::T>(&self.out).add(start), V::first(count));
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
    Ok(
        for_wide!(dtype, isa, V => CrossEntropyGrad::<V> { plan: Plan::of(&x.logits), x, ct, places, out, kind: PhantomData }),
    )
}

struct CrossEntropyGrad<V> {
    plan: Plan,
    x: Labelled,
    ct: View,
    places: Axes,
    out: View,
    kind: PhantomData<V>,
}

impl<V: Wide> Body for CrossEntropyGrad<V> {
    fn parallel(&self) -> bool {
        self.x.logits.parallel(PARALLEL_EXP)
    }

    fn scratch(&self) -> usize {
        self.plan.scratch::<V::T>(&self.x.logits)
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let logits = &self.x.logits;
        let (len, most) = (logits.len, self.plan.group);
        let rows = share(worker, logits.count, grain(len));
        let mut outcome = Ok(());
        for start in rows.clone().step_by(most) {
            let count = most.min(rows.end - start);
            // SAFETY: the rows exist, a target that is one of them says that they have elements, and their outputs are
            // this worker's.
            unsafe {
                let out = target::<V::T>(bases, &self.out, start, len);
                let range = if len == 0 { [start, 0] } else { [start, count] };
                let group = Group::of::<V, true>(&self.plan, logits, bases, range, worker.scratch.cast(), out);
                for i in 0..count {
                    let row = out.add(i * len);
                    match self.x.target(bases, start + i) {
                        Ok(target) => {
                            let ct = bases.ptr::<V::T>(&self.ct).add(self.places.offset(start + i)).read();
                            let (sum, ct) = (V::splat(group.sums[i]), V::splat(ct));
                            // Taking 0 away changes no bit of the others.
                            let onehot = |at: usize| V::only(target.wrapping_sub(at), V::T::ONE);
                            wide::each::<V, 1>(row, [group.exps(i)], len, |at, [e]| e.div(sum).sub(onehot(at)).mul(ct));
                        }
                        Err(fault) => {
                            outcome = outcome.and(Err(fault));
                            std::slice::from_raw_parts_mut(row, len).fill(V::T::ZERO);
                        }
                    }
                }
            }
        }
        outcome
    }
}
