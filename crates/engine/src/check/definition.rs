//! A fused operation against its definition in other operations: value and vjp.

use crate::autodiff::vjp_of_definition;
use crate::check::derivative::{Rig, rig};
use crate::check::interpret::evaluate;
use crate::check::{Check, Failure, sample};
use crate::ir::graph::{Graph, Var};
use crate::ir::op::{Array, Case, Cotangent, Vjp};

/// Both may differ by this much, relative to the largest number of the value and to 1.
pub const TOLERANCE: f64 = 1e-9;

/// Checks a case whose operation has a definition; `None` for a primitive, else the largest difference found.
pub fn check_definition(case: &Case, seed: u64, failures: &mut Vec<Failure>) -> Option<f64> {
    let on = sample::describe(case);
    let graph = Graph::new();
    let done = rig(&graph, case, seed, &on).and_then(|rig| compare(&rig, case, &on, seed, failures));
    done.unwrap_or_else(|failure| {
        failures.push(failure);
        Some(f64::INFINITY)
    })
}

fn compare(rig: &Rig<'_>, case: &Case, on: &str, seed: u64, out: &mut Vec<Failure>) -> Result<Option<f64>, Failure> {
    let fail = |check, what: String| Failure::new(check, on, format!("{what} (seed {seed})"));
    let values = |check, vars: &[Var<'_>]| evaluate(rig.graph, vars, &rig.feed).map_err(|e| fail(check, e.to_string()));
    let Some(definition) = case.op.expand(&rig.x) else { return Ok(None) };
    rig.graph.check().map_err(|e| fail(Check::Definition, e.to_string()))?;
    if definition.ty() != rig.y.ty() {
        let what = format!("the definition gives {}, the operation {}", definition.ty(), rig.y.ty());
        return Err(fail(Check::Definition, what));
    }
    let both = values(Check::Definition, &[rig.y, definition])?;
    let mut largest = distance(&both[0], &both[1]);
    if largest.is_nan() || largest > TOLERANCE {
        out.push(fail(Check::Definition, format!("value and definition differ by {largest:.1e}")));
    }
    if !rig.y.dtype().is_float() {
        return Ok(Some(largest));
    }
    let wanted: Vec<bool> = rig.x.iter().map(|x| x.dtype().is_float()).collect();
    let defined = vjp_of_definition(&*case.op, &Vjp { x: &rig.x, y: rig.y, ct: rig.ct, wanted: &wanted });
    for i in (0..rig.x.len()).filter(|i| wanted[*i]) {
        let pair = match (rig.cotangents[i], defined[i]) {
            (Cotangent::Flows(Some(a)), Cotangent::Flows(Some(b))) => values(Check::DefinitionVjp, &[a, b])?,
            (Cotangent::Flows(Some(a)), Cotangent::Zero) | (Cotangent::Zero, Cotangent::Flows(Some(a))) => {
                let a = values(Check::DefinitionVjp, &[a])?.remove(0);
                let zero = Array { values: vec![0.0; a.values.len()], ..a.clone() };
                vec![a, zero]
            }
            // An operation may refuse a derivative that its definition has.
            (Cotangent::Stops(_) | Cotangent::Held, _) | (Cotangent::Zero, Cotangent::Zero) => continue,
            (a, b) => {
                let what = format!("input {i}: the vjp says {}, the definition {}", kind(&a), kind(&b));
                out.push(fail(Check::DefinitionVjp, what));
                continue;
            }
        };
        let d = distance(&pair[0], &pair[1]);
        if d.is_nan() || d > TOLERANCE {
            out.push(fail(Check::DefinitionVjp, format!("cotangents of input {i} differ by {d:.1e}")));
        }
        largest = largest.max(d);
    }
    Ok(Some(largest))
}

fn kind(cotangent: &Cotangent<'_>) -> &'static str {
    match cotangent {
        Cotangent::Flows(_) => "Flows",
        Cotangent::Zero => "Zero",
        Cotangent::Held => "Held",
        Cotangent::Stops(_) => "Stops",
    }
}

/// Largest difference, relative to the largest number and to 1. NaN where only one of two numbers is NaN.
pub fn distance(a: &Array, b: &Array) -> f64 {
    if a.shape != b.shape {
        return f64::INFINITY;
    }
    let scale = a.values.iter().chain(&b.values).filter(|x| x.is_finite()).fold(1.0f64, |m, x| m.max(x.abs()));
    let mut largest = 0.0f64;
    for (x, y) in a.values.iter().zip(&b.values) {
        let d = (x - y).abs() / scale;
        let same = x == y || (x.is_nan() && y.is_nan());
        if !same && d.is_nan() {
            return f64::NAN;
        }
        largest = if same { largest } else { largest.max(d) };
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let a = |values: &[f64]| Array { shape: [2].into(), values: values.to_vec() };
        assert_eq!(distance(&a(&[1.0, f64::NAN]), &a(&[1.0, f64::NAN])), 0.0);
        assert!(distance(&a(&[1.0, 0.0]), &a(&[1.0, f64::NAN])).is_nan());
        assert!(distance(&a(&[1.0, 0.0]), &a(&[1.0, f64::INFINITY])).is_infinite());
        assert_eq!(distance(&a(&[100.0, 0.0]), &a(&[100.0, 1.0])), 0.01);
    }
}
