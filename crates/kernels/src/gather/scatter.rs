//! A table with some of its rows replaced.

use std::marker::PhantomData;

use super::{Indices, LINE, PARALLEL, copy_row};
use crate::isa::Isa;
use crate::reduce::arity;
use crate::reduce::axes::Axes;
use crate::reduce::dispatch::{Body, share, step};
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::View;

/// out (v, c..) = base with row indices\[i\] replaced by row i of rows (indices.., c..), in order: the last one stays.
/// Any dtype. A bad index replaces nothing.
pub(crate) fn scatter(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [base, indices, rows]) = arity(outs, ins)?;
    if base.dtype != out.dtype || rows.dtype != out.dtype {
        let (base, rows, out) = (base.dtype.name(), rows.dtype.name(), out.dtype.name());
        return Err(format!("base is {base}, rows are {rows}, output is {out}"));
    }
    crate::reduce::expect("output", &out, base.shape.dims())?;
    let axes = indices.shape.rank();
    let indices = Indices::of(&indices, &base, &rows)?;
    let (places, columns) = (Axes::of(&rows, |i| i < axes), Axes::of(&rows, |i| i >= axes));
    let (width, kept) = (columns.count(), Axes::of(&base, |i| i > 0));
    let body = Scatter { base, kept, indices, rows, places, columns, out, width };
    Ok(match out.dtype.size() {
        4 => step(isa, Moved::<u32>(body, PhantomData)),
        _ => step(isa, Moved::<u64>(body, PhantomData)),
    })
}

struct Scatter {
    base: View,
    /// Columns of a row of the base.
    kept: Axes,
    indices: Indices,
    rows: View,
    /// Where the rows begin, and the columns of one.
    places: Axes,
    columns: Axes,
    out: View,
    width: usize,
}

/// A [`Scatter`] of elements of the size of `E`.
struct Moved<E>(Scatter, PhantomData<fn() -> E>);

impl<E: bytemuck::Pod> Body for Moved<E> {
    fn parallel(&self) -> bool {
        (self.0.indices.count + self.0.indices.limit) * self.0.width >= PARALLEL && self.0.indices.limit > 1
    }

    /// Workers share the rows of the output; each walks all indices and takes those that are its own.
    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let Scatter { base, kept, indices, rows, places, columns, out, width } = &self.0;
        let own = share(worker, indices.limit, if *width < LINE { LINE } else { 1 });
        let copy = |axes: &Axes, from: *const E, to: *mut E| {
            // SAFETY: both rows exist, and they do not overlap.
            unsafe {
                match axes.is_run() {
                    true => copy_row(from, to, *width),
                    false => axes.copy(from, 0, *width, to),
                }
            }
        };
        let mut outcome = Ok(());
        // SAFETY: rows of base and out below the limit exist, as do the rows behind each position; those of out that are
        // written are this worker's.
        unsafe {
            let to = bases.ptr::<E>(out);
            for row in own.clone().filter(|_| *width > 0) {
                copy(kept, bases.ptr::<E>(base).add(row * base.strides[0]).cast_const(), to.add(row * width));
            }
            for position in 0..indices.count {
                match indices.at(bases, position) {
                    Ok(index) if own.contains(&index) && *width > 0 => {
                        let from = bases.ptr::<E>(rows).add(places.offset(position)).cast_const();
                        copy(columns, from, to.add(index * width));
                    }
                    Ok(_) => {}
                    Err(fault) => outcome = outcome.and(Err(fault)),
                }
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduce::testing::{Data, Layout, noise, refusal, run, same};
    use crate::view::DType;

    /// (indices, rows of the base, columns); the last ones are shared among workers.
    const CASES: [(&[usize], usize, &[usize]); 9] = [
        (&[], 3, &[2]),
        (&[0], 3, &[2]),
        (&[4], 3, &[]),
        (&[5], 4, &[0]),
        (&[2, 3], 7, &[16]),
        (&[3, 5], 7, &[2, 3]),
        (&[63], 5, &[65]),
        (&[300], 9, &[128]),
        (&[20], 701, &[65]),
    ];

    #[test]
    fn the_last_of_rows_with_one_index_stays() {
        for (dims, limit, columns) in CASES {
            let (count, width): (usize, usize) = (dims.iter().product(), columns.iter().product());
            let (base, rows) = (noise::<f32>(1, limit * width), noise::<f32>(2, count * width));
            let picks: Vec<u32> = (0..count).map(|i| ((i * i + 3 * i + 1) % limit) as u32).collect();
            let mut expected = base.clone();
            for (index, row) in picks.iter().zip(rows.chunks(width.max(1))) {
                expected[*index as usize * width..][..width].copy_from_slice(&row[..width]);
            }
            for layout in Layout::ALL {
                let table = [&[limit], columns].concat();
                let ins = [
                    Data::new(&table, &base, layout),
                    Data::new(dims, &picks, layout),
                    Data::new(&[dims, columns].concat(), &rows, layout),
                ];
                let (found, fault) = run::<f32>(&table, &ins, &scatter);
                assert_eq!(fault, Ok(()));
                same(&found, &expected, &format!("{dims:?} {limit} {columns:?} {layout:?}"));
            }
        }
    }

    #[test]
    fn a_bad_index_replaces_nothing() {
        let data = |dims: &[usize], values: &[f64]| Data::new(dims, values, Layout::RowMajor);
        let ins = [
            data(&[2, 1], &[1.0, 2.0]),
            Data::new(&[3], &[1u32, 2, 7], Layout::RowMajor),
            data(&[3, 1], &[5.0, 6.0, 7.0]),
        ];
        let (found, fault) = run::<f64>(&[2, 1], &ins, &scatter);
        assert_eq!((found, fault), (vec![1.0, 5.0], Err(Fault { row: 1, value: 2, limit: 2 })));
    }

    #[test]
    fn wrong_calls_are_refused() {
        use DType::{F32, F64, U32};
        let (base, index, rows) = ((F32, &[5, 2][..]), (U32, &[3][..]), (F32, &[3, 2][..]));
        let mixed = "base is f32, rows are f64, output is f32";
        assert_eq!(refusal(base, &[base, index, (F64, &[3, 2])], &scatter), mixed);
        assert_eq!(refusal(base, &[base, rows, rows], &scatter), "indices are f32, expected u32");
        let shape = "the tensor of rows has shape (5, 2), expected [3, 2]";
        assert_eq!(refusal(base, &[base, index, base], &scatter), shape);
        assert_eq!(refusal(rows, &[base, index, rows], &scatter), "output has shape (3, 2), expected [5, 2]");
    }
}
