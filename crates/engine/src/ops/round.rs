//! Rounding to a type with fewer digits.

use geartrain_kernels::math::Real;
use geartrain_kernels::{Map, Params};

use crate::ir::graph::Var;
use crate::ir::op::{Cotangent, Domain, Explain, Vjp};
use crate::ops::pointwise::{Pointwise, pointwise};

/// y = x rounded to bfloat16: 8 significant bits and the range of f32.
#[derive(Clone, Copy, Debug)]
pub struct RoundBf16;

pointwise!(RoundBf16: 1);

impl Map<1> for RoundBf16 {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [x]: [T; 1]) -> T {
        x.round_bf16()
    }
}
impl Pointwise<1> for RoundBf16 {
    const NAME: &'static str = "round_bf16";
    const ULPS: f64 = 0.0;
    const EXPLAIN: Explain = Explain {
        what: "Rounds each element to the nearest bfloat16, of two equally near ones to the one with an even last digit. \
               Numbers of f64 are rounded to f32 first.",
        formula: "y = bf16(x)",
        derivative: "none: it is a staircase. Precision is chosen when a program is compiled, after differentiation.",
        kinks: "everywhere",
        cost: "4 integer operations an element",
    };
    fn vjp<'g>(&self, _: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![Cotangent::Stops("a rounded number is a staircase; round after differentiating")]
    }
    fn reference(&self, [x]: [f64; 1]) -> f64 {
        let x = f64::from(x as f32);
        if x == 0.0 || !x.is_finite() {
            return x;
        }
        // The distance between neighbouring numbers of 8 bits around x, at least that of the smallest normal ones.
        let (_, exponent) = libm::frexp(x);
        let step = libm::ldexp(1.0, exponent.max(-125) - 8);
        let y = (x / step).round_ties_even() * step;
        f64::from(y as f32)
    }
    fn domain(&self) -> [Domain; 1] {
        [Domain::Between(-3.0, 3.0)]
    }
}

impl<'g> Var<'g> {
    /// Each element rounded to the nearest bfloat16.
    #[track_caller]
    pub fn round_bf16(self) -> Var<'g> {
        Var::elementwise(RoundBf16, &[self])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(x: f32) -> f32 {
        let y = RoundBf16::map(&[0.0; 4], [x]);
        let reference = RoundBf16.reference([f64::from(x)]) as f32;
        assert!(y.to_bits() == reference.to_bits() || (y.is_nan() && reference.is_nan()), "{x:e}: {y:e} {reference:e}");
        y
    }

    #[test]
    fn numbers_go_to_the_nearest_and_ties_to_even() {
        assert_eq!(both(1.0 + 1.0 / 512.0), 1.0);
        assert_eq!(both(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(both(1.0 + 3.0 / 256.0), 1.0 + 1.0 / 64.0);
        assert_eq!(both(1.0 + 1.5 / 256.0), 1.0 + 1.0 / 128.0);
        assert_eq!(both(f32::MAX), f32::INFINITY);
        assert_eq!(both(f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert_eq!(both(-0.0).to_bits(), (-0.0f32).to_bits());
        assert!(both(f32::NAN).is_nan());
        // A NaN whose bits stand in the lower half alone must not become an infinity.
        assert!(both(f32::from_bits(0x7f80_0001)).is_nan());
        assert_eq!(RoundBf16::map(&[0.0; 4], [0.1f64]), 0.100_097_656_25);
    }

    /// Every 4099th float of both signs: normal, subnormal, infinite and NaN.
    #[test]
    fn kernel_and_reference_agree_over_all_floats() {
        (0..=u32::MAX).step_by(4099).for_each(|bits| {
            both(f32::from_bits(bits));
        });
    }
}
