//! Values between zeros, or one behind another, along one axis.

use crate::isa::Isa;
use crate::shape::Shape;
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::{DType, View};

/// An input and where its elements begin in a row of the output.
struct Part {
    x: View,
    start: usize,
    len: usize,
}

struct Pad {
    out: View,
    parts: Vec<Part>,
    /// Rows are runs of the axis and of those inside it: their number and the elements of one.
    outer: usize,
    row: usize,
}

pub(crate) fn build(
    _: Isa,
    axis: usize,
    starts: &[usize],
    outs: &[View],
    ins: &[View],
) -> Result<Box<dyn Step>, String> {
    let [out] = outs else { return Err("wants one output".to_string()) };
    if starts.len() != ins.len() || axis >= out.shape.rank() {
        return Err(format!("wants {} inputs and an axis below {}", starts.len(), out.shape.rank()));
    }
    let dims = out.shape.dims();
    let below: usize = dims[axis + 1..].iter().product();
    let (mut free, mut parts) = (0, Vec::new());
    for (start, x) in starts.iter().zip(ins) {
        let inner = x.shape.dims();
        let fits = inner.len() == dims.len()
            && *start >= free
            && start.checked_add(inner[axis]).is_some_and(|end| end <= dims[axis])
            && (0..dims.len()).all(|a| a == axis || dims[a] == inner[a]);
        if !fits || out.dtype != x.dtype {
            return Err(format!("{} at {start} of axis {axis} does not fit into {}", x.shape, out.shape));
        }
        free = start + inner[axis];
        parts.push(Part { x: *x, start: start * below, len: inner[axis] * below });
    }
    let outer = dims[..axis].iter().product();
    Ok(Box::new(Pad { out: *out, parts, outer, row: dims[axis] * below }))
}

impl Step for Pad {
    fn parallel(&self) -> bool {
        self.outer > 1 && self.outer * self.row > 1 << 16
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
    /// # Safety
    /// As [`Step::run`]; elements are as large as a `T`.
    unsafe fn copy<T: Copy + Default>(&self, bases: &Bases, worker: &Worker) {
        for o in worker.share(self.outer, 1) {
            // SAFETY: see `run`. Zero bits are 0 in every dtype.
            unsafe {
                let row = bases.ptr::<T>(&self.out).add(o * self.row);
                let mut rest = std::slice::from_raw_parts_mut(row, self.row);
                let mut at = 0;
                for part in &self.parts {
                    let (gap, after) = rest.split_at_mut(part.start - at);
                    let (middle, after) = after.split_at_mut(part.len);
                    gap.fill(T::default());
                    part.read(bases.ptr::<T>(&part.x), o * part.len, middle);
                    (rest, at) = (after, part.start + part.len);
                }
                rest.fill(T::default());
            }
        }
    }
}

impl Part {
    /// Copies the elements from number `from` in row-major order on.
    ///
    /// # Safety
    /// `x` is the address of the view's first element, and the view has them.
    unsafe fn read<T: Copy>(&self, x: *const T, from: usize, to: &mut [T]) {
        // SAFETY: the caller's promise; a run lies inside the view.
        unsafe {
            let rank = self.x.shape.rank();
            let (run, step) = (self.x.shape.dims()[rank - 1], self.x.strides[rank - 1]);
            if run > 0 && (step == 1 || run == 1) {
                // Parts are whole runs of the last axis, or pieces of runs where that is the axis itself.
                for (i, piece) in to.chunks_mut(run).enumerate() {
                    let at = x.add(offset(&self.x, from + i * run));
                    piece.copy_from_slice(std::slice::from_raw_parts(at, piece.len()));
                }
            } else {
                for (i, slot) in to.iter_mut().enumerate() {
                    *slot = *x.add(offset(&self.x, from + i));
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
