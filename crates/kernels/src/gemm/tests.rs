//! Products against plain loops: exact bits of the documented order, and a bound on the distance from the true sum.

mod after;

use super::*;
use crate::memory::Memory;
use crate::shape::Shape;
use crate::view::Region;

/// Lengths around every tile, vector and block, and a prime.
pub(super) const SIZES: [usize; 17] = [0, 1, 3, 7, 8, 16, 17, 47, 48, 49, 63, 64, 65, 101, 255, 256, 257];
const WORKERS: [usize; 5] = [1, 2, 3, 6, 7];

/// What the tests need of f32 and f64.
pub(super) trait Float: bytemuck::Pod + Default + PartialEq + std::fmt::Debug + Into<f64> {
    const DTYPE: DType;
    /// Half the distance from 1 to the next number.
    const ROUNDING: f64;
    fn fma(self, b: Self, c: Self) -> Self;
    fn plus(self, b: Self) -> Self;
    fn of(x: f64) -> Self;
    fn bits(self) -> u64;
}

macro_rules! float {
    ($t:ty, $d:expr) => {
        impl Float for $t {
            const DTYPE: DType = $d;
            const ROUNDING: f64 = <$t>::EPSILON as f64 / 2.0;
            fn fma(self, b: Self, c: Self) -> Self {
                self.mul_add(b, c)
            }
            fn plus(self, b: Self) -> Self {
                self + b
            }
            fn of(x: f64) -> Self {
                x as $t
            }
            fn bits(self) -> u64 {
                self.to_bits().into()
            }
        }
    };
}
float!(f32, DType::F32);
float!(f64, DType::F64);

/// A value at any strides: the memory that holds it and its view.
pub(super) struct Operand<T> {
    pub(super) data: Vec<T>,
    pub(super) view: View,
}

/// Numbers in -1..1 with every bit of the mantissa in use.
pub(super) fn numbers(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

impl<T: Float> Operand<T> {
    /// A view whose axes stand in memory in the order `axes` (outermost first), rows `gap` elements longer than needed.
    /// Axes that are not listed repeat.
    pub(super) fn new(seed: u64, dims: &[usize], axes: &[usize], gap: usize) -> Operand<T> {
        let shape = Shape::checked(dims).expect("a small shape");
        let mut view = View { strides: [0; 6], ..View::contiguous(T::DTYPE, Region::ARENA, 3, shape) };
        let mut step = 1;
        for (place, axis) in axes.iter().rev().enumerate() {
            view.strides[*axis] = step;
            step = step * dims[*axis] + if place == 0 { gap } else { 0 };
        }
        let mut next = numbers(seed);
        Operand { data: (0..view.end()).map(|_| T::of(next())).collect(), view }
    }

    /// Offset of batch item `item`, counted row-major over the outer axes.
    fn item(&self, item: usize) -> usize {
        let (mut left, mut at) = (item, self.view.offset);
        for axis in (0..self.view.shape.rank() - 2).rev() {
            let len = self.view.shape.dims()[axis];
            at += left % len * self.view.strides[axis];
            left /= len;
        }
        at
    }

    pub(super) fn at(&self, item: usize, i: usize, j: usize) -> T {
        let rank = self.view.shape.rank();
        self.data[self.item(item) + i * self.view.strides[rank - 2] + j * self.view.strides[rank - 1]]
    }
}

pub(super) fn sizes<T: Float>(a: &Operand<T>, b: &Operand<T>) -> (usize, usize, usize, Shape) {
    let rank = a.view.shape.rank();
    let (m, k, n) = (a.view.shape.dims()[rank - 2], a.view.shape.dims()[rank - 1], b.view.shape.dims()[rank - 1]);
    (m, n, k, a.view.shape.with(rank - 1, n))
}

/// The step's output, every worker in turn. The memory around it and fresh scratch hold a pattern; the pattern around
/// the output must survive.
pub(super) fn run<T: Float>(
    build: impl Fn(&[View], &[View]) -> Result<Box<dyn Step>, String>,
    workers: usize,
    a: &Operand<T>,
    b: &Operand<T>,
) -> Vec<T> {
    let (_, _, _, shape) = sizes(a, b);
    let out = View::contiguous(T::DTYPE, Region::state(0), 5, shape);
    let in_region = |region: u16, view: View| View { region: Region(region), ..view };
    let ins = [in_region(0, a.view), in_region(1, b.view)];
    let step = build(&[in_region(2, out)], &ins).expect("the shapes agree");
    let mut data = vec![T::of(f64::NAN); out.end() + 70];
    for index in 0..workers {
        let mut scratch = Memory::zeroed(step.scratch() + 64);
        scratch.bytes_mut().fill(0xff);
        let worker = Worker { index, count: workers, scratch: scratch.bytes_mut().as_mut_ptr() };
        let at = |x: &Operand<T>| x.data.as_ptr().cast::<u8>().cast_mut();
        let bases = Bases::of(vec![at(a), at(b), data.as_mut_ptr().cast()]);
        // SAFETY: each view lies inside its vector, and the scratch is as large as asked for.
        let done = unsafe { step.run(&bases, &worker) };
        assert!(done.is_ok());
        assert!(scratch.bytes()[step.scratch()..].iter().all(|x| *x == 0xff), "a write past the scratch");
    }
    let intact = |x: &T| (*x).into().is_nan();
    assert!(data[..5].iter().all(intact) && data[out.end()..].iter().all(intact), "a write outside the output");
    data[5..out.end()].to_vec()
}

fn compute<T: Float>(isa: Isa, workers: usize, a: &Operand<T>, b: &Operand<T>) -> Vec<T> {
    run(|outs, ins| build(isa, outs, ins, None), workers, a, b)
}

/// The documented order, one element at a time.
fn ordered<T: Float>(a: &Operand<T>, b: &Operand<T>) -> Vec<T> {
    let (m, n, k, shape) = sizes(a, b);
    let mut out = Vec::with_capacity(shape.count());
    for item in 0..shape.count() / (m * n).max(1) {
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let block =
                |p: usize| (p..k.min(p + 256)).fold(T::default(), |sum, p| a.at(item, i, p).fma(b.at(item, p, j), sum));
            let sum = (0..k).step_by(256).map(block).reduce(T::plus);
            out.push(sum.unwrap_or_default());
        }
    }
    out
}

