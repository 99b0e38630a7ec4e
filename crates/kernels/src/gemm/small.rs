//! Products so small that deciding how to compute them would cost more than computing them: everything is decided
//! when the step is built, and the operands are read where they stand.

use super::KC;
use super::lanes::{Lanes, Plain};
use super::layout::Dims;
#[cfg(target_arch = "x86_64")]
use super::micro::WHOLE;
use super::micro::{STRIDED, Tile, tile};
use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128, __m128d, __m256, __m256d, __m512, __m512d};

/// out = a @ b for one product.
pub(super) type Whole<T> = unsafe fn(&Dims, *const T, *const T, *mut T);

/// Most multiply-adds computed here when columns of b stand side by side.
#[cfg(target_arch = "x86_64")]
const UNIT_WORK: usize = 32 * 32 * 32;
/// The same when they do not.
#[cfg(target_arch = "x86_64")]
const STRIDED_WORK: usize = 1024;
/// The same without vectors.
const SCALAR_WORK: usize = 512;

/// Covers the output with tiles of R rows and C vectors. Where they do not fit, tiles and vectors overlap their
/// neighbours: an element computed twice gets the same bits twice.
///
/// # Safety
/// The operands are in bounds, `m >= R`, `n > (C - 1) * N` and `n >= N`, columns of b stand side by side unless `READ`
/// is [`STRIDED`], and the CPU has the instructions of `V`.
#[inline(always)]
unsafe fn cover<V: Lanes, const R: usize, const C: usize, const READ: u8>(
    d: &Dims,
    a: *const V::T,
    b: *const V::T,
    c: *mut V::T,
) {
    let width = d.n.min(C * V::N);
    // The vectors of a tile touch or overlap; more than two of them never overlap.
    let across = if C == 2 { width - V::N } else { V::N };
    let step = if READ == STRIDED { across * d.csb } else { across };
    for i in (0..d.m).step_by(R) {
        let i = i.min(d.m - R);
        for j in (0..d.n).step_by(width) {
            let j = j.min(d.n - width);
            let (a, b, c) = (a.wrapping_add(i * d.rsa), b.wrapping_add(j * d.csb), c.wrapping_add(i * d.n + j));
            let Dims { n, k, rsa, csa, rsb, csb, .. } = *d;
            let t = Tile { depth: k, a, rsa, csa, b, ldb: rsb, step, lane: csb, c, ldc: n, across, add: false };
            // SAFETY: the tile lies inside the output.
            unsafe { tile::<V, R, C, READ>(&t, V::mask(V::N)) }
        }
    }
}

/// [`cover`] with what the build target guarantees.
///
/// # Safety
/// As [`cover`].
unsafe fn portable<V: Lanes, const R: usize, const C: usize, const READ: u8>(
    d: &Dims,
    a: *const V::T,
    b: *const V::T,
    c: *mut V::T,
) {
    // SAFETY: the caller's promise.
    unsafe { cover::<V, R, C, READ>(d, a, b, c) }
}

/// [`cover`] with AVX2 and FMA.
///
/// # Safety
/// As [`cover`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<V: Lanes, const R: usize, const C: usize, const READ: u8>(
    d: &Dims,
    a: *const V::T,
    b: *const V::T,
    c: *mut V::T,
) {
    // SAFETY: the caller's promise.
    unsafe { cover::<V, R, C, READ>(d, a, b, c) }
}

/// [`cover`] with AVX-512.
///
/// # Safety
/// As [`cover`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn avx512<V: Lanes, const R: usize, const C: usize, const READ: u8>(
    d: &Dims,
    a: *const V::T,
    b: *const V::T,
    c: *mut V::T,
) {
    // SAFETY: the caller's promise.
    unsafe { cover::<V, R, C, READ>(d, a, b, c) }
}

