//! The kernel with `vdpbf16ps`: each lane of f32 takes two steps of k, operands stand in pairs.
//!
//! A pair is 32 bits wide, as the f32 from which it is made: the earlier step in the upper half. The copies are
//! addressed as f32 and hold pairs.

use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::super::KC;
use super::super::micro::{Kernel, Panel, Tile, next_rows};
use super::super::pack::{Eight, Strided, Transpose};
use super::{round, step};

/// Lanes of a vector.
const N: usize = 16;
/// Vectors of a tile.
const VECTORS: usize = 3;
/// Columns of a tile, between rows of pairs of b.
const NR: usize = VECTORS * N;
/// Rows of a tile.
const MR: usize = 8;

/// Whether this CPU has the instruction, and computes with it what [`step`] says. That was found by experiment on one kind of
/// CPU; it is cheap to ask, and a CPU that counts otherwise would change numbers silently.
pub(super) fn supported() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| is_x86_feature_detected!("avx512bf16") && agrees())
}

/// Some products and sums at every edge against [`step`].
fn agrees() -> bool {
    let least = f32::MIN_POSITIVE;
    let below = f32::from_bits(least.to_bits() - 1);
    let above = f32::from_bits(least.to_bits() + 1);
    let small = 1.0 / (1u128 << 76) as f32;
    let a = [1.0, -1.5, small, 1.5 * small, 1.007_812_5 * small, least, f32::MAX, f32::INFINITY, 0.0, -3.4e19];
    let b = [1.0, 1.007_812_5, -small, small, 3.4e19, -0.0, 1e-20, f32::MAX];
    let sums = [0.0, -0.0, 1.0, least, -least, above, below, -f32::MAX, 1.000_000_1, f32::INFINITY, 1.3e-5];
    let mut cases = Vec::new();
    for (i, (x, y)) in a.iter().flat_map(|x| b.iter().map(move |y| (*x, *y))).enumerate() {
        for (j, sum) in sums.into_iter().enumerate() {
            cases.push((sum, [x, a[(i * 7 + j) % a.len()]], [y, b[(i * 3 + j * 5) % b.len()]]));
        }
    }
    cases.into_iter().all(|(sum, x, y)| {
        let (x, y, sum) = (x.map(round), y.map(round), if sum.is_subnormal() { 0.0 } else { sum });
        let expected = step(x[1], y[1], step(x[0], y[0], sum));
        // SAFETY: the caller saw that the CPU has the instruction.
        let found = unsafe { dot([sum; N], [pair(x[0], x[1]); N], [pair(y[0], y[1]); N])[0] };
        expected.to_bits() == found.to_bits() || expected.is_nan() && found.is_nan()
    })
}

/// The instruction: each sum with two products added.
///
/// # Safety
/// The CPU has it.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn dot(sums: [f32; N], a: [u32; N], b: [u32; N]) -> [f32; N] {
    let mut out = [0f32; N];
    // SAFETY: arrays are as large as vectors.
    unsafe {
        let load = |x: [u32; N]| pairs(_mm512_loadu_si512(x.as_ptr().cast()));
        let sums = _mm512_dpbf16_ps(_mm512_loadu_ps(sums.as_ptr()), load(a), load(b));
        _mm512_storeu_ps(out.as_mut_ptr(), sums);
    }
    out
}

/// A vector as one of pairs.
#[inline(always)]
fn pairs(x: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits without invalid values.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(x) }
}

/// Two numbers rounded, the first one in the upper half.
#[inline(always)]
fn pair(first: f32, second: f32) -> u32 {
    round(first).to_bits() | round(second).to_bits() >> 16
}

