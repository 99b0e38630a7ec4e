//! What the tests of reductions, rows and gathers share: views over test data, and a driver that runs a step for
//! every instruction set and number of workers and demands the same bits each time.

use bytemuck::Pod;

use crate::isa::Isa;
use crate::math::Real;
use crate::memory::Memory;
use crate::reduce::lanes::{CHUNK, LANES};
use crate::shape::{MAX_RANK, Shape};
use crate::tape::{Bases, Fault, Step, Worker};
use crate::view::{DType, Region, View};

/// Type of the elements of a test's data.
pub(crate) trait Element: Pod + PartialEq + std::fmt::Debug {
    const KIND: DType;
    fn bits(self) -> u64;
}

impl Element for u32 {
    const KIND: DType = DType::U32;
    fn bits(self) -> u64 {
        u64::from(self)
    }
}

impl Element for f32 {
    const KIND: DType = DType::F32;
    // All NaN are one: payloads are outside the promise.
    fn bits(self) -> u64 {
        if self.is_nan() { u64::MAX } else { u64::from(self.to_bits()) }
    }
}

impl Element for f64 {
    const KIND: DType = DType::F64;
    fn bits(self) -> u64 {
        if self.is_nan() { u64::MAX } else { self.to_bits() }
    }
}

/// Asserts equality of bits (all NaN are one).
#[track_caller]
pub(crate) fn same<T: Element>(found: &[T], expected: &[T], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert_eq!(f.bits(), e.bits(), "{what}: element {i} is {f:?}, expected {e:?}");
    }
}

/// A tensor laid out in memory of its own.
#[derive(Clone)]
pub(crate) struct Data {
    view: View,
    memory: Memory,
}

/// How the elements of a test tensor are laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Layout {
    RowMajor,
    /// Axes in reversed order of strides.
    Transposed,
    /// Every axis has gaps.
    Gaps,
}

impl Layout {
    pub(crate) const ALL: [Layout; 3] = [Layout::RowMajor, Layout::Transposed, Layout::Gaps];
}

impl Data {
    /// Lays row-major `values` out.
    pub(crate) fn new<T: Element>(dims: &[usize], values: &[T], layout: Layout) -> Data {
        let shape = Shape::checked(dims).expect("a test shape");
        let mut strides = [0; MAX_RANK];
        let mut step = if layout == Layout::Gaps { 3 } else { 1 };
        for i in 0..dims.len() {
            let axis = if layout == Layout::Transposed { i } else { dims.len() - 1 - i };
            strides[axis] = step;
            step *= dims[axis] + usize::from(layout == Layout::Gaps);
        }
        Data::strided(View { dtype: T::KIND, region: Region(0), offset: 5, shape, strides }, values)
    }

    /// One row-major list of `values`, seen with the given strides.
    pub(crate) fn broadcast<T: Element>(dims: &[usize], strides: &[usize], values: &[T]) -> Data {
        let mut all = [0; MAX_RANK];
        all[..strides.len()].copy_from_slice(strides);
        let shape = Shape::checked(dims).expect("a test shape");
        let view = View { dtype: T::KIND, region: Region(0), offset: 0, shape, strides: all };
        let mut memory = Memory::zeroed(size_of_val(values));
        memory.slice_mut::<T>(0, values.len()).copy_from_slice(values);
        assert!(view.end() <= values.len());
        Data { view, memory }
    }

    fn strided<T: Element>(view: View, values: &[T]) -> Data {
        assert_eq!(view.shape.count(), values.len());
        let mut memory = Memory::zeroed(view.end() * size_of::<T>());
        let room = memory.slice_mut::<T>(0, view.end());
        for (i, value) in values.iter().enumerate() {
            room[offset(&view, i)] = *value;
        }
        Data { view, memory }
    }

    /// The elements in row-major order.
    pub(crate) fn values<T: Element>(&self) -> Vec<T> {
        let room = self.memory.slice::<T>(0, self.view.end());
        (0..self.view.shape.count()).map(|i| room[offset(&self.view, i)]).collect()
    }
}

fn offset(view: &View, mut index: usize) -> usize {
    let mut offset = view.offset;
    for (len, stride) in view.shape.dims().iter().zip(view.strides).rev() {
        offset += index % len * stride;
        index /= len;
    }
    offset
}

pub(crate) type Build<'a> = &'a dyn Fn(Isa, &[View], &[View]) -> Result<Box<dyn Step>, String>;

/// Builds and runs a call on every supported instruction set with 1, 2, 3 and 7 workers, forwards and backwards,
/// over stale outputs and scratch. Returns the output and the fault of the smallest row, the same every time.
#[track_caller]
pub(crate) fn run<T: Element>(dims: &[usize], ins: &[Data], build: Build<'_>) -> (Vec<T>, Result<(), Fault>) {
    let shape = Shape::checked(dims).expect("a test shape");
    let out = View::contiguous(T::KIND, Region(0), 3, shape);
    let views: Vec<View> = (1..).zip(ins).map(|(i, data)| View { region: Region(i), ..data.view }).collect();
    let mut first: Option<(Vec<T>, Result<(), Fault>)> = None;
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        for count in [1, 2, 3, 7] {
            // Twice, because a step may keep something from run to run.
            let step = build(isa, &[out], &views).expect("the call is fine");
            for backwards in [false, true] {
                let found = drive(step.as_ref(), &out, ins, count, backwards);
                let (values, fault) = first.get_or_insert_with(|| found.clone());
                same(&found.0, values, &format!("{isa:?} with {count} workers"));
                assert_eq!(found.1, *fault, "{isa:?} with {count} workers");
            }
        }
    }
    first.expect("one path is always supported")
}

