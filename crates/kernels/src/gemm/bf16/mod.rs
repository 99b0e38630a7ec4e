//! Matrix products of f32 rounded to bfloat16, added in f32.
//!
//! The order is that of [`super`]: a chain of fused multiply-adds over ascending k inside blocks of [`KC`](super::KC) steps,
//! whose sums are added in order. What differs is one step ([`step`]): operands are rounded ([`round`]) while they are
//! copied, and a sum that is subnormal becomes 0. This is what the instruction `vdpbf16ps` does with two steps at a time, the
//! one in the upper halves first, so the earlier step stands there. The last block of an odd k ends with a step of
//! 0 · -0, which changes no sum, not even -0.
//!
//! `native` has the kernel with the instruction, `emulated` those of all other CPUs. Their bits are the same.

mod emulated;
#[cfg(target_arch = "x86_64")]
mod native;
#[cfg(test)]
mod tests;

use super::blocks::Blocks;
use super::layout::{self, Call};
use super::micro::Kernel;
use super::{Large, Matmul, PARALLEL_WORK, Zeros, check};
use crate::isa::Isa;
use crate::tape::Step;
use crate::tiles::Chain;
use crate::view::{DType, View};

/// The step of out = a @ b in bfloat16.
///
/// # Errors
/// As [`super::build`], or operands that are not f32.
pub(crate) fn build(isa: Isa, outs: &[View], ins: &[View], chain: Option<Chain>) -> Result<Box<dyn Step>, String> {
    build_with(isa, true, outs, ins, chain)
}

/// [`build`], without the instruction unless `native`.
fn build_with(
    isa: Isa,
    native: bool,
    outs: &[View],
    ins: &[View],
    chain: Option<Chain>,
) -> Result<Box<dyn Step>, String> {
    let ([out], [a, b]) = (outs, ins) else {
        return Err(format!("a matmul has one output and two inputs, not {} and {}", outs.len(), ins.len()));
    };
    check(isa, out, a, b)?;
    if out.dtype != DType::F32 {
        return Err(format!("a matmul in bfloat16 takes f32, not {}", out.dtype.name()));
    }
    let views = [*a, *b, *out];
    Ok(match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if native && native::supported() => plan::<native::Dot>(views, chain),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => plan::<emulated::Avx512>(views, chain),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => plan::<emulated::Avx2>(views, chain),
        _ => plan::<emulated::Portable>(views, chain),
    })
}

/// The step with kernel `K`, whatever the sizes: what is small or a single row is copied and rounded as well.
fn plan<K: Kernel<T = f32>>([a, b, out]: [View; 3], chain: Option<Chain>) -> Box<dyn Step> {
    let Call { dims, batch, swapped } = layout::resolve(&a, &b);
    let views = if swapped { [b, a, out] } else { [a, b, out] };
    if dims.work() == 0 || batch.count == 0 {
        return Matmul::boxed(views, Zeros::<f32>(out.shape.count(), std::marker::PhantomData), chain);
    }
    let parallel = dims.work().saturating_mul(batch.count) > PARALLEL_WORK;
    Matmul::boxed(views, Large { blocks: Blocks::<K>::new(dims, batch), parallel }, chain)
}

/// The nearest bfloat16, of two the one with an even last digit; subnormal numbers become 0.
///
/// Half the distance to the next bfloat16 is added to the bits, a little less where the last digit kept is even, and
/// the lower half is cut off. Finite numbers too large become infinite by the carry.
#[inline(always)]
fn round(x: f32) -> f32 {
    let bits = x.to_bits();
    let near = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    let sign = bits & 0x8000_0000;
    let size = bits ^ sign;
    // A NaN keeps its upper half, and a digit, or it could become infinite.
    let rounded = if size > f32::INFINITY.to_bits() { bits & 0xffff_0000 | 0x0040_0000 } else { near };
    f32::from_bits(if size < f32::MIN_POSITIVE.to_bits() { sign } else { rounded })
}

/// sum + a · b rounded once, and 0 of its sign where it is subnormal, without a branch. Operands are not subnormal.
///
/// A sum counts as subnormal if it is below the smallest normal number when rounded to 24 digits, as if there were no end
/// to exponents. The f32 nearest to it may be that smallest number already; then it is looked at again 2^64 times larger.
/// There no operand overflows: digits below those of a subnormal come from a product below 2^-132 only.
#[inline(always)]
fn step(a: f32, b: f32, sum: f32) -> f32 {
    const UP: f32 = (1u128 << 64) as f32;
    const LEAST: f32 = f32::MIN_POSITIVE;
    let next = a.mul_add(b, sum);
    let larger = (a * UP).mul_add(b, sum * UP);
    let size = next.abs();
    let tiny = (size < LEAST) | ((size == LEAST) & (larger.abs() < LEAST * UP));
    if tiny { 0f32.copysign(next) } else { next }
}
