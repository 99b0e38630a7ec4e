//! What is read, what is decided, and the words of every refusal.

use std::path::PathBuf;

use super::columns::Form;
use super::*;
use crate::data;

/// A folder with files, and a configuration for one of them.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new(files: &[(&str, &[u8])]) -> Files {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        Files { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, name: &str, sets: &[(&str, &str)]) -> Config {
        let path = self.path(name).to_string_lossy().into_owned();
        let mut all = vec![("data.path".to_string(), path)];
        all.extend(sets.iter().map(|(key, value)| (key.to_string(), value.to_string())));
        Config::build(None, &all).unwrap()
    }

    fn load(&self, name: &str, sets: &[(&str, &str)]) -> Result<Box<dyn Dataset>> {
        data::load(&self.config(name, sets))
    }

    /// The error without the folder, and its hint.
    #[track_caller]
    fn refused(&self, name: &str, sets: &[(&str, &str)]) -> (String, String) {
        let error = self.load(name, sets).unwrap_err();
        let folder = format!("{}/", self.folder.path().display());
        (error.what.replace(&folder, ""), error.hint.unwrap_or_else(|| panic!("{} has no hint", error.what)))
    }
}

/// A table with the target `y`; the rows behind the header.
fn csv(text: &str) -> Files {
    Files::new(&[("t.csv", text.as_bytes())])
}

const Y: (&str, &str) = ("data.target", "y");

#[track_caller]
fn refused(text: &str, what: &str) -> String {
    let (found, hint) = csv(text).refused("t.csv", &[Y]);
    assert_eq!(found, what);
    hint
}

/// `n` lines of numbers and a class; `x` rises, `z` does not.
fn rows(n: usize) -> String {
    (0..n).map(|i| format!("{},{},{}\n", i * i % 17, (i * 7 % 5) as f64 / 2.0, ["no", "yes"][i % 2])).collect()
}

fn preprocessing(data: &dyn Dataset) -> Preprocessing {
    encoder_as::<Preprocessing>(data.encoder()).unwrap().clone()
}

#[test]
fn tables_that_are_none_are_refused() {
    assert_eq!(refused("", "t.csv is empty"), "a table has a line of column names and then a line for each row");
    refused("\u{feff}\r\n \r\n", "t.csv is empty");
    refused("x,y\n", "t.csv has names of columns, but no rows");
    refused("x,y", "t.csv has names of columns, but no rows");
    refused("x,y\n1,a\n", "t.csv has 1 row, and learning needs at least 2");
    refused("y\na\nb\na\nb\n", "t.csv has no column but the target");
    refused("1,2\n3,4\n5,6\n", "t.csv:1: the first line holds numbers, not the names of the columns");
    let hint = refused("x,z\n1,a\n2,b\n", "data.target: t.csv has no column `y`");
    assert_eq!(hint, "its columns: `x`, `z`");
    let (what, hint) = csv("x,Y\n1,a\n2,b\n").refused("t.csv", &[("data.target", "yy")]);
    assert_eq!((what.as_str(), hint.as_str()), ("data.target: t.csv has no column `yy`", "its columns: `x`, `Y`"));
    let (_, hint) = csv("age,colour\n1,a\n2,b\n").refused("t.csv", &[("data.target", "color")]);
    assert_eq!(hint, "did you mean `colour`?");
    let (what, hint) = csv("a b,target,c\n1,a,2\n").refused("t.csv", &[]);
    assert_eq!(what, "--target is missing: which column of t.csv is to be learned?");
    assert_eq!(hint, "for example --target target; the columns: `a b`, `target`, `c`");
    let (_, hint) = csv("a,my class\n1,a\n").refused("t.csv", &[]);
    assert!(hint.starts_with("for example --target \"my class\";"), "{hint}");
    let (what, _) = csv("").refused("none.csv", &[Y]);
    assert_eq!(what, "there is no `none.csv`");
}

