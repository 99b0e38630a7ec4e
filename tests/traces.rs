//! The first losses and gradients of the workloads against PyTorch in f64 (`fixtures/traces.json`).

use geartrain::workloads::{Kind, Training, WORKLOADS};
use geartrain::{DType, Data, Graph, Options, Program};
use serde_json::Value;

/// Largest relative error of a loss in f32 and in f64, and of a gradient's norm in f64.
const F32: f64 = 2e-5;
const F64: f64 = 1e-8;

/// The workloads that the fixture knows.
fn all() -> Vec<(&'static str, &'static Training, Value)> {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/traces.json")).unwrap();
    let known = WORKLOADS.iter().filter_map(|workload| match &workload.kind {
        Kind::Training(training) => Some((workload.key, training, fixture.get(workload.key)?.clone())),
        Kind::Other(_) => None,
    });
    let known: Vec<_> = known.collect();
    assert_eq!(known.len(), fixture.as_object().unwrap().len(), "every network of the fixture is a workload");
    known
}

fn relative(got: f64, want: f64) -> f64 {
    // A NaN is no agreement.
    if got.is_nan() { f64::INFINITY } else { (got - want).abs() / want.abs() }
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn losses_agree(dtype: DType, tolerance: f64) {
    for (key, training, fixture) in all() {
        let (ours, theirs) = (training.losses(dtype, 6).unwrap(), numbers(&fixture["torch_f64"]));
        assert_eq!(theirs.len(), ours.len());
        let worst = ours.iter().zip(&theirs).map(|(a, b)| relative(*a, *b)).fold(0.0, f64::max);
        println!("{key} {}: losses within {worst:.1e}", dtype.name());
        assert!(worst <= tolerance, "{key}: {ours:?}\nare not {theirs:?}");
    }
}

/// The first values exactly, and the sum to the rounding of a sum.
#[track_caller]
fn begins(name: &str, values: &[f64], first: &Value, sum: &Value) {
    for (value, expected) in values.iter().zip(numbers(first)) {
        assert_eq!(*value, expected, "{name}");
    }
    let (got, want) = (values.iter().sum::<f64>(), sum.as_f64().unwrap());
    let size: f64 = values.iter().map(|v| v.abs()).sum();
    assert!((got - want).abs() <= 1e-13 * size, "{name}: sum {got} is not {want}");
}

#[test]
fn initial_values_and_data() {
    for (key, training, fixture) in all() {
        let g = Graph::new();
        training.loss(&g, DType::F32);
        assert_eq!((training.parameters)().len(), g.parameters().len(), "{key}: number of parameters");
        let state = training.state(&g).unwrap();
        for (theirs, ours, _) in (training.parameters)() {
            let (expected, tensor) = (&fixture["init"][&theirs], state.get(&ours).unwrap());
            let dims: Vec<u64> = tensor.shape().dims().iter().map(|n| *n as u64).collect();
            assert_eq!(Value::from(dims), expected["shape"], "{key}: {ours}");
            begins(&ours, &tensor.to_f64(), &expected["first4"], &expected["sum_f64"]);
        }
        for (name, (_, data)) in [("x", (training.x)()), ("y", (training.y)())] {
            let values: Vec<f64> = match data {
                Data::F32(v) => v.into_iter().map(f64::from).collect(),
                Data::F64(v) => v,
                Data::U32(v) => v.into_iter().map(f64::from).collect(),
            };
            let data = &fixture["data"];
            begins(name, &values, &data[format!("{name}_first8")], &data[format!("{name}_sum")]);
        }
    }
}

#[test]
fn losses_in_f32() {
    losses_agree(DType::F32, F32);
}

#[test]
fn losses_in_f64() {
    losses_agree(DType::F64, F64);
}

#[test]
fn gradient_norms_in_f64() {
    for (key, training, fixture) in all() {
        let expected = fixture["grad_l2_step0_f64"].as_object().unwrap();
        let g = Graph::new();
        let loss = training.loss(&g, DType::F64);
        let (w, entries): (Vec<_>, Vec<_>) = g.parameters().into_iter().unzip();
        let gradients = g.grad(loss, &w).unwrap();
        for (entry, gradient) in entries.iter().zip(&gradients) {
            g.output(&entry.name, gradient.global_norm(&[]));
        }
        let state = training.state(&g).unwrap();
        let mut program = Program::compile(&g, &state, Options::default()).unwrap();
        let mut batch = program.batch();
        training.feed(&mut batch);
        program.evaluate(&state, &batch).unwrap();
        let parameters = (training.parameters)();
        assert_eq!(expected.len(), parameters.len());
        let mut worst: f64 = 0.0;
        for (theirs, ours, _) in &parameters {
            let (got, want) = (program.scalar(ours).unwrap(), expected[theirs].as_f64().unwrap());
            worst = worst.max(relative(got, want));
            assert!(relative(got, want) <= F64, "{key}: gradient of {ours}: {got} is not {want}");
        }
        println!("{key}: gradient norms within {worst:.1e}");
    }
}
