//! The arithmetic of optimizers, elementwise over parameters and their moments.
//!
//! No step uses a fused multiply-add: each rounds where its printed form does, so that a NumPy script repeats its bits.

use geartrain_kernels::math::Real;
use geartrain_kernels::{DType, Map, Params};

use crate::autodiff::vjp_of_definition;
use crate::ir::graph::Var;
use crate::ir::op::{Binding, Cotangent, Domain, Explain, Expr, Vjp};
use crate::ops::pointwise::{Pointwise, number, pointwise};

/// y = w - lr · g; inputs w, g, lr.
#[derive(Clone, Copy, Debug)]
pub struct Sgd;
/// y = mu · m + g; inputs m, g.
#[derive(Clone, Copy, Debug)]
pub struct Momentum {
    /// Share of the old velocity that is kept.
    pub mu: f64,
}
/// y = beta · m + (1 - beta) · g; inputs m, g.
#[derive(Clone, Copy, Debug)]
pub struct Ema {
    /// Share of the old mean that is kept.
    pub beta: f64,
}
/// y = beta · v + (1 - beta) · g²; inputs v, g.
#[derive(Clone, Copy, Debug)]
pub struct EmaSquare {
    /// Share of the old mean that is kept.
    pub beta: f64,
}
/// y = w · (1 - lr · decay) - rate · m / (√v · scale + eps); inputs w, m, v, lr, rate, scale, where the two scalars hold the
/// bias corrections: rate = lr / (1 - beta1^t) and scale = 1 / √(1 - beta2^t). Divisions and roots take most of the
/// time of this formula; so there are one of each an element.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Keeps the step finite where v is 0.
    pub eps: f64,
    /// Weight decay.
    pub decay: f64,
}
/// y = min(1, max / (norm + 1e-6)): what gradients are multiplied by so that their norm is at most `max`.
#[derive(Clone, Copy, Debug)]
pub struct ClipScale {
    /// Largest norm that is left alone.
    pub max: f64,
}

pointwise!(Sgd: 3, Momentum: 2, Ema: 2, EmaSquare: 2, AdamW: 6, ClipScale: 1);

const ANY: Domain = Domain::Between(-3.0, 3.0);
const RATE: Domain = Domain::Between(0.01, 0.5);
const POSITIVE: Domain = Domain::Between(0.1, 1.0);

/// Keeps max / norm finite; PyTorch's number.
const CLIP_EPS: f64 = 1e-6;

fn sum(a: &Expr, b: &Expr) -> Expr {
    Expr::infix(a, "+", b, Binding::Sum)
}

fn difference(a: &Expr, b: &Expr) -> Expr {
    Expr::infix(a, "-", b, Binding::Sum)
}

fn times(a: &Expr, b: &Expr) -> Expr {
    Expr::infix(a, "*", b, Binding::Product)
}

fn over(a: &Expr, b: &Expr) -> Expr {
    Expr::infix(a, "/", b, Binding::Product)
}

impl Map<3> for Sgd {
    #[inline(always)]
    fn map<T: Real>(_: &Params, [w, g, lr]: [T; 3]) -> T {
        w - lr * g
    }
}
impl Pointwise<3> for Sgd {
    const NAME: &'static str = "sgd";
    const ULPS: f64 = 1.5;
    const EXPLAIN: Explain = Explain {
        what: "One step of gradient descent: moves each parameter against its gradient.",
        formula: "y = w - lr · g",
        derivative: "d_w = d_y, d_g = -d_y · lr, d_lr = -d_y · g",
        kinks: "",
        cost: "2 FLOPs an element",
    };
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        Some(x[0] - x[2] * x[1])
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vjp_of_definition(self, r)
    }
    fn reference(&self, [w, g, lr]: [f64; 3]) -> f64 {
        libm::fma(-lr, g, w)
    }
    fn scale(&self, [w, g, lr]: [f64; 3], _: f64) -> f64 {
        w.abs() + (lr * g).abs()
    }
    fn domain(&self) -> [Domain; 3] {
        [ANY, ANY, RATE]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        difference(&x[0], &times(&x[2], &x[1]))
    }
}

