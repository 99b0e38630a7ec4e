//! Losses: cross-entropy of logits, and mean squared error.

use geartrain_kernels::Routine;

use crate::autodiff::vjp_of_definition;
use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attrs, Binding, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{DType, Shape, Tensor, Type};
use crate::ops::pointwise::tiny;
use crate::ops::softmax::{last, softmax, softmax_bound};

/// y (n) = ln Σ e^logits - logits\[target\] for each row of logits (n, v).
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy;
/// y (n, v) = (softmax(logits) - onehot(targets)) · ct: the cotangent of the logits of [`CrossEntropy`].
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropyGrad;
/// y () = mean((a - y)²).
#[derive(Clone, Copy, Debug)]
pub struct MeanSquaredError;

const ANY: Domain = Domain::Between(-3.0, 3.0);

/// Logits (n, v) and targets (n).
fn rows(logits: &Type, targets: &Type) -> Result<usize, Rule> {
    let [n, v] = *logits.shape.dims() else {
        return Err(
            Rule::new(format!("wants logits (n, v), got {}", logits.shape)).hint("reshape them to one row each")
        );
    };
    if !logits.dtype.is_float() || v == 0 {
        return Err(Rule::new("wants logits that are floats of at least one class"));
    }
    if targets.dtype != DType::U32 || targets.shape != Shape::from([n]) {
        return Err(Rule::new(format!("wants one target a row: u32 ({n},), got {targets}")));
    }
    Ok(n)
}

/// 1 at the target of each row, else 0 (u32, (n, v)). Compared in f64, where every index is exact.
#[track_caller]
fn hits<'g>(targets: Var<'g>, v: usize) -> Var<'g> {
    let graph = targets.graph();
    let classes: Vec<f64> = (0..v).map(|c| c as f64).collect();
    let Some(classes) = Tensor::from_f64(DType::F64, [1, v], &classes) else { return targets };
    let column = targets.cast(DType::F64).reshape([targets.shape().count(), 1]);
    column.equal(graph.constant(classes))
}

fn cases(case: impl Fn(Shape, usize) -> Case) -> Vec<Case> {
    [(4, 5), (1, 1), (3, 1), (63, 3), (3, 64), (2, 65), (2, 256), (3, 521), (0, 5)]
        .into_iter()
        .map(|(n, v)| case([n, v].into(), v))
        .collect()
}

fn lets(x: &[Expr], onehot: Option<usize>) -> Vec<(String, String)> {
    let mut lets = vec![("probs".to_string(), format!("softmax({})", x[0].text))];
    lets.extend(onehot.map(|v| ("y_onehot".to_string(), format!("onehot({}, {v})", x[1].text))));
    lets
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [logits, targets] = x else { return Err(Rule::new(format!("wants 2 inputs, got {}", x.len()))) };
        Ok(Type { shape: [rows(logits, targets)?].into(), ..*logits })
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::CrossEntropy)
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        // Where, not a product with 0 and 1: a logit of -inf that is not the target leaves the loss alone.
        let (logits, hits) = (x[0], hits(x[1], last(x[0].shape())));
        let moved = logits - logits.max(1);
        let log_probs = moved - moved.exp().sum(1).ln();
        Some(-hits.select(log_probs, log_probs.number(0.0)).sum(1).reshape(x[1].shape()))
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let grad = || r.y.graph().apply(CrossEntropyGrad, &[r.x[0], r.x[1], r.ct]);
        vec![r.flows(0, grad), Cotangent::Zero]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        let row = |(row, target): (&[f64], &f64)| {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|v| libm::exp(v - max)).sum();
            (max - row[*target as usize]) + libm::log(sum)
        };
        x[0].values.chunks(last(x[0].shape)).zip(&x[1].values).map(row).collect()
    }
    fn bound(&self, x: &[Array], _: &Array, eps: f64) -> Vec<f64> {
        let (v, probs) = (last(x[0].shape), softmax(&x[0]));
        let row = |((row, probs), target): ((&[f64], &[f64]), &f64)| {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log: f64 = row.iter().map(|x| libm::exp(x - max)).sum::<f64>().ln();
            // The relative error of the sum is the absolute one of its logarithm; the rest are roundings of the parts.
            let sum = v as f64 + 8.0 + row.iter().zip(probs).map(|(x, p)| (max - x) * p).sum::<f64>();
            (sum + 6.0 * log + 3.0 * (max.abs() + row[*target as usize].abs())) * eps + tiny(eps)
        };
        x[0].values.chunks(v).zip(probs.chunks(v)).zip(&x[1].values).map(row).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "The loss of a classifier: how surprised it is by the right class, in nats. Softmax and logarithm are \
                   taken in one step, which neither overflows nor loses small probabilities.",
            formula: "y = -ln softmax(logits)[target] = ln Σ e^logits - logits[target]",
            derivative: "d_logits = (softmax(logits) - onehot(target)) · d_y; none for the targets",
            kinks: "",
            cost: "1 exponential and 3 FLOPs a logit",
        }
    }
    fn cases(&self) -> Vec<Case> {
        cases(|s, v| Case::new(CrossEntropy, vec![(s, ANY), ([s.dims()[0]].into(), Domain::Index(v as u32))]))
    }
    fn print(&self, x: &[Expr], types: &[Type]) -> Expr {
        let text = format!("-log(probs[range({}), {}])", types[0].shape.dims()[0], x[1].text);
        Expr { text, binding: Binding::Negation, lets: lets(x, None) }
    }
}

