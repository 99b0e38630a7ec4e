//! Aligned memory that is allocated once.

use bytemuck::Pod;

/// One cache line, so that every vector load of an aligned entry is aligned.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u64; 8]);

/// A zeroed block of bytes, aligned to 64.
#[derive(Clone, Default)]
pub struct Memory {
    lines: Vec<Line>,
    bytes: usize,
}

impl Memory {
    /// `bytes` zero bytes.
    pub fn zeroed(bytes: usize) -> Memory {
        Memory { lines: vec![Line([0; 8]); bytes.div_ceil(64)], bytes }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the lines are initialised plain data, and `bytes` never exceeds their length.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.bytes) }
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; any bit pattern is a valid line.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.bytes) }
    }

    /// `count` elements from element `offset` on; panics when out of bounds.
    pub fn slice<T: Pod>(&self, offset: usize, count: usize) -> &[T] {
        let size = size_of::<T>();
        bytemuck::cast_slice(&self.bytes()[offset * size..(offset + count) * size])
    }

    /// `count` elements from element `offset` on, to write; panics when out of bounds.
    pub fn slice_mut<T: Pod>(&mut self, offset: usize, count: usize) -> &mut [T] {
        let size = size_of::<T>();
        bytemuck::cast_slice_mut(&mut self.bytes_mut()[offset * size..(offset + count) * size])
    }
}

/// The regions of a state, lent to one run.
pub enum StateRef<'a> {
    /// For tapes that only read it.
    Shared(&'a [Memory]),
    /// For tapes that update it.
    Mut(&'a mut [Memory]),
}