/// c (R, C vectors) = or += a @ b; the last vector is only as wide as the mask if `MASKED`.
///
/// # Safety
/// All operands are in bounds, and the CPU has the instructions.
#[inline(always)]
unsafe fn tile<const R: usize, const C: usize, const MASKED: bool>(t: &Tile<f32>, mask: __mmask16) {
    let (mut a, mut b) = (t.a.cast::<i32>(), t.b.cast::<i32>());
    // SAFETY: rows below R, columns below C and pairs are in bounds: rows of b have room for all vectors.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); C]; R];
        for _ in 0..t.depth.div_ceil(2) {
            let row: [__m512bh; C] = std::array::from_fn(|j| pairs(_mm512_loadu_si512(b.wrapping_add(j * N).cast())));
            for (r, sums) in acc.iter_mut().enumerate() {
                let x = pairs(_mm512_set1_epi32(*a.wrapping_add(r)));
                for (sum, v) in sums.iter_mut().zip(row) {
                    *sum = _mm512_dpbf16_ps(*sum, x, v);
                }
            }
            a = a.wrapping_add(R);
            b = b.wrapping_add(NR);
        }
        for (r, sums) in acc.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                let p = t.c.wrapping_add(r * t.ldc + j * N);
                if MASKED && j + 1 == C {
                    let sum = if t.add { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, p), sum) } else { sum };
                    _mm512_mask_storeu_ps(p, mask, sum);
                } else {
                    let sum = if t.add { _mm512_add_ps(_mm512_loadu_ps(p), sum) } else { sum };
                    _mm512_storeu_ps(p, sum);
                }
            }
        }
    }
}

/// All tiles of a panel, from top to bottom.
///
/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn strip<const C: usize, const MASKED: bool>(p: &Panel<f32>) {
    let pairs = p.first.depth.div_ceil(2);
    let mask = ones(p.cols - (C - 1) * N);
    let mut t = p.first;
    let mut i = 0;
    while i < p.rows {
        let rows = next_rows(p.rows - i, MR);
        t.a = p.first.a.wrapping_add(i * pairs);
        t.c = p.first.c.wrapping_add(i * t.ldc);
        // SAFETY: the rows from `i` to `i + rows` belong to the panel.
        unsafe {
            match rows {
                8 => tile::<8, C, MASKED>(&t, mask),
                7 => tile::<7, C, MASKED>(&t, mask),
                6 => tile::<6, C, MASKED>(&t, mask),
                5 => tile::<5, C, MASKED>(&t, mask),
                4 => tile::<4, C, MASKED>(&t, mask),
                3 => tile::<3, C, MASKED>(&t, mask),
                2 => tile::<2, C, MASKED>(&t, mask),
                _ => tile::<1, C, MASKED>(&t, mask),
            }
        }
        i += rows;
    }
}

/// The mask of the first `n` lanes, all of them if there are more.
#[inline(always)]
fn ones(n: usize) -> __mmask16 {
    ((1u32 << n.min(N)) - 1) as __mmask16
}

/// Lays down pairs of an operand: those of step 2k and 2k + 1 in a row from element `k * ld` on. `past` stands in the
/// lower half of the last row if the number of steps is odd.
///
/// # Safety
/// `from` is in bounds with `width <= ld` and `depth <= KC`, `to` has room for `ld` elements for every two steps, and the CPU has the
/// instructions.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn lay(to: *mut u32, ld: usize, from: Strided<f32>, past: u32) {
    let Strided { at, depth, along_k, width, across } = from;
    // SAFETY: columns below `width` and steps below `depth` are in bounds.
    unsafe {
        if across == 1 {
            side_by_side(to, ld, from);
        } else if along_k == 1 {
            turned(to, ld, from);
        } else {
            for k in (0..depth).step_by(2) {
                for j in 0..width {
                    let x = at.wrapping_add(j * across + k * along_k);
                    let second = if k + 1 < depth { *x.wrapping_add(along_k) } else { 0.0 };
                    *to.add(k / 2 * ld + j) = pair(*x, second);
                }
            }
        }
        if depth % 2 == 1 {
            for j in 0..width {
                *to.add(depth / 2 * ld + j) |= past;
            }
        }
    }
}

