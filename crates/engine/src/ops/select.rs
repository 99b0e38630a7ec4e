//! Comparisons, where, cast.

use geartrain_kernels::math::Real;
use geartrain_kernels::{Compare, TileFn};

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attr, Attrs, Binding, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{DType, Shape, Type};
use crate::ops::pointwise::{self, awkward_shapes};

/// y = 1 where a < b, else 0.
#[derive(Clone, Copy, Debug)]
pub struct Less;
/// y = 1 where a ≤ b, else 0.
#[derive(Clone, Copy, Debug)]
pub struct LessEqual;
/// y = 1 where a = b, else 0.
#[derive(Clone, Copy, Debug)]
pub struct Equal;
/// y = a where the condition is not 0, else b.
#[derive(Clone, Copy, Debug)]
pub struct Where;
/// The same numbers in another dtype.
#[derive(Clone, Copy, Debug)]
pub struct Cast(pub DType);

const ANY: Domain = Domain::Between(-3.0, 3.0);
/// With [`NEAR_ZERO`] on the other side: both orders occur and no two are closer than 0.01.
pub(super) const AWAY: Domain = Domain::Away(&[0.0]);
pub(super) const NEAR_ZERO: Domain = Domain::Between(-0.04, 0.04);

fn exact(y: &Array) -> Vec<f64> {
    vec![0.0; y.values.len()]
}

/// What the three comparisons share: they differ in a relation, its sign and texts.
macro_rules! comparison {
    ($op:ident, $relation:tt, $name:literal, $swapped:literal, $explain:expr, $domains:expr) => {
        impl Compare for $op {
            #[inline(always)]
            fn compare<T: Real>(a: T, b: T) -> bool {
                a $relation b
            }
        }
        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn kind(&self) -> Kind {
                Kind::Elementwise
            }
            fn attrs(&self) -> Attrs {
                Vec::new()
            }
            fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
                pointwise::infer(2, x).map(|t| Type { dtype: DType::U32, ..t })
            }
            fn kernel(&self, x: &[Type]) -> Kernel {
                Kernel::Tile(TileFn::compare::<$op>(x[0].dtype))
            }
            fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
                None
            }
            fn vjp<'g>(&self, _: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
                vec![Cotangent::Zero, Cotangent::Zero]
            }
            fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
                let pairs = x[0].values.iter().zip(&x[1].values);
                pairs.map(|(a, b)| if a $relation b { 1.0 } else { 0.0 }).collect()
            }
            fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
                exact(y)
            }
            fn explain(&self) -> Explain {
                $explain
            }
            fn cases(&self) -> Vec<Case> {
                let [a, b] = $domains;
                let case = |s: Shape| Case::new($op, vec![(s, a.clone()), (s, b.clone())]);
                awkward_shapes().into_iter().map(case).collect()
            }
            fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
                print_comparison(x, stringify!($relation), $swapped)
            }
        }
    };
}

/// `(a < b)`, always in parentheses; a number on the left changes sides: `(x > 0)`.
fn print_comparison(x: &[Expr], sign: &str, swapped: &str) -> Expr {
    let number = |e: &Expr| e.text.parse::<f64>().is_ok();
    let (a, sign, b) = match number(&x[0]) && !number(&x[1]) {
        true => (&x[1], swapped, &x[0]),
        false => (&x[0], sign, &x[1]),
    };
    Expr::atom(format!("({} {sign} {})", a.text, b.text))
}

comparison!(
    Less,
    <,
    "less",
    ">",
    Explain {
        what: "Asks of each pair whether a is smaller than b.",
        formula: "y = 1 where a < b, else 0",
        derivative: "zero almost everywhere: a small change of a or b does not move it",
        kinks: "where a = b, where y jumps: the derivative is taken as 0",
        cost: "1 comparison an element",
    },
    [AWAY, NEAR_ZERO]
);
comparison!(
    LessEqual,
    <=,
    "less_equal",
    ">=",
    Explain {
        what: "Asks of each pair whether a is at most b.",
        formula: "y = 1 where a ≤ b, else 0",
        derivative: "zero almost everywhere: a small change of a or b does not move it",
        kinks: "where a = b, where y jumps: the derivative is taken as 0",
        cost: "1 comparison an element",
    },
    [AWAY, NEAR_ZERO]
);
comparison!(
    Equal,
    ==,
    "equal",
    "==",
    Explain {
        what: "Asks of each pair whether a and b are the same number; NaN is not even equal to itself.",
        formula: "y = 1 where a = b, else 0",
        derivative: "zero almost everywhere: numbers that are apart stay apart under a small change",
        kinks: "where a = b, where y jumps: the derivative is taken as 0",
        cost: "1 comparison an element",
    },
    // Two shuffles of the same numbers: some places agree.
    [Domain::Distinct, Domain::Distinct]
);

