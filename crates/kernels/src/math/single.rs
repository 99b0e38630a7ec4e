//! f32 functions without branches, tables or calls: each is a few dozen multiplications, additions and selects.
//!
//! The method is the classical one everywhere: bring the argument to a small interval where a short polynomial is
//! accurate, and undo that exactly. Coefficients are minimax fits of our own (Remez exchange and Lawson's iteration in
//! extended precision, on the interval each function names): the lowest was rounded to f32, the rest fitted anew, and
//! so on, then neighbouring floats were searched. "Fit" below is the largest error of the rounded polynomial, relative
//! to the function, before any rounding of the arithmetic; 2^-24 is half an ulp at worst.
//!
//! Selects are written `if a > b { .. }` with NaN falling to the side that lets it pass. Integers taken from the bits of
//! a NaN are nonsense, so all integer arithmetic wraps and the float beside them is NaN already.

/// Adding it rounds a small float to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
const ROUND_F64: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
/// ln 2 rounded, and what is left of it.
const LN2: f32 = std::f32::consts::LN_2;
const LN2_REST: f32 = -1.904_654_2e-9;
/// pi / 2 rounded, and what is left of it.
const HALF_PI: f64 = std::f64::consts::FRAC_PI_2;
const HALF_PI_REST: f64 = 6.123_233_995_736_766e-17;

/// `c[0] + c[1] x + c[2] x² + ..` by Horner's rule.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut sum = c[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = sum.mul_add(x, c[i]);
    }
    sum
}

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// (p, n) with exp(x) = p 2^n and p in 0.70..1.42, for |x| <= 105.
///
/// x - n ln 2 is exact in its first step, the second adds what ln 2 lacks. exp(r) = 1 + r + r² Q(r) on
/// |r| <= 0.348, fit 2^-28.2.
#[inline(always)]
fn exp_parts(x: f32) -> (f32, i32) {
    let (p, rounded) = exp_rounded(x);
    (p, rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32)
}

/// [`exp_parts`] with n + [`ROUND`] instead of n.
#[inline(always)]
fn exp_rounded(x: f32) -> (f32, f32) {
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN2_REST, n.mul_add(-LN2, x));
    let q = polynomial(r, [0.499_999_94, 0.166_665_21, 0.041_668_29, 0.008_368_704_5, 0.001_381_893_6]);
    (1.0 + (r * r).mul_add(q, r), rounded)
}

/// exp. Outside of -104..89 the result is 0 or infinity, whatever the argument. The power of two comes in two halves:
/// results too small for one are rounded once, results too large become infinite by themselves.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let (p, n) = exp_parts(exp_clamped(x));
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn exp_clamped(x: f32) -> f32 {
    let x = if x > 89.0 { 89.0 } else { x };
    if x < -104.0 { -104.0 } else { x }
}

/// (p, n) with exp(x) = p 2^n, for CPUs that can multiply with a power of two in one instruction. It must round once:
/// so does [`exp`], whose first product is exact.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn exp_apart(x: f32) -> (f32, f32) {
    let (p, rounded) = exp_rounded(exp_clamped(x));
    (p, rounded - ROUND)
}

/// ln x = e ln 2 + ln m with m in sqrt(1/2)..sqrt(2); ln(1 + f) = f - f²/2 + f³ P(f), fit 2^-27.3.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    const LOWEST: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x }; // 2^23
    let above = scaled.to_bits().wrapping_sub(LOWEST);
    let f = f32::from_bits((above & 0x007f_ffff).wrapping_add(LOWEST)) - 1.0;
    let e = ((above as i32) >> 23) as f32 - if tiny { 23.0 } else { 0.0 };
    let p = polynomial(
        f,
        [
            0.333_333_3,
            -0.250_008_2,
            0.200_012_4,
            -0.166_234_06,
            0.142_016_19,
            -0.131_596_91,
            0.127_619_74,
            -0.076_359_056,
        ],
    );
    let square = f * f;
    let tail = (square * f).mul_add(p, e.mul_add(LN2_REST, -0.5 * square));
    let normal = e.mul_add(LN2, f + tail);
    let positive = if x == f32::INFINITY { x } else { normal };
    let known = if x == 0.0 { f32::NEG_INFINITY } else { positive };
    if x >= 0.0 { known } else { f32::NAN }
}