#[test]
fn headers_must_name_every_column_once() {
    let hint = refused(",x,y\n0,1,a\n", "t.csv:1: column 1 has no name");
    assert!(hint.contains("index=False"), "{hint}");
    refused("x, y,x \n1,2,3\n", "t.csv:1: columns 1 and 3 are both called `x`");
    refused("x,y,\n1,2,3\n", "t.csv:1: column 3 has no name");
}

#[test]
fn rows_must_be_whole_and_places_are_lines_of_the_file() {
    refused("x,y\n1,a\n2\n", "t.csv:3: this row has 1 cell, the header has 2");
    refused("x,y\n1,a\n\n\n2,b,c\n", "t.csv:5: this row has 3 cells, the header has 2");
    refused("x,y\r\n1,a\r\n\r\n2,b,c\r\n", "t.csv:4: this row has 3 cells, the header has 2");
    refused("\u{feff}\nx,y\n1,a\n2,b,c\n", "t.csv:4: this row has 3 cells, the header has 2");
    refused("x,y\r1,a\r2,b,c\r", "t.csv:3: this row has 3 cells, the header has 2");
    // A cell with line breaks: the next row begins two lines later.
    refused("x,y\n1,\"a\nb\nc\"\n2,b,c\n", "t.csv:5: this row has 3 cells, the header has 2");
    let hint = refused("x,y\n1,a\n2,\"b\n3,c\n", "t.csv:3: a quotation mark is not closed");
    assert!(hint.contains("\"\""), "{hint}");
    let (what, _) = Files::new(&[("t.csv", b"x,y\n1,a\n2,\xe9\n")]).refused("t.csv", &[Y]);
    assert_eq!(what, "t.csv:3: not UTF-8 text");
    let (what, _) = Files::new(&[("t.csv", b"\xff\xfex\0")]).refused("t.csv", &[Y]);
    assert_eq!(what, "t.csv is UTF-16 text, not UTF-8");
}

#[test]
fn cells_must_be_what_their_column_holds() {
    let bad = |cell: &str| format!("x,z,y\n{}3,{cell},no\n", rows(8));
    for cell in ["NaN", "inf", "-Infinity", "1e400"] {
        let (what, hint) = csv(&bad(cell)).refused("t.csv", &[Y]);
        let shown = what.strip_prefix("t.csv:10: column `z`: ").unwrap_or_else(|| panic!("{what}"));
        assert_eq!(shown, format!("`{cell}` is not a finite number"));
        assert!(hint.contains("data.missing=mean"), "{hint}");
    }
    let hint = refused(&bad(""), "t.csv:10: column `z`: the cell is empty");
    assert!(hint.contains("data.missing=mean"), "{hint}");
    for word in ["NA", "n/a", "NULL", "?"] {
        let what = format!("t.csv:10: column `z`: `{word}` stands for a number that is not known");
        assert!(refused(&bad(word), &what).contains("data.missing=mean"));
        csv(&bad(word)).load("t.csv", &[Y, ("data.missing", "mean")]).unwrap();
    }
    refused(&bad("2e30"), "t.csv:10: column `z`: `2e30` is too large: numbers must lie between -1e30 and 1e30");
    let hint =
        refused(&bad("abc"), "t.csv:10: column `z`: `abc` is not a number, as the other cells of its column are");
    assert!(hint.contains("data.categories"), "{hint}");
    let comma = "is not a number: a decimal point is `.`, and nothing sets thousands apart";
    refused(&bad("\"1,5\""), &format!("t.csv:10: column `z`: `1,5` {comma}"));
    refused("x;y\n1,5;a\n2,5;b\n", &format!("t.csv:2: column `x`: `1,5` {comma}"));
    let euro: String = (0..40).map(|i| format!("{i};{i},5\n")).collect();
    refused(&format!("x;y\n{euro}"), &format!("t.csv:2: column `y`: `0,5` {comma}"));
    for date in ["2024-01-31", "31.01.2024", "1/31/24", "12:30", "2024-01-31T10:00:00Z", "2024-01-31 10:00"] {
        let what = format!("t.csv:2: column `d`: `{date}` is a date or a time, not a number");
        let hint = refused(&format!("d,y\n{date},a\n{date},b\n"), &what);
        assert!(hint.contains("data.ignore=d"), "{hint}");
    }
    refused(&format!("x,z,y\n{}3,1,\n", rows(8)), "t.csv:10: column `y`: the target is empty");
    refused("x,z,y\n1,,a\n2,,b\n", "t.csv: column `z` is empty");
}

