//! A view says where the elements of a value stand: a region, an offset, a shape and strides.

use crate::shape::{MAX_RANK, Shape};

/// The type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// 32-bit float: training.
    F32,
    /// 64-bit float: lessons, the reference and gradient checks.
    F64,
    /// 32-bit unsigned integer: indices, and the answers of comparisons (0 or 1).
    U32,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::F64 => 8,
        }
    }

    /// Whether it is a float, so that gradients can flow through it.
    pub fn is_float(self) -> bool {
        self != DType::U32
    }

    /// As it is written in listings: `f32`, `f64`, `u32`.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::U32 => "u32",
        }
    }
}

/// One of the memories a tape works on, by number. [`Region::ARENA`], [`Region::BATCH`] and [`Region::CONSTANTS`] are
/// fixed; the regions of the state follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region(pub u16);

impl Region {
    /// Intermediate values: owned by the tape.
    pub const ARENA: Region = Region(0);
    /// What is read: the arrays and scalars of a batch.
    pub const BATCH: Region = Region(1);
    /// Values known when the tape was built: owned by the tape.
    pub const CONSTANTS: Region = Region(2);
    /// The `i`-th region of the state.
    pub fn state(i: usize) -> Region {
        Region(3 + i as u16)
    }
}

/// Where the elements of one value stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Type of the elements.
    pub dtype: DType,
    /// Which memory.
    pub region: Region,
    /// Index of the first element, counted in elements of `dtype` from the start of the region.
    pub offset: usize,
    /// Lengths of the axes.
    pub shape: Shape,
    /// Distance in elements between neighbours along each axis; 0 repeats (broadcast).
    pub strides: [usize; MAX_RANK],
}

impl View {
    /// A row-major view.
    pub fn contiguous(dtype: DType, region: Region, offset: usize, shape: Shape) -> View {
        View { dtype, region, offset, shape, strides: shape.strides() }
    }

    /// Whether the elements stand one after another in row-major order (axes of length 1 do not count).
    pub fn is_contiguous(&self) -> bool {
        let mut step = 1;
        for axis in (0..self.shape.rank()).rev() {
            let len = self.shape.dims()[axis];
            if len != 1 && self.strides[axis] != step {
                return false;
            }
            step *= len;
        }
        true
    }

    /// Index one past the largest element that the view reaches, or the offset when it has no elements.
    pub fn end(&self) -> usize {
        if self.shape.count() == 0 {
            return self.offset;
        }
        let dims = self.shape.dims();
        self.offset + dims.iter().zip(self.strides).map(|(d, s)| (d - 1) * s).sum::<usize>() + 1
    }

    /// The half-open range of bytes of its region that the view spans.
    pub fn bytes(&self) -> (usize, usize) {
        (self.offset * self.dtype.size(), self.end() * self.dtype.size())
    }

    /// Whether the spans of two views share a byte. A view without elements has none to share, wherever it stands.
    pub fn overlaps(&self, other: &View) -> bool {
        let ((a, b), (c, d)) = (self.bytes(), other.bytes());
        self.region == other.region && a.max(c) < b.min(d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_without_elements_overlaps_nothing() {
        let view = |offset: usize, n: usize| View::contiguous(DType::F64, Region::ARENA, offset, [n].into());
        assert!(view(0, 10).overlaps(&view(9, 1)) && !view(0, 10).overlaps(&view(10, 1)));
        for offset in [0, 4, 9, 10] {
            assert!(!view(0, 10).overlaps(&view(offset, 0)) && !view(offset, 0).overlaps(&view(0, 10)), "{offset}");
        }
    }
}
