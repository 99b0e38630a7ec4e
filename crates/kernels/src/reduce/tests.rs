use super::lanes::LANES;
use super::testing::{Data, Element, Layout, epsilon, lane_rule, noise, refusal, run, same};
use super::*;

const SHAPES: [&[usize]; 20] = [
    &[],
    &[0],
    &[1],
    &[17],
    &[4, 4],
    &[0, 3],
    &[3, 0],
    &[65, 3],
    &[64, 64],
    &[257, 31],
    &[2, 3, 5],
    &[5, 1, 67],
    &[3, 2, 4, 5],
    &[7, 700],
    &[40, 5],
    &[9, 15],
    &[9, 16],
    &[2, 63],
    &[600, 128],
    &[3, 4100],
];

/// The positions of the reduced elements of every output, in row-major order.
fn lists(dims: &[usize], axes: u8) -> (Vec<usize>, Vec<Vec<usize>>) {
    let reduced = |axis: usize| axes >> axis & 1 == 1;
    let out: Vec<usize> = dims.iter().enumerate().map(|(i, d)| if reduced(i) { 1 } else { *d }).collect();
    let mut lists = vec![Vec::new(); out.iter().product()];
    for index in 0..dims.iter().product() {
        let (mut rest, mut place, mut step) = (index, 0, 1);
        for axis in (0..dims.len()).rev() {
            let at = rest % dims[axis];
            rest /= dims[axis];
            place += if reduced(axis) { 0 } else { at * step };
            step *= out[axis];
        }
        lists[place].push(index);
    }
    (out, lists)
}

/// The documented order, spelled out for one list.
fn in_order<T: Real>(x: &[T], by_lanes: bool, zero: T, join: fn(T, T) -> T) -> T {
    if by_lanes {
        return lane_rule(x.len(), zero, |lane, i| join(lane, x[i]), join);
    }
    x.chunks(BLOCK).fold(zero, |total, block| join(total, block.iter().fold(zero, |sum, x| join(sum, *x))))
}

fn check_fold<T: Real + Element>(fold: Fold, dims: &[usize], axes: u8, layout: Layout, x: &[T]) {
    let (out_dims, lists) = lists(dims, axes);
    let (found, fault) =
        run::<T>(&out_dims, &[Data::new(dims, x, layout)], &|isa, outs, ins| build(isa, fold, axes, outs, ins));
    assert_eq!(fault, Ok(()));
    let last = dims.iter().rposition(|d| *d != 1);
    let by_lanes = last.is_none_or(|axis| axes >> axis & 1 == 1);
    let larger = |a: T, b: T| {
        if a.to_f64().is_nan() || b.to_f64().is_nan() {
            T::from_f64(f64::NAN)
        } else if b > a {
            b
        } else {
            a
        }
    };
    let (zero, join): (f64, fn(T, T) -> T) = match fold {
        Fold::Sum => (0.0, |a, b| a + b),
        Fold::Max => (f64::NEG_INFINITY, larger),
    };
    let values: Vec<Vec<T>> = lists.iter().map(|list| list.iter().map(|i| x[*i]).collect()).collect();
    let expected: Vec<T> = values.iter().map(|x| in_order(x, by_lanes, T::from_f64(zero), join)).collect();
    same(&found, &expected, &format!("{fold:?} of {dims:?} over {axes:b}, {layout:?}"));
    if fold == Fold::Sum {
        for (found, x) in found.iter().zip(&values) {
            let exact: f64 = x.iter().map(|x| x.to_f64()).sum();
            check_sum(*found, exact, x.iter().map(|x| x.to_f64().abs()).sum(), x.len());
        }
    }
}

/// The textbook bound of a sum of `n` terms in any order.
#[track_caller]
fn check_sum<T: Real>(found: T, exact: f64, absolute: f64, n: usize) {
    let error = (found.to_f64() - exact).abs();
    assert!(error <= n as f64 * epsilon::<T>() * absolute, "{found:?} instead of {exact}");
}

#[test]
fn folds_follow_their_order_for_every_layout() {
    for dims in SHAPES {
        for axes in 0..1u8 << dims.len() {
            let count = dims.iter().product();
            for layout in Layout::ALL {
                check_fold::<f32>(Fold::Sum, dims, axes, layout, &noise(1, count));
                check_fold::<f32>(Fold::Max, dims, axes, layout, &noise(2, count));
            }
            check_fold::<f64>(Fold::Sum, dims, axes, Layout::RowMajor, &noise(3, count));
            check_fold::<f64>(Fold::Max, dims, axes, Layout::Gaps, &noise(4, count));
        }
    }
}

