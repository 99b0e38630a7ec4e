//! The kernels that a tape can call, by name.

use std::sync::Arc;

use crate::isa::Isa;
use crate::tape::{Bases, Fault, Step, Worker};
use crate::tiles::Instr;
use crate::view::{DType, View};
use crate::{attention, gather, gemm, pad, random, reduce, rows, tiles};

/// A kernel that a tape can call. Letters: `n` rows, `v` classes, `c` columns.
///
/// Floats of one call share one dtype unless said otherwise. Outputs are row-major; inputs may have any strides unless
/// said otherwise.
#[derive(Clone, Debug)]
pub enum Routine {
    /// A chain of elementwise instructions, run tile by tile. All views have one shape. Output `k` is the value of
    /// instruction `results[k]`. An output may stand exactly on an input.
    Tiles {
        /// The chain, in order.
        instrs: Vec<Instr>,
        /// The instruction that gives each output.
        results: Vec<usize>,
    },
    /// Sum over the axes whose bit is set; the output has those axes with length 1. Each sum has one order, fixed by
    /// the shape.
    Sum {
        /// A bit for each axis.
        axes: u8,
    },
    /// Largest element over the axes whose bit is set, as [`Routine::Sum`]. NaN wins. No elements: -inf.
    Max {
        /// A bit for each axis.
        axes: u8,
    },
    /// Index (u32) of the first largest element along the last axis; the output lacks that axis.
    Argmax,
    /// out\[i\] = x\[0\] + .. + x\[i\] along `axis`, added one by one; `reverse`: x\[i\] + .. + x\[n - 1\], from the last one.
    CumSum {
        /// Which axis.
        axis: usize,
        /// Whether it begins at the end.
        reverse: bool,
    },
    /// out (.., k) u32 = positions of the `k` largest elements of each row (.., n), the largest first; of equal ones the
    /// first one first, NaN before all.
    TopK {
        /// How many, from 1 to n.
        k: usize,
    },
    /// out (.., k) = for each row the elements of x (.., n) at indices (.., k) u32; inputs: x, indices.
    TakeAlong,
    /// out (.., n) = for each row the sum of the elements of ct (.., k) whose index it is; inputs: indices (.., k) u32, ct.
    AddAlong,
    /// out (indices.., v) floats = 1 at the index of each row, else 0; input: indices u32.
    OneHot,
    /// Input `k` at `starts[k]` along `axis` of an output that is 0 elsewhere; the other axes agree, and the inputs
    /// stand in order without overlap.
    Pad {
        /// Which axis.
        axis: usize,
        /// Where each input begins.
        starts: Vec<usize>,
    },
    /// out (.., m, n) = a (.., m, k) @ b (.., k, n); batch axes agree, strides are free.
    Matmul,
    /// The same of f32, each element rounded to bfloat16, subnormals and sums that become subnormal to 0.
    MatmulBf16,
    /// A matrix product and a chain of elementwise instructions on it, run on each part of the product while it is in a
    /// near cache; its bits are those of two calls. Output 0 is where the product goes; the inputs are those of the
    /// product, then those of the chain, whose [`Arg::Input`](crate::Arg::Input) 0 is the product and 1 the first of its own.
    Followed {
        /// The product.
        product: Box<Routine>,
        /// The chain, in order.
        instrs: Vec<Instr>,
        /// The instruction that gives each output; of those but output 0 if the product is kept there.
        results: Vec<usize>,
        /// Whether the product stays in output 0; else the first result takes its place.
        keeps: bool,
    },
    /// `out (indices.., c..) = table (v, c..)[indices]`; indices u32.
    Gather,
    /// out (v, c..) = sum of the rows of ct (indices.., c..) whose index it is; inputs: indices u32, ct.
    ScatterAdd,
    /// out = base (v, c..) with row indices\[i\] replaced by row i of rows (indices.., c..), the last one staying; inputs:
    /// base, indices u32, rows.
    Scatter,
    /// Softmax along the last axis, subtracting the row's maximum. The output may stand exactly on the input.
    Softmax,
    /// Logarithm of softmax along the last axis. The output may stand exactly on the input.
    LogSoftmax,
    /// `out (n) = log(sum(exp(logits))) - logits[target]`; inputs: logits (n, v), targets (n) u32.
    CrossEntropy,
    /// out (n, v) = (softmax(logits) - onehot(targets)) * ct; inputs: logits (n, v), targets (n) u32, ct (n). The
    /// output may stand exactly on the logits.
    CrossEntropyGrad,
    /// out () = mean((a - y)²); inputs of one shape.
    MeanSquaredError,
    /// y = (x - mean) / sqrt(variance + eps) along the last axis. The output may stand exactly on the input.
    Normalize {
        /// Keeps the division finite.
        eps: f64,
    },
    /// Cotangent of x for [`Routine::Normalize`]; inputs: x, ct. The output may stand exactly on one of them.
    NormalizeGrad {
        /// Keeps the division finite.
        eps: f64,
    },
    /// y = x / sqrt(mean(x²) + eps) along the last axis. The output may stand exactly on the input.
    RmsNormalize {
        /// Keeps the division finite.
        eps: f64,
    },
    /// Cotangent of x for [`Routine::RmsNormalize`]; inputs: x, ct. The output may stand exactly on one of them.
    RmsNormalizeGrad {
        /// Keeps the division finite.
        eps: f64,
    },
    /// y (b, t, c) = softmax(q kᵀ / sqrt(c / heads), each token looking at itself and those before it) v for each head;
    /// input qkv (b, t, 3c): columns of queries, keys and values, in each of them head by head. Row-major.
    Attention {
        /// Number of heads; divides c.
        heads: usize,
    },
    /// Cotangent of qkv for [`Routine::Attention`]; inputs: qkv, ct (b, t, c), row-major.
    AttentionGrad {
        /// Number of heads; divides c.
        heads: usize,
    },
    /// out (n, c..) = 0 with probability `rate`, else 1 / (1 - rate). Row r of step s draws from the counter generator
    /// with key `seed` and counter (stream, s, first_row + r, column block): how a batch is split changes nothing.
    /// Inputs: step () f64, first_row () f64.
    DropoutMask {
        /// Probability of 0.
        rate: f64,
        /// Key of the generator.
        seed: u64,
        /// Number of the dropout layer.
        stream: u32,
    },
    /// out () f64 = sqrt of the sum of all squares of all inputs, summed in f64; inputs row-major floats.
    GlobalNorm,
    /// A safe function over row-major inputs and one output.
    Custom(CustomFn),
}

