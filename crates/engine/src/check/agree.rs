//! The kernel of one operation against its reference, and its bits on every path.

use geartrain_kernels::isa::Isa;

use crate::check::compiled::Compiled;
use crate::check::interpret::{Feed, apply};
use crate::check::{Check, Failure, sample};
use crate::ir::graph::Graph;
use crate::ir::op::{Array, Case, Op};
use crate::ir::types::{DType, Data, Shape, Tensor};
use crate::ops::layout::Transpose;
use crate::run::program::Options;

/// Numbers of threads that must give the same bits.
const THREADS: [usize; 2] = [1, 3];

/// The unit roundoff of a float type.
pub fn roundoff(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(f32::EPSILON) / 2.0,
        _ => f64::EPSILON / 2.0,
    }
}

/// Compiles one case alone in `dtype` and compares it with the reference. Gives the largest |kernel − reference| as a
/// share of the bound that the operation declares (0 where both are equal).
pub fn check_kernel(case: &Case, dtype: DType, seed: u64, failures: &mut Vec<Failure>) -> f64 {
    let check = if dtype == DType::F32 { Check::KernelF32 } else { Check::KernelF64 };
    let on = sample::describe(case);
    compare(case, dtype, seed, check, &on, failures).unwrap_or_else(|failure| {
        failures.push(failure);
        f64::INFINITY
    })
}

fn compare(
    case: &Case,
    dtype: DType,
    seed: u64,
    check: Check,
    on: &str,
    failures: &mut Vec<Failure>,
) -> Result<f64, Failure> {
    let graph = Graph::new();
    let x = sample::declare(&graph, case, dtype);
    let y = graph.apply_shared(case.op.clone(), &x);
    graph.output("y", y);
    graph.check().map_err(|e| Failure::new(Check::Types, on, e.to_string()))?;
    let before = sample::inputs(case, dtype, seed ^ 0x5eed);
    let inputs = sample::inputs(case, dtype, seed);
    let mut first: Option<(String, Tensor)> = None;
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        for threads in THREADS {
            let path = format!("{isa:?} with {threads} threads");
            let mut program = Compiled::new(&graph, Options { threads, isa }, check, on)?;
            // Other numbers first: what a kernel forgets to write is then stale, not zero.
            program.run(&feed(&before))?;
            program.run(&feed(&inputs))?;
            let found = program.output("y")?;
            match &first {
                None => first = Some((path, found)),
                Some((path0, y0)) => {
                    if let Some(what) = different_bits(y0, &found) {
                        let what = format!("{path0} and {path} differ in {}: {what} (seed {seed})", dtype.name());
                        failures.push(Failure::new(Check::Bits, on, what));
                    }
                }
            }
        }
    }
    let Some((path, found)) = first else { return Ok(0.0) };
    if let Some(what) = different_bits(&found, &turned(case, dtype, &inputs, check, on)?) {
        let what = format!("{path} and strided inputs differ in {}: {what} (seed {seed})", dtype.name());
        failures.push(Failure::new(Check::Bits, on, what));
    }
    let wanted = apply(&case.op, &inputs, y.shape()).map_err(|e| Failure::new(check, on, e.to_string()))?;
    // An operation may have an f32 result (a cast, a mask) or input in a case that runs in f64.
    let eps = x.iter().chain([&y]).map(|v| roundoff(v.dtype())).fold(roundoff(dtype), f64::max);
    let bound = case.op.bound(&inputs, &wanted, eps);
    let (worst, what) = worst(&found, &wanted, &bound);
    if let Some(what) = what {
        failures.push(Failure::new(check, on, format!("{what} (seed {seed})")));
    }
    Ok(worst)
}

/// The result where every input with several axes stands in memory with its axes reversed: strides must not change a
/// bit.
fn turned(case: &Case, dtype: DType, inputs: &[Array], check: Check, on: &str) -> Result<Tensor, Failure> {
    let graph = Graph::new();
    let (mut x, mut values) = (Vec::new(), Vec::new());
    for (i, (value, (_, domain))) in inputs.iter().zip(&case.inputs).enumerate() {
        let order: Vec<usize> = (0..value.shape.rank()).rev().collect();
        let dims: Vec<usize> = value.shape.dims().iter().rev().copied().collect();
        let (Some(op), Some(shape)) = (Transpose::new(&order), Shape::checked(&dims)) else { continue };
        values.push(Array { shape, values: op.reference(std::slice::from_ref(value), shape) });
        x.push(graph.input(&format!("x{i}"), sample::dtype_of(domain, dtype), shape).transpose(&order));
    }
    graph.output("y", graph.apply_shared(case.op.clone(), &x));
    let mut program = Compiled::new(&graph, Options { threads: 1, isa: Isa::best() }, check, on)?;
    program.run(&feed(&values))?;
    program.output("y")
}

