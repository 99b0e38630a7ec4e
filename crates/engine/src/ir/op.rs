//! The contract of an operation. One operation is one `impl Op` in its family's file and one line in the registry.

use std::fmt::Debug;
use std::sync::Arc;

use geartrain_kernels::{Routine, TileFn, View};

use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::types::{Axes, DType, MAX_RANK, Shape, Type};

/// What passes may assume about an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Each output element depends on the elements at the same place of its inputs, which all have its shape.
    Elementwise,
    /// Axes disappear into sums or maxima.
    Reduce,
    /// Matrix products.
    Contract,
    /// The same elements in another arrangement.
    Move,
    /// Elements chosen by index.
    Gather,
    /// Anything else; passes leave it alone.
    Opaque,
}

/// How an operation is computed.
#[derive(Clone, Debug)]
pub enum Kernel {
    /// An elementwise function, fused with its neighbours.
    Tile(TileFn),
    /// No work: its output is another view on its input's memory.
    View(Rearrange),
    /// Its inputs one behind another, computed where they will stand if `axis` is the outermost one that counts.
    Concat {
        /// Which axis.
        axis: usize,
        /// Where each input begins along it.
        starts: Vec<usize>,
    },
    /// A call of its own on the tape.
    Call(Routine),
}

/// The movement operations, as arithmetic on views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rearrange {
    /// The same elements in row-major order under another shape.
    Reshape(Shape),
    /// Output axis `i` is input axis `order[i]`.
    Permute([u8; MAX_RANK]),
    /// Missing leading axes and axes of length 1 repeated to the shape.
    Broadcast(Shape),
    /// Elements `start..start + len` of an axis.
    Slice {
        /// Which axis.
        axis: usize,
        /// First element.
        start: usize,
        /// Number of elements.
        len: usize,
    },
}

impl Rearrange {
    /// The output's view on the memory behind `x`, or `None` where the elements must be copied first (a reshape of
    /// elements that do not stand in order).
    pub fn view(&self, x: &View) -> Option<View> {
        let mut out = *x;
        match *self {
            Rearrange::Reshape(shape) => {
                out.strides = reshape_strides(x, shape)?;
                out.shape = shape;
                // Axes of length 1 have no stride to speak of: one form for all elements that stand in order.
                if out.is_contiguous() {
                    out.strides = shape.strides();
                }
            }
            Rearrange::Permute(order) => {
                for (to, from) in order.iter().enumerate().take(x.shape.rank()) {
                    out.shape = out.shape.with(to, x.shape.dims()[*from as usize]);
                    out.strides[to] = x.strides[*from as usize];
                }
            }
            Rearrange::Broadcast(shape) => {
                let lead = shape.rank() - x.shape.rank();
                out.shape = shape;
                for axis in 0..shape.rank() {
                    let repeated = axis < lead || x.shape.dims()[axis - lead] != shape.dims()[axis];
                    out.strides[axis] = if repeated { 0 } else { x.strides[axis - lead] };
                }
            }
            Rearrange::Slice { axis, start, len } => {
                out.shape = x.shape.with(axis, len);
                // Nothing stands nowhere: the offset of a value without elements stays inside its region.
                out.offset += if out.shape.count() == 0 { 0 } else { start * x.strides[axis] };
            }
        }
        Some(out)
    }
}

/// Strides that show the elements of `x` in row-major order under `shape`, where that needs no copy: runs of axes that
/// stand in order are merged and split freely.
fn reshape_strides(x: &View, shape: Shape) -> Option<[usize; MAX_RANK]> {
    let old: Vec<(usize, usize)> = x.shape.dims().iter().copied().zip(x.strides).filter(|(len, _)| *len != 1).collect();
    let mut strides = [0; MAX_RANK];
    if shape.count() == 0 {
        return Some(shape.strides());
    }
    let (mut i, mut axis) = (0, 0);
    while i < old.len() {
        // Take old axes i..j and new axes axis..k of equal element counts.
        let (mut j, mut k) = (i + 1, axis);
        let mut have = old[i].0;
        let mut want = 1;
        while have != want {
            if want < have {
                want *= shape.dims().get(k)?;
                k += 1;
            } else {
                have *= old.get(j)?.0;
                j += 1;
            }
        }
        if old[i..j].windows(2).any(|w| w[0].1 != w[1].0 * w[1].1) {
            return None;
        }
        let mut step = old[j - 1].1;
        for a in (axis..k).rev() {
            strides[a] = step;
            step *= shape.dims()[a];
        }
        (i, axis) = (j, k);
    }
    Some(strides)
}

