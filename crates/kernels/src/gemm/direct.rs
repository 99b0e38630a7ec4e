//! Products on bare addresses, for kernels that are made of several of them (attention). The right operand is copied
//! once and read by many products; the left one is read where it stands.
//!
//! The order of every sum is that of [`super`].

use super::KC;
pub(crate) use super::micro::Kernel;
#[cfg(target_arch = "x86_64")]
pub(crate) use super::micro::{Avx2F32, Avx2F64, Avx512F32, Avx512F64};
use super::micro::{Panel, Tile};
pub(crate) use super::micro::{Portable32, Portable64};
use super::pack::Strided;

/// Bytes of the block of the left operand that every panel of columns reads again.
const BLOCK_BYTES: usize = 256 * 1024;

/// A matrix in memory: the address of its first element, and its strides in elements between rows and columns.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<T> {
    pub(crate) at: *const T,
    pub(crate) down: usize,
    pub(crate) across: usize,
}

/// A right operand as [`pack`] lays it down: panels of NR columns one after another, each of `depth` rows of NR
/// elements. A panel is found at `depth` elements times its first column.
#[derive(Clone, Copy)]
pub(crate) struct Packed<T> {
    pub(crate) at: *const T,
    pub(crate) depth: usize,
}

/// Where a product goes: rows `down` elements apart, their columns side by side.
#[derive(Clone, Copy)]
pub(crate) struct Target<T> {
    pub(crate) at: *mut T,
    pub(crate) down: usize,
    /// Whether it is added to what stands there.
    pub(crate) add: bool,
}

/// Elements of a packed right operand (k, n).
pub(crate) fn packed<K: Kernel>(k: usize, n: usize) -> usize {
    n.next_multiple_of(K::NR) * k
}

/// Lays b (k, n) down at `to`.
///
/// # Safety
/// b is in bounds, `to` has room for [`packed`] elements elsewhere, and the CPU can run `K`.
#[inline(always)]
pub(crate) unsafe fn pack<K: Kernel>(to: *mut K::T, b: Matrix<K::T>, [k, n]: [usize; 2]) -> Packed<K::T> {
    for j in (0..n).step_by(K::NR) {
        let at = b.at.wrapping_add(j * b.across);
        let panel = Strided { at, depth: k, along_k: b.down, width: K::NR.min(n - j), across: b.across };
        // SAFETY: the caller's promise; a panel takes `k * NR` elements.
        unsafe { K::pack_b(to.add(j * k), panel) }
    }
    Packed { at: to, depth: k }
}

/// c (m, n) = or += a (m, k) @ the first k rows and n columns of b. Each sum over k is made of blocks of [`KC`] that
/// are added in order; if c is added to, the blocks are added to it one by one.
///
/// # Safety
/// The operands are in bounds, nobody else touches c, and the CPU can run `K`.
#[inline(always)]
pub(crate) unsafe fn product<K: Kernel>(c: Target<K::T>, a: Matrix<K::T>, b: Packed<K::T>, [m, n, k]: [usize; 3]) {
    let most = (BLOCK_BYTES / (k.clamp(1, KC) * size_of::<K::T>())).next_multiple_of(K::MR);
    for i in (0..m).step_by(most) {
        for p in (0..k).step_by(KC) {
            for j in (0..n).step_by(K::NR) {
                let first = Tile {
                    depth: KC.min(k - p),
                    a: a.at.wrapping_add(i * a.down + p * a.across),
                    rsa: a.down,
                    csa: a.across,
                    b: b.at.wrapping_add(b.depth * j + p * K::NR),
                    ldb: K::NR,
                    step: 0,
                    lane: 1,
                    c: c.at.wrapping_add(i * c.down + j),
                    ldc: c.down,
                    across: 0,
                    add: c.add || p > 0,
                };
                let panel = Panel { rows: most.min(m - i), cols: K::NR.min(n - j), first, packed: false };
                // SAFETY: the caller's promise; rows, columns and steps are inside the operands.
                unsafe { K::panel(&panel) }
            }
        }
    }
}
