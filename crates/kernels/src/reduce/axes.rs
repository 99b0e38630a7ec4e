//! Lists of elements that stand at strided places: some axes of a view, collapsed once when the tape is built.

use crate::shape::MAX_RANK;
use crate::view::View;

/// Axes in row-major order. Axes of length 1 are left out, and neighbours that can be walked as one are merged, so that
/// most lists end up with one axis. Position `i` of the list does not depend on that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axes {
    rank: usize,
    dims: [usize; MAX_RANK],
    strides: [usize; MAX_RANK],
}

impl Axes {
    /// The axes of `view` for which `keep` holds.
    pub(crate) fn of(view: &View, keep: impl Fn(usize) -> bool) -> Axes {
        let mut axes = Axes { rank: 0, dims: [0; MAX_RANK], strides: [0; MAX_RANK] };
        for (axis, (&len, &stride)) in view.shape.dims().iter().zip(&view.strides).enumerate() {
            if keep(axis) && len != 1 {
                axes.push(len, stride);
            }
        }
        axes
    }

    fn push(&mut self, len: usize, stride: usize) {
        if self.rank > 0 && self.strides[self.rank - 1] == stride.wrapping_mul(len) {
            self.dims[self.rank - 1] *= len;
            self.strides[self.rank - 1] = stride;
        } else {
            self.dims[self.rank] = len;
            self.strides[self.rank] = stride;
            self.rank += 1;
        }
    }

    /// Number of elements; 1 for no axes.
    pub(crate) fn count(&self) -> usize {
        self.dims[..self.rank].iter().product()
    }

    /// Length and stride of the innermost axis; a list of one element has length 1.
    #[inline(always)]
    pub(crate) fn inner(&self) -> (usize, usize) {
        if self.rank == 0 { (1, 1) } else { (self.dims[self.rank - 1], self.strides[self.rank - 1]) }
    }

    /// Whether the elements stand one after another.
    #[inline(always)]
    pub(crate) fn is_run(&self) -> bool {
        self.rank == 0 || self.rank == 1 && self.strides[0] == 1
    }

    /// Offset of element `index`, which must exist.
    #[inline(always)]
    pub(crate) fn offset(&self, mut index: usize) -> usize {
        let mut offset = 0;
        for axis in (1..self.rank).rev() {
            offset += index % self.dims[axis] * self.strides[axis];
            index /= self.dims[axis];
        }
        // With no axes the stride is 0.
        offset + index * self.strides[0]
    }

    /// Copies elements `start..start + len` of the list that begins at `from`.
    ///
    /// # Safety
    /// All of these elements lie in memory lent for reading, and `to` has room for `len` elements elsewhere.
    #[inline(always)]
    pub(crate) unsafe fn copy<T: Copy>(&self, from: *const T, start: usize, len: usize, to: *mut T) {
        let (width, stride) = self.inner();
        let mut done = 0;
        while done < len {
            let at = start + done;
            let run = (width - at % width).min(len - done);
            // SAFETY: elements `at..at + run` lie along the innermost axis; the caller vouches for both sides.
            unsafe {
                let (source, target) = (from.add(self.offset(at)), to.add(done));
                if stride == 1 {
                    std::ptr::copy_nonoverlapping(source, target, run);
                } else {
                    for i in 0..run {
                        target.add(i).write(source.add(i * stride).read());
                    }
                }
            }
            done += run;
        }
    }

    /// Elements `start..start + len` one after another: where they stand, or copied to `scratch`.
    ///
    /// # Safety
    /// As for [`Axes::copy`].
    #[inline(always)]
    pub(crate) unsafe fn stage<T: Copy>(&self, from: *const T, start: usize, len: usize, scratch: *mut T) -> *const T {
        // SAFETY: as above.
        unsafe {
            if self.is_run() {
                return from.add(start);
            }
            self.copy(from, start, len, scratch);
        }
        scratch
    }

    /// Offsets of all elements, in order.
    #[inline(always)]
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk { axes: self, at: [0; MAX_RANK], offset: 0 }
    }
}

/// Steps through the offsets of a list without a division.
pub(crate) struct Walk<'a> {
    axes: &'a Axes,
    at: [usize; MAX_RANK],
    offset: usize,
}

impl Walk<'_> {
    /// The offset of the next element, which must exist.
    #[inline(always)]
    pub(crate) fn step(&mut self) -> usize {
        let here = self.offset;
        if self.axes.rank <= 1 {
            self.offset += self.axes.strides[0];
            return here;
        }
        for axis in (0..self.axes.rank).rev() {
            self.at[axis] += 1;
            self.offset += self.axes.strides[axis];
            if self.at[axis] < self.axes.dims[axis] {
                break;
            }
            self.offset -= self.axes.strides[axis] * self.axes.dims[axis];
            self.at[axis] = 0;
        }
        here
    }
}
