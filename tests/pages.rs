//! The pages of the lessons: their form, that nothing but the inputs decides their numbers, and that the numbers are right.

mod common;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use common::{command, finished, json, run};
use geartrain::engine::ops::OPS;
use geartrain::lesson::{self, LESSONS, Page};
use serde_json::Value;

/// Every page once, on one thread.
static PAGES: LazyLock<BTreeMap<&str, Page>> =
    LazyLock::new(|| LESSONS.iter().map(|lesson| (lesson.name, lesson.page(1).unwrap())).collect());

/// The rows of a table.
#[track_caller]
fn table(lesson: &str, name: &str) -> Vec<Value> {
    let rows: Vec<Value> = PAGES[lesson].json().filter(|row| row["table"] == name).collect();
    assert!(!rows.is_empty(), "{lesson} has no table {name}");
    rows
}

/// A column of a table.
#[track_caller]
fn numbers(rows: &[Value], key: &str) -> Vec<f64> {
    rows.iter().map(|row| row[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {row}"))).collect()
}

/// The row whose first column is this text.
#[track_caller]
fn named<'a>(rows: &'a [Value], key: &str, name: &str) -> &'a Value {
    rows.iter().find(|row| row[key] == name).unwrap_or_else(|| panic!("no row {name}"))
}

#[track_caller]
fn near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{found:?} is not {expected:?}");
    }
}

/// The page has a line with these words, one after another.
#[track_caller]
fn shows(lesson: &str, words: &str) {
    let words: Vec<&str> = words.split_whitespace().collect();
    let found = PAGES[lesson].text().lines().any(|line| {
        let line: Vec<&str> = line.split_whitespace().collect();
        line.windows(words.len()).any(|part| part == words)
    });
    assert!(found, "{lesson} does not show {words:?}:\n{}", PAGES[lesson].text());
}

#[test]
fn pages_fit_a_terminal() {
    for (name, page) in PAGES.iter() {
        let text = page.text();
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{name}");
        assert!(!text.contains(['\t', '\r', '\u{1b}']) && !text.contains("\n\n\n"), "{name}");
        assert!(!text.contains("NaN") && !text.contains("inf "), "{name}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{name}: {} columns in\n{line}", line.chars().count());
            assert_eq!(line.trim_end(), line, "{name}");
        }
        let title = text.lines().next().unwrap();
        assert_eq!(Some(title), lesson::find(name).map(|lesson| lesson.title));
    }
}

#[test]
fn what_comes_next_exists() {
    let network = |what: &str| lesson::network(what).is_some();
    for (name, page) in PAGES.iter() {
        let next: Vec<&str> = page.text().lines().filter_map(|line| line.strip_prefix("next: ")).collect();
        assert!(!next.is_empty(), "{name}");
        assert!(page.text().lines().last().unwrap().starts_with("next: "), "{name}");
        for command in next {
            let words: Vec<&str> = command.split(' ').collect();
            let known = match words[..] {
                ["geartrain", "lesson", what] => lesson::find(what).is_some(),
                ["geartrain", "explain", what] => network(what) || OPS.iter().any(|op| op.name() == what),
                ["geartrain", "gradcheck", what] => network(what),
                ["geartrain", "train"] => true,
                _ => false,
            };
            assert!(known, "{name}: {command}");
        }
    }
    // In order, each leads to the one after it.
    for pair in LESSONS.windows(2) {
        let next = format!("next: geartrain lesson {}\n", pair[1].name);
        assert!(PAGES[pair[0].name].text().contains(&next), "{} does not lead to {}", pair[0].name, pair[1].name);
    }
}

#[test]
fn pages_depend_on_nothing_but_their_inputs() {
    let folder = tempfile::tempdir().unwrap();
    for lesson in LESSONS {
        let rows = |page: &Page| page.json().map(|row| row.to_string()).collect::<Vec<_>>();
        let first = &PAGES[lesson.name];
        // Another run on one thread is compared below, as the command line prints it.
        let again = lesson.page(3).unwrap();
        assert_eq!(again.text(), first.text(), "{} on 3 threads", lesson.name);
        assert!(rows(&again) == rows(first), "{} on 3 threads", lesson.name);
        let mut plain = command(folder.path(), &format!("lesson {}", lesson.name));
        plain.env("GEARTRAIN_ISA", "portable");
        assert_eq!(finished(plain).good(), first.text(), "{} without vector instructions", lesson.name);
    }
}

