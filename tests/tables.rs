//! Training on tables: how well the defaults do on well-known ones, and the way from a file to predictions.

mod common;

use std::fmt::Write as _;
use std::path::Path;

use common::{checkpoint, checkpoints, json, metrics, run};
use serde_json::Value;
use smartcore::dataset::{Dataset, breast_cancer, diabetes, digits, iris};

/// A CSV file of a data set, its target as `target` gives it.
fn write<Y>(folder: &Path, name: &str, data: &Dataset<f32, Y>, target: impl Fn(&Y) -> String) {
    let names: Vec<String> = (0..data.num_features).map(|i| format!("x{i}")).collect();
    let mut text = names.join(",") + ",target\n";
    for (row, y) in data.data.chunks(data.num_features).zip(&data.target) {
        row.iter().for_each(|x| write!(text, "{x},").unwrap());
        text += &(target(y) + "\n");
    }
    std::fs::write(folder.join(name), text).unwrap();
}

fn iris_table(folder: &Path) {
    write(folder, "iris.csv", &iris::load_dataset(), |y| {
        ["setosa", "versicolor", "virginica"][*y as usize].to_string()
    });
}

/// Trains with these seeds and gives the mean of a figure of the last evaluation.
fn mean(folder: &Path, file: &str, figure: &str, seeds: std::ops::RangeInclusive<u64>) -> f64 {
    // One thread: a step is too small to be shared.
    let n = seeds.clone().count() as f64;
    let last = |seed| {
        let args = format!("train {file} --target target --json --out {file}-{seed} --seed {seed} --threads 1");
        let lines = json(&run(folder, &args).good());
        lines
            .iter()
            .rev()
            .find_map(|line| line[figure].as_f64())
            .unwrap_or_else(|| panic!("{lines:?} without {figure}"))
    };
    seeds.map(last).sum::<f64>() / n
}

#[test]
fn the_defaults_learn_well_known_tables() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    iris_table(dir);
    write(dir, "digits.csv", &digits::load_dataset(), |y| format!("{y}"));
    write(dir, "cancer.csv", &breast_cancer::load_dataset(), |y| ["malignant", "benign"][*y as usize].to_string());
    write(dir, "diabetes.csv", &diabetes::load_dataset(), |y| y.to_string());
    // The mean over splits: one row of iris' validation part is 3 %.
    let iris = mean(dir, "iris.csv", "val_accuracy", 1..=10);
    assert!(iris >= 0.95, "iris: {iris}");
    let digits = mean(dir, "digits.csv", "val_accuracy", 1..=3);
    assert!(digits >= 0.975, "digits: {digits}");
    let cancer = mean(dir, "cancer.csv", "val_accuracy", 1..=3);
    assert!(cancer >= 0.95, "breast cancer: {cancer}");
    let diabetes = mean(dir, "diabetes.csv", "val_r2", 1..=10);
    assert!(diabetes >= 0.4, "diabetes: {diabetes}");
}

#[test]
fn what_people_see() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    iris_table(dir);
    let out = run(dir, "train iris.csv --target target --out a --steps 300").good();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("mlp with ") && lines[0].ends_with("on iris: 150 rows of 5 columns"), "{out}");
    assert_eq!(lines[1], "target `target`: 3 classes, so this is a classification");
    assert_eq!(lines[2], "inputs: 4 columns of numbers");
    assert_eq!(
        lines[3],
        "120 rows to learn from, 30 rows for validation, drawn by seed 1337, every class in proportion"
    );
    for part in
        ["accuracy", "rows: truth, columns: prediction\n", "loss (nats a row)\n", "next: geartrain predict a FILE"]
    {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
    let eval = run(dir, "eval a").good();
    assert!(eval.starts_with("step 300: loss ") && eval.contains("accuracy") && eval.contains("rows: truth"), "{eval}");
    write(dir, "diabetes.csv", &diabetes::load_dataset(), |y| y.to_string());
    let out = run(dir, "train diabetes.csv --target target --out b --steps 300").good();
    for part in ["numbers, so this is a regression", "RMSE ", "R² ", "loss (squared error, standardised)"] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
}

