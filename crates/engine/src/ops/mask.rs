//! Triangular masks over the last two axes.

use geartrain_kernels::{CustomFn, Routine, SliceMut};

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attr, Attrs, Case, Cotangent, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{DType, Shape, Type};

/// A matrix (rows, columns) of u32 with 1 where column - row ≤ diagonal, else 0. It has no inputs, so it is computed once,
/// when the program is compiled, unless it is large.
#[derive(Clone, Copy, Debug)]
pub struct Tri {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub columns: usize,
    /// The last diagonal that is 1; 0 is the one that begins in the upper left corner, above it they count upwards.
    pub diagonal: i64,
}

impl Tri {
    pub(crate) const EXAMPLE: Tri = Tri { rows: 3, columns: 3, diagonal: 0 };

    /// Number of ones in a row.
    fn ones(&self, row: usize) -> usize {
        // No matrix has so many rows or columns that i128 would not hold them.
        let ones = row as i128 + i128::from(self.diagonal) + 1;
        ones.clamp(0, self.columns as i128) as usize
    }
}

impl Op for Tri {
    fn name(&self) -> &'static str {
        "tri"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        let int = |v: usize| Attr::Int(v as u64);
        vec![("rows", int(self.rows)), ("columns", int(self.columns)), ("diagonal", Attr::Int(self.diagonal as u64))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        if !x.is_empty() {
            return Err(Rule::new(format!("wants no inputs, got {}", x.len())));
        }
        match Shape::checked(&[self.rows, self.columns]) {
            Some(shape) => Ok(Type { dtype: DType::U32, shape }),
            None => Err(Rule::new("too many elements")),
        }
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        let tri = *self;
        Kernel::Call(Routine::Custom(CustomFn::new(move |_, y| {
            if let SliceMut::U32(y) = y {
                for (row, values) in y.chunks_mut(tri.columns.max(1)).enumerate() {
                    let (ones, zeros) = values.split_at_mut(tri.ones(row).min(values.len()));
                    ones.fill(1);
                    zeros.fill(0);
                }
            }
        })))
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, _: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        Vec::new()
    }
    fn reference(&self, _: &[Array], _: Shape) -> Vec<f64> {
        let places = (0..self.rows).flat_map(|i| (0..self.columns).map(move |j| (i as i128, j as i128)));
        places.map(|(i, j)| if j - i <= i128::from(self.diagonal) { 1.0 } else { 0.0 }).collect()
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        vec![0.0; y.values.len()]
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "A triangle of ones: the lower left of a matrix up to a diagonal. Masks are made of it.",
            formula: "y[i, j] = 1 where j - i ≤ diagonal, else 0",
            derivative: "none: it has no inputs",
            kinks: "",
            cost: "none where it is computed when the program is compiled",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |rows, columns, diagonal| Case::new(Tri { rows, columns, diagonal }, Vec::new());
        vec![
            case(4, 4, 0),
            case(3, 65, 2),
            case(64, 3, -1),
            case(1, 1, -1),
            case(5, 7, i64::MAX),
            case(5, 7, i64::MIN),
            case(0, 3, 0),
            case(3, 0, 0),
        ]
    }
    fn print(&self, _: &[Expr], _: &[Type]) -> Expr {
        let diagonal = if self.diagonal == 0 { String::new() } else { format!(", {}", self.diagonal) };
        Expr::atom(format!("tri({}, {}{diagonal})", self.rows, self.columns))
    }
}

impl<'g> Var<'g> {
    /// The lower triangles of these matrices (.., n, m): elements above diagonal number `diagonal` become `fill`. Number 0
    /// begins in the upper left corner, number 1 to the right of it. Where `fill` stands no gradient flows.
    #[track_caller]
    pub fn tril(self, diagonal: i64, fill: f64) -> Var<'g> {
        self.triangle("tril", diagonal, |mask| mask.select(self, self.number(fill)))
    }

    /// The upper triangles of these matrices (.., n, m): elements below diagonal number `diagonal` become `fill`. Where
    /// `fill` stands no gradient flows.
    #[track_caller]
    pub fn triu(self, diagonal: i64, fill: f64) -> Var<'g> {
        self.triangle("triu", diagonal.saturating_sub(1), |mask| mask.select(self.number(fill), self))
    }

    #[track_caller]
    fn triangle(self, name: &str, diagonal: i64, choose: impl FnOnce(Var<'g>) -> Var<'g>) -> Var<'g> {
        if self.is_poison() {
            return self;
        }
        match *self.shape().dims() {
            [.., rows, columns] if self.dtype().is_float() => {
                choose(self.graph().apply(Tri { rows, columns, diagonal }, &[]))
            }
            _ => self.graph().fail(name, Rule::new("wants floats with at least two axes"), vec![self.ty()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{error, gradient, text};
    use crate::{Graph, Init, Options, Program, State};

    #[test]
    fn triangles_print_as_choices() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F64, [2, 3, 4], Init::ZEROS);
        let y = x.tril(0, f64::NEG_INFINITY).named("y");
        assert_eq!(text(x.tril(0, 0.5)), "where(tri(3, 4), x, 0.5)");
        assert_eq!(text(x.triu(0, 0.0)), "where(tri(3, 4, -1), 0, x)");
        assert_eq!(text(gradient(y, x)), "where(tri(3, 4), d_y, 0)");
    }

    #[test]
    fn they_keep_their_side_of_the_diagonal() {
        let g = Graph::new();
        let x = g.input("x", DType::F32, [2, 3]);
        let triangles = [x.tril(0, 0.0), x.tril(1, 0.0), x.triu(0, 9.0), x.triu(1, 9.0), x.triu(i64::MIN, 9.0)];
        triangles.iter().enumerate().for_each(|(i, y)| g.output(&i.to_string(), *y));
        let state = State::empty();
        let mut program = Program::compile(&g, &state, Options::default()).unwrap();
        let mut batch = program.batch();
        batch.f32s("x").unwrap().copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        program.evaluate(&state, &batch).unwrap();
        let values = |i: usize| program.tensor(&i.to_string()).unwrap().to_f64();
        assert_eq!(values(0), [1.0, 0.0, 0.0, 4.0, 5.0, 0.0]);
        assert_eq!(values(1), [1.0, 2.0, 0.0, 4.0, 5.0, 6.0]);
        assert_eq!(values(2), [1.0, 2.0, 3.0, 9.0, 5.0, 6.0]);
        assert_eq!(values(3), [9.0, 2.0, 3.0, 9.0, 9.0, 6.0]);
        assert_eq!(values(4), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn a_row_is_no_matrix() {
        let g = Graph::new();
        assert!(g.input("x", DType::F32, [3]).tril(0, 0.0).is_poison());
        assert_eq!(error(&g), "wants floats with at least two axes");
    }
}
