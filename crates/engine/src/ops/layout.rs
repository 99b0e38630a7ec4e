//! Reshape, transpose, broadcast and slice: the same elements elsewhere.

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{
    Array, Attr, Attrs, Binding, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Rearrange, Vjp,
};
use crate::ir::types::{Axes, MAX_RANK, Shape, Type, broadcast};
use crate::ops::pad::Pad;
use geartrain_kernels::TileFn;

/// The same elements in row-major order under another shape.
#[derive(Clone, std::marker::Copy, Debug)]
pub struct Reshape(pub Shape);
/// Axes in another order: output axis i is input axis `order[i]`.
#[derive(Clone, std::marker::Copy, Debug)]
pub struct Transpose {
    order: [u8; MAX_RANK],
    rank: u8,
}
/// Repeats missing leading axes and axes of length 1.
#[derive(Clone, std::marker::Copy, Debug)]
pub struct Broadcast(pub Shape);
/// Elements `start..start + len` of one axis.
#[derive(Clone, std::marker::Copy, Debug)]
pub struct Slice {
    /// Which axis.
    pub axis: usize,
    /// First element.
    pub start: usize,
    /// Number of elements.
    pub len: usize,
}
/// The same elements in memory of their own.
#[derive(Clone, std::marker::Copy, Debug)]
pub struct Copy;

const ANY: Domain = Domain::Between(-3.0, 3.0);

fn one(x: &[Type]) -> Result<Type, Rule> {
    match x {
        [x] => Ok(*x),
        _ => Err(Rule::new(format!("wants 1 input, got {}", x.len()))),
    }
}

fn exact(y: &Array) -> Vec<f64> {
    vec![0.0; y.values.len()]
}