impl Op for CrossEntropyGrad {
    fn name(&self) -> &'static str {
        "cross_entropy_grad"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [logits, targets, ct] = x else { return Err(Rule::new(format!("wants 3 inputs, got {}", x.len()))) };
        let n = rows(logits, targets)?;
        if *ct != Type::new(logits.dtype, [n]) {
            return Err(Rule::new(format!("wants one cotangent a row: {} ({n},), got {ct}", logits.dtype.name())));
        }
        Ok(*logits)
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::CrossEntropyGrad)
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        let logits = x[0];
        let onehot = hits(x[1], last(logits.shape())).cast(logits.dtype());
        Some((logits.softmax() - onehot) * x[2].reshape([x[2].shape().count(), 1]))
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vjp_of_definition(self, r)
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        let v = last(x[0].shape);
        let hit = |i: usize| if x[1].values[i / v] == (i % v) as f64 { 1.0 } else { 0.0 };
        softmax(&x[0]).into_iter().enumerate().map(|(i, p)| (p - hit(i)) * x[2].values[i / v]).collect()
    }
    fn bound(&self, x: &[Array], y: &Array, eps: f64) -> Vec<f64> {
        let (v, probs) = (last(x[0].shape), softmax(&x[0]));
        let off = softmax_bound(&x[0], &probs, eps);
        let at = |(i, y): (usize, &f64)| off[i] * x[2].values[i / v].abs() + 3.0 * eps * y.abs() + tiny(eps);
        y.values.iter().enumerate().map(at).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "How the cross-entropy loss changes with the logits: each class is pulled from its probability \
                   towards 1 if it is the target, else towards 0.",
            formula: "y = (softmax(logits) - onehot(target)) · ct",
            derivative: "the derivative of this formula: with p = softmax(logits) and s = d_y · ct, \
                         d_logits = p · (s - Σ s · p), d_ct = Σ d_y · (p - onehot(target)); none for the targets",
            kinks: "",
            cost: "1 exponential and 5 FLOPs a logit",
        }
    }
    fn cases(&self) -> Vec<Case> {
        cases(|s, v| {
            let n: Shape = [s.dims()[0]].into();
            Case::new(CrossEntropyGrad, vec![(s, ANY), (n, Domain::Index(v as u32)), (n, ANY)])
        })
    }
    fn print(&self, x: &[Expr], types: &[Type]) -> Expr {
        let lets = lets(x, Some(last(types[0].shape)));
        let difference = Expr::infix(&Expr::atom("probs"), "-", &Expr::atom("y_onehot"), Binding::Sum);
        let number = x[2].text.split('/').all(|part| part.trim().parse::<f64>().is_ok());
        let product = match (x[2].text.as_str(), number) {
            ("1", _) => difference,
            (_, true) => Expr::product(&difference, &x[2]),
            // One number a row, or one for all: either becomes a column.
            _ => {
                let column = format!("{}.reshape(-1, 1)", x[2].within(Binding::Atom, false));
                Expr::product(&difference, &Expr::atom(column))
            }
        };
        Expr { lets, ..product }
    }
}

