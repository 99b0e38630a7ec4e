//! Normalising rows, and the norm of many values together.

use geartrain_kernels::Routine;

use crate::autodiff::vjp_of_definition;
use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attr, Attrs, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{DType, Shape, Type};
use crate::ops::pointwise::tiny;
use crate::ops::softmax::last;

/// y = (x - mean) / √(variance + eps) along the last axis; the variance is the mean of the squared differences.
#[derive(Clone, Copy, Debug)]
pub struct Normalize {
    /// Keeps rows of equal numbers finite.
    pub eps: f64,
}
/// The cotangent of x for [`Normalize`], from x and the cotangent of y.
#[derive(Clone, Copy, Debug)]
pub struct NormalizeGrad {
    /// That of [`Normalize`].
    pub eps: f64,
}
/// y () f64 = √ of the sum of the squares of all elements of all inputs.
#[derive(Clone, Copy, Debug)]
pub struct GlobalNorm;

const ANY: Domain = Domain::Between(-3.0, 3.0);

/// One row of floats that is not empty, as many times as there are inputs.
pub(super) fn infer(arity: usize, x: &[Type]) -> Result<Type, Rule> {
    if x.len() != arity {
        return Err(Rule::new(format!("wants {arity} inputs, got {}", x.len())));
    }
    if !x[0].dtype.is_float() || x[0].shape.rank() == 0 || last(x[0].shape) == 0 {
        return Err(Rule::new("wants floats with a last axis that is not empty"));
    }
    if x.iter().any(|t| t != &x[0]) {
        return Err(Rule::new("inputs differ in type"));
    }
    Ok(x[0])
}

/// Shapes with rows; not of length 1 or 2, whose normalised elements are -1, 0 or 1 whatever x is, up to eps.
pub(super) fn shapes() -> [Shape; 8] {
    [
        [4, 5].into(),
        [3].into(),
        [7, 63].into(),
        [2, 3, 64].into(),
        [3, 65].into(),
        [2, 256].into(),
        [3, 521].into(),
        [0, 5].into(),
    ]
}

/// One row and what normalising it computes.
struct Row<'a> {
    x: &'a [f64],
    mean: f64,
    /// √(variance + eps)
    deviation: f64,
}

impl<'a> Row<'a> {
    fn all(x: &'a Array, eps: f64) -> impl Iterator<Item = Row<'a>> {
        x.values.chunks(last(x.shape).max(1)).map(move |x| {
            let n = x.len() as f64;
            let mean = x.iter().sum::<f64>() / n;
            let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            Row { x, mean, deviation: libm::sqrt(variance + eps) }
        })
    }

    fn y(&self) -> Vec<f64> {
        self.x.iter().map(|v| (v - self.mean) / self.deviation).collect()
    }

    /// Largest error of any x - mean, and relative error of the deviation.
    fn errors(&self, eps: f64) -> (f64, f64) {
        let n = self.x.len() as f64;
        let size = self.x.iter().map(|v| v.abs()).sum::<f64>() / n;
        let widest = self.x.iter().map(|v| (v - self.mean).abs()).fold(0.0, f64::max);
        let centred = ((n + 1.0) * size + widest) * eps;
        (centred, centred / self.deviation + (n / 2.0 + 4.0) * eps)
    }

    /// How far each computed y may be off.
    fn bound(&self, y: &[f64], eps: f64) -> Vec<f64> {
        let (centred, deviation) = self.errors(eps);
        y.iter().map(|y| centred / self.deviation + y.abs() * (deviation + 2.0 * eps) + tiny(eps)).collect()
    }
}

impl Normalize {
    pub(crate) const EXAMPLE: Normalize = Normalize { eps: 1e-5 };
}

impl Op for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        vec![("eps", Attr::float(self.eps))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        infer(1, x)
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::Normalize { eps: self.eps })
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        let axis = x[0].shape().rank() - 1;
        let centred = x[0] - x[0].mean(axis);
        Some(centred / (centred.square().mean(axis) + self.eps).sqrt())
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.y.graph().apply(NormalizeGrad { eps: self.eps }, &[r.x[0], r.ct]))]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        Row::all(&x[0], self.eps).flat_map(|row| row.y()).collect()
    }
    fn bound(&self, x: &[Array], _: &Array, eps: f64) -> Vec<f64> {
        Row::all(&x[0], self.eps).flat_map(|row| row.bound(&row.y(), eps)).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Shifts and scales each row to mean 0 and variance 1, the core of layer normalisation.",
            formula: "y = (x - mean x) / √(mean (x - mean x)² + eps)",
            derivative: "d_x = (d_y - mean d_y - y · mean(d_y · y)) / √(variance + eps)",
            kinks: "",
            cost: "8 FLOPs an element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        shapes().into_iter().map(|s| Case::new(*self, vec![(s, ANY)])).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("normalize", &[x[0].clone(), Expr::atom(format!("{:?}", self.eps))])
    }
}