impl Op for Where {
    fn name(&self) -> &'static str {
        "where"
    }
    fn kind(&self) -> Kind {
        Kind::Elementwise
    }
    fn attrs(&self) -> Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [c, a, b] = x else { return Err(Rule::new(format!("wants 3 inputs, got {}", x.len()))) };
        if c.dtype != DType::U32 {
            return Err(Rule::new(format!("wants a condition of u32, got {}", c.dtype.name())).hint("compare it first"));
        }
        if a.dtype != b.dtype {
            return Err(Rule::new("its two sides differ in dtype").hint("cast one of them"));
        }
        if a.shape != b.shape || a.shape != c.shape {
            return Err(Rule::new("inputs differ in shape").hint("broadcast them first"));
        }
        Ok(*a)
    }
    fn kernel(&self, x: &[Type]) -> Kernel {
        Kernel::Tile(TileFn::select(x[1].dtype))
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let (c, zero) = (r.x[0], r.ct.number(0.0));
        vec![Cotangent::Zero, r.flows(1, || c.select(r.ct, zero)), r.flows(2, || c.select(zero, r.ct))]
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        (0..y.count()).map(|i| if x[0].values[i] != 0.0 { x[1].values[i] } else { x[2].values[i] }).collect()
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        exact(y)
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Takes each element from a or from b, as the condition says.",
            formula: "y = a where c ≠ 0, else b",
            derivative: "d_a = d_y where c ≠ 0, else 0; d_b is the rest; none for c, which is a whole number",
            kinks: "",
            cost: "1 selection an element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let case = |s: Shape| Case::new(Where, vec![(s, Domain::Index(2)), (s, ANY), (s, ANY)]);
        awkward_shapes().into_iter().map(case).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("where", x)
    }
}

impl Cast {
    pub(crate) const EXAMPLE: Cast = Cast(DType::F64);
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }
    fn kind(&self) -> Kind {
        Kind::Elementwise
    }
    fn attrs(&self) -> Attrs {
        vec![("dtype", Attr::DType(self.0))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        match x {
            [x] => Ok(Type { dtype: self.0, ..*x }),
            _ => Err(Rule::new(format!("wants 1 input, got {}", x.len()))),
        }
    }
    fn kernel(&self, x: &[Type]) -> Kernel {
        Kernel::Tile(TileFn::cast(x[0].dtype, self.0))
    }
    fn expand<'g>(&self, _: &[Var<'g>]) -> Option<Var<'g>> {
        None
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        let from = r.x[0].dtype();
        match from.is_float() && self.0.is_float() {
            true => vec![r.flows(0, || r.ct.cast(from))],
            false => vec![Cotangent::Zero],
        }
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        let whole = |v: &f64| if v.is_nan() { 0.0 } else { v.trunc().clamp(0.0, f64::from(u32::MAX)) };
        match self.0 {
            DType::U32 => x[0].values.iter().map(whole).collect(),
            _ => x[0].values.clone(),
        }
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        // Only f32 rounds, whatever dtype the numbers come from.
        let rounding = |v: &f64| v.abs() * f64::from(f32::EPSILON) / 2.0 + f64::from(f32::MIN_POSITIVE);
        match self.0 {
            DType::F32 => y.values.iter().map(rounding).collect(),
            _ => exact(y),
        }
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Gives the same numbers another dtype: a narrower float rounds to nearest, a whole number cuts off.",
            formula: "y = x",
            derivative: "d_x = d_y in the dtype of x between floats; zero from and to whole numbers",
            kinks: "",
            cost: "1 conversion an element",
        }
    }
    fn cases(&self) -> Vec<Case> {
        let to = |dtype: DType, domain: Domain| {
            let case = move |s: Shape| Case::new(Cast(dtype), vec![(s, domain.clone())]);
            awkward_shapes().into_iter().map(case)
        };
        let mut all: Vec<Case> = to(DType::F64, ANY).collect();
        all.extend(to(DType::F32, Domain::Index(100_000)));
        // Halves are far from the whole numbers where the result jumps.
        all.push(Case::new(Cast(DType::U32), vec![([65].into(), Domain::Between(7.1, 7.9))]));
        all.push(Case::new(Cast(DType::U32), vec![([3].into(), Domain::Between(-0.9, -0.1))]));
        all.push(Case::new(Cast(DType::F32), vec![([65].into(), ANY)]));
        all
    }
    fn print(&self, x: &[Expr], types: &[Type]) -> Expr {
        // A comparison counts as 0 or 1 in a product by itself.
        if types[0].dtype == DType::U32 && x[0].binding == Binding::Atom && x[0].text.starts_with('(') {
            return x[0].clone();
        }
        let name = match self.0 {
            DType::F32 => "float32",
            DType::F64 => "float64",
            DType::U32 => "uint32",
        };
        Expr::atom(format!("{}.astype({name})", x[0].within(Binding::Atom, false)))
    }
}