#[test]
fn long_lists_are_cut_into_chunks() {
    for (dims, axes) in
        [(&[2usize, 40_961][..], 0b11), (&[2, 40_961], 0b10), (&[3, 9, 1001], 0b101), (&[700, 150], 0b01)]
    {
        let x = noise::<f32>(5, dims.iter().product());
        for layout in Layout::ALL {
            check_fold(Fold::Sum, dims, axes, layout, &x);
        }
    }
}

#[test]
fn a_broadcast_input_is_read_again_and_again() {
    let data = Data::broadcast::<f32>(&[130, 3], &[0, 1], &[0.1, -2.0, 7.0]);
    let x = data.values::<f32>();
    for axes in [0b01, 0b10, 0b11] {
        let (out, lists) = lists(&[130, 3], axes);
        let (found, _) =
            run::<f32>(&out, std::slice::from_ref(&data), &|isa, outs, ins| build(isa, Fold::Sum, axes, outs, ins));
        for (found, list) in found.iter().zip(lists) {
            let values: Vec<f32> = list.iter().map(|i| x[*i]).collect();
            assert_eq!(*found, in_order(&values, axes != 0b01, 0.0, |a, b| a + b));
        }
    }
}

#[test]
fn nan_wins_and_nothing_is_minus_infinity() {
    let mut x = noise::<f32>(6, 257 * 31);
    for at in [0, 40, 8 * 31 + 30, 256 * 31 + 30] {
        x[at] = f32::NAN;
    }
    x[100] = f32::INFINITY;
    x[3 * 31..4 * 31].fill(f32::NEG_INFINITY);
    for axes in 1..4 {
        check_fold(Fold::Max, &[257, 31], axes, Layout::RowMajor, &x);
    }
    let (found, _) = run::<f64>(&[1, 2], &[Data::new::<f64>(&[0, 2], &[], Layout::RowMajor)], &|isa, outs, ins| {
        build(isa, Fold::Max, 0b01, outs, ins)
    });
    assert_eq!(found, [f64::NEG_INFINITY; 2]);
}

fn first_largest(row: &[f32]) -> u32 {
    let mut best = 0;
    for (i, x) in row.iter().enumerate() {
        if !row[best].is_nan() && (x.is_nan() || *x > row[best]) {
            best = i;
        }
    }
    best as u32
}

#[test]
fn argmax_finds_the_first_largest() {
    for (rows, len) in [(1, 1), (3, 2), (5, 65), (40, 17), (2, 5000), (0, 3), (19, 4097)] {
        // Few distinct values, so that there are ties.
        let mut x: Vec<f32> = noise::<f32>(7, rows * len).iter().map(|x| (x * 8.0).round()).collect();
        if rows > 2 {
            x[len + len / 2] = f32::NAN;
            x[2 * len - 1] = f32::NAN;
            x[2 * len..3 * len].fill(f32::NEG_INFINITY);
        }
        let expected: Vec<u32> = x.chunks(len).map(first_largest).collect();
        for layout in Layout::ALL {
            let (found, _) = run::<u32>(&[rows], &[Data::new(&[rows, len], &x, layout)], &argmax);
            assert_eq!(found, expected, "{rows} rows of {len}, {layout:?}");
        }
    }
    let zeros = Data::new::<f64>(&[2], &[-0.0, 0.0], Layout::RowMajor);
    assert_eq!(run::<u32>(&[], &[zeros], &argmax).0, [0]);
}

#[test]
fn mean_squared_error_follows_the_lane_rule() {
    for dims in [&[][..], &[1], &[4, 1], &[3, 21], &[64, 65], &[9, 10_007]] {
        let count: usize = dims.iter().product();
        let (a, y) = (noise::<f32>(8, count), noise::<f32>(9, count));
        let squares = |lane: f32, i: usize| (a[i] - y[i]).mul_add(a[i] - y[i], lane);
        let expected = lane_rule(count, 0.0, squares, |a, b| a + b) / count as f32;
        for (first, second) in [(Layout::RowMajor, Layout::RowMajor), (Layout::Transposed, Layout::Gaps)] {
            let ins = [Data::new(dims, &a, first), Data::new(dims, &y, second)];
            let (found, _) = run::<f32>(&[], &ins, &mean_squared_error);
            same(&found, &[expected], &format!("{dims:?}"));
        }
        let exact: f64 = a.iter().zip(&y).map(|(a, y)| (f64::from(*a) - f64::from(*y)).powi(2)).sum();
        check_sum(expected, exact / count as f64, exact / count as f64, count + 4);
    }
    let empty = Data::new::<f64>(&[0], &[], Layout::RowMajor);
    assert!(run::<f64>(&[], &[empty.clone(), empty], &mean_squared_error).0[0].is_nan());
}

