//! What all elementwise operations on floats share: they differ in a function, its derivative, a text and a domain.

use std::fmt::Debug;

use geartrain_kernels::{Map, Params, TileFn};

use crate::ir::error::Rule;
use crate::ir::op::{Array, Attr, Attrs, Binding, Case, Cotangent, Domain, Explain, Expr, Kernel, Op, Vjp};
use crate::ir::types::{Shape, Type};

/// An elementwise function of `N` floats of one dtype and shape. Implementing it makes an [`Op`].
pub trait Pointwise<const N: usize>: Map<N> + Copy + Debug + Send + Sync + 'static {
    /// Name in listings and errors.
    const NAME: &'static str;
    /// What people read.
    const EXPLAIN: Explain;
    /// Largest error of the f32 function in units in the last place.
    const ULPS: f64;

    /// Attributes as numbers, handed to [`Map::map`].
    fn params(&self) -> Params {
        [0.0; 4]
    }
    /// The attributes' names, for listings; as many as are used.
    fn names(&self) -> &'static [&'static str] {
        &[]
    }
    /// The cotangents.
    fn vjp<'g>(&self, rule: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>>;
    /// The function in f64, written another way than [`Map::map`].
    fn reference(&self, x: [f64; N]) -> f64;
    /// Where cases draw the inputs from.
    fn domain(&self) -> [Domain; N];
    /// The attributes that cases run with: those of this one by default.
    fn examples(&self) -> Vec<Self> {
        vec![*self]
    }
    /// Its definition in other operations, if it is fused.
    fn expand<'g>(&self, _: &[crate::Var<'g>]) -> Option<crate::Var<'g>> {
        None
    }
    /// Its printed form; a call by default.
    fn print(&self, x: &[Expr]) -> Expr {
        Expr::call(Self::NAME, x)
    }
    /// Size of the numbers that rounding errors are relative to, for results that cancel: |y| by default.
    fn scale(&self, _: [f64; N], y: f64) -> f64 {
        y.abs()
    }
    /// See [`Op::neutral`].
    fn neutral(&self) -> &'static [(usize, f64)] {
        &[]
    }
}

/// Shapes that elementwise cases run at: none, one, and around the sizes of vectors and tiles.
pub fn awkward_shapes() -> Vec<Shape> {
    let mut shapes: Vec<Shape> = [0, 1, 3, 63, 64, 65, 256, 521].into_iter().map(|n| Shape::from([n])).collect();
    shapes.extend([Shape::SCALAR, Shape::from([3, 5]), Shape::from([2, 1, 7])]);
    shapes
}

/// `bound` for elementwise operations: `ulps` units in the last place of `scale`, and the smallest normal number.
pub fn ulps(scale: f64, ulps: f64, eps: f64) -> f64 {
    scale * ulps * 2.0 * eps + tiny(eps)
}

/// The smallest normal number of the dtype with unit roundoff `eps`: results below it may be rounded to anything there.
pub fn tiny(eps: f64) -> f64 {
    if eps > 1e-10 { f64::from(f32::MIN_POSITIVE) } else { f64::MIN_POSITIVE }
}

/// A number as Python reads it.
pub(crate) fn number(value: f64) -> Expr {
    let short = value == 0.0 || (1e-4..1e6).contains(&value.abs());
    let binding = if value < 0.0 { Binding::Negation } else { Binding::Atom };
    Expr { binding, ..Expr::atom(if short { value.to_string() } else { format!("{value:?}") }) }
}

fn gather<const N: usize>(x: &[Array], i: usize) -> [f64; N] {
    std::array::from_fn(|k| x[k].values[i])
}

