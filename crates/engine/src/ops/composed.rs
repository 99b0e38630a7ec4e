//! Functions that are written in other operations and need none of their own.

use std::f64::consts::{FRAC_2_PI, SQRT_2};

use crate::ir::error::Rule;
use crate::ir::graph::Var;

impl<'g> Var<'g> {
    /// Its square.
    #[track_caller]
    pub fn square(self) -> Var<'g> {
        self * self
    }

    /// x · sigmoid(x), also called swish.
    #[track_caller]
    pub fn silu(self) -> Var<'g> {
        self * self.sigmoid()
    }

    /// x where it is above 0, else slope · x (Maas, Hannun and Ng, 2013). At 0 the derivative is `slope`.
    #[track_caller]
    pub fn leaky_relu(self, slope: f64) -> Var<'g> {
        self.greater(self.number(0.0)).select(self, slope * self)
    }

    /// x where it is above 0, else alpha · (e^x - 1) (Clevert, Unterthiner and Hochreiter, 2016). At 0 the derivative is
    /// `alpha`.
    #[track_caller]
    pub fn elu(self, alpha: f64) -> Var<'g> {
        // The exponential is kept from elements above 0: where it overflows, its cotangent would be 0 · inf.
        let (zero, above) = (self.number(0.0), self.greater(self.number(0.0)));
        above.select(self, alpha * (above.select(zero, self).exp() - 1.0))
    }

    /// The Gaussian error linear unit in its exact form: x / 2 · (1 + erf(x / √2)).
    #[track_caller]
    pub fn gelu(self) -> Var<'g> {
        0.5 * self * (1.0 + (self / SQRT_2).erf())
    }

    /// The Gaussian error linear unit as GPT-2 approximates it: x / 2 · (1 + tanh(√(2 / π) · (x + 0.044715 · x³))).
    #[track_caller]
    pub fn gelu_tanh(self) -> Var<'g> {
        let u = libm::sqrt(FRAC_2_PI) * (self + 0.044715 * self * self * self);
        0.5 * self * (1.0 + u.tanh())
    }

    /// Mean of all elements, a scalar. There must be at least one.
    #[track_caller]
    pub fn mean_all(self) -> Var<'g> {
        match self.shape().count() {
            0 => self.graph().fail("mean", Rule::new("the mean of no elements is not a number"), vec![self.ty()]),
            n => self.sum_all() / n as f64,
        }
    }

    /// Mean over one axis, which stays with length 1. It must not be empty.
    #[track_caller]
    pub fn mean(self, axis: usize) -> Var<'g> {
        match self.shape().dims().get(axis) {
            Some(0) => self.graph().fail("mean", Rule::new("the mean of no elements is not a number"), vec![self.ty()]),
            Some(n) => self.sum(axis) / *n as f64,
            // The sum says what is wrong.
            None => self.sum(axis),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{Feed, evaluate};
    use crate::ops::tests::{error, text};
    use crate::{Array, DType, Graph, Init};

    #[test]
    fn they_print_as_they_are_written() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F32, [4, 3], Init::ZEROS);
        assert_eq!(text(x.square()), "x * x");
        assert_eq!(text(x.silu()), "x * sigmoid(x)");
        assert_eq!(text(x.leaky_relu(0.25)), "where((x > 0), x, 0.25 * x)");
        assert_eq!(text(x.elu(0.5)), "where((x > 0), x, 0.5 * (exp(where((x > 0), 0, x)) - 1))");
        assert_eq!(text(x.mean(1)), "x.sum(axis=1, keepdims=True) / 3");
        assert_eq!(text(x.gelu()), "0.5 * x * (1 + erf(x / 1.4142135381698608))");
        let u = "0.7978845834732056 * (x + 0.044714998453855515 * x * x * x)";
        assert_eq!(text(x.gelu_tanh()), format!("0.5 * x * (1 + tanh({u}))"));
    }

    #[test]
    fn derivatives_at_the_kink_and_far_out() {
        let g = Graph::new();
        let x = g.input("x", DType::F64, [4]);
        let grads = [x.leaky_relu(0.25), x.elu(0.5), x.softplus()].map(|y| g.grad(y.sum_all(), &[x]).unwrap()[0]);
        let mut feed = Feed::new();
        feed.set("x", Array { shape: [4].into(), values: vec![-1000.0, 0.0, 2.0, 1000.0] });
        let found = evaluate(&g, &grads, &feed).unwrap();
        assert_eq!(found[0].values, [0.25, 0.25, 1.0, 1.0]);
        assert_eq!(found[1].values, [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(found[2].values, [0.0, 0.5, 1.0 / (1.0 + libm::exp(-2.0)), 1.0]);
    }

    #[test]
    fn the_mean_of_nothing_is_refused() {
        let g = Graph::new();
        let x = g.input("x", DType::F32, [0, 3]);
        assert!(x.mean_all().is_poison() && x.mean(0).is_poison());
        assert_eq!(error(&g), "the mean of no elements is not a number");
        assert_eq!(x.mean(1).shape(), [0, 1].into());
        assert!(x.mean(2).is_poison());
    }
}