/// What stands in outputs before a run.
const STALE: u8 = 0xA5;

/// Runs all workers of a step, each over an output of its own: so what two workers write is seen, and what none does.
fn drive<T: Element>(
    step: &dyn Step,
    out: &View,
    ins: &[Data],
    count: usize,
    back: bool,
) -> (Vec<T>, Result<(), Fault>) {
    let end = out.offset + out.shape.count() + 4;
    let mut memory = Memory::zeroed(end * size_of::<T>());
    let mut scratch = Memory::zeroed(step.scratch());
    let mut pointers = vec![memory.bytes_mut().as_mut_ptr()];
    pointers.extend(ins.iter().map(|data| data.memory.bytes().as_ptr().cast_mut()));
    // SAFETY: `Bases` wraps exactly this vector.
    let bases: Bases = unsafe { std::mem::transmute(pointers) };
    let mut fault: Option<Fault> = None;
    let mut written: Vec<Option<T>> = vec![None; end];
    for i in 0..count {
        memory.bytes_mut().fill(STALE);
        scratch.bytes_mut().fill(0xFF);
        let index = if back { count - 1 - i } else { i };
        let worker = Worker { index, count, scratch: scratch.bytes_mut().as_mut_ptr() };
        // SAFETY: `bases` are the regions that the views were made for, and workers run one after another.
        if let Err(found) = unsafe { step.run(&bases, &worker) }
            && fault.is_none_or(|old| found.row < old.row)
        {
            fault = Some(found);
        }
        for (slot, value) in written.iter_mut().zip(memory.slice::<T>(0, end)) {
            if bytemuck::bytes_of(value).iter().any(|b| *b != STALE) {
                assert!(slot.replace(*value).is_none(), "two workers write one element");
            }
        }
    }
    let inside = out.offset..end - 4;
    assert!((0..end).all(|i| inside.contains(&i) == written[i].is_some()), "the output is not what was written");
    (written[inside].iter().flatten().copied().collect(), fault.map_or(Ok(()), Err))
}

/// As [`run`], with a row-major output that stands exactly on input `place`, also of shape `dims`.
#[track_caller]
pub(crate) fn run_in_place<T: Element>(dims: &[usize], place: usize, ins: &[Data], build: Build<'_>) -> Vec<T> {
    let shape = Shape::checked(dims).expect("a test shape");
    let out = View::contiguous(T::KIND, Region(0), 0, shape);
    let mut views: Vec<View> = (1..).zip(ins).map(|(i, data)| View { region: Region(i), ..data.view }).collect();
    views[place] = out;
    let input = ins[place].values::<T>();
    let mut first: Option<Vec<T>> = None;
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        for count in [1, 2, 3, 7] {
            let step = build(isa, &[out], &views).expect("the call is fine");
            let mut memory = Memory::zeroed(size_of_val(input.as_slice()));
            memory.slice_mut::<T>(0, input.len()).copy_from_slice(&input);
            let mut scratch = Memory::zeroed(step.scratch());
            let mut pointers = vec![memory.bytes_mut().as_mut_ptr()];
            pointers.extend(ins.iter().map(|data| data.memory.bytes().as_ptr().cast_mut()));
            let bases = Bases::of(pointers);
            for index in 0..count {
                scratch.bytes_mut().fill(0xFF);
                let worker = Worker { index, count, scratch: scratch.bytes_mut().as_mut_ptr() };
                // SAFETY: `bases` are the regions that the views were made for, and workers run one after another.
                assert_eq!(unsafe { step.run(&bases, &worker) }, Ok(()));
            }
            let found = memory.slice::<T>(0, input.len()).to_vec();
            same(&found, first.get_or_insert_with(|| found.clone()), &format!("{isa:?} with {count} workers"));
        }
    }
    first.expect("one path is always supported")
}

/// Why the call is refused.
#[track_caller]
pub(crate) fn refusal(out: (DType, &[usize]), ins: &[(DType, &[usize])], build: Build<'_>) -> String {
    let view = |&(dtype, dims): &(DType, &[usize])| {
        View::contiguous(dtype, Region(0), 0, Shape::checked(dims).expect("a test shape"))
    };
    let ins: Vec<View> = ins.iter().map(view).collect();
    build(Isa::Portable, &[view(&out)], &ins).err().expect("the call is refused")
}

/// Distance from 1 to the next number.
pub(crate) fn epsilon<T: Real>() -> f64 {
    if T::DTYPE == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON }
}

/// `count` numbers between -1 and 1 that repeat for one `seed`.
pub(crate) fn noise<T: Real>(seed: u64, count: usize) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        T::from_f64((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
    };
    (0..count).map(|_| next()).collect()
}

/// The lane rule, spelled out: `put` adds element `i` to a lane, `join` adds two sums.
pub(crate) fn lane_rule<T: Copy>(len: usize, zero: T, put: impl Fn(T, usize) -> T, join: impl Fn(T, T) -> T) -> T {
    let mut total = zero;
    for start in (0..len).step_by(CHUNK) {
        let mut lanes = [zero; LANES];
        for i in start..len.min(start + CHUNK) {
            lanes[(i - start) % LANES] = put(lanes[(i - start) % LANES], i);
        }
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] = join(lanes[i], lanes[i + half]);
            }
        }
        total = join(total, lanes[0]);
    }
    total
}

/// The sum of a row by the lane rule.
pub(crate) fn lane_sum<T: Real>(x: &[T]) -> T {
    lane_rule(x.len(), T::from_f64(0.0), |lane, i| lane + x[i], |a, b| a + b)
}
