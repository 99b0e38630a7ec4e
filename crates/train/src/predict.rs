//! What a trained model answers about the rows of a table.

use std::io::Write;
use std::path::Path;

use serde_json::Value;

use crate::atomic;
use crate::data::{Preprocessing, Questions, encoder_as};
use crate::error::{Error, Result};
use crate::model::{self, Answer, Task};
use crate::scores::{Fit, Tally, class_of};
use crate::session::Trained;
use crate::words::count;

/// The answers about the rows of a table.
#[derive(Debug)]
pub struct Predictions {
    /// The classes, or the names of the numbers that are answered.
    names: Vec<String>,
    answers: Answers,
    /// Of numbers, how many digits after the point the model can tell apart.
    decimals: Vec<usize>,
    /// How they fit the target, where the table has it.
    pub fit: Option<Fit>,
    /// What the run has not seen, for people.
    pub warnings: Vec<String>,
}

/// Row by row.
#[derive(Debug)]
enum Answers {
    /// The probability of every class.
    Classes(Vec<Vec<f32>>),
    /// Numbers in the units of the table.
    Numbers(Vec<Vec<f64>>),
}

/// Answers about the rows of the table at a path, which may have its target or not.
///
/// # Errors
/// A run that has learned from no table; columns or cells that do not fit; an answer that is not finite.
pub fn predict(trained: &Trained, path: &Path) -> Result<Predictions> {
    let how: &Preprocessing = encoder_as(&*trained.encoder)?;
    let questions = Questions::read(&trained.config, how, path)?;
    let task = crate::data::Encoder::task(how);
    let Task::Rows(columns) = &task else { return Err(Error::bug("the run answers no rows")) };
    let graph = model::prediction_graph(&trained.config, columns);
    let mut program = model::compile(&graph, &trained.state, &trained.config)?;
    let (mut batch, rows) = (program.batch(), model::evaluation_rows(&trained.config));
    let width = columns.answer.outputs();
    let mut all: Vec<f32> = Vec::new();
    for first in (0..questions.rows()).step_by(rows) {
        questions.fill(first, rows, &mut batch)?;
        program.evaluate(&trained.state, &batch).map_err(Error::bug)?;
        let real = (questions.rows() - first).min(rows) * width;
        all.extend(program.f32s("answers").unwrap_or(&[]).iter().take(real));
    }
    let endless = |i: usize, answer: f64| {
        Err(Error::non_finite(format!("{}: the answer is {answer}", questions.place(i / width)))
            .hint("a number in this row lies very far from all that the run has learned from"))
    };
    if let Some(i) = all.iter().position(|x| !x.is_finite()) {
        return endless(i, f64::from(all[i]));
    }
    let fit = fit(&task, &questions, &all);
    let answers = match &columns.answer {
        Answer::Classes { names, .. } if names.len() == 2 => {
            Answers::Classes(all.iter().map(|p| vec![1.0 - p, *p]).collect())
        }
        Answer::Classes { names, .. } => Answers::Classes(all.chunks(names.len()).map(<[f32]>::to_vec).collect()),
        Answer::Numbers { .. } => {
            Answers::Numbers(all.chunks(width).map(|row| how.in_units(row).unwrap_or_default()).collect())
        }
    };
    if let Answers::Numbers(rows) = &answers
        && let Some((i, answer)) = rows.iter().flatten().enumerate().find(|(_, x)| !x.is_finite())
    {
        return endless(i, *answer);
    }
    let decimals = match &columns.answer {
        Answer::Classes { .. } => Vec::new(),
        Answer::Numbers { stds } => stds.iter().copied().map(decimals).collect(),
    };
    Ok(Predictions { names: how.answers(), answers, decimals, fit, warnings: questions.warnings })
}

/// The digits after the point that tell apart what the model can: it computes answers of this standard deviation in f32.
fn decimals(std: f64) -> usize {
    (-libm::log10(std * f64::from(f32::EPSILON) / 2.0)).ceil().clamp(0.0, 300.0) as usize
}

/// A number with no more digits after the point than those.
fn written(x: f64, decimals: usize) -> String {
    let text = format!("{x:.decimals$}");
    let text = if decimals == 0 { &text } else { text.trim_end_matches('0').trim_end_matches('.') };
    if text == "-0" { "0".to_string() } else { text.to_string() }
}

/// How answers fit the targets, where the table has them.
fn fit(task: &Task, questions: &Questions, answers: &[f32]) -> Option<Fit> {
    let mut tally = Tally::of(task)?;
    match (questions.classes(), questions.numbers()) {
        (Some(classes), _) => tally.add_classes(classes, answers),
        (_, Some(numbers)) => tally.add_numbers(numbers, answers),
        (None, None) => return None,
    }
    Some(tally.fit())
}

