//! A table with some of its rows replaced, and rows with a single 1.

use geartrain_kernels::Routine;

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attr, Attrs, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{DType, Shape, Type};
use crate::ops::gather::{indices, joined};

/// y (v, c..) = base with row index\[i\] replaced by rows\[i\] (i.., c..), in order: of rows with one index the last one stays.
#[derive(Clone, Copy, Debug)]
pub struct Scatter;
/// y (i.., v) = 1 at the index of each row, else 0.
#[derive(Clone, Copy, Debug)]
pub struct OneHot {
    /// Length v of the rows.
    pub classes: usize,
    /// Float type of the output.
    pub dtype: DType,
}

const ANY: Domain = Domain::Between(-3.0, 3.0);

/// Which rows of `rows` (u32, the shape of `index`, of a base with `limit` rows) stay: those with no later one of their
/// index. Positions are counted in f64, where each is exact.
fn stays<'g>(index: Var<'g>, limit: usize) -> Var<'g> {
    let (graph, count) = (index.graph(), index.shape().count());
    let positions: Vec<f64> = (0..count).map(|i| i as f64).collect();
    let number = graph.number(DType::F64, -1.0);
    let own = number.constant_like(index.shape(), &positions);
    let last = graph.apply(Scatter, &[number.broadcast_to([limit]), index, own]);
    last.gather(index).equal(own)
}

impl Op for Scatter {
    fn name(&self) -> &'static str {
        "scatter"
    }
    fn kind(&self) -> Kind {
        Kind::Gather
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [base, index, rows] = x else { return Err(Rule::new(format!("wants 3 inputs, got {}", x.len()))) };
        indices(index)?;
        let [_, row @ ..] = base.shape.dims() else { return Err(Rule::new("wants a base with at least one axis")) };
        if !base.dtype.is_float() || rows.dtype != base.dtype {
            return Err(Rule::new("wants a base and rows that are floats of one dtype").hint("cast one of them"));
        }
        match joined(index.shape.dims(), row)? == rows.shape {
            true => Ok(*base),
            false => {
                Err(Rule::new(format!("wants rows for indices {} of base {}, got {rows}", index.shape, base.shape))
                    .hint("their shape is that of the indices, then that of a row of the base"))
            }
        }
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::Scatter)
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let [base, index, rows] = [r.x[0], r.x[1], r.x[2]];
        let kept = || r.y.graph().apply(Scatter, &[r.ct, index, rows.full(0.0)]);
        let placed = || {
            // One axis of length 1 for each axis of a row.
            let mut dims = [index.shape().dims(), rows.shape().dims()].concat();
            dims.truncate(rows.shape().rank());
            dims[index.shape().rank()..].fill(1);
            let stays = stays(index, base.shape().dims()[0]);
            let Some(column) = Shape::checked(&dims) else { return r.ct };
            stays.reshape(column).select(r.ct.gather(index), r.ct.number(0.0))
        };
        vec![r.flows(0, kept), Cotangent::Zero, r.flows(2, placed)]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        let (mut out, row) = (x[0].values.clone(), x[0].shape.dims()[1..].iter().product::<usize>());
        for (i, to) in x[1].values.iter().enumerate() {
            for c in 0..row {
                out[*to as usize * row + c] = x[2].values[i * row + c];
            }
        }
        out
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        vec![0.0; y.values.len()]
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Replaces the rows of a table that indices name; where one is named twice the last row stays.",
            formula: "y = base, then y[index[i]] = rows[i] for i = 0, 1, ...",
            derivative: "d_base = d_y, but 0 in rows that were replaced; d_rows[i] = d_y[index[i]] where row i stayed, \
                         else 0; none for the indices, which are whole numbers",
            kinks: "",
            cost: "one copy of the base and of the rows",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |base: Shape, index: Shape| {
            let row = &base.dims()[1..];
            let rows = Shape::checked(&[index.dims(), row].concat())?;
            Some(Case::new(Scatter, vec![(base, ANY), (index, Domain::Index(base.dims()[0] as u32)), (rows, ANY)]))
        };
        let cases = [
            case([5, 3].into(), [3].into()),
            case([5, 3].into(), [7].into()),
            case([1, 64].into(), [3].into()),
            case([65, 63].into(), [2, 3].into()),
            case([521].into(), [256].into()),
            case([4, 2, 3].into(), [5].into()),
            case([5, 3].into(), Shape::SCALAR),
            case([5, 3].into(), [0].into()),
            case([5, 0].into(), [3].into()),
        ];
        cases.into_iter().flatten().collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("scatter", x)
    }
}

impl OneHot {
    pub(crate) const EXAMPLE: OneHot = OneHot { classes: 5, dtype: DType::F64 };
}

