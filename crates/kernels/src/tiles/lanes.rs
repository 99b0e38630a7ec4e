//! The loops over a tile: one scalar source, compiled once for every instruction set.
//!
//! A chunk of [`CHUNK`] results is computed into a local array and then stored. So the compiler knows that no store
//! changes an operand of the same chunk and vectorises without run-time checks, and an output may stand exactly on an
//! operand. What is left is computed in shorter chunks by the same code, so position in a tile changes no bit.

use std::marker::PhantomData;

use bytemuck::Pod;

use super::{Compare, Map, Params};
use crate::isa::Isa;
use crate::math::Real;

/// The most operands a function may have.
pub(super) const MAX_ARGS: usize = 8;
/// Elements computed at once: one AVX-512 register of f32, two AVX2 registers.
pub(super) const CHUNK: usize = 16;
/// Elements computed at once in what is left: padding them to a whole chunk was slower, because a vector load has to
/// wait for the narrower stores of the padding.
const SHORT: usize = 4;

/// Addresses of the operands; those past the function's arity are stale.
pub(super) type Operands = [*const u8; MAX_ARGS];

/// A function over `n` elements.
///
/// # Safety
/// Each operand is valid for `n` reads and `out` for `n` writes of the function's types, aligned. `out` stands exactly
/// on an operand of the same size or apart from it. The CPU runs the instruction set that the kernel was made for.
pub(super) type Kernel = unsafe fn(params: &Params, n: usize, out: *mut u8, ins: &Operands);

/// A function's kernels, one for each of [`Isa::ALL`].
#[derive(Clone, Copy)]
pub(super) struct Kernels([Kernel; 3]);

impl Kernels {
    pub(super) fn get(&self, isa: Isa) -> Kernel {
        self.0[isa as usize]
    }
}

/// A scalar function with its types.
pub(super) trait Element: 'static {
    type Out: Pod + Default;

    /// Result number `i`.
    ///
    /// # Safety
    /// Element `i` of every operand is valid to read.
    unsafe fn at(params: &Params, ins: &Operands, i: usize) -> Self::Out;
}

/// Reads element `i` of operand `k`.
///
/// # Safety
/// It is valid to read as a `T`.
#[inline(always)]
unsafe fn read<T: Copy>(ins: &Operands, k: usize, i: usize) -> T {
    // SAFETY: the caller's promise.
    unsafe { *ins[k].cast::<T>().add(i) }
}

/// A [`Map`] on floats of type `T`.
pub(super) struct Mapped<T, const N: usize, M>(PhantomData<(T, M)>);

impl<T: Real, const N: usize, M: Map<N>> Element for Mapped<T, N, M> {
    type Out = T;

    #[inline(always)]
    unsafe fn at(params: &Params, ins: &Operands, i: usize) -> T {
        let mut x = [T::default(); N];
        for (k, x) in x.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *x = unsafe { read(ins, k, i) };
        }
        M::map(params, x)
    }
}

/// A [`Compare`] on floats of type `T`.
pub(super) struct Compared<T, M>(PhantomData<(T, M)>);

impl<T: Real, M: Compare> Element for Compared<T, M> {
    type Out = u32;

    #[inline(always)]
    unsafe fn at(_: &Params, ins: &Operands, i: usize) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { u32::from(M::compare::<T>(read(ins, 0, i), read(ins, 1, i))) }
    }
}

/// The bits of a value.
pub(super) trait Bits: Pod + Default {
    /// `a` if the condition is not 0, else `b`. By masks: with `if` the compiler reads only the side that is wanted,
    /// which takes a branch, and does not vectorise.
    fn select(condition: u32, a: Self, b: Self) -> Self;
}

macro_rules! bits {
    ($($bits:ty),*) => {$(
        impl Bits for $bits {
            #[inline(always)]
            fn select(condition: u32, a: $bits, b: $bits) -> $bits {
                let mask = <$bits>::from(condition != 0).wrapping_neg();
                (a & mask) | (b & !mask)
            }
        }
    )*};
}
bits!(u32, u64);

/// `where` on the bits `B` of a value.
pub(super) struct Selected<B>(PhantomData<B>);

impl<B: Bits> Element for Selected<B> {
    type Out = B;

    #[inline(always)]
    unsafe fn at(_: &Params, ins: &Operands, i: usize) -> B {
        // SAFETY: the caller's promise.
        let (condition, a, b) = unsafe { (read::<u32>(ins, 0, i), read::<B>(ins, 1, i), read::<B>(ins, 2, i)) };
        B::select(condition, a, b)
    }
}

/// The bits `B` of a value, unchanged.
pub(super) struct Copied<B>(PhantomData<B>);

impl<B: Pod + Default> Element for Copied<B> {
    type Out = B;