impl NormalizeGrad {
    pub(crate) const EXAMPLE: NormalizeGrad = NormalizeGrad { eps: 1e-5 };
}

impl Op for NormalizeGrad {
    fn name(&self) -> &'static str {
        "normalize_grad"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        vec![("eps", Attr::float(self.eps))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        infer(2, x)
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::NormalizeGrad { eps: self.eps })
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        let (x, ct) = (x[0], x[1]);
        let axis = x.shape().rank() - 1;
        let centred = x - x.mean(axis);
        let deviation = (centred.square().mean(axis) + self.eps).sqrt();
        let y = centred / deviation;
        Some((ct - ct.mean(axis) - y * (ct * y).mean(axis)) / deviation)
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vjp_of_definition(self, r)
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        let n = last(x[0].shape).max(1);
        let row = |(row, ct): (Row<'_>, &[f64])| {
            let y = row.y();
            let mean = ct.iter().sum::<f64>() / n as f64;
            let along = ct.iter().zip(&y).map(|(c, y)| c * y).sum::<f64>() / n as f64;
            ct.iter().zip(&y).map(|(c, y)| (c - mean - y * along) / row.deviation).collect::<Vec<f64>>()
        };
        Row::all(&x[0], self.eps).zip(x[1].values.chunks(n)).flat_map(row).collect()
    }
    fn bound(&self, x: &[Array], out: &Array, eps: f64) -> Vec<f64> {
        let n = last(x[0].shape).max(1);
        let row = |((row, ct), out): ((Row<'_>, &[f64]), &[f64])| {
            let (y, count) = (row.y(), n as f64);
            let off = row.bound(&y, eps);
            let size = ct.iter().map(|c| c.abs()).sum::<f64>() / count;
            let along = ct.iter().zip(&y).map(|(c, y)| (c * y).abs()).sum::<f64>() / count;
            // Errors of mean(ct) and of mean(ct · y), where the errors of y come in.
            let mean_off = (count + 1.0) * size * eps;
            let moved = ct.iter().zip(&off).map(|(c, off)| c.abs() * off).sum::<f64>() / count;
            let along_off = moved + (count + 2.0) * along * eps;
            let at = |i: usize| {
                let parts = ct[i].abs() + size + y[i].abs() * along;
                let inner = mean_off + off[i] * along + y[i].abs() * along_off + 4.0 * eps * parts;
                inner / row.deviation + out[i].abs() * (row.errors(eps).1 + 2.0 * eps) + tiny(eps)
            };
            (0..ct.len()).map(at).collect::<Vec<f64>>()
        };
        let rows = Row::all(&x[0], self.eps).zip(x[1].values.chunks(n)).zip(out.values.chunks(n));
        rows.flat_map(row).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Carries a cotangent back through the normalisation of rows: what would shift or scale a whole row is \
                   taken out, because normalising undoes it.",
            formula: "d = (ct - mean ct - y · mean(ct · y)) / √(variance + eps), y = normalize(x)",
            derivative: "the derivative of this formula",
            kinks: "",
            cost: "14 FLOPs an element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        shapes().into_iter().map(|s| Case::new(*self, vec![(s, ANY), (s, ANY)])).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("normalize_grad", &[x[0].clone(), x[1].clone(), Expr::atom(format!("{:?}", self.eps))])
    }
}

