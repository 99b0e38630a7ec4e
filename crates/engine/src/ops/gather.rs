//! Rows chosen by index, and the sum of rows back into a table.

use geartrain_kernels::Routine;

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attr, Attrs, Binding, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{DType, Shape, Type};

/// y (i.., c..) = rows of a table (v, c..) chosen by indices (i..).
#[derive(Clone, Copy, Debug)]
pub struct Gather;
/// y (rows, c..) = for each row the sum of the elements of ct (i.., c..) whose index it is: the transpose of [`Gather`].
#[derive(Clone, Copy, Debug)]
pub struct ScatterAdd {
    /// Rows of the output.
    pub rows: usize,
}

const ANY: Domain = Domain::Between(-3.0, 3.0);

pub(super) fn indices(t: &Type) -> Result<(), Rule> {
    match t.dtype {
        DType::U32 => Ok(()),
        other => Err(Rule::new(format!("wants indices of u32, got {}", other.name()))),
    }
}

/// Axes `lead` followed by axes `row`.
pub(super) fn joined(lead: &[usize], row: &[usize]) -> Result<Shape, Rule> {
    Shape::checked(&[lead, row].concat()).ok_or_else(|| Rule::new("the result has too many axes or elements"))
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }
    fn kind(&self) -> Kind {
        Kind::Gather
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [table, index] = x else { return Err(Rule::new(format!("wants 2 inputs, got {}", x.len()))) };
        indices(index)?;
        match table.shape.dims() {
            [_, row @ ..] if table.dtype.is_float() => Ok(Type { shape: joined(index.shape.dims(), row)?, ..*table }),
            _ => Err(Rule::new("wants a table of floats with at least one axis")),
        }
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::Gather)
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let rows = r.x[0].shape().dims()[0];
        vec![r.flows(0, || r.y.graph().apply(ScatterAdd { rows }, &[r.x[1], r.ct])), Cotangent::Zero]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        let row: usize = x[0].shape.dims()[1..].iter().product();
        let at = |i: &f64| &x[0].values[*i as usize * row..][..row];
        x[1].values.iter().flat_map(at).copied().collect()
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        vec![0.0; y.values.len()]
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Looks up rows of a table by their index, as an embedding does.",
            formula: "y[i] = table[index[i]]",
            derivative: "d_table[r] = Σ of d_y[i] where index[i] = r; none for the indices, which are whole numbers",
            kinks: "",
            cost: "one copy of the chosen rows",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |table: Shape, index: Shape| {
            let rows = table.dims()[0] as u32;
            Case::new(Gather, vec![(table, ANY), (index, Domain::Index(rows))])
        };
        vec![
            case([5, 3].into(), [7].into()),
            case([5, 64].into(), [2, 3].into()),
            case([1, 65].into(), [4].into()),
            case([521].into(), [256].into()),
            case([63, 2, 3].into(), [65].into()),
            case([5, 3].into(), Shape::SCALAR),
            case([5, 3].into(), [0].into()),
            case([5, 0].into(), [3].into()),
        ]
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::atom(format!("{}[{}]", x[0].within(Binding::Atom, false), x[1].text))
    }
}

impl ScatterAdd {
    pub(crate) const EXAMPLE: ScatterAdd = ScatterAdd { rows: 5 };
}

