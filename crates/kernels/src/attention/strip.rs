//! The rows of a strip: `rows` queries from number `first` on against the keys `0..first + rows`. Row r may look at its
//! first `first + r + 1` keys; what stands behind them is set to 0 before anybody multiplies with it.

use crate::gemm::direct::{Kernel, Matrix, Packed, Target, product};
use crate::math::Real;
use crate::reduce::lanes::LANES;
use crate::reduce::wide::{self, Wide};
use crate::rows::exponentials;

/// Rows that are worked on side by side.
const GROUP: usize = 8;

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
    /// The strip is in bounds, and the CPU can run `V`.
    #[inline(always)]
    pub(super) unsafe fn softmax<V: Wide<T = T>>(&self, scale: T) {
        // A row waits for its largest element and for its sum; several rows do so at the same time.
        for group in (0..self.rows).step_by(GROUP) {
            let rows = group..self.rows.min(group + GROUP);
            let (mut most, mut sums) = ([T::ZERO; GROUP], [T::ZERO; GROUP]);
            // SAFETY: whole blocks of lanes belong to a row, those that reach behind the last key too.
            unsafe {
                let scales = V::splat(scale);
                for (r, most) in rows.clone().zip(&mut most) {
                    *most = wide::largest::<V>(self.row(r), self.seen(r));
                }
                for ((r, most), sum) in rows.clone().zip(most).zip(&mut sums) {
                    // Rounding keeps order, so this is the largest of the scaled scores, to the bit.
                    let least = V::splat(most * scale);
                    let to = (self.row(r), self.stride);
                    *sum = exponentials::<V, true>(self.row(r), to, self.seen(r), most, |x| x.mul(scales).sub(least));
                }
                for (r, sum) in rows.zip(sums) {
                    let sum = V::splat(sum);
                    self.finish::<V>(r, |_, e| e.div(sum));
                }
            }
        }
    }

    /// x = f(position, x) for the keys that row `r` may look at, and 0 behind them.
    ///
    /// # Safety
    /// As [`Strip::softmax`]; the row exists.
    #[inline(always)]
    unsafe fn finish<V: Wide<T = T>>(&self, r: usize, f: impl Fn(usize, V) -> V) {
        let (row, len) = (self.row(r), self.seen(r));
        let whole = len / LANES * LANES;
        // SAFETY: as there.
        unsafe {
            let mut at = 0;
            while at < whole {
                f(at, V::load(row.add(at))).store(row.add(at));
                at += LANES;
            }
            if whole < len {
                f(whole, V::load(row.add(whole))).keep_first(V::first(len - whole)).store(row.add(whole));
                at += LANES;
            }
            while at < self.keys() {
                V::splat(T::ZERO).store(row.add(at));
                at += LANES;
            }
        }
    }

    /// This strip holds the cotangents of the probabilities `probs`; it becomes that of the products of queries and
    /// keys: p · (ct - Σ p · ct) · scale row by row, and 0 behind the keys that a row may look at.
    ///
    /// # Safety
    /// Both strips are in bounds, alike and apart, and the CPU can run `V`.
    #[inline(always)]
    pub(super) unsafe fn softmax_grad<V: Wide<T = T>>(&self, probs: &Strip<T>, scale: T) {
        for group in (0..self.rows).step_by(GROUP) {
            let rows = group..self.rows.min(group + GROUP);
            let mut sums = [T::ZERO; GROUP];
            // SAFETY: `seen` elements belong to both rows, and whole blocks of lanes.
            unsafe {
                for (r, sum) in rows.clone().zip(&mut sums) {
                    let lists = [probs.row(r).cast_const(), self.row(r).cast_const()];
                    let zeros = [T::ZERO; 2];
                    *sum = wide::sum_of::<V, 2>(lists, zeros, self.seen(r), |lane, [p, ct]| lane.add(p.mul(ct)));
                }
                let scale = V::splat(scale);
                for (r, sum) in rows.zip(sums) {
                    let (p, sum) = (probs.row(r), V::splat(sum));
                    self.finish::<V>(r, |at, ct| V::load(p.add(at)).mul(ct.sub(sum)).mul(scale));
                }
            }
        }
    }
}