#[test]
fn lines_of_json() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    iris_table(dir);
    let ran = run(dir, "train iris.csv --target target --out a --steps 100 --json --set train.eval_every=50");
    assert_eq!(ran.err, "");
    let lines = json(&ran.good());
    let evaluated: Vec<&Value> = lines.iter().filter(|line| !line["val_accuracy"].is_null()).collect();
    assert_eq!(evaluated.len(), 2);
    let [.., confusion, done] = &lines[..] else { panic!() };
    assert_eq!(done["val_loss"], evaluated[1]["val_loss"]);
    let matrix: Vec<Vec<u64>> = serde_json::from_value(confusion["confusion"].clone()).unwrap();
    assert_eq!(confusion["classes"], serde_json::json!(["setosa", "versicolor", "virginica"]));
    assert!(matrix.iter().all(|row| row.iter().sum::<u64>() == 10), "{matrix:?}");
    let right = (0..3).map(|i| matrix[i][i]).sum::<u64>() as f64;
    assert_eq!(evaluated[1]["val_accuracy"].as_f64(), Some(right / 30.0));
    let eval = json(&run(dir, "eval a --json").good());
    assert_eq!((&eval[0], &eval[1]), (evaluated[1], confusion), "eval measures what training did");
    let whole = json(&run(dir, "eval a iris.csv --json").good());
    let rows: Vec<Vec<u64>> = serde_json::from_value(whole[1]["confusion"].clone()).unwrap();
    assert_eq!(rows.iter().flatten().sum::<u64>(), 150, "other data is measured whole");
}

#[test]
fn a_run_can_be_stopped_and_resumed_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    iris_table(dir);
    let args = "train iris.csv --target target --json --steps 90 --set train.eval_every=30 --set train.save_every=30";
    run(dir, &format!("{args} --out whole")).good();
    run(dir, &format!("{args} --out cut --until 41 --threads 1")).good();
    run(dir, "resume cut --json").good();
    assert_eq!(checkpoints(&dir.join("cut")), [41, 60, 90]);
    assert_eq!(checkpoint(&dir.join("cut"), 90), checkpoint(&dir.join("whole"), 90));
    let trained = |run: &str| metrics(&dir.join(run));
    assert_eq!(trained("cut"), trained("whole"));
    let before = std::fs::read_to_string(dir.join("iris.csv")).unwrap();
    std::fs::write(dir.join("iris.csv"), before.replacen("5.1", "5.2", 1)).unwrap();
    let (code, err) = run(dir, "resume whole").refused();
    assert!(code == Some(2) && err.contains("has changed since the run started"), "{err}");
    let how = std::fs::read_to_string(dir.join("cut/preprocessing.json")).unwrap();
    std::fs::write(dir.join("cut/preprocessing.json"), how.replacen("\"mean\": 5", "\"mean\": 6", 1)).unwrap();
    let (code, err) = run(dir, "predict cut iris.csv").refused();
    assert!(code == Some(4) && err.contains("preprocessing.json is not the one"), "{err}");
}

#[test]
fn predictions_of_classes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    iris_table(dir);
    run(dir, "train iris.csv --target target --out a --steps 500 --json").good();
    let ran = run(dir, "predict a iris.csv");
    assert!(ran.err.starts_with("150 rows: accuracy 9"), "{}", ran.err);
    let out = ran.good();
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0], ["prediction", "p_setosa", "p_versicolor", "p_virginica"]);
    assert_eq!(lines.len(), 151);
    for line in &lines[1..] {
        let p: Vec<f64> = line[1..].iter().map(|p| p.parse().unwrap()).collect();
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{line:?}");
        let best = (0..3).max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap();
        assert_eq!(lines[0][best + 1].strip_prefix("p_"), Some(line[0]));
    }
    // Without the target, in another order, with a column more: the same answers.
    let text = std::fs::read_to_string(dir.join("iris.csv")).unwrap();
    let moved: String = text
        .lines()
        .map(|line| line.split(',').collect::<Vec<_>>())
        .map(|cells| format!("{},new,{},{},{}\n", cells[3], cells[0], cells[2], cells[1]))
        .collect();
    std::fs::write(dir.join("moved.csv"), moved).unwrap();
    let ran = run(dir, "predict a moved.csv --out p.csv");
    assert_eq!(ran.err, "warning: columns that the model does not read: `new`\n");
    assert_eq!((ran.good(), std::fs::read_to_string(dir.join("p.csv")).unwrap()), (String::new(), out.clone()));
    let (code, err) = run(dir, "predict a iris.csv --out p.csv").refused();
    assert!(code == Some(2) && err.contains("`p.csv` exists already"), "{err}");
    let first = json(&run(dir, "predict a moved.csv --json").good())[0].clone();
    assert_eq!(first["prediction"], lines[1][0]);
    assert_eq!(first["p"]["setosa"].as_f64().unwrap(), lines[1][1].parse::<f64>().unwrap());
}