impl Momentum {
    pub(crate) const EXAMPLE: Momentum = Momentum { mu: 0.9 };
}
impl Map<2> for Momentum {
    #[inline(always)]
    fn map<T: Real>(params: &Params, [m, g]: [T; 2]) -> T {
        T::from_f64(params[0]) * m + g
    }
}
impl Pointwise<2> for Momentum {
    const NAME: &'static str = "momentum";
    const ULPS: f64 = 2.0;
    const EXPLAIN: Explain = Explain {
        what: "The velocity of heavy-ball momentum: gradients pile up while older ones fade.",
        formula: "y = mu · m + g",
        derivative: "d_m = d_y · mu, d_g = d_y",
        kinks: "",
        cost: "2 FLOPs an element",
    };
    fn params(&self) -> Params {
        [self.mu, 0.0, 0.0, 0.0]
    }
    fn names(&self) -> &'static [&'static str] {
        &["mu"]
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        Some(self.mu * x[0] + x[1])
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vjp_of_definition(self, r)
    }
    fn reference(&self, [m, g]: [f64; 2]) -> f64 {
        libm::fma(self.mu, m, g)
    }
    fn scale(&self, [m, g]: [f64; 2], _: f64) -> f64 {
        (self.mu * m).abs() + g.abs()
    }
    fn domain(&self) -> [Domain; 2] {
        [ANY, ANY]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        sum(&times(&number(self.mu), &x[0]), &x[1])
    }
}

impl Ema {
    pub(crate) const EXAMPLE: Ema = Ema { beta: 0.9 };
}
impl Map<2> for Ema {
    #[inline(always)]
    fn map<T: Real>(params: &Params, [m, g]: [T; 2]) -> T {
        T::from_f64(params[0]) * m + T::from_f64(1.0 - params[0]) * g
    }
}
impl Pointwise<2> for Ema {
    const NAME: &'static str = "ema";
    const ULPS: f64 = 2.0;
    const EXPLAIN: Explain = Explain {
        what: "A moving average: mostly the old mean, and a little of the new value. Adam's first moment.",
        formula: "y = beta · m + (1 - beta) · g",
        derivative: "d_m = d_y · beta, d_g = d_y · (1 - beta)",
        kinks: "",
        cost: "3 FLOPs an element",
    };
    fn params(&self) -> Params {
        [self.beta, 0.0, 0.0, 0.0]
    }
    fn names(&self) -> &'static [&'static str] {
        &["beta"]
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        Some(self.beta * x[0] + (1.0 - self.beta) * x[1])
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vjp_of_definition(self, r)
    }
    fn reference(&self, [m, g]: [f64; 2]) -> f64 {
        g + self.beta * (m - g)
    }
    fn scale(&self, [m, g]: [f64; 2], _: f64) -> f64 {
        // With the referee's own g, for its rounding.
        (self.beta * m).abs() + g.abs()
    }
    fn domain(&self) -> [Domain; 2] {
        [ANY, ANY]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        let rest = difference(&Expr::atom("1"), &number(self.beta));
        sum(&times(&number(self.beta), &x[0]), &times(&rest, &x[1]))
    }
}

impl EmaSquare {
    pub(crate) const EXAMPLE: EmaSquare = EmaSquare { beta: 0.95 };
}
impl Map<2> for EmaSquare {
    #[inline(always)]
    fn map<T: Real>(params: &Params, [v, g]: [T; 2]) -> T {
        T::from_f64(params[0]) * v + T::from_f64(1.0 - params[0]) * g * g
    }
}
impl Pointwise<2> for EmaSquare {
    const NAME: &'static str = "ema_square";
    const ULPS: f64 = 3.0;
    const EXPLAIN: Explain = Explain {
        what: "A moving average of squares: how large the gradients of each parameter have been. Adam's second moment.",
        formula: "y = beta · v + (1 - beta) · g²",
        derivative: "d_v = d_y · beta, d_g = d_y · 2 · (1 - beta) · g",
        kinks: "",
        cost: "4 FLOPs an element",
    };
    fn params(&self) -> Params {
        [self.beta, 0.0, 0.0, 0.0]
    }
    fn names(&self) -> &'static [&'static str] {
        &["beta"]
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        Some(self.beta * x[0] + (1.0 - self.beta) * x[1] * x[1])
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vjp_of_definition(self, r)
    }
    fn reference(&self, [v, g]: [f64; 2]) -> f64 {
        g * g + self.beta * (v - g * g)
    }
    fn scale(&self, [v, g]: [f64; 2], _: f64) -> f64 {
        (self.beta * v).abs() + g * g
    }
    fn domain(&self) -> [Domain; 2] {
        [Domain::Between(0.0, 3.0), ANY]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        let rest = difference(&Expr::atom("1"), &number(self.beta));
        sum(&times(&number(self.beta), &x[0]), &times(&times(&rest, &x[1]), &x[1]))
    }
}

