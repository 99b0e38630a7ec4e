//! Elements of each row by index: the largest ones, reading them, and adding them back.

use std::cmp::Ordering;
use std::marker::PhantomData;

use super::{PARALLEL, Rows, grain, target};
use crate::isa::Isa;
use crate::math::Real;
use crate::reduce::axes::Axes;
use crate::reduce::dispatch::{Body, share};
use crate::reduce::{arity, expect, float, for_float};
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::{DType, View};

/// Positions (u32, (.., k)) of the `k` largest elements of each row, the largest first; of equal ones the first one
/// first, NaN before all.
pub(crate) fn top_k(isa: Isa, k: usize, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [x]) = arity(outs, ins)?;
    let dtype = float(&[x])?;
    let x = Rows::of(&x)?;
    expect("output", &out, &[x.outer(), &[k]].concat())?;
    whole("output is", &out)?;
    if k == 0 || k > x.len || x.len > u32::MAX as usize {
        return Err(format!("{k} of {} elements, expected 1 to all", x.len));
    }
    Ok(for_float!(dtype, isa, T => TopK::<T> { x, out, k, kind: PhantomData }))
}

fn whole(what_is: &str, view: &View) -> Result<(), String> {
    match view.dtype {
        DType::U32 => Ok(()),
        other => Err(format!("{what_is} {}, expected u32", other.name())),
    }
}

struct TopK<T> {
    x: Rows,
    out: View,
    k: usize,
    kind: PhantomData<fn() -> T>,
}

/// The order in which elements are taken, and their positions where they are equal.
#[inline(always)]
fn before<T: Real>(row: &[T], a: u32, b: u32) -> Ordering {
    let (x, y) = (row[a as usize], row[b as usize]);
    let larger = if x > y { Ordering::Less } else { Ordering::Greater };
    match (x.is_nan(), y.is_nan()) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) if x != y => larger,
        _ => a.cmp(&b),
    }
}

impl<T: Real> Body for TopK<T> {
    fn parallel(&self) -> bool {
        self.x.parallel(PARALLEL / 4)
    }

    fn scratch(&self) -> usize {
        self.x.scratch::<T>() + self.x.len * size_of::<u32>()
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let (len, k) = (self.x.len, self.k);
        for r in share(worker, self.x.count, grain(k)) {
            // SAFETY: the row exists and has elements, scratch holds its copy and a place for each position, and the
            // row of the output is this worker's.
            let (row, places, out) = unsafe {
                let row = self.x.row::<T>(bases, r, worker.scratch.cast());
                let places = worker.scratch.add(self.x.scratch::<T>()).cast::<u32>();
                for i in 0..len {
                    places.add(i).write(i as u32);
                }
                let out = target::<u32>(bases, &self.out, r, k);
                (
                    std::slice::from_raw_parts(row, len),
                    std::slice::from_raw_parts_mut(places, len),
                    std::slice::from_raw_parts_mut(out, k),
                )
            };
            // No two compare as equal, so an order of equal ones does not matter.
            places.select_nth_unstable_by(k - 1, |a, b| before(row, *a, *b));
            places[..k].sort_unstable_by(|a, b| before(row, *a, *b));
            out.copy_from_slice(&places[..k]);
        }
        Ok(())
    }
}

/// Indices (.., k) into rows of `limit` elements.
struct Picks {
    view: Rows,
    limit: usize,
}

impl Picks {
    fn of(indices: &View, outer: &[usize], limit: usize) -> Result<Picks, String> {
        whole("indices are", indices)?;
        let view = Rows::of(indices)?;
        expect("the tensor of indices", indices, &[outer, &[view.len]].concat())?;
        Ok(Picks { view, limit })
    }

    /// Index `j` of row `r`, or the fault that it is.
    ///
    /// # Safety
    /// It exists.
    #[inline(always)]
    unsafe fn at(&self, bases: &Bases, r: usize, j: usize) -> Result<usize, Fault> {
        let offset = self.view.rows.offset(r) + self.view.axis.offset(j);
        // SAFETY: the view was checked against its region.
        let value = unsafe { bases.ptr::<u32>(&self.view.view).add(offset).read() };
        match (value as usize) < self.limit {
            true => Ok(value as usize),
            false => Err(Fault { row: r, value, limit: self.limit }),
        }
    }
}

/// out (.., k) = for each row the elements of x (.., n) at indices (.., k). A bad index reads as 0.
pub(crate) fn take_along(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [x, indices]) = arity(outs, ins)?;
    let dtype = float(&[x, out])?;
    let x = Rows::of(&x)?;
    let picks = Picks::of(&indices, x.outer(), x.len)?;
    expect("output", &out, indices.shape.dims())?;
    Ok(for_float!(dtype, isa, T => Take::<T> { x, picks, out, kind: PhantomData }))
}

struct Take<T> {
    x: Rows,
    picks: Picks,
    out: View,
    kind: PhantomData<fn() -> T>,
}

