//! Shapes of up to [`MAX_RANK`] axes, kept inline so that they are `Copy`.

use std::fmt;

/// The largest number of axes a value may have.
pub const MAX_RANK: usize = 6;

/// The lengths of the axes, outermost first. A scalar has no axes and one element.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    rank: u8,
    dims: [usize; MAX_RANK],
}

impl Shape {
    /// The shape of a single number.
    pub const SCALAR: Shape = Shape { rank: 0, dims: [0; MAX_RANK] };

    /// A shape from its axes, or `None` when there are more than [`MAX_RANK`] or the element count overflows `u32`
    /// elements times 8 bytes (no such tensor fits a machine that this engine is for).
    pub fn checked(dims: &[usize]) -> Option<Shape> {
        if dims.len() > MAX_RANK {
            return None;
        }
        let count = dims.iter().try_fold(1usize, |n, d| n.checked_mul((*d).max(1)))?;
        if count > (1 << 40) {
            return None;
        }
        let mut shape = Shape { rank: dims.len() as u8, dims: [0; MAX_RANK] };
        shape.dims[..dims.len()].copy_from_slice(dims);
        Some(shape)
    }

    /// The axes, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.dims().iter().product()
    }

    /// Row-major strides in elements, one per axis.
    pub fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut step = 1;
        for axis in (0..self.rank()).rev() {
            strides[axis] = step;
            step *= self.dims[axis];
        }
        strides
    }

    /// The same shape with axis `axis` set to `len`. The axis must exist.
    pub fn with(&self, axis: usize, len: usize) -> Shape {
        let mut dims = *self;
        dims.dims[..self.rank as usize][axis] = len;
        dims
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    /// A shape from a literal. More than [`MAX_RANK`] axes do not compile.
    fn from(dims: [usize; N]) -> Shape {
        const { assert!(N <= MAX_RANK, "a value has at most six axes") };
        let mut shape = Shape { rank: N as u8, dims: [0; MAX_RANK] };
        shape.dims[..N].copy_from_slice(&dims);
        shape
    }
}

impl fmt::Display for Shape {
    /// As Python prints a tuple: `()`, `(4,)`, `(2, 3)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.dims().iter().map(usize::to_string).collect();
        match dims.len() {
            1 => write!(f, "({},)", dims[0]),
            _ => write!(f, "({})", dims.join(", ")),
        }
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