/// Asserts |error| <= (k + 8) * rounding * sum |a b| against sums that carry what each step rounds away.
fn assert_close<T: Float>(out: &[T], a: &Operand<T>, b: &Operand<T>) {
    let (m, n, k, _) = sizes(a, b);
    for (at, found) in out.iter().enumerate() {
        let (item, i, j) = (at / (m * n), at / n % m, at % n);
        let (mut sum, mut rest, mut size) = (0.0f64, 0.0f64, 0.0f64);
        for p in 0..k {
            let (x, y): (f64, f64) = (a.at(item, i, p).into(), b.at(item, p, j).into());
            let product = x * y;
            let next = sum + product;
            let kept = next - sum;
            rest += x.mul_add(y, -product) + ((sum - (next - kept)) + (product - kept));
            sum = next;
            size += product.abs();
        }
        let (found, bound) = ((*found).into(), (k + 8) as f64 * T::ROUNDING * size);
        assert!(((found - sum) - rest).abs() <= bound, "{m}x{k}x{n} at {at}: {found} is not {sum}");
    }
}

fn assert_bits<T: Float>(found: &[T], expected: &[T], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert_eq!(f.bits(), e.bits(), "{what}: element {i} is {f:?}, not {e:?}");
    }
}

/// All paths and worker counts against the two referees.
fn check_product<T: Float>(a: &Operand<T>, b: &Operand<T>) {
    let expected = ordered(a, b);
    assert_close(&expected, a, b);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        // The slow path is the same code over other vectors; two worker counts do for it.
        for workers in WORKERS.into_iter().filter(|w| isa != Isa::Portable || w % 2 == 1) {
            let what = format!("{:?} @ {:?}, {isa:?}, {workers} workers", a.view, b.view);
            assert_bits(&compute(isa, workers, a, b), &expected, &what);
        }
    }
}

/// a (m, k) @ b (k, n), each transposed or not, rows longer than needed by `gap`.
fn check_matrices<T: Float>(m: usize, n: usize, k: usize, transposed: usize, gap: usize) {
    let axes = |t: bool| if t { [1, 0] } else { [0, 1] };
    let a = Operand::<T>::new(1, &[m, k], &axes(transposed & 1 != 0), gap);
    let b = Operand::<T>::new(2, &[k, n], &axes(transposed & 2 != 0), gap);
    check_product(&a, &b);
}

/// Every pair of rows and columns; k and the transposes go round.
fn check_grid<T: Float>(most: usize) {
    let mut round = 0;
    for m in SIZES {
        for n in SIZES {
            round += 1;
            let k = SIZES[(round * 5 + 3) % SIZES.len()];
            if m * n * k <= most {
                check_matrices::<T>(m, n, k, round % 4, round % 3);
            }
        }
    }
}

