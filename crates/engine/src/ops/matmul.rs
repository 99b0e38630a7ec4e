//! Batched matrix products.

use geartrain_kernels::Routine;

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attrs, Binding, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{Shape, Type};

/// y (.., m, n) = a (.., m, k) @ b (.., k, n); the leading axes of a and b agree.
#[derive(Clone, Copy, Debug)]
pub struct Matmul;

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }
    fn kind(&self) -> Kind {
        Kind::Contract
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [a, b] = x else { return Err(Rule::new(format!("wants 2 inputs, got {}", x.len()))) };
        if a.dtype != b.dtype || !a.dtype.is_float() {
            return Err(Rule::new("wants two floats of one dtype").hint("cast one of them"));
        }
        let ([lead_a @ .., m, k], [lead_b @ .., k2, n]) = (a.shape.dims(), b.shape.dims()) else {
            return Err(Rule::new("wants at least two axes on both sides").hint("reshape a vector to (1, n) or (n, 1)"));
        };
        if k != k2 {
            return Err(Rule::new(format!("inner axes differ: {k} and {k2}")).hint("transpose one side?"));
        }
        if lead_a != lead_b {
            return Err(Rule::new("leading axes differ").hint("broadcast one side"));
        }
        let shape = a.shape.with(lead_a.len(), *m).with(lead_a.len() + 1, *n);
        Ok(Type { shape, ..*a })
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::Matmul)
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let (a, b) = (r.x[0], r.x[1]);
        vec![r.flows(0, || r.ct.matmul(b.t())), r.flows(1, || a.t().matmul(r.ct))]
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        product(x, |v| v)
    }
    fn bound(&self, x: &[Array], _: &Array, eps: f64) -> Vec<f64> {
        let k = x[0].shape.dims()[x[0].shape.rank() - 1];
        product(x, f64::abs).into_iter().map(|s| s * (k + 1) as f64 * eps).collect()
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Multiplies matrices.",
            formula: "y[i, j] = Σ a[i, k] · b[k, j]",
            derivative: "d_a = d_y @ b.T, d_b = a.T @ d_y",
            kinks: "",
            cost: "2 · m · n · k FLOPs",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let any = || Domain::Between(-1.0, 1.0);
        let case = |a: Shape, b: Shape| Case::new(Matmul, vec![(a, any()), (b, any())]);
        vec![
            case([4, 2].into(), [2, 4].into()),
            case([1, 1].into(), [1, 1].into()),
            case([3, 0].into(), [0, 5].into()),
            case([0, 3].into(), [3, 5].into()),
            case([63, 64].into(), [64, 65].into()),
            case([3, 521].into(), [521, 17].into()),
            case([2, 3, 5, 7].into(), [2, 3, 7, 4].into()),
            case([3, 1, 64].into(), [3, 64, 1].into()),
        ]
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::infix(&x[0], "@", &x[1], Binding::Product)
    }
}

/// The product of matrices of `f` of the elements.
pub(super) fn product(x: &[Array], f: impl Fn(f64) -> f64) -> Vec<f64> {
    let rank = x[0].shape.rank();
    let (m, k) = (x[0].shape.dims()[rank - 2], x[0].shape.dims()[rank - 1]);
    let n = x[1].shape.dims()[rank - 1];
    let batch: usize = x[0].shape.dims()[..rank - 2].iter().product();
    let mut out = Vec::with_capacity(batch * m * n);
    for t in 0..batch {
        for i in 0..m {
            for j in 0..n {
                let term = |l| f(x[0].values[(t * m + i) * k + l]) * f(x[1].values[(t * k + l) * n + j]);
                out.push((0..k).map(term).sum());
            }
        }
    }
    out
}

impl<'g> Var<'g> {
    /// Matrix product with `b`; leading axes agree.
    #[track_caller]
    pub fn matmul(self, b: Var<'g>) -> Var<'g> {
        self.graph().apply(Matmul, &[self, b])
    }
}
