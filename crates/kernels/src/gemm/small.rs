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
use std::arch::x86_64::{__m128, __m128d, __m256, __m256d};

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

/// [`cover`] with AVX2 and FMA; also for AVX-512, whose wider vectors win nothing here.
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

/// Rows of the tiles that cover `m` rows with the least overlap.
#[cfg(target_arch = "x86_64")]
fn rows(m: usize) -> usize {
    if m < 4 { m } else { [4, 5, 6].into_iter().filter(|r| *r <= m).min_by_key(|r| m.div_ceil(*r) * r).unwrap_or(4) }
}

macro_rules! small {
    ($t:ty, $wide:ty, $narrow:ty) => {
        impl Small for $t {
            fn choose(isa: Isa, d: &Dims) -> Option<Whole<$t>> {
                let work = d.work();
                if work == 0 || d.k > KC {
                    return None;
                }
                #[cfg(target_arch = "x86_64")]
                if isa != Isa::Portable && d.n >= <$narrow as Lanes>::N {
                    let wide = d.n >= <$wide as Lanes>::N;
                    let lanes = if wide { <$wide as Lanes>::N } else { <$narrow as Lanes>::N };
                    let shape = (rows(d.m), d.n.div_ceil(lanes).min(2));
                    return match (d.csb == 1, wide) {
                        (true, _) if work > UNIT_WORK => None,
                        (false, _) if work > STRIDED_WORK => None,
                        (true, true) => instance!(avx2, $wide, WHOLE, shape, [1, 2, 3, 4, 5, 6], [1, 2]),
                        (true, false) => instance!(avx2, $narrow, WHOLE, shape, [1, 2, 3, 4, 5, 6], [1, 2]),
                        (false, true) => instance!(avx2, $wide, STRIDED, shape, [1, 2, 3, 4, 5, 6], [1, 2]),
                        (false, false) => instance!(avx2, $narrow, STRIDED, shape, [1, 2, 3, 4, 5, 6], [1, 2]),
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
small!(f32, __m256, __m128);
#[cfg(target_arch = "x86_64")]
small!(f64, __m256d, __m128d);
#[cfg(not(target_arch = "x86_64"))]
small!(f32, (), ());
#[cfg(not(target_arch = "x86_64"))]
small!(f64, (), ());