#[test]
fn names_of_people_are_no_feature() {
    let text: String = (0..40).map(|i| format!("person {i},{},{}\n", i % 7, ["a", "b"][i % 2])).collect();
    let table = csv(&format!("name,x,y\n{text}"));
    let (what, hint) = table.refused("t.csv", &[Y]);
    let words = "t.csv: column `name` has 32 different words in 32 rows, so hardly anything can be learned from it";
    assert_eq!((what.as_str(), hint.as_str()), (words, "leave it out with --set data.ignore=name"));
    let data = table.load("t.csv", &[Y, ("data.ignore", "name")]).unwrap();
    assert_eq!(data.notes()[1], "inputs: 1 column of numbers");
    let (what, hint) = table.refused("t.csv", &[Y, ("data.ignore", "nam")]);
    assert_eq!((what.as_str(), hint.as_str()), ("data.ignore: t.csv has no column `nam`", "did you mean `name`?"));
    let (what, _) = table.refused("t.csv", &[Y, ("data.ignore", "x , y")]);
    assert_eq!(what, "data.ignore: `y` is the target");
    let (what, _) = table.refused("t.csv", &[("data.target", "name")]);
    assert_eq!(what, "the target `name` has 40 different values in 40 rows, too many to be classes");
}

#[test]
fn a_column_that_counts_the_rows_is_pointed_out() {
    let text: String = (0..40).map(|i| format!("{},{},{}\n", i + 1, i % 7, ["a", "b"][i % 2])).collect();
    let data = csv(&format!("id,x,y\n{text}")).load("t.csv", &[Y]).unwrap();
    assert_eq!(data.warnings().len(), 1);
    assert!(data.warnings()[0].starts_with("column `id` counts the rows;"), "{:?}", data.warnings());
}

#[test]
fn the_target_decides_the_task() {
    let task = |cells: &dyn Fn(usize) -> String, sets: &[(&str, &str)]| {
        let text: String = (0..60).map(|i| format!("{},{}\n", i * 7 % 13, cells(i))).collect();
        let data = csv(&format!("x,y\n{text}")).load("t.csv", &[&[Y], sets].concat())?;
        Ok::<_, Error>(data.notes()[0].clone())
    };
    let words = |n: usize| move |i: usize| format!("w{}", i % n);
    let whole = |n: usize| move |i: usize| (i % n).to_string();
    let said = |cells: &dyn Fn(usize) -> String| task(cells, &[]).unwrap();
    assert_eq!(said(&words(2)), "target `y`: 2 classes, so this is a classification");
    assert_eq!(said(&words(3)), "target `y`: 3 classes, so this is a classification");
    let few = "different whole numbers, so this is a classification (as numbers: --set data.task=regression)";
    assert_eq!(said(&whole(2)), format!("target `y`: 2 {few}"));
    assert_eq!(said(&whole(20)), format!("target `y`: 20 {few}"));
    let numbers = "target `y`: numbers, so this is a regression";
    assert_eq!(said(&whole(21)), numbers, "too many to be classes");
    assert_eq!(said(&|i| if i == 0 { "9".into() } else { (i % 2).to_string() }), numbers, "9 is there once");
    assert_eq!(said(&|i| format!("{}.5", i % 3)), numbers, "not whole");
    assert_eq!(task(&whole(3), &[("data.task", "regression")]).unwrap(), numbers);
    let forced = [("data.task", "classification")];
    assert_eq!(
        task(&|i| format!("{}.5", i % 3), &forced).unwrap(),
        "target `y`: 3 classes, so this is a classification"
    );
    let refused = |cells: &dyn Fn(usize) -> String, sets: &[(&str, &str)]| task(cells, sets).unwrap_err().what;
    let what = refused(&words(3), &[("data.task", "regression")]);
    assert!(what.ends_with("t.csv:2: column `y`: data.task=regression wants numbers, got `w0`"), "{what}");
    assert_eq!(refused(&words(1), &[]), "the target `y` is `w0` in every row");
    assert_eq!(
        refused(&whole(60), &forced),
        "the target `y` has 60 different values in 60 rows, too many to be classes"
    );
    let same = "the target `y` has the same value in every row that is learned from";
    assert_eq!(refused(&|_| "2.5".into(), &[]), same);
    let what = refused(&|i| if i == 30 { "oops".into() } else { format!("{i}.5") }, &[]);
    assert!(
        what.ends_with("t.csv:32: column `y`: `oops` is not a number, as the other cells of its column are"),
        "{what}"
    );
}

