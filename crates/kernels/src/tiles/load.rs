//! Brings the elements of a view with any strides into row-major order.

use super::lanes::copy_short;
use crate::shape::MAX_RANK;
use crate::view::View;

/// Rows and columns of a block of a transposed copy: one cache line of f32 each way.
const BLOCK: usize = 16;

/// The axes of a view, outermost first, without those of length 1 and with neighbours joined where one stride serves
/// both. At least two, so that the loop over rows needs no special case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axes {
    rank: usize,
    len: [usize; MAX_RANK],
    /// In elements.
    stride: [usize; MAX_RANK],
}

impl Axes {
    pub(super) fn of(view: &View) -> Axes {
        // Built from the innermost axis outwards, then turned around.
        let mut axes: Vec<(usize, usize)> = Vec::new();
        for (len, stride) in view.shape.dims().iter().copied().zip(view.strides).rev() {
            match axes.last_mut() {
                _ if len == 1 => {}
                Some(inner) if stride == inner.0 * inner.1 => inner.0 *= len,
                _ => axes.push((len, stride)),
            }
        }
        while axes.len() < 2 {
            axes.push((1, 0));
        }
        let mut all = Axes { rank: axes.len(), len: [1; MAX_RANK], stride: [0; MAX_RANK] };
        for (axis, (len, stride)) in axes.into_iter().rev().enumerate() {
            (all.len[axis], all.stride[axis]) = (len, stride);
        }
        all
    }

    /// Whether one element is repeated everywhere.
    pub(super) fn is_splat(&self) -> bool {
        self.rank == 2 && self.len[0] == 1 && self.stride[1] == 0
    }

    /// Elements of a tile, `least` or more, of a copy that needs no scratch memory: if the view is a transposed one,
    /// whole blocks of rows.
    pub(super) fn copy_tile(&self, least: usize) -> usize {
        let (down, right) = (self.stride[self.rank - 2], self.stride[self.rank - 1]);
        let block = self.len[self.rank - 1] * BLOCK;
        if down == 0 || right <= down { least } else { block * least.div_ceil(block) }
    }

    /// Copies `n` elements, from number `start` in row-major order on, to `dst`.
    ///
    /// # Safety
    /// `src` is the view's first element, all of the view is readable, `dst` takes `n` elements apart from it, both
    /// aligned for `T`; `start + n` is at most the view's count.
    #[inline]
    pub(super) unsafe fn load<T: Copy>(&self, src: *const T, start: usize, n: usize, dst: *mut T) {
        let (outer, rows, cols) = (self.rank - 2, self.len[self.rank - 2], self.len[self.rank - 1]);
        // SAFETY: the caller's promise; `walk` stays inside the view.
        unsafe {
            if outer == 0 && start == 0 && n == rows * cols {
                // All of a small matrix at once: the usual case of a bias in a small net.
                return self.rows(src, rows, cols, dst);
            }
            self.walk(src, start, n, dst);
        }
    }

    /// [`Axes::load`] for any part of any view.
    ///
    /// # Safety
    /// As [`Axes::load`].
    #[inline(never)]
    unsafe fn walk<T: Copy>(&self, src: *const T, start: usize, n: usize, mut dst: *mut T) {
        let mut index = [0; MAX_RANK];
        let mut rest = start;
        for axis in (0..self.rank).rev() {
            index[axis] = rest % self.len[axis];
            rest /= self.len[axis];
        }
        let (row, col) = (self.rank - 2, self.rank - 1);
        let (rows, cols) = (self.len[row], self.len[col]);
        let mut left = n;
        while left > 0 {
            let at: usize = (0..self.rank).map(|axis| index[axis] * self.stride[axis]).sum();
            // The rest of a row that was begun, as many whole rows as there are, or the beginning of the last one.
            let (count, len) = match (index[col], left / cols) {
                (0, whole) if whole > 0 => (whole.min(rows - index[row]), cols),
                (begun, _) => (1, (cols - begun).min(left)),
            };
            // SAFETY: `index` lies inside the view, and so do the `count` rows of `len` elements from there on.
            unsafe {
                self.rows(src.add(at), count, len, dst);
                dst = dst.add(count * len);
            }
            left -= count * len;
            index[col] += len;
            if index[col] == cols {
                index[col] = 0;
                index[row] += count;
            }
            for axis in (1..=row).rev() {
                if index[axis] == self.len[axis] {
                    index[axis] = 0;
                    index[axis - 1] += 1;
                }
            }
        }
    }

