//! Elements of each row by index: the largest ones, reading them, and adding them back.

use geartrain_kernels::Routine;

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attr, Attrs, Binding, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{DType, Shape, Type};
use crate::ops::softmax::last;

/// y (.., k) u32 = positions of the k largest elements of each row (.., n), the largest first; of equal ones the first one
/// first, NaN before all.
#[derive(Clone, Copy, Debug)]
pub struct TopK {
    /// How many, from 1 to n.
    pub k: usize,
}
/// y (.., k) = for each row the elements of x (.., n) at indices (.., k).
#[derive(Clone, Copy, Debug)]
pub struct TakeAlong;
/// y (.., n) = for each row the sum of the elements of ct (.., k) whose index it is: the transpose of [`TakeAlong`].
#[derive(Clone, Copy, Debug)]
pub struct AddAlong {
    /// Length n of the last axis of the output.
    pub len: usize,
}

const ANY: Domain = Domain::Between(-3.0, 3.0);

/// All axes but the last, and its length.
fn rows(t: &Type) -> Result<(&[usize], usize), Rule> {
    match t.shape.dims().split_last() {
        Some((last, outer)) => Ok((outer, *last)),
        None => Err(Rule::new("wants values with at least one axis")),
    }
}

fn shape(outer: &[usize], last: usize) -> Result<Shape, Rule> {
    Shape::checked(&[outer, &[last]].concat()).ok_or_else(|| Rule::new("the result has too many elements"))
}

/// Indices (.., k), one row for each of those before the last axis of the values.
fn indices(index: &Type, outer: &[usize]) -> Result<usize, Rule> {
    if index.dtype != DType::U32 {
        return Err(Rule::new(format!("wants indices of u32, got {}", index.dtype.name())));
    }
    match rows(index)? {
        (lead, k) if lead == outer => Ok(k),
        _ => Err(Rule::new("wants a row of indices for each row").hint("all axes but the last must agree")),
    }
}

/// (shape of the rows, elements of one, how many of them) that cases run at.
const SIZES: [(&[usize], usize, usize); 9] = [
    (&[], 1, 1),
    (&[], 7, 3),
    (&[3], 5, 5),
    (&[3], 65, 2),
    (&[63], 3, 1),
    (&[2, 3], 64, 9),
    (&[2], 521, 256),
    (&[0], 5, 2),
    (&[2, 0], 4, 1),
];

impl TopK {
    pub(crate) const EXAMPLE: TopK = TopK { k: 1 };
}

impl Op for TopK {
    fn name(&self) -> &'static str {
        "top_k"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        vec![("k", Attr::Int(self.k as u64))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [x] = x else { return Err(Rule::new(format!("wants 1 input, got {}", x.len()))) };
        let (outer, n) = rows(x)?;
        if !x.dtype.is_float() {
            return Err(Rule::new("wants floats").hint("cast it first"));
        }
        if self.k == 0 || self.k > n {
            return Err(Rule::new(format!("wants from 1 to all {n} elements of a row, got {}", self.k)));
        }
        Ok(Type { dtype: DType::U32, shape: shape(outer, self.k)? })
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::TopK { k: self.k })
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, _: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![Cotangent::Zero]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        let row = |row: &[f64]| {
            // The obvious way: take the first largest one that is left, k times.
            let mut left: Vec<usize> = (0..row.len()).collect();
            let next = |_| {
                let beats = |a: usize, b: usize| row[a] > row[b] || (row[a].is_nan() && !row[b].is_nan());
                let best = (0..left.len()).fold(0, |best, i| if beats(left[i], left[best]) { i } else { best });
                left.remove(best) as f64
            };
            (0..self.k).map(next).collect::<Vec<f64>>()
        };
        x[0].values.chunks(last(x[0].shape).max(1)).flat_map(row).collect()
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        vec![0.0; y.values.len()]
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "The positions of the k largest elements of each row, the largest first.",
            formula: "y[0] = argmax x, y[1] = argmax of the rest, and so on",
            derivative: "zero almost everywhere: a small change of x does not move it",
            kinks: "where elements are equal: the one that stands first comes first",
            cost: "about 2 comparisons an input element, and a sort of k",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |(outer, n, k): (&[usize], usize, usize)| {
            Shape::checked(&[outer, &[n]].concat()).map(|s| Case::new(TopK { k }, vec![(s, Domain::Distinct)]))
        };
        SIZES.into_iter().filter_map(case).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        let order = Expr::atom(format!("argsort(-{}, axis=-1, kind=\"stable\")", x[0].within(Binding::Negation, true)));
        Expr::atom(format!("{}[..., :{}]", order.text, self.k))
    }
}

