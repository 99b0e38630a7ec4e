//! A value between zeros.

use geartrain_kernels::Routine;

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attr, Attrs, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{Shape, Type};
use crate::ops::layout::{each_index, position};

/// Puts a value between zeros along one axis: the transpose of [`Slice`](crate::ops::layout::Slice).
#[derive(Clone, Copy, Debug)]
pub struct Pad {
    /// Which axis.
    pub axis: usize,
    /// Zeros before.
    pub before: usize,
    /// Length of the axis afterwards.
    pub len: usize,
}

impl Pad {
    pub(crate) const EXAMPLE: Pad = Pad { axis: 0, before: 0, len: 1 };
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        let int = |v: usize| Attr::Int(v as u64);
        vec![("axis", int(self.axis)), ("before", int(self.before)), ("len", int(self.len))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [x] = x else { return Err(Rule::new(format!("wants 1 input, got {}", x.len()))) };
        match x.shape.dims().get(self.axis) {
            None => Err(Rule::new(format!("axis {} of a value with {} axes", self.axis, x.shape.rank()))),
            Some(n) if self.before.checked_add(*n).is_none_or(|end| end > self.len) => {
                Err(Rule::new(format!("{} + {n} elements do not fit into {}", self.before, self.len)))
            }
            Some(_) => {
                let mut dims = x.shape.dims().to_vec();
                dims[self.axis] = self.len;
                let shape = Shape::checked(&dims).ok_or_else(|| Rule::new("too many elements"))?;
                Ok(Type { shape, ..*x })
            }
        }
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::Pad { axis: self.axis, starts: vec![self.before] })
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let len = r.x[0].shape().dims()[self.axis];
        vec![r.flows(0, || r.ct.slice(self.axis, self.before, len))]
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        let mut out = vec![0.0; y.count()];
        let mut i = 0;
        each_index(x[0].shape, |index| {
            let mut to = index.to_vec();
            to[self.axis] += self.before;
            out[position(y, &to)] = x[0].values[i];
            i += 1;
        });
        out
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        vec![0.0; y.values.len()]
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Puts a value between zeros along one axis.",
            formula: "y[before : before + n] = x, else 0",
            derivative: "d_x = d_y[before : before + n]",
            kinks: "",
            cost: "one copy",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |axis, before, len, shape: Shape| {
            Case::new(Pad { axis, before, len }, vec![(shape, Domain::Between(-3.0, 3.0))])
        };
        vec![
            case(0, 1, 5, [3].into()),
            case(1, 64, 192, [3, 64].into()),
            case(0, 2, 4, [0, 3].into()),
            case(1, 0, 7, [2, 3, 5].into()),
        ]
    }
    fn print(&self, x: &[Expr], types: &[Type]) -> Expr {
        let n = types[0].shape.dims()[self.axis];
        Expr::atom(format!("pad({}, axis={}, {}, {})", x[0].text, self.axis, self.before, self.len - self.before - n))
    }
}

impl<'g> Var<'g> {
    /// This value with `before` zeros in front of it and `after` behind it along an axis.
    #[track_caller]
    pub fn pad(self, axis: usize, before: usize, after: usize) -> Var<'g> {
        let n = self.shape().dims().get(axis).copied().unwrap_or(0);
        match before.checked_add(n).and_then(|len| len.checked_add(after)) {
            Some(len) => self.graph().apply(Pad { axis, before, len }, &[self]),
            None => self.graph().fail("pad", Rule::new("too many elements"), vec![self.ty()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::tests::{error, gradient, text};
    use crate::{DType, Graph, Init};

    #[test]
    fn zeros_before_and_after() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F32, [2, 3], Init::ZEROS);
        let y = x.pad(1, 2, 1).named("y");
        assert_eq!((text(y), y.shape()), ("pad(x, axis=1, 2, 1)".to_string(), [2, 6].into()));
        assert_eq!(text(gradient(y, x)), "d_y[:, 2:5]");
    }

    #[test]
    fn what_is_refused() {
        let g = Graph::new();
        let x = g.input("x", DType::F32, [2, 3]);
        assert!(x.pad(2, 1, 1).is_poison());
        assert_eq!(error(&g), "axis 2 of a value with 2 axes");
        assert!(x.pad(0, usize::MAX, 1).is_poison() && x.pad(0, usize::MAX / 2, 1).is_poison());
    }
}
