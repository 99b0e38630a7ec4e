//! Values put one behind another.

use crate::ir::error::Rule;
use crate::ir::graph::{Graph, Var};
use crate::ir::op::{Array, Attr, Attrs, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{Shape, Type};

/// The inputs one behind another along an axis; the other axes agree.
#[derive(Clone, Copy, Debug)]
pub struct Concat {
    /// Which axis.
    pub axis: usize,
}

impl Concat {
    pub(crate) const EXAMPLE: Concat = Concat { axis: 0 };

    /// Where each input begins along the axis.
    pub(crate) fn starts(&self, x: &[Type]) -> Vec<usize> {
        let mut at = 0;
        let step = |x: &Type| {
            let start = at;
            at += x.shape.dims()[self.axis];
            start
        };
        x.iter().map(step).collect()
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        vec![("axis", Attr::Int(self.axis as u64))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let Some(first) = x.first() else { return Err(Rule::new("wants at least 1 input")) };
        let (axis, rank) = (self.axis, first.shape.rank());
        if axis >= rank {
            return Err(Rule::new(format!("axis {axis} of a value with {rank} axes")));
        }
        let mut dims = first.shape.dims().to_vec();
        dims[axis] = 0;
        for other in x {
            let same = |a: usize| a == axis || other.shape.dims()[a] == dims[a];
            if other.dtype != first.dtype || other.shape.rank() != rank || !(0..rank).all(same) {
                let rule = Rule::new(format!("{other} does not go behind {first} along axis {axis}"));
                return Err(rule.hint("all other axes must agree"));
            }
            dims[axis] = dims[axis].saturating_add(other.shape.dims()[axis]);
        }
        Shape::checked(&dims).map(|shape| Type { shape, ..*first }).ok_or_else(|| Rule::new("too many elements"))
    }
    fn kernel(&self, x: &[Type]) -> Kernel {
        Kernel::Concat { axis: self.axis, starts: self.starts(x) }
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let types: Vec<Type> = r.x.iter().map(Var::ty).collect();
        let part =
            |(i, start): (usize, usize)| r.flows(i, || r.ct.slice(self.axis, start, types[i].shape.dims()[self.axis]));
        self.starts(&types).into_iter().enumerate().map(part).collect()
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        let rows: usize = y.dims()[..self.axis].iter().product();
        let row = |x: &Array, r: usize| {
            let len = x.values.len() / rows;
            x.values[r * len..(r + 1) * len].to_vec()
        };
        (0..rows).flat_map(|r| x.iter().flat_map(move |x| row(x, r))).collect()
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        vec![0.0; y.values.len()]
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Puts values one behind another along an axis.",
            formula: "y = [x1, x2, ...]",
            derivative: "d_xi = d_y where xi stands",
            kinks: "",
            cost: "none where the parts are computed in place, else one copy",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let any = || Domain::Between(-3.0, 3.0);
        let case = |axis, shapes: &[Shape]| Case::new(Concat { axis }, shapes.iter().map(|s| (*s, any())).collect());
        vec![
            case(0, &[[3].into()]),
            case(0, &[[2, 3].into(), [1, 3].into(), [5, 3].into()]),
            case(0, &[[0, 3].into(), [4, 3].into()]),
            case(1, &[[63, 64].into(), [63, 1].into(), [63, 2].into()]),
            case(1, &[[2, 3, 5].into(), [2, 1, 5].into()]),
            case(2, &[[2, 3, 5].into(), [2, 3, 1].into()]),
        ]
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        let parts: Vec<&str> = x.iter().map(|x| x.text.as_str()).collect();
        let axis = if self.axis == 0 { String::new() } else { format!(", axis={}", self.axis) };
        Expr::atom(format!("concatenate([{}]{axis})", parts.join(", ")))
    }
}

impl Graph {
    /// The values one behind another along an axis. The other axes agree, and there is at least one value.
    #[track_caller]
    pub fn concat<'g>(&'g self, axis: usize, parts: &[Var<'g>]) -> Var<'g> {
        self.apply(Concat { axis }, parts)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::tests::{error, text};
    use crate::{DType, Graph, Init};

    #[test]
    fn what_is_refused_and_how_it_prints() {
        let g = Graph::new();
        let a = g.parameter("a", DType::F32, [2, 3], Init::ZEROS);
        let b = g.parameter("b", DType::F32, [4, 3], Init::ZEROS);
        assert_eq!(text(g.concat(0, &[a, b])), "concatenate([a, b])");
        assert_eq!(g.concat(0, &[a, b]).shape(), [6, 3].into());
        assert!(g.concat(0, &[a, b.t()]).is_poison());
        assert_eq!(error(&g), "f32 (3, 4) does not go behind f32 (2, 3) along axis 0");
        assert!(g.concat(0, &[]).is_poison());
        assert!(g.concat(0, &[a.sum_all()]).is_poison());
    }
}