impl Op for OneHot {
    fn name(&self) -> &'static str {
        "one_hot"
    }
    fn kind(&self) -> Kind {
        Kind::Gather
    }
    fn attrs(&self) -> Attrs {
        vec![("classes", Attr::Int(self.classes as u64)), ("dtype", Attr::DType(self.dtype))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [index] = x else { return Err(Rule::new(format!("wants 1 input, got {}", x.len()))) };
        indices(index)?;
        if !self.dtype.is_float() {
            return Err(Rule::new(format!("gives floats, not {}", self.dtype.name())));
        }
        Ok(Type { dtype: self.dtype, shape: joined(index.shape.dims(), &[self.classes])? })
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::OneHot)
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, _: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![Cotangent::Zero]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        let one = |i: &f64| (0..self.classes).map(|c| if *i == c as f64 { 1.0 } else { 0.0 }).collect::<Vec<f64>>();
        x[0].values.iter().flat_map(one).collect()
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        vec![0.0; y.values.len()]
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Turns each index into a row of zeros with a 1 at its place.",
            formula: "y[i, c] = 1 where c = index[i], else 0",
            derivative: "none: indices are whole numbers",
            kinks: "",
            cost: "one write an output element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |classes: usize, dtype, index: Shape| {
            Case::new(OneHot { classes, dtype }, vec![(index, Domain::Index(classes as u32))])
        };
        vec![
            case(5, DType::F64, [4].into()),
            case(1, DType::F32, [3].into()),
            case(65, DType::F32, [2, 3].into()),
            case(3, DType::F64, [256].into()),
            case(521, DType::F32, [7].into()),
            case(5, DType::F64, Shape::SCALAR),
            case(5, DType::F32, [0].into()),
        ]
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("onehot", &[x[0].clone(), Expr::atom(self.classes.to_string())])
    }
}

impl<'g> Var<'g> {
    /// This table (v, c..) with row `indices`\[i\] (u32, any shape) replaced by row i of `rows` (indices.., c..); where an index
    /// comes twice the last row stays, and gradients flow to that one alone. An index must be below v; a run that meets another
    /// stops with an error.
    #[track_caller]
    pub fn scatter(self, indices: Var<'g>, rows: Var<'g>) -> Var<'g> {
        self.graph().apply(Scatter, &[self, indices, rows])
    }

    /// A row of `classes` floats for each of these indices (u32, any shape), 1 at the index and else 0: shape
    /// (indices.., classes). An index must be below `classes`; a run that meets another stops with an error.
    #[track_caller]
    pub fn one_hot(self, classes: usize, dtype: DType) -> Var<'g> {
        self.graph().apply(OneHot { classes, dtype }, &[self])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{error, gradient, text};
    use crate::{Graph, Init};

    #[test]
    fn they_print_as_calls() {
        let g = Graph::new();
        let base = g.parameter("base", DType::F32, [5, 3], Init::ZEROS);
        let (index, rows) = (g.input("i", DType::U32, [4]), g.parameter("rows", DType::F32, [4, 3], Init::ZEROS));
        let y = base.scatter(index, rows).named("y");
        assert_eq!(text(y), "scatter(base, i, rows)");
        assert_eq!(text(gradient(y, base)), "scatter(d_y, i, 0)");
        let d_rows = text(gradient(y, rows));
        assert_eq!(d_rows, "where((scatter(-1, i, constant)[i] == constant).reshape(4, 1), d_y[i], 0)");
        assert_eq!(text(index.one_hot(7, DType::F32)), "onehot(i, 7)");
        assert_eq!(index.one_hot(7, DType::F32).ty(), Type::new(DType::F32, [4, 7]));
    }

    #[test]
    fn the_last_row_of_an_index_stays() {
        let at = |shape: Shape, values: &[f64]| Array { shape, values: values.to_vec() };
        let x = [at([3].into(), &[1.0, 2.0, 3.0]), at([3].into(), &[2.0, 0.0, 2.0]), at([3].into(), &[7.0, 8.0, 9.0])];
        assert_eq!(Scatter.reference(&x, [3].into()), [8.0, 2.0, 9.0]);
    }

    #[test]
    fn what_is_refused() {
        let g = Graph::new();
        let base = g.input("base", DType::F32, [5, 3]);
        let (index, rows) = (g.input("i", DType::U32, [4]), g.input("rows", DType::F32, [3, 3]));
        assert!(base.scatter(index, rows).is_poison());
        assert_eq!(error(&g), "wants rows for indices (4,) of base (5, 3), got f32 (3, 3)");
        assert!(base.scatter(rows, rows).is_poison() && base.one_hot(3, DType::F32).is_poison());
        assert!(index.one_hot(3, DType::U32).is_poison() && index.one_hot(usize::MAX, DType::F32).is_poison());
    }
}
