//! What a matmul call comes down to: one product's sizes and strides, and where the products of a batch stand.

use crate::shape::MAX_RANK;
use crate::view::View;

/// One product: out (m, n) row-major = a (m, k) @ b (k, n). Strides are in elements; those of an axis of length 1 are
/// set to 1, so that they never hide a unit stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dims {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    /// Between rows and between columns of a.
    pub(super) rsa: usize,
    pub(super) csa: usize,
    /// Between rows and between columns of b.
    pub(super) rsb: usize,
    pub(super) csb: usize,
}

impl Dims {
    /// Number of multiply-adds; saturates, as it only guides choices.
    pub(super) fn work(&self) -> usize {
        self.m.saturating_mul(self.n).saturating_mul(self.k)
    }

    /// The same with stride 1 along axes of length 1.
    fn tidy(self) -> Dims {
        let unit = |len: usize, stride: usize| if len == 1 { 1 } else { stride };
        Dims {
            rsa: unit(self.m, self.rsa),
            csa: unit(self.k, self.csa),
            rsb: unit(self.k, self.rsb),
            csb: unit(self.n, self.csb),
            ..self
        }
    }
}

/// A batch axis: its length and the strides of a and b along it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Axis {
    len: usize,
    a: usize,
    b: usize,
}

/// The products of a batch. The outputs stand one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Number of products.
    pub(super) count: usize,
    axes: [Axis; MAX_RANK],
    rank: usize,
}

impl Batch {
    /// Joins neighbouring axes where one stride serves both. There are at most [`MAX_RANK`].
    fn new(outer: &[Axis]) -> Batch {
        let mut batch = Batch { count: outer.iter().map(|x| x.len).product(), axes: Default::default(), rank: 0 };
        for axis in outer.iter().copied() {
            let last = batch.rank.checked_sub(1).map(|i| &mut batch.axes[i]);
            match last.filter(|last| last.a == axis.a * axis.len && last.b == axis.b * axis.len) {
                Some(last) => *last = Axis { len: last.len * axis.len, ..axis },
                None => {
                    batch.axes[batch.rank] = axis;
                    batch.rank += 1;
                }
            }
        }
        batch
    }

    /// Offsets of a and b of product `item`, in elements.
    #[inline(always)]
    pub(super) fn offsets(&self, item: usize) -> (usize, usize) {
        let (mut left, mut a, mut b) = (item, 0, 0);
        for (i, axis) in self.axes[..self.rank].iter().enumerate().rev() {
            // The outermost axis needs no division, and most batches have one axis.
            let at = if i == 0 { left } else { left % axis.len };
            left = if i == 0 { 0 } else { left / axis.len };
            a += at * axis.a;
            b += at * axis.b;
        }
        (a, b)
    }
}

/// A call, simplified.
pub(super) struct Call {
    pub(super) dims: Dims,
    pub(super) batch: Batch,
    /// Whether the roles of a and b are exchanged.
    pub(super) swapped: bool,
}

/// Simplifies out = a @ b: batch axes that only lengthen a become rows, neighbouring batch axes are joined, and a
/// single column is computed as a single row, which stands in memory alike. No step of any sum changes.
pub(super) fn resolve(a: &View, b: &View) -> Call {
    let rank = a.shape.rank();
    let (da, db) = (a.shape.dims(), b.shape.dims());
    let mut dims = Dims {
        m: da[rank - 2],
        k: da[rank - 1],
        n: db[rank - 1],
        rsa: a.strides[rank - 2],
        csa: a.strides[rank - 1],
        rsb: b.strides[rank - 2],
        csb: b.strides[rank - 1],
    };
    let mut outer: Vec<Axis> = (0..rank - 2)
        .map(|i| Axis { len: da[i], a: a.strides[i], b: b.strides[i] })
        .filter(|axis| axis.len != 1)
        .collect();
    while let Some(axis) = outer.last().copied().filter(|x| x.b == 0 && (dims.m == 1 || x.a == dims.m * dims.rsa)) {
        dims.rsa = if dims.m == 1 { axis.a } else { dims.rsa };
        dims.m *= axis.len;
        outer.pop();
    }
    let swapped = dims.n == 1 && dims.m > 1;
    if swapped {
        let Dims { m, n, k, rsa, csa, rsb, csb } = dims;
        dims = Dims { m: n, n: m, k, rsa: csb, csa: rsb, rsb: csa, csb: rsa };
        outer.iter_mut().for_each(|axis| (axis.a, axis.b) = (axis.b, axis.a));
    }
    Call { dims: dims.tidy(), batch: Batch::new(&outer), swapped }
}
