//! Vectors of floats behind one trait, so that a register tile is written once and compiled for every instruction set.
//!
//! The functions are inlined into wrappers that enable the instructions they use; called anywhere else they are
//! undefined behaviour on a CPU without them.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A vector of [`Lanes::N`] floats.
///
/// # Safety
/// Every function needs a CPU with the instructions of its type. Loads and stores touch `N` elements from `p` on, the
/// masked ones the first elements that the mask names and no others; no alignment is asked for. `N` is at most 16.
pub(crate) trait Lanes: Copy {
    /// Type of an element.
    type T: Copy + Default + Send + Sync + 'static;
    /// Names the first few lanes.
    type Mask: Copy;
    /// Number of lanes.
    const N: usize;
    /// The mask of the first `n` lanes, `n <= N`.
    unsafe fn mask(n: usize) -> Self::Mask;
    /// `x` in all lanes.
    unsafe fn splat(x: Self::T) -> Self;
    /// `N` elements.
    unsafe fn load(p: *const Self::T) -> Self;
    /// The first elements, zero in the other lanes.
    unsafe fn load_first(p: *const Self::T, mask: Self::Mask) -> Self;
    /// `N` elements that stand `stride` apart.
    #[inline(always)]
    unsafe fn gather(p: *const Self::T, stride: usize) -> Self {
        let mut lanes = [Self::T::default(); 16];
        for (i, x) in lanes.iter_mut().enumerate().take(Self::N) {
            // SAFETY: the caller may read these elements.
            *x = unsafe { *p.wrapping_add(i * stride) };
        }
        // SAFETY: no vector is longer than the array.
        unsafe { Self::load(lanes.as_ptr()) }
    }
    /// Writes all lanes.
    unsafe fn store(self, p: *mut Self::T);
    /// Writes the first lanes.
    unsafe fn store_first(self, p: *mut Self::T, mask: Self::Mask);
    /// `self * b + c`, rounded once.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// `self + b`.
    unsafe fn add(self, b: Self) -> Self;
}

/// `N` elements that the compiler may keep in whatever registers the target has.
#[derive(Clone, Copy)]
pub(crate) struct Plain<T, const N: usize>([T; N]);

macro_rules! plain {
    ($t:ty) => {
        impl<const N: usize> Lanes for Plain<$t, N> {
            type T = $t;
            type Mask = usize;
            const N: usize = N;

            #[inline(always)]
            unsafe fn mask(n: usize) -> usize {
                n
            }

            #[inline(always)]
            unsafe fn splat(x: $t) -> Self {
                Plain([x; N])
            }

            #[inline(always)]
            unsafe fn load(p: *const $t) -> Self {
                // SAFETY: the caller may read N elements.
                Plain(std::array::from_fn(|i| unsafe { *p.add(i) }))
            }

            #[inline(always)]
            unsafe fn load_first(p: *const $t, mask: usize) -> Self {
                // SAFETY: the caller may read the first `mask` elements.
                Plain(std::array::from_fn(|i| if i < mask { unsafe { *p.add(i) } } else { 0.0 }))
            }

            #[inline(always)]
            unsafe fn store(self, p: *mut $t) {
                for (i, x) in self.0.into_iter().enumerate() {
                    // SAFETY: the caller may write N elements.
                    unsafe { *p.add(i) = x };
                }
            }

            #[inline(always)]
            unsafe fn store_first(self, p: *mut $t, mask: usize) {
                for (i, x) in self.0.into_iter().enumerate().take(mask) {
                    // SAFETY: the caller may write the first `mask` elements.
                    unsafe { *p.add(i) = x };
                }
            }

            #[inline(always)]
            unsafe fn fma(self, b: Self, c: Self) -> Self {
                Plain(std::array::from_fn(|i| self.0[i].mul_add(b.0[i], c.0[i])))
            }

            #[inline(always)]
            unsafe fn add(self, b: Self) -> Self {
                Plain(std::array::from_fn(|i| self.0[i] + b.0[i]))
            }
        }
    };
}

plain!(f32);
plain!(f64);

/// `MASKS32[8 - n..]` starts with `n` lanes of ones.
#[cfg(target_arch = "x86_64")]
static MASKS32: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
/// `MASKS64[4 - n..]` starts with `n` lanes of ones.
#[cfg(target_arch = "x86_64")]
static MASKS64: [i64; 8] = [-1, -1, -1, -1, 0, 0, 0, 0];