impl<T: Real> Body for Take<T> {
    fn parallel(&self) -> bool {
        self.picks.view.parallel(PARALLEL)
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let k = self.picks.view.len;
        let mut outcome = Ok(());
        for r in share(worker, self.x.count, grain(k)) {
            for j in 0..k {
                // SAFETY: the places exist, and those of the output are this worker's.
                unsafe {
                    let value = match self.picks.at(bases, r, j) {
                        Ok(i) => bases.ptr::<T>(&self.x.view).add(self.x.rows.offset(r) + self.x.axis.offset(i)).read(),
                        Err(fault) => {
                            outcome = outcome.and(Err(fault));
                            T::ZERO
                        }
                    };
                    target::<T>(bases, &self.out, r, k).add(j).write(value);
                }
            }
        }
        outcome
    }
}

/// out (.., n) = for each row the sum of the elements of ct (.., k) whose index in indices (.., k) it is, added to +0 in
/// the order of their positions.
pub(crate) fn add_along(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [indices, ct]) = arity(outs, ins)?;
    let dtype = float(&[ct, out])?;
    let Some((&len, outer)) = out.shape.dims().split_last() else {
        return Err("a scalar has no last axis".to_string());
    };
    let picks = Picks::of(&indices, outer, len)?;
    expect("cotangent", &ct, indices.shape.dims())?;
    let ct = Rows::of(&ct)?;
    Ok(for_float!(dtype, isa, T => Add::<T> { picks, ct, out, kind: PhantomData }))
}

struct Add<T> {
    picks: Picks,
    ct: Rows,
    out: View,
    kind: PhantomData<fn() -> T>,
}

impl<T: Real> Body for Add<T> {
    fn parallel(&self) -> bool {
        self.ct.count * (self.ct.len + self.picks.limit) >= PARALLEL && self.ct.count > 1
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let len = self.picks.limit;
        let mut outcome = Ok(());
        for r in share(worker, self.ct.count, grain(len)) {
            // SAFETY: the places exist, and those of the output are this worker's.
            unsafe {
                let out = target::<T>(bases, &self.out, r, len);
                out.write_bytes(0, len);
                for j in 0..self.ct.len {
                    match self.picks.at(bases, r, j) {
                        Ok(i) => {
                            let offset = self.ct.rows.offset(r) + self.ct.axis.offset(j);
                            let ct = bases.ptr::<T>(&self.ct.view).add(offset).read();
                            out.add(i).write(out.add(i).read() + ct);
                        }
                        Err(fault) => outcome = outcome.and(Err(fault)),
                    }
                }
            }
        }
        outcome
    }
}

/// out (.., n) = 1 at the index (..) of each row, else 0. A bad index gives a row of zeros.
pub(crate) fn one_hot(isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [indices]) = arity(outs, ins)?;
    let dtype = float(&[out])?;
    whole("indices are", &indices)?;
    let Some((&len, outer)) = out.shape.dims().split_last() else {
        return Err("a scalar has no last axis".to_string());
    };
    expect("the tensor of indices", &indices, outer)?;
    let count = indices.shape.count();
    let places = Axes::of(&indices, |_| true);
    Ok(for_float!(dtype, isa, T => OneHot::<T> { indices, places, out, count, len, kind: PhantomData }))
}

struct OneHot<T> {
    indices: View,
    places: Axes,
    out: View,
    count: usize,
    len: usize,
    kind: PhantomData<fn() -> T>,
}