#[test]
fn f32_grid() {
    check_grid::<f32>(500_000);
}

#[test]
fn f64_grid() {
    check_grid::<f64>(250_000);
}

#[test]
fn every_transpose_of_small_and_tiled_sizes() {
    let small = (1..6).flat_map(|m| (1..10).flat_map(move |n| (1..4).map(move |k| (m, n, k))));
    for (m, n, k) in small.chain([(13, 50, 40), (31, 9, 70), (5, 100, 33)]) {
        for transposed in 0..4 {
            check_matrices::<f32>(m, n, k, transposed, transposed % 2);
            check_matrices::<f64>(m, n, k, transposed, transposed % 2);
        }
    }
}

#[test]
fn sums_over_several_blocks() {
    for (m, n, k) in [(1, 1, 513), (2, 5, 300), (9, 19, 512), (17, 33, 521), (50, 7, 257), (1, 40, 769), (40, 1, 770)] {
        for transposed in 0..4 {
            check_matrices::<f32>(m, n, k, transposed, 1);
            check_matrices::<f64>(m, n, k, transposed, 0);
        }
    }
}

#[test]
fn rows_over_several_blocks() {
    // More rows than one block of a holds, with and without a copy of it.
    check_matrices::<f32>(401, 20, 3, 0, 0);
    check_matrices::<f32>(401, 50, 5, 1, 0);
    check_matrices::<f64>(211, 26, 4, 1, 2);
    // Rows a power of two apart are copied.
    check_matrices::<f32>(65, 401, 5, 0, 507);
    check_matrices::<f64>(65, 193, 257, 0, 255);
}

/// Lengths of the axes and the order in which they stand in memory; an axis left out repeats.
pub(super) type Axes = ([usize; 4], &'static [usize]);

/// Left and right operands of batches.
pub(super) const BATCHES: [(Axes, Axes); 10] = [
    (([2, 3, 5, 7], &[0, 1, 2, 3]), ([2, 3, 7, 9], &[0, 1, 2, 3])),
    (([2, 3, 17, 8], &[0, 2, 1, 3]), ([2, 3, 8, 17], &[0, 3, 1, 2])),
    (([2, 3, 17, 16], &[0, 2, 1, 3]), ([2, 3, 16, 40], &[0, 2, 1, 3])),
    (([2, 3, 9, 33], &[0, 1, 2, 3]), ([2, 3, 33, 31], &[2, 3])),
    (([2, 3, 17, 8], &[0, 2, 1, 3]), ([2, 3, 8, 30], &[2, 3])),
    (([3, 2, 30, 20], &[2, 3]), ([3, 2, 20, 30], &[0, 1, 3, 2])),
    (([3, 2, 9, 20], &[0, 2, 3]), ([3, 2, 20, 50], &[1, 3, 2])),
    (([2, 4, 1, 6], &[0, 1, 3]), ([2, 4, 6, 5], &[0, 2, 3])),
    (([1, 9, 40, 32], &[2, 1, 3, 0]), ([1, 9, 32, 40], &[3, 1, 2, 0])),
    (([2, 2, 33, 40], &[0, 1, 3, 2]), ([2, 2, 40, 1], &[3, 2, 1, 0])),
];

#[test]
fn batches_at_any_strides() {
    for (i, ((da, oa), (db, ob))) in BATCHES.into_iter().enumerate() {
        check_product(&Operand::<f32>::new(3, &da, oa, i % 2), &Operand::new(4, &db, ob, 0));
        check_product(&Operand::<f64>::new(5, &da, oa, 0), &Operand::new(6, &db, ob, i % 2));
    }
}

#[test]
fn attention_shapes() {
    // Heads of queries, keys and values side by side in one row, as a joint projection leaves them.
    let heads = |seed, dims: [usize; 4], order: &[usize]| Operand::<f32>::new(seed, &dims, order, 7);
    check_product(&heads(1, [2, 3, 64, 32], &[0, 2, 1, 3]), &heads(2, [2, 3, 32, 64], &[0, 3, 1, 2]));
    check_product(&heads(3, [2, 3, 64, 64], &[0, 1, 2, 3]), &heads(4, [2, 3, 64, 32], &[0, 2, 1, 3]));
}

#[test]
fn a_repeated_element_and_repeated_rows() {
    let a = Operand::<f32>::new(1, &[20, 30], &[], 0);
    check_product(&a, &Operand::new(2, &[30, 40], &[1], 0));
    check_product(&Operand::<f32>::new(3, &[20, 30], &[0], 0), &Operand::new(4, &[30, 40], &[0], 0));
}

#[test]
fn nothing_is_skipped() {
    let mut a = Operand::<f32>::new(1, &[20, 30], &[0, 1], 0);
    let mut b = Operand::<f32>::new(2, &[30, 20], &[0, 1], 0);
    a.data[3..].fill(0.0);
    b.data[3 + 5] = f32::INFINITY;
    b.data[3 + 6] = f32::NAN;
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        for (i, x) in compute(isa, 1, &a, &b).into_iter().enumerate() {
            assert_eq!(x.is_nan(), i % 20 == 5 || i % 20 == 6, "{isa:?}, element {i}: {x}");
        }
    }
}