impl Predictions {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        match &self.answers {
            Answers::Classes(rows) => rows.len(),
            Answers::Numbers(rows) => rows.len(),
        }
    }

    /// As CSV: a line of names, then a line for each row, in their order. Of classes the columns are `prediction` and the
    /// probability of each class, as `p_setosa`; of one number it is `prediction`, of several `prediction_0` and on.
    pub fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header = match &self.answers {
            Answers::Classes(_) => {
                let names = self.names.iter().map(|name| format!("p_{name}"));
                std::iter::once("prediction".to_string()).chain(names).collect()
            }
            Answers::Numbers(_) if self.names.len() == 1 => vec!["prediction".to_string()],
            Answers::Numbers(_) => (0..self.names.len()).map(|i| format!("prediction_{i}")).collect::<Vec<_>>(),
        };
        // Writing into memory does not fail, and every row has as many cells as the first.
        let _ = writer.write_record(&header);
        for row in 0..self.rows() {
            let _ = writer.write_record(self.cells(row));
        }
        String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
    }

    fn cells(&self, row: usize) -> Vec<String> {
        match &self.answers {
            Answers::Classes(rows) => {
                let probabilities = rows[row].iter().map(|p| format!("{p}"));
                std::iter::once(self.class(&rows[row]).to_string()).chain(probabilities).collect()
            }
            Answers::Numbers(rows) => self.numbers(&rows[row]),
        }
    }

    fn numbers(&self, row: &[f64]) -> Vec<String> {
        row.iter().zip(&self.decimals).map(|(x, decimals)| written(*x, *decimals)).collect()
    }

    fn class(&self, probabilities: &[f32]) -> &str {
        let class = match probabilities {
            [_, second] => class_of(&[*second], 2, 0),
            more => class_of(more, more.len(), 0),
        };
        class.and_then(|i| self.names.get(i)).map_or("", String::as_str)
    }

    /// A row as a JSON object: `{"prediction":"setosa","p":{"setosa":0.99,"virginica":0.01}}`, of numbers
    /// `{"prediction":3.5}`, of several a list.
    pub fn json(&self, row: usize) -> String {
        // Written by hand, because the classes keep their order. Finite numbers print as JSON.
        let text = |text: &str| Value::from(text).to_string();
        match &self.answers {
            Answers::Classes(rows) => {
                let of = |(name, p): (&String, &f32)| format!("{}:{p}", text(name));
                let p: Vec<String> = self.names.iter().zip(&rows[row]).map(of).collect();
                format!("{{\"prediction\":{},\"p\":{{{}}}}}", text(self.class(&rows[row])), p.join(","))
            }
            Answers::Numbers(rows) => match &self.numbers(&rows[row])[..] {
                [one] => format!("{{\"prediction\":{one}}}"),
                several => format!("{{\"prediction\":[{}]}}", several.join(",")),
            },
        }
    }

    /// A line about how they fit the target, where the table has it.
    pub fn words(&self) -> Option<String> {
        Some(format!("{}: {}", count(self.rows(), "row"), self.fit.as_ref()?.words()))
    }

    /// Writes them as CSV into a new file, whole or not at all.
    ///
    /// # Errors
    /// The file exists, or cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        if path.exists() {
            return Err(Error::usage(format!("`{}` exists already", path.display()))
                .hint("remove it, or choose another name for --out"));
        }
        atomic::replace(path, |sink| sink.write_all(self.csv().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions(names: &[&str], answers: Answers) -> Predictions {
        let names = names.iter().map(|name| name.to_string()).collect();
        let decimals = vec![decimals(1.0); 2];
        Predictions { names, answers, decimals, fit: None, warnings: vec![] }
    }

    #[test]
    fn numbers_have_the_digits_that_the_model_can_tell_apart() {
        // A mean of 1.7e9 and a deviation of 23: neighbours in f32 would be 128 apart.
        let digits = decimals(23.0);
        assert_eq!(digits, 6);
        assert_eq!(written(1_700_000_040.125, digits), "1700000040.125");
        assert_eq!(written(1_700_000_039.999_999_9, digits), "1700000040");
        assert_eq!([written(-1e-9, digits), written(0.1, decimals(1.0))], ["0", "0.1"]);
        assert_eq!((decimals(1e20), written(1.2e21, decimals(1e20))), (0, "1200000000000000000000".to_string()));
        assert_eq!(written(1.25e-20, decimals(1e-20)), "0.0000000000000000000125");
    }

    #[test]
    fn rows_are_csv_and_json() {
        let classes = predictions(&["b, \"x\"", "a"], Answers::Classes(vec![vec![0.75, 0.25], vec![0.5, 1e-9]]));
        let csv = "prediction,\"p_b, \"\"x\"\"\",p_a\n\"b, \"\"x\"\"\",0.75,0.25\n\"b, \"\"x\"\"\",0.5,0.000000001\n";
        assert_eq!(classes.csv(), csv);
        assert_eq!(classes.json(0), r#"{"prediction":"b, \"x\"","p":{"b, \"x\"":0.75,"a":0.25}}"#);
        let number = predictions(&["y"], Answers::Numbers(vec![vec![0.1], vec![-3e20]]));
        assert_eq!(number.csv(), "prediction\n0.1\n-300000000000000000000\n");
        assert_eq!(
            (number.json(0), number.json(1)),
            (r#"{"prediction":0.1}"#.into(), r#"{"prediction":-300000000000000000000}"#.into())
        );
        let two = predictions(&["y0", "y1"], Answers::Numbers(vec![vec![1.5, 2.0]]));
        assert_eq!(
            (two.csv().as_str(), two.json(0)),
            ("prediction_0,prediction_1\n1.5,2\n", r#"{"prediction":[1.5,2]}"#.into())
        );
        for (rows, row) in [(&classes, 0), (&classes, 1), (&number, 1), (&two, 0)] {
            assert!(serde_json::from_str::<Value>(&rows.json(row)).is_ok());
        }
    }
}
