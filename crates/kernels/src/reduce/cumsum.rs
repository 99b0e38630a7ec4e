//! Running sums along an axis.

use std::marker::PhantomData;

use super::axes::Axes;
use super::dispatch::{Body, share};
use super::{LINE, arity, expect, float, for_float};
use crate::isa::Isa;
use crate::math::Real;
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::View;

/// Elements from which on several workers share the work.
const PARALLEL: usize = 32 * 1024;

/// out\[i\] = x\[0\] + .. + x\[i\] along `axis`, added one by one from the first element on; `reverse`: from the last one on.
pub(crate) fn cumsum(
    isa: Isa,
    axis: usize,
    reverse: bool,
    outs: &[View],
    ins: &[View],
) -> Result<Box<dyn Step>, String> {
    let (out, [x]) = arity(outs, ins)?;
    let dtype = float(&[x, out])?;
    expect("output", &out, x.shape.dims())?;
    let Some(&len) = x.shape.dims().get(axis) else {
        return Err(format!("axis {axis} does not exist in shape {}", x.shape));
    };
    let outer = Axes::of(&x, |i| i < axis);
    let inner = Axes::of(&x, |i| i > axis);
    let lines = if x.shape.count() == 0 { 0 } else { outer.count() * inner.count() };
    let plan = Plan { out, step: x.strides[axis], x, outer, inner, width: inner.count(), lines, len, reverse };
    Ok(for_float!(dtype, isa, T => CumSum::<T>(plan, PhantomData)))
}

struct Plan {
    x: View,
    out: View,
    /// Axes before and behind the one that is summed along.
    outer: Axes,
    inner: Axes,
    /// Elements of `inner`.
    width: usize,
    /// Sums that run beside each other.
    lines: usize,
    /// Elements of one of them, and the distance between two.
    len: usize,
    step: usize,
    reverse: bool,
}

struct CumSum<T>(Plan, PhantomData<fn() -> T>);

impl<T: Real> Body for CumSum<T> {
    fn parallel(&self) -> bool {
        self.0.lines * self.0.len >= PARALLEL && self.0.lines > 1
    }

    fn scratch(&self) -> usize {
        if self.0.inner.is_run() { 0 } else { self.0.width * size_of::<T>() }
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let Plan { x, out, outer, inner, width, lines, len, step, reverse } = &self.0;
        let lines = share(worker, *lines, LINE);
        let mut line = lines.start;
        while line < lines.end {
            // Columns of one group of lines: those that stand side by side.
            let (group, first) = (line / width, line % width);
            let columns = (width - first).min(lines.end - line);
            // SAFETY: these elements lie in their regions and fit in scratch; workers write different columns.
            unsafe {
                let from = bases.ptr::<T>(x).add(outer.offset(group)).cast_const();
                let to = bases.ptr::<T>(out).add(group * len * width + first);
                for k in 0..*len {
                    let at = if *reverse { len - 1 - k } else { k };
                    let row = inner.stage(from.add(at * step), first, columns, worker.scratch.cast());
                    let sums = to.add(at * width);
                    if k == 0 {
                        row.copy_to_nonoverlapping(sums, columns);
                        continue;
                    }
                    let last = if *reverse { sums.add(*width) } else { sums.sub(*width) };
                    for c in 0..columns {
                        sums.add(c).write(last.add(c).read() + row.add(c).read());
                    }
                }
            }
            line += columns;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduce::testing::{Data, Layout, noise, refusal, run, same};
    use crate::view::DType;

    /// The last ones are shared among workers.
    const CASES: [(&[usize], usize); 10] = [
        (&[7], 0),
        (&[0], 0),
        (&[3, 0], 0),
        (&[3, 0], 1),
        (&[5, 65], 1),
        (&[65, 5], 0),
        (&[2, 3, 4], 1),
        (&[1, 9, 1], 1),
        (&[300, 130], 1),
        (&[3, 90, 131], 1),
    ];

    fn expected(x: &[f32], dims: &[usize], axis: usize, reverse: bool) -> Vec<f32> {
        let below: usize = dims[axis + 1..].iter().product();
        let mut y = x.to_vec();
        let all: Vec<usize> = (0..x.len()).collect();
        let order: Vec<usize> = if reverse { all.into_iter().rev().collect() } else { all };
        for i in order {
            let k = i / below % dims[axis];
            if reverse && k + 1 < dims[axis] {
                y[i] = y[i + below] + x[i];
            } else if !reverse && k > 0 {
                y[i] = y[i - below] + x[i];
            }
        }
        y
    }

    #[test]
    fn sums_run_one_by_one_from_either_end() {
        for (dims, axis) in CASES {
            let x = noise::<f32>(4, dims.iter().product());
            for (layout, reverse) in Layout::ALL.into_iter().flat_map(|layout| [(layout, false), (layout, true)]) {
                let build = |isa: Isa, outs: &[View], ins: &[View]| cumsum(isa, axis, reverse, outs, ins);
                let (found, fault) = run::<f32>(dims, &[Data::new(dims, &x, layout)], &build);
                assert_eq!(fault, Ok(()));
                same(&found, &expected(&x, dims, axis, reverse), &format!("{dims:?} {axis} {layout:?} {reverse}"));
            }
        }
    }

    #[test]
    fn wrong_calls_are_refused() {
        let build = |isa: Isa, outs: &[View], ins: &[View]| cumsum(isa, 1, false, outs, ins);
        let x = (DType::F32, &[3][..]);
        assert_eq!(refusal(x, &[x], &build), "axis 1 does not exist in shape (3,)");
        assert_eq!(refusal((DType::F32, &[4]), &[x], &build), "output has shape (4,), expected [3]");
        assert_eq!(refusal((DType::U32, &[3]), &[(DType::U32, &[3])], &build), "needs floats, got u32");
    }
}