/// [`lay`] where neighbours stand side by side.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn side_by_side(to: *mut u32, ld: usize, from: Strided<f32>) {
    let Strided { at, depth, along_k, width, .. } = from;
    // SAFETY: the masks name columns below `width` only, and a step past the end is not read.
    unsafe {
        // Words i of both halves beside each other, that of the upper half on top.
        let order: [u16; 2 * N] = std::array::from_fn(|i| (i / 2 + i % 2 * N) as u16);
        let order = std::mem::transmute::<[u16; 2 * N], __m512i>(order);
        for k in (0..depth).step_by(2) {
            let row = at.wrapping_add(k * along_k);
            for j in (0..width).step_by(N) {
                let mask = ones(width - j);
                let first = _mm512_maskz_loadu_ps(mask, row.wrapping_add(j));
                let second = if k + 1 < depth { mask } else { 0 };
                let second = _mm512_maskz_loadu_ps(second, row.wrapping_add(along_k + j));
                let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(first, second));
                let pairs = _mm512_permutexvar_epi16(order, both);
                _mm512_mask_storeu_epi32(to.add(k / 2 * ld + j).cast(), mask, pairs);
            }
        }
    }
}

/// [`lay`] where steps stand side by side: eight rows at a time are rounded, then turned.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn turned(to: *mut u32, ld: usize, from: Strided<f32>) {
    const ROWS: usize = 8;
    let Strided { at, depth, width, across, .. } = from;
    let mut room = [0u32; ROWS * KC / 2];
    let pairs = depth.div_ceil(2);
    // SAFETY: a block has at most KC steps, so a row of pairs fits; the masks name steps below `depth` only.
    unsafe {
        for j in (0..width).step_by(ROWS) {
            let rows = ROWS.min(width - j);
            for r in 0..rows {
                let x = at.wrapping_add((j + r) * across);
                for k in (0..depth).step_by(2 * N) {
                    let left = depth - k;
                    let first = _mm512_maskz_loadu_ps(ones(left), x.wrapping_add(k));
                    let second = _mm512_maskz_loadu_ps(ones(left.saturating_sub(N)), x.wrapping_add(k + N));
                    let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
                    let row = room.as_mut_ptr().add(r * KC / 2 + k / 2);
                    _mm512_storeu_si512(row.cast(), _mm512_rol_epi32::<16>(both));
                }
            }
            let whole = if rows == ROWS { pairs / ROWS * ROWS } else { 0 };
            for k in (0..whole).step_by(ROWS) {
                Eight::block(to.add(k * ld + j).cast(), ld, room.as_ptr().add(k).cast(), KC / 2);
            }
            for r in 0..rows {
                for k in whole..pairs {
                    *to.add(k * ld + j + r) = room[r * KC / 2 + k];
                }
            }
        }
    }
}

/// AVX-512 with BF16.
pub(super) struct Dot;

impl Kernel for Dot {
    type T = f32;
    const MR: usize = MR;
    const NR: usize = NR;
    const LANES: usize = N;
    const COPIES: bool = true;

    #[inline(always)]
    unsafe fn panel(p: &Panel<f32>) {
        // SAFETY: the caller's promise.
        unsafe {
            match (p.cols.div_ceil(N), p.cols.is_multiple_of(N)) {
                (3, true) => strip::<3, false>(p),
                (3, false) => strip::<3, true>(p),
                (2, true) => strip::<2, false>(p),
                (2, false) => strip::<2, true>(p),
                (_, true) => strip::<1, false>(p),
                (_, false) => strip::<1, true>(p),
            }
        }
    }

    #[inline(always)]
    unsafe fn pack_a(to: *mut f32, from: Strided<f32>) {
        let pairs = from.depth.div_ceil(2);
        let mut i = 0;
        while i < from.width {
            let width = next_rows(from.width - i, MR);
            let at = from.at.wrapping_add(i * from.across);
            // SAFETY: the caller's promise; a tile takes `width` elements for every two steps.
            unsafe { lay(to.add(i * pairs).cast(), width, Strided { at, width, ..from }, 0) }
            i += width;
        }
    }

    #[inline(always)]
    unsafe fn pack_b(to: *mut f32, from: Strided<f32>) {
        // SAFETY: the caller's promise. 0 · -0 added to a sum leaves it as it is.
        unsafe { lay(to.cast(), NR, from, 0x8000) }
    }
}
