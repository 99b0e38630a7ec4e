//! Blocks in the vectors of AVX2 and of AVX-512.

use std::arch::x86_64::*;

use super::{LANES, Wide};
use crate::math::exp_apart;

/// Two vectors of AVX2, f32.
#[derive(Clone, Copy)]
pub(crate) struct Avx2([__m256; 2]);

/// `MASKS[LANES - n..]` starts with `n` lanes of ones.
static MASKS: [i32; 2 * LANES] = {
    let mut masks = [0; 2 * LANES];
    let mut i = 0;
    while i < LANES {
        masks[i] = -1;
        i += 1;
    }
    masks
};

/// The sum of four lanes: 0 and 2, 1 and 3, then both.
///
/// # Safety
/// Needs SSE, which every CPU of this kind has.
#[inline(always)]
unsafe fn sum_of_four(x: __m128) -> f32 {
    // SAFETY: as above.
    unsafe {
        let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
    }
}

/// The sum of eight lanes: `i` and `i + 4`, and so on.
///
/// # Safety
/// Needs AVX.
#[inline(always)]
unsafe fn sum_of_eight(x: __m256) -> f32 {
    // SAFETY: as above.
    unsafe { sum_of_four(_mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x))) }
}

/// The largest of four lanes, none of them NaN.
///
/// # Safety
/// Needs SSE, which every CPU of this kind has.
#[inline(always)]
unsafe fn largest_of_four(x: __m128) -> f32 {
    // SAFETY: as above.
    unsafe {
        let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
    }
}

/// The largest of eight lanes, none of them NaN.
///
/// # Safety
/// Needs AVX.
#[inline(always)]
unsafe fn largest_of_eight(x: __m256) -> f32 {
    // SAFETY: as above.
    unsafe { largest_of_four(_mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x))) }
}

/// The functions that are one intrinsic for each vector of a block.
macro_rules! each {
    ($($name:ident($($b:ident)?) = $f:expr;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name(self $(, $b: Self)?) -> Self {
                // SAFETY: the CPU has the instructions.
                unsafe { each!(@ self, $f $(, $b)?) }
            }
        )*
    };
    (@ $a:expr, $f:expr, $b:expr) => { Avx2([$f($a.0[0], $b.0[0]), $f($a.0[1], $b.0[1])]) };
    (@ $a:expr, $f:expr) => { Avx2([$f($a.0[0]), $f($a.0[1])]) };
}

impl Wide for Avx2 {
    type T = f32;
    type First = [__m256i; 2];

