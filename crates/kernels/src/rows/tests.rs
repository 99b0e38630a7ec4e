use super::*;
use crate::isa::Isa;
use crate::reduce::testing::{
    self, Data, Element, Layout, epsilon, lane_rule, lane_sum, noise, refusal, run, run_in_place, same,
};
use crate::shape::Shape;
use crate::tape::Fault;
use crate::view::{DType, Region};

/// (rows, length), around the lane count, the padding, the number of rows that go together and the chunk; the last ones
/// are shared among workers.
const SHAPES: [(usize, usize); 21] = [
    (0, 3),
    (3, 0),
    (1, 1),
    (5, 2),
    (4, 5),
    (33, 3),
    (3, 15),
    (40, 16),
    (2, 17),
    (37, 31),
    (7, 63),
    (3, 64),
    (5, 65),
    (19, 65),
    (17, 128),
    (2, 256),
    (9, 257),
    (127, 293),
    (2, 2048),
    (3, 9001),
    (130, 65),
];

fn one<T: Real>() -> T {
    T::from_f64(1.0)
}

/// max, exp(x - max), their sum by the lane rule.
fn exps<T: Real>(x: &[T]) -> (T, Vec<T>, T) {
    let most = x.iter().fold(x[0], |a, b| if *b > a { *b } else { a });
    let exps: Vec<T> = x.iter().map(|x| (*x - most).exp()).collect();
    let sum = lane_sum(&exps);
    (most, exps, sum)
}

/// The same in plain f64 loops.
fn exact_softmax<T: Real>(x: &[T]) -> (f64, Vec<f64>) {
    let most = x.iter().fold(f64::NEG_INFINITY, |a, b| a.max(b.to_f64()));
    let exps: Vec<f64> = x.iter().map(|x| (x.to_f64() - most).exp()).collect();
    let sum: f64 = exps.iter().sum();
    (most + sum.ln(), exps.iter().map(|e| e / sum).collect())
}

#[track_caller]
fn near(found: f64, exact: f64, bound: f64) {
    assert!((found - exact).abs() <= bound, "{found} instead of {exact}, bound {bound}");
}

fn scaled<T: Real>(seed: u64, count: usize, by: f64) -> Vec<T> {
    noise::<T>(seed, count).into_iter().map(|x| x * T::from_f64(by)).collect()
}

fn check_softmax<T: Real + Element>(rows: usize, len: usize, layout: Layout) {
    let x = scaled::<T>(1, rows * len, 9.0);
    let (found, _) = run::<T>(&[rows, len], &[Data::new(&[rows, len], &x, layout)], &softmax);
    for (found, x) in found.chunks(len.max(1)).zip(x.chunks(len.max(1))) {
        let (_, exps, sum) = exps(x);
        let expected: Vec<T> = exps.iter().map(|e| *e / sum).collect();
        same(found, &expected, &format!("{rows} rows of {len}, {layout:?}"));
        // exp and its argument: 20 epsilon for |x - max| <= 18; the sum: one epsilon a term.
        for (found, exact) in found.iter().zip(exact_softmax(x).1) {
            near(found.to_f64(), exact, (25.0 + len as f64) * epsilon::<T>() * exact + f64::from(f32::MIN_POSITIVE));
        }
    }
}

#[test]
fn softmax_follows_its_order() {
    for (rows, len) in SHAPES {
        for layout in Layout::ALL {
            check_softmax::<f32>(rows, len, layout);
        }
        check_softmax::<f64>(rows, len, Layout::RowMajor);
    }
}

#[test]
fn softmax_of_masked_and_huge_logits() {
    let inf = f32::INFINITY;
    let x = [0.0, -inf, 0.0, 1e4, -1e4, 1e4, -inf, -inf, -inf, inf, 0.0, 0.0, f32::NAN, 0.0, 0.0];
    let (y, _) = run::<f32>(&[5, 3], &[Data::new(&[5, 3], &x, Layout::RowMajor)], &softmax);
    assert_eq!(y[..6], [0.5, 0.0, 0.5, 0.5, 0.0, 0.5]);
    assert!(y[6..].iter().all(|y| y.is_nan()));
}

