//! The type of a value, host tensors, and broadcasting: stated once.

pub use geartrain_kernels::{DType, MAX_RANK, Shape};

/// Element type and shape of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// Type of the elements.
    pub dtype: DType,
    /// Lengths of the axes.
    pub shape: Shape,
}

impl Type {
    /// A type from its parts.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Type {
        Type { dtype, shape: shape.into() }
    }

    /// Bytes of a row-major value of this type.
    pub fn bytes(&self) -> usize {
        self.shape.count() * self.dtype.size()
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.dtype.name(), self.shape)
    }
}

/// The numbers of a host tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// 32-bit integers.
    U32(Vec<u32>),
}

/// A value on the host: constants, initial values, what a program gives back.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Data,
}

impl Tensor {
    /// A tensor from row-major numbers, or `None` when their count is not the shape's.
    pub fn new(shape: impl Into<Shape>, data: Data) -> Option<Tensor> {
        let shape = shape.into();
        let count = match &data {
            Data::F32(v) => v.len(),
            Data::F64(v) => v.len(),
            Data::U32(v) => v.len(),
        };
        (count == shape.count()).then_some(Tensor { shape, data })
    }

    /// A tensor of `dtype` from numbers given in f64, rounded once. `None` when their count is not the shape's.
    pub fn from_f64(dtype: DType, shape: impl Into<Shape>, values: &[f64]) -> Option<Tensor> {
        Tensor::new(shape, Data::F64(values.to_vec())).map(|tensor| tensor.cast(dtype))
    }

    /// A single number.
    pub fn scalar(dtype: DType, value: f64) -> Tensor {
        Tensor::full(dtype, Shape::SCALAR, value)
    }

    /// The same number everywhere.
    pub fn full(dtype: DType, shape: Shape, value: f64) -> Tensor {
        let n = shape.count();
        let data = match dtype {
            DType::F32 => Data::F32(vec![value as f32; n]),
            DType::F64 => Data::F64(vec![value; n]),
            DType::U32 => Data::U32(vec![value as u32; n]),
        };
        Tensor { shape, data }
    }

    /// Its type.
    pub fn ty(&self) -> Type {
        let dtype = match self.data {
            Data::F32(_) => DType::F32,
            Data::F64(_) => DType::F64,
            Data::U32(_) => DType::U32,
        };
        Type { dtype, shape: self.shape }
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Its numbers.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Its numbers in f64 (exact for every dtype).
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            Data::F32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Data::F64(v) => v.clone(),
            Data::U32(v) => v.iter().map(|x| f64::from(*x)).collect(),
        }
    }

    /// The same numbers as `dtype`, rounded once; untouched if they have it already.
    pub fn cast(self, dtype: DType) -> Tensor {
        let values = match (dtype, &self.data) {
            (DType::F32, Data::F32(_)) | (DType::F64, Data::F64(_)) | (DType::U32, Data::U32(_)) => return self,
            _ => self.to_f64(),
        };
        let data = match dtype {
            DType::F32 => Data::F32(values.iter().map(|v| *v as f32).collect()),
            DType::F64 => Data::F64(values),
            DType::U32 => Data::U32(values.iter().map(|v| *v as u32).collect()),
        };
        Tensor { shape: self.shape, data }
    }

    /// Its numbers as little-endian bytes.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        match &self.data {
            Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::F64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::U32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    /// The one number that all elements share bit for bit, if there is one.
    pub fn uniform(&self) -> Option<f64> {
        let values = self.to_f64();
        let first = *values.first()?;
        values.iter().all(|v| v.to_bits() == first.to_bits()).then_some(first)
    }
}

/// The shape that two shapes broadcast to, by NumPy's rule: axes are matched from the last; lengths agree or one is 1.
pub fn broadcast(a: Shape, b: Shape) -> Option<Shape> {
    let rank = a.rank().max(b.rank());
    let at = |s: &Shape, axis: usize| match (axis + s.rank()).checked_sub(rank) {
        Some(i) => s.dims()[i],
        None => 1,
    };
    let dims: Option<Vec<usize>> = (0..rank)
        .map(|axis| match (at(&a, axis), at(&b, axis)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect();
    Shape::checked(&dims?)
}

/// A set of axes of one value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Axes(pub u8);

impl Axes {
    /// No axis.
    pub const NONE: Axes = Axes(0);

    /// One axis; all that no value has are one.
    pub const fn one(axis: usize) -> Axes {
        Axes(if axis < MAX_RANK { 1 << axis } else { 1 << MAX_RANK })
    }

    /// All axes of a value with `rank` axes.
    pub const fn all(rank: usize) -> Axes {
        Axes(((1u16 << rank) - 1) as u8)
    }

    /// Whether the axis is in the set.
    pub fn contains(self, axis: usize) -> bool {
        self.0 >> axis & 1 == 1
    }

    /// The axes in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_RANK).filter(move |a| self.contains(*a))
    }

    /// Whether every axis is below `rank`.
    pub fn fits(self, rank: usize) -> bool {
        u16::from(self.0) < 1 << rank
    }

    /// The shape with these axes at length 1.
    pub fn collapse(self, shape: Shape) -> Shape {
        self.iter().filter(|a| *a < shape.rank()).fold(shape, |s, a| s.with(a, 1))
    }
}

impl std::fmt::Debug for Axes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut axes: Vec<String> = self.iter().map(|axis| axis.to_string()).collect();
        // See [`Axes::one`].
        axes.extend(self.contains(MAX_RANK).then(|| format!("{MAX_RANK} or more")));
        match axes.as_slice() {
            [axis] => write!(f, "{axis}"),
            axes => write!(f, "({})", axes.join(", ")),
        }
    }
}
