//! What a step reads: token or feature arrays, and scalars computed on the host.

use geartrain_kernels::Memory;

use crate::ir::graph::Input;
use crate::ir::types::{DType, Data, Tensor, Type};

/// The inputs of one program, laid out as it reads them. Made by [`crate::Program::batch`] and filled again for each
/// step, so that a step allocates nothing.
#[derive(Clone)]
pub struct Batch {
    inputs: Vec<Input>,
    offsets: Vec<usize>,
    pub(crate) memory: Memory,
}

/// Why a value could not be put into a batch.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// The program has no such input.
    #[error("the program has no input `{0}`")]
    Unknown(String),
    /// The input has another type.
    #[error("input `{name}` is {expected}, got {found}")]
    Type {
        /// The input.
        name: String,
        /// Its type.
        expected: Type,
        /// What was given.
        found: String,
    },
}

impl Batch {
    /// A batch of zeros, with every input at a multiple of 64 bytes.
    pub(crate) fn new(inputs: &[Input]) -> Batch {
        let (offsets, bytes) = layout(inputs);
        Batch { inputs: inputs.to_vec(), offsets, memory: Memory::zeroed(bytes) }
    }

    /// Its bytes.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// The inputs in the order of their declaration.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, Type)> {
        self.inputs.iter().map(|i| (i.name.as_str(), i.ty))
    }

    /// Sets an input.
    pub fn set(&mut self, name: &str, value: &Tensor) -> Result<(), BatchError> {
        let i = self.find(name)?;
        if self.inputs[i].ty != value.ty() {
            return Err(self.mismatch(i, value.ty().to_string()));
        }
        let (at, n) = (self.offsets[i], value.shape().count());
        match value.data() {
            Data::F32(v) => self.memory.slice_mut(at / 4, n).copy_from_slice(v),
            Data::F64(v) => self.memory.slice_mut(at / 8, n).copy_from_slice(v),
            Data::U32(v) => self.memory.slice_mut(at / 4, n).copy_from_slice(v),
        }
        Ok(())
    }

    /// Sets a host scalar.
    pub fn set_scalar(&mut self, name: &str, value: f64) -> Result<(), BatchError> {
        let i = self.find(name)?;
        if self.inputs[i].ty != Type::new(DType::F64, []) {
            return Err(self.mismatch(i, "a scalar".to_string()));
        }
        self.memory.slice_mut::<f64>(self.offsets[i] / 8, 1)[0] = value;
        Ok(())
    }

    /// The numbers of a u32 input, to write.
    pub fn u32s(&mut self, name: &str) -> Result<&mut [u32], BatchError> {
        let i = self.find(name)?;
        let ty = self.inputs[i].ty;
        if ty.dtype != DType::U32 {
            return Err(self.mismatch(i, "u32".to_string()));
        }
        Ok(self.memory.slice_mut(self.offsets[i] / 4, ty.shape.count()))
    }

    /// The numbers of an f32 input, to write.
    pub fn f32s(&mut self, name: &str) -> Result<&mut [f32], BatchError> {
        let i = self.find(name)?;
        let ty = self.inputs[i].ty;
        if ty.dtype != DType::F32 {
            return Err(self.mismatch(i, "f32".to_string()));
        }
        Ok(self.memory.slice_mut(self.offsets[i] / 4, ty.shape.count()))
    }

    /// Two u32 inputs at once, to write: tokens and targets.
    pub fn u32_pair(&mut self, first: &str, second: &str) -> Result<(&mut [u32], &mut [u32]), BatchError> {
        for name in [first, second] {
            self.u32s(name)?;
        }
        let (a, b) = (self.find(first)?, self.find(second)?);
        let range = |i: usize| (self.offsets[i] / 4, self.inputs[i].ty.shape.count());
        let ((a_at, a_len), (b_at, b_len)) = (range(a), range(b));
        if a == b {
            return Err(self.mismatch(a, "the same input twice".to_string()));
        }
        let all = self.memory.slice_mut::<u32>(0, self.memory.len() / 4);
        let (low, high) = all.split_at_mut(a_at.max(b_at));
        match a_at < b_at {
            true => Ok((&mut low[a_at..a_at + a_len], &mut high[..b_len])),
            false => Ok((&mut high[..a_len], &mut low[b_at..b_at + b_len])),
        }
    }

    fn find(&self, name: &str) -> Result<usize, BatchError> {
        self.inputs.iter().position(|i| i.name == name).ok_or_else(|| BatchError::Unknown(name.to_string()))
    }

    fn mismatch(&self, i: usize, found: String) -> BatchError {
        BatchError::Type { name: self.inputs[i].name.clone(), expected: self.inputs[i].ty, found }
    }
}

/// Byte offsets of the inputs and the length of all.
pub(crate) fn layout(inputs: &[Input]) -> (Vec<usize>, usize) {
    let mut at = 0;
    let place = |input: &Input| {
        let offset = at;
        at += input.ty.bytes().next_multiple_of(64);
        offset
    };
    (inputs.iter().map(place).collect(), at)
}
