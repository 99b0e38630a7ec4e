//! Fused elementwise chains, run tile by tile: a tile of every intermediate value stays in L1.
//!
//! - here: what a chain is made of, [`TileFn`], [`Instr`] and [`Arg`]
//! - `lanes`: the loops, compiled once for every instruction set
//! - `load`: bringing operands with strides into a row-major tile
//! - `build`: checks a chain and resolves every address and every place in scratch memory
//! - `chain`: runs what `build` made

use std::any::{TypeId, type_name};
use std::fmt;

use crate::math::Real;
use crate::view::DType;

mod build;
mod chain;
mod lanes;
mod load;
#[cfg(test)]
mod tests;

pub(crate) use build::{build, chain};
pub(crate) use chain::Chain;
use lanes::{Cast, Compared, Copied, Kernels, MAX_ARGS, Mapped, Selected, kernels};

/// Constants of an elementwise function: its attributes, as numbers.
pub type Params = [f64; 4];

/// An elementwise function of `N` floats of one type (at most 8), written once and compiled for every instruction set.
///
/// Implement it on an empty type, mark `map` `#[inline(always)]`, and keep it free of branches so that it vectorises:
/// `if` with two cheap sides becomes a select. It must not panic.
pub trait Map<const N: usize>: 'static {
    /// The function.
    fn map<T: Real>(params: &Params, x: [T; N]) -> T;
}

/// A comparison of two floats of one type, giving a u32 of 0 or 1.
pub trait Compare: 'static {
    /// The comparison.
    fn compare<T: Real>(a: T, b: T) -> bool;
}

/// An elementwise function over tiles, compiled for every instruction set.
///
/// Two are equal when they are the same function on the same types with the same bits of parameters.
#[derive(Clone, Copy)]
pub struct TileFn {
    /// The function's type and its role, so that a type that is both a map and a comparison stays two functions.
    id: TypeId,
    name: &'static str,
    /// `None` where the function does not exist for its type (a float function of u32): refused when built.
    kernels: Option<Kernels>,
    operands: [DType; MAX_ARGS],
    arity: usize,
    result: DType,
    params: Params,
}

impl TileFn {
    /// `M` over floats of type `dtype`.
    pub fn map<const N: usize, M: Map<N>>(dtype: DType, params: Params) -> TileFn {
        const { assert!(N >= 1 && N <= MAX_ARGS, "an elementwise function has 1 to 8 operands") };
        let kernels = match dtype {
            DType::F32 => Some(kernels::<Mapped<f32, N, M>>()),
            DType::F64 => Some(kernels::<Mapped<f64, N, M>>()),
            DType::U32 => None,
        };
        let id = TypeId::of::<Mapped<(), N, M>>();
        TileFn { params, ..TileFn::new(id, type_name::<M>(), kernels, &[dtype; N], dtype) }
    }

    /// `M` over floats of type `dtype`; the result is u32.
    pub fn compare<M: Compare>(dtype: DType) -> TileFn {
        let kernels = match dtype {
            DType::F32 => Some(kernels::<Compared<f32, M>>()),
            DType::F64 => Some(kernels::<Compared<f64, M>>()),
            DType::U32 => None,
        };
        TileFn::new(TypeId::of::<Compared<(), M>>(), type_name::<M>(), kernels, &[dtype; 2], DType::U32)
    }

    /// `where(condition, a, b)`: condition u32 (not 0 means a), a and b of type `dtype` (any).
    pub fn select(dtype: DType) -> TileFn {
        // Bits are moved, so one loop serves all types of a size.
        let kernels = match dtype.size() {
            4 => kernels::<Selected<u32>>(),
            _ => kernels::<Selected<u64>>(),
        };
        TileFn::new(TypeId::of::<Selected<()>>(), "Select", Some(kernels), &[DType::U32, dtype, dtype], dtype)
    }

    /// Conversion as Rust's `as` does it: to u32 it truncates and saturates, and NaN becomes 0.
    pub fn cast(from: DType, to: DType) -> TileFn {
        let kernels = match (from, to) {
            (DType::F32, DType::F64) => kernels::<Cast<f32, f64>>(),
            (DType::F32, DType::U32) => kernels::<Cast<f32, u32>>(),
            (DType::F64, DType::F32) => kernels::<Cast<f64, f32>>(),
            (DType::F64, DType::U32) => kernels::<Cast<f64, u32>>(),
            (DType::U32, DType::F32) => kernels::<Cast<u32, f32>>(),
            (DType::U32, DType::F64) => kernels::<Cast<u32, f64>>(),
            (DType::F64, DType::F64) => kernels::<Copied<u64>>(),
            (DType::F32, DType::F32) | (DType::U32, DType::U32) => kernels::<Copied<u32>>(),
        };
        TileFn::new(TypeId::of::<Cast<(), ()>>(), "Cast", Some(kernels), &[from], to)
    }

    /// The value itself; gives a strided value a row-major place.
    pub fn copy(dtype: DType) -> TileFn {
        let kernels = match dtype.size() {
            4 => kernels::<Copied<u32>>(),
            _ => kernels::<Copied<u64>>(),
        };
        TileFn::new(TypeId::of::<Copied<()>>(), "Copy", Some(kernels), &[dtype], dtype)
    }

    fn new(id: TypeId, name: &'static str, kernels: Option<Kernels>, types: &[DType], result: DType) -> TileFn {
        let mut operands = [result; MAX_ARGS];
        operands[..types.len()].copy_from_slice(types);
        TileFn { id, name, kernels, operands, arity: types.len(), result, params: [0.0; 4] }
    }

    /// Type of its result.
    pub fn result(&self) -> DType {
        self.result
    }

    /// Types of its operands.
    pub fn operands(&self) -> &[DType] {
        &self.operands[..self.arity]
    }

    /// Whether it only moves its operand.
    fn is_copy(&self) -> bool {
        self.id == TypeId::of::<Copied<()>>()
            || (self.id == TypeId::of::<Cast<(), ()>>() && self.operands[0] == self.result)
    }
}

impl PartialEq for TileFn {
    fn eq(&self, other: &TileFn) -> bool {
        self.id == other.id
            && self.operands() == other.operands()
            && self.result == other.result
            && self.params.map(f64::to_bits) == other.params.map(f64::to_bits)
    }
}

impl Eq for TileFn {}

impl fmt::Debug for TileFn {
    /// `Add(f32, f32) -> f32`, and the parameters if any is not 0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last name of the path, with generic arguments as they are.
        let head = self.name.split('<').next().unwrap_or(self.name);
        let path = head.rfind("::").map_or(0, |at| at + 2);
        let types: Vec<&str> = self.operands().iter().map(|t| t.name()).collect();
        write!(f, "{}({}) -> {}", &self.name[path..], types.join(", "), self.result.name())?;
        if self.params.iter().any(|p| p.to_bits() != 0) {
            write!(f, " {:?}", self.params)?;
        }
        Ok(())
    }
}

/// Where an instruction reads an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arg {
    /// The `i`-th input view of the call.
    Input(usize),
    /// The value of the `i`-th instruction, an earlier one.
    Value(usize),
}

/// One elementwise function applied to whole tiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instr {
    /// What it computes.
    pub tile: TileFn,
    /// Its operands, as many as the function takes.
    pub args: Vec<Arg>,
}
