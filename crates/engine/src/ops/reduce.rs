//! Sum, max and argmax over axes.

use geartrain_kernels::Routine;

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attr, Attrs, Binding, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{Axes, DType, Shape, Type};
use crate::ops::layout::{each_index, position};

/// Sum over axes, which stay with length 1.
#[derive(Clone, Copy, Debug)]
pub struct Sum(pub Axes);
/// Largest element over axes, which stay with length 1.
#[derive(Clone, Copy, Debug)]
pub struct Max(pub Axes);
/// Index of the first largest element along the last axis, which disappears.
#[derive(Clone, Copy, Debug)]
pub struct Argmax;

fn infer(axes: Axes, x: &[Type]) -> Result<Type, Rule> {
    let [x] = x else { return Err(Rule::new(format!("wants 1 input, got {}", x.len()))) };
    if !x.dtype.is_float() {
        return Err(Rule::new("wants floats").hint("cast it first"));
    }
    if !axes.fits(x.shape.rank()) {
        return Err(Rule::new(format!("axes {axes:?} of a value with {} axes", x.shape.rank())));
    }
    Ok(Type { shape: axes.collapse(x.shape), ..*x })
}

/// Folds the elements that share a place in the collapsed shape.
fn fold(axes: Axes, x: &Array, y: Shape, start: f64, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let mut out = vec![start; y.count()];
    let mut i = 0;
    each_index(x.shape, |index| {
        let to: Vec<usize> = index.iter().enumerate().map(|(a, k)| if axes.contains(a) { 0 } else { *k }).collect();
        let at = position(y, &to);
        out[at] = f(out[at], x.values[i]);
        i += 1;
    });
    out
}

fn shapes_and_axes() -> Vec<(Shape, Axes)> {
    vec![
        ([521].into(), Axes(1)),
        ([3, 65].into(), Axes(2)),
        ([64, 63].into(), Axes(1)),
        ([256, 5].into(), Axes(1)),
        ([4, 4].into(), Axes(3)),
        ([2, 3, 65].into(), Axes(5)),
        ([2, 3, 4, 5].into(), Axes(6)),
        ([1, 7].into(), Axes::NONE),
        (Shape::SCALAR, Axes::NONE),
    ]
}

fn print(name: &str, axes: Axes, x: &Expr, ty: &Type) -> Expr {
    let x = x.within(Binding::Atom, false);
    match axes == Axes::all(ty.shape.rank()) {
        true => Expr::atom(format!("{x}.{name}()")),
        false => Expr::atom(format!("{x}.{name}(axis={axes:?}, keepdims=True)")),
    }
}

impl Sum {
    pub(crate) const EXAMPLE: Sum = Sum(Axes::NONE);
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }
    fn kind(&self) -> Kind {
        Kind::Reduce
    }
    fn attrs(&self) -> Attrs {
        vec![("axes", Attr::Axes(self.0))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        infer(self.0, x)
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::Sum { axes: self.0.0 })
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct.broadcast_to(r.x[0].shape()))]
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        fold(self.0, &x[0], y, 0.0, |a, b| a + b)
    }
    fn bound(&self, x: &[Array], y: &Array, eps: f64) -> Vec<f64> {
        let terms = x[0].values.len() / y.values.len().max(1);
        let sizes = fold(self.0, &x[0], y.shape, 0.0, |a, b| a + b.abs());
        sizes.into_iter().map(|s| s * terms as f64 * eps).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Adds the elements along axes, in an order fixed by the shape.",
            formula: "y = Σ x",
            derivative: "d_x = d_y, repeated along the axes",
            kinks: "",
            cost: "1 FLOP an input element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let mut all = shapes_and_axes();
        all.push(([0, 3].into(), Axes(1)));
        all.into_iter().map(|(s, a)| Case::new(Sum(a), vec![(s, Domain::Between(-3.0, 3.0))])).collect()
    }
    fn print(&self, x: &[Expr], types: &[Type]) -> Expr {
        print("sum", self.0, &x[0], &types[0])
    }
}

