//! Random masks. The draws are a pure function of (seed, stream, step, row, column): threads and batch splits are free.

use std::marker::PhantomData;

use crate::isa::Isa;
use crate::math::Real;
use crate::philox;
use crate::reduce::dispatch::{Body, share};
use crate::reduce::{arity, float, for_float};
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::{DType, View};

/// Counters of one pass: enough independent lanes for the widest registers.
const LANES: usize = 16;
/// Columns of one pass: four words a counter.
const WIDTH: usize = 4 * LANES;
/// Elements from which on several workers share the work.
const PARALLEL: usize = 16 * 1024;

struct DropoutMask<T> {
    key: [u32; 2],
    stream: u32,
    /// An element is dropped when the upper 24 bits of its word are below this.
    threshold: u32,
    scale: f64,
    rows: usize,
    columns: usize,
    out: View,
    step: View,
    first_row: View,
    float: PhantomData<T>,
}

/// Checks and resolves [`crate::tape::Routine::DropoutMask`]: out (n, c..) floats; inputs step () f64 and first_row ()
/// f64, which are whole, not negative, and taken modulo 2^32. An output of rank 1 is one column, a scalar one element.
///
/// Column `c` of row `r` takes word `c % 4` of Philox4x32-10 with counter (stream, step, first_row + r, c / 4) and the
/// seed as key, low half first. It is dropped when the word's upper 24 bits, as a fraction of 2^24, are below `rate`.
pub(crate) fn dropout_mask(
    isa: Isa,
    rate: f64,
    seed: u64,
    stream: u32,
    outs: &[View],
    ins: &[View],
) -> Result<Box<dyn Step>, String> {
    let (out, [step, first_row]) = arity(outs, ins)?;
    if !(0.0..1.0).contains(&rate) {
        return Err(format!("the rate is {rate}, which is not in 0 <= rate < 1"));
    }
    for (name, view) in [("step", step), ("first_row", first_row)] {
        if view.dtype != DType::F64 || view.shape.count() != 1 {
            return Err(format!("{name} is {} of shape {}, not one f64", view.dtype.name(), view.shape));
        }
    }
    let dims = out.shape.dims();
    let (rows, columns) = (dims.first().copied().unwrap_or(1), dims.iter().skip(1).product::<usize>());
    if columns.div_ceil(4) > u32::MAX as usize {
        return Err(format!("a row has {columns} elements, more than the generator can count"));
    }
    // Exact: a rate times a power of two, then the next whole number.
    let threshold = (rate * f64::from(1 << 24)).ceil() as u32;
    let (key, scale) = (philox::halves(seed), 1.0 / (1.0 - rate));
    Ok(for_float!(float(&[out])?, isa, T => DropoutMask::<T> {
        key, stream, threshold, scale, rows, columns, out, step, first_row, float: PhantomData
    }))
}

impl<T: Real> Body for DropoutMask<T> {
    fn parallel(&self) -> bool {
        self.rows > 1 && self.rows * self.columns >= PARALLEL
    }