#[test]
fn json_has_the_rows_of_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    for lesson in LESSONS {
        let lines = json(&run(folder.path(), &format!("lesson {} --json", lesson.name)).good());
        assert_eq!(lines, PAGES[lesson.name].json().collect::<Vec<_>>(), "{}", lesson.name);
        let (done, rows) = lines.split_last().unwrap();
        assert_eq!(done["done"], true);
        assert!(rows.iter().all(|row| row.is_object() && row.get("done").is_none()));
        assert!(lesson.network.is_some() || rows.iter().all(|row| row["table"].is_string()), "{}", lesson.name);
    }
    let list = run(folder.path(), "lesson").good();
    for (line, lesson) in list.lines().zip(LESSONS) {
        let what = lesson.title.split_once(": ").unwrap().1;
        assert!(line.starts_with(lesson.name) && line.ends_with(what) && line.chars().count() <= 80, "{line}");
    }
    assert!(list.ends_with("\nnext: geartrain lesson loss\n"));
}

#[test]
fn loss() {
    let answers = table("loss", "answers");
    let p = [0.1, 0.3, 0.9, 1.0];
    near(&numbers(&answers, "Paris"), &p);
    near(&numbers(&answers, "loss = -ln p"), &p.map(|p: f64| -p.ln()));
    for row in
        ["wrong 0.10 0.70 0.15 0.05 2.3026", "undecided 0.30 0.30 0.20 0.20 1.2040", "right 0.90 0.05 0.03 0.02 0.1054"]
    {
        shows("loss", row);
    }
    let gradients = table("loss", "gradients");
    near(&numbers(&gradients, "Paris"), &[0.1 - 1.0, 0.3 - 1.0, 0.9 - 1.0]);
    near(&numbers(&gradients, "Berlin"), &[0.7, 0.3, 0.05]);
    near(&numbers(&gradients, "sum"), &[0.0; 3]);

    let rows = table("loss", "logarithm");
    let p = numbers(&rows, "p");
    near(&numbers(&rows, "-ln p"), &p.iter().map(|p| -p.ln()).collect::<Vec<_>>());
    let slopes: Vec<f64> = numbers(&rows, "slope of -ln p").iter().zip(&p).map(|(slope, p)| slope * p).collect();
    near(&slopes, &vec![-1.0; p.len()]);
    near(&numbers(&rows, "slope of 1 - p"), &vec![-1.0; p.len()]);

    // Of two words with probabilities p and 1 - p: softmax has the slope p (1 - p).
    let rows = table("loss", "pulls");
    let p = numbers(&rows, "p");
    let of = |f: &dyn Fn(f64) -> f64| p.iter().map(|p| f(*p)).collect::<Vec<f64>>();
    near(&numbers(&rows, "pull of -ln p"), &of(&|p| p - 1.0));
    near(&numbers(&rows, "pull of 1 - p"), &of(&|p| -p * (1.0 - p)));
    near(&numbers(&rows, "squared error"), &of(&|p| (1.0 - p) * (1.0 - p)));
    near(&numbers(&rows, "its pull"), &of(&|p| -2.0 * (1.0 - p) * p * (1.0 - p)));

    let rows = table("loss", "texts");
    near(&numbers(&rows, "sum of -ln p"), &[-(0.5 * 0.4 * 0.9 * 0.2f64).ln(), 400.0 * 10f64.ln()]);
    near(&numbers(&rows, "product of p"), &[0.036, 0.0]);
    shows("loss", "e to the power of -3.3242 is 0.0360.");
}

#[test]
fn descent() {
    let rows = table("descent", "w");
    for rate in [0.1, 1.0, 1.5, 2.1f64] {
        let expected: Vec<f64> = (0..=10).map(|step| 4.0 * (1.0 - rate).powi(step)).collect();
        near(&numbers(&rows, &format!("rate {rate}")), &expected);
    }
    shows("descent", "2 3.2400 0.0000 1.0000 4.8400");
    shows("descent", "1 3.6000 0.0000 -2.0000 -4.4000");
    let rates = table("descent", "rates");
    near(&numbers(&rates, "w1 / w0"), &[0.9, 0.0, -0.5, -1.1]);
    let losses = [0.9, 0.0, -0.5, -1.1f64].map(|factor| 8.0 * factor.powi(20));
    near(&numbers(&rates, "loss at the end"), &losses);
}

