//! The step against the instruction and against exact arithmetic; products against plain loops, to the bit.

use super::super::tests::{BATCHES, Operand, SIZES, numbers, run, sizes};
use super::*;

/// Subnormal operands count as 0.
fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// Equal bits, or NaN both.
fn same(x: f32, y: f32) -> bool {
    x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan()
}

/// The step in another way. The product is exact in f64; what the sum of both lacks decides the last digit of the f64, so
/// that rounding to 24 digits rounds once; the range of f32 comes last.
fn exact(a: f32, b: f32, sum: f32) -> f32 {
    let (product, sum) = (f64::from(a) * f64::from(b), f64::from(sum));
    let total = product + sum;
    if !total.is_finite() || total == 0.0 {
        return total as f32;
    }
    let kept = total - product;
    let lost = (product - (total - kept)) + (sum - kept);
    let mut bits = total.to_bits();
    if lost != 0.0 && bits & 1 == 0 {
        bits = if (lost > 0.0) == (total > 0.0) { bits + 1 } else { bits - 1 };
    }
    bits = (bits + 0x0fff_ffff + (bits >> 29 & 1)) & !0x1fff_ffff;
    let rounded = f64::from_bits(bits);
    if rounded.abs() < f64::from(f32::MIN_POSITIVE) { 0f32.copysign(rounded as f32) } else { rounded as f32 }
}

/// Random whole numbers.
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A bfloat16 with one of `spread` biased exponents from `from` on.
    fn near(&mut self, from: i64, spread: u64) -> u32 {
        let word = self.next();
        let exponent = (from + (word >> 32) as i64 % spread as i64).clamp(0, 255) as u32;
        word as u32 & 0x807f | exponent << 7
    }

    /// A sum, a pair of a and a pair of b whose products fall near each other.
    fn case(&mut self, kind: usize) -> (f32, u32, u32) {
        let word = self.next();
        let sum = |from: u32, spread: u32| {
            f32::from_bits(word as u32 & 0x807f_ffff | (from + (word >> 40) as u32 % spread) << 23)
        };
        // The biased exponent of products, and how far they are spread.
        let (product, spread, sum) = match kind {
            // Any bits at all.
            0 => return (f32::from_bits(word as u32), self.next() as u32, self.next() as u32),
            // Of usual size.
            1 => (127, 16, sum(115, 26)),
            // Near the smallest normal number, subnormal operands among them.
            2 => (0, 6, sum(0, 8)),
            // Near the largest.
            3 => (251, 6, sum(247, 8)),
            // One digit from the smallest normal number, with products that turn the scale.
            _ => (-30, 12, f32::from_bits(word as u32 & 0x8000_0000 | (0x0080_0000 + (word >> 40) as u32 % 2))),
        };
        let mut half = || {
            let a = 10 + (self.next() % 234) as i64;
            (self.near(a, spread), self.near(product + 127 - a, 2))
        };
        let ((a, b), (c, d)) = (half(), half());
        (sum, a << 16 | c, b << 16 | d)
    }
}

/// Both numbers of a pair, the earlier one first.
fn halves(pair: u32) -> [f32; 2] {
    [pair & 0xffff_0000, pair << 16].map(|bits| flush(f32::from_bits(bits)))
}