fn feed(inputs: &[Array]) -> Feed {
    let mut feed = Feed::new();
    for (i, value) in inputs.iter().enumerate() {
        feed.set(&format!("x{i}"), value.clone());
    }
    feed
}

/// The largest difference as a share of its bound, and what is wrong at the worst element.
pub(crate) fn worst(found: &Tensor, wanted: &Array, bound: &[f64]) -> (f64, Option<String>) {
    let values = found.to_f64();
    if values.len() != wanted.values.len() || bound.len() != values.len() {
        let what =
            format!("{} numbers, {} in the reference, {} bounds", values.len(), wanted.values.len(), bound.len());
        return (f64::INFINITY, Some(what));
    }
    let (mut worst, mut what) = (0.0, None);
    for i in 0..values.len() {
        let share = share(values[i], wanted.values[i], bound[i], found.ty().dtype);
        if share > worst {
            worst = share;
            let (v, w, b) = (values[i], wanted.values[i], bound[i]);
            what = (share > 1.0).then(|| {
                format!("element {i}: kernel {v:e}, reference {w:e}, {:.1e} apart, bound {b:.1e}", (v - w).abs())
            });
        }
    }
    (worst, what)
}

/// |found − wanted| / bound; 0 where they are the same number, or both NaN; infinite beyond comparison.
fn share(found: f64, wanted: f64, bound: f64, dtype: DType) -> f64 {
    // A reference beyond the largest f32 asks for an infinity.
    let overflows = dtype == DType::F32 && f64::from(wanted as f32) == found && found.is_infinite();
    if found == wanted || overflows || (found.is_nan() && wanted.is_nan()) {
        return 0.0;
    }
    let share = (found - wanted).abs() / bound;
    // A bound that allows everything is none.
    if dtype == DType::U32 || share.is_nan() || !bound.is_finite() { f64::INFINITY } else { share }
}

/// The first element whose bits differ. Payloads of NaN do not count.
pub fn different_bits(a: &Tensor, b: &Tensor) -> Option<String> {
    let first = |n: usize, at: &dyn Fn(usize) -> Option<String>| (0..n).find_map(at);
    match (a.data(), b.data()) {
        _ if a.ty() != b.ty() => Some(format!("{} and {}", a.ty(), b.ty())),
        (Data::F32(a), Data::F32(b)) => first(a.len(), &|i| {
            let same = a[i].to_bits() == b[i].to_bits() || (a[i].is_nan() && b[i].is_nan());
            (!same).then(|| format!("element {i} is {:e} and {:e}", a[i], b[i]))
        }),
        (Data::F64(a), Data::F64(b)) => first(a.len(), &|i| {
            let same = a[i].to_bits() == b[i].to_bits() || (a[i].is_nan() && b[i].is_nan());
            (!same).then(|| format!("element {i} is {:e} and {:e}", a[i], b[i]))
        }),
        (Data::U32(a), Data::U32(b)) => {
            first(a.len(), &|i| (a[i] != b[i]).then(|| format!("element {i} is {} and {}", a[i], b[i])))
        }
        _ => Some("different dtypes".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        assert_eq!(share(1.0, 1.0, 0.0, DType::F32), 0.0);
        assert_eq!(share(f64::NAN, f64::NAN, 0.0, DType::F32), 0.0);
        assert_eq!(share(1.5, 1.0, 0.25, DType::F64), 2.0);
        assert!(share(1.0, 2.0, 0.0, DType::F64).is_infinite());
        assert!(share(f64::NAN, 1.0, 1.0, DType::F32).is_infinite());
        assert!(share(1.0, f64::NAN, 1.0, DType::F32).is_infinite());
        assert!(share(3.0, 4.0, 100.0, DType::U32).is_infinite());
        assert!(share(1.0, 2.0, f64::INFINITY, DType::F32).is_infinite());
        assert_eq!(share(f64::INFINITY, 1e39, 1.0, DType::F32), 0.0);
        assert!(share(f64::INFINITY, 1e38, 1.0, DType::F32).is_infinite());
    }

    #[test]
    fn bits_tell_zeros_apart() {
        let t = |v: f64| Tensor::scalar(DType::F32, v);
        assert!(different_bits(&t(0.0), &t(-0.0)).is_some());
        assert!(different_bits(&t(f64::NAN), &t(f64::NAN)).is_none());
    }
}
