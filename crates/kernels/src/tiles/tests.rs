//! Chains against scalar loops over the same views.

use super::*;
use crate::isa::Isa;
use crate::memory::{Memory, StateRef};
use crate::routine::Routine;
use crate::shape::{MAX_RANK, Shape};
use crate::tape::TapeBuilder;
use crate::view::{Region, View};
use Arg::{Input, Value};
use DType::{F32, F64, U32};

const NONE: Params = [0.0; 4];
/// Elements between the views of a test: more than any of them has.
const ROOM: usize = 64_000;
/// Bytes of the arena and of the batch.
const BYTES: usize = 4 * ROOM * 8;

struct Add;
impl Map<2> for Add {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [a, b]: [T; 2]) -> T {
        a + b
    }
}

struct Mul;
impl Map<2> for Mul {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [a, b]: [T; 2]) -> T {
        a * b
    }
}

/// a · p0 + b, and p1 where that is negative.
struct Affine;
impl Map<2> for Affine {
    #[inline(always)]
    fn map<T: Real>(params: &Params, [a, b]: [T; 2]) -> T {
        let y = a.mul_add(T::from_f64(params[0]), b);
        if y < T::default() { T::from_f64(params[1]) } else { y }
    }
}

struct Neg;
impl Map<1> for Neg {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [a]: [T; 1]) -> T {
        -a
    }
}

struct Less;
impl Compare for Less {
    #[inline(always)]
    fn compare<T: Real>(a: T, b: T) -> bool {
        a < b
    }
}

fn instr(tile: TileFn, args: &[Arg]) -> Instr {
    Instr { tile, args: args.to_vec() }
}

fn add(args: &[Arg]) -> Instr {
    instr(TileFn::map::<2, Add>(F32, NONE), args)
}

fn affine(dtype: DType, args: &[Arg]) -> Instr {
    instr(TileFn::map::<2, Affine>(dtype, [0.5, -3.0, 0.0, 0.0]), args)
}

fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.supported())
}

/// The `k`-th of a few views that are far apart.
fn at(dtype: DType, region: Region, k: usize, shape: Shape) -> View {
    View::contiguous(dtype, region, k * ROOM, shape)
}

fn arena(dtype: DType, k: usize, shape: Shape) -> View {
    at(dtype, Region::ARENA, k, shape)
}

fn batch(dtype: DType, k: usize, shape: Shape) -> View {
    at(dtype, Region::BATCH, k, shape)
}

type Call = (Vec<Instr>, Vec<usize>, Vec<View>, Vec<View>);

/// The arena after the calls.
fn run(isa: Isa, threads: usize, data: &Memory, calls: &[Call]) -> Memory {
    let mut builder = TapeBuilder::new(isa, threads, &[BYTES, BYTES, 0]);
    for (instrs, results, outs, ins) in calls {
        let routine = Routine::Tiles { instrs: instrs.clone(), results: results.clone() };
        builder.push(0, &routine, outs, ins).unwrap();
    }
    let mut tape = builder.finish(Memory::zeroed(0)).unwrap();
    for _ in 0..2 {
        tape.run(data, StateRef::Shared(&[])).unwrap();
    }
    tape.arena().clone()
}

fn refusal(instrs: &[Instr], results: &[usize], outs: &[View], ins: &[View]) -> String {
    let routine = Routine::Tiles { instrs: instrs.to_vec(), results: results.to_vec() };
    let mut builder = TapeBuilder::new(Isa::Portable, 1, &[BYTES, BYTES, 0]);
    builder.push(0, &routine, outs, ins).unwrap_err().what
}

/// `count` numbers between -8 and 8 with all their bits in use.
fn numbers(count: usize) -> Vec<f64> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64 * 16.0 - 8.0
    };
    (0..count).map(|_| next()).collect()
}

fn memory32(values: impl IntoIterator<Item = f32>) -> Memory {
    let mut memory = Memory::zeroed(BYTES);
    memory.slice_mut::<f32>(0, BYTES / 4).iter_mut().zip(values).for_each(|(to, from)| *to = from);
    memory
}