#[test]
fn a_class_with_one_row_is_learned() {
    let text: String = (0..20).map(|i| format!("{i},{}\n", if i == 13 { "rare" } else { ["a", "b"][i % 2] })).collect();
    for seed in ["1", "2", "3"] {
        let data = csv(&format!("x,y\n{text}")).load("t.csv", &[Y, ("train.seed", seed)]).unwrap();
        let Learned::Classification { classes, rows, .. } = preprocessing(&*data).target.form else { panic!() };
        assert_eq!((classes, rows), (vec!["a".into(), "b".into(), "rare".into()], vec![8, 7, 1]), "seed {seed}");
        assert_eq!((data.batches(Part::Validation, 1).unwrap(), data.most_rows()), (4, 16));
    }
}

#[test]
fn figures_are_of_the_training_part_alone() {
    let text: String = (0..50).map(|i| format!("{},{}\n", i * i, ["a", "b"][i % 2])).collect();
    let files = csv(&format!("x,y\n{text}"));
    let data = files.load("t.csv", &[Y]).unwrap();
    let found = preprocessing(&*data);
    let classes: Vec<u32> = (0..50).map(|i| i % 2).collect();
    let train = split(&classes, 0.2, 1337).train;
    let xs: Vec<f64> = train.iter().map(|i| f64::from(i * i)).collect();
    let mean = xs.iter().sum::<f64>() / 40.0;
    let std = (xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 40.0).sqrt();
    let Form::Number { mean: m, std: s } = found.columns[0].form else { panic!() };
    assert!((m - mean).abs() < 1e-9 && (s - std).abs() < 1e-9, "{m} {s}");
    // Another cell in the validation part changes no figure.
    let kept = split(&classes, 0.2, 1337).validation[0] as usize;
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    lines[kept] = lines[kept].replace(&(kept * kept).to_string(), "123456");
    std::fs::write(files.path("t.csv"), format!("x,y\n{}\n", lines.join("\n"))).unwrap();
    assert_eq!(preprocessing(&*files.load("t.csv", &[Y]).unwrap()), found);
}

#[test]
fn columns_of_words_have_a_form_by_how_many_there_are() {
    let text: String = (0..200).map(|i| format!("k{},w{:02},same,{}\n", i % 16, i % 17, ["a", "b"][i % 2])).collect();
    let data = csv(&format!("few,many,one,y\n{text}")).load("t.csv", &[Y]).unwrap();
    let found = preprocessing(&*data);
    assert!(matches!(&found.columns[0].form, Form::OneHot { words } if words.len() == 16));
    assert!(matches!(&found.columns[1].form, Form::Embedding { words, width: 5 } if words.len() == 17));
    assert_eq!((found.columns.len(), &found.left_out), (2, &vec!["one".to_string()]));
    assert_eq!(data.notes()[1], "inputs: `few` (16 words), `many` (17 words, vectors of 5)");
    assert_eq!(data.notes()[2], "left out, having one value in the training part: `one`");
    let folder = csv("");
    std::fs::write(folder.path("p.json"), found.to_json()).unwrap();
    let read = Preprocessing::decode(&folder.path("p.json")).unwrap();
    assert_eq!(encoder_as::<Preprocessing>(&*read).unwrap(), &found, "the file has all of it");
}

