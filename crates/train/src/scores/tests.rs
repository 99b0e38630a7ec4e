//! Accuracy, error and tables against figures worked out by hand.

use super::*;
use crate::model::Columns;

fn classes(names: &[&str], rows: Vec<Vec<u64>>) -> Confusion {
    Confusion { classes: names.iter().map(|name| name.to_string()).collect(), rows }
}

fn task(answer: Answer) -> Task {
    Task::Rows(Columns { numbers: 1, embedded: vec![], answer })
}

#[test]
fn numbers_have_the_error_and_r2_of_the_formula() {
    // y = 1, 2, 3, 6 with a mean of 3 and squares of 14 around it; errors 1, 0, -1, 2 with squares of 6.
    let mut tally = Tally::of(&task(Answer::Numbers { stds: vec![10.0] })).unwrap();
    tally.add_numbers(&[1.0, 2.0], &[0.0, 2.0]);
    tally.add_numbers(&[3.0, 6.0], &[4.0, 4.0]);
    let Fit::Numbers { rmse, r2 } = tally.fit() else { panic!() };
    assert!((rmse - 10.0 * (6.0f64 / 4.0).sqrt()).abs() < 1e-12, "{rmse}");
    assert!((r2.unwrap() - (1.0 - 6.0 / 14.0)).abs() < 1e-12, "{r2:?}");
}

#[test]
fn several_numbers_are_averaged_and_a_constant_has_no_r2() {
    let mut tally = Tally::of(&task(Answer::Numbers { stds: vec![1.0, 2.0] })).unwrap();
    tally.add_numbers(&[1.0, 5.0, 3.0, 5.0], &[1.0, 6.0, 3.0, 4.0]);
    let fit = tally.fit();
    assert_eq!(fit, Fit::Numbers { rmse: 2.0f64.sqrt(), r2: None }, "mean of 0 and 1 · 2²");
    assert_eq!(fit.words(), "RMSE 1.414");
}

#[test]
fn the_most_probable_class_is_the_answer() {
    assert_eq!(class_of(&[0.2, 0.5, 0.3, 0.4, 0.2, 0.4], 3, 0), Some(1));
    assert_eq!(class_of(&[0.2, 0.5, 0.3, 0.4, 0.2, 0.4], 3, 1), Some(0), "the first of equals");
    assert_eq!((class_of(&[0.4, 0.6], 2, 0), class_of(&[0.4, 0.6], 2, 1)), (Some(0), Some(1)));
    assert_eq!((class_of(&[0.4], 2, 1), class_of(&[0.4], 3, 0)), (None, None));
    let names = vec!["a".to_string(), "b".to_string(), "c".to_string()];
    let mut tally = Tally::of(&task(Answer::Classes { names, rows: vec![1, 1, 1] })).unwrap();
    tally.add_classes(&[1, 2], &[0.2, 0.5, 0.3, 0.4, 0.2, 0.4]);
    let fit = tally.fit();
    assert_eq!(fit, Fit::Classes(classes(&["a", "b", "c"], vec![vec![0, 0, 0], vec![0, 1, 0], vec![1, 0, 0]])));
    assert_eq!(fit.words(), "accuracy 50.00 % (1 of 2)");
}

#[test]
fn a_matrix_is_aligned() {
    let rows = vec![vec![10, 0, 0], vec![0, 9, 1], vec![0, 2, 1008]];
    let text = classes(&["setosa", "versicolor", "virginica"], rows).table();
    let expected = "\
rows: truth, columns: prediction
                setosa  versicolor   virginica
setosa              10           0           0
versicolor           0           9           1
virginica            0           2        1008";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn every_matrix_fits_and_many_classes_show_their_mistakes() {
    for (n, name, count) in [(10, "class", 12_345), (10, "a very long name of a class", 9), (13, "x", 1), (200, "k", 3)]
    {
        let names: Vec<String> = (0..n).map(|i| format!("{name}{i}")).collect();
        let mut confusion = Confusion::new(&names);
        confusion.rows[1][0] = count;
        confusion.rows[n - 1][2] = count - 1;
        let text = confusion.table();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(text.starts_with("most frequent"), n == 200, "{text}");
        if n == 200 {
            assert_eq!(text.lines().nth(1), Some("  k1 → k0: 3"), "{text}");
        }
    }
}

#[test]
fn numbers_have_four_digits() {
    let shown = [123_456.7, 1234.5, 55.123, 1.0, 0.012345, 0.0, 1e-7, 2.5e9].map(four_digits);
    assert_eq!(shown, ["123457", "1234", "55.12", "1.000", "0.01235", "0", "1.000e-7", "2.500e9"]);
}
