//! Kernels for CPUs without the instruction.
//!
//! Copies hold rounded f32. Where no sum of a tile can be subnormal, which the smallest numbers of its operands tell,
//! the f32 kernel computes the same bits; else every sum is looked at after each step, which takes several times as long.

use super::super::micro::{self, Kernel, Panel, Tile, next_rows};
use super::super::pack::Strided;
use super::{round, step};

/// Sums computed side by side where each is looked at.
const SIDE: usize = 8;

/// The biased exponent of the smallest number that is not 0, or a large value if there is none.
#[inline(always)]
fn smallest(x: &[f32]) -> u32 {
    // 0 becomes the largest of all.
    let bits = |x: &f32| (x.to_bits() & 0x7fff_ffff).wrapping_sub(1);
    x.iter().map(bits).fold(u32::MAX, u32::min).saturating_add(1) >> 23
}

/// Whether no sum can be subnormal: bfloat16 has 7 digits after the point, so every product, and by that every sum, is a
/// multiple of 2^(a - 7) · 2^(b - 7), where a and b are the smallest exponents. This is to be 2^-126 at least.
#[inline(always)]
fn normal(a: u32, b: u32) -> bool {
    a + b >= 2 * 127 + 14 - 126
}

/// c = or += a @ b over a tile with every sum looked at.
///
/// # Safety
/// As [`Kernel::panel`] for a panel of one tile of `rows` rows; rows of b have room for whole groups of [`SIDE`].
#[inline(always)]
unsafe fn careful(t: &Tile<f32>, rows: usize, cols: usize) {
    for r in 0..rows {
        for j in (0..cols).step_by(SIDE) {
            let mut sums = [0f32; SIDE];
            // SAFETY: the caller's promise; columns past `cols` are read, and dropped below.
            unsafe {
                for k in 0..t.depth {
                    let x = *t.a.add(k * rows + r);
                    let row = &*t.b.add(k * t.ldb + j).cast::<[f32; SIDE]>();
                    for (sum, y) in sums.iter_mut().zip(row) {
                        *sum = step(x, *y, *sum);
                    }
                }
                for (i, sum) in sums.into_iter().enumerate().take(cols - j) {
                    let c = t.c.add(r * t.ldc + j + i);
                    *c = if t.add { *c + sum } else { sum };
                }
            }
        }
    }
}

/// A panel tile by tile.
///
/// # Safety
/// As [`Kernel::panel`].
#[inline(always)]
unsafe fn panel<K: Kernel<T = f32>>(p: &Panel<f32>) {
    let Tile { depth, a, b, ldb, c, ldc, .. } = p.first;
    // SAFETY: the caller's promise: a holds `rows * depth` numbers tile by tile, b rows of `ldb` numbers.
    unsafe {
        let row = |k: usize| std::slice::from_raw_parts(b.add(k * ldb), p.cols);
        let least = (0..depth).map(|k| smallest(row(k))).fold(u32::MAX >> 1, u32::min);
        let mut i = 0;
        while i < p.rows {
            let rows = next_rows(p.rows - i, K::MR);
            let first = Tile { a: a.add(i * depth), c: c.wrapping_add(i * ldc), ..p.first };
            if normal(least, smallest(std::slice::from_raw_parts(first.a, rows * depth))) {
                K::panel(&Panel { rows, first, ..*p });
            } else {
                careful(&first, rows, p.cols);
            }
            i += rows;
        }
    }
}

/// Rounds `count` numbers from `at` on.
///
/// # Safety
/// They are initialised, and nobody else looks at them.
#[inline(always)]
unsafe fn round_all(at: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(at, count) }.iter_mut().for_each(|x| *x = round(*x));
}

macro_rules! emulated {
    ($(#[$doc:meta])* $name:ident, $plain:ty $(, $features:literal)?) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl $name {
            /// # Safety
            /// As [`Kernel::panel`].
            $(#[target_feature(enable = $features)])?
            unsafe fn tiles(p: &Panel<f32>) {
                // SAFETY: the caller's promise.
                unsafe { panel::<$plain>(p) }
            }

            /// # Safety
            /// As [`round_all`].
            $(#[target_feature(enable = $features)])?
            unsafe fn round(at: *mut f32, count: usize) {
                // SAFETY: the caller's promise.
                unsafe { round_all(at, count) }
            }
        }

        impl Kernel for $name {
            type T = f32;
            const MR: usize = <$plain>::MR;
            const NR: usize = <$plain>::NR;
            const LANES: usize = <$plain>::LANES;
            const COPIES: bool = true;

            #[inline(always)]
            unsafe fn panel(p: &Panel<f32>) {
                // SAFETY: the caller's promise.
                unsafe { Self::tiles(p) }
            }

            #[inline(always)]
            unsafe fn pack_a(to: *mut f32, from: Strided<f32>) {
                // SAFETY: the caller's promise; these numbers were written just before.
                unsafe {
                    <$plain>::pack_a(to, from);
                    Self::round(to, from.width * from.depth);
                }
            }

            #[inline(always)]
            unsafe fn pack_b(to: *mut f32, from: Strided<f32>) {
                // SAFETY: the caller's promise. What stands past `width` is initialised too: scratch memory is.
                unsafe {
                    <$plain>::pack_b(to, from);
                    Self::round(to, Self::NR * from.depth);
                }
            }
        }
    };
}

emulated!(
    /// What the build target guarantees.
    Portable, micro::Portable32
);
#[cfg(target_arch = "x86_64")]
emulated!(
    /// AVX2 and FMA.
    Avx2, micro::Avx2F32, "avx2,fma"
);
#[cfg(target_arch = "x86_64")]
emulated!(
    /// AVX-512 without the instruction.
    Avx512, micro::Avx512F32, "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"
);