    #[inline(always)]
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let share = share(worker, self.rows, 1);
        // SAFETY: the views were checked against their regions; the rows of `share` are this worker's alone.
        let (out, step, first_row) = unsafe {
            let start = bases.ptr::<T>(&self.out).add(share.start * self.columns);
            let out = std::slice::from_raw_parts_mut(start, share.len() * self.columns);
            (out, *bases.ptr::<f64>(&self.step), *bases.ptr::<f64>(&self.first_row))
        };
        let scale = T::from_f64(self.scale);
        // A row without columns would be no chunk.
        for (row, line) in out.chunks_exact_mut(self.columns.max(1)).enumerate() {
            let row = (first_row as u64).wrapping_add((share.start + row) as u64);
            let counter = [self.stream, step as u64 as u32, row as u32];
            for (pass, part) in line.chunks_mut(WIDTH).enumerate() {
                let words = philox::lanes::<LANES>(counter, (pass * LANES) as u32, self.key);
                let mut mask = [T::ZERO; WIDTH];
                for (lane, four) in mask.chunks_exact_mut(4).enumerate() {
                    for (element, words) in four.iter_mut().zip(&words) {
                        *element = if words[lane] >> 8 < self.threshold { T::ZERO } else { scale };
                    }
                }
                part.copy_from_slice(&mask[..part.len()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduce::testing::{Data, Element, Layout, refusal, run, same};

    const SEED: u64 = 0x0123_4567_89ab_cdef;

    fn scalars(step: f64, first_row: f64) -> [Data; 2] {
        [step, first_row].map(|x| Data::new(&[], &[x], Layout::RowMajor))
    }

    fn mask<T: Element>(dims: &[usize], rate: f64, stream: u32, step: f64, first_row: f64) -> Vec<T> {
        let build = |isa, outs: &[View], ins: &[View]| dropout_mask(isa, rate, SEED, stream, outs, ins);
        let (found, fault) = run(dims, &scalars(step, first_row), &build);
        assert_eq!(fault, Ok(()));
        found
    }

    /// The definition, element by element.
    fn reference<T: Real>(rows: usize, columns: usize, rate: f64, stream: u32, step: u32, first_row: u32) -> Vec<T> {
        let element = |r: usize, c: usize| {
            let counter = [stream, step, first_row.wrapping_add(r as u32), (c / 4) as u32];
            let word = philox::philox4x32_10(counter, [SEED as u32, (SEED >> 32) as u32])[c % 4];
            let uniform = f64::from(word >> 8) / 16_777_216.0;
            T::from_f64(if uniform < rate { 0.0 } else { 1.0 / (1.0 - rate) })
        };
        (0..rows).flat_map(|r| (0..columns).map(move |c| element(r, c))).collect()
    }

    #[test]
    fn follows_the_definition() {
        let shapes: [(&[usize], usize, usize); 13] = [
            (&[], 1, 1),
            (&[0], 0, 1),
            (&[5], 5, 1),
            (&[3, 0], 3, 0),
            (&[0, 3], 0, 3),
            (&[1, 1], 1, 1),
            (&[3, 3], 3, 3),
            (&[2, 63], 2, 63),
            (&[7, 64], 7, 64),
            (&[4, 65], 4, 65),
            (&[3, 256], 3, 256),
            (&[2, 3, 67], 2, 201),
            (&[131, 127], 131, 127),
        ];
        for (dims, rows, columns) in shapes {
            for rate in [0.0, 0.1, 0.5, 1.0 / 3.0] {
                let what = format!("{dims:?} at rate {rate}");
                same(&mask::<f32>(dims, rate, 3, 17.0, 5.0), &reference(rows, columns, rate, 3, 17, 5), &what);
                same(&mask::<f64>(dims, rate, 3, 17.0, 5.0), &reference(rows, columns, rate, 3, 17, 5), &what);
            }
        }
    }

    #[test]
    fn a_batch_may_be_split() {
        let whole = mask::<f32>(&[12, 33], 0.25, 1, 4.0, 100.0);
        let parts = [(5, 100.0), (7, 105.0)].map(|(rows, first)| mask::<f32>(&[rows, 33], 0.25, 1, 4.0, first));
        assert_eq!(whole, parts.concat());
        for (stream, step, first_row) in [(2, 4.0, 100.0), (1, 5.0, 100.0), (1, 4.0, 101.0)] {
            assert_ne!(whole, mask::<f32>(&[12, 33], 0.25, stream, step, first_row));
        }
        // Steps and rows count modulo 2^32.
        let wrapped = mask::<f32>(&[12, 33], 0.25, 1, 4.0 + 2f64.powi(32), 2f64.powi(32) + 100.0);
        assert_eq!(whole, wrapped);
    }

    #[test]
    fn the_rate_is_kept() {
        for rate in [0.1, 0.5, 0.9] {
            let mask = mask::<f64>(&[200, 100], rate, 0, 1.0, 0.0);
            let dropped = mask.iter().filter(|x| **x == 0.0).count() as f64 / 20_000.0;
            assert!((dropped - rate).abs() < 0.015, "{dropped} at rate {rate}");
            assert!(mask.iter().all(|x| *x == 0.0 || *x == 1.0 / (1.0 - rate)));
        }
        // Below the resolution of the draws: the smallest possible rate above 0, and everything.
        assert!(mask::<f32>(&[9, 9], 1.0 - 1e-12, 0, 1.0, 0.0).iter().all(|x| *x == 0.0));
    }

    #[test]
    fn wrong_calls_are_refused() {
        use DType::{F32, F64, U32};
        let at = |rate| move |isa, outs: &[View], ins: &[View]| dropout_mask(isa, rate, SEED, 0, outs, ins);
        let (out, scalar) = ((F32, &[4, 3][..]), (F64, &[][..]));
        for rate in [1.0, -0.1, f64::NAN, f64::INFINITY] {
            let why = refusal(out, &[scalar, scalar], &at(rate));
            assert_eq!(why, format!("the rate is {rate}, which is not in 0 <= rate < 1"));
        }
        let build = at(0.5);
        assert_eq!(refusal((U32, &[4]), &[scalar, scalar], &build), "needs floats, got u32");
        assert_eq!(refusal(out, &[scalar], &build), "takes 2 inputs and 1 output, got 1 and 1");
        assert_eq!(refusal(out, &[(F32, &[]), scalar], &build), "step is f32 of shape (), not one f64");
        assert_eq!(refusal(out, &[scalar, (F64, &[2])], &build), "first_row is f64 of shape (2,), not one f64");
    }
}
