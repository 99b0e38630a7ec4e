//! Random masks. The draws are a pure function of (seed, stream, step, row, column): threads and batch splits are free.

use crate::isa::Isa;
use crate::math::Real;
use crate::philox;
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::{DType, View};

/// Counters of one pass: enough independent lanes for the widest registers.
const LANES: usize = 16;
/// Columns of one pass: four words a counter.
const WIDTH: usize = 4 * LANES;
/// Smallest number of elements that is worth waking other workers for.
const PARALLEL: usize = 16 * 1024;

struct DropoutMask {
    isa: Isa,
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
}

/// Checks and resolves [`crate::tape::Routine::DropoutMask`]: out (n, c..) floats; inputs step () f64 and first_row ()
/// f64, which count from 0, are whole and are taken modulo 2^32. An output of rank 0 or 1 has one column.
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
    let ([out], [step, first_row]) = (outs, ins) else {
        return Err(format!("wants one output and the inputs step and first_row, got {} and {}", outs.len(), ins.len()));
    };
    if !(0.0..1.0).contains(&rate) {
        return Err(format!("the rate is {rate}, which is not in 0 <= rate < 1"));
    }
    if !out.dtype.is_float() {
        return Err(format!("the output is {}, not a float", out.dtype.name()));
    }
    for (name, view) in [("step", step), ("first_row", first_row)] {
        if view.dtype != DType::F64 || view.shape.count() != 1 {
            return Err(format!("{name} is {} of shape {}, not one f64", view.dtype.name(), view.shape));
        }
    }
    let dims = out.shape.dims();
    let rows = dims.first().copied().unwrap_or(1);
    let columns: usize = dims.iter().skip(1).product();
    if columns.div_ceil(4) > u32::MAX as usize {
        return Err(format!("a row has {columns} elements, more than the generator can count"));
    }
    Ok(Box::new(DropoutMask {
        isa,
        key: philox::halves(seed),
        stream,
        // Exact: a rate times a power of two, then the next whole number.
        threshold: (rate * f64::from(1 << 24)).ceil() as u32,
        scale: 1.0 / (1.0 - rate),
        rows,
        columns,
        out: *out,
        step: *step,
        first_row: *first_row,
    }))
}

impl Step for DropoutMask {
    fn parallel(&self) -> bool {
        self.rows > 1 && self.rows * self.columns >= PARALLEL
    }

    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        // SAFETY: the views were checked against their regions, and workers write disjoint rows.
        unsafe {
            match self.out.dtype {
                DType::F64 => self.fill::<f64>(bases, worker),
                _ => self.fill::<f32>(bases, worker),
            }
        }
        Ok(())
    }
}

impl DropoutMask {
    /// Fills this worker's rows.
    ///
    /// # Safety
    /// As [`Step::run`]; `T` is the output's type.
    unsafe fn fill<T: Real>(&self, bases: &Bases, worker: &Worker) {
        let share = worker.share(self.rows, 1);
        // SAFETY: the rows of `share` lie inside the output and belong to this worker; the scalars are f64.
        let (out, step, first_row) = unsafe {
            let start = bases.ptr::<T>(&self.out).add(share.start * self.columns);
            let out = std::slice::from_raw_parts_mut(start, share.len() * self.columns);
            (out, *bases.ptr::<f64>(&self.step), *bases.ptr::<f64>(&self.first_row))
        };
        if out.is_empty() {
            return;
        }
        let first = (first_row as u64).wrapping_add(share.start as u64);
        let (step, scale) = (step as u64 as u32, T::from_f64(self.scale));
        for (row, line) in out.chunks_exact_mut(self.columns).enumerate() {
            let row = first.wrapping_add(row as u64) as u32;
            let counter = [self.stream, step, row, 0];
            match self.isa {
                // SAFETY: a tape is built only for instructions that this CPU has.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { line_avx2(counter, self.key, self.threshold, scale, line) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => unsafe { line_avx512(counter, self.key, self.threshold, scale, line) },
                _ => line_any(counter, self.key, self.threshold, scale, line),
            }
        }
    }
}

/// One row: `counter[3]` counts blocks of four columns.
#[inline(always)]
fn line_any<T: Real>(counter: [u32; 4], key: [u32; 2], threshold: u32, scale: T, line: &mut [T]) {
    for (pass, part) in line.chunks_mut(WIDTH).enumerate() {
        let words = philox::lanes::<LANES>(counter, (pass * LANES) as u32, key);
        let mut mask = [T::ZERO; WIDTH];
        for lane in 0..LANES {
            for (word, lanes) in words.iter().enumerate() {
                mask[4 * lane + word] = if lanes[lane] >> 8 < threshold { T::ZERO } else { scale };
            }
        }
        part.copy_from_slice(&mask[..part.len()]);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn line_avx2<T: Real>(counter: [u32; 4], key: [u32; 2], threshold: u32, scale: T, line: &mut [T]) {
    line_any(counter, key, threshold, scale, line);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn line_avx512<T: Real>(counter: [u32; 4], key: [u32; 2], threshold: u32, scale: T, line: &mut [T]) {
    line_any(counter, key, threshold, scale, line);
}