#[test]
fn chain_rule() {
    let links = table("chain-rule", "links");
    near(&numbers(&links, "slope"), &[2.0, 5.2, 10.4]);
    near(&numbers(&links, "output"), &[2.6, 6.76, 6.76]);
    shows("chain-rule", "2 · 5.2 = 10.4.");
    let rows = table("chain-rule", "local");
    let x = numbers(&rows, "x");
    assert!([1.31, 1.5, 3.0].iter().all(|at| x.contains(at)), "{x:?}");
    let of = |f: &dyn Fn(f64) -> f64| x.iter().map(|x| f(*x)).collect::<Vec<f64>>();
    near(&numbers(&rows, "predicted"), &of(&|x| 6.76 + 10.4 * (x - 1.3)));
    near(&numbers(&rows, "true"), &of(&|x| 4.0 * x * x));
    near(&numbers(&rows, "error"), &of(&|x| 4.0 * (x - 1.3) * (x - 1.3)));
    near(&numbers(&rows, "slope there"), &of(&|x| 8.0 * x));
    shows("chain-rule", "1.31 0.01 6.8640 6.8644 0.0004 10.48");
    shows("chain-rule", "1.50 0.20 8.8400 9.0000 0.1600 12.00");
    shows("chain-rule", "3.00 1.70 24.4400 36.0000 11.5600 24.00");
    let gears = table("chain-rule", "gears");
    near(&numbers(&gears, "ratio to the one before"), &[1.0, 3.0, 2.0]);
    near(&numbers(&gears, "ratio to the crank"), &[1.0, 3.0, 6.0]);
    near(&numbers(&gears, "turns"), &[1.0, 3.0, 6.0]);
    for line in ["d_gear2 = r3", "d_gear1 = d_gear2 * r2", "d_crank = d_gear1"] {
        shows("chain-rule", line);
    }
    shows("chain-rule", "d_crank = 2 · 3 · 1 = 6.");
}

/// The slope of a function by a central difference, good to about 1e-9.
fn slope(f: impl Fn(f64) -> f64, x: f64) -> f64 {
    let h = 1e-5;
    (f(x + h) - f(x - h)) / (2.0 * h)
}

