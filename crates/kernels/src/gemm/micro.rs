//! Register tiles: a few rows times a few vectors of the output, held in registers while k is walked.
//!
//! Every element is one chain of fused multiply-adds over ascending k, whatever the tile and the instruction set.

use super::lanes::{Lanes, Plain};
use super::pack;
use super::row::{self, Row};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m256d, __m512, __m512d};

/// How a tile reads the vectors of b.
pub(super) const WHOLE: u8 = 0;
/// The last vector of a row is only as wide as the mask.
pub(super) const MASKED: u8 = 1;
/// The lanes of a vector stand `Tile::lane` apart.
pub(super) const STRIDED: u8 = 2;

/// Operands of a tile: a (rows, depth) at strides (rsa, csa), b (depth, columns) in rows `ldb` apart, out in rows `ldc`
/// apart.
#[derive(Clone, Copy)]
pub(crate) struct Tile<T> {
    pub(super) depth: usize,
    pub(super) a: *const T,
    pub(super) rsa: usize,
    pub(super) csa: usize,
    pub(super) b: *const T,
    pub(super) ldb: usize,
    /// Between the vectors of a row of b, and between their lanes (used by [`STRIDED`] only).
    pub(super) step: usize,
    pub(super) lane: usize,
    pub(super) c: *mut T,
    pub(super) ldc: usize,
    /// Between the vectors of a row of out. They may overlap.
    pub(super) across: usize,
    /// Whether the sum is added to what stands in `c`.
    pub(super) add: bool,
}

/// c (R, C vectors) = or += a @ b. `READ` is [`WHOLE`], [`MASKED`] or [`STRIDED`].
///
/// # Safety
/// All elements of the operands are in bounds, and the CPU has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn tile<V: Lanes, const R: usize, const C: usize, const READ: u8>(t: &Tile<V::T>, mask: V::Mask) {
    let Tile { depth, rsa, csa, ldb, step, lane, ldc, across, add, .. } = *t;
    let (mut a, mut b) = (t.a, t.b);
    // SAFETY: rows below R, vectors below C and k below `depth` are in bounds; pointers move on by wrapping arithmetic,
    // so the last, unused step past the end is harmless.
    unsafe {
        let mut acc = [[V::splat(V::T::default()); C]; R];
        for _ in 0..depth {
            let mut row = [acc[0][0]; C];
            for (j, v) in row.iter_mut().enumerate() {
                let p = b.wrapping_add(j * step);
                *v = match READ {
                    MASKED if j + 1 == C => V::load_first(p, mask),
                    STRIDED => V::gather(p, lane),
                    _ => V::load(p),
                };
            }
            for (r, sums) in acc.iter_mut().enumerate() {
                let x = V::splat(*a.wrapping_add(r * rsa));
                for (sum, v) in sums.iter_mut().zip(row) {
                    *sum = x.fma(v, *sum);
                }
            }
            a = a.wrapping_add(csa);
            b = b.wrapping_add(ldb);
        }
        for (r, sums) in acc.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                let p = t.c.wrapping_add(r * ldc + j * across);
                if READ == MASKED && j + 1 == C {
                    let sum = if add { V::load_first(p, mask).add(sum) } else { sum };
                    sum.store_first(p, mask);
                } else {
                    let sum = if add { V::load(p).add(sum) } else { sum };
                    sum.store(p);
                }
            }
        }
    }
}

/// A strip of the output as wide as one tile.
#[derive(Clone, Copy)]
pub(crate) struct Panel<T> {
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// The operands of its first tile; `rsa` and `csa` do not count when `packed`,
    /// `step` and `across` never.
    pub(super) first: Tile<T>,
    /// Whether a stands as [`pack::a`] lays it down.
    pub(super) packed: bool,
}

/// Rows of the next tile when `left` remain: as many as fit, but the last two tiles share evenly, because a tile of a
/// row or two cannot hide the latency of its multiply-adds.
#[inline(always)]
pub(super) fn next_rows(left: usize, most: usize) -> usize {
    if left > most && left < 2 * most { left.div_ceil(2) } else { left.min(most) }
}

/// All tiles of a panel, from top to bottom.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn strip<V: Lanes, const MR: usize, const C: usize, const READ: u8>(p: &Panel<V::T>) {
    let mut t = p.first;
    (t.step, t.across) = (V::N, V::N);
    let mut i = 0;
    // SAFETY: the rows from `i` to `i + rows` belong to the panel.
    unsafe {
        let mask = V::mask(p.cols - (C - 1) * V::N);
        while i < p.rows {
            let rows = next_rows(p.rows - i, MR);
            if p.packed {
                (t.rsa, t.csa) = (1, rows);
            }
            t.a = p.first.a.wrapping_add(i * if p.packed { t.depth } else { t.rsa });
            t.c = p.first.c.wrapping_add(i * t.ldc);
            match rows {
                8 if MR > 7 => tile::<V, 8, C, READ>(&t, mask),
                7 if MR > 6 => tile::<V, 7, C, READ>(&t, mask),
                6 if MR > 5 => tile::<V, 6, C, READ>(&t, mask),
                5 if MR > 4 => tile::<V, 5, C, READ>(&t, mask),
                4 => tile::<V, 4, C, READ>(&t, mask),
                3 => tile::<V, 3, C, READ>(&t, mask),
                2 => tile::<V, 2, C, READ>(&t, mask),
                _ => tile::<V, 1, C, READ>(&t, mask),
            }
            i += rows;
        }
    }
}