#[test]
fn one_strange_logit_decides_about_its_row_alone() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for len in [2, 5, 16, 17, 65, 300, 5000] {
        for at in [0, len / 2, len - 1] {
            for (strange, spoils) in [(-inf, false), (inf, true), (nan, true), (-nan, true)] {
                let mut x = noise::<f32>(8, 3 * len);
                x[len + at] = strange;
                let logits = Data::new(&[3, len], &x, Layout::RowMajor);
                let picks = Data::new(&[3], &[((at + 1) % len) as u32; 3], Layout::RowMajor);
                let ct = Data::new(&[3], &[1.0f32; 3], Layout::RowMajor);
                let (y, _) = run::<f32>(&[3, len], std::slice::from_ref(&logits), &softmax);
                let (losses, _) = run::<f32>(&[3], &[logits.clone(), picks.clone()], &cross_entropy);
                let (grads, _) = run::<f32>(&[3, len], &[logits, picks, ct], &cross_entropy_grad);
                for r in 0..3 {
                    let spoiled = spoils && r == 1;
                    let row = |x: &[f32]| x[r * len..][..len].iter().all(|x| x.is_nan() == spoiled);
                    assert!(row(&y) && row(&grads) && losses[r].is_nan() == spoiled, "{strange} at {at} of {len}");
                }
                assert!(spoils || y[len + at] == 0.0 && grads[len + at] == 0.0);
            }
        }
    }
}

fn labels(rows: usize, len: usize) -> Vec<u32> {
    (0..rows).map(|r| ((r * 7 + 1) % len) as u32).collect()
}

fn check_cross_entropy<T: Real + Element>(rows: usize, len: usize, layout: Layout, scale: f64) {
    let (x, targets, ct) = (scaled::<T>(2, rows * len, scale), labels(rows, len), noise::<T>(3, rows));
    let logits = Data::new(&[rows, len], &x, layout);
    let picks = Data::new(&[rows], &targets, layout);
    let (losses, fault) = run::<T>(&[rows], &[logits.clone(), picks.clone()], &cross_entropy);
    assert_eq!(fault, Ok(()));
    let ins = [logits, picks, Data::new(&[rows], &ct, layout)];
    let (grads, fault) = run::<T>(&[rows, len], &ins, &cross_entropy_grad);
    assert_eq!(fault, Ok(()));
    for (r, x) in x.chunks(len).enumerate() {
        let at = targets[r] as usize;
        let (most, exps, sum) = exps(x);
        same(&losses[r..=r], &[sum.ln() + (most - x[at])], &format!("loss {r} of {rows}, {len}, {layout:?}"));
        let (log, exact) = exact_softmax(x);
        let loss = log - x[at].to_f64();
        // max - x is rounded, and so are the arguments of exp; beyond -100 these add nothing.
        let eps = epsilon::<T>();
        near(losses[r].to_f64(), loss, (120.0 + len as f64) * eps + 4.0 * eps * loss);
        let mut expected: Vec<T> = exps.iter().map(|e| *e / sum * ct[r]).collect();
        expected[at] = (exps[at] / sum - one()) * ct[r];
        same(&grads[r * len..][..len], &expected, &format!("gradient {r} of {rows}, {len}, {layout:?}"));
        for (j, (found, p)) in grads[r * len..].iter().zip(exact).enumerate() {
            let exact = (p - f64::from(u8::from(j == at))) * ct[r].to_f64();
            near(found.to_f64(), exact, (120.0 + len as f64) * eps);
        }
    }
}

#[test]
fn cross_entropy_and_its_gradient_follow_their_order() {
    for (rows, len) in SHAPES.into_iter().filter(|(_, len)| *len > 0) {
        for layout in Layout::ALL {
            check_cross_entropy::<f32>(rows, len, layout, 5.0);
        }
        check_cross_entropy::<f32>(rows, len, Layout::RowMajor, 1e4);
        check_cross_entropy::<f64>(rows, len, Layout::RowMajor, 1e4);
    }
}