/// 1 - 2 / (exp(2|x|) + 1), and near zero |x| + |x|³ P(x²), fit 2^-28.4 on |x| <= 0.6.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let t = x.abs();
    let clamped = if t > 10.0 { 10.0 } else { t };
    let (p, n) = exp_parts(clamped + clamped);
    let large = 1.0 - 2.0 / p.mul_add(power_of_two(n), 1.0);
    let s = t * t;
    let c = polynomial(s, [-0.333_333, 0.133_319_36, -0.053_784_717, 0.020_798_625, -0.005_897_966_7]);
    let small = (t * s).mul_add(c, t);
    (if t > 0.6 { large } else { small }).copysign(x)
}

/// 1 - exp(-t - t R(t)) with t = |x|, fit 2^-28.3 on 0.9..4, and near zero t + t P(t²), fit 2^-30 on t <= 0.9.
///
/// The split into these two forms is Norbert Juffa's; the coefficients are ours.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let t = x.abs();
    let c = if t > 4.0 { 4.0 } else { t };
    let r =
        polynomial(c, [-0.128_519_95, -0.635_699_4, -0.105_286_79, 0.022_905_968, -0.003_219_948_4, 0.000_214_590_85]);
    let (p, n) = exp_parts(c.mul_add(r, -c));
    let large = p.mul_add(-power_of_two(n), 1.0);
    let q = polynomial(
        t * t,
        [0.128_379_17, -0.376_126_3, 0.112_836_24, -0.026_855_56, 0.005_191_753, -0.000_803_975_3, 0.000_079_431],
    );
    let small = t.mul_add(q, t);
    (if t > 0.9 { large } else { small }).copysign(x)
}

/// sin(t + quarters * pi/2) for t = |x|.
///
/// t - n pi/2 is exact in its first step in f64 while n < 2^50, and the second leaves an error under 2^-52: far below
/// the smallest distance of such an f32 from a multiple of pi/2. sin r = r + r³ S(r²), fit 2^-27.8, and
/// cos r = 1 + r² C(r²), fit 2^-33, on |r| <= 0.787.
#[inline(always)]
fn circular(t: f32, quarters: u32) -> f32 {
    let wide = f64::from(t);
    let rounded = wide.mul_add(std::f64::consts::FRAC_2_PI, ROUND_F64);
    let n = rounded - ROUND_F64;
    let r = n.mul_add(-HALF_PI_REST, n.mul_add(-HALF_PI, wide)) as f32;
    let quarter = (rounded.to_bits() as u32).wrapping_add(quarters);
    let s = r * r;
    let sin = (r * s).mul_add(polynomial(s, [-0.166_666_54, 0.008_332_106, -0.000_195_078_83]), r);
    let cos = s.mul_add(polynomial(s, [-0.5, 0.041_666_646, -0.001_388_730_8, 0.000_024_432_102]), 1.0);
    let value = if quarter & 1 == 0 { sin } else { cos };
    let signed = f32::from_bits(value.to_bits() ^ ((quarter & 2) << 30));
    // Beyond 2^50 the reduction has too few bits: NaN is seen, a number of no meaning is not.
    if t <= 1_125_899_906_842_624.0 { signed } else { f32::NAN }
}

/// sin, by way of |x| so that the sign of zero is kept.
#[inline(always)]
pub(super) fn sin(x: f32) -> f32 {
    let sign = x.to_bits() & 0x8000_0000;
    f32::from_bits(circular(x.abs(), 0).to_bits() ^ sign)
}

/// cos.
#[inline(always)]
pub(super) fn cos(x: f32) -> f32 {
    circular(x.abs(), 1)
}

/// With e = exp(-|x|): 1 / (1 + e) for x >= 0, e / (1 + e) below, so that the left tail keeps its digits.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    (if x >= 0.0 { 1.0 } else { e }) / (1.0 + e)
}