/// The instruction is two steps, for as many cases as the environment variable `GEARTRAIN_PAIRS` says. A million of each
/// kind do for every day.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_instruction_is_two_steps() {
    #[target_feature(enable = "avx2,fma")]
    fn steps(sums: &[f32; 16], a: &[u32; 16], b: &[u32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| {
            let (x, y) = (halves(a[i]), halves(b[i]));
            step(x[1], y[1], step(x[0], y[0], flush(sums[i])))
        })
    }
    if !is_x86_feature_detected!("avx512bf16") {
        return;
    }
    assert!(native::supported());
    let asked = std::env::var("GEARTRAIN_PAIRS").ok().and_then(|n| n.parse::<usize>().ok());
    let rounds = asked.unwrap_or(5_000_000) / 80;
    let mut words = Words(0x9e37_79b9_7f4a_7c15);
    let (mut flushed, mut infinite, mut nan) = ([0usize; 5], [0usize; 5], [0usize; 5]);
    for kind in 0..5 {
        for _ in 0..rounds {
            let (mut sums, mut a, mut b) = ([0f32; 16], [0u32; 16], [0u32; 16]);
            for i in 0..16 {
                (sums[i], a[i], b[i]) = words.case(kind);
            }
            // SAFETY: the CPU was asked.
            let (found, expected) = unsafe { (native::dot(sums, a, b), steps(&sums, &a, &b)) };
            for i in 0..16 {
                let (f, e) = (found[i], expected[i]);
                let what = || format!("{:e} + {:?} {:?}: {f:e}, not {e:e}", sums[i], halves(a[i]), halves(b[i]));
                assert!(same(f, e), "{}", what());
                flushed[kind] += usize::from(e == 0.0);
                infinite[kind] += usize::from(e.is_infinite());
                nan[kind] += usize::from(e.is_nan());
            }
        }
    }
    println!("{} pairs; 0: {flushed:?}, infinite: {infinite:?}, NaN: {nan:?}", rounds * 80);
    assert!(flushed[2] * 20 > rounds && flushed[4] * 20 > rounds && infinite[3] * 20 > rounds && nan[0] * 20 > rounds);
}

#[test]
fn the_step_is_exact_arithmetic_rounded_once() {
    let mut words = Words(77);
    for i in 0..1_000_000 {
        let (sum, a, b) = words.case(i % 5);
        let (sum, a, b) = (flush(sum), halves(a)[0], halves(b)[0]);
        let (found, expected) = (step(a, b, sum), exact(a, b, sum));
        assert!(same(found, expected), "{sum:e} + {a:e} * {b:e}: {found:e}, not {expected:e}");
    }
}

#[test]
fn sums_below_the_smallest_normal_number_are_zero_when_rounded_to_all_digits() {
    let least = f32::MIN_POSITIVE;
    let tiny = |exponent: i32| f32::from_bits(((exponent + 127) as u32) << 23);
    // 2^-126 - 2^-150 has 24 digits, 2^-126 - 2^-151 is a tie, and both are as near to 2^-126 as a subnormal f32 can tell.
    assert_eq!(step(tiny(-75), -tiny(-75), least).to_bits(), 0);
    assert_eq!(step(tiny(-75), -tiny(-76), least), least);
    assert_eq!(step(1.5 * tiny(-75), -tiny(-76), least).to_bits(), 0);
    assert_eq!(step(-tiny(-75), -tiny(-75), -least).to_bits(), (-0.0f32).to_bits());
    assert_eq!(step(tiny(-100), -tiny(-100), 0.0).to_bits(), (-0.0f32).to_bits());
}

#[test]
fn numbers_go_to_the_nearest_and_ties_to_even() {
    assert_eq!(round(1.0 + 1.0 / 512.0), 1.0);
    assert_eq!(round(1.0 + 1.0 / 256.0), 1.0);
    assert_eq!(round(1.0 + 3.0 / 256.0), 1.0 + 1.0 / 64.0);
    assert_eq!(round(1.0 + 1.5 / 256.0), 1.0 + 1.0 / 128.0);
    assert_eq!(round(f32::MAX), f32::INFINITY);
    assert_eq!(round(f32::NEG_INFINITY), f32::NEG_INFINITY);
    assert_eq!(round(-0.0).to_bits(), (-0.0f32).to_bits());
    // Subnormal numbers, even where the nearest bfloat16 is a normal one.
    assert_eq!(round(-f32::from_bits(0x007f_ffff)).to_bits(), (-0.0f32).to_bits());
    assert_eq!(round(f32::MIN_POSITIVE), f32::MIN_POSITIVE);
    // A NaN whose bits stand in the lower half alone must not become an infinity.
    assert!(round(f32::from_bits(0x7f80_0001)).is_nan() && round(f32::from_bits(0xffff_ffff)).is_nan());
}