impl<'g> Var<'g> {
    /// 1 where it is smaller than `b`, else 0 (u32).
    #[track_caller]
    pub fn less(self, b: Var<'g>) -> Var<'g> {
        Var::elementwise(Less, &[self, b])
    }

    /// 1 where it is at most `b`, else 0 (u32).
    #[track_caller]
    pub fn less_equal(self, b: Var<'g>) -> Var<'g> {
        Var::elementwise(LessEqual, &[self, b])
    }

    /// 1 where it is larger than `b`, else 0 (u32).
    #[track_caller]
    pub fn greater(self, b: Var<'g>) -> Var<'g> {
        b.less(self)
    }

    /// 1 where it is at least `b`, else 0 (u32).
    #[track_caller]
    pub fn greater_equal(self, b: Var<'g>) -> Var<'g> {
        b.less_equal(self)
    }

    /// 1 where it equals `b`, else 0 (u32).
    #[track_caller]
    pub fn equal(self, b: Var<'g>) -> Var<'g> {
        Var::elementwise(Equal, &[self, b])
    }

    /// Elements of `a` where this condition (u32) is not 0, else of `b`.
    #[track_caller]
    pub fn select(self, a: Var<'g>, b: Var<'g>) -> Var<'g> {
        Var::elementwise(Where, &[self, a, b])
    }

    /// The same numbers in another dtype. Nothing to do where it has that dtype already.
    #[track_caller]
    pub fn cast(self, dtype: DType) -> Var<'g> {
        if dtype == self.dtype() && !self.is_poison() { self } else { self.graph().apply(Cast(dtype), &[self]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{gradient, text};
    use crate::{Graph, Init};

    #[test]
    fn comparisons_print_with_the_number_on_the_right() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F32, [3], Init::ZEROS);
        let y = g.parameter("y", DType::F32, [3], Init::ZEROS);
        assert_eq!(text(x.greater(x.number(0.0))), "(x > 0)");
        assert_eq!(text(x.greater_equal(x.number(0.5))), "(x >= 0.5)");
        assert_eq!(text(x.less(y + 1.0)), "(x < y + 1)");
        assert_eq!(text(x.less(y).cast(DType::F32) * x), "(x < y) * x");
        assert_eq!(text(x.less(y).select(x, y)), "where((x < y), x, y)");
        assert_eq!(text(x.cast(DType::F64)), "x.astype(float64)");
        assert_eq!(text((x + y).cast(DType::F64)), "(x + y).astype(float64)");
    }

    #[test]
    fn gradients_of_where() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F32, [3], Init::ZEROS);
        let y = g.parameter("y", DType::F32, [3], Init::ZEROS);
        let w = g.input("c", DType::U32, [3]).select(x, y).named("w");
        assert_eq!(text(gradient(w, x)), "where(c, d_w, 0)");
        assert_eq!(text(gradient(w, y)), "where(c, 0, d_w)");
    }

    #[test]
    fn ties_are_told_apart() {
        let at = |v: &[f64]| Array { shape: [v.len()].into(), values: v.to_vec() };
        let x = [at(&[1.0, 2.0, 3.0, f64::NAN]), at(&[2.0, 2.0, 2.0, 2.0])];
        assert_eq!(Less.reference(&x, [4].into()), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(LessEqual.reference(&x, [4].into()), [1.0, 1.0, 0.0, 0.0]);
        assert_eq!(Equal.reference(&x, [4].into()), [0.0, 1.0, 0.0, 0.0]);
        assert!(!Less::compare(2.0, 2.0) && LessEqual::compare(2.0, 2.0) && !Equal::compare(f64::NAN, f64::NAN));
    }

    #[test]
    fn cast_cuts_off_as_rust_does() {
        let values = vec![-1.5, -0.2, 0.9, 7.5, 5e9, f64::NAN];
        let x = [Array { shape: [6].into(), values: values.clone() }];
        let expected: Vec<f64> = values.iter().map(|v| f64::from(*v as u32)).collect();
        assert_eq!(Cast(DType::U32).reference(&x, [6].into()), expected);
    }

    #[test]
    fn the_same_dtype_needs_no_cast_and_a_float_is_no_condition() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F32, [3], Init::ZEROS);
        assert_eq!(x.cast(DType::F32).id(), x.id());
        assert!(x.select(x, x).is_poison());
        assert!(x.less(x.cast(DType::F64)).is_poison());
        assert_eq!(x.less(x.number(0.0)).ty(), Type::new(DType::U32, [3]));
    }
}
