//! Dropout: masks from a counter-based generator, so that they are a pure function of seed, stream, step and row.

use geartrain_kernels::{Routine, philox};

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attr, Attrs, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{DType, Shape, Type};

/// y (n, c..) = 0 with probability `rate`, else 1 / (1 - rate). Inputs: step and first row, f64 scalars that are cut to
/// whole numbers and taken modulo 2³².
#[derive(Clone, Copy, Debug)]
pub struct DropoutMask {
    /// Shape of the mask: rows (n) of elements (c..).
    pub shape: Shape,
    /// Type of its elements.
    pub dtype: DType,
    /// Probability of a 0, from 0 to below 1.
    pub rate: f64,
    /// The seed of the training run.
    pub seed: u64,
    /// Tells the dropout layers of a model apart.
    pub stream: u32,
}

impl DropoutMask {
    /// Its cases fill in the shape.
    pub(crate) const EXAMPLE: DropoutMask =
        DropoutMask { shape: Shape::SCALAR, dtype: DType::F32, rate: 0.25, seed: 0x1234_5678_9abc_def0, stream: 3 };
}

impl Op for DropoutMask {
    fn name(&self) -> &'static str {
        "dropout_mask"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        vec![
            ("shape", Attr::Shape(self.shape)),
            ("dtype", Attr::DType(self.dtype)),
            ("rate", Attr::float(self.rate)),
            ("seed", Attr::Int(self.seed)),
            ("stream", Attr::Int(u64::from(self.stream))),
        ]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        if x.len() != 2 || x.iter().any(|t| *t != Type::new(DType::F64, Shape::SCALAR)) {
            return Err(Rule::new("wants the step and the first row as f64 scalars"));
        }
        if !(0.0..1.0).contains(&self.rate) {
            return Err(Rule::new(format!("a rate of {} is not a share below 1", self.rate)));
        }
        if !self.dtype.is_float() {
            return Err(Rule::new("wants a mask of floats"));
        }
        Ok(Type::new(self.dtype, self.shape))
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::DropoutMask { rate: self.rate, seed: self.seed, stream: self.stream })
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, _: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![Cotangent::Zero, Cotangent::Zero]
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        let columns: usize = y.dims().iter().skip(1).product();
        let (step, first) = (x[0].values[0] as u64 as u32, x[1].values[0] as u64 as u32);
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        let at = |i: usize| {
            // Four columns share one call of the generator; the upper 24 bits of a word are drawn.
            let (row, column) = (first.wrapping_add((i / columns) as u32), i % columns);
            let words = philox::philox4x32_10([self.stream, step, row, (column / 4) as u32], key);
            let drawn = f64::from(words[column % 4] >> 8) / f64::from(1 << 24);
            if drawn < self.rate { 0.0 } else { 1.0 / (1.0 - self.rate) }
        };
        (0..y.count()).map(at).collect()
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        // Its own dtype rounds, whatever dtype its case runs in.
        let eps = if self.dtype == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
        y.values.iter().map(|v| v * eps / 2.0).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Draws the mask of dropout: some elements are 0, the others a little more than 1, so that the mean \
                   stays 1. The same seed, layer, step and row always draw the same mask.",
            formula: "y = 0 with probability rate, else 1 / (1 - rate)",
            derivative: "zero: the step and the row only choose the numbers that are drawn",
            kinks: "",
            cost: "1 call of the generator for 4 elements",
        }
    }
    fn cases(&self) -> Vec<Case> {
        // Between whole numbers, where a small change draws the same mask.
        let inputs = || [3.25, 70.25].map(|v| (Shape::SCALAR, Domain::Scalar(v))).to_vec();
        let shapes: [Shape; 9] = [
            Shape::SCALAR,
            [1].into(),
            [3, 5].into(),
            [7, 63].into(),
            [2, 3, 64].into(),
            [3, 65].into(),
            [2, 256].into(),
            [521].into(),
            [0, 3].into(),
        ];
        let both = |shape: Shape| [DType::F32, DType::F64].map(|dtype| DropoutMask { shape, dtype, ..*self });
        shapes.into_iter().flat_map(both).map(|op| Case::new(op, inputs())).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        let own = [self.shape.to_string(), self.rate.to_string(), self.seed.to_string(), self.stream.to_string()];
        let own: Vec<Expr> = own.into_iter().map(Expr::atom).collect();
        Expr::call("dropout_mask", &[own.as_slice(), x].concat())
    }
}

impl<'g> Var<'g> {
    /// Zeroes elements with probability `rate` and scales the others by 1 / (1 - rate).
    ///
    /// `stream` tells the dropout layers of a model apart; `step` and `first_row` are f64 scalars: the step and the
    /// number of the first row of this value in the whole batch. Nothing to do at rate 0.
    #[track_caller]
    pub fn dropout(self, rate: f64, seed: u64, stream: u32, step: Var<'g>, first_row: Var<'g>) -> Var<'g> {
        if self.is_poison() || rate == 0.0 {
            return self;
        }
        let Type { dtype, shape } = self.ty();
        self * self.graph().apply(DropoutMask { shape, dtype, rate, seed, stream }, &[step, first_row])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{error, gradient, text};
    use crate::{Graph, Init};

    #[test]
    fn dropout_is_a_product_with_a_mask() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F32, [4, 8], Init::ZEROS);
        let (step, row) = (g.scalar("step"), g.scalar("row"));
        let y = x.dropout(0.5, 1, 2, step, row).named("y");
        assert_eq!(text(y), "x * dropout_mask((4, 8), 0.5, 1, 2, step, row)");
        assert_eq!(text(gradient(y, x)), "d_y * dropout_mask((4, 8), 0.5, 1, 2, step, row)");
        assert_eq!(x.dropout(0.0, 1, 2, step, row).id(), x.id());
    }

    #[test]
    fn how_a_batch_is_split_changes_nothing() {
        let mask = |rows: usize, first: f64| {
            let op = DropoutMask { shape: [rows, 7].into(), ..DropoutMask::EXAMPLE };
            let scalar = |v: f64| Array { shape: Shape::SCALAR, values: vec![v] };
            op.reference(&[scalar(5.0), scalar(first)], op.shape)
        };
        let whole = mask(6, 10.0);
        assert_eq!(whole, [mask(2, 10.0), mask(4, 12.0)].concat());
    }

    #[test]
    fn what_is_refused() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F32, [4, 8], Init::ZEROS);
        let (step, row) = (g.scalar("step"), g.scalar("row"));
        assert!(x.dropout(1.0, 1, 2, step, row).is_poison());
        assert_eq!(error(&g), "a rate of 1 is not a share below 1");
        assert!(x.dropout(0.5, 1, 2, x, row).is_poison());
        assert!(x.dropout(f64::NAN, 1, 2, step, row).is_poison());
    }
}
