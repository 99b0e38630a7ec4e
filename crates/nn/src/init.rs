//! Initial values of weights, as [`Init`]s of the engine; and NumPy's legacy stream for the lessons.

use std::sync::Arc;

use geartrain_engine::{DType, Init, Shape, Tensor};
use rand_mt::Mt;

/// Xavier (Glorot) uniform for weights (inputs, outputs): bound sqrt(6 / (inputs + outputs)).
///
/// Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.
pub fn xavier_uniform(inputs: usize, outputs: usize) -> Init {
    Init::Uniform { bound: libm::sqrt(6.0 / (inputs + outputs) as f64) }
}

/// Xavier (Glorot) normal: standard deviation sqrt(2 / (inputs + outputs)).
pub fn xavier_normal(inputs: usize, outputs: usize) -> Init {
    Init::Normal { std: libm::sqrt(2.0 / (inputs + outputs) as f64) }
}

/// Kaiming (He) normal for weights before a ReLU: standard deviation sqrt(2 / inputs).
///
/// Source: He, Zhang, Ren, Sun, "Delving deep into rectifiers", 2015.
pub fn kaiming_normal(inputs: usize) -> Init {
    Init::Normal { std: libm::sqrt(2.0 / inputs as f64) }
}

/// Kaiming (He) uniform for weights before a ReLU: bound sqrt(6 / inputs).
pub fn kaiming_uniform(inputs: usize) -> Init {
    Init::Uniform { bound: libm::sqrt(6.0 / inputs as f64) }
}

/// The stream of NumPy's legacy `np.random.RandomState(seed)`: the Mersenne Twister, doubles of 53 bits, and `randn` by
/// the polar method (Marsaglia) with the second value of a pair kept for the next call.
pub struct RandomState {
    twister: Mt,
    kept: Option<f64>,
}

impl RandomState {
    /// `np.random.RandomState(seed)`.
    pub fn new(seed: u32) -> RandomState {
        RandomState { twister: Mt::new(seed), kept: None }
    }

    /// One double in [0, 1).
    pub fn random(&mut self) -> f64 {
        let high = f64::from(self.twister.next_u32() >> 5);
        let low = f64::from(self.twister.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// One draw of the standard normal distribution.
    pub fn normal(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        loop {
            let (x, y) = (2.0 * self.random() - 1.0, 2.0 * self.random() - 1.0);
            let r = x * x + y * y;
            if r < 1.0 && r != 0.0 {
                let f = libm::sqrt(-2.0 * libm::log(r) / r);
                self.kept = Some(f * x);
                return f * y;
            }
        }
    }

    /// `randn(*shape) * scale` as initial values.
    pub fn randn(&mut self, dtype: DType, shape: impl Into<Shape>, scale: f64) -> Init {
        let shape = shape.into();
        let values: Vec<f64> = (0..shape.count()).map(|_| self.normal() * scale).collect();
        match Tensor::from_f64(dtype, shape, &values) {
            Some(tensor) => Init::Values(Arc::new(tensor)),
            None => Init::ZEROS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_stream_is_numpys() {
        // np.random.RandomState(42).randn(4) and np.random.RandomState(0).randn(2), printed by NumPy.
        let mut rng = RandomState::new(42);
        let expected = [0.4967141530112327, -0.13826430117118466, 0.6476885381006925, 1.5230298564080254];
        for value in expected {
            let got = rng.normal();
            assert!((got - value).abs() <= 1e-15, "{got} is not {value}");
        }
        let mut rng = RandomState::new(0);
        assert!((rng.normal() - 1.764052345967664).abs() <= 1e-15);
        assert!((rng.normal() - 0.4001572083672233).abs() <= 1e-15);
    }

    #[test]
    fn bounds_follow_the_papers() {
        assert_eq!(xavier_uniform(1, 5), Init::Uniform { bound: 1.0 });
        assert_eq!(xavier_normal(1, 1), Init::Normal { std: 1.0 });
        assert_eq!(kaiming_normal(2), Init::Normal { std: 1.0 });
        assert_eq!(kaiming_uniform(6), Init::Uniform { bound: 1.0 });
    }
}
