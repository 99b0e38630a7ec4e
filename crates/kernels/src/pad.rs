//! A value between zeros along one axis.

use crate::isa::Isa;
use crate::shape::Shape;
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::{DType, View};

struct Pad {
    out: View,
    x: View,
    /// Rows are runs of the innermost axes: (outer count, elements of an output row, elements of an input row, start).
    outer: usize,
    row: usize,
    part: usize,
    start: usize,
}

pub(crate) fn build(_: Isa, axis: usize, before: usize, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let ([out], [x]) = (outs, ins) else { return Err("wants one input and one output".to_string()) };
    let (dims, inner) = (out.shape.dims(), x.shape.dims());
    let fits = axis < dims.len()
        && x.shape.rank() == dims.len()
        && before.checked_add(inner[axis]).is_some_and(|end| end <= dims[axis])
        && (0..dims.len()).all(|a| a == axis || dims[a] == inner[a]);
    if !fits || out.dtype != x.dtype {
        return Err(format!("{} at {before} of axis {axis} does not fit into {}", x.shape, out.shape));
    }
    let below: usize = dims[axis + 1..].iter().product();
    let outer = dims[..axis].iter().product();
    Ok(Box::new(Pad {
        out: *out,
        x: *x,
        outer,
        row: dims[axis] * below,
        part: inner[axis] * below,
        start: before * below,
    }))
}

impl Step for Pad {
    fn parallel(&self) -> bool {
        self.outer * self.row > 1 << 16
    }

    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        // SAFETY: the views were checked against their regions; workers write disjoint rows.
        unsafe {
            match self.out.dtype {
                DType::F64 => self.copy::<f64>(bases, worker),
                DType::F32 | DType::U32 => self.copy::<u32>(bases, worker),
            }
        }
        Ok(())
    }
}

impl Pad {
    unsafe fn copy<T: Copy + Default>(&self, bases: &Bases, worker: &Worker) {
        // SAFETY: see `run`. Zero bits are 0 in every dtype.
        unsafe {
            let (out, x) = (bases.ptr::<T>(&self.out), bases.ptr::<T>(&self.x));
            let contiguous = self.x.is_contiguous();
            for o in worker.share(self.outer, 1) {
                let row = std::slice::from_raw_parts_mut(out.add(o * self.row), self.row);
                let (before, rest) = row.split_at_mut(self.start);
                let (middle, after) = rest.split_at_mut(self.part);
                before.fill(T::default());
                after.fill(T::default());
                if contiguous {
                    middle.copy_from_slice(std::slice::from_raw_parts(x.add(o * self.part), self.part));
                } else {
                    for (i, slot) in middle.iter_mut().enumerate() {
                        *slot = *x.add(offset(&self.x, o * self.part + i));
                    }
                }
            }
        }
    }
}

/// The distance in elements from the first element of `view` to its `i`-th in row-major order.
fn offset(view: &View, mut i: usize) -> usize {
    let shape: Shape = view.shape;
    let mut at = 0;
    for axis in (0..shape.rank()).rev() {
        let len = shape.dims()[axis];
        at += i % len * view.strides[axis];
        i /= len;
    }
    at
}