impl<T: Real> Body for OneHot<T> {
    fn parallel(&self) -> bool {
        self.count * self.len >= PARALLEL && self.count > 1
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let mut outcome = Ok(());
        for r in share(worker, self.count, grain(self.len)) {
            // SAFETY: the row exists, is this worker's, and the index is below its length where it is used.
            unsafe {
                let out = target::<T>(bases, &self.out, r, self.len);
                out.write_bytes(0, self.len);
                let value = bases.ptr::<u32>(&self.indices).add(self.places.offset(r)).read();
                match (value as usize) < self.len {
                    true => out.add(value as usize).write(T::ONE),
                    false => outcome = outcome.and(Err(Fault { row: r, value, limit: self.len })),
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

    /// (rows, elements, of which k are taken); the last ones are shared among workers.
    const CASES: [(usize, usize, usize); 8] =
        [(1, 1, 1), (0, 5, 2), (3, 5, 5), (4, 65, 3), (33, 3, 1), (7, 521, 64), (300, 130, 9), (40, 1000, 999)];

    fn picks(rows: usize, n: usize, k: usize) -> Vec<u32> {
        (0..rows * k).map(|i| ((i * i + 3 * i + 1) % n) as u32).collect()
    }

    #[test]
    fn the_largest_come_first_and_of_equal_ones_the_first() {
        for (rows, n, k) in CASES {
            // Rounded, so that many are equal.
            let x: Vec<f32> = noise::<f32>(5, rows * n).into_iter().map(|x| (x * 4.0).round()).collect();
            let mut expected = Vec::new();
            for row in x.chunks(n) {
                let mut order: Vec<u32> = (0..n as u32).collect();
                order.sort_by(|a, b| row[*b as usize].partial_cmp(&row[*a as usize]).expect("no NaN here"));
                expected.extend_from_slice(&order[..k]);
            }
            for layout in Layout::ALL {
                let build = |isa: Isa, outs: &[View], ins: &[View]| top_k(isa, k, outs, ins);
                let (found, _) = run::<u32>(&[rows, k], &[Data::new(&[rows, n], &x, layout)], &build);
                same(&found, &expected, &format!("{k} of {n}, {rows} rows, {layout:?}"));
            }
        }
        let x = [0.0, f64::NAN, -0.0, f64::INFINITY, -f64::NAN, 0.0];
        let build = |isa: Isa, outs: &[View], ins: &[View]| top_k(isa, 6, outs, ins);
        let (found, _) = run::<u32>(&[6], &[Data::new(&[6], &x, Layout::RowMajor)], &build);
        assert_eq!(found, [1, 4, 3, 0, 2, 5]);
    }

    #[test]
    fn elements_are_read_and_added_back_by_index() {
        for (rows, n, k) in CASES {
            let (x, ct, picks) = (noise::<f32>(6, rows * n), noise::<f32>(7, rows * k), picks(rows, n, k));
            let (mut taken, mut sums) = (Vec::new(), vec![0.0f32; rows * n]);
            for (at, i) in picks.iter().enumerate() {
                let place = at / k * n + *i as usize;
                taken.push(x[place]);
                sums[place] += ct[at];
            }
            for layout in Layout::ALL {
                let index = Data::new(&[rows, k], &picks, layout);
                let ins = [Data::new(&[rows, n], &x, layout), index.clone()];
                let (found, fault) = run::<f32>(&[rows, k], &ins, &take_along);
                assert_eq!(fault, Ok(()));
                same(&found, &taken, "taken");
                let (found, fault) = run::<f32>(&[rows, n], &[index, Data::new(&[rows, k], &ct, layout)], &add_along);
                assert_eq!(fault, Ok(()));
                same(&found, &sums, "added");
            }
        }
    }

    #[test]
    fn a_one_stands_at_each_index() {
        for (rows, n, _) in CASES {
            let picks = picks(rows, n, 1);
            let hit = |i: usize| if picks[i / n] as usize == i % n { 1.0 } else { 0.0 };
            let expected: Vec<f64> = (0..rows * n).map(hit).collect();
            for layout in Layout::ALL {
                let (found, fault) = run::<f64>(&[rows, n], &[Data::new(&[rows], &picks, layout)], &one_hot);
                assert_eq!(fault, Ok(()));
                same(&found, &expected, "one-hot rows");
            }
        }
    }

    #[test]
    fn a_bad_index_is_a_fault_and_a_zero() {
        let index = Data::new(&[3, 2], &[0u32, 1, 2, 0, 9, 1], Layout::RowMajor);
        let ones = |dims: &[usize]| Data::new(dims, &[1.0f32; 6], Layout::RowMajor);
        let fault = Err(Fault { row: 1, value: 2, limit: 2 });
        let found = run::<f32>(&[3, 2], &[ones(&[3, 2]), index.clone()], &take_along);
        assert_eq!(found, (vec![1.0, 1.0, 0.0, 1.0, 0.0, 1.0], fault));
        let found = run::<f32>(&[3, 2], &[index, ones(&[3, 2])], &add_along);
        assert_eq!(found, (vec![1.0, 1.0, 1.0, 0.0, 0.0, 1.0], fault));
        let found = run::<f32>(&[3, 2], &[Data::new(&[3], &[1u32, 2, 0], Layout::RowMajor)], &one_hot);
        assert_eq!(found, (vec![0.0, 1.0, 0.0, 0.0, 1.0, 0.0], fault));
    }

    #[test]
    fn wrong_calls_are_refused() {
        use DType::{F32, U32};
        let (x, index, out) = ((F32, &[3, 5][..]), (U32, &[3, 2][..]), (F32, &[3, 2][..]));
        let top = |isa: Isa, outs: &[View], ins: &[View]| top_k(isa, 2, outs, ins);
        assert_eq!(refusal(out, &[x], &top), "output is f32, expected u32");
        assert_eq!(refusal(index, &[(F32, &[3, 1])], &top), "2 of 1 elements, expected 1 to all");
        assert_eq!(refusal(out, &[x, out], &take_along), "indices are f32, expected u32");
        let shape = "the tensor of indices has shape (3, 2), expected [4, 2]";
        assert_eq!(refusal(out, &[(F32, &[4, 5]), index], &take_along), shape);
        assert_eq!(refusal((F32, &[4, 5]), &[index, out], &add_along), shape);
        assert_eq!(refusal(x, &[index, x], &add_along), "cotangent has shape (3, 5), expected [3, 2]");
        assert_eq!(refusal(x, &[index], &one_hot), "the tensor of indices has shape (3, 2), expected [3]");
        assert_eq!(refusal((F32, &[]), &[(U32, &[])], &one_hot), "a scalar has no last axis");
    }
}
