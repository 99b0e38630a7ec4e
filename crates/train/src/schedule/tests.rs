//! Rates against those of PyTorch 2 and of Python, printed with all their digits.

use super::*;
use crate::config::DataKind;

/// A schedule with a highest rate, planned steps, and keys of its own.
fn schedule(lr: f64, steps: u64, keys: &[(&str, &str)]) -> Schedule {
    let mut config = Config::defaults(DataKind::Text);
    (config.optimizer.lr, config.train.steps) = (lr, steps);
    config.schedule.min_lr = 0.0;
    config.schedule.warmup = 0;
    keys.iter().for_each(|(key, value)| config.set(&format!("schedule.{key}"), value).unwrap());
    Schedule::from_config(&config)
}

/// PyTorch multiplies step by step where we take a power, so that each of its steps may round once more.
#[track_caller]
fn equals(schedule: &Schedule, first: u64, expected: &[f64]) {
    for (step, want) in (first..).zip(expected) {
        let got = schedule.rate(step);
        assert!((got - want).abs() <= 2e-15 * want, "step {step}: {got:e} against {want:e}");
    }
}

/// Steps and rates of `1e-3 * (step + 1) / 100 if step < 100 else 1e-4 + 0.5 * (1 + cos(pi * (step - 100) /
/// max(1, 2000 - 100))) * (1e-3 - 1e-4)`, printed by Python with 17 digits.
const FROM_PYTHON: [(u64, f64); 10] = [
    (0, 1e-05),
    (1, 2e-05),
    (99, 0.001),
    (100, 0.001),
    (101, 0.0009999993848585915),
    (500, 0.0009051132292283772),
    (1049, 0.0005507440610789162),
    (1050, 0.00055),
    (1777, 0.00013024535909028935),
    (1999, 0.00010000061514140841),
];

#[test]
fn the_default_recipe_repeats_the_python_formula() {
    let schedule = Schedule::from_config(&Config::defaults(DataKind::Text));
    for (step, want) in FROM_PYTHON {
        let got = schedule.rate(step);
        assert_eq!(Schedule::cosine(1e-3, 1e-4, 100, 2000).rate(step), got);
        assert!((got - want).abs() <= 4e-16 * want, "step {step}: {got:e} against {want:e}");
    }
}

#[test]
fn constant_rises_and_stays() {
    let constant = schedule(0.5, 10, &[("kind", "constant"), ("warmup", "4")]);
    let rates: Vec<f64> = (0..6).map(|step| constant.rate(step)).collect();
    assert_eq!(rates, [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]);
    assert_eq!(schedule(0.5, 10, &[("kind", "constant")]).rate(0), 0.5);
    assert_eq!((0..6).map(|step| Schedule::constant(0.5, 4).rate(step)).collect::<Vec<_>>(), rates);
}

#[test]
fn cosine_starts_at_the_top_and_ends_at_the_bottom() {
    let schedule = schedule(1.0, 10, &[("min_lr", "0.25")]);
    assert_eq!(schedule.rate(0), 1.0);
    assert!(schedule.rate(9) > 0.25);
    assert_eq!(schedule.rate(10), 0.25);
    assert_eq!(schedule.rate(u64::MAX), 0.25);
    assert!((0..9).all(|step| schedule.rate(step) > schedule.rate(step + 1)));
}

#[test]
fn a_warmup_longer_than_the_run_only_rises() {
    let schedule = schedule(1.0, 4, &[("min_lr", "0.1"), ("warmup", "8")]);
    assert_eq!((0..4).map(|step| schedule.rate(step)).collect::<Vec<_>>(), [0.125, 0.25, 0.375, 0.5]);
    assert_eq!(schedule.rate(8), 1.0);
    assert_eq!(schedule.rate(9), 0.1);
}

#[test]
fn steps_are_those_of_step_lr() {
    let want = [0.01, 0.01, 0.01, 0.003, 0.003, 0.003, 0.0009, 0.0009, 0.0009, 0.00027, 0.00027];
    let keys = [("kind", "step"), ("every", "3"), ("factor", "0.3")];
    equals(&schedule(0.01, 100, &keys), 0, &want);
    let warm = schedule(0.01, 100, &[&keys[..], &[("warmup", "5")]].concat());
    assert_eq!(warm.rate(1), 0.01 * 2.0 / 5.0);
    equals(&warm, 5, &want);
    equals(&schedule(0.01, 100, &[&keys[..], &[("min_lr", "0.002")]].concat()), 5, &[0.003, 0.002, 0.002]);
    // By default, a fifth of the steps behind the warm-up: 10 of 50.
    equals(&schedule(0.8, 57, &[("kind", "step"), ("warmup", "7")]), 16, &[0.8, 0.4]);
    equals(&schedule(0.8, 57, &[("kind", "step"), ("warmup", "7")]), 56, &[0.05, 0.025]);
}