/// Calls `visit` with every index of `shape`, in row-major order.
pub(crate) fn each_index(shape: Shape, mut visit: impl FnMut(&[usize])) {
    let mut index = vec![0; shape.rank()];
    for _ in 0..shape.count() {
        visit(&index);
        for axis in (0..shape.rank()).rev() {
            index[axis] += 1;
            if index[axis] < shape.dims()[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// The row-major position of an index in a shape.
pub(crate) fn position(shape: Shape, index: &[usize]) -> usize {
    index.iter().zip(shape.strides()).map(|(i, s)| i * s).sum()
}

impl Reshape {
    pub(crate) const EXAMPLE: Reshape = Reshape(Shape::SCALAR);
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }
    fn kind(&self) -> Kind {
        Kind::Move
    }
    fn attrs(&self) -> Attrs {
        vec![("shape", Attr::Shape(self.0))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let x = one(x)?;
        if x.shape.count() != self.0.count() {
            return Err(Rule::new(format!("{} elements do not fill the shape {}", x.shape.count(), self.0)));
        }
        Ok(Type { shape: self.0, ..x })
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::View(Rearrange::Reshape(self.0))
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct.reshape(r.x[0].shape()))]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        x[0].values.clone()
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        exact(y)
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Gives the same elements another shape.",
            formula: "y = x, read in row-major order",
            derivative: "d_x = d_y in the shape of x",
            kinks: "",
            cost: "none, or one copy where the elements do not stand in order",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |from: Shape, to: Shape| Case::new(Reshape(to), vec![(from, ANY)]);
        vec![
            case([6].into(), [2, 3].into()),
            case([64, 65].into(), [65, 64].into()),
            case([1].into(), Shape::SCALAR),
            case([0, 3].into(), [3, 0].into()),
            case([2, 3, 5].into(), [6, 1, 5].into()),
        ]
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::atom(format!("{}.reshape{}", x[0].within(Binding::Atom, false), self.0))
    }
}

impl Transpose {
    pub(crate) const EXAMPLE: Transpose = Transpose { order: [1, 0, 2, 3, 4, 5], rank: 2 };

    /// From an order of axes; `None` unless it names each axis once.
    pub fn new(order: &[usize]) -> Option<Transpose> {
        let mut full = [0, 1, 2, 3, 4, 5];
        let once = (0..order.len()).all(|axis| order.contains(&axis));
        if order.len() > MAX_RANK || !once {
            return None;
        }
        for (slot, axis) in full.iter_mut().zip(order) {
            *slot = *axis as u8;
        }
        Some(Transpose { order: full, rank: order.len() as u8 })
    }

    fn order(&self) -> &[u8] {
        &self.order[..self.rank as usize]
    }

    fn inverse(&self) -> Transpose {
        let mut order = self.order;
        for (to, from) in self.order.iter().enumerate() {
            order[*from as usize] = to as u8;
        }
        Transpose { order, rank: self.rank }
    }
}

impl Op for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }
    fn kind(&self) -> Kind {
        Kind::Move
    }
    fn attrs(&self) -> Attrs {
        vec![("order", Attr::Order(self.order().to_vec()))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let x = one(x)?;
        if x.shape.rank() != self.rank as usize {
            return Err(Rule::new(format!("an order of {} axes for a value with {}", self.rank, x.shape.rank())));
        }
        let dims: Vec<usize> = self.order().iter().map(|a| x.shape.dims()[*a as usize]).collect();
        Shape::checked(&dims).map(|shape| Type { shape, ..x }).ok_or_else(|| Rule::new("too many axes"))
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::View(Rearrange::Permute(self.order))
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.y.graph().apply(self.inverse(), &[r.ct]))]
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        let mut out = Vec::with_capacity(y.count());
        let mut from = vec![0; y.rank()];
        each_index(y, |index| {
            for (to, axis) in self.order().iter().enumerate() {
                from[*axis as usize] = index[to];
            }
            out.push(x[0].values[position(x[0].shape, &from)]);
        });
        out
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        exact(y)
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Puts the axes in another order.",
            formula: "y[j, i] = x[i, j]",
            derivative: "d_x = d_y with the axes put back",
            kinks: "",
            cost: "none: matrix products read it where it stands",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |order: &[usize], shape: Shape| Transpose::new(order).map(|op| Case::new(op, vec![(shape, ANY)]));
        [
            case(&[1, 0], [3, 5].into()),
            case(&[1, 0], [64, 65].into()),
            case(&[1, 0], [0, 3].into()),
            case(&[0, 2, 1, 3], [2, 3, 4, 5].into()),
            case(&[2, 0, 1], [7, 1, 3].into()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        let x = x[0].within(Binding::Atom, false);
        match self.order() {
            [1, 0] => Expr::atom(format!("{x}.T")),
            order => {
                let axes: Vec<String> = order.iter().map(u8::to_string).collect();
                Expr::atom(format!("{x}.transpose({})", axes.join(", ")))
            }
        }
    }
}

impl Broadcast {
    pub(crate) const EXAMPLE: Broadcast = Broadcast(Shape::SCALAR);
}

impl Op for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }
    fn kind(&self) -> Kind {
        Kind::Move
    }
    fn attrs(&self) -> Attrs {
        vec![("shape", Attr::Shape(self.0))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let x = one(x)?;
        match broadcast(x.shape, self.0) {
            Some(shape) if shape == self.0 => Ok(Type { shape, ..x }),
            _ => Err(Rule::new(format!("{} does not broadcast to {}", x.shape, self.0))),
        }
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::View(Rearrange::Broadcast(self.0))
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || {
            let from = r.x[0].shape();
            let lead = self.0.rank() - from.rank();
            let repeated = |axis: &usize| *axis < lead || from.dims()[*axis - lead] != self.0.dims()[*axis];
            let axes = (0..self.0.rank()).filter(repeated).fold(0, |bits, axis| bits | 1 << axis);
            r.ct.sum_axes(Axes(axes)).reshape(from)
        })]
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        let lead = y.rank() - x[0].shape.rank();
        let mut out = Vec::with_capacity(y.count());
        each_index(y, |index| {
            let from: Vec<usize> = index[lead..].iter().zip(x[0].shape.dims()).map(|(i, d)| i % d).collect();
            out.push(x[0].values[position(x[0].shape, &from)]);
        });
        out
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        exact(y)
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Repeats a value along axes where it has length 1 or none.",
            formula: "y[i, j] = x[j]",
            derivative: "d_x = sum of d_y over the repeated axes",
            kinks: "",
            cost: "none: readers step by 0",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |from: Shape, to: Shape| Case::new(Broadcast(to), vec![(from, ANY)]);
        vec![
            case(Shape::SCALAR, [5].into()),
            case([1, 65].into(), [64, 65].into()),
            case([65].into(), [3, 65].into()),
            case([3, 1].into(), [3, 63].into()),
            case([2, 1, 1].into(), [2, 3, 0].into()),
        ]
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        x[0].clone()
    }
}