/// The inner loops for one type and one instruction set.
pub(crate) trait Kernel: Send + Sync + 'static {
    /// Type of an element.
    type T: Copy + Default + Send + Sync + 'static;
    /// Most rows of a tile.
    const MR: usize;
    /// Most columns of a tile, a multiple of `LANES`.
    const NR: usize;
    /// Columns of a vector.
    const LANES: usize;
    /// Whether panels read both operands from copies, always, as `pack_a` and `pack_b` lay them down.
    const COPIES: bool = false;
    /// c = or += a @ b over a panel of at most `NR` columns.
    ///
    /// # Safety
    /// As [`tile`].
    unsafe fn panel(p: &Panel<Self::T>);
    /// [`pack::a`] with tiles of `MR` rows.
    ///
    /// # Safety
    /// As there.
    unsafe fn pack_a(to: *mut Self::T, from: pack::Strided<Self::T>);
    /// [`pack::b`] into rows `NR` apart.
    ///
    /// # Safety
    /// As there.
    unsafe fn pack_b(to: *mut Self::T, from: pack::Strided<Self::T>);
}

/// A kernel that also computes single rows.
pub(crate) trait Single: Kernel {
    /// [`row::row`].
    ///
    /// # Safety
    /// As there.
    unsafe fn row(r: &Row<Self::T>);
}

macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident, $t:ty, $v:ty, $transpose:ty,
     $mr:literal x $vectors:literal $(, $features:literal)?) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl $name {
            /// # Safety
            /// As [`tile`].
            $(#[target_feature(enable = $features)])?
            unsafe fn strip<const C: usize, const READ: u8>(p: &Panel<$t>) {
                // SAFETY: the caller's promise.
                unsafe { strip::<$v, $mr, C, READ>(p) }
            }

            /// # Safety
            /// As [`pack::a`].
            $(#[target_feature(enable = $features)])?
            unsafe fn rows(to: *mut $t, from: pack::Strided<$t>) {
                // SAFETY: the caller's promise.
                unsafe { pack::a::<$t, $mr>(to, from) }
            }

            /// # Safety
            /// As [`pack::b`].
            $(#[target_feature(enable = $features)])?
            unsafe fn columns(to: *mut $t, from: pack::Strided<$t>) {
                // SAFETY: the caller's promise.
                unsafe { pack::b::<$v, $transpose, $vectors>(to, from) }
            }

            /// # Safety
            /// As [`row::row`].
            $(#[target_feature(enable = $features)])?
            unsafe fn single(r: &Row<$t>) {
                // SAFETY: the caller's promise.
                unsafe { row::row::<$v>(r) }
            }
        }

        impl Kernel for $name {
            type T = $t;
            const MR: usize = $mr;
            const NR: usize = $vectors * <$v as Lanes>::N;
            const LANES: usize = <$v as Lanes>::N;

            #[inline(always)]
            unsafe fn panel(p: &Panel<$t>) {
                let masked = p.cols % Self::LANES != 0;
                // SAFETY: the caller's promise.
                unsafe {
                    match (p.cols.div_ceil(Self::LANES), masked) {
                        (3, false) if $vectors > 2 => Self::strip::<3, WHOLE>(p),
                        (3, true) if $vectors > 2 => Self::strip::<3, MASKED>(p),
                        (2, false) => Self::strip::<2, WHOLE>(p),
                        (2, true) => Self::strip::<2, MASKED>(p),
                        (_, false) => Self::strip::<1, WHOLE>(p),
                        (_, true) => Self::strip::<1, MASKED>(p),
                    }
                }
            }

            #[inline(always)]
            unsafe fn pack_a(to: *mut $t, from: pack::Strided<$t>) {
                // SAFETY: the caller's promise.
                unsafe { Self::rows(to, from) }
            }

            #[inline(always)]
            unsafe fn pack_b(to: *mut $t, from: pack::Strided<$t>) {
                // SAFETY: the caller's promise.
                unsafe { Self::columns(to, from) }
            }
        }

        impl Single for $name {
            #[inline(always)]
            unsafe fn row(r: &Row<$t>) {
                // SAFETY: the caller's promise.
                unsafe { Self::single(r) }
            }
        }
    };
}

kernel!(
    /// What the build target guarantees, f32.
    Portable32, f32, Plain<f32, 8>, pack::Single<f32>, 4 x 2
);
kernel!(
    /// What the build target guarantees, f64.
    Portable64, f64, Plain<f64, 4>, pack::Single<f64>, 4 x 2
);
#[cfg(target_arch = "x86_64")]
kernel!(
    /// AVX2 and FMA, f32.
    Avx2F32, f32, __m256, pack::Eight, 6 x 2, "avx2,fma"
);
#[cfg(target_arch = "x86_64")]
kernel!(
    /// AVX2 and FMA, f64.
    Avx2F64, f64, __m256d, pack::Four, 6 x 2, "avx2,fma"
);
#[cfg(target_arch = "x86_64")]
kernel!(
    /// AVX-512, f32.
    Avx512F32, f32, __m512, pack::Eight, 8 x 3, "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"
);
#[cfg(target_arch = "x86_64")]
kernel!(
    /// AVX-512, f64.
    Avx512F64, f64, __m512d, pack::Four, 8 x 3, "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"
);