impl Op for GlobalNorm {
    fn name(&self) -> &'static str {
        "global_norm"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        if x.is_empty() {
            return Err(Rule::new("wants at least 1 input"));
        }
        match x.iter().find(|t| !t.dtype.is_float()) {
            Some(t) => Err(Rule::new(format!("wants floats, got {}", t.dtype.name())).hint("cast it first")),
            None => Ok(Type::new(DType::F64, Shape::SCALAR)),
        }
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::GlobalNorm)
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        let squares = x.iter().map(|x| x.cast(DType::F64).square().sum_all());
        squares.reduce(|a, b| a + b).map(Var::sqrt)
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let zero = r.y.number(0.0);
        // Without the choice a norm of 0 would give 0 / 0.
        let scale = || r.y.equal(zero).select(zero, r.ct / r.y);
        (0..r.x.len()).map(|i| r.flows(i, || scale().cast(r.x[i].dtype()) * r.x[i])).collect()
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        vec![libm::sqrt(x.iter().flat_map(|x| &x.values).map(|v| v * v).sum::<f64>())]
    }
    fn bound(&self, x: &[Array], y: &Array, _: f64) -> Vec<f64> {
        // Summed in f64 whatever the inputs are; the root halves the relative error, the referee has as much.
        let terms = x.iter().map(|x| x.values.len()).sum::<usize>() as f64;
        y.values.iter().map(|y| y * (terms + 4.0) * f64::EPSILON / 2.0).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "The length of all inputs taken as one long vector, summed in f64: the norm that gradients are \
                   clipped by.",
            formula: "y = √(Σ x²), over all elements of all inputs",
            derivative: "d_x = d_y / y · x",
            kinks: "where all elements are 0: 0 is chosen",
            cost: "2 FLOPs an element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |shapes: &[Shape]| Case::new(GlobalNorm, shapes.iter().map(|s| (*s, ANY)).collect());
        vec![
            case(&[[4, 5].into()]),
            case(&[[3].into(), [64, 65].into(), Shape::SCALAR]),
            case(&[[1].into(), [63].into(), [0].into(), [256].into(), [521].into()]),
            case(&[[2, 3, 7].into(), [2, 3, 7].into()]),
        ]
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("global_norm", x)
    }
}

impl<'g> Var<'g> {
    /// Rows shifted and scaled to mean 0 and variance 1; `eps` is added to the variance.
    #[track_caller]
    pub fn normalize(self, eps: f64) -> Var<'g> {
        self.graph().apply(Normalize { eps }, &[self])
    }

    /// Layer normalisation over the last axis: normalised rows times `gain`, plus `bias`.
    #[track_caller]
    pub fn layer_norm(self, gain: Var<'g>, bias: Option<Var<'g>>, eps: f64) -> Var<'g> {
        let scaled = self.normalize(eps) * gain;
        match bias {
            Some(bias) => scaled + bias,
            None => scaled,
        }
    }

    /// √ of the sum of the squares of this and all `others`: an f64 scalar.
    #[track_caller]
    pub fn global_norm(self, others: &[Var<'g>]) -> Var<'g> {
        let all: Vec<Var<'g>> = std::iter::once(self).chain(others.iter().copied()).collect();
        self.graph().apply(GlobalNorm, &all)
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
        let x = g.parameter("x", DType::F32, [4, 8], Init::ZEROS);
        let (gain, bias) =
            (g.parameter("g", DType::F32, [8], Init::ONES), g.parameter("b", DType::F32, [8], Init::ZEROS));
        let y = x.layer_norm(gain, Some(bias), 1e-5);
        assert_eq!(text(y), "normalize(x, 1e-5) * g + b");
        let n = x.normalize(1e-5).named("n");
        assert_eq!(text(gradient(n, x)), "normalize_grad(x, d_n, 1e-5)");
        let norm = x.global_norm(&[gain]).named("norm");
        assert_eq!((text(norm), norm.ty()), ("global_norm(x, g)".to_string(), Type::new(DType::F64, Shape::SCALAR)));
        assert_eq!(text(gradient(norm, gain)), "where((norm == 0), 0, d_norm / norm).astype(float32) * g");
    }

    #[test]
    fn rows_have_mean_zero_and_the_gradient_is_that_of_the_reference() {
        let number = |i: usize| ((i * 37 % 11) as f64) / 3.0 - 2.0;
        let array = |k: usize| Array { shape: [2, 5].into(), values: (0..10).map(|i| number(i * k + k)).collect() };
        let (x, ct) = (array(1), array(3));
        let op = Normalize { eps: 1e-3 };
        let y = op.reference(std::slice::from_ref(&x), x.shape);
        assert!(y[..5].iter().sum::<f64>().abs() < 1e-12);
        let grad = NormalizeGrad { eps: 1e-3 }.reference(&[x.clone(), ct.clone()], x.shape);
        let loss = |x: &Array| -> f64 {
            op.reference(std::slice::from_ref(x), x.shape).iter().zip(&ct.values).map(|(y, c)| y * c).sum()
        };
        for (i, g) in grad.iter().enumerate() {
            let (mut up, mut down) = (x.clone(), x.clone());
            up.values[i] += 1e-5;
            down.values[i] -= 1e-5;
            assert!(((loss(&up) - loss(&down)) / 2e-5 - g).abs() < 1e-8);
        }
    }

    #[test]
    fn what_is_refused() {
        let g = Graph::new();
        assert!(g.input("e", DType::F32, [3, 0]).normalize(1e-5).is_poison());
        assert_eq!(error(&g), "wants floats with a last axis that is not empty");
        assert!(GlobalNorm.infer(&[]).is_err());
        assert!(GlobalNorm.infer(&[Type::new(DType::U32, [3])]).is_err());
    }
}