impl Op for MeanSquaredError {
    fn name(&self) -> &'static str {
        "mean_squared_error"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [a, y] = x else { return Err(Rule::new(format!("wants 2 inputs, got {}", x.len()))) };
        if a != y || !a.dtype.is_float() {
            return Err(Rule::new("wants two floats of one dtype and shape").hint("cast or reshape one of them"));
        }
        if a.shape.count() == 0 {
            return Err(Rule::new("the mean of no elements is not a number"));
        }
        Ok(Type { shape: Shape::SCALAR, ..*a })
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::MeanSquaredError)
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        Some((x[0] - x[1]).square().mean_all())
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let (a, y) = (r.x[0], r.x[1]);
        let grad = || 2.0 * (a - y) / a.shape().count() as f64 * r.ct.broadcast_to(a.shape());
        vec![r.flows(0, grad), r.flows(1, || -grad())]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        let squares = x[0].values.iter().zip(&x[1].values).map(|(a, y)| (a - y).powi(2));
        vec![squares.sum::<f64>() / x[0].values.len() as f64]
    }
    fn bound(&self, x: &[Array], y: &Array, eps: f64) -> Vec<f64> {
        // No term is negative, so nothing cancels after the difference, whose rounding counts twice in its square.
        y.values.iter().map(|y| y * (x[0].values.len() as f64 + 5.0) * eps + tiny(eps)).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "The loss of a regression: the mean of the squared differences between prediction and target.",
            formula: "L = Σ (a - y)² / n",
            derivative: "d_a = 2 · (a - y) / n · d_L, d_y = -d_a",
            kinks: "",
            cost: "3 FLOPs an element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let shapes: [Shape; 9] = [
            [4, 1].into(),
            [1].into(),
            [3].into(),
            [63].into(),
            [64].into(),
            [65].into(),
            [2, 256].into(),
            [521].into(),
            Shape::SCALAR,
        ];
        shapes.into_iter().map(|s| Case::new(MeanSquaredError, vec![(s, ANY), (s, ANY)])).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        let difference = Expr::infix(&x[0], "-", &x[1], Binding::Sum);
        Expr::atom(format!("(({}) ** 2).mean()", difference.text))
    }
}

