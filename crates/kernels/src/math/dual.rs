//! Dual numbers: a value with its slope. What is computed with them is differentiated on the way, forwards.
//!
//! With ε² = 0, f(x + ε dx) = f(x) + ε f'(x) dx; each function below states its derivative once. Comparisons look at
//! values alone, so a branch is taken as it is for numbers, and its own slope comes out.
//!
//! Source: W. K. Clifford, "Preliminary sketch of biquaternions", 1873.

use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};

use super::Real;
use crate::view::DType;

/// A number and how fast it changes. No kernel runs on it: it is for checks of derivatives.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Dual {
    /// The number.
    pub value: f64,
    /// Its derivative along the one direction that is followed.
    pub slope: f64,
}

// SAFETY: two f64 in the layout of C, without padding: all zeros and any other bits are a value.
unsafe impl bytemuck::Zeroable for Dual {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Dual {}

impl Dual {
    /// A number with its slope.
    pub fn new(value: f64, slope: f64) -> Dual {
        Dual { value, slope }
    }

    /// f(x), where `value` = f(x) and `derivative` = f'(x). What does not change stays so, however steep f is there.
    fn chain(self, value: f64, derivative: f64) -> Dual {
        Dual { value, slope: if self.slope == 0.0 { 0.0 } else { derivative * self.slope } }
    }
}

impl PartialEq for Dual {
    fn eq(&self, o: &Dual) -> bool {
        self.value == o.value
    }
}

impl PartialOrd for Dual {
    fn partial_cmp(&self, o: &Dual) -> Option<Ordering> {
        self.value.partial_cmp(&o.value)
    }
}

impl Add for Dual {
    type Output = Dual;
    fn add(self, o: Dual) -> Dual {
        Dual::new(self.value + o.value, self.slope + o.slope)
    }
}

impl Sub for Dual {
    type Output = Dual;
    fn sub(self, o: Dual) -> Dual {
        Dual::new(self.value - o.value, self.slope - o.slope)
    }
}

impl Mul for Dual {
    type Output = Dual;
    fn mul(self, o: Dual) -> Dual {
        Dual::new(self.value * o.value, self.slope * o.value + self.value * o.slope)
    }
}

impl Div for Dual {
    type Output = Dual;
    fn div(self, o: Dual) -> Dual {
        Dual::new(self.value / o.value, (self.slope * o.value - self.value * o.slope) / (o.value * o.value))
    }
}

impl Neg for Dual {
    type Output = Dual;
    fn neg(self) -> Dual {
        Dual::new(-self.value, -self.slope)
    }
}

impl Real for Dual {
    const DTYPE: DType = DType::F64;
    const ZERO: Dual = Dual { value: 0.0, slope: 0.0 };
    const ONE: Dual = Dual { value: 1.0, slope: 0.0 };
    const INFINITY: Dual = Dual { value: f64::INFINITY, slope: 0.0 };
    const NEG_INFINITY: Dual = Dual { value: f64::NEG_INFINITY, slope: 0.0 };
    const NAN: Dual = Dual { value: f64::NAN, slope: f64::NAN };

