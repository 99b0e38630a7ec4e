//! Arrays of every form, and the words of every refusal.

use super::*;
use crate::data::table::load;

/// The file that numpy.save would write.
fn npy(descr: &str, fortran: bool, shape: &str, numbers: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), numbers].concat()
}

fn f64s(numbers: impl IntoIterator<Item = f64>) -> Vec<u8> {
    numbers.into_iter().flat_map(f64::to_le_bytes).collect()
}

fn all(array: &Array) -> Vec<f64> {
    (0..array.rows).flat_map(|row| (0..array.columns).map(move |column| array.at(row, column))).collect()
}

#[test]
fn numbers_of_every_kind_are_read() {
    let read = |descr: &str, bytes: &[u8]| {
        let n = bytes.len() / descr[2..].parse::<usize>().unwrap();
        all(&parse("x.npy", npy(descr, false, &format!("({n},)"), bytes)).unwrap())
    };
    assert_eq!(read("<f8", &f64s([1.5, -2.0, 1e300])), [1.5, -2.0, 1e300]);
    assert_eq!(read(">f8", &[1.5f64, -2.0].map(f64::to_be_bytes).concat()), [1.5, -2.0]);
    assert_eq!(read("<f4", &[0.1f32, -3.0].map(f32::to_le_bytes).concat()), [f64::from(0.1f32), -3.0]);
    assert_eq!(read("<i8", &[i64::MIN, -1, 7].map(i64::to_le_bytes).concat()), [i64::MIN as f64, -1.0, 7.0]);
    assert_eq!(read(">i4", &[-5i32, 6].map(i32::to_be_bytes).concat()), [-5.0, 6.0]);
    assert_eq!(read("<i2", &[-5i16, 300].map(i16::to_le_bytes).concat()), [-5.0, 300.0]);
    assert_eq!(read("|i1", &[255, 5]), [-1.0, 5.0]);
    assert_eq!(read("|u1", &[255, 5]), [255.0, 5.0]);
    assert_eq!(read("<u8", &u64::MAX.to_le_bytes()), [u64::MAX as f64]);
    assert_eq!(read("|b1", &[0, 1]), [0.0, 1.0]);
}

#[test]
fn arrays_by_column_and_of_later_versions_are_the_same() {
    let rows = parse("x.npy", npy("<f8", false, "(2, 3)", &f64s([1., 2., 3., 4., 5., 6.]))).unwrap();
    let columns = parse("x.npy", npy("<f8", true, "(2, 3)", &f64s([1., 4., 2., 5., 3., 6.]))).unwrap();
    assert_eq!(all(&rows), [1., 2., 3., 4., 5., 6.]);
    assert_eq!(all(&rows), all(&columns));
    let first = npy("<f8", false, "(2, 3)", &f64s([1., 2., 3., 4., 5., 6.]));
    for version in [2, 3] {
        let second = [b"\x93NUMPY".as_slice(), &[version, 0], &first[8..10], &[0, 0], &first[10..]].concat();
        assert_eq!(all(&parse("x.npy", second).unwrap()), all(&rows));
    }
}

