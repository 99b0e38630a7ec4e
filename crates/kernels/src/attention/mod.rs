//! Causal multi-head self-attention and its gradient, strip by strip: no (T, T) matrix is ever in memory.
//!
//! The projections of queries, keys and values stand side by side in one input qkv (B, T, 3C); head h owns columns
//! `h d .. (h + 1) d` of each, d = C / heads. A work item is one head of one text. Its query rows are taken [`ROWS`] at
//! a time. A strip holds the scores of these rows against all keys up to the last of them, so it is linear in T, and
//! its rows are complete: the softmax is the ordinary one, with nothing to correct later.
//!
//! Every element of the output has the bits of the definition (products, scale, mask, softmax, product, each step
//! rounded as the other kernels of this crate do), except that a sum of zeros may differ in sign, and that the
//! cotangents of keys and values are summed over the queries strip by strip.
//!
//! As in the other products nothing is skipped inside a strip: 0 times a value that is not finite is NaN there, also
//! where that value stands a few tokens later. The definition spoils the whole head then.
//!
//! Source: Dao et al., "FlashAttention: fast and memory-efficient exact attention with IO-awareness", 2022; without its
//! running softmax, which a GPU's small memories need and a CPU's caches do not.

mod backward;
mod forward;
mod strip;
#[cfg(test)]
mod tests;

use crate::gemm::direct::{self, Kernel, Matrix, Packed};
use crate::isa::Isa;
use crate::math::Real;
use crate::reduce::dispatch::step;
use crate::reduce::lanes::LANES;
use crate::reduce::wide::{self, Wide};
use crate::reduce::{arity, expect, float};
use crate::tape::Step;
use crate::view::{DType, View};
use backward::Backward;
use forward::Forward;

/// Query rows of a strip. A constant of the numerics: the cotangents of keys and values are summed strip by strip.
const ROWS: usize = 32;

/// Multiply-adds from which on several workers share a call.
const PARALLEL_WORK: usize = 64 * 64 * 64;

/// A step of `$body`, in which `$K` is the kernel of products for a dtype and an instruction set, and `$V` its block.
macro_rules! for_kernel {
    ($dtype:expr, $isa:expr, $K:ident, $V:ident => $body:expr) => {
        match ($dtype, $isa) {
            #[cfg(target_arch = "x86_64")]
            (DType::F32, Isa::Avx2) => for_kernel!(@ $isa, $K = Avx2F32, $V = wide::Avx2, $body),
            #[cfg(target_arch = "x86_64")]
            (_, Isa::Avx2) => for_kernel!(@ $isa, $K = Avx2F64, $V = wide::Plain<f64>, $body),
            #[cfg(target_arch = "x86_64")]
            (DType::F32, Isa::Avx512) => for_kernel!(@ $isa, $K = Avx512F32, $V = wide::Avx512, $body),
            #[cfg(target_arch = "x86_64")]
            (_, Isa::Avx512) => for_kernel!(@ $isa, $K = Avx512F64, $V = wide::Plain<f64>, $body),
            (DType::F32, _) => for_kernel!(@ $isa, $K = Portable32, $V = wide::Plain<f32>, $body),
            _ => for_kernel!(@ $isa, $K = Portable64, $V = wide::Plain<f64>, $body),
        }
    };
    (@ $isa:expr, $K:ident = $kernel:ident, $V:ident = $block:ty, $body:expr) => {{
        type $K = direct::$kernel;
        type $V = $block;
        step($isa, $body)
    }};
}

/// y (B, T, C) = softmax(q kᵀ / sqrt(d), causal) v for every head of qkv (B, T, 3C).
///
/// # Errors
/// Shapes, dtypes or strides that do not fit, or an instruction set that this CPU lacks.
pub(crate) fn forward(isa: Isa, heads: usize, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [qkv]) = arity(outs, ins)?;
    let dtype = float(&[qkv, out])?;
    let sizes = Sizes::of(isa, heads, &qkv)?;
    expect("output", &out, &[sizes.texts, sizes.time, sizes.width()])?;
    Ok(for_kernel!(dtype, isa, K, V => Forward::<K, V>::new(sizes, qkv, out)))
}

/// The cotangent (B, T, 3C) of qkv for [`forward`]; inputs: qkv (B, T, 3C), the cotangent of y (B, T, C).
///
/// # Errors
/// As [`forward`].
pub(crate) fn backward(isa: Isa, heads: usize, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let (out, [qkv, ct]) = arity(outs, ins)?;
    let dtype = float(&[qkv, ct, out])?;
    let sizes = Sizes::of(isa, heads, &qkv)?;
    expect("cotangent", &ct, &[sizes.texts, sizes.time, sizes.width()])?;
    expect("output", &out, qkv.shape.dims())?;
    if !ct.is_contiguous() {
        return Err("the cotangent is not row-major".to_string());
    }
    Ok(for_kernel!(dtype, isa, K, V => Backward::<K, V>::new(sizes, qkv, ct, out)))
}