#[test]
fn predictions_of_numbers_and_of_two_classes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    // y = 3 x - 1, and whether it is above 20; words that change nothing.
    let rows = |from: usize, n: usize| {
        (from..from + n).map(|i| {
            let x = (i * 37 % 101) as f64 / 7.0;
            let y = 3.0 * x - 1.0;
            (format!("{x},k{}", i % 20), format!("{y}"), if y > 20.0 { "high" } else { "low" })
        })
    };
    let line: String = rows(0, 400).map(|(x, y, _)| format!("{x},{y}\n")).collect();
    std::fs::write(dir.join("line.csv"), format!("x,k,y\n{line}")).unwrap();
    let side: String = rows(0, 400).map(|(x, _, side)| format!("{x},{side}\n")).collect();
    std::fs::write(dir.join("side.csv"), format!("x,k,side\n{side}")).unwrap();
    let new: String = rows(1000, 50).map(|(x, ..)| format!("{x}\n")).collect();
    std::fs::write(dir.join("new.csv"), format!("x,k\n{new}")).unwrap();
    let lines = json(&run(dir, "train line.csv --target y --out line --json").good());
    let r2 = lines.iter().rev().find_map(|line| line["val_r2"].as_f64()).unwrap();
    assert!(r2 > 0.99, "{r2}");
    let found = run(dir, "predict line new.csv").good();
    assert_eq!(found.lines().next(), Some("prediction"));
    for (line, (_, y, _)) in found.lines().skip(1).zip(rows(1000, 50)) {
        let (found, y): (f64, f64) = (line.parse().unwrap(), y.parse().unwrap());
        assert!((found - y).abs() < 2.0, "{found} is not {y}");
    }
    run(dir, "train side.csv --target side --out side --json --set train.class_weights=balanced").good();
    let found = run(dir, "predict side new.csv").good();
    assert_eq!(found.lines().next(), Some("prediction,p_high,p_low"));
    let right = found.lines().skip(1).zip(rows(1000, 50)).filter(|(line, (.., side))| line.starts_with(side)).count();
    assert!(right >= 48, "{right} of 50");
}

/// The file that numpy.save writes of f32.
fn npy(folder: &Path, name: &str, shape: &str, numbers: impl Iterator<Item = f32>) {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    header += &(" ".repeat(63 - (header.len() + 10) % 64) + "\n");
    let length = (header.len() as u16).to_le_bytes();
    let numbers: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
    let bytes = [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), &numbers].concat();
    std::fs::write(folder.join(name), bytes).unwrap();
}

#[test]
fn arrays_of_numpy_are_tables_too() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let data = digits::load_dataset();
    npy(dir, "X.npy", "(1797, 64)", data.data.iter().copied());
    npy(dir, "y.npy", "(1797,)", data.target.iter().copied());
    npy(dir, "few.npy", "(3, 64)", data.data.iter().copied().take(192));
    npy(dir, "narrow.npy", "(3, 63)", data.data.iter().copied().take(189));
    npy(dir, "wide.npy", "(3, 65)", data.data.iter().copied().take(195));
    let lines = json(&run(dir, "train X.npy --target y.npy --out a --json").good());
    let accuracy = lines.iter().rev().find_map(|line| line["val_accuracy"].as_f64()).unwrap();
    assert!(accuracy > 0.96, "{accuracy}");
    let found = run(dir, "predict a few.npy").good();
    let classes: Vec<&str> = found.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(classes, ["0", "1", "2"]);
    let eval = run(dir, "eval a X.npy --target y.npy").good();
    assert!(eval.contains(" of 1797)"), "{eval}");
    let (_, err) = run(dir, "predict a narrow.npy").refused();
    assert!(err.starts_with("error: narrow.npy lacks 1 column that the run has learned from: `63`"), "{err}");
    let (_, err) = run(dir, "predict a wide.npy").refused();
    assert!(err.starts_with("error: wide.npy has 65 columns, and the run has learned from 64"), "{err}");
    // Several numbers of a row at once: x, and its double.
    npy(dir, "x.npy", "(500, 1)", (0..500).map(|i| (i % 97) as f32));
    npy(dir, "two.npy", "(500, 2)", (0..500).flat_map(|i| [(i % 97) as f32, 2.0 * (i % 97) as f32 + 5.0]));
    run(dir, "train x.npy --target two.npy --out b --json").good();
    let found = run(dir, "predict b x.npy").good();
    assert_eq!(found.lines().next(), Some("prediction_0,prediction_1"));
    let column = |k: usize| found.lines().skip(1).map(move |line| line.split(',').nth(k).unwrap().parse().unwrap());
    let x = |i: usize| (i % 97) as f64;
    let fits = [r2(column(0), (0..500).map(x)), r2(column(1), (0..500).map(|i| 2.0 * x(i) + 5.0))];
    assert!(fits.iter().all(|r2| *r2 > 0.995), "{fits:?}");
}

