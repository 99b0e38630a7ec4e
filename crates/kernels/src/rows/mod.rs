//! Kernels along the last axis: softmax, cross-entropy, normalisation and their gradients; elements by index.
//!
//! Sums over a row follow the lane rule of [`crate::reduce::lanes`], so each row has one order, and rows are shared
//! among workers. Rows whose elements do not stand side by side are copied to scratch memory first.
//!
//! A row is read whole before the first of it is written, or block by block and each block before it is written, so an
//! output may stand exactly on an input.

mod along;
mod cross_entropy;
mod normalize;
mod rms;
mod scale;
mod softmax;
#[cfg(test)]
mod tests;

pub(crate) use along::{add_along, one_hot, take_along, top_k};
pub(crate) use cross_entropy::{cross_entropy, cross_entropy_grad};
pub(crate) use normalize::{normalize, normalize_grad};
pub(crate) use rms::{rms_normalize, rms_normalize_grad};
pub(crate) use softmax::{exponentials, log_softmax, softmax};

use crate::math::Real;
use crate::reduce::axes::Axes;
use crate::tape::Bases;
use crate::view::View;

/// Elements from which on several workers share the rows.
const PARALLEL: usize = 32 * 1024;

/// The rows of an input.
struct Rows {
    view: View,
    rows: Axes,
    axis: Axes,
    count: usize,
    len: usize,
}

impl Rows {
    fn of(view: &View) -> Result<Rows, String> {
        let Some((&len, outer)) = view.shape.dims().split_last() else {
            return Err("a scalar has no last axis".to_string());
        };
        let last = outer.len();
        let (rows, axis) = (Axes::of(view, |i| i != last), Axes::of(view, |i| i == last));
        Ok(Rows { view: *view, rows, axis, count: outer.iter().product(), len })
    }

    /// Shape of the rows: that of the view without the last axis.
    fn outer(&self) -> &[usize] {
        let dims = self.view.shape.dims();
        &dims[..dims.len() - 1]
    }

    /// Whether there are so many elements that several workers should share them, and rows to share.
    fn parallel(&self, elements: usize) -> bool {
        self.count * self.len >= elements && self.count > 1
    }

    /// Scratch bytes for one row of `T` where [`Rows::row`] needs them.
    fn scratch<T>(&self) -> usize {
        if self.axis.is_run() { 0 } else { (self.len * size_of::<T>()).next_multiple_of(64) }
    }

    /// The elements of row `r` side by side: where they stand, or in `scratch`.
    ///
    /// # Safety
    /// The row exists and has elements, and `scratch` has [`Rows::scratch`] bytes.
    #[inline(always)]
    unsafe fn row<T: Real>(&self, bases: &Bases, r: usize, scratch: *mut T) -> *const T {
        // SAFETY: the view was checked against its region.
        unsafe {
            let start = bases.ptr::<T>(&self.view).add(self.rows.offset(r));
            self.axis.stage(start.cast_const(), 0, self.len, scratch)
        }
    }

    /// Rows `start..start + count`, as [`Rows::row`] finds them; null behind them.
    ///
    /// # Safety
    /// As there, and `count` is at most `N`, 1 where rows are copied.
    #[inline(always)]
    unsafe fn group<T: Real, const N: usize>(
        &self,
        bases: &Bases,
        start: usize,
        count: usize,
        scratch: *mut T,
    ) -> [*const T; N] {
        let mut rows = [std::ptr::null(); N];
        for (i, row) in rows[..count].iter_mut().enumerate() {
            // SAFETY: as above.
            *row = unsafe { self.row(bases, start + i, scratch) };
        }
        rows
    }
}

/// Row `r` of a row-major output with rows of `len`.
///
/// # Safety
/// The row exists.
#[inline(always)]
unsafe fn target<T>(bases: &Bases, out: &View, r: usize, len: usize) -> *mut T {
    // SAFETY: the view was checked against its region.
    unsafe { bases.ptr::<T>(out).add(r * len) }
}

/// Rows a worker takes at least, so that two seldom write one cache line.
#[inline(always)]
fn grain(len: usize) -> usize {
    if len >= 16 { 1 } else { 16 }
}
