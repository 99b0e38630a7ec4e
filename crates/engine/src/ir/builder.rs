//! Operators and methods of [`Var`] that need no operation of their own.

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::Op;
use crate::ir::types::{self, Shape, Tensor};
use crate::ops::arith::{Add, Div, Mul, Neg, Sub};

impl<'g> Var<'g> {
    /// Applies an elementwise operation to values that are first broadcast to one shape.
    #[track_caller]
    pub fn elementwise(op: impl Op, x: &[Var<'g>]) -> Var<'g> {
        let graph = x[0].graph();
        if x.iter().any(Var::is_poison) {
            return graph.var(crate::NodeId::POISON);
        }
        let shape = x.iter().try_fold(Shape::SCALAR, |s, v| types::broadcast(s, v.shape()));
        let Some(shape) = shape else {
            let rule = Rule::new("shapes do not broadcast together")
                .hint("axes are matched from the last; lengths must agree or one of them be 1");
            return graph.fail(op.name(), rule, x.iter().map(Var::ty).collect());
        };
        let x: Vec<Var<'g>> = x.iter().map(|v| v.broadcast_to(shape)).collect();
        graph.apply(op, &x)
    }

    /// The number `value` in the dtype of this value.
    #[track_caller]
    pub fn number(&self, value: f64) -> Var<'g> {
        self.graph().number(self.dtype(), value)
    }

    /// The number `value` in every element of the type of this value.
    #[track_caller]
    pub fn full(&self, value: f64) -> Var<'g> {
        self.number(value).broadcast_to(self.shape())
    }

    /// A constant tensor in the dtype of this value.
    #[track_caller]
    pub fn constant_like(&self, shape: impl Into<Shape>, values: &[f64]) -> Var<'g> {
        let shape = shape.into();
        match Tensor::from_f64(self.dtype(), shape, values) {
            Some(tensor) => self.graph().constant(tensor),
            None => {
                let rule = Rule::new(format!("{} numbers do not fill the shape {shape}", values.len()));
                self.graph().fail("constant", rule, vec![])
            }
        }
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $op:expr) => {
        impl<'g> std::ops::$trait for Var<'g> {
            type Output = Var<'g>;
            #[track_caller]
            fn $method(self, other: Var<'g>) -> Var<'g> {
                Var::elementwise($op, &[self, other])
            }
        }
        impl<'g> std::ops::$trait<f64> for Var<'g> {
            type Output = Var<'g>;
            #[track_caller]
            fn $method(self, other: f64) -> Var<'g> {
                Var::elementwise($op, &[self, self.number(other)])
            }
        }
        impl<'g> std::ops::$trait<Var<'g>> for f64 {
            type Output = Var<'g>;
            #[track_caller]
            fn $method(self, other: Var<'g>) -> Var<'g> {
                Var::elementwise($op, &[other.number(self), other])
            }
        }
    };
}
operator!(Add, add, Add);
operator!(Sub, sub, Sub);
operator!(Mul, mul, Mul);
operator!(Div, div, Div);

impl<'g> std::ops::Neg for Var<'g> {
    type Output = Var<'g>;
    #[track_caller]
    fn neg(self) -> Var<'g> {
        Var::elementwise(Neg, &[self])
    }
}
