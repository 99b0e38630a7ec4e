//! Blocks of [`LANES`] numbers in the registers of one instruction set.
//!
//! Rows are short, and a row is seldom a whole number of blocks. What decides there is that sums stay in registers, that
//! the tree over the lanes is a few shuffles, and that the last elements of a row are read and written by a mask instead
//! of by way of memory. A compiler finds none of this in plain loops, so the few moves and sums are written out;
//! functions of one element are still the scalar ones, mapped over the lanes.
//!
//! Loops are spelled out with `while`: what a `step_by` computes beforehand costs as much as a short row.
//!
//! Functions are inlined into the steps that [`for_wide`] makes, which enable the instructions that they use.

#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::array::from_fn;

use super::lanes::{self, Add, CHUNK, LANES};
use crate::math::Real;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// [`LANES`] numbers.
///
/// # Safety
/// Every function needs a CPU with the instructions of its type. Loads and stores touch [`LANES`] elements from `p` on,
/// those that take a [`Wide::First`] the first elements that it names and no others; no alignment is asked for.
pub(crate) trait Wide: Copy + Send + Sync + 'static {
    /// Type of a lane.
    type T: Real;
    /// Names the first few lanes.
    type First: Copy;
    /// The first `n` lanes, `n <= LANES`.
    unsafe fn first(n: usize) -> Self::First;
    /// `x` in all lanes.
    unsafe fn splat(x: Self::T) -> Self;
    /// `x` in one lane and 0 in the others; 0 in all where that lane does not exist.
    unsafe fn only(lane: usize, x: Self::T) -> Self;
    /// [`LANES`] elements.
    unsafe fn load(p: *const Self::T) -> Self;
    /// The first elements, and `pad` in the other lanes.
    unsafe fn load_first(p: *const Self::T, first: Self::First, pad: Self) -> Self;
    /// Writes all lanes.
    unsafe fn store(self, p: *mut Self::T);
    /// Writes the first lanes.
    unsafe fn store_first(self, p: *mut Self::T, first: Self::First);
    /// The first lanes, and 0 in the others.
    unsafe fn keep_first(self, first: Self::First) -> Self;
    /// `self + b`.
    unsafe fn add(self, b: Self) -> Self;
    /// `self - b`.
    unsafe fn sub(self, b: Self) -> Self;
    /// `self * b`.
    unsafe fn mul(self, b: Self) -> Self;
    /// `self / b`.
    unsafe fn div(self, b: Self) -> Self;
    /// `self * b + c`, rounded once.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// `-self`.
    unsafe fn neg(self) -> Self;
    /// `self` where it is larger than `b`, else `b`: not where it is NaN.
    unsafe fn larger(self, b: Self) -> Self;
    /// `self` where it is larger than `b` or NaN, else `b`.
    unsafe fn larger_or_nan(self, b: Self) -> Self;
    /// The sum of all lanes by the fixed tree: `i` and `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
    unsafe fn sum(self) -> Self::T;
    /// The largest of all lanes, none of them NaN; of several zeros any.
    unsafe fn largest(self) -> Self::T;
    /// The first `n` lanes mapped by `f`; the others are mapped too, or 0.
    unsafe fn map(self, n: usize, f: impl Fn(Self::T) -> Self::T) -> Self;
    /// e to the power of the first `n` lanes, with the bits of [`Real::exp`]; the others too, or 0.
    #[inline(always)]
    unsafe fn exp(self, n: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.map(n, Real::exp) }
    }
    /// All lanes.
    unsafe fn lanes(self) -> [Self::T; LANES];
}

/// What the build target guarantees, or whatever the compiler makes of it where more is enabled.
#[derive(Clone, Copy)]
pub(crate) struct Plain<T>([T; LANES]);

impl<T: Real> Wide for Plain<T> {
    type T = T;
    type First = usize;

    #[inline(always)]
    unsafe fn first(n: usize) -> usize {
        n
    }

    #[inline(always)]
    unsafe fn splat(x: T) -> Self {
        Plain([x; LANES])
    }

    #[inline(always)]
    unsafe fn only(lane: usize, x: T) -> Self {
        Plain(from_fn(|i| if i == lane { x } else { T::ZERO }))
    }