fn random32() -> Memory {
    memory32(numbers(BYTES / 4).into_iter().map(|x| x as f32))
}

/// The elements of a view, one index at a time: the plain definition of strides.
fn gather<T: bytemuck::Pod>(memory: &Memory, view: &View) -> Vec<T> {
    let all = memory.slice::<T>(0, memory.len() / size_of::<T>());
    (0..view.shape.count())
        .map(|mut i| {
            let mut from = view.offset;
            for axis in (0..view.shape.rank()).rev() {
                from += i % view.shape.dims()[axis] * view.strides[axis];
                i /= view.shape.dims()[axis];
            }
            all[from]
        })
        .collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn shapes() -> Vec<Shape> {
    let mut shapes = vec![Shape::SCALAR, [0].into(), [3, 0].into(), [3, 5].into(), [64, 65].into(), [7, 1, 3].into()];
    shapes.extend([
        Shape::from([2, 3, 5, 7]),
        [16, 48].into(),
        [4, 4].into(),
        [2, 40, 33].into(),
        [3, 100, 101].into(),
    ]);
    shapes.extend([1, 2, 3, 15, 16, 17, 63, 64, 65, 256, 1031].map(|n| Shape::from([n])));
    shapes
}

/// A view of each kind of strides that `shape` allows: dense, reversed axes, every other element, first axis repeated,
/// last axis repeated, a scalar, rows of a wider matrix.
fn kinds(shape: Shape, k: usize) -> Vec<View> {
    let dense = batch(F32, k, shape);
    let (rank, dims) = (shape.rank(), shape.dims());
    let row = shape.strides();
    let mut reversed = [0; MAX_RANK];
    let mut step = 1;
    for axis in 0..rank {
        reversed[axis] = step;
        step *= dims[axis];
    }
    let mut kinds = vec![dense, View { strides: reversed, ..dense }, View { strides: [0; MAX_RANK], ..dense }];
    if shape.count() < ROOM / 2 {
        kinds.push(View { strides: row.map(|s| 2 * s), ..dense });
    }
    if rank > 0 {
        let but = |axis: usize, stride: usize| {
            let mut strides = row;
            strides[axis] = stride;
            View { strides, ..dense }
        };
        kinds.extend([but(0, 0), but(rank - 1, 0), but(0, row[0] + 3)]);
    }
    kinds
}

/// ((x + y) · 0.5 + x, or -3 where that is negative) · y
fn chain() -> Vec<Instr> {
    let product = instr(TileFn::map::<2, Mul>(F32, NONE), &[Value(1), Input(1)]);
    vec![add(&[Input(0), Input(1)]), affine(F32, &[Value(0), Input(0)]), product]
}

fn chain_of(x: f32, y: f32) -> f32 {
    let z = (x + y).mul_add(0.5, x);
    (if z < 0.0 { -3.0 } else { z }) * y
}

fn chain_over(data: &Memory, x: &View, y: &View) -> Vec<u32> {
    let (x, y) = (gather::<f32>(data, x), gather::<f32>(data, y));
    x.into_iter().zip(y).map(|(x, y)| chain_of(x, y).to_bits()).collect()
}

#[test]
fn strides_of_every_kind_match_a_scalar_loop() {
    let data = random32();
    for shape in shapes() {
        let out = arena(F32, 1, shape);
        let (xs, ys) = (kinds(shape, 0), kinds(shape, 3));
        for (i, x) in xs.iter().enumerate() {
            for y in [ys[i], ys[(i + 1) % ys.len()]] {
                let expected = chain_over(&data, x, &y);
                for isa in isas() {
                    let found = run(isa, 1, &data, &[(chain(), vec![2], vec![out], vec![*x, y])]);
                    assert_eq!(gather::<u32>(&found, &out), expected, "{isa:?} {x:?} {y:?}");
                }
            }
        }
    }
}

#[test]
fn a_copy_gathers_any_strides() {
    let data = random32();
    for shape in shapes() {
        let outs = vec![arena(F32, 0, shape), arena(F32, 1, shape)];
        for x in kinds(shape, 1) {
            let copy = instr(TileFn::copy(F32), &[Input(0)]);
            let expected = gather::<u32>(&data, &x);
            let alone = run(Isa::Portable, 1, &data, &[(vec![copy.clone()], vec![0], vec![outs[0]], vec![x])]);
            assert_eq!(gather::<u32>(&alone, &outs[0]), expected, "{x:?}");
            // A copied value can be read again, and given out twice.
            let instrs = vec![copy, add(&[Value(0), Input(0)])];
            let both = run(Isa::best(), 1, &data, &[(instrs, vec![0, 1], outs.clone(), vec![x])]);
            assert_eq!(gather::<u32>(&both, &outs[0]), expected, "{x:?}");
            let twice: Vec<f32> = gather::<f32>(&data, &x).iter().map(|x| x + x).collect();
            assert_eq!(bits(&gather(&both, &outs[1])), bits(&twice), "{x:?}");
        }
    }
}

#[test]
fn eight_byte_elements_take_the_same_ways() {
    let mut data = Memory::zeroed(BYTES);
    data.slice_mut::<f64>(0, BYTES / 8).copy_from_slice(&numbers(BYTES / 8));
    for shape in [Shape::from([33, 50]), [5].into(), [7, 1, 3].into(), [2, 3, 5, 7].into(), [1031].into()] {
        let (a, b) = (batch(F64, 0, shape), batch(F64, 2, shape));
        let out = arena(F64, 1, shape);
        for (x, y) in kinds(shape, 0)
            .into_iter()
            .zip(kinds(shape, 2))
            .map(|(x, y)| (View { strides: x.strides, ..a }, View { strides: y.strides, ..b }))
        {
            let (copy, chain) = (instr(TileFn::copy(F64), &[Input(0)]), affine(F64, &[Input(1), Value(0)]));
            let (xs, ys) = (gather::<f64>(&data, &x), gather::<f64>(&data, &y));
            let value = |(x, y): (&f64, &f64)| y.mul_add(0.5, *x);
            let expected: Vec<f64> = xs.iter().zip(&ys).map(value).map(|y| if y < 0.0 { -3.0 } else { y }).collect();
            for isa in isas() {
                let found = run(isa, 1, &data, &[(vec![copy.clone(), chain.clone()], vec![1], vec![out], vec![x, y])]);
                assert_eq!(gather::<f64>(&found, &out), expected, "{isa:?} {x:?} {y:?}");
            }
        }
    }
}

#[test]
fn workers_change_no_bit() {
    let data = random32();
    let shape = Shape::from([3, 100, 101]);
    let out = arena(F32, 1, shape);
    for (x, y) in kinds(shape, 0).into_iter().zip(kinds(shape, 2)) {
        let expected = chain_over(&data, &x, &y);
        for (isa, threads) in isas().flat_map(|isa| [1, 2, 3, 7].map(|threads| (isa, threads))) {
            let found = run(isa, threads, &data, &[(chain(), vec![2], vec![out], vec![x, y])]);
            assert_eq!(gather::<u32>(&found, &out), expected, "{isa:?} {threads} {x:?} {y:?}");
        }
    }
    let step = |count: usize| {
        let views = [arena(F32, 0, [count].into()), batch(F32, 0, [count].into())];
        build(Isa::Portable, &chain()[..1], &[0], &views[..1], &[views[1], views[1]]).unwrap()
    };
    assert!(!step(100).parallel() && !step(60_000).parallel());
    assert!(step(200_000).parallel());
}

/// A call that brings batch values into the arena, so that they can be overwritten.
fn bring(k: usize, shape: Shape) -> Call {
    (vec![instr(TileFn::copy(F32), &[Input(0)])], vec![0], vec![arena(F32, k, shape)], vec![batch(F32, k, shape)])
}

#[test]
fn in_place_results_wait_for_later_readers() {
    let data = random32();
    for n in [1, 3, 4, 15, 16, 63, 64, 65, 256, 1031, 30_011] {
        let shape = Shape::from([n]);
        let (x, y) = (arena(F32, 0, shape), arena(F32, 1, shape));
        // Both results stand on inputs; the second instruction still reads x, and the last one reads the first's value.
        let instrs = vec![
            add(&[Input(0), Input(1)]),
            instr(TileFn::map::<2, Mul>(F32, NONE), &[Input(0), Value(0)]),
            instr(TileFn::map::<1, Neg>(F32, NONE), &[Input(1)]),
            add(&[Value(1), Value(2)]),
            add(&[Value(0), Value(3)]),
        ];
        let third = arena(F32, 2, shape);
        let outs = vec![x, y, third];
        let (xs, ys) = (gather::<f32>(&data, &batch(F32, 0, shape)), gather::<f32>(&data, &batch(F32, 1, shape)));
        for (isa, threads) in isas().flat_map(|isa| [(isa, 1), (isa, 3)]) {
            let update = (instrs.clone(), vec![0, 3, 4], outs.clone(), vec![x, y]);
            let found = run(isa, threads, &data, &[bring(0, shape), bring(1, shape), update]);
            for i in 0..n {
                let sum = xs[i] + ys[i];
                let product = xs[i] * sum - ys[i];
                let expected = [sum, product, sum + product].map(f32::to_bits);
                let given = [0, 1, 2].map(|k| found.slice::<u32>(k * ROOM + i, 1)[0]);
                assert_eq!(given, expected, "{isa:?} {n} {i}");
            }
        }
    }
}

#[test]
fn a_value_may_be_given_out_twice_and_dead_ones_are_left_out() {
    let data = random32();
    let shape = Shape::from([700]);
    let (x, y, z) = (arena(F32, 0, shape), arena(F32, 1, shape), arena(F32, 2, shape));
    let instrs = vec![add(&[Input(0), Input(0)]), add(&[Value(0), Input(0)]), add(&[Value(0), Value(1)])];
    // Both outputs take value 0; one stands on the input that instruction 1 reads, which nobody needs.
    let found = run(Isa::best(), 1, &data, &[bring(0, shape), (instrs.clone(), vec![0, 0], vec![x, y], vec![x])]);
    let twice: Vec<f32> = gather::<f32>(&data, &batch(F32, 0, shape)).iter().map(|x| x + x).collect();
    assert_eq!(gather::<f32>(&found, &x), twice);
    assert_eq!(gather::<f32>(&found, &y), twice);
    let found = run(Isa::best(), 1, &data, &[bring(0, shape), (instrs, vec![0, 2, 0], vec![x, y, z], vec![x])]);
    let five: Vec<f32> = gather::<f32>(&data, &batch(F32, 0, shape)).iter().map(|x| (x + x) + ((x + x) + x)).collect();
    assert_eq!(gather::<f32>(&found, &x), twice);
    assert_eq!(gather::<f32>(&found, &y), five);
    assert_eq!(gather::<f32>(&found, &z), twice);
}

#[test]
fn values_of_different_widths_share_scratch_memory() {
    let data = random32();
    for n in [1, 5, 64, 300, 1031] {
        let shape = Shape::from([n]);
        let square = |v: usize| instr(TileFn::map::<2, Mul>(F64, NONE), &[Value(v), Value(v)]);
        let instrs = vec![
            add(&[Input(0), Input(1)]),
            instr(TileFn::cast(F32, F64), &[Value(0)]),
            square(1),
            instr(TileFn::cast(F64, F32), &[Value(2)]),
            add(&[Value(3), Value(0)]),
            instr(TileFn::cast(F32, F64), &[Value(4)]),
            square(5),
            instr(TileFn::map::<2, Mul>(F64, NONE), &[Value(6), Value(1)]),
        ];
        let (x, y, out) = (batch(F32, 0, shape), batch(F32, 1, shape), arena(F64, 1, shape));
        let expected: Vec<f64> = gather::<f32>(&data, &x)
            .into_iter()
            .zip(gather::<f32>(&data, &y))
            .map(|(x, y)| {
                let sum = x + y;
                let wide = f64::from((f64::from(sum) * f64::from(sum)) as f32 + sum);
                wide * wide * f64::from(sum)
            })
            .collect();
        for isa in isas() {
            let found = run(isa, 1, &data, &[(instrs.clone(), vec![7], vec![out], vec![x, y])]);
            assert_eq!(gather::<f64>(&found, &out), expected, "{isa:?} {n}");
        }
    }
}

#[test]
fn select_and_compare_keep_bits() {
    let quiet = f32::from_bits(0x7fc0_1234);
    let special = [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, quiet, f32::MIN_POSITIVE];
    let shape = Shape::from([64]);
    let values = (0..64).map(|i| special[i / 8]).chain(std::iter::repeat_n(0.0, ROOM - 64));
    let data = memory32(values.chain((0..64).map(|i| special[i % 8])));
    let (x, y) = (batch(F32, 0, shape), batch(F32, 1, shape));
    let (less, least) = (arena(U32, 0, shape), arena(F32, 1, shape));
    let less_than = instr(TileFn::compare::<Less>(F32), &[Input(0), Input(1)]);
    let instrs = vec![less_than, instr(TileFn::select(F32), &[Value(0), Input(0), Input(1)])];
    // Conditions other than 0 and 1 choose the first side, for indices too: the bits of x stand for numbers.
    let choose = instr(TileFn::select(U32), &[Input(0), Input(0), Input(1)]);
    let (ux, uy) = (batch(U32, 0, shape), batch(U32, 1, shape));
    for isa in isas() {
        let found = run(isa, 1, &data, &[(instrs.clone(), vec![0, 1], vec![less, least], vec![x, y])]);
        let chosen = run(isa, 1, &data, &[(vec![choose.clone()], vec![0], vec![less], vec![ux, uy])]);
        for i in 0..64 {
            let (a, b) = (special[i / 8], special[i % 8]);
            assert_eq!(gather::<u32>(&found, &less)[i], u32::from(a < b), "{a} {b}");
            assert_eq!(gather::<u32>(&found, &least)[i], (if a < b { a } else { b }).to_bits(), "{a} {b}");
            let first = if a.to_bits() != 0 { a } else { b };
            assert_eq!(gather::<u32>(&chosen, &less)[i], first.to_bits(), "{a} {b}");
        }
    }
}

#[test]
fn casts_are_those_of_as() {
    let edges = [0.0, -0.0, 0.9, 1.5, -1.0, -0.5, 2.5e9, 4_294_967_295.0, 4_294_967_296.0, 1e20, -1e20, f64::NAN];
    let all: Vec<f64> = edges.into_iter().chain([f64::INFINITY, f64::NEG_INFINITY, 1e-310, 16_777_217.0]).collect();
    let shape = Shape::from([all.len() + 3]);
    let values: Vec<f64> = all.iter().chain(&all[3..6]).copied().collect();
    let mut data = memory32(values.iter().map(|x| *x as f32));
    data.slice_mut::<f64>(ROOM, values.len()).copy_from_slice(&values);
    let indices = [0, 1, 16_777_217, u32::MAX, 1 << 31, (1 << 31) + 129, 77];
    data.slice_mut::<u32>(3 * ROOM, 7).copy_from_slice(&indices);
    let whole = batch(U32, 3, [7].into());
    let out = |dtype, n: usize| arena(dtype, 0, [n].into());
    let cast = |isa, from: View, to: View| {
        let instr = instr(TileFn::cast(from.dtype, to.dtype), &[Input(0)]);
        run(isa, 1, &data, &[(vec![instr], vec![0], vec![to], vec![from])])
    };
    let (n, single, double) = (values.len(), batch(F32, 0, shape), batch(F64, 1, shape));
    for isa in isas() {
        let found = cast(isa, single, out(U32, n));
        let expected: Vec<u32> = values.iter().map(|x| *x as f32 as u32).collect();
        assert_eq!(found.slice::<u32>(0, n), expected);
        let expected: Vec<u32> = values.iter().map(|x| *x as u32).collect();
        assert_eq!(cast(isa, double, out(U32, n)).slice::<u32>(0, n), expected);
        let expected: Vec<u64> = values.iter().map(|x| f64::from(*x as f32).to_bits()).collect();
        assert_eq!(cast(isa, single, out(F64, n)).slice::<u64>(0, n), expected);
        let expected: Vec<u32> = values.iter().map(|x| (*x as f32).to_bits()).collect();
        assert_eq!(cast(isa, double, out(F32, n)).slice::<u32>(0, n), expected);
        assert_eq!(cast(isa, single, out(F32, n)).slice::<u32>(0, n), expected);
        assert_eq!(cast(isa, whole, out(F32, 7)).slice::<f32>(0, 7), indices.map(|i| i as f32));
        assert_eq!(cast(isa, whole, out(F64, 7)).slice::<f64>(0, 7), indices.map(f64::from));
        assert_eq!(cast(isa, whole, out(U32, 7)).slice::<u32>(0, 7), indices);
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    let shape = Shape::from([3, 5]);
    let (x, y, out) = (batch(F32, 0, shape), batch(U32, 1, shape), arena(F32, 0, shape));
    let sum = [add(&[Input(0), Input(0)])];
    let cases = [
        (refusal(&sum, &[0, 0], &[out], &[x]), "2 results for 1 outputs"),
        (refusal(&sum, &[], &[], &[x]), "a chain needs an output"),
        (refusal(&sum, &[1], &[out], &[x]), "result 0 is instruction 1, but there are 1"),
        (refusal(&sum, &[0], &[arena(U32, 0, shape)], &[x]), "output 0 is u32, but instruction 0 gives f32"),
        (
            refusal(&sum, &[0], &[out], &[batch(F32, 0, [5, 3].into())]),
            "input 0 has shape (5, 3), but output 0 has (3, 5)",
        ),
        (
            refusal(&[add(&[Input(0)])], &[0], &[out], &[x]),
            "instruction 0, Add(f32, f32) -> f32, takes 2 operands, not 1",
        ),
        (
            refusal(&[add(&[Input(0), Input(1)])], &[0], &[out], &[x, y]),
            "instruction 0, Add(f32, f32) -> f32, takes f32 as operand 1, not u32",
        ),
        (
            refusal(&[add(&[Input(0), Input(7)])], &[0], &[out], &[x]),
            "instruction 0, Add(f32, f32) -> f32, reads input 7, but there are 1",
        ),
        (
            refusal(&[add(&[Input(0), Value(0)])], &[0], &[out], &[x]),
            "instruction 0, Add(f32, f32) -> f32, reads the value of instruction 0, which is not an earlier one",
        ),
        (
            refusal(&[affine(U32, &[Input(0), Input(0)])], &[0], &[arena(U32, 0, shape)], &[y]),
            "instruction 0, Affine(u32, u32) -> u32 [0.5, -3.0, 0.0, 0.0], does not exist for u32",
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
    if let Some(isa) = Isa::ALL.into_iter().find(|isa| !isa.supported()) {
        let refused = build(isa, &sum, &[0], &[out], &[x]).map(|_| ()).unwrap_err();
        assert_eq!(refused, format!("this CPU cannot run {isa:?}"));
    }
}

#[test]
fn functions_are_equal_by_type_dtype_and_bits_of_parameters() {
    let f = |params| TileFn::map::<2, Affine>(F32, params);
    assert_eq!(f([f64::NAN, 0.0, 0.0, 0.0]), f([f64::NAN, 0.0, 0.0, 0.0]));
    assert_ne!(f([0.0; 4]), f([-0.0, 0.0, 0.0, 0.0]));
    assert_ne!(f(NONE), TileFn::map::<2, Affine>(F64, NONE));
    assert_ne!(f(NONE), TileFn::map::<2, Add>(F32, NONE));
    assert_ne!(TileFn::select(F32), TileFn::select(U32));
    assert_ne!(TileFn::cast(F32, F64), TileFn::cast(F64, F64));
    assert_eq!(format!("{:?}", TileFn::compare::<Less>(F64)), "Less(f64, f64) -> u32");
    assert_eq!(format!("{:?}", TileFn::select(F32)), "Select(u32, f32, f32) -> f32");
    assert_eq!(TileFn::select(F64).operands(), [U32, F64, F64]);
    assert_eq!((TileFn::cast(F64, U32).result(), TileFn::compare::<Less>(F32).result()), (U32, U32));
}