#[test]
fn cross_entropy_is_stable_far_out() {
    let x = [1e4f32, 1e4, -1e4, -1e4, -1e4, 1e4];
    let ins = [Data::new(&[3, 2], &x, Layout::RowMajor), Data::new(&[3], &[0u32, 1, 0], Layout::RowMajor)];
    let (found, _) = run::<f32>(&[3], &ins, &cross_entropy);
    for (found, exact) in found.iter().zip([std::f64::consts::LN_2, std::f64::consts::LN_2, 2e4]) {
        near(f64::from(*found), exact, f64::from(f32::EPSILON) * exact);
    }
}

#[test]
fn a_bad_target_is_a_fault_and_zeros() {
    let (rows, len) = (300, 65);
    let mut targets = labels(rows, len);
    targets[17] = 65;
    targets[200] = u32::MAX;
    let x = noise::<f32>(4, rows * len);
    let logits = Data::new(&[rows, len], &x, Layout::RowMajor);
    let ins = [
        logits.clone(),
        Data::new(&[rows], &targets, Layout::RowMajor),
        Data::new(&[rows], &vec![1.0f32; rows], Layout::RowMajor),
    ];
    let fault = Err(Fault { row: 17, value: 65, limit: 65 });
    let (losses, found) = run::<f32>(&[rows], &ins[..2], &cross_entropy);
    assert_eq!(found, fault);
    let (grads, found) = run::<f32>(&[rows, len], &ins, &cross_entropy_grad);
    assert_eq!(found, fault);
    for r in 0..rows {
        assert_eq!(losses[r] == 0.0, r == 17 || r == 200);
        assert_eq!(grads[r * len..][..len].iter().all(|g| *g == 0.0), r == 17 || r == 200);
    }
    let empty = [Data::new::<f32>(&[2, 0], &[], Layout::RowMajor), Data::new(&[2], &[5u32, 0], Layout::RowMajor)];
    let (losses, found) = run::<f32>(&[2], &empty, &cross_entropy);
    assert_eq!((losses, found), (vec![0.0, 0.0], Err(Fault { row: 0, value: 5, limit: 0 })));
}

/// mean and 1 / sqrt(variance + eps) in the documented order.
fn moments_in_order<T: Real>(x: &[T], eps: f64) -> (T, T) {
    let n = T::from_f64(x.len() as f64);
    let mean = lane_sum(x) / n;
    let squares = lane_rule(x.len(), T::from_f64(0.0), |l, i| (x[i] - mean).mul_add(x[i] - mean, l), |a, b| a + b);
    (mean, one::<T>() / (squares / n + T::from_f64(eps)).sqrt())
}

fn check_normalize<T: Real + Element>(rows: usize, len: usize, layouts: [Layout; 2]) {
    let eps = 1e-5;
    let n = T::from_f64(len as f64);
    // A mean away from 0 makes a one-pass variance fail.
    let x: Vec<T> = noise::<T>(5, rows * len).into_iter().map(|x| x + T::from_f64(30.0)).collect();
    let ct = noise::<T>(6, rows * len);
    let ins = [Data::new(&[rows, len], &x, layouts[0]), Data::new(&[rows, len], &ct, layouts[1])];
    let (y, _) = run::<T>(&[rows, len], &ins[..1], &|isa, outs, ins| normalize(isa, eps, outs, ins));
    let (dx, _) = run::<T>(&[rows, len], &ins, &|isa, outs, ins| normalize_grad(isa, eps, outs, ins));
    for r in 0..if len > 0 { rows } else { 0 } {
        let (row, what) = (r * len..(r + 1) * len, format!("row {r} of {rows}, {len}, {layouts:?}"));
        let (x, ct) = (&x[row.clone()], &ct[row.clone()]);
        let (mean, rstd) = moments_in_order(x, eps);
        let expected: Vec<T> = x.iter().map(|x| (*x - mean) * rstd).collect();
        same(&y[row.clone()], &expected, &what);
        let of_ct = lane_sum(ct) / n;
        let product = lane_rule(len, T::from_f64(0.0), |l, i| ct[i].mul_add(x[i] - mean, l), |a, b| a + b) / n * rstd;
        let expected: Vec<T> =
            expected.iter().zip(ct).map(|(y, ct)| (-*y).mul_add(product, *ct - of_ct) * rstd).collect();
        same(&dx[row.clone()], &expected, &what);
        check_normalize_exactly(x, ct, &y[row.clone()], &dx[row], eps);
    }
}