/// One attribute of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attr {
    /// A whole number.
    Int(u64),
    /// A float, by its bits.
    Bits(u64),
    /// A set of axes.
    Axes(Axes),
    /// A shape.
    Shape(Shape),
    /// An order of axes.
    Order(Vec<u8>),
    /// An element type.
    DType(DType),
}

impl Attr {
    /// A float attribute.
    pub fn float(value: f64) -> Attr {
        Attr::Bits(value.to_bits())
    }
}

/// The attributes of an operation: a plain value, so that duplicates and printing stay generic.
pub type Attrs = Vec<(&'static str, Attr)>;

/// The cotangent of one input.
#[derive(Clone, Copy, Debug)]
pub enum Cotangent<'g> {
    /// A gradient flows; `None` where nobody asked for it.
    Flows(Option<Var<'g>>),
    /// The output does not change with this input almost everywhere.
    Zero,
    /// The output is this input, asked to count as a constant.
    Held,
    /// A gradient would be needed here but does not exist; why.
    Stops(&'static str),
}

/// What a vjp rule sees: y = op(x...) and the cotangent of y.
pub struct Vjp<'a, 'g> {
    /// The inputs.
    pub x: &'a [Var<'g>],
    /// The output.
    pub y: Var<'g>,
    /// The cotangent of the output: same type as `y`.
    pub ct: Var<'g>,
    pub(crate) wanted: &'a [bool],
}

impl<'g> Vjp<'_, 'g> {
    /// Whether somebody asks for the cotangent of input `i`.
    pub fn wants(&self, i: usize) -> bool {
        self.wanted[i]
    }

    /// The cotangent of input `i`, built only if somebody asks for it.
    pub fn flows(&self, i: usize, build: impl FnOnce() -> Var<'g>) -> Cotangent<'g> {
        let graph = self.y.graph();
        Cotangent::Flows(self.wanted[i].then(|| graph.for_operand(i, build)))
    }
}

/// What `explain` says about an operation.
#[derive(Clone, Copy, Debug)]
pub struct Explain {
    /// One sentence.
    pub what: &'static str,
    /// The formula, y of x.
    pub formula: &'static str,
    /// The derivative as a product with the cotangent `d_y`.
    pub derivative: &'static str,
    /// Where the derivative jumps and what is chosen there; empty where it is smooth.
    pub kinks: &'static str,
    /// What it costs.
    pub cost: &'static str,
}

/// How tightly an expression binds when printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binding {
    /// a + b, a - b
    Sum,
    /// a * b, a / b, a @ b
    Product,
    /// -a
    Negation,
    /// names, numbers, calls, methods
    Atom,
}

/// An expression as it is printed.
#[derive(Clone, Debug)]
pub struct Expr {
    /// The text.
    pub text: String,
    /// How tightly its outermost operator binds.
    pub binding: Binding,
    /// Values that the text names and that have no node of their own: name, text.
    pub lets: Vec<(String, String)>,
}

impl Expr {
    /// A name, a number or a call.
    pub fn atom(text: impl Into<String>) -> Expr {
        Expr { text: text.into(), binding: Binding::Atom, lets: Vec::new() }
    }

    /// `name(a, b)`.
    pub fn call(name: &str, args: &[Expr]) -> Expr {
        let texts: Vec<&str> = args.iter().map(|a| a.text.as_str()).collect();
        Expr::atom(format!("{name}({})", texts.join(", ")))
    }

    /// `a op b`, with parentheses where the reader needs them. Operators of equal strength group from the left.
    pub fn infix(a: &Expr, op: &str, b: &Expr, binding: Binding) -> Expr {
        let left = a.within(binding, false);
        let right = b.within(binding, !(op == "+" && binding == b.binding));
        Expr { text: format!("{left} {op} {right}"), binding, lets: Vec::new() }
    }