impl AdamW {
    pub(crate) const EXAMPLE: AdamW = AdamW { eps: 1e-8, decay: 0.1 };
}
impl Map<6> for AdamW {
    #[inline(always)]
    fn map<T: Real>(params: &Params, [w, m, v, lr, rate, scale]: [T; 6]) -> T {
        let [eps, decay, ..] = params.map(T::from_f64);
        let kept = w * (T::from_f64(1.0) - lr * decay);
        kept - rate * m / (v.sqrt() * scale + eps)
    }
}
impl Pointwise<6> for AdamW {
    const NAME: &'static str = "adamw";
    const ULPS: f64 = 6.0;
    const EXPLAIN: Explain = Explain {
        what: "One step of AdamW: shrinks each parameter a little, then moves it by its mean gradient divided by how \
               large its gradients usually are. rate = lr / (1 - beta1^t) and scale = 1 / √(1 - beta2^t) correct means \
               that began at 0.",
        formula: "y = w · (1 - lr · decay) - rate · m / (√v · scale + eps)",
        derivative: "the derivative of this formula, with r = √v · scale + eps: d_w = d_y · (1 - lr · decay), \
                     d_m = -d_y · rate / r, d_v = d_y · rate · m · scale / (2 · √v · r²), and so on",
        kinks: "at v = 0, where the derivative of the root is infinite",
        cost: "1 division, 1 square root and 7 FLOPs an element",
    };
    fn params(&self) -> Params {
        [self.eps, self.decay, 0.0, 0.0]
    }
    fn names(&self) -> &'static [&'static str] {
        &["eps", "decay"]
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        let [w, m, v, lr, rate, scale] = *x else { return None };
        Some(w * (1.0 - lr * self.decay) - rate * m / (v.sqrt() * scale + self.eps))
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vjp_of_definition(self, r)
    }
    fn reference(&self, [w, m, v, lr, rate, scale]: [f64; 6]) -> f64 {
        w - (lr * self.decay * w + m / ((libm::sqrt(v * scale * scale) + self.eps) / rate))
    }
    fn scale(&self, [w, m, v, lr, rate, scale]: [f64; 6], _: f64) -> f64 {
        let step = rate * m / (libm::sqrt(v) * scale + self.eps);
        w.abs() * (1.0 + (lr * self.decay).abs()) + step.abs()
    }
    fn domain(&self) -> [Domain; 6] {
        [ANY, ANY, POSITIVE, RATE, POSITIVE, POSITIVE]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        let [w, m, v, lr, rate, scale] = x else { return Expr::call(Self::NAME, x) };
        let kept = match self.decay {
            0.0 => w.clone(),
            decay => times(w, &difference(&Expr::atom("1"), &times(lr, &number(decay)))),
        };
        let root = times(&Expr::call("sqrt", std::slice::from_ref(v)), scale);
        difference(&kept, &over(&times(rate, m), &sum(&root, &number(self.eps))))
    }
}