impl Op for ScatterAdd {
    fn name(&self) -> &'static str {
        "scatter_add"
    }
    fn kind(&self) -> Kind {
        Kind::Gather
    }
    fn attrs(&self) -> Attrs {
        vec![("rows", Attr::Int(self.rows as u64))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [index, ct] = x else { return Err(Rule::new(format!("wants 2 inputs, got {}", x.len()))) };
        indices(index)?;
        if !ct.dtype.is_float() {
            return Err(Rule::new("wants floats to add").hint("cast them first"));
        }
        match ct.shape.dims().strip_prefix(index.shape.dims()) {
            Some(row) => Ok(Type { shape: joined(&[self.rows], row)?, ..*ct }),
            None => Err(Rule::new(format!("{} does not begin with the axes of the indices {}", ct.shape, index.shape))),
        }
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::ScatterAdd)
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![Cotangent::Zero, r.flows(1, || r.ct.gather(r.x[0]))]
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        scatter(x, y, |v| v)
    }
    fn bound(&self, x: &[Array], y: &Array, eps: f64) -> Vec<f64> {
        let terms = x[0].values.len();
        scatter(x, y.shape, f64::abs).into_iter().map(|s| s * terms as f64 * eps).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Adds rows into the places of a table that their indices name, in the order they come.",
            formula: "y[r] = Σ of ct[i] where index[i] = r",
            derivative: "d_ct[i] = d_y[index[i]]; none for the indices, which are whole numbers",
            kinks: "",
            cost: "1 FLOP an element of ct, and zeros for the rows that no index names",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |rows: usize, index: Shape, ct: Shape| {
            Case::new(ScatterAdd { rows }, vec![(index, Domain::Index(rows as u32)), (ct, ANY)])
        };
        vec![
            case(5, [7].into(), [7, 3].into()),
            case(3, [2, 3].into(), [2, 3, 64].into()),
            case(1, [65].into(), [65, 63].into()),
            case(521, [256].into(), [256].into()),
            case(63, [65].into(), [65, 2, 3].into()),
            case(5, Shape::SCALAR, [3].into()),
            case(5, [0].into(), [0, 3].into()),
            case(5, [3].into(), [3, 0].into()),
        ]
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("scatter_add", &[x[0].clone(), x[1].clone(), Expr::atom(self.rows.to_string())])
    }
}

/// Adds `f` of the elements of the second input into the rows that the first names.
fn scatter(x: &[Array], y: Shape, f: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut out = vec![0.0; y.count()];
    let row: usize = y.dims()[1..].iter().product();
    for (i, r) in x[0].values.iter().enumerate() {
        for c in 0..row {
            out[*r as usize * row + c] += f(x[1].values[i * row + c]);
        }
    }
    out
}

impl<'g> Var<'g> {
    /// Rows of this table (v, c..) at `indices` (u32, any shape): shape (indices.., c..). An index must be below v;
    /// a run that meets another stops with an error.
    #[track_caller]
    pub fn gather(self, indices: Var<'g>) -> Var<'g> {
        self.graph().apply(Gather, &[self, indices])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{error, gradient, text};
    use crate::{Graph, Init};

    #[test]
    fn an_embedding_and_its_gradient() {
        let g = Graph::new();
        let table = g.parameter("E", DType::F32, [27, 8], Init::ZEROS);
        let tokens = g.input("tokens", DType::U32, [4, 3]);
        let e = table.gather(tokens).named("e");
        assert_eq!((text(e), e.shape()), ("E[tokens]".to_string(), Shape::from([4, 3, 8])));
        assert_eq!(text(gradient(e, table)), "scatter_add(tokens, d_e, 27)");
    }

    #[test]
    fn the_transpose_of_gather_is_scatter_add() {
        // <gather(t), c> = <t, scatter(c)> for any t and c.
        let number = |i: usize| ((i * 37 % 11) as f64) - 5.0;
        let array = |shape: Shape| Array { shape, values: (0..shape.count()).map(number).collect() };
        let index = Array { shape: [6].into(), values: vec![0.0, 3.0, 3.0, 1.0, 0.0, 3.0] };
        let (table, ct) = (array([4, 3].into()), array([6, 3].into()));
        let y = Gather.reference(&[table.clone(), index.clone()], ct.shape);
        let back = ScatterAdd { rows: 4 }.reference(&[index, ct.clone()], table.shape);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        assert_eq!(dot(&y, &ct.values), dot(&table.values, &back));
    }

    #[test]
    fn what_is_refused() {
        let g = Graph::new();
        let table = g.parameter("E", DType::F32, [27, 8], Init::ZEROS);
        assert!(table.gather(table).is_poison());
        assert_eq!(error(&g), "wants indices of u32, got f32");
        let wide = Type::new(DType::F32, [2, 2, 2, 2, 2, 2]);
        assert!(Gather.infer(&[wide, Type::new(DType::U32, [3, 3])]).is_err());
        let wrong = [Type::new(DType::U32, [3]), Type::new(DType::F32, [4, 8])];
        assert!(ScatterAdd { rows: 27 }.infer(&wrong).is_err());
    }
}
