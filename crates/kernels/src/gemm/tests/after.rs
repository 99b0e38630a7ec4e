//! A product with a chain behind it against the two calls that it stands for.

use super::*;
use crate::memory::StateRef;
use crate::routine::Routine;
use crate::tape::TapeBuilder;
use crate::tiles::{Arg, Instr, Map, TileFn};

/// a · b + c, and half of it where it is negative.
struct Bent;
impl Map<3> for Bent {
    #[inline(always)]
    fn map<T: crate::math::Real>(_: &crate::tiles::Params, [a, b, c]: [T; 3]) -> T {
        let y = a.mul_add(b, c);
        if y < T::ZERO { y * T::from_f64(0.5) } else { y }
    }
}

/// Sizes of a product, batch first.
type Sizes = [usize; 4];

/// first = bent(product, row, matrix), second = bent(first, matrix, product): a chain that reads the product twice, one
/// row for all rows, and a matrix.
fn chain(dtype: DType) -> Vec<Instr> {
    let bent = |args: &[Arg]| Instr { tile: TileFn::map::<3, Bent>(dtype, [0.0; 4]), args: args.to_vec() };
    vec![bent(&[Arg::Input(0), Arg::Input(1), Arg::Input(2)]), bent(&[Arg::Value(0), Arg::Input(2), Arg::Input(0)])]
}

/// The three places of the outputs one after another: product (if kept), first and second result.
fn outputs<T: Float>(
    (isa, threads): (Isa, usize),
    product: &Routine,
    [batch, m, n, k]: Sizes,
    keeps: bool,
    together: bool,
) -> Vec<T> {
    let shape = Shape::from([batch, m, n]);
    let (count, room) = (shape.count(), shape.count() + 9);
    let place = |region: Region, at: usize, dims: [usize; 3]| View::contiguous(T::DTYPE, region, at, dims.into());
    let [a, b] = [place(Region::BATCH, 0, [batch, m, k]), place(Region::BATCH, batch * m * k, [batch, k, n])];
    let behind = batch * (m * k + k * n);
    let row = View { strides: [0, 0, 1, 0, 0, 0], ..place(Region::BATCH, behind, [batch, m, n]) };
    let matrix = place(Region::BATCH, behind + n, [batch, m, n]);
    let mut data = Memory::zeroed((behind + n + count) * size_of::<T>());
    let mut next = numbers(7);
    let length = data.len() / size_of::<T>();
    data.slice_mut::<T>(0, length).iter_mut().for_each(|x| *x = T::of(next()));

    let [place, first, second] = [0, 1, 2].map(|i| place(Region::ARENA, i * room, [batch, m, n]));
    let mut tape = TapeBuilder::new(isa, threads, &[3 * room * size_of::<T>(), data.len(), 0]);
    if together {
        let outs: &[View] = if keeps { &[place, first, second] } else { &[second, first] };
        let results = if keeps { vec![0, 1] } else { vec![1, 0] };
        let routine = Routine::Followed { product: Box::new(product.clone()), instrs: chain(T::DTYPE), results, keeps };
        tape.push(0, &routine, outs, &[a, b, row, matrix]).expect("it fits");
    } else {
        tape.push(0, product, &[place], &[a, b]).expect("it fits");
        let routine = Routine::Tiles { instrs: chain(T::DTYPE), results: vec![0, 1] };
        tape.push(1, &routine, &[first, second], &[place, row, matrix]).expect("it fits");
    }
    let mut tape = tape.finish(Memory::zeroed(0)).expect("it fits");
    tape.run(&data, StateRef::Shared(&[])).expect("nothing can fail");
    let from = if keeps { 0 } else { room };
    tape.arena().slice::<T>(from, 3 * room - from).to_vec()
}

fn check<T: Float>(product: &Routine, sizes: Sizes) {
    for keeps in [true, false] {
        let expected = outputs::<T>((Isa::Portable, 1), product, sizes, keeps, false);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
            for threads in [1, 2, 3, 7] {
                let found = outputs::<T>((isa, threads), product, sizes, keeps, true);
                assert_bits(&found, &expected, &format!("{sizes:?}, {isa:?}, {threads} threads, keeps {keeps}"));
            }
        }
    }
}

#[test]
fn sizes_of_every_way() {
    // Tiny, in one piece and batched; nothing to add up; single rows and columns; panels; strips; several blocks of k.
    let all = [
        [1, 4, 4, 2],
        [5, 3, 7, 4],
        [1, 5, 3, 0],
        [1, 1, 5000, 70],
        [1, 900, 1, 300],
        [1, 65, 63, 64],
        [1, 101, 257, 17],
        [3, 48, 49, 47],
        [1, 401, 300, 257],
        [1, 130, 1000, 20],
    ];
    for sizes in all {
        check::<f32>(&Routine::Matmul, sizes);
        check::<f64>(&Routine::Matmul, sizes);
        check::<f32>(&Routine::MatmulBf16, sizes);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let view = |at: usize, dims: [usize; 2]| View::contiguous(DType::F32, Region::ARENA, at, dims.into());
    let [a, b, out, other] = [view(0, [4, 3]), view(12, [3, 5]), view(32, [4, 5]), view(64, [4, 5])];
    let refused = |product: Routine, outs: &[View], ins: &[View]| {
        let instrs = chain(DType::F32);
        let routine = Routine::Followed { product: Box::new(product), instrs, results: vec![0], keeps: false };
        let mut tape = TapeBuilder::new(Isa::Portable, 1, &[1024, 0, 0]);
        tape.push(0, &routine, outs, ins).err().map(|e| e.to_string())
    };
    assert_eq!(refused(Routine::Matmul, &[out], &[a, b, other, other]), None);
    let what = refused(Routine::Softmax, &[out], &[a, b, other, other]);
    assert_eq!(what.as_deref(), Some("softmax: a chain does not follow softmax"));
    let what = refused(Routine::Matmul, &[out], &[a, b, other]).unwrap_or_default();
    assert!(what.contains("reads input 2, but there are 2"), "{what}");
    // The product is written before the chain reads its inputs.
    let what = refused(Routine::Matmul, &[out], &[a, b, out, other]);
    assert_eq!(what.as_deref(), Some("matmul: output 0 overlaps another view"));
}