    fn from_f64(x: f64) -> Dual {
        Dual::new(x, 0.0)
    }
    fn to_f64(self) -> f64 {
        self.value
    }
    fn to_bits64(self) -> u64 {
        self.value.to_bits()
    }
    fn is_nan(self) -> bool {
        self.value.is_nan()
    }
    fn max(self, o: Dual) -> Dual {
        if self > o || self.is_nan() { self } else { o }
    }
    fn mul_add(self, a: Dual, b: Dual) -> Dual {
        Dual { value: self.value.mul_add(a.value, b.value), ..self * a + b }
    }
    fn abs(self) -> Dual {
        // 0 at the kink, between the slopes of both sides.
        self.chain(self.value.abs(), if self.value == 0.0 { 0.0 } else { self.value.signum() })
    }
    fn sqrt(self) -> Dual {
        let y = self.value.sqrt();
        self.chain(y, 0.5 / y)
    }
    fn exp(self) -> Dual {
        let y = libm::exp(self.value);
        self.chain(y, y)
    }
    fn ln(self) -> Dual {
        self.chain(libm::log(self.value), 1.0 / self.value)
    }
    fn tanh(self) -> Dual {
        // 1 / cosh²: not the 1 - y² of the rules that are checked.
        let cosh = libm::cosh(self.value);
        self.chain(libm::tanh(self.value), 1.0 / (cosh * cosh))
    }
    fn erf(self) -> Dual {
        let slope = std::f64::consts::FRAC_2_SQRT_PI * libm::exp(-self.value * self.value);
        self.chain(libm::erf(self.value), slope)
    }
    fn sin(self) -> Dual {
        self.chain(libm::sin(self.value), libm::cos(self.value))
    }
    fn cos(self) -> Dual {
        self.chain(libm::cos(self.value), -libm::sin(self.value))
    }
    fn sigmoid(self) -> Dual {
        // 1 / (2 + e^x + e^-x): not the y (1 - y) of the rules that are checked.
        let slope = 1.0 / (2.0 + libm::exp(self.value) + libm::exp(-self.value));
        self.chain(self.value.sigmoid(), slope)
    }
    fn powf(self, p: f64) -> Dual {
        // p · x^p / x: not the p · x^(p - 1) of the rule that is checked; at 0 there is only that.
        let y = libm::pow(self.value, p);
        let slope = if self.value == 0.0 { p * libm::pow(self.value, p - 1.0) } else { p * y / self.value };
        self.chain(y, if p == 0.0 { 0.0 } else { slope })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every function against differences of its own value.
    #[test]
    fn slopes_are_those_of_the_values() {
        type Named = (&'static str, fn(Dual) -> Dual);
        let unary: [Named; 10] = [
            ("neg", |x| -x),
            ("abs", Dual::abs),
            ("sqrt", Dual::sqrt),
            ("exp", Dual::exp),
            ("ln", Dual::ln),
            ("tanh", Dual::tanh),
            ("erf", Dual::erf),
            ("sin", Dual::sin),
            ("cos", Dual::cos),
            ("sigmoid", Dual::sigmoid),
        ];
        for (name, f) in unary {
            for x in [0.05, 0.7, 1.3, 2.9, -0.3, -1.7] {
                let y = f(Dual::new(x, 1.25));
                if y.is_nan() {
                    continue;
                }
                let h = 1e-5;
                let near = (f(Dual::from_f64(x + h)).value - f(Dual::from_f64(x - h)).value) / (2.0 * h);
                assert!((y.slope - 1.25 * near).abs() < 1e-6, "{name} at {x}: {} and {near}", y.slope);
                assert_eq!(y.value.to_bits(), f(Dual::from_f64(x)).value.to_bits(), "{name} at {x}");
            }
        }
    }

    #[test]
    fn arithmetic_follows_the_rules_of_leibniz() {
        let (a, b) = (Dual::new(3.0, 0.5), Dual::new(-2.0, 4.0));
        let slope = |x: Dual| (x.value, x.slope);
        assert_eq!(slope(a + b), (1.0, 4.5));
        assert_eq!(slope(a - b), (5.0, -3.5));
        assert_eq!(slope(a * b), (-6.0, 11.0));
        assert_eq!(slope(a / b), (-1.5, (0.5 * -2.0 - 3.0 * 4.0) / 4.0));
        assert_eq!(slope(a.mul_add(b, Dual::new(1.0, 2.0))), (-5.0, 13.0));
        assert_eq!(slope(a.max(b)), (3.0, 0.5));
        assert_eq!(slope(b.max(a)), (3.0, 0.5));
        assert!(b < a && a == Dual::from_f64(3.0));
        assert_eq!(slope(Dual::ZERO.sqrt()), (0.0, 0.0));
    }
}
