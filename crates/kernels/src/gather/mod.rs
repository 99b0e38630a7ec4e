//! Rows by index: reading them from a table, adding them up into one, and replacing them.
//!
//! A bad index never touches memory: its row counts as zeros, the work goes on, and the run ends with a fault.

mod scatter;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;

pub(crate) use scatter::scatter;

use crate::isa::Isa;
use crate::math::Real;
use crate::reduce::axes::Axes;
use crate::reduce::dispatch::{Body, share, step};
use crate::reduce::lanes::LANES;
use crate::reduce::wide::{Wide, copy_first, for_wide};
use crate::reduce::{arity, expect, float};
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
                        let from = bases.ptr::<E>(table).add(index * table.strides[0]).cast_const();
                        if columns.is_run() {
                            copy_row(from, to, *width);
                        } else {
                            columns.copy(from, 0, *width, to);
                        }
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

/// Copies a row.
///
/// # Safety
/// `len` elements can be read and written, in different places.
#[inline(always)]
unsafe fn copy_row<E: Copy>(from: *const E, to: *mut E, len: usize) {
    if len > 64 * LINE {
        // SAFETY: as above.
        unsafe { to.copy_from_nonoverlapping(from, len) }
        return;
    }
    // A call of a function for a short row takes longer than the row.
    let mut at = 0;
    // SAFETY: the pieces make up `len`.
    unsafe {
        while at + LINE <= len {
            to.add(at).cast::<[E; LINE]>().write(from.add(at).cast::<[E; LINE]>().read());
            at += LINE;
        }
        copy_first(from.add(at), to.add(at), len - at);
    }
}

/// to = to + from. All but whole blocks goes by pieces of constant length: each begins at the same place whenever the
/// length is the same, so that what one row's has written is quickly read by the next one's.
///
/// # Safety
/// `len` elements of both exist, in different places, and the CPU can run `V`.
#[inline(always)]
unsafe fn add_row<V: Wide>(from: *const V::T, to: *mut V::T, len: usize) {
    let mut at = 0;
    // SAFETY: the pieces make up `len`.
    unsafe {
        while at + LANES <= len {
            V::load(to.add(at)).add(V::load(from.add(at))).store(to.add(at));
            at += LANES;
        }
        if len & 8 != 0 {
            add_piece::<V::T, 8>(from.add(at), to.add(at));
            at += 8;
        }
        if len & 4 != 0 {
            add_piece::<V::T, 4>(from.add(at), to.add(at));
            at += 4;
        }
        if len & 2 != 0 {
            add_piece::<V::T, 2>(from.add(at), to.add(at));
            at += 2;
        }
        if len & 1 != 0 {
            add_piece::<V::T, 1>(from.add(at), to.add(at));
        }
    }
}

/// to = to + from.
///
/// # Safety
/// `N` elements of both exist, in different places.
#[inline(always)]
unsafe fn add_piece<T: Real, const N: usize>(from: *const T, to: *mut T) {
    let to = to.cast::<[T; N]>();
    // SAFETY: as above.
    unsafe {
        let (mut sums, from) = (to.read(), from.cast::<[T; N]>().read());
        for (sum, x) in sums.iter_mut().zip(from) {
            *sum = *sum + x;
        }
        to.write(sums);
    }
}

/// out (v, c..) = sum of the rows of ct (indices.., c..) whose index it is. Each row of out starts at +0, and its rows
/// are added in the order of their positions: workers share the columns of out or its rows, so that this order stays.
pub(crate) fn scatter_add(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [indices, ct]) = arity(outs, ins)?;
    let dtype = float(&[ct, out])?;
    let axes = indices.shape.rank();
    let indices = Indices::of(&indices, &out, &ct)?;
    let (rows, columns) = (Axes::of(&ct, |i| i < axes), Axes::of(&ct, |i| i >= axes));
    let width = columns.count();
    Ok(for_wide!(dtype, isa, V => ScatterAdd::<V> { out, indices, ct, rows, columns, width, kind: PhantomData }))
}

struct ScatterAdd<V> {
    out: View,
    indices: Indices,
    ct: View,
    rows: Axes,
    columns: Axes,
    width: usize,
    kind: PhantomData<V>,
}

impl<V: Wide> ScatterAdd<V> {
    /// Whether workers share rows of the output: in a table of more rows than there are indices most of the work is to
    /// set it to 0, which wants long runs. Otherwise each has all rows of some columns, as indices may fall on few rows.
    #[inline(always)]
    fn by_rows(&self) -> bool {
        self.indices.limit > self.indices.count
    }
}

impl<V: Wide> Body for ScatterAdd<V> {
    fn parallel(&self) -> bool {
        let work = (self.indices.count + self.indices.limit) * self.width;
        work >= PARALLEL && (self.by_rows() || self.width > LINE)
    }

    fn scratch(&self) -> usize {
        if self.columns.is_run() { 0 } else { self.width * size_of::<V::T>() }
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let (limit, width) = (self.indices.limit, self.width);
        let (rows, columns) = match self.by_rows() {
            true => (share(worker, limit, LINE), 0..width),
            false => (0..limit, share(worker, width, LINE)),
        };
        let mut outcome = Ok(());
        // SAFETY: rows and columns exist in out and ct, which do not overlap; those of out are this worker's.
        unsafe {
            let out = bases.ptr::<V::T>(&self.out);
            if columns.len() == width {
                out.add(rows.start * width).write_bytes(0, rows.len() * width);
            } else if !columns.is_empty() {
                for row in rows.clone() {
                    out.add(row * width + columns.start).write_bytes(0, columns.len());
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
                if columns.is_empty() || !rows.contains(&index) {
                    continue;
                }
                let row = bases.ptr::<V::T>(&self.ct).add(self.rows.offset(position)).cast_const();
                let from = self.columns.stage(row, columns.start, columns.len(), worker.scratch.cast());
                add_row::<V>(from, out.add(index * width + columns.start), columns.len());
            }
        }
        outcome
    }
}
