//! Every operation of the registry: well-formed, and all checks over all of its cases.

use std::collections::HashSet;

use geartrain_engine::check::operation::{cases_infer, has_empty_case};
use geartrain_engine::check::sample::declare;
use geartrain_engine::check::{OpReport, check_op, table};
use geartrain_engine::ops::OPS;
use geartrain_engine::{DType, Graph, Op};

/// All random numbers of this file come from it.
const SEED: u64 = 20;

/// Operations of which no input can have an axis without elements, and why.
const NEVER_EMPTY: &[&str] = &["mean_squared_error"];

#[test]
fn names_are_unique() {
    let mut seen = HashSet::new();
    for op in OPS {
        assert!(seen.insert(op.name()), "two operations are called {}", op.name());
    }
}

#[test]
fn every_operation_explains_itself() {
    for op in OPS {
        let e = op.explain();
        for (item, text) in [("what", e.what), ("formula", e.formula), ("derivative", e.derivative), ("cost", e.cost)] {
            assert!(!text.trim().is_empty(), "{}: explain has no {item}", op.name());
        }
    }
}

#[test]
fn every_operation_has_cases_that_infer() {
    for op in OPS {
        let cases = op.cases();
        assert!(cases.len() >= 3, "{} has {} cases, wanted at least 3", op.name(), cases.len());
        for case in &cases {
            assert_eq!(case.op.name(), op.name(), "a case of another operation");
        }
        if let Err(refusal) = cases_infer(*op) {
            panic!("{refusal}");
        }
        let exempt = NEVER_EMPTY.contains(&op.name());
        assert_ne!(has_empty_case(*op), exempt, "{}: cases without elements", op.name());
    }
}

/// Whether a gradient flows through an operation, to some input in some case.
fn flows(op: &dyn Op) -> bool {
    op.cases().iter().any(|case| {
        let g = Graph::new();
        let x = declare(&g, case, DType::F64);
        let y = g.apply_shared(case.op.clone(), &x);
        y.dtype().is_float() && x.iter().any(|x| x.dtype().is_float() && g.grad(y.sum_all(), &[*x]).is_ok())
    })
}

/// Every `PARTS`-th operation, so that parts run beside each other.
fn check_part(part: usize) {
    let ops = OPS.iter().skip(part).step_by(PARTS);
    let reports: Vec<OpReport> = ops.map(|op| check_op(*op, SEED)).collect();
    println!("{}", table(&reports));
    assert!(reports.iter().all(OpReport::passed), "\n{}", table(&reports));
    for report in &reports {
        let op = OPS.iter().find(|op| op.name() == report.op).unwrap();
        assert_eq!(report.unrefereed, 0, "{}: directions without a derivative found forwards", report.op);
        assert_eq!(report.forward.is_some(), flows(*op), "{}: refereed forwards where a gradient flows", report.op);
    }
}

const PARTS: usize = 4;

#[test]
fn every_check_of_every_case_0() {
    check_part(0);
}

#[test]
fn every_check_of_every_case_1() {
    check_part(1);
}

#[test]
fn every_check_of_every_case_2() {
    check_part(2);
}

#[test]
fn every_check_of_every_case_3() {
    check_part(3);
}