/// The documented order, one element at a time.
fn ordered(a: &Operand<f32>, b: &Operand<f32>) -> Vec<f32> {
    let (m, n, k, shape) = sizes(a, b);
    let mut out = Vec::with_capacity(shape.count());
    for item in 0..shape.count() / (m * n).max(1) {
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let term = |sum, p| exact(round(a.at(item, i, p)), round(b.at(item, p, j)), sum);
            let block = |p: usize| (p..k.min(p + 256)).fold(0.0, term);
            out.push((0..k).step_by(256).map(block).reduce(|x, y| x + y).unwrap_or_default());
        }
    }
    out
}

/// All paths and worker counts against the referee.
fn check_product(a: &Operand<f32>, b: &Operand<f32>) {
    let expected = ordered(a, b);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        for native in [false, true].into_iter().filter(|native| isa == Isa::Avx512 || !native) {
            for workers in [1, 2, 3, 7].into_iter().filter(|w| isa != Isa::Portable || w % 2 == 1) {
                let found = run(|outs, ins| build_with(isa, native, outs, ins, None), workers, a, b);
                for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
                    let path = format!("{isa:?}, native: {native}, {workers} workers");
                    assert!(same(*f, *e), "{:?} @ {:?}, {path}: element {i} is {f:e}, not {e:e}", a.view, b.view);
                }
            }
        }
    }
}

/// Where numbers lie.
#[derive(Clone, Copy, PartialEq)]
enum Size {
    /// In -1..1.
    Usual,
    /// Where sums become subnormal; some operands are subnormal, some 0.
    Tiny,
    /// Where sums overflow.
    Huge,
}

fn operand(seed: u64, dims: &[usize], axes: &[usize], gap: usize, size: Size) -> Operand<f32> {
    let mut x = Operand::new(seed, dims, axes, gap);
    let mut next = numbers(seed + 100);
    let (center, spread) = match size {
        Size::Usual => return x,
        Size::Tiny => (-63.0, 8.0),
        Size::Huge => (62.0, 3.0),
    };
    for x in &mut x.data {
        let (at, rare) = (next(), next());
        *x = match () {
            () if size == Size::Tiny && rare > 0.95 => *x * f32::MIN_POSITIVE,
            () if rare < -0.9 => 0.0,
            () => *x * ((center + spread * at) as f32).exp2(),
        };
    }
    x
}

/// a (m, k) @ b (k, n), each transposed or not, rows longer than needed by `gap`.
fn check_matrices(m: usize, n: usize, k: usize, transposed: usize, gap: usize, size: Size) {
    let axes = |t: bool| if t { [1, 0] } else { [0, 1] };
    let a = operand(1, &[m, k], &axes(transposed & 1 != 0), gap, size);
    let b = operand(2, &[k, n], &axes(transposed & 2 != 0), gap, size);
    check_product(&a, &b);
}

#[test]
fn every_pair_of_rows_and_columns() {
    let mut round = 0;
    for m in SIZES {
        for n in SIZES {
            round += 1;
            let k = SIZES[(round * 5 + 3) % SIZES.len()];
            if m * n * k <= 250_000 {
                check_matrices(m, n, k, round % 4, round % 3, Size::Usual);
            }
        }
    }
}

#[test]
fn every_transpose_of_every_size() {
    for (m, n, k) in [(1, 1, 1), (3, 50, 7), (13, 50, 40), (31, 9, 70), (5, 100, 33), (9, 19, 257), (40, 1, 513)] {
        for transposed in 0..4 {
            for size in [Size::Usual, Size::Tiny, Size::Huge] {
                check_matrices(m, n, k, transposed, transposed % 2, size);
            }
        }
    }
}

#[test]
fn rows_over_several_blocks() {
    check_matrices(401, 20, 3, 0, 0, Size::Usual);
    check_matrices(401, 50, 5, 1, 0, Size::Tiny);
    check_matrices(65, 401, 5, 0, 507, Size::Usual);
}

