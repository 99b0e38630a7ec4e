//! All checks of one operation, over its cases.

use std::fmt::Write;

use crate::check::agree::check_kernel;
use crate::check::definition::check_definition;
use crate::check::derivative::check_derivatives;
use crate::check::{Failure, sample};
use crate::ir::op::{Case, Op};
use crate::ir::types::{DType, Type};
use crate::ops::OPS;

/// What the checks of one operation found.
#[derive(Clone, Debug, PartialEq)]
pub struct OpReport {
    /// Its name.
    pub op: String,
    /// How many cases were checked.
    pub cases: usize,
    /// The seed of all random numbers.
    pub seed: u64,
    /// f64 kernel against the reference: the largest share of the operation's own bound.
    pub kernel_f64: f64,
    /// f32 kernel against the reference: the largest share of the operation's own bound.
    pub kernel_f32: f64,
    /// First derivatives against differences: the largest |a − n| / (1 + max(|a|, |n|)).
    pub first: f64,
    /// Second derivatives, as `first`.
    pub second: f64,
    /// Both against derivatives found forwards; `None` where no gradient flows, or where one could not be found.
    pub forward: Option<f64>,
    /// Directions in which no derivative could be found forwards.
    pub unrefereed: usize,
    /// Both from the compiled program.
    pub compiled: f64,
    /// Fused against definition: the largest relative difference; `None` for a primitive.
    pub definition: Option<f64>,
    /// What did not hold.
    pub failures: Vec<Failure>,
}

impl OpReport {
    /// Whether every check held.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Checks one operation over its own cases.
pub fn check_op(op: &dyn Op, seed: u64) -> OpReport {
    check_cases(op.name(), &op.cases(), seed)
}

/// Checks some cases of an operation.
pub fn check_cases(op: &str, cases: &[Case], seed: u64) -> OpReport {
    let mut report = OpReport {
        op: op.to_string(),
        cases: cases.len(),
        seed,
        kernel_f64: 0.0,
        kernel_f32: 0.0,
        first: 0.0,
        second: 0.0,
        forward: None,
        unrefereed: 0,
        compiled: 0.0,
        definition: None,
        failures: Vec::new(),
    };
    for (i, case) in cases.iter().enumerate() {
        let seed = seed.wrapping_add(i as u64);
        let failures = &mut report.failures;
        report.kernel_f64 = report.kernel_f64.max(check_kernel(case, DType::F64, seed, failures));
        report.kernel_f32 = report.kernel_f32.max(check_kernel(case, DType::F32, seed, failures));
        let errors = check_derivatives(case, seed, failures);
        report.first = report.first.max(errors.first);
        report.second = report.second.max(errors.second);
        report.compiled = report.compiled.max(errors.compiled);
        report.unrefereed += errors.unrefereed;
        report.forward = larger(report.forward, errors.forward);
        report.definition = larger(report.definition, check_definition(case, seed, failures));
    }
    report
}

fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

/// Checks every operation of the registry.
pub fn check_all(seed: u64) -> Vec<OpReport> {
    OPS.iter().map(|op| check_op(*op, seed)).collect()
}

/// Reports as aligned text, failures below.
pub fn table(reports: &[OpReport]) -> String {
    let width = reports.iter().map(|r| r.op.len()).max().unwrap_or(0).max("op".len());
    let columns = ["f64/bound", "f32/bound", "first", "second", "forward", "compiled", "definition"];
    let mut text = format!("{:width$}  cases", "op");
    for column in columns {
        let _ = write!(text, "  {column:>10}");
    }
    for r in reports {
        let _ = write!(text, "\n{:width$}  {:>5}  {:>10.2}  {:>10.2}", r.op, r.cases, r.kernel_f64, r.kernel_f32);
        for error in [Some(r.first), Some(r.second), r.forward, Some(r.compiled), r.definition] {
            let cell = error.map_or("-".to_string(), |e| format!("{e:.1e}"));
            let _ = write!(text, "  {cell:>10}");
        }
        text.push_str(if r.passed() { "" } else { "  FAILED" });
    }
    text.push('\n');
    for failure in reports.iter().flat_map(|r| &r.failures) {
        let _ = writeln!(text, "{failure}");
    }
    text
}

/// Whether some case of an operation has an input or output without elements.
pub fn has_empty_case(op: &dyn Op) -> bool {
    let empty = |case: &Case| {
        let y = case.op.infer(&types(case, DType::F64));
        case.inputs.iter().any(|(shape, _)| shape.count() == 0) || y.is_ok_and(|y| y.shape.count() == 0)
    };
    op.cases().iter().any(empty)
}

/// Whether inference accepts every case in f64 and f32; the first refusal otherwise.
///
/// # Errors
/// The case and the rule that it breaks.
pub fn cases_infer(op: &dyn Op) -> Result<(), String> {
    for case in op.cases() {
        for dtype in [DType::F64, DType::F32] {
            if let Err(rule) = case.op.infer(&types(&case, dtype)) {
                return Err(format!("{} in {}: {}", sample::describe(&case), dtype.name(), rule.what));
            }
        }
    }
    Ok(())
}

fn types(case: &Case, dtype: DType) -> Vec<Type> {
    case.inputs.iter().map(|(shape, domain)| Type::new(sample::dtype_of(domain, dtype), *shape)).collect()
}
