//! The numbers that checks run on, from the counter generator.

use geartrain_kernels::philox;

use crate::ir::graph::{Graph, Var};
use crate::ir::op::{Array, Case, Domain};
use crate::ir::types::{DType, Shape};

/// A sequence of random numbers that depends on nothing but its seed and name.
#[derive(Clone, Debug)]
pub struct Draw {
    seed: u64,
    stream: u64,
    next: u64,
}

impl Draw {
    /// The sequence called `name`.
    pub fn new(seed: u64, name: &str) -> Draw {
        Draw { seed, stream: philox::stream_of(name), next: 0 }
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        self.next += 1;
        low + (high - low) * philox::uniform(self.seed, self.stream, self.next - 1)
    }

    /// A whole number below `limit` (0 for limit 0).
    pub fn below(&mut self, limit: usize) -> usize {
        (self.between(0.0, limit as f64) as usize).min(limit.saturating_sub(1))
    }

    /// `count` numbers in [-1, 1).
    pub fn direction(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.between(-1.0, 1.0)).collect()
    }

    /// An array of numbers in [-1, 1).
    pub fn array(&mut self, shape: Shape) -> Array {
        Array { shape, values: self.direction(shape.count()) }
    }

    /// `count` numbers of a domain.
    pub(crate) fn domain(&mut self, domain: &Domain, count: usize) -> Vec<f64> {
        match domain {
            Domain::Between(low, high) | Domain::Single(low, high) => {
                (0..count).map(|_| self.between(*low, *high)).collect()
            }
            Domain::Away(kinks) => (0..count).map(|_| self.away(kinks)).collect(),
            Domain::Index(limit) => (0..count).map(|_| self.below(*limit as usize) as f64).collect(),
            Domain::Distinct => {
                let mut values: Vec<f64> = (0..count).map(|i| -2.0 + 4.0 * i as f64 / count as f64).collect();
                for i in (1..count).rev() {
                    values.swap(i, self.below(i + 1));
                }
                values
            }
            Domain::Scalar(value) => vec![*value; count],
        }
    }

    fn away(&mut self, kinks: &[f64]) -> f64 {
        // 0.05 around a few kinks is a small part of six: a hundred draws in vain do not happen.
        let near = |x: f64| kinks.iter().any(|k| (x - k).abs() < 0.05);
        let mut x = self.between(-3.0, 3.0);
        for _ in 0..100 {
            if !near(x) {
                break;
            }
            x = self.between(-3.0, 3.0);
        }
        x
    }
}

/// The inputs of a case, rounded to `dtype` where they are floats of the case's own dtype.
pub fn inputs(case: &Case, dtype: DType, seed: u64) -> Vec<Array> {
    let name = case.op.name();
    let draw = |(i, (shape, domain)): (usize, &(Shape, Domain))| {
        let mut values = Draw::new(seed, &format!("{name}.{i}")).domain(domain, shape.count());
        if dtype_of(domain, dtype) == DType::F32 {
            values.iter_mut().for_each(|x| *x = f64::from(*x as f32));
        }
        Array { shape: *shape, values }
    };
    case.inputs.iter().enumerate().map(draw).collect()
}

/// The dtype of an input that is drawn from `domain` in a case that runs in `dtype`.
pub fn dtype_of(domain: &Domain, dtype: DType) -> DType {
    match domain {
        Domain::Index(_) => DType::U32,
        Domain::Scalar(_) => DType::F64,
        Domain::Single(..) => DType::F32,
        _ => dtype,
    }
}

/// The inputs of a case as inputs of a graph, called `x0`, `x1`, ...
pub fn declare<'g>(graph: &'g Graph, case: &Case, dtype: DType) -> Vec<Var<'g>> {
    let input = |(i, (shape, domain)): (usize, &(Shape, Domain))| {
        graph.input(&format!("x{i}"), dtype_of(domain, dtype), *shape)
    };
    case.inputs.iter().enumerate().map(input).collect()
}

/// A case as failures name it: operation with attributes, and input shapes.
pub fn describe(case: &Case) -> String {
    let shapes: Vec<String> = case.inputs.iter().map(|(s, _)| s.to_string()).collect();
    let attrs: Vec<String> = case.op.attrs().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    let attrs = if attrs.is_empty() { String::new() } else { format!(" {{{}}}", attrs.join(", ")) };
    format!("{}{attrs} on {}", case.op.name(), shapes.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_hold() {
        let mut draw = Draw::new(7, "test");
        assert!(draw.domain(&Domain::Between(0.5, 3.0), 500).iter().all(|x| (0.5..3.0).contains(x)));
        assert!(
            draw.domain(&Domain::Away(&[0.0, 1.0]), 500).iter().all(|x| x.abs() >= 0.05 && (x - 1.0).abs() >= 0.05)
        );
        assert!(draw.domain(&Domain::Index(3), 500).iter().all(|x| [0.0, 1.0, 2.0].contains(x)));
        let mut shuffled = draw.domain(&Domain::Distinct, 8);
        assert_ne!(shuffled, [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5]);
        shuffled.sort_by(f64::total_cmp);
        assert_eq!(shuffled, [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5]);
    }

    #[test]
    fn a_sequence_varies_and_repeats() {
        let take = |seed, name| Draw::new(seed, name).direction(64);
        assert_eq!(take(1, "a"), take(1, "a"));
        assert_ne!(take(1, "a"), take(2, "a"));
        assert_ne!(take(1, "a"), take(1, "b"));
        let a = take(1, "a");
        assert!(a.iter().any(|x| *x < -0.3) && a.iter().any(|x| *x > 0.3));
    }
}
