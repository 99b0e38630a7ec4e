//! Copies of operands in the order in which tiles read them, for operands that are strided or read many times.

use super::lanes::Lanes;
use super::micro::next_rows;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A part of an operand: `depth` steps along k, `width` rows of a or columns of b, with their strides in elements.
#[derive(Clone, Copy)]
pub(crate) struct Strided<T> {
    pub(super) at: *const T,
    pub(super) depth: usize,
    pub(super) along_k: usize,
    pub(super) width: usize,
    pub(super) across: usize,
}

/// Lays a down tile by tile: the tile of rows `i..i + r` starts at element `i * depth` and holds, for each k, its `r`
/// elements. Tiles are as [`next_rows`] makes them.
///
/// # Safety
/// `from` is in bounds, `to` has room for `width * depth` elements.
#[inline(always)]
pub(super) unsafe fn a<T: Copy, const MR: usize>(to: *mut T, from: Strided<T>) {
    let Strided { at, depth, along_k, width, across } = from;
    let mut i = 0;
    while i < width {
        let rows = next_rows(width - i, MR);
        let (to, at) = (to.wrapping_add(i * depth), at.wrapping_add(i * across));
        // SAFETY: row `i + r` and step `k` are in bounds, and the tile has room for `rows * depth` elements.
        unsafe {
            for k in 0..depth {
                let (to, at) = (to.add(k * rows), at.wrapping_add(k * along_k));
                if across == 1 && rows == MR {
                    // A known length becomes a few vector moves.
                    to.copy_from_nonoverlapping(at, MR);
                } else {
                    for r in 0..rows {
                        *to.add(r) = *at.wrapping_add(r * across);
                    }
                }
            }
        }
        i += rows;
    }
}

/// Lays b down row by row: row k starts at element `k * NR`, where NR is `C` vectors. Columns past `width` are left
/// as they are; nobody reads them.
///
/// # Safety
/// `from` is in bounds with `width <= NR`, `to` has room for `NR * depth` elements, and the CPU has the instructions
/// of `V` and `X`.
#[inline(always)]
pub(super) unsafe fn b<V: Lanes, X: Transpose<T = V::T>, const C: usize>(to: *mut V::T, from: Strided<V::T>) {
    let Strided { at, depth, along_k, width, across } = from;
    let ld = C * V::N;
    // SAFETY: columns below `width` and steps below `depth` are in bounds.
    unsafe {
        if across == 1 && width == ld {
            for k in 0..depth {
                for j in 0..C {
                    V::load(at.wrapping_add(k * along_k + j * V::N)).store(to.add(k * ld + j * V::N));
                }
            }
        } else if across == 1 {
            for k in 0..depth {
                to.add(k * ld).copy_from_nonoverlapping(at.wrapping_add(k * along_k), width);
            }
        } else {
            let whole = |n: usize| if along_k == 1 { n / X::N * X::N } else { 0 };
            let (columns, steps) = (whole(width), whole(depth));
            for j in (0..columns).step_by(X::N) {
                for k in (0..steps).step_by(X::N) {
                    X::block(to.add(k * ld + j), ld, at.wrapping_add(j * across + k), across);
                }
            }
            for j in 0..width {
                for k in if j < columns { steps } else { 0 }..depth {
                    *to.add(k * ld + j) = *at.wrapping_add(j * across + k * along_k);
                }
            }
        }
    }
}

/// Turns a square block of `N` by `N` elements.
pub(super) trait Transpose {
    /// Type of an element.
    type T;
    /// Side of the block.
    const N: usize;
    /// `to[i * ldt + j] = from[j * ldf + i]`.
    ///
    /// # Safety
    /// Both blocks are in bounds, and the CPU has the instructions.
    unsafe fn block(to: *mut Self::T, ldt: usize, from: *const Self::T, ldf: usize);
}

/// One element at a time.
pub(super) struct Single<T>(std::marker::PhantomData<T>);

impl<T: Copy> Transpose for Single<T> {
    type T = T;
    const N: usize = 1;

    #[inline(always)]
    unsafe fn block(to: *mut T, _: usize, from: *const T, _: usize) {
        // SAFETY: the caller's promise.
        unsafe { *to = *from }
    }
}

/// 8 by 8 elements of f32 with AVX.
#[cfg(target_arch = "x86_64")]
pub(super) struct Eight;

#[cfg(target_arch = "x86_64")]
impl Transpose for Eight {
    type T = f32;
    const N: usize = 8;

    #[inline(always)]
    unsafe fn block(to: *mut f32, ldt: usize, from: *const f32, ldf: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            // Row j's halves: elements 0..4 beside those of row j + 4, then elements 4..8 likewise.
            let half = |j: usize, i: usize| {
                let low = _mm256_castps128_ps256(_mm_loadu_ps(from.wrapping_add(j * ldf + i)));
                _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(from.wrapping_add((j + 4) * ldf + i)))
            };
            for i in [0, 4] {
                let (r0, r1, r2, r3) = (half(0, i), half(1, i), half(2, i), half(3, i));
                let (a, b) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
                let (c, d) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
                _mm256_storeu_ps(to.wrapping_add(i * ldt), _mm256_shuffle_ps::<0x44>(a, c));
                _mm256_storeu_ps(to.wrapping_add((i + 1) * ldt), _mm256_shuffle_ps::<0xee>(a, c));
                _mm256_storeu_ps(to.wrapping_add((i + 2) * ldt), _mm256_shuffle_ps::<0x44>(b, d));
                _mm256_storeu_ps(to.wrapping_add((i + 3) * ldt), _mm256_shuffle_ps::<0xee>(b, d));
            }
        }
    }
}

/// 4 by 4 elements of f64 with AVX.
#[cfg(target_arch = "x86_64")]
pub(super) struct Four;

#[cfg(target_arch = "x86_64")]
impl Transpose for Four {
    type T = f64;
    const N: usize = 4;

    #[inline(always)]
    unsafe fn block(to: *mut f64, ldt: usize, from: *const f64, ldf: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            // Row j's halves: elements i, i + 1 beside those of row j + 2.
            let half = |j: usize, i: usize| {
                let low = _mm256_castpd128_pd256(_mm_loadu_pd(from.wrapping_add(j * ldf + i)));
                _mm256_insertf128_pd::<1>(low, _mm_loadu_pd(from.wrapping_add((j + 2) * ldf + i)))
            };
            for i in [0, 2] {
                let (r0, r1) = (half(0, i), half(1, i));
                _mm256_storeu_pd(to.wrapping_add(i * ldt), _mm256_unpacklo_pd(r0, r1));
                _mm256_storeu_pd(to.wrapping_add((i + 1) * ldt), _mm256_unpackhi_pd(r0, r1));
            }
        }
    }
}