#[test]
fn exponential_is_that_of_exponential_lr() {
    let want = [
        0.01,
        0.009000000000000001,
        0.008100000000000001,
        0.007290000000000001,
        0.006561000000000002,
        0.005904900000000002,
        0.005314410000000002,
        0.004782969000000002,
        0.004304672100000002,
        0.003874204890000002,
        0.003486784401000002,
    ];
    let keys = [("kind", "exponential"), ("every", "1"), ("factor", "0.9")];
    equals(&schedule(0.01, 100, &keys), 0, &want);
    equals(&schedule(0.01, 100, &[&keys[..], &[("warmup", "5")]].concat()), 5, &want);
    // Over `every` steps it falls as far as `step` does.
    equals(&schedule(0.8, 50, &[("kind", "exponential")]), 10, &[0.4]);
    equals(&schedule(0.8, 50, &[("kind", "exponential")]), 5, &[0.8 * 0.5f64.sqrt()]);
}

#[test]
fn one_cycle_is_that_of_one_cycle_lr() {
    let want = [
        0.0003999999999999993,
        0.0013167184270002508,
        0.003716718427000252,
        0.006683281572999748,
        0.009083281572999747,
        0.01,
        0.009874640062350875,
        0.009504846320134737,
        0.0089091617757105,
        0.008117456539497631,
        0.007169430017913008,
        0.0061126202193628925,
        0.00500002,
        0.003887419780637108,
        0.0028306099820869924,
        0.00188258346050237,
        0.0010908782242895004,
        0.0004951936798652628,
        0.00012539993764912555,
        4e-08,
    ];
    equals(&schedule(0.01, 20, &[("kind", "onecycle"), ("warmup", "9")]), 0, &want);
    // Its highest rate lies between two steps here.
    let want = [
        0.04999999999999999,
        0.20547117626563682,
        0.45702882373436315,
        0.47526697475862917,
        0.3058246032555895,
        0.09453342198578131,
        0.0005,
        0.0005,
    ];
    let keys = [("kind", "onecycle"), ("pct_start", "0.5"), ("div_factor", "10"), ("final_div_factor", "100")];
    equals(&schedule(0.5, 7, &keys), 0, &want);
    for steps in 1..5 {
        assert!((0..9).all(|step| schedule(0.5, steps, &keys).rate(step).is_finite()), "{steps} steps");
    }
}

#[test]
fn plateaus_are_those_of_reduce_lr_on_plateau() {
    let nan = f64::NAN;
    let losses = [3.0, 2.0, 2.0, 1.99999, 1.9999, 1.5, 1.6, 1.6, 1.4, 1.4, 1.4, 1.4, nan, 1.4, 1.4, 1.3];
    let rates = [
        0.01, 0.01, 0.01, 0.003, 0.003, 0.003, 0.003, 0.0009, 0.0009, 0.0009, 0.00027, 0.00027, 8.1e-05, 8.1e-05,
        5e-05, 5e-05,
    ];
    let keys = [("kind", "plateau"), ("factor", "0.3"), ("patience", "1"), ("min_lr", "0.00005"), ("warmup", "3")];
    let mut plateau = schedule(0.01, 100, &keys);
    assert_eq!((plateau.rate(0), plateau.rate(3)), (0.01 / 3.0, 0.01));
    for (i, (loss, rate)) in losses.into_iter().zip(rates).enumerate() {
        // Going on from what a checkpoint holds changes nothing.
        let mut again = schedule(0.01, 100, &keys);
        again.restore(plateau.plateau());
        plateau = again;
        plateau.evaluated(loss);
        equals(&plateau, 3 + i as u64, &[rate]);
    }
    let mut other = schedule(0.01, 100, &[]);
    (0..9).for_each(|_| other.evaluated(1.0));
    assert_eq!((other.plateau(), other.rate(0)), (None, 0.01), "a cosine does not look at losses");
}

#[test]
fn every_kind_has_one_rule() {
    for kind in ScheduleKind::ALL {
        assert_eq!(rules::RULES.iter().filter(|(known, _)| known == kind).count(), 1, "{}", kind.name());
    }
}
