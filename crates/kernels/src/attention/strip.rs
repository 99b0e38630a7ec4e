//! The rows of a strip: `rows` queries from number `first` on against the keys `0..first + rows`. Row r may look at its
//! first `first + r + 1` keys; what stands behind them is set to 0 before anybody multiplies with it.

use crate::gemm::direct::{Kernel, Matrix, Packed, Target, product};
use crate::math::Real;
use crate::reduce::lanes::{self, Add, CHUNK, LANES};

/// A strip in memory.
#[derive(Clone, Copy)]
pub(super) struct Strip<T> {
    pub(super) at: *mut T,
    /// Elements between rows, a multiple of [`LANES`].
    pub(super) stride: usize,
    /// Number of its first query.
    pub(super) first: usize,
    pub(super) rows: usize,
}

impl<T: Real> Strip<T> {
    /// Number of keys: one past the last query.
    #[inline(always)]
    pub(super) fn keys(&self) -> usize {
        self.first + self.rows
    }

    /// Number of keys of row `r`.
    #[inline(always)]
    fn seen(&self, r: usize) -> usize {
        self.first + r + 1
    }

    #[inline(always)]
    fn row(&self, r: usize) -> *mut T {
        self.at.wrapping_add(r * self.stride)
    }

    /// The strip as a matrix (rows, keys).
    #[inline(always)]
    pub(super) fn matrix(&self) -> Matrix<T> {
        Matrix { at: self.at, down: self.stride, across: 1 }
    }

    /// The rows of keys from `key` on of the transposed strip (keys, rows).
    #[inline(always)]
    pub(super) fn transposed(&self, key: usize) -> Matrix<T> {
        Matrix { at: self.at.wrapping_add(key), down: 1, across: self.stride }
    }

    /// strip = a (rows, d) @ b (d, keys) where a row may look; elsewhere some of it, the rest stays stale.
    ///
    /// # Safety
    /// The strip and the operands are in bounds, and the CPU can run `K`.
    #[inline(always)]
    pub(super) unsafe fn fill<K: Kernel<T = T>>(&self, a: Matrix<T>, b: Packed<T>, d: usize) {
        for j in (0..self.keys()).step_by(K::NR) {
            // Rows before this panel's first key do not look at it.
            let above = j.saturating_sub(self.first);
            let a = Matrix { at: a.at.wrapping_add(above * a.down), ..a };
            let b = Packed { at: b.at.wrapping_add(j * b.depth), ..b };
            let to = Target { at: self.row(above).wrapping_add(j), down: self.stride, add: false };
            // SAFETY: the panel's rows and columns are inside the strip.
            unsafe { product::<K>(to, a, b, [self.rows - above, K::NR.min(self.keys() - j), d]) }
        }
    }

    /// Row by row softmax(strip · scale) over the keys that the row may look at, and 0 behind them. The order of every
    /// step is that of the kernel `softmax`: largest element and sum by the lane rule, then a true division.
    ///
    /// # Safety
    /// The strip is in bounds.
    #[inline(always)]
    pub(super) unsafe fn softmax(&self, scale: T) {
        for r in 0..self.rows {
            let (row, len) = (self.row(r), self.seen(r));
            // Filled up to a whole block with -inf, which is never the largest and whose exponential adds 0.
            let whole = len.next_multiple_of(LANES);
            // SAFETY: `whole <= stride` elements belong to the row.
            unsafe {
                fill(row, len, whole, T::NEG_INFINITY);
                // Rounding keeps order, so this is the largest of the scaled scores, to the bit.
                let most = lanes::max(row, whole) * scale;
                let sum = exponentials(row, whole, |x| (x * scale - most).exp());
                for at in (0..whole).step_by(LANES) {
                    each(row.add(at), |e| e / sum);
                }
                fill(row, len, self.keys(), T::ZERO);
            }
        }
    }

    /// This strip holds the cotangents of the probabilities `probs`; it becomes that of the products of queries and
    /// keys: p · (ct - Σ p · ct) · scale row by row, and 0 behind the keys that a row may look at.
    ///
    /// # Safety
    /// Both strips are in bounds, alike and apart.
    #[inline(always)]
    pub(super) unsafe fn softmax_grad(&self, probs: &Strip<T>, scale: T) {
        for r in 0..self.rows {
            let (row, p, len) = (self.row(r), probs.row(r), self.seen(r));
            // SAFETY: `len` elements belong to both rows.
            unsafe {
                let lists = [p.cast_const(), row.cast_const()];
                let sum = lanes::list::<T, Add, T, 2>(lists, [T::ZERO; 2], len, |lane, [p, ct]| lane + p * ct);
                for i in 0..len {
                    let (p, ct) = (p.add(i).read(), row.add(i).read());
                    row.add(i).write(p * (ct - sum) * scale);
                }
                fill(row, len, self.keys(), T::ZERO);
            }
        }
    }
}

/// Sets elements `from..to` of a row.
///
/// # Safety
/// They belong to it.
#[inline(always)]
unsafe fn fill<T: Real>(row: *mut T, from: usize, to: usize, value: T) {
    for i in from..to {
        // SAFETY: as above.
        unsafe { row.add(i).write(value) }
    }
}

/// x = f(x) for a block of lanes, which is returned.
///
/// # Safety
/// It can be read and written.
#[inline(always)]
unsafe fn each<T: Real>(block: *mut T, f: impl Fn(T) -> T) -> [T; LANES] {
    // SAFETY: as above.
    unsafe {
        let mut x = block.cast::<[T; LANES]>().read();
        for x in &mut x {
            *x = f(*x);
        }
        block.cast::<[T; LANES]>().write(x);
        x
    }
}

/// x = f(x) for each of `len` elements; returns their sum by the lane rule, as [`lanes::sum`] has it.
///
/// # Safety
/// They can be read and written, and `len` is a multiple of [`LANES`].
#[inline(always)]
unsafe fn exponentials<T: Real>(row: *mut T, len: usize, f: impl Fn(T) -> T) -> T {
    let mut total = T::ZERO;
    for start in (0..len).step_by(CHUNK) {
        let mut sums = [T::ZERO; LANES];
        for at in (start..len.min(start + CHUNK)).step_by(LANES) {
            // SAFETY: as above.
            let block = unsafe { each(row.add(at), &f) };
            for (sum, x) in sums.iter_mut().zip(block) {
                *sum = *sum + x;
            }
        }
        total = total + lanes::tree::<T, Add>(sums);
    }
    total
}