/// Plain f64 loops. The errors: a mean near 30 is off by at most 2 n eps * 31, so x - mean and all that follows are.
fn check_normalize_exactly<T: Real>(x: &[T], ct: &[T], y: &[T], dx: &[T], eps: f64) {
    let n = x.len() as f64;
    let mean = x.iter().map(|x| x.to_f64()).sum::<f64>() / n;
    let variance = x.iter().map(|x| (x.to_f64() - mean).powi(2)).sum::<f64>() / n;
    let rstd = 1.0 / (variance + eps).sqrt();
    let off = (2.0 * n + 4.0) * epsilon::<T>() * 31.0 * rstd;
    let exact: Vec<f64> = x.iter().map(|x| (x.to_f64() - mean) * rstd).collect();
    let of_ct = ct.iter().map(|c| c.to_f64()).sum::<f64>() / n;
    let product = ct.iter().zip(&exact).map(|(c, y)| c.to_f64() * y).sum::<f64>() / n;
    for i in 0..x.len() {
        let size = 1.0 + exact[i].abs();
        near(y[i].to_f64(), exact[i], off * size);
        let gradient = rstd * (ct[i].to_f64() - of_ct - exact[i] * product);
        near(dx[i].to_f64(), gradient, 8.0 * off * size * size * rstd);
    }
}

#[test]
fn normalize_and_its_gradient_follow_their_order() {
    for (rows, len) in SHAPES {
        for layout in Layout::ALL {
            check_normalize::<f32>(rows, len, [layout, Layout::RowMajor]);
        }
        check_normalize::<f32>(rows, len, [Layout::Gaps, Layout::Transposed]);
        check_normalize::<f64>(rows, len, [Layout::RowMajor; 2]);
    }
}

#[test]
fn rms_normalize_and_its_gradient_follow_their_order() {
    let eps = 1e-5;
    let zero = 0.0f32;
    for (rows, len) in SHAPES {
        let (x, ct, n) = (noise::<f32>(5, rows * len), noise::<f32>(6, rows * len), len as f32);
        let dims = [rows, len];
        for layout in Layout::ALL {
            let ins = [Data::new(&dims, &x, layout), Data::new(&dims, &ct, Layout::RowMajor)];
            let (y, _) = run::<f32>(&dims, &ins[..1], &|isa, outs, ins| rms_normalize(isa, eps, outs, ins));
            let (dx, _) = run::<f32>(&dims, &ins, &|isa, outs, ins| rms_normalize_grad(isa, eps, outs, ins));
            for r in 0..if len > 0 { rows } else { 0 } {
                let row = r * len..(r + 1) * len;
                let (x, ct) = (&x[row.clone()], &ct[row.clone()]);
                let squares = lane_rule(len, zero, |l, i| x[i].mul_add(x[i], l), |a, b| a + b);
                let inverse = 1.0 / (squares / n + eps as f32).sqrt();
                let expected: Vec<f32> = x.iter().map(|x| x * inverse).collect();
                same(&y[row.clone()], &expected, &format!("row {r} of {rows}, {len}, {layout:?}"));
                let mean = lane_rule(len, zero, |l, i| ct[i].mul_add(x[i], l), |a, b| a + b) / n * inverse;
                let back = |(y, ct): (&f32, &f32)| (-y).mul_add(mean, *ct) * inverse;
                let expected: Vec<f32> = expected.iter().zip(ct).map(back).collect();
                same(&dx[row], &expected, &format!("gradient of row {r} of {rows}, {len}, {layout:?}"));
            }
        }
    }
}