#[test]
fn signs_of_zero_are_those_of_the_documented_order() {
    let mut a = Operand::<f32>::new(1, &[6, 1], &[0, 1], 0);
    a.data[3..].fill(-0.0);
    check_product(&a, &Operand::new(2, &[1, 20], &[0, 1], 0));
}

#[test]
fn size_one_axes_do_not_hide_unit_strides() {
    // A column transposed: k has length 1, whatever its stride says.
    let mut row = Operand::<f32>::new(1, &[1, 4], &[1], 0);
    row.view.strides = [9, 1, 0, 0, 0, 0];
    let Call { dims, .. } = layout::resolve(&Operand::<f32>::new(2, &[4, 1], &[0, 1], 0).view, &row.view);
    assert_eq!(dims, Dims { m: 4, n: 4, k: 1, rsa: 1, csa: 1, rsb: 1, csb: 1 });
    check_product(&Operand::new(2, &[4, 1], &[0, 1], 0), &row);
}

#[test]
fn a_shared_right_side_makes_one_product() {
    let a = Operand::<f32>::new(1, &[2, 3, 5, 7], &[0, 1, 2, 3], 0);
    let b = Operand::<f32>::new(2, &[2, 3, 7, 4], &[2, 3], 0);
    let Call { dims, batch, .. } = layout::resolve(&a.view, &b.view);
    assert_eq!((dims.m, batch.count), (30, 1));
}

#[test]
fn only_large_products_are_shared() {
    let parallel = |m: usize, n: usize, k: usize| {
        let view = |r: usize, c: usize| View::contiguous(DType::F32, Region::ARENA, 0, [r, c].into());
        build(Isa::Portable, &[view(m, n)], &[view(m, k), view(k, n)], None).map(|step| step.parallel())
    };
    assert_eq!(parallel(4, 4, 2), Ok(false));
    assert_eq!(parallel(64, 64, 64), Ok(false));
    assert_eq!(parallel(64, 64, 65), Ok(true));
}

#[test]
fn calls_that_do_not_fit_are_refused() {
    let view = |dtype, shape: &[usize]| {
        View::contiguous(dtype, Region::ARENA, 0, Shape::checked(shape).expect("a small shape"))
    };
    let refused = |a: View, b: View, out: View| build(Isa::Portable, &[out], &[a, b], None).err();
    let f = |shape: &[usize]| view(DType::F32, shape);
    assert_eq!(refused(f(&[4, 2]), f(&[2, 3]), f(&[4, 3])), None);
    let what = |a, b, out| refused(f(a), f(b), f(out)).unwrap_or_default();
    assert_eq!(what(&[4, 2], &[3, 3], &[4, 3]), "(4, 2) @ (3, 3) does not give (4, 3)");
    assert_eq!(what(&[4, 2], &[2, 3], &[3, 4]), "(4, 2) @ (2, 3) does not give (3, 4)");
    assert_eq!(what(&[5, 4, 2], &[6, 2, 3], &[5, 4, 3]), "(5, 4, 2) @ (6, 2, 3) does not give (5, 4, 3)");
    assert_eq!(what(&[4], &[4], &[]), "(4,) @ (4,) does not give ()");
    let mixed = refused(f(&[4, 2]), view(DType::F64, &[2, 3]), f(&[4, 3]));
    assert_eq!(mixed.as_deref(), Some("f32 @ f64 does not give f32"));
    let whole = |shape| view(DType::U32, shape);
    let integers = refused(whole(&[4, 2]), whole(&[2, 3]), whole(&[4, 3]));
    assert_eq!(integers.as_deref(), Some("a matmul takes floats, not u32"));
    assert!(build(Isa::Portable, &[], &[f(&[4, 2])], None).is_err());
}
