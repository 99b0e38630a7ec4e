//! Runs a resolved chain: nothing is derived, checked or allocated here.

use super::Params;
use super::lanes::{CHUNK, Kernel, MAX_ARGS};
use super::load::Axes;
use crate::shape::{MAX_RANK, Shape};
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::{DType, Region, View};

/// A place in the worker's scratch memory instead of a region.
pub(super) const SCRATCH: Region = Region(u16::MAX);

/// Where an instruction reads or writes its tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) region: Region,
    /// Bytes an element advances by; 0 in scratch memory, where every tile stands at the same place.
    pub(super) step: u16,
    /// In bytes.
    pub(super) offset: usize,
}

impl Place {
    /// # Safety
    /// `bases` and `scratch` are those of the run, and element `start` lies inside the view.
    #[inline(always)]
    unsafe fn address(&self, bases: &Bases, scratch: *mut u8, start: usize) -> *mut u8 {
        // SAFETY: scratch places were laid out within `Step::scratch`; others lie inside their view.
        unsafe {
            if self.region == SCRATCH {
                return scratch.add(self.offset);
            }
            // `Bases` only looks at the region and the offset, counted in bytes here.
            let offset = self.offset + start * self.step as usize;
            let (shape, strides) = (Shape::SCALAR, [0; MAX_RANK]);
            bases.ptr::<u8>(&View { dtype: DType::U32, region: self.region, offset, shape, strides })
        }
    }
}

/// One function call per tile.
pub(super) struct Op {
    pub(super) kernel: Kernel,
    pub(super) arity: usize,
    pub(super) out: Place,
    pub(super) args: [Place; MAX_ARGS],
    pub(super) params: Params,
}

/// A view with strides, brought into row-major order.
pub(super) struct Load {
    pub(super) from: Place,
    pub(super) to: Place,
    /// Whether an element has 8 bytes, else 4.
    pub(super) wide: bool,
    pub(super) axes: Axes,
}

/// What happens to a tile.
pub(super) enum Action {
    Load(Load),
    Op(Op),
}

/// A scalar that fills a place in scratch memory once per run.
pub(super) struct Splat {
    pub(super) from: Place,
    pub(super) to: usize,
    pub(super) wide: bool,
}

/// A chain with everything resolved.
pub(crate) struct Chain {
    pub(super) count: usize,
    pub(super) tile: usize,
    pub(super) splats: Box<[Splat]>,
    pub(super) actions: Box<[Action]>,
    pub(super) scratch: usize,
    pub(super) parallel: bool,
}

impl Step for Chain {
    fn parallel(&self) -> bool {
        self.parallel
    }

    fn scratch(&self) -> usize {
        self.scratch
    }

    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let part = match self.count <= self.tile {
            true if worker.index > 0 => 0..0,
            true => 0..self.count,
            false => worker.share(self.count, self.tile),
        };
        // SAFETY: the caller's promise; the parts of the workers are disjoint and inside `0..count`.
        unsafe {
            if !part.is_empty() {
                self.begin(bases, worker.scratch);
                self.range(bases, worker.scratch, part.start, part.len());
            }
        }
        Ok(())
    }
}

impl Chain {
    /// What a worker does once before its first [`Chain::range`].
    ///
    /// # Safety
    /// As [`Step::run`]; `scratch` has [`Step::scratch`] bytes, which nobody else writes before the last range.
    #[inline(always)]
    pub(crate) unsafe fn begin(&self, bases: &Bases, scratch: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { self.fill(bases, scratch, self.count.min(self.tile)) }
    }

    /// Runs the chain on elements `start..start + len`.
    ///
    /// # Safety
    /// As [`Step::run`]; [`Chain::begin`] was called with this scratch, and no other worker has these elements.
    #[inline(always)]
    pub(crate) unsafe fn range(&self, bases: &Bases, scratch: *mut u8, start: usize, len: usize) {
        let mut at = 0;
        while at < len {
            let n = self.tile.min(len - at);
            // SAFETY: the caller's promise.
            unsafe { self.tile(bases, scratch, start + at, n) }
            at += n;
        }
    }

    /// Repeats the scalars over a tile of `n` elements.
    ///
    /// # Safety
    /// As [`Step::run`].
    #[inline(always)]
    unsafe fn fill(&self, bases: &Bases, scratch: *mut u8, n: usize) {
        // Places in scratch memory hold whole chunks, so whole chunks are filled: no tail.
        let chunks = n.div_ceil(CHUNK);
        for splat in &self.splats {
            // SAFETY: the scalar is inside its region, the place inside the scratch memory.
            unsafe {
                let from = splat.from.address(bases, scratch, 0);
                let to = scratch.add(splat.to);
                match splat.wide {
                    true => std::slice::from_raw_parts_mut(to.cast(), chunks).fill([*from.cast::<u64>(); CHUNK]),
                    false => std::slice::from_raw_parts_mut(to.cast(), chunks).fill([*from.cast::<u32>(); CHUNK]),
                }
            }
        }
    }

    /// Runs all actions on elements `start..start + n`.
    ///
    /// # Safety
    /// As [`Step::run`]; no other worker has these elements.
    #[inline(always)]
    unsafe fn tile(&self, bases: &Bases, scratch: *mut u8, start: usize, n: usize) {
        for action in &self.actions {
            // SAFETY: every place was resolved to hold `n` elements of its type from `start` on; `build` let outputs
            // share memory with operands only exactly.
            unsafe {
                match action {
                    Action::Op(op) => {
                        let mut ins = [std::ptr::null::<u8>(); MAX_ARGS];
                        for (address, place) in ins.iter_mut().zip(&op.args[..op.arity]) {
                            *address = place.address(bases, scratch, start);
                        }
                        (op.kernel)(&op.params, n, op.out.address(bases, scratch, start), &ins);
                    }
                    Action::Load(load) => {
                        let from = load.from.address(bases, scratch, 0);
                        let to = load.to.address(bases, scratch, start);
                        match load.wide {
                            true => load.axes.load::<u64>(from.cast(), start, n, to.cast()),
                            false => load.axes.load::<u32>(from.cast(), start, n, to.cast()),
                        }
                    }
                }
            }
        }
    }
}