#[test]
fn activations() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let gelu_tanh =
        |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
    let gelu = |x: f64| 0.5 * x * libm::erfc(-x / std::f64::consts::SQRT_2);
    let known: [(&str, &dyn Fn(f64) -> f64); 5] = [
        ("sigmoid", &sigmoid),
        ("tanh", &|x: f64| x.tanh()),
        ("gelu", &gelu),
        ("gelu (tanh)", &gelu_tanh),
        ("silu", &|x: f64| x * sigmoid(x)),
    ];
    let (values, slopes) = (table("activations", "values"), table("activations", "slopes"));
    let x = numbers(&values, "x");
    for (name, f) in known {
        near(&numbers(&values, name), &x.iter().map(|x| f(*x)).collect::<Vec<_>>());
        for (found, x) in numbers(&slopes, name).iter().zip(&x) {
            assert!((found - slope(f, *x)).abs() <= 1e-9, "{name}' at {x} is not {found}");
        }
    }
    near(&numbers(&values, "relu"), &x.iter().map(|x| x.max(0.0)).collect::<Vec<_>>());
    near(&numbers(&slopes, "relu"), &x.iter().map(|x| if *x > 0.0 { 1.0 } else { 0.0 }).collect::<Vec<_>>());
    let differences = numbers(&values, "gelu").into_iter().zip(numbers(&values, "gelu (tanh)"));
    assert!(differences.map(|(a, b)| (a - b).abs()).all(|d| d < 5e-4), "they differ in the fourth digit");

    let far = table("activations", "saturation");
    let at_10 = numbers(&far, "sigmoid")[3];
    assert!((at_10 / (sigmoid(10.0) * (1.0 - sigmoid(10.0))) - 1.0).abs() < 1e-9 && far[3]["slope at"] == 10.0);
    shows("activations", "10 4.540e-5 8.245e-9 1.000");
    let rows = table("activations", "depth");
    for row in &rows {
        let depth = row["layers"].as_u64().unwrap() as i32;
        let number = |key: &str| row[key].as_f64().unwrap();
        assert!((number("0.25 each") / 0.25f64.powi(depth) - 1.0).abs() < 1e-12);
        let chained = |f: &dyn Fn(f64) -> f64, d: &dyn Fn(f64) -> f64| {
            (0..depth).fold((1.0, 1.0), |(x, product), _| (f(x), product * d(x))).1
        };
        let expected = chained(&sigmoid, &|x| sigmoid(x) * (1.0 - sigmoid(x)));
        assert!((number("sigmoid") / expected - 1.0).abs() < 1e-9, "{row}");
        let expected = chained(&|x| x.tanh(), &|x| 1.0 - x.tanh() * x.tanh());
        assert!((number("tanh") / expected - 1.0).abs() < 1e-9, "{row}");
        assert_eq!(number("relu"), 1.0);
    }
    shows("activations", "10 9.537e-7");

    let layers = table("activations", "layers");
    near(&numbers(&layers, "X @ W1 @ W2"), &numbers(&layers, "X @ (W1 @ W2)"));
    let bend = |key: &str| {
        let y = numbers(&layers, key);
        y[1] + y[2] - y[0] - y[3]
    };
    assert!(bend("X @ W1 @ W2").abs() < 1e-12 && bend("relu(X @ W1) @ W2").abs() > 0.1);
}

#[test]
fn initialisation() {
    let starts = table("initialisation", "starts");
    let end = numbers(&starts, "end");
    assert_eq!(numbers(&starts[..1], "end"), [0.25], "zeros stay where they are, to the last bit");
    assert!(end[1] > 0.15 && starts[1]["right"] != "4/4", "one neuron's work cannot do it: {end:?}");
    assert!(end[2] < 0.01 && starts[2]["right"] == "4/4", "{end:?}");
    let neurons = table("initialisation", "neurons");
    for row in &neurons {
        let weights = [1, 2, 3, 4].map(|k| row[format!("neuron {k}")].as_f64().unwrap().to_bits());
        let alike = weights.iter().all(|w| *w == weights[0]);
        assert_eq!(alike, row["start"] != "random", "{row}");
        assert_eq!(row["all alike to the bit"], if alike { "yes" } else { "no" });
        assert!(row["start"] != "zeros" || weights[0] == 0);
    }
    let spreads = table("initialisation", "spreads");
    let learned = numbers(&spreads, "learned, of 20");
    let best = spreads.iter().position(|row| row["standard deviation"] == 0.5).unwrap();
    assert!(learned[0] == 0.0 && learned[learned.len() - 1] == 0.0 && learned[best] == 20.0, "{learned:?}");

    let and = table("initialisation", "and");
    assert_eq!(numbers(&and, "parameters"), [3.0, 2.0]);
    assert_eq!(numbers(&and, "[0 0]")[1], 0.5, "sigmoid(0)");
    let loss = numbers(&and, "loss at the end");
    assert!(loss[0] < 0.01 && loss[1] > 0.1, "{loss:?}");
    let biases = table("initialisation", "biases");
    assert_eq!(numbers(&biases, "parameters"), [17.0, 12.0]);
    let learned = numbers(&biases, "learned, of 20");
    assert!(learned[0] > learned[1] && learned[1] > 10.0, "a hidden layer makes up for much of it: {learned:?}");
}

