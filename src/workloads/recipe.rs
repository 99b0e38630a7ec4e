//! Initial values and data from a hash of (seed, element), so that any framework can make the same ones.

/// 24 bits for element `i` of the tensor with this seed.
fn hash(seed: u32, i: u32) -> u32 {
    let mut x = i.wrapping_add(seed.wrapping_mul(0x9E37_79B9));
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    (x ^ (x >> 16)) >> 8
}

/// `count` numbers, uniform in [-bound, bound), rounded to f32 as every framework does it.
pub fn uniform(seed: u32, count: usize, bound: f64) -> Vec<f32> {
    let unit = |i: u32| hash(seed, i) as f32 / 8_388_608.0 - 1.0;
    (0..count as u32).map(|i| unit(i) * bound as f32).collect()
}

/// `count` whole numbers below `below`.
pub fn whole(seed: u32, count: usize, below: u32) -> Vec<u32> {
    (0..count as u32).map(|i| hash(seed, i) % below).collect()
}

/// How a tensor starts.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// Uniform in [-bound, bound).
    Uniform(f64),
    /// One number everywhere.
    Same(f32),
}

impl Start {
    /// `count` values for the tensor with this seed.
    pub fn values(self, seed: u32, count: usize) -> Vec<f32> {
        match self {
            Start::Uniform(bound) => uniform(seed, count, bound),
            Start::Same(value) => vec![value; count],
        }
    }
}
