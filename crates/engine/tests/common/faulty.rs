//! Operations with one wrong item: decorators around sound ones.

use std::sync::Arc;

use geartrain_engine::ir::op::Attrs;
use geartrain_engine::{Array, Case, Cotangent, Explain, Expr, Kernel, Kind, Op, Rule, Shape, Type, Var, Vjp};

/// Cotangents of the inputs.
pub type VjpRule = for<'a, 'g> fn(&Vjp<'a, 'g>) -> Vec<Cotangent<'g>>;
/// A definition in other operations.
pub type Definition = for<'g> fn(&dyn Op, &[Var<'g>]) -> Option<Var<'g>>;

/// The one item of an operation that is wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Vjp(VjpRule),
    Kernel(fn(&[Type]) -> Kernel),
    Reference(fn(&dyn Op, &[Array], Shape) -> Vec<f64>),
    Expand(Definition),
}

/// An operation with a fault.
#[derive(Clone, Debug)]
pub struct Faulty {
    pub op: Arc<dyn Op>,
    pub fault: Fault,
}

impl Op for Faulty {
    fn name(&self) -> &'static str {
        self.op.name()
    }
    fn kind(&self) -> Kind {
        self.op.kind()
    }
    fn attrs(&self) -> Attrs {
        self.op.attrs()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        self.op.infer(x)
    }
    fn kernel(&self, x: &[Type]) -> Kernel {
        if let Fault::Kernel(kernel) = self.fault { kernel(x) } else { self.op.kernel(x) }
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        if let Fault::Expand(expand) = self.fault { expand(&*self.op, x) } else { self.op.expand(x) }
    }
    fn vjp<'g>(&self, rule: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        if let Fault::Vjp(vjp) = self.fault { vjp(rule) } else { self.op.vjp(rule) }
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        if let Fault::Reference(wrong) = self.fault { wrong(&*self.op, x, y) } else { self.op.reference(x, y) }
    }
    fn bound(&self, x: &[Array], y: &Array, eps: f64) -> Vec<f64> {
        self.op.bound(x, y, eps)
    }
    fn explain(&self) -> Explain {
        self.op.explain()
    }
    fn cases(&self) -> Vec<Case> {
        self.op.cases().into_iter().map(|case| faulty(case, self.fault)).collect()
    }
    fn print(&self, x: &[Expr], types: &[Type]) -> Expr {
        self.op.print(x, types)
    }
    fn tangent(&self, x: &[Array], dx: &[Array]) -> Option<Vec<f64>> {
        self.op.tangent(x, dx)
    }
}

/// A case with a fault in its operation.
pub fn faulty(case: Case, fault: Fault) -> Case {
    Case { op: Arc::new(Faulty { op: case.op, fault }), inputs: case.inputs }
}