#[test]
fn optimizers() {
    let rates = table("optimizers", "rates");
    let row = |name: &str| named(&rates, "loss at rate", name);
    let at = |name: &str, rate: &str| row(name)[rate].as_f64().unwrap();
    let keys = ["0.001", "0.003", "0.01", "0.03", "0.1", "0.3", "1"];
    let steps = table("optimizers", "steps");
    let mut ends = Vec::new();
    for (rates, steps) in rates.iter().zip(&steps) {
        let ended: Vec<f64> = keys.iter().map(|rate| rates[*rate].as_f64().unwrap_or(f64::INFINITY)).collect();
        let lowest = ended.iter().copied().fold(f64::INFINITY, f64::min);
        let best = keys.iter().position(|rate| rates["best"].to_string().trim_end_matches(".0") == *rate).unwrap();
        assert_eq!(ended[best], lowest, "{rates}");
        assert_eq!(steps["400"], lowest, "the table of steps is the best rate's");
        ends.push(lowest);
    }
    let start = numbers(&steps, "0");
    assert!(start.iter().all(|loss| *loss == start[0]), "one start: {start:?}");
    assert_eq!(numbers(&steps, "examples read"), [102_400.0, 12_800.0, 12_800.0, 12_800.0, 12_800.0]);

    // What the page says about the numbers.
    assert!(ends[4] < ends[3] && ends[3] < ends[0].min(ends[1]).min(ends[2]), "{ends:?}");
    for (small, large) in [("0.001", "0.01"), ("0.003", "0.03"), ("0.01", "0.1")] {
        assert!((at("+ momentum", small) - at("mini-batches", large)).abs() < 0.05, "ten times the rate");
    }
    assert!(at("+ momentum", "1") > 5.0, "it runs away");
    assert!(["0.01", "0.03", "0.1"].iter().all(|rate| at("Adam", rate) < 0.05), "{}", row("Adam"));
    assert!(["0.001", "0.003", "0.01"].iter().all(|rate| at("Adam + schedule", rate) > at("Adam", rate)));
    assert!(at("Adam + schedule", "0.3") * 10.0 < at("Adam", "0.3"));
    assert!(steps[0]["50"].as_f64().unwrap() > 2.0 * steps[1]["400"].as_f64().unwrap(), "for equal work");
    let starts = table("optimizers", "starts");
    let (low, middle, high) = (numbers(&starts, "lowest"), numbers(&starts, "middle"), numbers(&starts, "highest"));
    assert!((0..5).all(|i| low[i] <= middle[i] && middle[i] <= high[i]));
    assert!(middle[..4].iter().all(|loss| *loss > middle[4]), "{middle:?}");
}

#[test]
fn scale() {
    let rows = table("scale", "arithmetic");
    let parameters = numbers(&rows, "parameters N");
    assert_eq!(parameters, [17.0, 181.0, 19_210.0, 202_624.0, 124_439_808.0, 405_853_388_800.0]);
    near(&numbers(&rows, "6 · N"), &parameters.iter().map(|n| 6.0 * n).collect::<Vec<_>>());
    for count in ["19,210", "202,624", "124,439,808", "405,853,388,800"] {
        shows("scale", count);
    }
    // The same count from the documentation of the operations, for the products of the digits' network: 2 · m · n · k for
    // both layers forward, two more for the weights, one for the inputs of the second layer.
    let products = 2.0 * (2.0 * 64.0 * 256.0 + 3.0 * 256.0 * 10.0);
    let counted = rows[2]["counted a token"].as_f64().unwrap();
    assert!(counted > products && counted < 1.2 * products, "{counted} against {products}");
    assert!(rows[4]["counted a token"].is_null() && rows[5]["ratio"].is_null());
    let parts = numbers(&table("scale", "llama"), "parameters");
    assert_eq!(parts[..5].iter().sum::<f64>(), parts[5]);
    let memory = table("scale", "memory");
    near(&numbers(&memory, "together"), &parameters.iter().map(|n| 16.0 * n).collect::<Vec<_>>());
    near(&numbers(&memory, "Adam's moments"), &parameters.iter().map(|n| 8.0 * n).collect::<Vec<_>>());
    shows("scale", "68 B 68 B 136 B 272 B");
    let time = table("scale", "time");
    let operations = numbers(&time, "operations");
    near(&numbers(&time, "time"), &operations.iter().map(|n| n / 100e9).collect::<Vec<_>>());
    near(&operations[5..], &[6.0 * parameters[5] * 15.6e12]);
    near(&operations[4..5], &[120.0 * parameters[4] * parameters[4]]);
    let years = numbers(&time, "time")[5] / (365.25 * 86_400.0);
    shows("scale", &format!("{:.1} million years", years / 1e6));
}