/// The instance of `$f` for these rows and vectors, among the listed ones.
macro_rules! instance {
    ($f:ident, $v:ty, $read:expr, $shape:expr, $rows:tt, [$($c:literal),*]) => {
        match $shape {
            $((rows, $c) => instance!(@ $f, $v, $read, rows, $c, $rows),)*
            _ => None,
        }
    };
    (@ $f:ident, $v:ty, $read:expr, $shape:ident, $c:literal, [$($r:literal),*]) => {
        match $shape {
            $($r => Some($f::<$v, $r, $c, { $read }> as Whole<_>),)*
            _ => None,
        }
    };
}

/// The function that computes this product in one go, or `None` when it is too large for that.
pub(super) trait Small: Sized {
    /// The choice.
    fn choose(isa: Isa, d: &Dims) -> Option<Whole<Self>>;
}

/// Rows of the tiles, at most `most`, that cover `m` rows with the least overlap; of those the tallest, which hide the
/// latency of their multiply-adds best.
#[cfg(target_arch = "x86_64")]
fn rows(m: usize, most: usize) -> usize {
    let tallest = (4..=most.min(m)).rev().min_by_key(|r| m.div_ceil(*r) * r);
    tallest.unwrap_or(m)
}

macro_rules! small {
    ($t:ty, $widest:ty, $wide:ty, $narrow:ty) => {
        impl Small for $t {
            fn choose(isa: Isa, d: &Dims) -> Option<Whole<$t>> {
                let work = d.work();
                if work == 0 || d.k > KC {
                    return None;
                }
                #[cfg(target_arch = "x86_64")]
                if isa != Isa::Portable && d.n >= <$narrow as Lanes>::N {
                    match d.csb == 1 {
                        true if work > UNIT_WORK => return None,
                        false if work > STRIDED_WORK => return None,
                        _ => {}
                    }
                    if isa == Isa::Avx512 && d.csb == 1 && d.n >= <$widest as Lanes>::N {
                        let shape = (rows(d.m, 8), d.n.div_ceil(<$widest as Lanes>::N).min(2));
                        return instance!(avx512, $widest, WHOLE, shape, [1, 2, 3, 4, 5, 6, 7, 8], [1, 2]);
                    }
                    let wide = d.n >= <$wide as Lanes>::N;
                    let lanes = if wide { <$wide as Lanes>::N } else { <$narrow as Lanes>::N };
                    let across = d.n.div_ceil(lanes).min(2);
                    // Sixteen registers hold the sums of 6 rows of 2 vectors and their operands.
                    let shape = (rows(d.m, if across == 2 { 6 } else { 8 }), across);
                    return match (d.csb == 1, wide) {
                        (true, true) => instance!(avx2, $wide, WHOLE, shape, [1, 2, 3, 4, 5, 6, 7, 8], [1, 2]),
                        (true, false) => instance!(avx2, $narrow, WHOLE, shape, [1, 2, 3, 4, 5, 6, 7, 8], [1, 2]),
                        (false, true) => instance!(avx2, $wide, STRIDED, shape, [1, 2, 3, 4, 5, 6, 7, 8], [1, 2]),
                        (false, false) => instance!(avx2, $narrow, STRIDED, shape, [1, 2, 3, 4, 5, 6, 7, 8], [1, 2]),
                    };
                }
                if work > SCALAR_WORK {
                    return None;
                }
                let shape = (d.m.min(4), d.n.min(4));
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 | Isa::Avx512 => {
                        instance!(avx2, Plain<$t, 1>, STRIDED, shape, [1, 2, 3, 4], [1, 2, 3, 4])
                    }
                    _ => instance!(portable, Plain<$t, 1>, STRIDED, shape, [1, 2, 3, 4], [1, 2, 3, 4]),
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
small!(f32, __m512, __m256, __m128);
#[cfg(target_arch = "x86_64")]
small!(f64, __m512d, __m256d, __m128d);
#[cfg(not(target_arch = "x86_64"))]
small!(f32, (), (), ());
#[cfg(not(target_arch = "x86_64"))]
small!(f64, (), (), ());