/// The share of the variance of `truth` that `found` explains.
fn r2(found: impl Iterator<Item = f64>, truth: impl Iterator<Item = f64>) -> f64 {
    let pairs: Vec<(f64, f64)> = found.zip(truth).collect();
    let mean = pairs.iter().map(|(_, y)| y).sum::<f64>() / pairs.len() as f64;
    let left: f64 = pairs.iter().map(|(x, y)| (x - y).powi(2)).sum();
    1.0 - left / pairs.iter().map(|(_, y)| (y - mean).powi(2)).sum::<f64>()
}

/// Answers are as fine as the model, however far from 0 the target lies.
#[test]
fn numbers_far_from_zero_keep_their_digits() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let y = |i: usize| 1.7e9 + 40.0 * f64::from((i as f32 / 20.0).sin());
    let rows: String = (0..400).map(|i| format!("{},{}\n", f64::from((i as f32 / 20.0).sin()), y(i))).collect();
    std::fs::write(dir.join("t.csv"), format!("x,y\n{rows}")).unwrap();
    run(dir, "train t.csv --target y --steps 600 --out a --json").good();
    let found = run(dir, "predict a t.csv").good();
    let fit = r2(found.lines().skip(1).map(|line| line.parse().unwrap()), (0..400).map(y));
    assert!(fit > 0.99, "{fit}");
}

/// An answer that single precision cannot hold is a number of JSON all the same.
#[test]
fn an_answer_far_beyond_the_table_is_a_number() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let rows: String = (0..60).map(|i| format!("{i},{i}e20\n")).collect();
    std::fs::write(dir.join("t.csv"), format!("x,y\n{rows}")).unwrap();
    run(dir, "train t.csv --target y --steps 60 --out a --json").good();
    std::fs::write(dir.join("far.csv"), "x\n3\n1e30\n").unwrap();
    let lines = json(&run(dir, "predict a far.csv --json").good());
    let far = lines[1]["prediction"].as_f64().unwrap();
    assert!(far.abs() > f64::from(f32::MAX) && far.is_finite(), "{lines:?}");
}

#[test]
fn a_table_that_has_changed_is_not_measured_as_if_it_had_not() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let rows: Vec<String> =
        (0..60).map(|i| format!("{},{},{}\n", i % 9, i % 7, if i % 9 > 4 { "b" } else { "a" })).collect();
    std::fs::write(dir.join("t.csv"), format!("x,z,y\n{}", rows.concat())).unwrap();
    run(dir, "train t.csv --target y --steps 30 --out a --json").good();
    let before = run(dir, "eval a --json").good();
    let backwards: String = rows.iter().rev().cloned().collect();
    std::fs::write(dir.join("t.csv"), format!("x,z,y\n{backwards}")).unwrap();
    for command in ["eval a", "resume a"] {
        let (code, err) = run(dir, command).refused();
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains("t.csv` has changed since the run started"), "{err}");
    }
    // As other data it can be measured, on the target of the run alone.
    run(dir, "eval a t.csv --json").good();
    let (code, err) = run(dir, "eval a t.csv --target z").refused();
    assert_eq!(code, Some(2));
    assert!(err.starts_with("error: --target names the targets of another array"), "{err}");
    std::fs::write(dir.join("t.csv"), format!("x,z,y\n{}", rows.concat())).unwrap();
    assert_eq!(run(dir, "eval a --json").good(), before);
    // A class that the run does not know is no reason to answer nothing, but it is said.
    std::fs::write(dir.join("q.csv"), "x,z,y\n1,2,a\n8,2,bb\n").unwrap();
    let ran = run(dir, "predict a q.csv");
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 3));
    assert!(ran.err.contains("warning: the answers are not compared with the target: "), "{}", ran.err);
}