    /// Copies `rows` rows of `len` elements.
    ///
    /// # Safety
    /// They lie inside the view, and `dst` takes them all.
    #[inline(always)]
    unsafe fn rows<T: Copy>(&self, src: *const T, rows: usize, len: usize, dst: *mut T) {
        let (down, right) = (self.stride[self.rank - 2], self.stride[self.rank - 1]);
        let bytes = len * size_of::<T>();
        // SAFETY: the caller's promise: row `r`, column `c` stands `r * down + c * right` after `src`.
        unsafe {
            match right {
                1 if bytes == 16 => {
                    for r in 0..rows {
                        dst.add(r * len).cast::<[u8; 16]>().write(src.add(r * down).cast::<[u8; 16]>().read());
                    }
                }
                1 if bytes < 256 => {
                    for r in 0..rows {
                        copy_short(src.add(r * down).cast(), dst.add(r * len).cast(), bytes);
                    }
                }
                1 => {
                    for r in 0..rows {
                        std::ptr::copy_nonoverlapping(src.add(r * down), dst.add(r * len), len);
                    }
                }
                0 => {
                    for r in 0..rows {
                        std::slice::from_raw_parts_mut(dst.add(r * len), len).fill(*src.add(r * down));
                    }
                }
                _ => blocks(src, (down, right), (rows, len), dst),
            }
        }
    }
}

/// Copies a matrix of `rows` by `cols` elements whose rows are not runs, block by block: each cache line of a
/// transposed source is then read once and not once for every row.
///
/// # Safety
/// Element (r, c) is readable at `src + r * down + c * right`, and `dst` takes them all.
#[inline(always)]
unsafe fn blocks<T: Copy>(src: *const T, (down, right): (usize, usize), (rows, cols): (usize, usize), dst: *mut T) {
    for top in (0..rows).step_by(BLOCK) {
        for left in (0..cols).step_by(BLOCK) {
            // SAFETY: the caller's promise.
            unsafe {
                let (src, dst) = (src.add(top * down + left * right), dst.add(top * cols + left));
                if down == 1 && rows - top >= BLOCK && cols - left >= BLOCK {
                    transpose(src, right, dst, cols);
                    continue;
                }
                for r in 0..BLOCK.min(rows - top) {
                    for c in 0..BLOCK.min(cols - left) {
                        *dst.add(r * cols + c) = *src.add(r * down + c * right);
                    }
                }
            }
        }
    }
}

/// Transposes one whole block: its columns are runs of `src`, `right` elements apart, its rows runs of `dst`, `cols`
/// apart. Whole runs go through a local block: with strides of a power of two the lines of a block share one cache set.
///
/// # Safety
/// All of the block is readable and writable.
#[inline(always)]
unsafe fn transpose<T: Copy>(src: *const T, right: usize, dst: *mut T, cols: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let block: [[T; BLOCK]; BLOCK] = std::array::from_fn(|c| src.add(c * right).cast::<[T; BLOCK]>().read());
        // By index: `block.map` copies whole columns, which is several times slower.
        #[allow(clippy::needless_range_loop)]
        for r in 0..BLOCK {
            let row: [T; BLOCK] = std::array::from_fn(|c| block[c][r]);
            dst.add(r * cols).cast::<[T; BLOCK]>().write(row);
        }
    }
}