impl<'g> Var<'g> {
    /// Loss of each row of these logits (n, v) for its target class (u32, (n)): shape (n), in nats.
    #[track_caller]
    pub fn cross_entropy(self, targets: Var<'g>) -> Var<'g> {
        self.graph().apply(CrossEntropy, &[self, targets])
    }

    /// As [`Var::cross_entropy`], against a target class that has 1 - `smoothing` of the probability while all classes share
    /// the rest evenly (Szegedy et al., 2016): shape (n), in nats. `smoothing` is from 0 up to 1.
    #[track_caller]
    pub fn cross_entropy_smoothed(self, targets: Var<'g>, smoothing: f64) -> Var<'g> {
        if !(0.0..=1.0).contains(&smoothing) {
            let rule = Rule::new(format!("wants a smoothing from 0 to 1, got {smoothing}"));
            return self.graph().fail("cross_entropy_smoothed", rule, vec![self.ty(), targets.ty()]);
        }
        let loss = self.cross_entropy(targets);
        if smoothing == 0.0 || loss.is_poison() {
            return loss;
        }
        let even = self.log_softmax().mean(1).reshape(loss.shape());
        (1.0 - smoothing) * loss - smoothing * even
    }

    /// Mean of the squared differences to `y`, a scalar.
    #[track_caller]
    pub fn mean_squared_error(self, y: Var<'g>) -> Var<'g> {
        self.graph().apply(MeanSquaredError, &[self, y])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{error, expression, gradient, text};
    use crate::{Graph, Init};

    fn pair(name: &str, text: &str) -> (String, String) {
        (name.to_string(), text.to_string())
    }

    #[test]
    fn mean_squared_error_prints_as_the_lesson_does() {
        let g = Graph::new();
        let a2 = g.parameter("a2", DType::F64, [4, 1], Init::ZEROS);
        let y = g.input("y", DType::F64, [4, 1]);
        let loss = a2.mean_squared_error(y);
        assert_eq!(text(loss), "((a2 - y) ** 2).mean()");
        let d_a2 = g.grad(loss, &[a2]).unwrap()[0];
        assert_eq!(text(d_a2), "2 * (a2 - y) / 4");
        assert_eq!(text(gradient(loss.named("L"), y)), "-(2 * (a2 - y) / 4 * d_L)");
    }

    #[test]
    fn cross_entropy_prints_as_the_lesson_does() {
        let g = Graph::new();
        let z2 = g.parameter("z2", DType::F64, [4, 5], Init::ZEROS);
        let y = g.input("y", DType::U32, [4]);
        let losses = z2.cross_entropy(y);
        let (probs, onehot) = (pair("probs", "softmax(z2)"), pair("y_onehot", "onehot(y, 5)"));
        let printed = expression(losses);
        assert_eq!((printed.text.as_str(), &printed.lets), ("-log(probs[range(4), y])", &vec![probs.clone()]));
        let of = |x: &str, binding| {
            let inputs = [Expr::atom("z2"), Expr::atom("y"), Expr { binding, ..Expr::atom(x) }];
            CrossEntropyGrad.print(&inputs, &[z2.ty(), y.ty(), losses.ty()])
        };
        let mean = of("1 / 4", Binding::Product);
        assert_eq!((mean.text.as_str(), mean.lets), ("(probs - y_onehot) / 4", vec![probs, onehot]));
        assert_eq!(of("1", Binding::Atom).text, "probs - y_onehot");
        assert_eq!(of("0.5", Binding::Atom).text, "(probs - y_onehot) * 0.5");
        assert_eq!(text(gradient(losses.named("l"), z2)), "(probs - y_onehot) * d_l.reshape(-1, 1)");
    }

    #[test]
    fn a_mean_of_losses_divides_by_their_number() {
        let g = Graph::new();
        let z2 = g.parameter("z2", DType::F64, [4, 5], Init::ZEROS);
        let loss = z2.cross_entropy(g.input("y", DType::U32, [4])).mean_all();
        let d_z2 = g.grad(loss, &[z2]).unwrap()[0];
        assert_eq!(text(d_z2), "(probs - y_onehot) / 4");
    }

    #[test]
    fn smoothing_moves_a_share_of_the_target_to_all_classes() {
        use crate::check::{Feed, interpret::evaluate};
        let g = Graph::new();
        let (z, y) = (g.input("z", DType::F64, [2, 3]), g.input("y", DType::U32, [2]));
        let smoothed = z.cross_entropy_smoothed(y, 0.3);
        assert_eq!(text(z.cross_entropy_smoothed(y, 0.0)), text(z.cross_entropy(y)));
        let mut feed = Feed::new();
        let logits = [0.1, -0.4, 2.0, 1.5, 0.3, -0.2];
        feed.set("z", Array { shape: [2, 3].into(), values: logits.to_vec() });
        feed.set("y", Array { shape: [2].into(), values: vec![2.0, 1.0] });
        let found = evaluate(&g, &[smoothed], &feed).unwrap().remove(0).values;
        for (row, (logits, target)) in logits.chunks(3).zip([2, 1]).enumerate() {
            let sum: f64 = logits.iter().map(|z| z.exp()).sum();
            let wanted = |c: usize| if c == target { 0.7 + 0.1 } else { 0.1 };
            let loss: f64 = (0..3).map(|c| -wanted(c) * (logits[c].exp() / sum).ln()).sum();
            assert!((found[row] - loss).abs() < 1e-14, "{found:?}");
        }
        assert!(z.cross_entropy_smoothed(y, 1.5).is_poison());
        assert_eq!(error(&g), "wants a smoothing from 0 to 1, got 1.5");
    }

    #[test]
    fn the_referees_agree_with_each_other() {
        // The gradient of the loss by differences of its reference.
        let logits = Array { shape: [2, 3].into(), values: vec![0.1, -0.4, 2.0, 1.5, 0.3, -0.2] };
        let targets = Array { shape: [2].into(), values: vec![2.0, 0.0] };
        let ones = Array { shape: [2].into(), values: vec![1.0, 1.0] };
        let grad = CrossEntropyGrad.reference(&[logits.clone(), targets.clone(), ones], logits.shape);
        let loss = |x: &Array| CrossEntropy.reference(&[x.clone(), targets.clone()], [2].into()).iter().sum::<f64>();
        for (i, g) in grad.iter().enumerate() {
            let (mut up, mut down) = (logits.clone(), logits.clone());
            up.values[i] += 1e-5;
            down.values[i] -= 1e-5;
            assert!(((loss(&up) - loss(&down)) / 2e-5 - g).abs() < 1e-9);
        }
    }

    #[test]
    fn what_is_refused() {
        let g = Graph::new();
        let z = g.parameter("z", DType::F32, [4, 5], Init::ZEROS);
        assert!(z.cross_entropy(g.input("y", DType::U32, [3])).is_poison());
        assert_eq!(error(&g), "wants one target a row: u32 (4,), got u32 (3,)");
        assert!(z.reshape([20]).cross_entropy(g.input("y4", DType::U32, [4])).is_poison());
        assert!(z.mean_squared_error(z.reshape([5, 4])).is_poison());
        assert!(g.input("e", DType::F32, [0]).mean_squared_error(g.input("e", DType::F32, [0])).is_poison());
    }
}