#[test]
fn numbers_may_be_taken_as_words() {
    let text: String = (0..40).map(|i| format!("0{},{}\n", 1060 + i % 3, ["a", "b"][i % 2])).collect();
    let data = csv(&format!("code,y\n{text}")).load("t.csv", &[Y, ("data.categories", "code")]).unwrap();
    let words = ["01060", "01061", "01062"].map(str::to_string).to_vec();
    assert_eq!(preprocessing(&*data).columns[0].form, Form::OneHot { words });
}

#[test]
fn empty_cells_are_the_mean_or_a_word_of_their_own() {
    let text: String = (0..60)
        .map(|i| {
            let x = if i % 5 == 0 { String::new() } else { i.to_string() };
            let colour = if i % 4 == 0 { "" } else { ["red", "blue"][i % 2] };
            format!("{x}, {colour} ,{}\n", ["a", "b"][i % 2])
        })
        .collect();
    let files = csv(&format!("x,colour,y\n{text}"));
    let (what, _) = files.refused("t.csv", &[Y]);
    assert_eq!(what, "t.csv:2: column `x`: the cell is empty");
    let config = files.config("t.csv", &[Y, ("data.missing", "mean")]);
    let how = preprocessing(&*data::load(&config).unwrap());
    let words = ["", "blue", "red"].map(str::to_string).to_vec();
    assert_eq!(how.columns[1].form, Form::OneHot { words });
    let encoded = encode(&how, &read(Source::Csv, &config, Use::Learn).unwrap()).unwrap();
    for (i, row) in encoded.numbers.chunks(4).enumerate() {
        assert_eq!(row[0] == 0.0, i % 5 == 0, "the mean of a standardised column is 0");
        assert_eq!(row[1], if i % 4 == 0 { 1.0 } else { 0.0 });
    }
}

#[test]
fn separators_quotes_and_line_ends_change_nothing() {
    let plain: String = (0..30).map(|i| format!("{},w {},{}\n", i, i % 3, ["a", "b"][i % 2])).collect();
    let forms = [
        format!("x,z,y\n{plain}"),
        format!("\u{feff}x,z,y\r\n{}", plain.replace('\n', "\r\n")),
        format!("x;z;y\n{}", plain.replace(',', ";")),
        format!("\"x\"\t\"z\"\t\"y\"\n{}", plain.replace(',', "\t")),
        format!("x, z ,y\n\n{}", plain.replace(",w ", " , \"w ").replace(",a", "\",a").replace(",b", "\",b"))
            .replace(" , \"", ",\""),
    ];
    let read: Vec<Encoded> = forms
        .iter()
        .map(|text| {
            let files = csv(text);
            let config = files.config("t.csv", &[Y]);
            let how = preprocessing(&*data::load(&config).unwrap());
            encode(&how, &super::read(Source::Csv, &config, Use::Learn).unwrap()).unwrap()
        })
        .collect();
    assert!(read.iter().all(|encoded| *encoded == read[0]), "{read:?}");
}

