//! Shards against the whole batch, averages and norms against numbers computed here.

use geartrain_engine::{Data, Role, State};

use crate::average;
use crate::config::Config;
use crate::data;
use crate::trainer::Trainer;

fn trainer(sets: &[(&str, &str)]) -> Trainer {
    let small = [
        ("model.layers", "1"),
        ("model.width", "32"),
        ("model.heads", "2"),
        ("model.context", "16"),
        ("train.batch", "8"),
        ("schedule.warmup", "3"),
    ];
    let sets: Vec<(String, String)> =
        small.iter().chain(sets).map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let config = Config::build(None, &sets).unwrap();
    let data = data::load(&config).unwrap();
    Trainer::new(config, data).unwrap()
}

/// The numbers of an entry.
fn values(state: &State, name: &str) -> Vec<f32> {
    match state.get(name).unwrap().data() {
        Data::F32(values) => values.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

fn parameters(state: &State) -> Vec<String> {
    state.entries().iter().filter(|e| e.role == Role::Parameter).map(|e| e.name.clone()).collect()
}

/// The weights of a run, to the bit.
fn weights(trainer: &Trainer) -> Vec<Vec<u32>> {
    let state = trainer.state();
    let bits = |name: &String| values(state, name).iter().map(|x| x.to_bits()).collect();
    parameters(state).iter().map(bits).collect()
}

/// The largest difference of two states' weights, as a share of the largest weight.
fn distance(a: &State, b: &State) -> f64 {
    let (mut apart, mut largest) = (0f64, 0f64);
    for name in parameters(a) {
        for (x, y) in values(a, &name).into_iter().zip(values(b, &name)) {
            apart = apart.max(f64::from((x - y).abs()));
            largest = largest.max(f64::from(x.abs()));
        }
    }
    apart / largest
}

/// Shards sum in another order than one batch does, and round differently. A gradient is a sum of 8 rows × 16 tokens, so
/// it is off by some 2⁻²⁴ · √128 of its size at most; plain gradient descent passes that on as it is, a few steps add
/// up. AdamW would not do here: it divides by the gradient's own size, which is rounding alone where that is near 0.
#[test]
fn shards_give_the_gradient_of_the_batch() {
    let sgd = [("optimizer.kind", "sgd"), ("optimizer.lr", "0.1"), ("model.dropout", "0.2")];
    for shards in ["2", "4", "8"] {
        let mut whole = trainer(&sgd);
        let mut parts = trainer(&[&sgd[..], &[("train.grad_shards", shards)]].concat());
        let start = whole.state().clone();
        for step in 0..6 {
            let (a, b) = (whole.step(step).unwrap(), parts.step(step).unwrap());
            assert_eq!(a.lr, b.lr);
            assert!((a.loss - b.loss).abs() < 1e-6 * a.loss, "{shards} shards: {} {}", a.loss, b.loss);
            assert!((a.grad_norm - b.grad_norm).abs() < 1e-5 * a.grad_norm, "{} {}", a.grad_norm, b.grad_norm);
        }
        let (apart, moved) = (distance(whole.state(), parts.state()), distance(whole.state(), &start));
        assert!(apart < 1e-6 && moved > 1e-2, "{shards} shards: {apart:e} of {moved:e}");
        // Without the same rows for dropout, or with a gradient twice, nothing would be as near.
        let mut other = trainer(&[&sgd[..], &[("train.seed", "7")]].concat());
        assert!((whole.step(6).unwrap().loss - other.step(6).unwrap().loss).abs() > 1e-3);
    }
}

/// The tree by hand: gradients of single rows are added in f32 as the module says, (0 + 1) + (2 + 3).
#[test]
fn shards_are_summed_in_their_tree() {
    let sets = [("optimizer.kind", "sgd"), ("optimizer.lr", "0.5"), ("optimizer.clip", "0"), ("train.batch", "4")];
    let mut parts = trainer(&[&sets[..], &[("train.grad_shards", "4"), ("schedule.warmup", "0")]].concat());
    parts.step(0).unwrap();
    let state = parts.state();
    for name in parameters(state) {
        let sum = |level: &str| values(state, &format!("{name}.{level}"));
        // What the last step left: sum.0 is shard 2, sum.1 shards 0 and 1, grad shard 3.
        let (two, pair, three) = (sum("grad_sum.0"), sum("grad_sum.1"), sum("grad"));
        let fresh = trainer(&sets);
        let before = values(fresh.state(), &name);
        for (i, now) in values(state, &name).into_iter().enumerate() {
            let mean = (pair[i] + (two[i] + three[i])) * 0.25;
            assert_eq!(now.to_bits(), (before[i] - 0.5 * mean).to_bits(), "{name}[{i}]");
        }
        assert!(two.iter().zip(&three).any(|(a, b)| a != b), "{name}: two rows have two gradients");
    }
}

#[test]
fn shards_need_the_memory_of_one() {
    let sets = [("train.batch", "64"), ("model.context", "32")];
    let cost = |shards| trainer(&[&sets[..], &[("train.grad_shards", shards)]].concat()).cost();
    let (whole, eight) = (cost("1"), cost("8"));
    // What is left beside the shard's values is one sum for all weights; sums that wait stand in the state.
    let weights = 4 * trainer(&sets).parameters();
    assert!(eight.arena_bytes < whole.arena_bytes / 8 + 2 * weights, "{eight:?} {whole:?} {weights}");
    assert!(eight.arena_bytes > whole.arena_bytes / 16 && eight.flops >= whole.flops, "{eight:?} {whole:?}");
}

#[test]
fn averages_are_those_of_the_formula() {
    for shards in ["1", "2"] {
        let mut run = trainer(&[("train.ema", "0.75"), ("train.grad_shards", shards)]);
        let names = parameters(run.state());
        let mut expected: Vec<Vec<f32>> = names.iter().map(|name| values(run.state(), name)).collect();
        assert!(expected.iter().flatten().any(|x| *x != 0.0), "it starts from the initial weights");
        for step in 0..5 {
            run.step(step).unwrap();
            for (name, average) in names.iter().zip(&mut expected) {
                for (e, w) in average.iter_mut().zip(values(run.state(), name)) {
                    *e = 0.75 * *e + (1.0 - 0.75) * w;
                }
            }
        }
        let shown = average::weights(run.state()).unwrap();
        for (name, average) in names.iter().zip(&expected) {
            assert_eq!(&values(&shown, name), average, "{name}");
            assert_ne!(&values(run.state(), name), average, "{name}: the weight itself is elsewhere");
        }
        // The average decides the evaluation, and not the training.
        let mut plain = trainer(&[("train.grad_shards", shards)]);
        for step in 0..5 {
            plain.step(step).unwrap();
        }
        assert_eq!(weights(&plain), weights(&run));
        let (averaged, newest) = (run.evaluate().unwrap().unwrap().loss, plain.evaluate().unwrap().unwrap().loss);
        assert!((averaged - newest).abs() > 1e-4, "{averaged} {newest}");
        for (name, average) in names.iter().zip(&expected) {
            let shape = run.state().get(name).unwrap().shape();
            let tensor = geartrain_engine::Tensor::new(shape, Data::F32(average.clone())).unwrap();
            plain.state_mut().set(name, &tensor).unwrap();
        }
        assert_eq!(plain.evaluate().unwrap().unwrap().loss, averaged);
    }
}

#[test]
fn norms_are_those_of_the_layers_and_change_nothing() {
    for shards in ["1", "4"] {
        let sets = [("model.dropout", "0.1"), ("train.grad_shards", shards), ("train.ema", "0.5")];
        let mut plain = trainer(&sets);
        let mut told = trainer(&[&sets[..], &[("train.norms", "true")]].concat());
        for step in 0..4 {
            let names = parameters(told.state());
            let before: Vec<Vec<f32>> = names.iter().map(|name| values(told.state(), name)).collect();
            let (ours, layers) = told.step_and_norms(step).unwrap();
            assert_eq!(plain.step_and_norms(step).unwrap(), (ours, None));
            let layers = layers.unwrap();
            let expected = ["transformer.wte", "transformer.wpe", "transformer.h.0", "transformer.ln_f"];
            assert_eq!(layers.iter().map(|(layer, _)| layer.as_str()).collect::<Vec<_>>(), expected);
            let together = layers.iter().map(|(_, norms)| norms.grad_norm.powi(2)).sum::<f64>().sqrt();
            // Both are sums in f64; squares of squares of roots round a few times.
            assert!((together - ours.grad_norm).abs() < 1e-13 * together, "{together} {}", ours.grad_norm);
            for (layer, norms) in &layers {
                let mut sum = 0.0;
                for (name, before) in
                    names.iter().zip(&before).filter(|(name, _)| name.starts_with(&format!("{layer}.")))
                {
                    let now = values(told.state(), name);
                    sum += now.iter().zip(before).map(|(now, old)| f64::from(now - old).powi(2)).sum::<f64>();
                }
                assert!((sum.sqrt() - norms.update_norm).abs() < 1e-12 * norms.update_norm, "{layer} {norms:?}");
                assert!(norms.update_norm > 0.0 && norms.grad_norm > 0.0, "{layer} {norms:?}");
            }
        }
        assert_eq!(weights(&plain), weights(&told), "{shards} shards");
    }
}

#[test]
fn a_gradient_that_is_not_finite_changes_no_weight() {
    for shards in ["1", "4"] {
        let mut run = trainer(&[
            ("optimizer.lr", "1e30"),
            ("schedule.kind", "constant"),
            ("train.grad_shards", shards),
            ("train.ema", "0.5"),
        ]);
        let mut last = weights(&run);
        let error = loop {
            match run.step(5) {
                Ok(_) => last = weights(&run),
                Err(error) => break error,
            }
        };
        assert_eq!(error.exit_code(), 3, "{error}");
        assert_eq!(weights(&run), last);
    }
}

/// Ten steps lower the loss with every optimizer, at its own default learning rate, whole and in shards.
#[test]
fn every_optimizer_trains() {
    for optimizer in crate::config::OptimizerKind::NAMES {
        let sets = [("optimizer.kind", *optimizer), ("train.ema", "0.5")];
        let mut whole = trainer(&sets);
        let mut parts = trainer(&[&sets[..], &[("train.grad_shards", "2")]].concat());
        let first = whole.step(0).unwrap().loss;
        assert!((parts.step(0).unwrap().loss - first).abs() < 1e-6 * first, "{optimizer}");
        let last = (1..30).map(|step| (whole.step(step).unwrap().loss, parts.step(step).unwrap().loss)).last().unwrap();
        assert!(last.0 < first - 0.1 && (last.0 - last.1).abs() < 0.01, "{optimizer}: {first} {last:?}");
    }
}

#[test]
fn every_activation_trains() {
    for activation in crate::config::Activation::NAMES {
        let mut run = trainer(&[("model.activation", activation)]);
        let losses: Vec<f64> = (0..10).map(|step| run.step(step).unwrap().loss).collect();
        assert!(losses[9] < losses[0], "{activation}: {losses:?}");
    }
}
