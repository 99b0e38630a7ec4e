//! Rows by index: reading them from a table and adding them up into one.
//!
//! A bad index never touches memory: its row counts as zeros, the work goes on, and the run ends with a fault.

#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use crate::isa::Isa;
use crate::math::Real;
use crate::reduce::axes::Axes;
use crate::reduce::dispatch::{Body, share, step};
use crate::reduce::{arity, expect, float, for_float};
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::{DType, View};

/// Elements from which on several workers share the work.
const PARALLEL: usize = 32 * 1024;

/// Elements of 4 bytes in one cache line.
const LINE: usize = 16;

/// Indices of any shape, in row-major order.
struct Indices {
    view: View,
    places: Axes,
    count: usize,
    /// Number of rows that exist.
    limit: usize,
}

impl Indices {
    /// Checks that `indices` (i..) are u32, that the table has shape (v, c..) and the rows have shape (i.., c..).
    fn of(indices: &View, table: &View, rows: &View) -> Result<Indices, String> {
        if indices.dtype != DType::U32 {
            return Err(format!("indices are {}, expected u32", indices.dtype.name()));
        }
        let Some((&limit, columns)) = table.shape.dims().split_first() else {
            return Err("a table has at least one axis".to_string());
        };
        expect("the tensor of rows", rows, &[indices.shape.dims(), columns].concat())?;
        Ok(Indices { view: *indices, places: Axes::of(indices, |_| true), count: indices.shape.count(), limit })
    }

    /// The index at `position`, or the fault that it is.
    ///
    /// # Safety
    /// The position exists.
    #[inline(always)]
    unsafe fn at(&self, bases: &Bases, position: usize) -> Result<usize, Fault> {
        // SAFETY: the view was checked against its region.
        let value = unsafe { bases.ptr::<u32>(&self.view).add(self.places.offset(position)).read() };
        if (value as usize) < self.limit {
            Ok(value as usize)
        } else {
            Err(Fault { row: position, value, limit: self.limit })
        }
    }
}

/// out (indices.., c..) = table (v, c..)[indices]; table of any dtype.
pub(crate) fn gather(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [table, indices]) = arity(outs, ins)?;
    if table.dtype != out.dtype {
        return Err(format!("table is {}, output is {}", table.dtype.name(), out.dtype.name()));
    }
    let indices = Indices::of(&indices, &table, &out)?;
    let columns = Axes::of(&table, |i| i > 0);
    let body = Gather { table, indices, out, width: columns.count(), columns };
    // Only the size of an element matters.
    Ok(match table.dtype.size() {
        4 => step(isa, Moved::<u32>(body, PhantomData)),
        _ => step(isa, Moved::<u64>(body, PhantomData)),
    })
}

struct Gather {
    table: View,
    indices: Indices,
    out: View,
    columns: Axes,
    width: usize,
}

/// A [`Gather`] of elements of the size of `E`.
struct Moved<E>(Gather, PhantomData<fn() -> E>);

impl<E: bytemuck::Pod> Body for Moved<E> {
    fn parallel(&self) -> bool {
        self.0.indices.count * self.0.width >= PARALLEL
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let Gather { table, indices, out, columns, width } = &self.0;
        let mut outcome = Ok(());
        let grain = if *width < LINE { LINE } else { 1 };
        for row in share(worker, indices.count, grain) {
            // SAFETY: row `index` of the table and row `row` of the output exist, and the latter is this worker's.
            unsafe {
                let to = bases.ptr::<E>(out).add(row * width);
                match indices.at(bases, row) {
                    Ok(index) if *width > 0 => {
                        columns.copy(bases.ptr::<E>(table).add(index * table.strides[0]), 0, *width, to);
                    }
                    Ok(_) => {}
                    Err(fault) => {
                        outcome = outcome.and(Err(fault));
                        to.write_bytes(0, *width);
                    }
                }
            }
        }
        outcome
    }
}

/// out (v, c..) = sum of the rows of ct (indices.., c..) whose index it is. Each row of out starts at +0, and its rows
/// are added in the order of their positions: workers share the columns, so that this order stays.
pub(crate) fn scatter_add(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [indices, ct]) = arity(outs, ins)?;
    let dtype = float(&[ct, out])?;
    let axes = indices.shape.rank();
    let indices = Indices::of(&indices, &out, &ct)?;
    let (rows, columns) = (Axes::of(&ct, |i| i < axes), Axes::of(&ct, |i| i >= axes));
    let width = columns.count();
    Ok(for_float!(dtype, isa, T => ScatterAdd::<T> { out, indices, ct, rows, columns, width, kind: PhantomData }))
}

struct ScatterAdd<T> {
    out: View,
    indices: Indices,
    ct: View,
    rows: Axes,
    columns: Axes,
    width: usize,
    kind: PhantomData<fn() -> T>,
}

impl<T: Real> Body for ScatterAdd<T> {
    fn parallel(&self) -> bool {
        (self.indices.count + self.indices.limit) * self.width >= PARALLEL && self.width > LINE
    }

    fn scratch(&self) -> usize {
        if self.columns.is_run() { 0 } else { self.width * size_of::<T>() }
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let columns = share(worker, self.width, LINE);
        let mut outcome = Ok(());
        // SAFETY: rows and columns exist in out and ct, which do not overlap; the columns are this worker's.
        unsafe {
            let out = bases.ptr::<T>(&self.out);
            if columns.len() == self.width {
                out.write_bytes(0, self.indices.limit * self.width);
            } else if !columns.is_empty() {
                for row in 0..self.indices.limit {
                    out.add(row * self.width + columns.start).write_bytes(0, columns.len());
                }
            }
            for position in 0..self.indices.count {
                let index = match self.indices.at(bases, position) {
                    Ok(index) => index,
                    Err(fault) => {
                        outcome = outcome.and(Err(fault));
                        continue;
                    }
                };
                if columns.is_empty() {
                    continue;
                }
                let row = bases.ptr::<T>(&self.ct).add(self.rows.offset(position));
                let from = self.columns.stage(row, columns.start, columns.len(), worker.scratch.cast());
                let from = std::slice::from_raw_parts(from, columns.len());
                let to = std::slice::from_raw_parts_mut(out.add(index * self.width + columns.start), columns.len());
                for (sum, x) in to.iter_mut().zip(from) {
                    *sum = *sum + *x;
                }
            }
        }
        outcome
    }
}
