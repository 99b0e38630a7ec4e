//! Errors against f64, exact values, and the same bits on every instruction set.

use super::Real;
use crate::isa::Isa;

/// A function of one f32, as a type, so that it is inlined into each loop below.
trait Unary {
    fn call(x: f32) -> f32;
}

macro_rules! unary {
    ($($name:ident $method:ident),*) => { $(
        struct $name;
        impl Unary for $name {
            #[inline(always)]
            fn call(x: f32) -> f32 {
                Real::$method(x)
            }
        }
    )* };
}
unary!(Exp exp, Ln ln, Tanh tanh, Erf erf, Sin sin, Cos cos, Sigmoid sigmoid);

#[inline(always)]
fn each<F: Unary>(x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = F::call(*x);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn each_avx2<F: Unary>(x: &[f32], y: &mut [f32]) {
    each::<F>(x, y);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn each_avx512<F: Unary>(x: &[f32], y: &mut [f32]) {
    each::<F>(x, y);
}

fn apply<F: Unary>(isa: Isa, x: &[f32]) -> Vec<f32> {
    assert!(isa.supported());
    let mut y = vec![0.0; x.len()];
    match isa {
        // SAFETY: the instructions are there, see above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { each_avx2::<F>(x, &mut y) },
        // SAFETY: the instructions are there, see above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { each_avx512::<F>(x, &mut y) },
        _ => each::<F>(x, &mut y),
    }
    y
}

fn best() -> Isa {
    Isa::ALL.into_iter().rev().find(|isa| isa.supported()).unwrap()
}

/// Every `step`-th float, NaN and infinities among them, and the floats around all thresholds of the source.
fn sweep(step: u32) -> Vec<f32> {
    let mut x: Vec<f32> = (0..u32::MAX / step).map(|i| f32::from_bits(i * step)).collect();
    let pi = std::f32::consts::PI;
    let thresholds = [
        0.0,
        f32::MIN_POSITIVE,
        1.0,
        0.6,
        0.9,
        3.9,
        4.0,
        9.0,
        10.0,
        17.0,
        87.34,
        88.72,
        89.0,
        103.97,
        104.0,
        pi / 4.0,
        pi / 2.0,
        pi,
        1.5 * pi,
        2.0 * pi,
        1e5,
        std::f32::consts::FRAC_1_SQRT_2,
        std::f32::consts::SQRT_2,
        2f32.powi(50),
        f32::MAX,
    ];
    for t in thresholds {
        let around = |i: u32| f32::from_bits(t.to_bits().saturating_add(i).saturating_sub(1500));
        x.extend((0..3000).map(around).flat_map(|t| [t, -t]));
    }
    // Neighbours of multiples of pi/2, where sine and cosine lose their leading digits.
    for n in (1..70_000u64).chain((1..50_000).map(|i| i * i * i)) {
        let t = (n as f64 * std::f64::consts::FRAC_PI_2) as f32;
        x.extend([t.next_down(), t, t.next_up(), -t]);
    }
    x
}

/// Largest error of `F` over `x`, in ulps of the result: (where it is normal, where it is subnormal).
fn errors<F: Unary>(x: &[f32], reference: fn(f64) -> f64) -> (f64, f64) {
    let y = apply::<F>(best(), x);
    let mut worst = (0.0f64, 0.0f64);
    for (&x, &y) in x.iter().zip(&y) {
        let want = reference(f64::from(x));
        if want.is_nan() || want.is_infinite() {
            let same = y.is_nan() && want.is_nan() || f64::from(y) == want;
            assert!(same, "at {x:e}: {y:e}, not {want:e}");
            continue;
        }
        assert!(!y.is_nan(), "NaN at {x:e}");
        // Infinity stands for the first value that f32 lacks, and so does all beyond.
        let want = want.clamp(-2f64.powi(128), 2f64.powi(128));
        let got = if y.is_infinite() { 2f64.powi(128).copysign(f64::from(y)) } else { f64::from(y) };
        let exponent = (want.abs().to_bits() >> 52) as i32 - 1023;
        let error = (got - want).abs() / 2f64.powi(exponent.clamp(-126, 127) - 23);
        let slot = if exponent < -126 { &mut worst.1 } else { &mut worst.0 };
        *slot = slot.max(error);
        assert!(error < 4.0, "{error} ulp at {x:e}: {y:e}, not {want:e}");
    }
    worst
}

/// Asserts that the error is at most `bound`, as documented, and also that this bound is not far too wide.
fn check<F: Unary>(x: &[f32], reference: fn(f64) -> f64, bound: f64) {
    let (normal, subnormal) = errors::<F>(x, reference);
    let name = std::any::type_name::<F>();
    assert!(normal <= bound && subnormal <= 0.75, "{name}: {normal} ulp, {subnormal} where subnormal");
    assert!(normal >= bound - 0.25, "{name}: at most {bound} is loose, measured {normal}");
}

#[test]
fn errors_are_as_documented() {
    let x = sweep(1009);
    // |x| > 2^50 is NaN by definition.
    let (near, far): (Vec<f32>, Vec<f32>) = x.iter().partition(|x| x.abs() <= 2f32.powi(50));
    check::<Exp>(&x, libm::exp, 1.1);
    check::<Ln>(&x, |x| if x < 0.0 { f64::NAN } else { libm::log(x) }, 1.0);
    check::<Tanh>(&x, libm::tanh, 1.4);
    check::<Erf>(&x, libm::erf, 1.1);
    check::<Sin>(&near, libm::sin, 1.6);
    check::<Cos>(&near, libm::cos, 1.6);
    check::<Sigmoid>(&x, f64::sigmoid, 2.4);
    assert!(far.iter().all(|x| Real::sin(*x).is_nan() && Real::cos(*x).is_nan()));
}

#[test]
fn all_instruction_sets_agree() {
    let x = sweep(40_009);
    fn agree<F: Unary>(x: &[f32]) {
        let want = apply::<F>(Isa::Portable, x);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
            for ((x, y), want) in x.iter().zip(apply::<F>(isa, x)).zip(&want) {
                let same = y.to_bits() == want.to_bits() || y.is_nan() && want.is_nan();
                assert!(same, "{isa:?} at {x:e}: {y:e}, not {want:e}");
            }
        }
    }
    agree::<Exp>(&x);
    agree::<Ln>(&x);
    agree::<Tanh>(&x);
    agree::<Erf>(&x);
    agree::<Sin>(&x);
    agree::<Cos>(&x);
    agree::<Sigmoid>(&x);
}

fn exact<T: Real>() {
    let same = |got: T, want: f64| {
        let want = T::from_f64(want);
        assert!(got.to_bits64() == want.to_bits64() || got.is_nan() && want.is_nan(), "{got:?}, not {want:?}");
    };
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let functions: [fn(T) -> T; 7] = [T::exp, T::ln, T::tanh, T::erf, T::sin, T::cos, T::sigmoid];
    let at = [
        (0.0, [1.0, -inf, 0.0, 0.0, 0.0, 1.0, 0.5]),
        (-0.0, [1.0, -inf, -0.0, -0.0, -0.0, 1.0, 0.5]),
        (inf, [inf, inf, 1.0, 1.0, nan, nan, 1.0]),
        (-inf, [0.0, nan, -1.0, -1.0, nan, nan, 0.0]),
        (nan, [nan; 7]),
        (-nan, [nan; 7]),
    ];
    for (x, wants) in at {
        for (f, want) in functions.into_iter().zip(wants) {
            same(f(T::from_f64(x)), want);
        }
    }
    same(T::ONE.ln(), 0.0);
    same((-T::ONE).ln(), nan);
    same(T::from_f64(1000.0).exp(), inf);
    same(T::from_f64(-1000.0).exp(), 0.0);
    same(T::from_f64(-1000.0).sigmoid(), 0.0);
    same(T::from_f64(50.0).tanh(), 1.0);
    same(T::from_f64(-0.0).abs(), 0.0);
    same((-T::ONE).sqrt(), nan);
    same(T::NAN.max(T::ONE), nan);
    same(T::ONE.max(T::NAN), nan);
    same(T::NEG_INFINITY.max(T::ZERO), 0.0);
    same(T::INFINITY.max(T::ZERO), inf);
    // 1 - (1 - d)(1 + d) = d², which is lost when the product is rounded first.
    let d = T::from_f64(2f64.powi(-20));
    same((T::ONE - d).mul_add(-(T::ONE + d), T::ONE), 2f64.powi(-40));
}

#[test]
fn special_values_are_exact() {
    exact::<f32>();
    exact::<f64>();
}

#[test]
fn odd_functions_are_odd() {
    for x in sweep(400_009).into_iter().filter(|x| !x.is_nan() && x.abs() <= 2f32.powi(50)) {
        for f in [<f32 as Real>::tanh, <f32 as Real>::erf, <f32 as Real>::sin] {
            assert_eq!(f(-x).to_bits(), (-f(x)).to_bits(), "at {x:e}");
        }
    }
}