impl Op for TakeAlong {
    fn name(&self) -> &'static str {
        "take_along"
    }
    fn kind(&self) -> Kind {
        Kind::Gather
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [x, index] = x else { return Err(Rule::new(format!("wants 2 inputs, got {}", x.len()))) };
        let (outer, _) = rows(x)?;
        if !x.dtype.is_float() {
            return Err(Rule::new("wants floats to choose from").hint("cast them first"));
        }
        indices(index, outer)?;
        Ok(Type { shape: index.shape, ..*x })
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::TakeAlong)
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let back = AddAlong { len: last(r.x[0].shape()) };
        vec![r.flows(0, || r.y.graph().apply(back, &[r.x[1], r.ct])), Cotangent::Zero]
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        let (n, k) = (last(x[0].shape), last(y));
        let at = |(place, i): (usize, &f64)| x[0].values[place / k * n + *i as usize];
        x[1].values.iter().enumerate().map(at).collect()
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        vec![0.0; y.values.len()]
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Takes elements of each row by their index, each row with indices of its own.",
            formula: "y[j] = x[index[j]] in each row",
            derivative: "d_x[i] = Σ of d_y[j] where index[j] = i; none for the indices, which are whole numbers",
            kinks: "",
            cost: "one copy of the chosen elements",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |(outer, n, k): (&[usize], usize, usize)| {
            let of = |last: usize| Shape::checked(&[outer, &[last]].concat());
            Some(Case::new(TakeAlong, vec![(of(n)?, ANY), (of(k)?, Domain::Index(n as u32))]))
        };
        SIZES.into_iter().filter_map(case).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("take_along_axis", &[x[0].clone(), x[1].clone(), Expr::atom("axis=-1")])
    }
}

impl AddAlong {
    pub(crate) const EXAMPLE: AddAlong = AddAlong { len: 5 };
}

impl Op for AddAlong {
    fn name(&self) -> &'static str {
        "add_along"
    }
    fn kind(&self) -> Kind {
        Kind::Gather
    }
    fn attrs(&self) -> Attrs {
        vec![("len", Attr::Int(self.len as u64))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [index, ct] = x else { return Err(Rule::new(format!("wants 2 inputs, got {}", x.len()))) };
        let (outer, k) = rows(ct)?;
        if !ct.dtype.is_float() {
            return Err(Rule::new("wants floats to add").hint("cast them first"));
        }
        if indices(index, outer)? != k {
            return Err(Rule::new(format!("wants an index for each element, got {} for {}", index.shape, ct.shape)));
        }
        Ok(Type { shape: shape(outer, self.len)?, ..*ct })
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::AddAlong)
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![Cotangent::Zero, r.flows(1, || r.ct.take_along(r.x[0]))]
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        self.sums(x, y, |v| v)
    }
    fn bound(&self, x: &[Array], y: &Array, eps: f64) -> Vec<f64> {
        let terms = last(x[0].shape) as f64;
        self.sums(x, y.shape, f64::abs).into_iter().map(|s| s * terms * eps).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Adds elements into the places of their row that their indices name, in the order they come.",
            formula: "y[i] = Σ of ct[j] where index[j] = i, in each row",
            derivative: "d_ct[j] = d_y[index[j]]; none for the indices, which are whole numbers",
            kinks: "",
            cost: "1 FLOP an element of ct, and zeros for the places that no index names",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |(outer, n, k): (&[usize], usize, usize)| {
            let shape = Shape::checked(&[outer, &[k]].concat())?;
            Some(Case::new(AddAlong { len: n }, vec![(shape, Domain::Index(n as u32)), (shape, ANY)]))
        };
        SIZES.into_iter().filter_map(case).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("add_along_axis", &[x[0].clone(), x[1].clone(), Expr::atom(self.len.to_string())])
    }
}