#[test]
fn log_softmax_follows_its_order() {
    for (rows, len) in SHAPES {
        let x = scaled::<f32>(1, rows * len, 9.0);
        for layout in Layout::ALL {
            let (found, _) = run::<f32>(&[rows, len], &[Data::new(&[rows, len], &x, layout)], &log_softmax);
            for (found, x) in found.chunks(len.max(1)).zip(x.chunks(len.max(1))) {
                let (most, _, sum) = exps(x);
                let log = Real::ln(sum);
                let expected: Vec<f32> = x.iter().map(|x| (x - most) - log).collect();
                same(found, &expected, &format!("{rows} rows of {len}, {layout:?}"));
            }
        }
    }
    let inf = f32::INFINITY;
    let x = [0.0, -inf, 0.0, 1e4, -1e4, 1e4, -inf, -inf, -inf, inf, 0.0, 0.0, f32::NAN, 0.0, 0.0];
    let (y, _) = run::<f32>(&[5, 3], &[Data::new(&[5, 3], &x, Layout::RowMajor)], &log_softmax);
    let half = std::f32::consts::LN_2;
    assert_eq!(y[..6], [-half, -inf, -half, -half, -2e4 - half, -half]);
    assert!(y[6..].iter().all(|y| y.is_nan()));
}

#[test]
fn an_output_may_stand_on_its_input() {
    let rms = |isa: Isa, outs: &[View], ins: &[View]| rms_normalize(isa, 1e-5, outs, ins);
    let rms_grad = |isa: Isa, outs: &[View], ins: &[View]| rms_normalize_grad(isa, 1e-5, outs, ins);
    let norm = |isa: Isa, outs: &[View], ins: &[View]| normalize(isa, 1e-5, outs, ins);
    let grad = |isa: Isa, outs: &[View], ins: &[View]| normalize_grad(isa, 1e-5, outs, ins);
    for (rows, len) in SHAPES.into_iter().filter(|(_, len)| *len > 0) {
        let dims = [rows, len];
        let (x, y) = (noise::<f32>(9, rows * len), noise::<f32>(10, rows * len));
        let x = Data::new(&dims, &x, Layout::RowMajor);
        let targets = Data::new(&[rows], &labels(rows, len), Layout::RowMajor);
        let ct = Data::new(&[rows], &noise::<f32>(11, rows), Layout::RowMajor);
        let labelled = [x.clone(), targets, ct];
        let both = [x.clone(), Data::new(&dims, &y, Layout::RowMajor)];
        let gaps = [Data::new(&dims, &y, Layout::Transposed), x.clone()];
        let check = |place: usize, ins: &[Data], build: testing::Build<'_>, what: &str| {
            let apart = run::<f32>(&dims, ins, build).0;
            same(&run_in_place::<f32>(&dims, place, ins, build), &apart, &format!("{what} of {rows} rows of {len}"));
        };
        check(0, &both[..1], &softmax, "softmax");
        check(0, &labelled, &cross_entropy_grad, "cross_entropy_grad");
        check(0, &both[..1], &log_softmax, "log_softmax");
        check(0, &both[..1], &norm, "normalize");
        check(0, &both[..1], &rms, "rms_normalize");
        check(0, &both, &rms_grad, "rms_normalize_grad over x");
        check(1, &both, &rms_grad, "rms_normalize_grad over ct");
        check(0, &both, &grad, "normalize_grad over x");
        check(1, &both, &grad, "normalize_grad over ct");
        check(1, &gaps, &grad, "normalize_grad over ct, with copied rows");
    }
}

#[test]
fn a_tape_takes_outputs_exactly_on_rows_and_nowhere_else() {
    use crate::routine::Routine;
    use crate::tape::TapeBuilder;
    let view = |dtype, offset, dims: &[usize]| {
        View::contiguous(dtype, Region::ARENA, offset, Shape::checked(dims).expect("a test shape"))
    };
    let (x, shifted, turned) = (view(DType::F32, 0, &[4, 4]), view(DType::F32, 4, &[4, 4]), {
        let mut view = view(DType::F32, 0, &[4, 4]);
        view.strides[..2].copy_from_slice(&[1, 4]);
        view
    });
    let (targets, ct) = (view(DType::U32, 64, &[4]), view(DType::F32, 80, &[4]));
    let accepts = |routine: &Routine, out: View, ins: &[View]| {
        TapeBuilder::new(Isa::Portable, 1, &[4096, 0, 0]).push(0, routine, &[out], ins).is_ok()
    };
    let calls: [(Routine, Vec<View>); 7] = [
        (Routine::Softmax, vec![]),
        (Routine::LogSoftmax, vec![]),
        (Routine::CrossEntropyGrad, vec![targets, ct]),
        (Routine::RmsNormalize { eps: 1e-5 }, vec![]),
        (Routine::RmsNormalizeGrad { eps: 1e-5 }, vec![view(DType::F32, 128, &[4, 4])]),
        (Routine::Normalize { eps: 1e-5 }, vec![]),
        (Routine::NormalizeGrad { eps: 1e-5 }, vec![view(DType::F32, 128, &[4, 4])]),
    ];
    for (routine, others) in calls {
        let ins = |x: View| [&[x], others.as_slice()].concat();
        assert!(accepts(&routine, x, &ins(x)), "{}", routine.name());
        assert!(!accepts(&routine, x, &ins(shifted)), "{} over another place", routine.name());
        assert!(!accepts(&routine, x, &ins(turned)), "{} over columns", routine.name());
    }
    let on_targets = view(DType::F32, 64, &[4, 4]);
    assert!(!accepts(&Routine::CrossEntropyGrad, on_targets, &[x, targets, ct]));
    assert!(!accepts(&Routine::CrossEntropy, view(DType::F32, 0, &[4]), &[x, targets]));
    assert!(!accepts(&Routine::Matmul, x, &[x, view(DType::F32, 128, &[4, 4])]));
}

