//! Strips against plain loops: exact bits of the documented order, and the distance from f64.

use super::*;
use crate::reduce::testing::{Data, Element, Layout, epsilon, lane_rule, lane_sum, noise, refusal, run, same};
use crate::shape::Shape;
use crate::view::Region;

/// (B, T, heads, d): around strips, vectors, panels and blocks of sums, with even and odd numbers of items.
const SHAPES: [[usize; 4]; 15] = [
    [0, 5, 2, 3],
    [2, 0, 2, 3],
    [1, 1, 1, 1],
    [2, 5, 3, 1],
    [1, 17, 2, 3],
    [2, 31, 2, 5],
    [3, 32, 1, 8],
    [1, 33, 1, 32],
    [1, 64, 3, 32],
    [1, 65, 2, 17],
    [2, 97, 1, 16],
    [1, 130, 1, 49],
    [1, 290, 1, 7],
    [1, 40, 1, 260],
    [8, 3, 1, 2],
];

/// Matrices as rows.
type Rows<T> = Vec<Vec<T>>;

fn dot<T: Real>(terms: impl Iterator<Item = (T, T)>) -> T {
    let terms: Vec<(T, T)> = terms.collect();
    let block = |block: &[(T, T)]| block.iter().fold(T::ZERO, |sum, (a, b)| a.mul_add(*b, sum));
    terms.chunks(256).map(block).reduce(|a, b| a + b).unwrap_or(T::ZERO)
}

/// The documented order of one head, one element at a time.
struct Head<T> {
    q: Rows<T>,
    k: Rows<T>,
    v: Rows<T>,
    ct: Rows<T>,
    scale: T,
}

impl<T: Real> Head<T> {
    /// Head `item` of qkv and of the cotangent.
    fn of([_, time, heads, d]: [usize; 4], item: usize, qkv: &[T], ct: &[T]) -> Head<T> {
        let (text, head, width) = (item / heads, item % heads, heads * d);
        let rows = |from: &[T], columns: usize, start: usize| -> Rows<T> {
            (0..time).map(|t| from[(text * time + t) * columns + start..][..d].to_vec()).collect()
        };
        let part = |i: usize| rows(qkv, 3 * width, i * width + head * d);
        let scale = T::from_f64(1.0 / (d as f64).sqrt());
        Head { q: part(0), k: part(1), v: part(2), ct: rows(ct, width, head * d), scale }
    }

    /// Probabilities of each query's keys.
    fn probs(&self) -> Rows<T> {
        let row = |(i, q): (usize, &Vec<T>)| {
            let score = |k: &Vec<T>| dot(q.iter().copied().zip(k.iter().copied())) * self.scale;
            let scores: Vec<T> = self.k[..=i].iter().map(score).collect();
            let most = scores.iter().fold(scores[0], |a, b| if *b > a { *b } else { a });
            let exps: Vec<T> = scores.iter().map(|x| (*x - most).exp()).collect();
            let sum = lane_sum(&exps);
            exps.iter().map(|e| *e / sum).collect()
        };
        self.q.iter().enumerate().map(row).collect()
    }

    fn y(&self) -> Rows<T> {
        let element = |p: &[T], c: usize| dot(p.iter().zip(&self.v).map(|(p, v)| (*p, v[c])));
        self.probs().iter().map(|p| (0..self.q[0].len()).map(|c| element(p, c)).collect()).collect()
    }

    /// Cotangents of q, k and v.
    fn grad(&self) -> [Rows<T>; 3] {
        let (probs, d) = (self.probs(), self.q.first().map_or(0, Vec::len));
        let row = |(p, ct): (&Vec<T>, &Vec<T>)| {
            let d_p: Vec<T> =
                self.v[..p.len()].iter().map(|v| dot(ct.iter().copied().zip(v.iter().copied()))).collect();
            let sum = lane_rule(p.len(), T::ZERO, |lane, j| lane + p[j] * d_p[j], |a, b| a + b);
            p.iter().zip(&d_p).map(|(p, d_p)| *p * (*d_p - sum) * self.scale).collect()
        };
        let d_s: Rows<T> = probs.iter().zip(&self.ct).map(row).collect();
        let d_q = d_s.iter().map(|s| (0..d).map(|c| dot(s.iter().zip(&self.k).map(|(s, k)| (*s, k[c])))).collect());
        [d_q.collect(), over_queries(&d_s, &self.q), over_queries(&probs, &self.ct)]
    }
}

/// aᵀ b for a (queries, keys up to the query), summed strip by strip of 32 queries.
fn over_queries<T: Real>(a: &Rows<T>, b: &Rows<T>) -> Rows<T> {
    let element = |j: usize, c: usize| {
        let strip = |s: usize| {
            let queries = (s * 32).max(j)..(s * 32 + 32).min(a.len());
            dot(queries.map(|i| (a[i][j], b[i][c])))
        };
        (j / 32..a.len().div_ceil(32)).map(strip).reduce(|a, b| a + b).unwrap_or(T::ZERO)
    };
    (0..a.len()).map(|j| (0..b[0].len()).map(|c| element(j, c)).collect()).collect()
}