    /// `a * b`, written `a / n` where b is `1 / n`: it reads better, and is meant.
    pub fn product(a: &Expr, b: &Expr) -> Expr {
        match b.text.strip_prefix("1 / ").filter(|_| b.binding == Binding::Product) {
            Some(n) => Expr::infix(a, "/", &Expr::atom(n), Binding::Product),
            None => Expr::infix(a, "*", b, Binding::Product),
        }
    }

    /// The text, in parentheses if it binds less tightly than `binding` (or as tightly, when `strict`).
    pub fn within(&self, binding: Binding, strict: bool) -> String {
        match self.binding < binding || (strict && self.binding == binding && binding != Binding::Atom) {
            true => format!("({})", self.text),
            false => self.text.clone(),
        }
    }
}

/// A host value in f64, for references.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its shape.
    pub shape: Shape,
    /// Its numbers, row-major.
    pub values: Vec<f64>,
}

/// Which numbers a case draws for an input.
#[derive(Clone, Debug)]
pub enum Domain {
    /// Uniform in [low, high).
    Between(f64, f64),
    /// The same of dtype f32, whatever dtype the case runs in.
    Single(f64, f64),
    /// Uniform in [-3, 3) but at least 0.05 away from each of these kinks.
    Away(&'static [f64]),
    /// Whole numbers below the limit, as u32.
    Index(u32),
    /// A shuffle of evenly spaced numbers in [-2, 2): no two are close.
    Distinct,
    /// A float scalar of dtype f64 with this value, whatever dtype the case runs in.
    Scalar(f64),
}

/// One example of an operation, for every check there is.
#[derive(Clone, Debug)]
pub struct Case {
    /// The operation with its attributes.
    pub op: Arc<dyn Op>,
    /// Shape and numbers of each input.
    pub inputs: Vec<(Shape, Domain)>,
}

impl Case {
    /// A case of `op`.
    pub fn new(op: impl Op, inputs: Vec<(Shape, Domain)>) -> Case {
        Case { op: Arc::new(op), inputs }
    }
}

/// An operation. Every item is required: an operation without a derivative says so with a reason, not by omission.
///
/// Letters: `x` inputs, `y` output, `ct` the cotangent of `y`.
pub trait Op: Debug + Send + Sync + 'static {
    /// Its name in listings and errors.
    fn name(&self) -> &'static str;
    /// What passes may assume.
    fn kind(&self) -> Kind;
    /// Its attributes.
    fn attrs(&self) -> Attrs;
    /// The type of the output, or the rule that the inputs break.
    fn infer(&self, x: &[Type]) -> Result<Type, Rule>;
    /// How it is computed for inputs of these types (which [`Op::infer`] accepted).
    fn kernel(&self, x: &[Type]) -> Kernel;
    /// For a fused operation its definition in other operations; `None` for a primitive.
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>>;
    /// The cotangents of the inputs, one each. Builds graph nodes only, so gradients of gradients work.
    fn vjp<'g>(&self, rule: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>>;
    /// The obvious loops in f64: the referee of the kernel.
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64>;
    /// How far a kernel of unit roundoff `eps` may be from the reference, per output element.
    fn bound(&self, x: &[Array], y: &Array, eps: f64) -> Vec<f64>;
    /// What it is, for people.
    fn explain(&self) -> Explain;
    /// Examples at awkward sizes, inside the domain and away from kinks.
    fn cases(&self) -> Vec<Case>;
    /// Its infix or NumPy form.
    fn print(&self, x: &[Expr], types: &[Type]) -> Expr;
    /// Floating-point operations on inputs of these types, where its kind does not tell; `None`: as its kind.
    fn flops(&self, _x: &[Type]) -> Option<u64> {
        None
    }
    /// Operands that leave the other operand unchanged: (position, value). Mul: `[(0, 1.0), (1, 1.0)]`.
    fn neutral(&self) -> &'static [(usize, f64)] {
        &[]
    }
}