/// Features and targets keep together, wherever a command is given.
#[test]
fn targets_of_arrays_are_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    for part in ["feat", "other", "elsewhere"] {
        std::fs::create_dir(dir.join(part)).unwrap();
    }
    let x = |i: usize| (i % 31) as f32;
    npy(dir, "feat/X.npy", "(200, 1)", (0..200).map(x));
    npy(dir, "y.npy", "(200,)", (0..200).map(|i| 3.0 * x(i)));
    run(dir, "train feat/X.npy --target y.npy --steps 300 --until 100 --out run --json").good();
    run(&dir.join("elsewhere"), "resume ../run --json").good();
    // Another pair with its own targets, and as many rows: not those that lie in this folder.
    npy(dir, "other/X.npy", "(200, 1)", (0..200).map(|i| x(i + 5)));
    npy(dir, "other/y.npy", "(200,)", (0..200).map(|i| 3.0 * x(i + 5)));
    let fit = json(&run(dir, "eval run other/X.npy --json").good())[0]["val_r2"].as_f64().unwrap();
    assert!(fit > 0.99, "{fit}");
    let fit = json(&run(dir, "eval run other/X.npy --target y.npy --json").good())[0]["val_r2"].as_f64().unwrap();
    assert!(fit < 0.9, "{fit}");
}

#[test]
fn balanced_classes_find_the_rare_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    // One in twenty is rare; where x is above 0.8 one in four is, so that most of those are common too.
    let text: String = (0..2000)
        .map(|i| {
            let x = (i * 7919 % 2000) as f64 / 2000.0;
            format!("{x},{}\n", if x > 0.8 && i % 4 == 0 { "rare" } else { "common" })
        })
        .collect();
    std::fs::write(dir.join("t.csv"), format!("x,y\n{text}")).unwrap();
    let recall = |weights: &str| {
        let args = format!("train t.csv --target y --json --out {weights} --set train.class_weights={weights}");
        let lines = json(&run(dir, &args).good());
        let confusion = &lines[lines.len() - 2]["confusion"];
        let row: Vec<u64> = serde_json::from_value(confusion[1].clone()).unwrap();
        row[1] as f64 / (row[0] + row[1]) as f64
    };
    let (none, balanced) = (recall("none"), recall("balanced"));
    assert!(none < 0.2 && balanced > 0.8, "{none} and {balanced} of the rare rows were found");
}

#[test]
fn commands_and_runs_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    iris_table(dir);
    let says = |args: &str, parts: &[&str]| {
        let (code, err) = run(dir, args).refused();
        assert_eq!(code, Some(2), "{err}");
        assert!(parts.iter().all(|part| err.contains(part)) && err.contains("\n\nhint: "), "{err}");
    };
    says("train iris.csv", &["--target is missing", "--target target", "`x0`, `x1`, `x2`, `x3`, `target`"]);
    says("train iris.csv --target target --model gpt2", &["gpt2 is a model of a text", "--model mlp"]);
    says("train --model mlp", &["mlp is a model of a table", "--model gpt2, ngram, rnn or gru"]);
    says("train --target x", &["data.target is the column of a table"]);
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1, "no run folder was made");
    run(dir, "train iris.csv --target target --out a --steps 5 --json").good();
    says("generate a", &["the run has learned from a table"]);
    run(dir, &format!("train --out t --steps 2 --json {}", common::SMALL)).good();
    says("predict t iris.csv", &["the run has learned from a text"]);
    std::fs::write(dir.join("other.csv"), "x0,x1,x2,x3,target\n1,2,3,4,rose\n").unwrap();
    says("eval a other.csv", &["other.csv:2: column `target`: the run has not learned a class `rose`"]);
    says("eval a iris.npy", &["the run has learned from a table, and `iris.npy` is not one"]);
    says("predict a no.csv", &["there is no `no.csv`"]);
}

#[test]
fn fewer_rows_than_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("t.csv"), "x,y\n1,a\n2,b\n3,a\n4,b\n").unwrap();
    run(dir, "train t.csv --target y --out a --steps 20 --until 7 --json").good();
    run(dir, "resume a --json").good();
    let config = std::fs::read_to_string(dir.join("a/config.toml")).unwrap();
    assert!(config.contains("\nbatch = 4\n"), "{config}");
    assert!(run(dir, "predict a t.csv").good().lines().count() == 5);
}
