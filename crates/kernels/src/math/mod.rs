//! The functions that kernels compute with, for both float types, giving the same bits on every instruction set.
//!
//! f32 functions are our own (module `single`): branch-free source that vectorises when it is inlined into a loop of a
//! `#[target_feature]` function. f64 functions are the crate `libm`'s, whose version is pinned. Fused multiply-add is
//! always written out ([`Real::mul_add`]); where the CPU has none it is a software call that rounds alike.

mod dual;
mod single;
#[cfg(test)]
mod tests;

pub use dual::Dual;

#[cfg(target_arch = "x86_64")]
pub(crate) use single::exp_apart;

use crate::view::DType;

/// A float that kernels compute in.
///
/// Error bounds are for f32, in units in the last place of a normal result; this module's tests assert them over every
/// 1009th float and around all thresholds. The figures beside them were measured once over every 13th float. Subnormal
/// results are gradual, within 0.75 of their units. NaN gives NaN; payloads and signs of NaN are not promised.
pub trait Real:
    Copy
    + PartialOrd
    + Default
    + Send
    + Sync
    + std::fmt::Debug
    + bytemuck::Pod
    + 'static
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
{
    /// The type as a value.
    const DTYPE: DType;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Positive infinity.
    const INFINITY: Self;
    /// Negative infinity.
    const NEG_INFINITY: Self;
    /// A NaN.
    const NAN: Self;

    /// The nearest value.
    fn from_f64(x: f64) -> Self;
    /// The same value as f64: exact.
    fn to_f64(self) -> f64;
    /// The bits, in the low half for f32. For tests of equality.
    fn to_bits64(self) -> u64;
    /// Whether it is NaN.
    fn is_nan(self) -> bool;
    /// The larger of the two; NaN wins. Of two zeros, `o`.
    fn max(self, o: Self) -> Self;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// The value without its sign: exact.
    fn abs(self) -> Self;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// e to the power of `self`. f32: error at most 1.1 ulp (1.02).
    fn exp(self) -> Self;
    /// Natural logarithm; -inf at ±0, NaN below. f32: at most 1.0 ulp (0.89).
    fn ln(self) -> Self;
    /// Hyperbolic tangent, odd to the bit. f32: at most 1.4 ulp (1.33).
    fn tanh(self) -> Self;
    /// The error function, odd to the bit. f32: at most 1.1 ulp (1.06).
    fn erf(self) -> Self;
    /// Sine, odd to the bit; NaN at ±inf. f32: at most 1.6 ulp (1.54) where |x| <= 2^50, NaN beyond.
    fn sin(self) -> Self;
    /// Cosine; NaN at ±inf. f32: at most 1.6 ulp (1.54) where |x| <= 2^50, NaN beyond.
    fn cos(self) -> Self;
    /// `1 / (1 + exp(-self))`, accurate in both tails. f32: at most 2.4 ulp (2.34).
    fn sigmoid(self) -> Self;
    /// `self` to the power `p`; NaN below 0 where `p` is not whole. Computed in f64, so that f32 is rounded once.
    fn powf(self, p: f64) -> Self;
}

macro_rules! common {
    ($t:ty, $dtype:expr) => {
        const DTYPE: DType = $dtype;
        const ZERO: Self = 0.0;
        const ONE: Self = 1.0;
        const INFINITY: Self = <$t>::INFINITY;
        const NEG_INFINITY: Self = <$t>::NEG_INFINITY;
        const NAN: Self = <$t>::NAN;
        #[inline(always)]
        fn powf(self, p: f64) -> Self {
            Self::from_f64(power(self.to_f64(), p))
        }
        #[inline(always)]
        fn from_f64(x: f64) -> Self {
            x as $t
        }
        #[inline(always)]
        fn to_f64(self) -> f64 {
            self as f64
        }
        #[inline(always)]
        fn to_bits64(self) -> u64 {
            self.to_bits() as u64
        }
        #[inline(always)]
        fn is_nan(self) -> bool {
            self != self
        }
        #[inline(always)]
        fn max(self, o: Self) -> Self {
            if self > o || self != self { self } else { o }
        }
        #[inline(always)]
        fn mul_add(self, a: Self, b: Self) -> Self {
            <$t>::mul_add(self, a, b)
        }
        #[inline(always)]
        fn abs(self) -> Self {
            <$t>::abs(self)
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            <$t>::sqrt(self)
        }
    };
}

macro_rules! functions {
    ($($name:ident = $function:path),*) => {
        $(#[inline(always)]
        fn $name(self) -> Self {
            $function(self)
        })*
    };
}

impl Real for f32 {
    common!(f32, DType::F32);
    functions!(
        exp = single::exp,
        ln = single::ln,
        tanh = single::tanh,
        erf = single::erf,
        sin = single::sin,
        cos = single::cos,
        sigmoid = single::sigmoid
    );
}

impl Real for f64 {
    common!(f64, DType::F64);
    functions!(
        exp = libm::exp,
        ln = libm::log,
        tanh = libm::tanh,
        erf = libm::erf,
        sin = libm::sin,
        cos = libm::cos,
        sigmoid = sigmoid_f64
    );
}

/// Small whole exponents are products.
#[inline(always)]
fn power(x: f64, p: f64) -> f64 {
    let square = x * x;
    match p {
        2.0 => square,
        3.0 => square * x,
        4.0 => square * square,
        -1.0 => 1.0 / x,
        -2.0 => 1.0 / square,
        _ => libm::pow(x, p),
    }
}

/// As the one for f32: no exponential of a positive number, so that neither tail overflows.
fn sigmoid_f64(x: f64) -> f64 {
    let e = libm::exp(-x.abs());
    (if x >= 0.0 { 1.0 } else { e }) / (1.0 + e)
}