#[test]
fn rows_of_more_axes_and_broadcast_rows() {
    let x = noise::<f32>(7, 2 * 3 * 20);
    let flat = run::<f32>(&[6, 20], &[Data::new(&[6, 20], &x, Layout::RowMajor)], &softmax).0;
    for layout in Layout::ALL {
        assert_eq!(run::<f32>(&[2, 3, 20], &[Data::new(&[2, 3, 20], &x, layout)], &softmax).0, flat);
    }
    let row = run::<f32>(&[20], &[Data::new(&[20], &x[..20], Layout::RowMajor)], &softmax).0;
    let all = run::<f32>(&[3, 20], &[Data::broadcast(&[3, 20], &[0, 1], &x[..20])], &softmax).0;
    assert_eq!(all, row.repeat(3));
    let even = run::<f32>(&[2, 4], &[Data::broadcast(&[2, 4], &[1, 0], &x[..2])], &softmax).0;
    assert_eq!(even, [0.25; 8]);
}

#[test]
fn wrong_calls_are_refused() {
    use DType::{F32, F64, U32};
    let norm = |isa, outs: &[View], ins: &[View]| normalize(isa, 1e-5, outs, ins);
    let grad = |isa, outs: &[View], ins: &[View]| normalize_grad(isa, 1e-5, outs, ins);
    assert_eq!(refusal((F32, &[]), &[(F32, &[])], &softmax), "a scalar has no last axis");
    assert_eq!(refusal((F32, &[]), &[(F32, &[])], &norm), "a scalar has no last axis");
    assert_eq!(refusal((F32, &[2]), &[(F32, &[3])], &softmax), "output has shape (2,), expected [3]");
    assert_eq!(refusal((F64, &[3]), &[(F32, &[3])], &norm), "mixes f32 and f64");
    assert_eq!(refusal((U32, &[3]), &[(U32, &[3])], &softmax), "needs floats, got u32");
    let (x, wide) = ((F32, &[2, 3][..]), (F32, &[2, 4][..]));
    assert_eq!(refusal(x, &[x, wide], &grad), "cotangent has shape (2, 4), expected [2, 3]");
    let row = (F32, &[2][..]);
    assert_eq!(refusal(row, &[x, row], &cross_entropy), "targets are f32, expected u32");
    assert_eq!(refusal(row, &[x, (U32, &[3])], &cross_entropy), "targets has shape (3,), expected [2]");
    assert_eq!(refusal((F32, &[3]), &[x, (U32, &[2])], &cross_entropy), "output has shape (3,), expected [2]");
    assert_eq!(refusal(row, &[x], &cross_entropy), "takes 2 inputs and 1 output, got 1 and 1");
    let ins = [x, (U32, &[2][..]), (F32, &[3][..])];
    assert_eq!(refusal(x, &ins, &cross_entropy_grad), "cotangent has shape (3,), expected [2]");
    assert_eq!(refusal(wide, &[x, ins[1], row], &cross_entropy_grad), "output has shape (2, 4), expected [2, 3]");
}