#[test]
fn global_norm_is_summed_in_f64() {
    for lens in [&[][..], &[0], &[1, 3], &[4097, 16, 0, 65], &[100_003, 7, 5000]] {
        let floats: Vec<Vec<f32>> = (0..).zip(lens).map(|(i, len)| noise(10 + i, *len)).collect();
        let doubles: Vec<f64> = noise(20, 31);
        let mut ins: Vec<Data> = floats.iter().map(|x| Data::new(&[x.len()], x, Layout::RowMajor)).collect();
        ins.push(Data::new(&[31], &doubles, Layout::RowMajor));
        let mut total = 0.0;
        let mut all: Vec<Vec<f64>> = floats.iter().map(|x| x.iter().map(|x| f64::from(*x)).collect()).collect();
        all.push(doubles);
        // Pieces share the lanes of a chunk as long as there is room; each begins at the first lane.
        let mut chunks: Vec<Vec<&[f64]>> = Vec::new();
        for piece in all.iter().flat_map(|x| x.chunks(CHUNK)) {
            let fits = |chunk: &Vec<&[f64]>| chunk.iter().map(|p| p.len()).sum::<usize>() + piece.len() <= CHUNK;
            match chunks.pop_if(|chunk| fits(chunk)) {
                Some(chunk) => chunks.push([chunk, vec![piece]].concat()),
                None => chunks.push(vec![piece]),
            }
        }
        for chunk in chunks {
            let whole = |p: &&[f64]| [p, &vec![0.0; p.len().next_multiple_of(LANES) - p.len()][..]].concat();
            let chunk: Vec<f64> = chunk.iter().flat_map(whole).collect();
            total += lane_rule(chunk.len(), 0.0, |lane, i| chunk[i].mul_add(chunk[i], lane), |a, b| a + b);
        }
        let (found, _) = run::<f64>(&[], &ins, &global_norm);
        same(&found, &[total.sqrt()], &format!("{lens:?}"));
        let exact: f64 = all.iter().flatten().map(|x| x * x).sum();
        check_sum(total, exact, exact, all.iter().map(Vec::len).sum());
    }
}

#[test]
fn wrong_calls_are_refused() {
    use DType::{F32, F64, U32};
    let sum = |axes| move |isa, outs: &[View], ins: &[View]| build(isa, Fold::Sum, axes, outs, ins);
    assert_eq!(refusal((U32, &[1]), &[(U32, &[3])], &sum(1)), "needs floats, got u32");
    assert_eq!(refusal((F64, &[1]), &[(F32, &[3])], &sum(1)), "mixes f32 and f64");
    assert_eq!(refusal((F32, &[3]), &[(F32, &[3])], &sum(1)), "output has shape (3,), expected [1]");
    assert_eq!(refusal((F32, &[3]), &[(F32, &[3])], &sum(2)), "axis 1 does not exist in shape (3,)");
    assert_eq!(refusal((F32, &[1]), &[], &sum(1)), "takes 1 inputs and 1 output, got 0 and 1");
    assert_eq!(refusal((U32, &[]), &[(F32, &[])], &argmax), "a scalar has no last axis");
    assert!(refusal((U32, &[3]), &[(F32, &[3, 0])], &argmax).contains("0 elements"));
    assert_eq!(refusal((F32, &[3]), &[(F32, &[3, 2])], &argmax), "output is f32, expected u32");
    assert_eq!(refusal((U32, &[2]), &[(F32, &[3, 2])], &argmax), "output has shape (2,), expected [3]");
    let both = [(F32, &[2, 3][..]), (F32, &[3, 2][..])];
    assert_eq!(refusal((F32, &[]), &both, &mean_squared_error), "second input has shape (3, 2), expected [2, 3]");
    assert_eq!(refusal((F32, &[1]), &[both[0]; 2], &mean_squared_error), "output has shape (1,), expected []");
    assert_eq!(refusal((F32, &[]), &both, &global_norm), "output is f32, expected f64");
    assert_eq!(refusal((F64, &[]), &[(U32, &[2])], &global_norm), "input 0 is not a row-major float");
}