/// Puts heads back side by side: `parts` matrices of each item, in columns part by part.
fn merge<T: Real, const N: usize>([texts, time, heads, d]: [usize; 4], items: &[[Rows<T>; N]]) -> Vec<T> {
    let mut out = Vec::new();
    for (text, t) in (0..texts).flat_map(|text| (0..time).map(move |t| (text, t))) {
        let heads = &items[text * heads..(text + 1) * heads];
        out.extend((0..N).flat_map(|part| heads.iter().flat_map(move |head| head[part][t].iter().copied())));
    }
    assert_eq!(out.len(), texts * time * heads * d * N);
    out
}

/// Inputs of a shape: qkv and the cotangent, with scores of a few units.
fn inputs<T: Real>([texts, time, heads, d]: [usize; 4]) -> (Vec<T>, Vec<T>) {
    let qkv = noise::<T>(1, texts * time * 3 * heads * d).into_iter().map(|x| x * T::from_f64(2.5)).collect();
    (qkv, noise::<T>(2, texts * time * heads * d))
}

fn attend<T: Real + Element>([texts, time, heads, d]: [usize; 4], qkv: &[T]) -> Vec<T> {
    let ins = [Data::new(&[texts, time, 3 * heads * d], qkv, Layout::RowMajor)];
    run::<T>(&[texts, time, heads * d], &ins, &|isa, outs, ins| forward(isa, heads, outs, ins)).0
}

fn attend_grad<T: Real + Element>([texts, time, heads, d]: [usize; 4], qkv: &[T], ct: &[T]) -> Vec<T> {
    let dims = [texts, time, 3 * heads * d];
    let ins = [Data::new(&dims, qkv, Layout::RowMajor), Data::new(&[texts, time, heads * d], ct, Layout::RowMajor)];
    run::<T>(&dims, &ins, &|isa, outs, ins| backward(isa, heads, outs, ins)).0
}

fn heads_of<T: Real>(shape: [usize; 4], qkv: &[T], ct: &[T]) -> Vec<Head<T>> {
    (0..shape[0] * shape[2]).map(|item| Head::of(shape, item, qkv, ct)).collect()
}

/// Bits against the documented order, and the distance from the same in f64.
fn check<T: Real + Element>(shape: [usize; 4]) {
    let (qkv, ct) = inputs::<T>(shape);
    let heads = heads_of(shape, &qkv, &ct);
    let (y, grad) = (attend(shape, &qkv), attend_grad(shape, &qkv, &ct));
    same(&y, &merge(shape, &heads.iter().map(|h| [h.y()]).collect::<Vec<_>>()), &format!("y of {shape:?}"));
    let expected = merge(shape, &heads.iter().map(Head::grad).collect::<Vec<_>>());
    same(&grad, &expected, &format!("cotangent of {shape:?}"));

    let wide = |x: &[T]| x.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
    let exact = heads_of(shape, &wide(&qkv), &wide(&ct));
    let exact_y = merge(shape, &exact.iter().map(|h| [h.y()]).collect::<Vec<_>>());
    let exact_grad = merge(shape, &exact.iter().map(Head::grad).collect::<Vec<_>>());
    // Numbers are at most 2.5: an element's error is that of its scores (d terms) and of a sum over the keys.
    let bound = |x: f64| (40.0 + shape[1] as f64 + shape[3] as f64) * epsilon::<T>() * (x.abs() + 4.0);
    for (found, exact) in wide(&y).iter().zip(&exact_y).chain(wide(&grad).iter().zip(&exact_grad)) {
        assert!((found - exact).abs() <= bound(*exact), "{shape:?}: {found} is not {exact}");
    }
}

#[test]
fn f32_follows_the_documented_order() {
    SHAPES.into_iter().for_each(check::<f32>);
}

#[test]
fn f64_follows_the_documented_order() {
    SHAPES.into_iter().for_each(check::<f64>);
}

#[test]
fn the_gradient_is_that_of_the_value() {
    // In f64, along a direction, by central differences: the referee above shares its formula with the kernel.
    let shape = [2, 37, 2, 4];
    let (qkv, ct) = inputs::<f64>(shape);
    let along = noise::<f64>(3, qkv.len());
    let grad = attend_grad(shape, &qkv, &ct);
    let slope: f64 = grad.iter().zip(&along).map(|(g, a)| g * a).sum();
    let loss = |h: f64| -> f64 {
        let moved: Vec<f64> = qkv.iter().zip(&along).map(|(x, a)| x + h * a).collect();
        attend(shape, &moved).iter().zip(&ct).map(|(y, ct)| y * ct).sum()
    };
    let numeric = (loss(1e-5) - loss(-1e-5)) / 2e-5;
    assert!((slope - numeric).abs() < 1e-7 * (1.0 + slope.abs()), "{slope} is not {numeric}");
}