    #[inline(always)]
    unsafe fn at(_: &Params, ins: &Operands, i: usize) -> B {
        // SAFETY: the caller's promise.
        unsafe { read(ins, 0, i) }
    }
}

/// Conversion by `as`.
pub(super) struct Cast<A, B>(PhantomData<(A, B)>);

macro_rules! cast {
    ($($from:ty => $to:ty),*) => {$(
        impl Element for Cast<$from, $to> {
            type Out = $to;

            #[inline(always)]
            unsafe fn at(_: &Params, ins: &Operands, i: usize) -> $to {
                // SAFETY: the caller's promise.
                unsafe { read::<$from>(ins, 0, i) as $to }
            }
        }
    )*};
}
cast!(f32 => f64, f32 => u32, f64 => f32, f64 => u32, u32 => f32, u32 => f64);

/// Computes and stores `C` results from element `i` on.
///
/// # Safety
/// Those elements are valid to read and to write; see [`Kernel`].
#[inline(always)]
unsafe fn chunk<E: Element, const C: usize>(params: &Params, ins: &Operands, i: usize, out: *mut E::Out) {
    let mut y = [E::Out::default(); C];
    for (j, y) in y.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *y = unsafe { E::at(params, ins, i + j) };
    }
    keep_apart();
    // SAFETY: the caller's promise; an array is aligned as its elements are.
    unsafe { out.add(i).cast::<[E::Out; C]>().write(y) };
}

/// Copies `bytes` < 256 bytes, a multiple of 4, by a few moves of fixed size: cheaper than a call for short runs.
///
/// # Safety
/// As `std::ptr::copy_nonoverlapping`.
#[inline(always)]
pub(super) unsafe fn copy_short(src: *const u8, dst: *mut u8, bytes: usize) {
    let mut at = 0;
    // SAFETY: `at` never passes `bytes`, which the caller promised.
    unsafe {
        macro_rules! step {
            ($($size:literal)*) => {$(
                if bytes & $size != 0 {
                    dst.add(at).cast::<[u8; $size]>().write_unaligned(src.add(at).cast::<[u8; $size]>().read_unaligned());
                    at += $size;
                }
            )*};
        }
        step!(128 64 32 16 8 4);
    }
    debug_assert_eq!(at, bytes);
}

/// Stops the compiler from vectorising across chunks: it would first test at length whether operands and result overlap,
/// which costs more than a short tile, and then shuffle elements of different chunks together, at half the speed.
#[inline(always)]
fn keep_apart() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an empty instruction that touches nothing.
    unsafe {
        std::arch::asm!("", options(nomem, nostack, preserves_flags));
    }
}

/// The loop that every instruction set gets.
///
/// # Safety
/// As [`Kernel`].
#[inline(always)]
unsafe fn body<E: Element>(params: &Params, n: usize, out: *mut u8, ins: &Operands) {
    // Local copies, so that the compiler knows that no store changes them.
    let (params, ins, out) = (*params, *ins, out.cast::<E::Out>());
    // Counts by division, so that the compiler sees that the last two loops are short and leaves them as they are.
    let (shorts, singles) = (n % CHUNK / SHORT, n % SHORT);
    let mut i = 0;
    // SAFETY: the caller's promise; the chunks together have `n` elements.
    unsafe {
        for _ in 0..n / CHUNK {
            chunk::<E, CHUNK>(&params, &ins, i, out);
            i += CHUNK;
        }
        for _ in 0..shorts {
            chunk::<E, SHORT>(&params, &ins, i, out);
            i += SHORT;
        }
        for _ in 0..singles {
            chunk::<E, 1>(&params, &ins, i, out);
            i += 1;
        }
    }
}

/// # Safety
/// As [`Kernel`].
unsafe fn portable<E: Element>(params: &Params, n: usize, out: *mut u8, ins: &Operands) {
    // SAFETY: the caller's promise.
    unsafe { body::<E>(params, n, out, ins) }
}

/// # Safety
/// As [`Kernel`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<E: Element>(params: &Params, n: usize, out: *mut u8, ins: &Operands) {
    // SAFETY: the caller's promise.
    unsafe { body::<E>(params, n, out, ins) }
}

/// # Safety
/// As [`Kernel`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn avx512<E: Element>(params: &Params, n: usize, out: *mut u8, ins: &Operands) {
    // SAFETY: the caller's promise.
    unsafe { body::<E>(params, n, out, ins) }
}

/// The kernels of `E`.
pub(super) fn kernels<E: Element>() -> Kernels {
    #[cfg(target_arch = "x86_64")]
    return Kernels([portable::<E>, avx2::<E>, avx512::<E>]);
    #[cfg(not(target_arch = "x86_64"))]
    Kernels([portable::<E>; 3])
}