/// The data of a row-major view, lent to a [`CustomFn`].
#[derive(Clone, Copy, Debug)]
pub enum Slice<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// 64-bit floats.
    F64(&'a [f64]),
    /// 32-bit integers.
    U32(&'a [u32]),
}

/// The output of a [`CustomFn`].
#[derive(Debug)]
pub enum SliceMut<'a> {
    /// 32-bit floats.
    F32(&'a mut [f32]),
    /// 64-bit floats.
    F64(&'a mut [f64]),
    /// 32-bit integers.
    U32(&'a mut [u32]),
}

type CustomBody = dyn Fn(&[Slice<'_>], SliceMut<'_>) + Send + Sync;

/// A user's own kernel: a safe function over at most [`CustomFn::MAX_INPUTS`] row-major inputs and one output.
#[derive(Clone)]
pub struct CustomFn(Arc<CustomBody>);

impl CustomFn {
    /// The most inputs a custom kernel may have.
    pub const MAX_INPUTS: usize = 8;

    /// Wraps a function. It must write every element of its output: what stands there before is stale.
    pub fn new(body: impl Fn(&[Slice<'_>], SliceMut<'_>) + Send + Sync + 'static) -> CustomFn {
        CustomFn(Arc::new(body))
    }
}

impl std::fmt::Debug for CustomFn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CustomFn")
    }
}

impl Routine {
    /// The routine's name, as profiles and errors print it.
    pub fn name(&self) -> &'static str {
        match self {
            Routine::Tiles { .. } => "tiles",
            Routine::Sum { .. } => "sum",
            Routine::Max { .. } => "max",
            Routine::Argmax => "argmax",
            Routine::CumSum { .. } => "cumsum",
            Routine::TopK { .. } => "top_k",
            Routine::TakeAlong => "take_along",
            Routine::AddAlong => "add_along",
            Routine::OneHot => "one_hot",
            Routine::Pad { .. } => "pad",
            Routine::Matmul => "matmul",
            Routine::Followed { product, .. } => product.name(),
            Routine::MatmulBf16 => "matmul_bf16",
            Routine::Gather => "gather",
            Routine::ScatterAdd => "scatter_add",
            Routine::Scatter => "scatter",
            Routine::Softmax => "softmax",
            Routine::LogSoftmax => "log_softmax",
            Routine::CrossEntropy => "cross_entropy",
            Routine::CrossEntropyGrad => "cross_entropy_grad",
            Routine::MeanSquaredError => "mean_squared_error",
            Routine::Normalize { .. } => "normalize",
            Routine::NormalizeGrad { .. } => "normalize_grad",
            Routine::RmsNormalize { .. } => "rms_normalize",
            Routine::RmsNormalizeGrad { .. } => "rms_normalize_grad",
            Routine::Attention { .. } => "attention",
            Routine::AttentionGrad { .. } => "attention_grad",
            Routine::DropoutMask { .. } => "dropout_mask",
            Routine::GlobalNorm => "global_norm",
            Routine::Custom(_) => "custom",
        }
    }

    /// Whether a chain may follow it in one call ([`Routine::Followed`]).
    pub fn may_be_followed(&self) -> bool {
        matches!(self, Routine::Matmul | Routine::MatmulBf16)
    }

    /// Whether its inputs must be row-major.
    pub fn wants_row_major(&self) -> bool {
        matches!(
            self,
            Routine::Attention { .. } | Routine::AttentionGrad { .. } | Routine::GlobalNorm | Routine::Custom(_)
        )
    }

    /// Whether an output may stand exactly on an input: each element, or each row, is read before it is written.
    pub fn in_place(&self) -> bool {
        matches!(
            self,
            Routine::Tiles { .. }
                | Routine::Softmax
                | Routine::LogSoftmax
                | Routine::CrossEntropyGrad
                | Routine::Normalize { .. }
                | Routine::NormalizeGrad { .. }
                | Routine::RmsNormalize { .. }
                | Routine::RmsNormalizeGrad { .. }
        )
    }

    /// Checks shapes and dtypes and resolves the call. Bounds, row-major outputs and overlaps are checked already.
    pub(crate) fn build(&self, isa: Isa, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
        match self {
            Routine::Tiles { instrs, results } => tiles::build(isa, instrs, results, outs, ins),
            Routine::Sum { axes } => reduce::build(isa, reduce::Fold::Sum, *axes, outs, ins),
            Routine::Max { axes } => reduce::build(isa, reduce::Fold::Max, *axes, outs, ins),
            Routine::Argmax => reduce::argmax(isa, outs, ins),
            Routine::CumSum { axis, reverse } => reduce::cumsum(isa, *axis, *reverse, outs, ins),
            Routine::TopK { k } => rows::top_k(isa, *k, outs, ins),
            Routine::TakeAlong => rows::take_along(isa, outs, ins),
            Routine::AddAlong => rows::add_along(isa, outs, ins),
            Routine::OneHot => rows::one_hot(isa, outs, ins),
            Routine::Pad { axis, starts } => pad::build(isa, *axis, starts, outs, ins),
            Routine::Matmul => gemm::build(isa, outs, ins, None),
            Routine::MatmulBf16 => gemm::bf16::build(isa, outs, ins, None),
            Routine::Followed { product, instrs, results, keeps } => {
                followed(isa, product, (instrs, results, *keeps), outs, ins)
            }
            Routine::Gather => gather::gather(isa, outs, ins),
            Routine::ScatterAdd => gather::scatter_add(isa, outs, ins),
            Routine::Scatter => gather::scatter(isa, outs, ins),
            Routine::Softmax => rows::softmax(isa, outs, ins),
            Routine::LogSoftmax => rows::log_softmax(isa, outs, ins),
            Routine::CrossEntropy => rows::cross_entropy(isa, outs, ins),
            Routine::CrossEntropyGrad => rows::cross_entropy_grad(isa, outs, ins),
            Routine::MeanSquaredError => reduce::mean_squared_error(isa, outs, ins),
            Routine::Normalize { eps } => rows::normalize(isa, *eps, outs, ins),
            Routine::NormalizeGrad { eps } => rows::normalize_grad(isa, *eps, outs, ins),
            Routine::RmsNormalize { eps } => rows::rms_normalize(isa, *eps, outs, ins),
            Routine::RmsNormalizeGrad { eps } => rows::rms_normalize_grad(isa, *eps, outs, ins),
            Routine::Attention { heads } => attention::forward(isa, *heads, outs, ins),
            Routine::AttentionGrad { heads } => attention::backward(isa, *heads, outs, ins),
            Routine::DropoutMask { rate, seed, stream } => random::dropout_mask(isa, *rate, *seed, *stream, outs, ins),
            Routine::GlobalNorm => reduce::global_norm(isa, outs, ins),
            Routine::Custom(body) => custom(body, outs, ins),
        }
    }
}

/// The step of a product and the chain behind it.
fn followed(
    isa: Isa,
    product: &Routine,
    (instrs, results, keeps): (&[Instr], &[usize], bool),
    outs: &[View],
    ins: &[View],
) -> Result<Box<dyn Step>, String> {
    let ([first, rest @ ..], [a, b, others @ ..]) = (outs, ins) else {
        return Err("a product has an output and two inputs".to_string());
    };
    let given = if keeps { rest } else { outs };
    let taken: Vec<View> = std::iter::once(first).chain(others).copied().collect();
    let chain = Some(tiles::chain(isa, instrs, results, given, &taken)?);
    match product {
        Routine::Matmul => gemm::build(isa, &[*first], &[*a, *b], chain),
        Routine::MatmulBf16 => gemm::bf16::build(isa, &[*first], &[*a, *b], chain),
        other => Err(format!("a chain does not follow {}", other.name())),
    }
}

struct Custom {
    body: CustomFn,
    out: View,
    ins: Vec<View>,
}

fn custom(body: &CustomFn, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    let ([out], true) = (outs, ins.len() <= CustomFn::MAX_INPUTS) else {
        return Err(format!("a custom kernel has one output and at most {} inputs", CustomFn::MAX_INPUTS));
    };
    if let Some(i) = ins.iter().position(|v| !v.is_contiguous()) {
        return Err(format!("input {i} is not row-major"));
    }
    Ok(Box::new(Custom { body: body.clone(), out: *out, ins: ins.to_vec() }))
}

impl Step for Custom {
    unsafe fn run(&self, bases: &Bases, _: &Worker) -> Result<(), Fault> {
        let mut slices = [Slice::U32(&[]); CustomFn::MAX_INPUTS];
        // SAFETY: views are row-major, in bounds and apart from the output (checked when built).
        let out = unsafe {
            for (slice, view) in slices.iter_mut().zip(&self.ins) {
                let n = view.shape.count();
                *slice = match view.dtype {
                    DType::F32 => Slice::F32(std::slice::from_raw_parts(bases.ptr(view), n)),
                    DType::F64 => Slice::F64(std::slice::from_raw_parts(bases.ptr(view), n)),
                    DType::U32 => Slice::U32(std::slice::from_raw_parts(bases.ptr(view), n)),
                };
            }
            let n = self.out.shape.count();
            match self.out.dtype {
                DType::F32 => SliceMut::F32(std::slice::from_raw_parts_mut(bases.ptr(&self.out), n)),
                DType::F64 => SliceMut::F64(std::slice::from_raw_parts_mut(bases.ptr(&self.out), n)),
                DType::U32 => SliceMut::U32(std::slice::from_raw_parts_mut(bases.ptr(&self.out), n)),
            }
        };
        (self.body.0)(&slices[..self.ins.len()], out);
        Ok(())
    }
}