/// The sizes of a call.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// B.
    texts: usize,
    /// T.
    time: usize,
    heads: usize,
    /// d, at least 1.
    d: usize,
}

impl Sizes {
    fn of(isa: Isa, heads: usize, qkv: &View) -> Result<Sizes, String> {
        if !isa.supported() {
            return Err(format!("this CPU cannot run the {isa:?} path"));
        }
        let [texts, time, columns] = *qkv.shape.dims() else {
            return Err(format!("takes (B, T, 3C), not {}", qkv.shape));
        };
        if heads == 0 || columns == 0 || !columns.is_multiple_of(heads.saturating_mul(3)) {
            return Err(format!("{columns} columns are not queries, keys and values of {heads} heads"));
        }
        if !qkv.is_contiguous() {
            return Err("the input is not row-major".to_string());
        }
        Ok(Sizes { texts, time, heads, d: columns / (3 * heads) })
    }

    /// C.
    fn width(&self) -> usize {
        self.heads * self.d
    }

    /// Heads of all texts.
    fn items(&self) -> usize {
        self.texts * self.heads
    }

    /// Offset of the queries of head `item` in qkv; keys and values follow C and 2C elements later.
    fn queries(&self, item: usize) -> usize {
        item / self.heads * self.time * 3 * self.width() + item % self.heads * self.d
    }

    /// Offset of head `item` in y.
    fn output(&self, item: usize) -> usize {
        item / self.heads * self.time * self.width() + item % self.heads * self.d
    }

    /// What scores are multiplied by.
    fn scale<T: Real>(&self) -> T {
        T::from_f64(1.0 / libm::sqrt(self.d as f64))
    }

    /// Elements between the rows of a strip: whole blocks of lanes, and an odd number of them, so that columns of a
    /// strip do not fall on few sets of the caches.
    fn stride(&self) -> usize {
        (self.time.div_ceil(LANES) | 1) * LANES
    }

    /// Elements of a strip.
    fn strip(&self) -> usize {
        ROWS.min(self.time) * self.stride()
    }

    /// Whether several workers may share a call in which each of `products` products takes all pairs of rows.
    fn parallel(&self, products: usize) -> bool {
        let pairs = self.items().saturating_mul(self.time).saturating_mul(self.time) / 2;
        pairs.saturating_mul(self.d * products) > PARALLEL_WORK
    }
}

/// Parts of a worker's scratch memory, one after another.
#[derive(Clone, Copy)]
struct Room(usize);

impl Room {
    /// The offset of `count` more elements, a whole number of cache lines from the start.
    fn take(&mut self, count: usize) -> usize {
        let at = self.0;
        self.0 += count.next_multiple_of(LANES);
        at
    }
}

/// Copies `rows` rows of `d` elements that stand `down` apart, side by side, to `to`. Strips read them again and again,
/// and rows far apart fall on few sets of the caches.
///
/// # Safety
/// The rows are in bounds, `to` has room for them elsewhere, and the CPU can run `V`.
#[inline(always)]
unsafe fn gather<V: Wide>(to: *mut V::T, from: *const V::T, down: usize, [rows, d]: [usize; 2]) -> Matrix<V::T> {
    for r in 0..rows {
        // SAFETY: as above.
        unsafe { wide::each::<V, 1>(to.add(r * d), [from.add(r * down)], d, |_, [x]| x) }
    }
    Matrix { at: to, down: d, across: 1 }
}

/// [`direct::pack`] of an operand whose rows stand `down` apart: they are few elements long, so that the call of a
/// function for each would take longer than to copy it.
///
/// # Safety
/// As there, and the CPU can run `V`.
#[inline(always)]
unsafe fn pack_rows<K: Kernel, V: Wide<T = K::T>>(
    to: *mut V::T,
    from: *const V::T,
    down: usize,
    [k, n]: [usize; 2],
) -> Packed<V::T> {
    for j in (0..n).step_by(K::NR) {
        for p in 0..k {
            // SAFETY: as above; panel j takes `k * NR` elements.
            unsafe {
                let (to, from) = (to.add(j * k + p * K::NR), from.add(p * down + j));
                wide::each::<V, 1>(to, [from], K::NR.min(n - j), |_, [x]| x);
            }
        }
    }
    Packed { at: to, depth: k }
}