#[test]
fn no_token_sees_a_later_one() {
    let shape @ [_, time, heads, d] = [1, 70, 2, 5];
    let width = heads * d;
    let (qkv, mut ct) = inputs::<f32>(shape);
    let before = attend(shape, &qkv);
    for at in [0, 1, 31, 32, 33, 63, 64, 69] {
        let mut changed = qkv.clone();
        changed[at * 3 * width..(at + 1) * 3 * width].fill(0.5);
        let after = attend(shape, &changed);
        same(&after[..at * width], &before[..at * width], &format!("tokens before {at}"));
        assert!(after[at * width..(at + 1) * width] != before[at * width..(at + 1) * width]);
    }
    // A cotangent of an early token alone reaches no later key or value.
    ct[20 * width..].fill(0.0);
    let grad = attend_grad(shape, &qkv, &ct);
    assert!(grad[20 * 3 * width..].iter().all(|x| *x == 0.0));
    assert!(grad[19 * 3 * width..20 * 3 * width].iter().any(|x| *x != 0.0));
    assert_eq!(grad.len(), time * 3 * width);
}

#[test]
fn large_scores_do_not_overflow_and_nan_stays_where_it_is_seen() {
    let shape @ [_, _, heads, d] = [1, 40, 1, 4];
    let width = heads * d;
    let (mut qkv, _) = inputs::<f32>(shape);
    qkv.iter_mut().for_each(|x| *x *= 100.0);
    assert!(attend(shape, &qkv).iter().all(|y| y.is_finite()));
    // A query that is not a number spoils its own row and no other.
    qkv[7 * 3 * width] = f32::NAN;
    for (i, y) in attend(shape, &qkv).iter().enumerate() {
        assert_eq!(y.is_nan(), i / width == 7, "element {i}");
    }
}

#[test]
fn scratch_memory_is_linear_in_time() {
    let bytes = |time: usize| {
        let view = |columns| View::contiguous(DType::F32, Region(0), 0, Shape::from([1, time, columns]));
        let (qkv, y) = (view(3 * 128), view(128));
        let forward = forward(Isa::Portable, 2, &[y], &[qkv]).expect("the shapes fit");
        let backward = backward(Isa::Portable, 2, &[qkv], &[qkv, y]).expect("the shapes fit");
        [forward.scratch(), backward.scratch()]
    };
    for (short, long) in bytes(1024).into_iter().zip(bytes(8192)) {
        assert!(long <= 8 * short, "{short} and {long} bytes");
        assert!(short < 1024 * 1024 * 4 / 2, "{short} bytes");
    }
}

#[test]
fn what_is_refused() {
    const F: DType = DType::F32;
    let forward = |heads: usize, out: &[usize], qkv: &[usize]| {
        refusal((F, out), &[(F, qkv)], &|isa, outs, ins| forward(isa, heads, outs, ins))
    };
    assert_eq!(forward(2, &[1, 5, 4], &[5, 12]), "takes (B, T, 3C), not (5, 12)");
    let columns = "13 columns are not queries, keys and values of 2 heads";
    assert_eq!(forward(2, &[1, 5, 4], &[1, 5, 13]), columns);
    assert_eq!(forward(0, &[1, 5, 4], &[1, 5, 12]), "12 columns are not queries, keys and values of 0 heads");
    assert_eq!(forward(1, &[1, 5, 0], &[1, 5, 0]), "0 columns are not queries, keys and values of 1 heads");
    assert_eq!(forward(2, &[1, 5, 12], &[1, 5, 12]), "output has shape (1, 5, 12), expected [1, 5, 4]");
    let backward = |ct: (DType, &[usize])| {
        refusal((F, &[1, 5, 12]), &[(F, &[1, 5, 12]), ct], &|isa, outs, ins| backward(isa, 2, outs, ins))
    };
    assert_eq!(backward((F, &[1, 5, 12])), "cotangent has shape (1, 5, 12), expected [1, 5, 4]");
    assert_eq!(backward((DType::F64, &[1, 5, 4])), "mixes f32 and f64");
}

#[test]
fn strided_inputs_are_refused() {
    let row_major = |columns| View::contiguous(DType::F32, Region(0), 0, Shape::from([1, 5, columns]));
    let mut strided = row_major(12);
    strided.strides[1] = 13;
    let (qkv, y) = (row_major(12), row_major(4));
    assert_eq!(forward(Isa::Portable, 2, &[y], &[strided]).err().as_deref(), Some("the input is not row-major"));
    let mut ct = y;
    ct.strides[1] = 5;
    let refused = backward(Isa::Portable, 2, &[qkv], &[qkv, ct]).err();
    assert_eq!(refused.as_deref(), Some("the cotangent is not row-major"));
}
