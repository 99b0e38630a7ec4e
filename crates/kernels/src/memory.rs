//! Aligned memory that is allocated once.

use bytemuck::Pod;
use memmap2::MmapMut;

/// One cache line, so that every vector load of an aligned entry is aligned.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u64; 8]);

/// Blocks from this size on are mapped by themselves and ask for huge pages: walking through hundreds of MiB in pages of
/// 4 KiB costs as much as the arithmetic of an optimizer's update.
const MAPPED: usize = 4 << 20;

/// A zeroed block of bytes, aligned to 64.
#[derive(Default)]
pub struct Memory {
    lines: Vec<Line>,
    mapped: Option<MmapMut>,
    bytes: usize,
}

impl Memory {
    /// `bytes` zero bytes.
    pub fn zeroed(bytes: usize) -> Memory {
        if bytes >= MAPPED
            && let Ok(map) = MmapMut::map_anon(bytes.next_multiple_of(64))
        {
            // Without huge pages it works as well, only slower.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Memory { lines: Vec::new(), mapped: Some(map), bytes };
        }
        Memory { lines: vec![Line([0; 8]); bytes.div_ceil(64)], mapped: None, bytes }
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
        if let Some(map) = &self.mapped {
            return &map[..self.bytes];
        }
        // SAFETY: the lines are initialised plain data, and `bytes` never exceeds their length.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.bytes) }
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        if let Some(map) = &mut self.mapped {
            return &mut map[..self.bytes];
        }
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

impl Clone for Memory {
    fn clone(&self) -> Memory {
        let mut copy = Memory::zeroed(self.bytes);
        copy.bytes_mut().copy_from_slice(self.bytes());
        copy
    }
}

/// The regions of a state, lent to one run.
pub enum StateRef<'a> {
    /// For tapes that only read it.
    Shared(&'a [Memory]),
    /// For tapes that update it.
    Mut(&'a mut [Memory]),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_blocks_are_alike() {
        for bytes in [0, 1, 100, MAPPED - 1, MAPPED, MAPPED + 4] {
            let mut memory = Memory::zeroed(bytes);
            assert_eq!((memory.len(), memory.bytes().len()), (bytes, bytes));
            assert!(memory.bytes().iter().all(|byte| *byte == 0));
            assert!(bytes == 0 || (memory.bytes().as_ptr() as usize).is_multiple_of(64));
            if let Some(last) = memory.bytes_mut().last_mut() {
                *last = 7;
            }
            let copy = memory.clone();
            assert_eq!(copy.bytes(), memory.bytes());
            assert_eq!(copy.bytes().last().copied().unwrap_or(7), 7);
        }
    }
}