impl Slice {
    pub(crate) const EXAMPLE: Slice = Slice { axis: 0, start: 0, len: 1 };
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }
    fn kind(&self) -> Kind {
        Kind::Move
    }
    fn attrs(&self) -> Attrs {
        let int = |v: usize| Attr::Int(v as u64);
        vec![("axis", int(self.axis)), ("start", int(self.start)), ("len", int(self.len))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let x = one(x)?;
        match x.shape.dims().get(self.axis) {
            None => Err(Rule::new(format!("axis {} of a value with {} axes", self.axis, x.shape.rank()))),
            Some(n) if self.start.checked_add(self.len).is_none_or(|end| end > *n) => {
                Err(Rule::new(format!("elements {} to {} of {n}", self.start, self.start.saturating_add(self.len))))
            }
            Some(_) => Ok(Type { shape: x.shape.with(self.axis, self.len), ..x }),
        }
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::View(Rearrange::Slice { axis: self.axis, start: self.start, len: self.len })
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let len = r.x[0].shape().dims()[self.axis];
        vec![r.flows(0, || r.y.graph().apply(Pad { axis: self.axis, before: self.start, len }, &[r.ct]))]
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        let mut out = Vec::with_capacity(y.count());
        each_index(y, |index| {
            let mut from = index.to_vec();
            from[self.axis] += self.start;
            out.push(x[0].values[position(x[0].shape, &from)]);
        });
        out
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        exact(y)
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Takes a range of one axis.",
            formula: "y = x[start : start + len]",
            derivative: "d_x = d_y between zeros",
            kinks: "",
            cost: "none: readers start elsewhere",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |axis, start, len, shape: Shape| Case::new(Slice { axis, start, len }, vec![(shape, ANY)]);
        vec![
            case(0, 1, 2, [5].into()),
            case(1, 64, 63, [3, 192].into()),
            case(0, 0, 0, [4, 3].into()),
            case(1, 2, 1, [2, 3, 5].into()),
        ]
    }
    fn print(&self, x: &[Expr], types: &[Type]) -> Expr {
        let all = vec![":"; self.axis].join(", ");
        let sep = if self.axis > 0 { ", " } else { "" };
        let _ = types;
        let range = format!("{}:{}", self.start, self.start + self.len);
        Expr::atom(format!("{}[{all}{sep}{range}]", x[0].within(Binding::Atom, false)))
    }
}

impl Op for Copy {
    fn name(&self) -> &'static str {
        "copy"
    }
    fn kind(&self) -> Kind {
        Kind::Elementwise
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        one(x)
    }
    fn kernel(&self, x: &[Type]) -> Kernel {
        Kernel::Tile(TileFn::copy(x[0].dtype))
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.ct)]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        x[0].values.clone()
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        exact(y)
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Gives a value memory of its own.",
            formula: "y = x",
            derivative: "d_x = d_y",
            kinks: "",
            cost: "one copy",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let shapes: [Shape; 5] = [Shape::SCALAR, [0].into(), [65].into(), [3, 5].into(), [521].into()];
        shapes.into_iter().map(|shape| Case::new(Copy, vec![(shape, ANY)])).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        x[0].clone()
    }
}

impl<'g> Var<'g> {
    /// The same elements in row-major order under another shape.
    #[track_caller]
    pub fn reshape(self, shape: impl Into<Shape>) -> Var<'g> {
        let shape = shape.into();
        if shape == self.shape() { self } else { self.graph().apply(Reshape(shape), &[self]) }
    }

    /// Axes in another order: axis i of the result is axis `order[i]`.
    #[track_caller]
    pub fn transpose(self, order: &[usize]) -> Var<'g> {
        match Transpose::new(order) {
            Some(op) => self.graph().apply(op, &[self]),
            None => self.graph().fail("transpose", Rule::new("the order must name each axis once"), vec![self.ty()]),
        }
    }

    /// The last two axes exchanged.
    #[track_caller]
    pub fn t(self) -> Var<'g> {
        let rank = self.shape().rank();
        let mut order: Vec<usize> = (0..rank).collect();
        if rank >= 2 {
            order.swap(rank - 1, rank - 2);
        }
        self.transpose(&order)
    }

    /// Repeated along missing leading axes and axes of length 1.
    #[track_caller]
    pub fn broadcast_to(self, shape: impl Into<Shape>) -> Var<'g> {
        let shape = shape.into();
        if shape == self.shape() { self } else { self.graph().apply(Broadcast(shape), &[self]) }
    }

    /// Elements `start..start + len` of an axis.
    #[track_caller]
    pub fn slice(self, axis: usize, start: usize, len: usize) -> Var<'g> {
        self.graph().apply(Slice { axis, start, len }, &[self])
    }
}