    #[inline(always)]
    unsafe fn first(n: usize) -> [__m256i; 2] {
        // SAFETY: both vectors lie in the table.
        unsafe {
            let p = MASKS.as_ptr().add(LANES - n);
            [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(8).cast())]
        }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe { Avx2([_mm256_set1_ps(x); 2]) }
    }

    #[inline(always)]
    unsafe fn only(lane: usize, x: f32) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe {
            let all = _mm256_set1_ps(x);
            let lane = _mm256_set1_epi32(lane.min(LANES) as i32);
            let low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let high = _mm256_add_epi32(low, _mm256_set1_epi32(8));
            Avx2([low, high].map(|i| _mm256_and_ps(all, _mm256_castsi256_ps(_mm256_cmpeq_epi32(i, lane)))))
        }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller may read a block.
        unsafe { Avx2([_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))]) }
    }

    #[inline(always)]
    unsafe fn load_first(p: *const f32, first: [__m256i; 2], pad: Self) -> Self {
        let half = |i: usize| {
            // SAFETY: the caller may read the first elements; the others are not touched.
            unsafe {
                let x = _mm256_maskload_ps(p.wrapping_add(8 * i), first[i]);
                _mm256_blendv_ps(pad.0[i], x, _mm256_castsi256_ps(first[i]))
            }
        };
        Avx2([half(0), half(1)])
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller may write a block.
        unsafe {
            _mm256_storeu_ps(p, self.0[0]);
            _mm256_storeu_ps(p.add(8), self.0[1]);
        }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, first: [__m256i; 2]) {
        // SAFETY: the caller may write the first elements; the others are not touched.
        unsafe {
            _mm256_maskstore_ps(p, first[0], self.0[0]);
            _mm256_maskstore_ps(p.wrapping_add(8), first[1], self.0[1]);
        }
    }

    #[inline(always)]
    unsafe fn keep_first(self, first: [__m256i; 2]) -> Self {
        // SAFETY: the CPU has the instructions.
        let half = |i: usize| unsafe { _mm256_and_ps(self.0[i], _mm256_castsi256_ps(first[i])) };
        Avx2([half(0), half(1)])
    }

    each! {
        add(b) = _mm256_add_ps;
        sub(b) = _mm256_sub_ps;
        mul(b) = _mm256_mul_ps;
        div(b) = _mm256_div_ps;
        // The second operand comes out where one is NaN or both are zeros.
        larger(b) = _mm256_max_ps;
        neg() = |x| _mm256_xor_ps(x, _mm256_set1_ps(-0.0));
    }

    #[inline(always)]
    unsafe fn larger_or_nan(self, b: Self) -> Self {
        // SAFETY: the CPU has the instructions.
        let half = |i: usize| unsafe {
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0[i], self.0[i]);
            _mm256_blendv_ps(_mm256_max_ps(self.0[i], b.0[i]), self.0[i], nan)
        };
        Avx2([half(0), half(1)])
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: the CPU has the instructions.
        let half = |i: usize| unsafe { _mm256_fmadd_ps(self.0[i], b.0[i], c.0[i]) };
        Avx2([half(0), half(1)])
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the CPU has the instructions.
        unsafe { sum_of_eight(_mm256_add_ps(self.0[0], self.0[1])) }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the CPU has the instructions.
        unsafe { largest_of_eight(_mm256_max_ps(self.0[0], self.0[1])) }
    }

    #[inline(always)]
    unsafe fn map(self, _: usize, f: impl Fn(f32) -> f32) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe {
            let mut lanes = self.lanes();
            for x in &mut lanes {
                *x = f(*x);
            }
            Avx2::load(lanes.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn lanes(self) -> [f32; LANES] {
        // SAFETY: as many floats, any of which is valid.
        unsafe { std::mem::transmute(self) }
    }
}

/// A vector of AVX-512, f32.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

impl Wide for Avx512 {
    type T = f32;
    type First = __mmask16;

    #[inline(always)]
    unsafe fn first(n: usize) -> __mmask16 {
        ((1u32 << n) - 1) as __mmask16
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe { Avx512(_mm512_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn only(lane: usize, x: f32) -> Self {
        let lane = if lane < LANES { 1u32 << lane } else { 0 };
        // SAFETY: the CPU has the instructions.
        unsafe { Avx512(_mm512_maskz_mov_ps(lane as __mmask16, _mm512_set1_ps(x))) }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller may read a block.
        unsafe { Avx512(_mm512_loadu_ps(p)) }
    }

    #[inline(always)]
    unsafe fn load_first(p: *const f32, first: __mmask16, pad: Self) -> Self {
        // SAFETY: the caller may read the first elements; the others are not touched.
        unsafe { Avx512(_mm512_mask_loadu_ps(pad.0, first, p)) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller may write a block.
        unsafe { _mm512_storeu_ps(p, self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, first: __mmask16) {
        // SAFETY: the caller may write the first elements; the others are not touched.
        unsafe { _mm512_mask_storeu_ps(p, first, self.0) }
    }

    #[inline(always)]
    unsafe fn keep_first(self, first: __mmask16) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe { Avx512(_mm512_maskz_mov_ps(first, self.0)) }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe { Avx512(_mm512_add_ps(self.0, b.0)) }
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe { Avx512(_mm512_sub_ps(self.0, b.0)) }
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe { Avx512(_mm512_mul_ps(self.0, b.0)) }
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe { Avx512(_mm512_div_ps(self.0, b.0)) }
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe { Avx512(_mm512_fmadd_ps(self.0, b.0, c.0)) }
    }

    #[inline(always)]
    unsafe fn neg(self) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe { Avx512(_mm512_xor_ps(self.0, _mm512_set1_ps(-0.0))) }
    }

    #[inline(always)]
    unsafe fn larger(self, b: Self) -> Self {
        // SAFETY: the CPU has the instructions. `b` comes out where one is NaN or both are zeros.
        unsafe { Avx512(_mm512_max_ps(self.0, b.0)) }
    }

    #[inline(always)]
    unsafe fn larger_or_nan(self, b: Self) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe {
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            Avx512(_mm512_mask_mov_ps(_mm512_max_ps(self.0, b.0), nan, self.0))
        }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the CPU has the instructions.
        unsafe { sum_of_eight(_mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0))) }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the CPU has the instructions.
        unsafe { largest_of_eight(_mm256_max_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0))) }
    }

    #[inline(always)]
    unsafe fn map(self, _: usize, f: impl Fn(f32) -> f32) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe {
            let mut lanes = self.lanes();
            for x in &mut lanes {
                *x = f(*x);
            }
            Avx512::load(lanes.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn exp(self, _: usize) -> Self {
        // SAFETY: the CPU has the instructions.
        unsafe {
            let (mut p, mut n) = (self.lanes(), [0.0; LANES]);
            for (p, n) in p.iter_mut().zip(&mut n) {
                (*p, *n) = exp_apart(*p);
            }
            Avx512(_mm512_scalef_ps(_mm512_loadu_ps(p.as_ptr()), _mm512_loadu_ps(n.as_ptr())))
        }
    }

    #[inline(always)]
    unsafe fn lanes(self) -> [f32; LANES] {
        // SAFETY: as many floats, any of which is valid.
        unsafe { std::mem::transmute(self) }
    }
}