impl ClipScale {
    pub(crate) const EXAMPLE: ClipScale = ClipScale { max: 1.0 };
}
impl Map<1> for ClipScale {
    #[inline(always)]
    fn map<T: Real>(params: &Params, [norm]: [T; 1]) -> T {
        // A norm that is NaN gives NaN, as in PyTorch.
        let one = T::from_f64(1.0);
        let scale = T::from_f64(params[0]) / (norm + T::from_f64(CLIP_EPS));
        if scale > one { one } else { scale }
    }
}
impl Pointwise<1> for ClipScale {
    const NAME: &'static str = "clip_scale";
    const ULPS: f64 = 2.0;
    const EXPLAIN: Explain = Explain {
        what: "The number that gradients are multiplied by so that their norm does not exceed a limit.",
        formula: "y = min(1, max / (norm + 1e-6))",
        derivative: "d_norm = -d_y · y / (norm + 1e-6) where y < 1, else 0",
        kinks: "where norm + 1e-6 = max: 0 is chosen",
        cost: "1 division",
    };
    fn params(&self) -> Params {
        [self.max, 0.0, 0.0, 0.0]
    }
    fn names(&self) -> &'static [&'static str] {
        &["max"]
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        let scale = self.max / (x[0] + CLIP_EPS);
        let one = scale.number(1.0);
        Some(scale.greater_equal(one).select(one, scale))
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let (norm, y) = (r.x[0], r.y);
        vec![r.flows(0, || -(r.ct * y / (norm + CLIP_EPS)) * y.less(y.number(1.0)).cast(y.dtype()))]
    }
    fn reference(&self, [norm]: [f64; 1]) -> f64 {
        let scale = self.max / (norm + CLIP_EPS);
        if scale.is_nan() { scale } else { scale.min(1.0) }
    }
    fn domain(&self) -> [Domain; 1] {
        // A norm is never negative; the formula does not mind.
        [Domain::Away(&[0.0, 1.0])]
    }
    fn print(&self, x: &[Expr]) -> Expr {
        let scale = over(&number(self.max), &sum(&x[0], &number(CLIP_EPS)));
        Expr::call("minimum", &[Expr::atom("1"), scale])
    }
}

impl<'g> Var<'g> {
    /// This parameter after a step of gradient descent along `g`; `lr` is a float scalar of any dtype.
    #[track_caller]
    pub fn sgd(self, g: Var<'g>, lr: Var<'g>) -> Var<'g> {
        Var::elementwise(Sgd, &[self, g, lr.cast(self.dtype())])
    }

    /// This velocity after the gradient `g`: mu · m + g.
    #[track_caller]
    pub fn momentum(self, g: Var<'g>, mu: f64) -> Var<'g> {
        Var::elementwise(Momentum { mu }, &[self, g])
    }

    /// This moving average after the value `g`: beta · m + (1 - beta) · g.
    #[track_caller]
    pub fn ema(self, g: Var<'g>, beta: f64) -> Var<'g> {
        Var::elementwise(Ema { beta }, &[self, g])
    }

    /// This moving average of squares after the value `g`: beta · v + (1 - beta) · g².
    #[track_caller]
    pub fn ema_square(self, g: Var<'g>, beta: f64) -> Var<'g> {
        Var::elementwise(EmaSquare { beta }, &[self, g])
    }

    /// This parameter after a step of AdamW with the new moments `m` and `v`. `lr`, `c1` = 1 - beta1^t and `c2` =
    /// 1 - beta2^t are float scalars of any dtype.
    #[track_caller]
    pub fn adamw(self, m: Var<'g>, v: Var<'g>, [lr, c1, c2]: [Var<'g>; 3], eps: f64, decay: f64) -> Var<'g> {
        let [lr, c1, c2] = [lr, c1, c2].map(|s| s.cast(DType::F64));
        let [lr, rate, scale] = [lr, lr / c1, 1.0 / c2.sqrt()].map(|s| s.cast(self.dtype()));
        Var::elementwise(AdamW { eps, decay }, &[self, m, v, lr, rate, scale])
    }

    /// What gradients of this norm are multiplied by so that their norm is at most `max`.
    #[track_caller]
    pub fn clip_scale(self, max: f64) -> Var<'g> {
        Var::elementwise(ClipScale { max }, &[self])
    }
}

#[cfg(test)]
mod tests;