#[cfg(target_arch = "x86_64")]
macro_rules! vector {
    ($t:ty, $v:ty, $mask:ty, $n:literal, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident,
     mask: |$count:ident| $make:expr, load: |$from:ident, $lm:ident| $lf:expr,
     store: |$x:ident, $to:ident, $sm:ident| $sf:expr) => {
        // SAFETY of every block here: the trait's contract, which each function hands on to its caller.
        impl Lanes for $v {
            type T = $t;
            type Mask = $mask;
            const N: usize = $n;

            #[inline(always)]
            unsafe fn mask($count: usize) -> $mask {
                $make
            }

            #[inline(always)]
            unsafe fn splat(x: $t) -> Self {
                // SAFETY: as above.
                unsafe { $splat(x) }
            }

            #[inline(always)]
            unsafe fn load(p: *const $t) -> Self {
                // SAFETY: as above.
                unsafe { $load(p) }
            }

            #[inline(always)]
            unsafe fn load_first($from: *const $t, $lm: $mask) -> Self {
                // SAFETY: as above.
                unsafe { $lf }
            }

            #[inline(always)]
            unsafe fn store(self, p: *mut $t) {
                // SAFETY: as above.
                unsafe { $store(p, self) }
            }

            #[inline(always)]
            unsafe fn store_first(self, $to: *mut $t, $sm: $mask) {
                let $x = self;
                // SAFETY: as above.
                unsafe { $sf }
            }

            #[inline(always)]
            unsafe fn fma(self, b: Self, c: Self) -> Self {
                // SAFETY: as above.
                unsafe { $fma(self, b, c) }
            }

            #[inline(always)]
            unsafe fn add(self, b: Self) -> Self {
                // SAFETY: as above.
                unsafe { $add(self, b) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
vector!(f32, __m512, __mmask16, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps, _mm512_add_ps,
    mask: |n| ((1u32 << n) - 1) as __mmask16,
    load: |p, m| _mm512_maskz_loadu_ps(m, p), store: |x, p, m| _mm512_mask_storeu_ps(p, m, x));
#[cfg(target_arch = "x86_64")]
vector!(f64, __m512d, __mmask8, 8, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_fmadd_pd, _mm512_add_pd,
    mask: |n| ((1u32 << n) - 1) as __mmask8,
    load: |p, m| _mm512_maskz_loadu_pd(m, p), store: |x, p, m| _mm512_mask_storeu_pd(p, m, x));
#[cfg(target_arch = "x86_64")]
vector!(f32, __m256, __m256i, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps, _mm256_add_ps,
    // SAFETY: the table is long enough for every n up to N.
    mask: |n| unsafe { _mm256_loadu_si256(MASKS32.as_ptr().add(8 - n).cast()) },
    load: |p, m| _mm256_maskload_ps(p, m), store: |x, p, m| _mm256_maskstore_ps(p, m, x));
#[cfg(target_arch = "x86_64")]
vector!(f64, __m256d, __m256i, 4, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_fmadd_pd, _mm256_add_pd,
    // SAFETY: the table is long enough for every n up to N.
    mask: |n| unsafe { _mm256_loadu_si256(MASKS64.as_ptr().add(4 - n).cast()) },
    load: |p, m| _mm256_maskload_pd(p, m), store: |x, p, m| _mm256_maskstore_pd(p, m, x));
#[cfg(target_arch = "x86_64")]
vector!(f32, __m128, __m128i, 4, _mm_set1_ps, _mm_loadu_ps, _mm_storeu_ps, _mm_fmadd_ps, _mm_add_ps,
    // SAFETY: the table is long enough for every n up to N.
    mask: |n| unsafe { _mm_loadu_si128(MASKS32.as_ptr().add(8 - n).cast()) },
    load: |p, m| _mm_maskload_ps(p, m), store: |x, p, m| _mm_maskstore_ps(p, m, x));
#[cfg(target_arch = "x86_64")]
vector!(f64, __m128d, __m128i, 2, _mm_set1_pd, _mm_loadu_pd, _mm_storeu_pd, _mm_fmadd_pd, _mm_add_pd,
    // SAFETY: the table is long enough for every n up to N.
    mask: |n| unsafe { _mm_loadu_si128(MASKS64.as_ptr().add(4 - n).cast()) },
    load: |p, m| _mm_maskload_pd(p, m), store: |x, p, m| _mm_maskstore_pd(p, m, x));