#[test]
fn batches_at_any_strides() {
    for (i, ((da, oa), (db, ob))) in BATCHES.into_iter().enumerate() {
        let size = if i % 2 == 0 { Size::Usual } else { Size::Tiny };
        check_product(&operand(3, &da, oa, i % 2, size), &operand(4, &db, ob, 0, size));
    }
}

#[test]
fn every_float_is_rounded_alike_on_every_path() {
    // Side by side, and with steps of k side by side; two columns of b, 1 and -1.
    let count = (u32::MAX / 4099) as usize / 2 * 2;
    for dims in [[count, 1], [count / 2, 2]] {
        let mut a = Operand::<f32>::new(1, &dims, &[0, 1], 0);
        a.data.iter_mut().enumerate().for_each(|(i, x)| *x = f32::from_bits(i as u32 * 4099));
        let mut b = Operand::<f32>::new(2, &[dims[1], 2], &[0, 1], 0);
        b.data.fill(0.0);
        b.data[3] = 1.0;
        *b.data.last_mut().expect("it has two columns") = -1.0;
        check_product(&a, &b);
    }
}

#[test]
fn nothing_is_skipped() {
    let mut a = Operand::<f32>::new(1, &[20, 31], &[0, 1], 0);
    let mut b = Operand::<f32>::new(2, &[31, 20], &[0, 1], 0);
    a.data[3..].fill(0.0);
    b.data[3 + 5] = f32::INFINITY;
    b.data[3 + 6] = f32::NAN;
    check_product(&a, &b);
}

#[test]
fn signs_of_zero_are_those_of_the_documented_order() {
    let mut a = Operand::<f32>::new(1, &[6, 1], &[0, 1], 0);
    a.data[3..].fill(-0.0);
    check_product(&a, &Operand::new(2, &[1, 20], &[0, 1], 0));
    // Sums that are flushed to -0 stay so, though an odd k is filled up.
    let mut a = Operand::<f32>::new(1, &[6, 3], &[0, 1], 0);
    a.data.fill(-1e-30);
    let mut b = Operand::<f32>::new(2, &[3, 20], &[0, 1], 0);
    b.data.fill(1e-30);
    check_product(&a, &b);
    assert!(ordered(&a, &b).iter().all(|x| x.to_bits() == (-0.0f32).to_bits()));
}

/// The smallest numbers with which two products leave a difference in their last digit: (1 + d)² - (1 + 2d) = d² for
/// d = 2^-7. From 2^-112 on it is a normal number, below it is 0.
#[test]
fn tiles_are_looked_at_where_a_difference_can_be_subnormal() {
    let power = |exponent: i32| f32::from_bits(((exponent + 127) as u32) << 23);
    let digit = power(-7);
    for exponent in -126..-100 {
        let (small, rest) = (power(-60), power(exponent + 60));
        let mut a = Operand::<f32>::new(1, &[9, 2], &[0, 1], 0);
        a.data[3..].chunks_exact_mut(2).for_each(|row| row.copy_from_slice(&[(1.0 + digit) * small, small]));
        let mut b = Operand::<f32>::new(2, &[2, 20], &[0, 1], 0);
        b.data[3..23].fill((1.0 + digit) * rest);
        b.data[23..].fill(-(1.0 + 2.0 * digit) * rest);
        check_product(&a, &b);
        let expected = if exponent < -112 { 0.0 } else { power(exponent - 14) };
        assert!(ordered(&a, &b).into_iter().all(|x| x == expected), "{exponent}");
    }
}

#[test]
fn other_types_are_refused() {
    let view = |dtype| View::contiguous(dtype, crate::view::Region::ARENA, 0, [2, 2].into());
    let refused = |dtype| build(Isa::Portable, &[view(dtype)], &[view(dtype), view(dtype)], None).err();
    assert_eq!(refused(DType::F32), None);
    assert_eq!(refused(DType::F64).as_deref(), Some("a matmul in bfloat16 takes f32, not f64"));
    assert!(build(Isa::Portable, &[], &[view(DType::F32)], None).is_err());
}