#[test]
fn files_that_are_no_arrays_of_numbers_are_refused() {
    let refused = |bytes: Vec<u8>, what: &str| assert_eq!(parse("x.npy", bytes).unwrap_err(), what);
    let good = npy("<f8", false, "(2, 3)", &f64s([0.0; 6]));
    refused(b"PK\x03\x04".to_vec(), "is not an .npy file: it does not begin with \\x93NUMPY");
    refused(vec![], "is not an .npy file: it does not begin with \\x93NUMPY");
    refused(good[..good.len() - 1].to_vec(), "is cut off: 47 of 48 bytes of numbers are there");
    refused([good.clone(), vec![0]].concat(), "has 49 bytes of numbers, and its shape (2, 3) needs 48");
    refused(good[..40].to_vec(), "is cut off in its header");
    refused(good[..8].to_vec(), "is cut off in its header");
    refused(b"\x93NUMPY\x09\x00\x01\x00a".to_vec(), "has version 9 of the format, and 1 to 3 are read");
    refused(npy("<U5", false, "(1,)", &[0; 20]), "holds values of type `<U5`, which cannot be read");
    refused(npy("|O", false, "(1,)", &[0; 8]), "holds values of type `|O`, which cannot be read");
    refused(npy("<f2", false, "(1,)", &[0; 2]), "holds values of type `<f2`, which cannot be read");
    refused(npy("<f8", false, "(1, 2, 1)", &[0; 16]), "has 3 axes, and one or two are read: its shape is (1, 2, 1)");
    refused(npy("<f8", false, "()", &[0; 8]), "has 0 axes, and one or two are read: its shape is ()");
    refused(npy("<f8", false, "(1, x)", &[0; 8]), "has a damaged header: the shape is `(1, x)`");
    let huge = "(9223372036854775807, 9223372036854775807)";
    refused(npy("<f8", false, huge, &[]), &format!("has too many numbers: its shape is {huge}"));
    // Every cut and many changed bytes: an error or an array, and never anything else.
    for i in 0..good.len() {
        assert!(parse("x.npy", good[..i].to_vec()).is_err());
        for bit in 0..8 {
            let mut changed = good.clone();
            changed[i] ^= 1 << bit;
            let _ = parse("x.npy", changed).map(|array| all(&array).len());
        }
    }
}

#[test]
fn a_pair_is_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, bytes: Vec<u8>| std::fs::write(path(name), bytes).unwrap();
    let load = |x: &str, sets: &[(&str, &str)]| {
        let mut all = vec![("data.path".to_string(), path(x).to_string_lossy().into_owned())];
        all.extend(sets.iter().map(|(key, value)| (key.to_string(), value.to_string())));
        let data = load(Source::Npy, &Config::build(None, &all).unwrap(), None);
        data.map(|data| data.notes().to_vec())
            .map_err(|e| (e.what.replace(&format!("{}/", folder.path().display()), ""), e.hint.unwrap()))
    };
    write("x.npy", npy("<f8", false, "(30, 2)", &f64s((0..60).map(|i| f64::from(i * 7 % 11)))));
    write("y.npy", npy("|u1", false, "(30,)", &(0..30).map(|i| i % 3).collect::<Vec<u8>>()));
    write("two.npy", npy("<f8", false, "(30, 2)", &f64s((0..60).map(|i| f64::from(i) * 0.5))));
    write("short.npy", npy("|u1", false, "(29,)", &[0; 29]));
    write("none.npy", npy("<f8", false, "(30, 0)", &[]));
    write("one.npy", npy("<f8", false, "(30,)", &f64s((0..30).map(f64::from))));
    let mut nan: Vec<f64> = (0..60).map(f64::from).collect();
    nan[35] = f64::NAN;
    write("nan.npy", npy("<f8", false, "(30, 2)", &f64s(nan)));
    let y = ("data.target", "y.npy");
    assert!(load("x.npy", &[y]).unwrap()[0].starts_with("target `y`: 3 different whole numbers"), "found beside x.npy");
    assert_eq!(
        load("x.npy", &[("data.target", "two.npy")]).unwrap()[0],
        "target: 2 numbers a row, so this is a regression"
    );
    let what = |x: &str, sets: &[(&str, &str)]| load(x, sets).unwrap_err().0;
    assert_eq!(what("x.npy", &[]), "--target is missing: which file has the targets of x.npy?");
    assert_eq!(what("x.npy", &[("data.target", "y")]), "the target of an array is an .npy file, got `y`");
    assert_eq!(what("x.npy", &[("data.target", "short.npy")]), "x.npy has 30 rows, and short.npy has 29 rows");
    assert_eq!(what("x.npy", &[("data.target", "none.npy")]), "none.npy has no numbers");
    assert_eq!(what("none.npy", &[y]), "none.npy has no column but the target");
    assert_eq!(what("one.npy", &[y]), "one.npy has one axis, and features have two: (rows, features)");
    assert_eq!(what("nan.npy", &[y]), "nan.npy[17, 1]: the number is NaN");
    assert!(load("nan.npy", &[y, ("data.missing", "mean")]).is_ok());
}