impl Max {
    pub(crate) const EXAMPLE: Max = Max(Axes::NONE);
}

impl Op for Max {
    fn name(&self) -> &'static str {
        "max"
    }
    fn kind(&self) -> Kind {
        Kind::Reduce
    }
    fn attrs(&self) -> Attrs {
        vec![("axes", Attr::Axes(self.0))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        infer(self.0, x)
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::Max { axes: self.0.0 })
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || {
            let x = r.x[0];
            let hit = x.equal(r.y.broadcast_to(x.shape())).cast(x.dtype());
            hit * (r.ct / hit.sum_axes(self.0)).broadcast_to(x.shape())
        })]
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        fold(self.0, &x[0], y, f64::NEG_INFINITY, |a, b| if b > a || b.is_nan() { b } else { a })
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        vec![0.0; y.values.len()]
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "The largest element along axes.",
            formula: "y = max x",
            derivative: "d_x = d_y where x = y, else 0",
            kinks: "where the largest is tied: the tied elements share d_y evenly",
            cost: "1 comparison an input element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let mut all = shapes_and_axes();
        all.push(([0, 3].into(), Axes(2)));
        all.into_iter().map(|(s, a)| Case::new(Max(a), vec![(s, Domain::Distinct)])).collect()
    }
    fn print(&self, x: &[Expr], types: &[Type]) -> Expr {
        print("max", self.0, &x[0], &types[0])
    }
}

impl Op for Argmax {
    fn name(&self) -> &'static str {
        "argmax"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [x] = x else { return Err(Rule::new(format!("wants 1 input, got {}", x.len()))) };
        match x.shape.dims() {
            [rest @ .., last] if *last > 0 && x.dtype.is_float() => match Shape::checked(rest) {
                Some(shape) => Ok(Type { dtype: DType::U32, shape }),
                None => Err(Rule::new("too many axes")),
            },
            _ => Err(Rule::new("wants floats with a last axis that is not empty")),
        }
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::Argmax)
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, _: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![Cotangent::Zero]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        let n = x[0].shape.dims()[x[0].shape.rank() - 1];
        let first = |row: &[f64]| (0..n).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as f64;
        x[0].values.chunks(n).map(first).collect()
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        vec![0.0; y.values.len()]
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "The position of the first largest element of each row.",
            formula: "y = argmax x",
            derivative: "zero almost everywhere: a small change of x does not move it",
            kinks: "where the largest is tied",
            cost: "1 comparison an input element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let shapes: [Shape; 5] = [[1].into(), [3, 65].into(), [64, 5].into(), [2, 3, 521].into(), [0, 3].into()];
        shapes.into_iter().map(|s| Case::new(Argmax, vec![(s, Domain::Distinct)])).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::atom(format!("{}.argmax(axis=-1)", x[0].within(Binding::Atom, false)))
    }
}

impl<'g> Var<'g> {
    /// Sum over axes, which stay with length 1. Nothing to do for no axes.
    #[track_caller]
    pub fn sum_axes(self, axes: Axes) -> Var<'g> {
        if axes == Axes::NONE { self } else { self.graph().apply(Sum(axes), &[self]) }
    }

    /// Sum over one axis, which stays with length 1.
    #[track_caller]
    pub fn sum(self, axis: usize) -> Var<'g> {
        self.sum_axes(Axes::one(axis))
    }

    /// Sum of all elements, a scalar.
    #[track_caller]
    pub fn sum_all(self) -> Var<'g> {
        self.sum_axes(Axes::all(self.shape().rank())).reshape(Shape::SCALAR)
    }

    /// Largest element over one axis, which stays with length 1.
    #[track_caller]
    pub fn max(self, axis: usize) -> Var<'g> {
        self.graph().apply(Max(Axes::one(axis)), &[self])
    }

    /// Position of the first largest element along the last axis, which disappears.
    #[track_caller]
    pub fn argmax(self) -> Var<'g> {
        self.graph().apply(Argmax, &[self])
    }
}