    #[inline(always)]
    unsafe fn load(p: *const T) -> Self {
        // SAFETY: the caller may read a block.
        Plain(unsafe { p.cast::<[T; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_first(p: *const T, first: usize, pad: Self) -> Self {
        let mut block = pad.0;
        // SAFETY: the caller may read the first elements.
        unsafe { copy_first(p, block.as_mut_ptr(), first) };
        Plain(block)
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut T) {
        // SAFETY: the caller may write a block.
        unsafe { p.cast::<[T; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut T, first: usize) {
        // SAFETY: the caller may write the first elements.
        unsafe { copy_first(self.0.as_ptr(), p, first) }
    }

    #[inline(always)]
    unsafe fn keep_first(self, first: usize) -> Self {
        Plain(from_fn(|i| if i < first { self.0[i] } else { T::ZERO }))
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Plain(from_fn(|i| self.0[i] + b.0[i]))
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Plain(from_fn(|i| self.0[i] - b.0[i]))
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Plain(from_fn(|i| self.0[i] * b.0[i]))
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        Plain(from_fn(|i| self.0[i] / b.0[i]))
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        Plain(from_fn(|i| self.0[i].mul_add(b.0[i], c.0[i])))
    }

    #[inline(always)]
    unsafe fn neg(self) -> Self {
        Plain(from_fn(|i| -self.0[i]))
    }

    #[inline(always)]
    unsafe fn larger(self, b: Self) -> Self {
        Plain(from_fn(|i| if self.0[i] > b.0[i] { self.0[i] } else { b.0[i] }))
    }

    #[inline(always)]
    unsafe fn larger_or_nan(self, b: Self) -> Self {
        Plain(from_fn(|i| self.0[i].max(b.0[i])))
    }

    #[inline(always)]
    unsafe fn sum(self) -> T {
        lanes::tree::<T, Add>(self.0)
    }

    #[inline(always)]
    unsafe fn largest(self) -> T {
        self.0.into_iter().fold(T::NEG_INFINITY, |most, x| if x > most { x } else { most })
    }

    #[inline(always)]
    unsafe fn map(self, n: usize, f: impl Fn(T) -> T) -> Self {
        // A function of f64 is a call for each element.
        let mut block = [T::ZERO; LANES];
        for (y, x) in block.iter_mut().zip(self.0).take(n) {
            *y = f(x);
        }
        Plain(block)
    }

    #[inline(always)]
    unsafe fn lanes(self) -> [T; LANES] {
        self.0
    }
}

/// Copies at most [`LANES`] elements in pieces of constant size: a call of `memcpy` would cost more than the sum of a
/// short row.
///
/// # Safety
/// `len` elements can be read and written, in different places.
#[inline(always)]
pub(crate) unsafe fn copy_first<T: Copy>(from: *const T, to: *mut T, len: usize) {
    let mut at = 0;
    // SAFETY: the pieces make up `len`.
    unsafe {
        if len & 16 != 0 {
            return to.copy_from_nonoverlapping(from, 16);
        }
        if len & 8 != 0 {
            to.copy_from_nonoverlapping(from, 8);
            at = 8;
        }
        if len & 4 != 0 {
            to.add(at).copy_from_nonoverlapping(from.add(at), 4);
            at += 4;
        }
        if len & 2 != 0 {
            to.add(at).copy_from_nonoverlapping(from.add(at), 2);
            at += 2;
        }
        if len & 1 != 0 {
            to.add(at).write(from.add(at).read());
        }
    }
}

/// The lanes of a chunk by the lane rule (or of a longer list, where the order does not matter): `lane = put(lane, elements)` over `len` positions of `K` contiguous lists.
/// The last lanes are filled up with `pad`, for which `put(lane, pad) == lane` must hold.
///
/// # Safety
/// `len` elements can be read from each pointer, and the CPU can run `V`.
#[inline(always)]
pub(crate) unsafe fn chunk<V: Wide, const K: usize>(
    identity: V::T,
    lists: [*const V::T; K],
    pad: [V::T; K],
    len: usize,
    put: impl Fn(V, [V; K]) -> V,
) -> V {
    let whole = len / LANES * LANES;
    // SAFETY: blocks below `whole` are whole, and the last one is read as far as the list goes.
    unsafe {
        let mut lanes = V::splat(identity);
        let mut at = 0;
        while at < whole {
            lanes = put(lanes, from_fn(|k| V::load(lists[k].add(at))));
            at += LANES;
        }
        if whole < len {
            let first = V::first(len - whole);
            lanes = put(lanes, from_fn(|k| V::load_first(lists[k].add(whole), first, V::splat(pad[k]))));
        }
        lanes
    }
}

/// The sum over lists of any length by the lane rule, as [`chunk`].
///
/// # Safety
/// As [`chunk`].
#[inline(always)]
pub(crate) unsafe fn sum_of<V: Wide, const K: usize>(
    lists: [*const V::T; K],
    pad: [V::T; K],
    len: usize,
    put: impl Fn(V, [V; K]) -> V,
) -> V::T {
    let mut total = V::T::ZERO;
    let mut at = 0;
    while at < len {
        // SAFETY: the chunk lies in the lists.
        let part = unsafe { chunk(V::T::ZERO, lists.map(|p| p.add(at)), pad, (len - at).min(CHUNK), &put).sum() };
        total = total + part;
        at += CHUNK;
    }
    total
}

/// The sum of a list by the lane rule.
///
/// # Safety
/// As [`chunk`].
#[inline(always)]
pub(crate) unsafe fn sum<V: Wide>(x: *const V::T, len: usize) -> V::T {
    // SAFETY: as above.
    unsafe { sum_of::<V, 1>([x], [V::T::ZERO], len, |lane, [x]| lane.add(x)) }
}

/// The largest of the elements that are not NaN, -inf for none; of several zeros any.
///
/// # Safety
/// As [`chunk`].
#[inline(always)]
pub(crate) unsafe fn largest<V: Wide>(x: *const V::T, len: usize) -> V::T {
    /// Blocks that are compared side by side: one after another, each would wait for the one before.
    const MANY: usize = 4;
    // SAFETY: as in `chunk`.
    unsafe {
        let none = V::T::NEG_INFINITY;
        let mut at = 0;
        let mut most = V::splat(none);
        if len >= MANY * LANES {
            let mut many = [most; MANY];
            while at + MANY * LANES <= len {
                for (i, most) in many.iter_mut().enumerate() {
                    *most = V::load(x.add(at + i * LANES)).larger(*most);
                }
                at += MANY * LANES;
            }
            most = many[0].larger(many[1]).larger(many[2].larger(many[3]));
        }
        chunk(none, [x.add(at)], [none], len - at, |most: V, [x]| x.larger(most)).larger(most).largest()
    }
}

/// `out = f(position, elements)` for each block of `len` positions of `K` contiguous lists.
///
/// # Safety
/// As [`chunk`], and as many elements can be written. They may stand exactly on a list.
#[inline(always)]
pub(crate) unsafe fn each<V: Wide, const K: usize>(
    out: *mut V::T,
    lists: [*const V::T; K],
    len: usize,
    f: impl Fn(usize, [V; K]) -> V,
) {
    let whole = len / LANES * LANES;
    // SAFETY: as in `chunk`.
    unsafe {
        let mut at = 0;
        while at < whole {
            f(at, from_fn(|k| V::load(lists[k].add(at)))).store(out.add(at));
            at += LANES;
        }
        if whole < len {
            let first = V::first(len - whole);
            let pad = V::splat(V::T::ZERO);
            f(whole, from_fn(|k| V::load_first(lists[k].add(whole), first, pad))).store_first(out.add(whole), first);
        }
    }
}

/// A step of `$body`, in which `$V` is the block of the float type that `$dtype` names and the instruction set `$isa`.
macro_rules! for_wide {
    ($dtype:expr, $isa:expr, $V:ident => $body:expr) => {
        match ($dtype, $isa) {
            #[cfg(target_arch = "x86_64")]
            ($crate::view::DType::F32, $crate::isa::Isa::Avx512) if $isa.supported() => {
                type $V = $crate::reduce::wide::Avx512;
                $crate::reduce::dispatch::step($isa, $body)
            }
            #[cfg(target_arch = "x86_64")]
            ($crate::view::DType::F32, $crate::isa::Isa::Avx2) if $isa.supported() => {
                type $V = $crate::reduce::wide::Avx2;
                $crate::reduce::dispatch::step($isa, $body)
            }
            ($crate::view::DType::F32, _) => {
                type $V = $crate::reduce::wide::Plain<f32>;
                $crate::reduce::dispatch::step($isa, $body)
            }
            _ => {
                type $V = $crate::reduce::wide::Plain<f64>;
                $crate::reduce::dispatch::step($isa, $body)
            }
        }
    };
}
pub(crate) use for_wide;
