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
    let width = match &columns.answer {
        Answer::Classes { names, .. } if names.len() == 2 => 1,
        Answer::Classes { names, .. } => names.len(),
        Answer::Numbers { stds } => stds.len(),
    };
    let mut all: Vec<f32> = Vec::new();
    for first in (0..questions.rows()).step_by(rows) {
        questions.fill(first, rows, &mut batch)?;
        program.evaluate(&trained.state, &batch).map_err(Error::bug)?;
        let real = (questions.rows() - first).min(rows) * width;
        all.extend(program.f32s("answers").unwrap_or(&[]).iter().take(real));
    }
    if let Some(i) = all.iter().position(|x| !x.is_finite()) {
        let row = questions.place(i / width);
        return Err(Error::non_finite(format!("{row}: the answer is {}", all[i]))
            .hint("a number in this row lies very far from all that the run has learned from"));
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
    Ok(Predictions { names: how.answers(), answers, fit, warnings: questions.warnings })
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
            // The model computes in f32: more digits would be made up.
            Answers::Numbers(rows) => rows[row].iter().map(|x| format!("{}", *x as f32)).collect(),
        }
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
            Answers::Numbers(rows) => {
                let numbers: Vec<String> = rows[row].iter().map(|x| format!("{}", *x as f32)).collect();
                match &numbers[..] {
                    [one] => format!("{{\"prediction\":{one}}}"),
                    several => format!("{{\"prediction\":[{}]}}", several.join(",")),
                }
            }
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
        Predictions { names, answers, fit: None, warnings: vec![] }
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