/// Wraps each [`Pointwise`](crate::ops::pointwise::Pointwise) named with its arity into an [`Op`](crate::Op):
/// `pointwise!(Square: 1)`.
#[macro_export]
macro_rules! pointwise {
    ($($name:ty: $n:literal),* $(,)?) => { $(
        impl $crate::ir::op::Op for $name {
            fn name(&self) -> &'static str { <Self as $crate::ops::pointwise::Pointwise<$n>>::NAME }
            fn kind(&self) -> $crate::ir::op::Kind { $crate::ir::op::Kind::Elementwise }
            fn attrs(&self) -> $crate::ir::op::Attrs { $crate::ops::pointwise::attrs::<$n, _>(self) }
            fn infer(&self, x: &[$crate::ir::types::Type]) -> Result<$crate::ir::types::Type, $crate::ir::error::Rule> {
                $crate::ops::pointwise::infer($n, x)
            }
            fn kernel(&self, x: &[$crate::ir::types::Type]) -> $crate::ir::op::Kernel {
                $crate::ops::pointwise::kernel::<$n, Self>(self, x)
            }
            fn expand<'g>(&self, x: &[$crate::Var<'g>]) -> Option<$crate::Var<'g>> {
                $crate::ops::pointwise::Pointwise::<$n>::expand(self, x)
            }
            fn vjp<'g>(&self, rule: &$crate::ir::op::Vjp<'_, 'g>) -> Vec<$crate::ir::op::Cotangent<'g>> {
                $crate::ops::pointwise::Pointwise::<$n>::vjp(self, rule)
            }
            fn reference(&self, x: &[$crate::ir::op::Array], y: $crate::ir::types::Shape) -> Vec<f64> {
                $crate::ops::pointwise::reference::<$n, _>(self, x, y)
            }
            fn bound(&self, x: &[$crate::ir::op::Array], y: &$crate::ir::op::Array, eps: f64) -> Vec<f64> {
                $crate::ops::pointwise::bound::<$n, _>(self, x, y, eps)
            }
            fn explain(&self) -> $crate::ir::op::Explain { <Self as $crate::ops::pointwise::Pointwise<$n>>::EXPLAIN }
            fn cases(&self) -> Vec<$crate::ir::op::Case> { $crate::ops::pointwise::cases::<$n, Self>(self) }
            fn print(&self, x: &[$crate::ir::op::Expr], _: &[$crate::ir::types::Type]) -> $crate::ir::op::Expr {
                $crate::ops::pointwise::Pointwise::<$n>::print(self, x)
            }
            fn neutral(&self) -> &'static [(usize, f64)] { $crate::ops::pointwise::Pointwise::<$n>::neutral(self) }
        }
    )* };
}
pub use pointwise;

#[doc(hidden)]
pub fn attrs<const N: usize, P: Pointwise<N>>(op: &P) -> Attrs {
    op.names().iter().zip(op.params()).map(|(name, value)| (*name, Attr::float(value))).collect()
}

/// All inputs have one float type, which is the output's.
pub fn infer(arity: usize, x: &[Type]) -> Result<Type, Rule> {
    if x.len() != arity {
        return Err(Rule::new(format!("wants {arity} inputs, got {}", x.len())));
    }
    if let Some(t) = x.iter().find(|t| !t.dtype.is_float()) {
        return Err(Rule::new(format!("wants floats, got {}", t.dtype.name())).hint("cast it first"));
    }
    if x.iter().any(|t| t.dtype != x[0].dtype) {
        return Err(Rule::new("inputs differ in dtype").hint("cast one of them"));
    }
    if x.iter().any(|t| t.shape != x[0].shape) {
        return Err(Rule::new("inputs differ in shape").hint("broadcast them first"));
    }
    Ok(x[0])
}

#[doc(hidden)]
pub fn kernel<const N: usize, P: Pointwise<N>>(op: &P, x: &[Type]) -> Kernel {
    Kernel::Tile(TileFn::map::<N, P>(x[0].dtype, op.params()))
}

#[doc(hidden)]
pub fn reference<const N: usize, P: Pointwise<N>>(op: &P, x: &[Array], y: Shape) -> Vec<f64> {
    (0..y.count()).map(|i| op.reference(gather(x, i))).collect()
}

#[doc(hidden)]
pub fn bound<const N: usize, P: Pointwise<N>>(op: &P, x: &[Array], y: &Array, eps: f64) -> Vec<f64> {
    let at = |(i, v): (usize, &f64)| ulps(op.scale(gather(x, i), *v), P::ULPS, eps);
    y.values.iter().enumerate().map(at).collect()
}

#[doc(hidden)]
pub fn cases<const N: usize, P: Pointwise<N> + Op>(op: &P) -> Vec<Case> {
    let inputs = |op: &P, shape: Shape| op.domain().into_iter().map(|d| (shape, d)).collect();
    let all = |op: P| awkward_shapes().into_iter().map(move |shape| Case::new(op, inputs(&op, shape)));
    op.examples().into_iter().flat_map(all).collect()
}