#[test]
fn questions_may_have_other_columns_in_any_order() {
    let text: String = (0..60).map(|i| format!("{},k{},{}\n", i * 7 % 13, i % 3, ["a", "b"][i % 2])).collect();
    let files = csv(&format!("x,k,y\n{text}"));
    let config = files.config("t.csv", &[Y]);
    let how = preprocessing(&*data::load(&config).unwrap());
    let ask = |text: &str| {
        std::fs::write(files.path("q.csv"), text).unwrap();
        let folder = format!("{}/", files.folder.path().display());
        Questions::read(&config, &how, &files.path("q.csv"))
            .map(|questions| {
                let warnings = questions.warnings.iter().map(|w| w.replace(&folder, "")).collect::<Vec<_>>();
                (questions.encoded, warnings)
            })
            .map_err(|error| error.what.replace(&folder, ""))
    };
    let (plain, warnings) = ask("x,k\n3,k1\n4,k2\n").unwrap();
    assert_eq!((plain.targets.clone(), warnings), (Targets::None, vec![]));
    let (other, warnings) = ask("new,k,x\n?,k1,3\n?,k2,4\n").unwrap();
    assert_eq!(other.numbers, plain.numbers);
    assert_eq!(warnings, ["columns that the model does not read: `new`"]);
    let (with_target, _) = ask("y,k,x\nb,k1,3\na,k2,4\n").unwrap();
    assert_eq!(with_target.targets, Targets::Classes(vec![1, 0]));
    assert_eq!(ask("y,k,x\nb,k1,3\n,k2,4\n").unwrap().0.targets, Targets::None, "a target with holes is left alone");
    let (unknown, warnings) = ask("x,k\n3,k9\n4,k1\n5,k8\n").unwrap();
    assert_eq!(unknown.numbers[1..4], [0.0; 3]);
    assert_eq!(
        warnings,
        ["q.csv:2: column `k`: the run has not learned `k9`; the same holds for 1 more cell of this column"]
    );
    assert_eq!(ask("k\nk1\n").unwrap_err(), "q.csv lacks 1 column that the run has learned from: `x`");
    assert_eq!(
        ask("x,k\n3,k1\nfour,k1\n").unwrap_err().split(": ").take(2).collect::<Vec<_>>(),
        ["q.csv:3", "column `x`"]
    );
    assert_eq!(ask("x,k\n3,\n").unwrap_err(), "q.csv:2: column `k`: the cell is empty");
    assert_eq!(ask("x,k\n").unwrap_err(), "q.csv has names of columns, but no rows");
}

#[test]
fn a_damaged_file_of_a_run_is_refused() {
    let text: String = (0..60).map(|i| format!("{},{}\n", i * 7 % 13, ["a", "b"][i % 2])).collect();
    let files = csv(&format!("x,y\n{text}"));
    let json = preprocessing(&*files.load("t.csv", &[Y]).unwrap()).to_json();
    let read = |text: &str| {
        std::fs::write(files.path("preprocessing.json"), text).unwrap();
        Preprocessing::decode(&files.path("preprocessing.json")).map_err(|error| error.exit_code())
    };
    assert!(read(&json).is_ok());
    for (from, to) in [("\"version\": 1", "\"version\": 2"), ("\"std\": ", "\"std\": -"), ("\"b\"", "\"a\""), ("}", "")]
    {
        assert!(json.contains(from));
        assert_eq!(read(&json.replacen(from, to, 1)).err(), Some(4), "{from}");
    }
    for cut in 0..json.len() - 1 {
        assert_eq!(read(&json[..cut]).err(), Some(4), "cut at {cut}");
    }
}

#[test]
fn any_bytes_are_a_table_or_an_error() {
    // Pieces that a reader of tables may stumble over, put together at random.
    let pieces: [&[u8]; 22] = [
        b"x,y\n",
        b",",
        b"\n",
        b"\r\n",
        b"\"",
        b"\"\"",
        b"a",
        b"1",
        b"1e400",
        b"NaN",
        b"-",
        b";",
        b"\t",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"x",
        b"y",
        b" ",
        b"2024-01-01",
        b"1,5",
        b"\r",
    ];
    let mut state = 1u64;
    let mut next = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let files = csv("");
    let (mut read, mut refused) = (0, 0);
    let config = files.config("t.csv", &[Y]);
    for i in 0..2000 {
        let mut bytes = if i % 3 > 0 { b"x,y\n1,a\n2,b\n".to_vec() } else { Vec::new() };
        (0..next(14)).for_each(|_| bytes.extend_from_slice(pieces[next(pieces.len())]));
        std::fs::write(files.path("t.csv"), &bytes).unwrap();
        match data::load(&config) {
            Ok(_) => read += 1,
            Err(error) => {
                assert!(error.hint.is_some(), "{error} has no hint");
                refused += 1;
            }
        }
    }
    assert!(read > 50 && refused > 50, "{read} read, {refused} refused");
}
