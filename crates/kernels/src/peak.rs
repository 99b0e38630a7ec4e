//! What this machine can do at most: the yardstick of benchmarks.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::gemm::lanes::{Lanes, Plain};
use crate::isa::Isa;
use crate::pool::Pool;

/// Chains of multiply-adds that run side by side: enough to hide the latency of four cycles on two units.
const CHAINS: usize = 12;
/// Lanes of a chain: the widest vector of f32.
const LANES: usize = 16;

/// Billions of f32 operations per second of one thread: independent fused multiply-adds in registers, counted as two.
/// The median of `rounds` of some milliseconds.
pub fn multiply_add(isa: Isa, rounds: usize) -> f64 {
    let steps = 200_000;
    let times = (0..rounds.max(1)).map(|_| {
        let begin = Instant::now();
        black_box(chains(isa, black_box(steps)));
        begin.elapsed().as_secs_f64()
    });
    let lanes = if isa == Isa::Avx512 { LANES } else { LANES / 2 };
    (2 * lanes * CHAINS * steps) as f64 / middle(times) / 1e9
}

/// Billions of bytes per second of one thread over `bytes` in all: a = b + c · x, three streams. The median of `rounds`.
pub fn triad(isa: Isa, bytes: usize, rounds: usize) -> f64 {
    let n = (bytes / 12).max(LANES);
    let (mut a, b, c) = (vec![0f32; n], vec![1f32; n], vec![2f32; n]);
    let repeats = (64 << 20) / (n * 12) + 1;
    let times = (0..rounds.max(1)).map(|_| {
        let begin = Instant::now();
        for _ in 0..repeats {
            streams(isa, black_box(&mut a), &b, &c, black_box(3.0));
        }
        begin.elapsed().as_secs_f64()
    });
    (n * 12 * repeats) as f64 / middle(times) / 1e9
}

/// Seconds that a barrier of `threads` workers takes in the middle of a run. The median of `rounds` runs of a thousand.
pub fn barrier(threads: usize, rounds: usize) -> f64 {
    const BARRIERS: usize = 1000;
    let times = (0..rounds.max(1)).map(|_| {
        let nanos = AtomicU64::new(0);
        Pool::global().run(threads, &|team| {
            // All are there before the clock starts.
            team.barrier();
            let begin = Instant::now();
            (0..BARRIERS).for_each(|_| team.barrier());
            if team.worker() == 0 {
                nanos.store(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
            }
        });
        nanos.into_inner() as f64 * 1e-9 / BARRIERS as f64
    });
    middle(times)
}

fn middle(times: impl Iterator<Item = f64>) -> f64 {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Chains in vectors that are written out: left to itself, a compiler may gather and scatter them lane by lane.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn run_chains<V: Lanes<T = f32>>(steps: usize) -> f32 {
    let mut out = [0f32; LANES];
    // SAFETY: the caller's promise; no vector is longer than the array.
    unsafe {
        let (x, y) = (V::splat(black_box(0.999)), V::splat(black_box(0.001)));
        let mut sums = [V::splat(0.5); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = sum.fma(x, y);
            }
        }
        let [first, rest @ ..] = sums;
        rest.into_iter().fold(first, |all, sum| all.add(sum)).store(out.as_mut_ptr());
    }
    out.iter().sum()
}

#[inline(always)]
fn run_streams(a: &mut [f32], b: &[f32], c: &[f32], x: f32) {
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        *a = c.mul_add(x, *b);
    }
}

macro_rules! paths {
    ($run:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)?, $plain:expr, $narrow:expr, $wide:expr) => {
        fn $run(isa: Isa, $($arg: $ty),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                unsafe fn avx2($($arg: $ty),*) $(-> $out)? { $narrow }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                unsafe fn avx512($($arg: $ty),*) $(-> $out)? { $wide }
                match isa {
                    // SAFETY: the CPU was asked whether it has the instructions.
                    Isa::Avx2 if isa.supported() => return unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    Isa::Avx512 if isa.supported() => return unsafe { avx512($($arg),*) },
                    _ => {}
                }
            }
            let _ = isa;
            $plain
        }
    };
}

// SAFETY of the calls: each path has the instructions of its vectors.
paths!(chains(steps: usize) -> f32,
    // SAFETY: as above.
    unsafe { run_chains::<Plain<f32, 8>>(steps) },
    // SAFETY: as above.
    unsafe { run_chains::<__m256>(steps) },
    // SAFETY: as above.
    unsafe { run_chains::<__m512>(steps) });
paths!(streams(a: &mut [f32], b: &[f32], c: &[f32], x: f32),
    run_streams(a, b, c, x), run_streams(a, b, c, x), run_streams(a, b, c, x));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_computes_and_counts_something() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
            assert!(chains(isa, 10).is_finite());
            let mut a = [0f32; 5];
            streams(isa, &mut a, &[1.0; 5], &[2.0; 5], 3.0);
            assert_eq!(a, [7.0; 5]);
        }
        assert!(barrier(2, 3) > 0.0);
        assert!(multiply_add(Isa::best(), 1) > 0.0 && triad(Isa::best(), 4096, 1) > 0.0);
    }
}