impl AddAlong {
    /// For each row the sums of `f` of the elements with one index.
    fn sums(&self, x: &[Array], y: Shape, f: impl Fn(f64) -> f64) -> Vec<f64> {
        let (mut out, k) = (vec![0.0; y.count()], last(x[0].shape));
        for (place, i) in x[0].values.iter().enumerate() {
            out[place / k * self.len + *i as usize] += f(x[1].values[place]);
        }
        out
    }
}

impl<'g> Var<'g> {
    /// Positions (.., k) u32 of the `k` largest elements of each row (.., n), the largest first; of equal ones the first one
    /// first, and NaN before all. `k` is from 1 to n. The values are `x.take_along(x.top_k(k))`, and their gradient flows to
    /// the chosen elements.
    #[track_caller]
    pub fn top_k(self, k: usize) -> Var<'g> {
        self.graph().apply(TopK { k }, &[self])
    }

    /// For each row (.., n) its elements at `indices` (.., k) u32, as NumPy's `take_along_axis` does it along the last axis.
    /// An index must be below n; a run that meets another stops with an error.
    #[track_caller]
    pub fn take_along(self, indices: Var<'g>) -> Var<'g> {
        self.graph().apply(TakeAlong, &[self, indices])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{error, gradient, text};
    use crate::{Graph, Init};

    #[test]
    fn they_print_as_numpy_writes_them() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F32, [3, 5], Init::ZEROS);
        let top = x.top_k(2).named("top");
        assert_eq!(text(top), "argsort(-x, axis=-1, kind=\"stable\")[..., :2]");
        assert_eq!(text((x + 1.0).top_k(1)), "argsort(-(x + 1), axis=-1, kind=\"stable\")[..., :1]");
        let best = x.take_along(top).named("best");
        assert_eq!((text(best), best.shape()), ("take_along_axis(x, top, axis=-1)".to_string(), [3, 2].into()));
        assert_eq!(text(gradient(best, x)), "add_along_axis(top, d_best, 5)");
    }

    #[test]
    fn the_reference_breaks_ties_as_it_says() {
        let x = Array { shape: [2, 4].into(), values: vec![1.0, 3.0, 3.0, 2.0, 0.0, f64::NAN, 9.0, -0.0] };
        assert_eq!(TopK { k: 3 }.reference(std::slice::from_ref(&x), [2, 3].into()), [1.0, 2.0, 3.0, 1.0, 2.0, 0.0]);
    }

    #[test]
    fn what_is_refused() {
        let g = Graph::new();
        let x = g.input("x", DType::F32, [3, 5]);
        assert!(x.top_k(6).is_poison());
        assert_eq!(error(&g), "wants from 1 to all 5 elements of a row, got 6");
        assert!(x.top_k(0).is_poison() && g.scalar("s").top_k(1).is_poison());
        assert!(x.take_along(x).is_poison() && x.take_along(g.input("i", DType::U32, [2, 5])).is_poison());
        let (index, ct) = (Type::new(DType::U32, [3, 2]), Type::new(DType::F32, [3, 4]));
        assert!(AddAlong::EXAMPLE.infer(&[index, ct]).is_err());
    }
}
