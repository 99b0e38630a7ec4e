//! Models of tables: rows of numbers and words in, a class or numbers out.

use geartrain_engine::{DType, Graph, Init, Var};
use geartrain_nn::init::{kaiming_normal, xavier_normal};
use geartrain_nn::{Dropout, Embedding, Linear};

use super::{DTYPE, Forward};
use crate::config::{ClassWeights, Config};

/// What the rows of a table are to a model. Inputs of its graphs: `features` (rows, numbers) f32, where there are any;
/// `words.0`, `words.1`, ... (rows) u32, one for each embedded column; and `targets`, (rows) u32 for classes and
/// (rows, targets) f32 for numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// Numbers of a row.
    pub numbers: usize,
    /// Columns whose words have learned vectors.
    pub embedded: Vec<Embedded>,
    /// What is answered.
    pub answer: Answer,
}

/// A column whose words have learned vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Different words, and one row for all others.
    pub rows: usize,
    /// Length of a vector.
    pub width: usize,
}

/// What is answered of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// One of these classes, `rows` of the training part being of each. Two are told apart by one logit.
    Classes {
        /// Their names.
        names: Vec<String>,
        /// Their examples.
        rows: Vec<usize>,
    },
    /// Standardised numbers, with the standard deviations that they were divided by.
    Numbers {
        /// One for each number.
        stds: Vec<f64>,
    },
}

impl Answer {
    /// Columns of the last layer.
    pub(crate) fn outputs(&self) -> usize {
        match self {
            Answer::Classes { names, .. } if names.len() == 2 => 1,
            Answer::Classes { names, .. } => names.len(),
            Answer::Numbers { stds } => stds.len(),
        }
    }
}

/// The last layer's values (rows, outputs): fully connected layers on the numbers and the vectors of a row side by side.
fn outputs<'g>(g: &'g Graph, config: &Config, columns: &Columns, rows: usize, dropout: &Dropout<'g>) -> Var<'g> {
    let mut parts = Vec::new();
    if columns.numbers > 0 {
        parts.push(g.input("features", DTYPE, [rows, columns.numbers]));
    }
    for (i, Embedded { rows: words, width }) in columns.embedded.iter().enumerate() {
        let indices = g.input(&format!("words.{i}"), DType::U32, [rows]);
        // Small at first: rare words say little until they have learned something.
        let table = Embedding { rows: *words, width: *width, init: Init::Normal { std: 0.1 } };
        parts.push(table.table(&format!("words.{i}"), g, DTYPE).gather(indices));
    }
    let mut x = if parts.len() == 1 { parts[0] } else { g.concat(1, &parts) };
    let model = &config.model;
    let mut inputs = columns.numbers + columns.embedded.iter().map(|e| e.width).sum::<usize>();
    for i in 0..model.layers {
        let layer = Linear { inputs, outputs: model.hidden, bias: model.bias, init: kaiming_normal(inputs) };
        x = dropout.forward(model.activation.forward(layer.forward(&format!("layers.{i}"), x)));
        inputs = model.hidden;
    }
    let outputs = columns.answer.outputs();
    Linear { inputs, outputs, bias: true, init: xavier_normal(inputs, outputs) }.forward("output", x)
}

/// What the last layer's values stand for: probabilities (rows, classes), of two classes that of the second (rows), or
/// standardised numbers (rows, numbers).
fn answered<'g>(answer: &Answer, y: Var<'g>, rows: usize) -> Var<'g> {
    match answer {
        Answer::Classes { names, .. } if names.len() == 2 => y.sigmoid().reshape([rows]),
        Answer::Classes { .. } => y.softmax(),
        Answer::Numbers { .. } => y,
    }
}

/// Answers without dropout and targets.
pub(super) fn answers<'g>(g: &'g Graph, config: &Config, columns: &Columns, rows: usize) -> Var<'g> {
    answered(&columns.answer, outputs(g, config, columns, rows, &Dropout::off()), rows)
}

/// The loss of every row: cross-entropy of classes, the mean squared error of standardised numbers.
pub(super) fn forward<'g>(
    g: &'g Graph,
    config: &Config,
    columns: &Columns,
    rows: usize,
    dropout: &Dropout<'g>,
) -> Forward<'g> {
    let y = outputs(g, config, columns, rows, dropout).named("outputs");
    let answers = Some(answered(&columns.answer, y, rows));
    match &columns.answer {
        Answer::Classes { names, rows: examples } => {
            let targets = g.input("targets", DType::U32, [rows]);
            // A logit for one class against 0 for the other is the logistic loss, and stays exact for large ones.
            let logits = match names.len() {
                2 => g.concat(1, &[y.constant_like([rows, 1], &vec![0.0; rows]), y]),
                _ => y,
            };
            let weights = (config.train.class_weights == ClassWeights::Balanced)
                .then(|| y.constant_like([names.len()], &balanced(examples)).gather(targets));
            Forward { losses: logits.cross_entropy(targets), weights, answers }
        }
        Answer::Numbers { stds } => {
            let targets = g.input("targets", DTYPE, [rows, stds.len()]);
            Forward { losses: (y - targets).square().mean(1), weights: None, answers }
        }
    }
}

/// The weight of each class's examples: n / (classes · n of the class). Their mean over all rows is 1.
fn balanced(examples: &[usize]) -> Vec<f64> {
    let n: usize = examples.iter().sum();
    examples.iter().map(|of_class| n as f64 / (examples.len() * of_class.max(&1)) as f64).collect()
}

#[cfg(test)]
mod tests {
    use geartrain_engine::State;

    use super::*;
    use crate::config::DataKind;
    use crate::model::{self, Task};

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("c{i}")).collect()
    }

    /// What the evaluation graph with fresh weights gives of rows: losses and answers.
    fn evaluated(answer: Answer, fill: impl Fn(&mut geartrain_engine::Batch)) -> (Vec<f32>, Vec<f32>) {
        let config = Config::defaults(DataKind::Table);
        let task = Task::Rows(Columns { numbers: 3, embedded: vec![Embedded { rows: 4, width: 2 }], answer });
        let graph = model::evaluation_graph(&config, &task).unwrap();
        let state = State::new(&graph, 3).unwrap();
        let mut program = model::compile(&graph, &state, &config).unwrap();
        let mut batch = program.batch();
        let features = batch.f32s("features").unwrap();
        features.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 7) as f32 - 3.0);
        batch.u32s("words.0").unwrap().iter_mut().enumerate().for_each(|(i, word)| *word = i as u32 % 4);
        fill(&mut batch);
        program.evaluate(&state, &batch).unwrap();
        (program.f32s("losses").unwrap().to_vec(), program.f32s("answers").unwrap().to_vec())
    }

    #[test]
    fn losses_are_those_of_the_answers() {
        for n in [2, 5] {
            let targets = |i: usize| i * 3 % n;
            let (losses, answers) = evaluated(Answer::Classes { names: names(n), rows: vec![1; n] }, |batch| {
                batch.u32s("targets").unwrap().iter_mut().enumerate().for_each(|(i, y)| *y = targets(i) as u32);
            });
            for (i, loss) in losses.iter().enumerate() {
                let p = match (n, targets(i)) {
                    (2, 1) => answers[i],
                    (2, _) => 1.0 - answers[i],
                    (_, target) => answers[i * n + target],
                };
                assert!((loss + p.ln()).abs() < 1e-4 * (1.0 + loss), "{n} classes, row {i}: {loss} for {p}");
            }
        }
        let target = |i: usize| (i % 9) as f32 / 4.0;
        let (losses, answers) = evaluated(Answer::Numbers { stds: vec![1.0, 2.0] }, |batch| {
            batch.f32s("targets").unwrap().iter_mut().enumerate().for_each(|(i, y)| *y = target(i));
        });
        for (i, loss) in losses.iter().enumerate() {
            let of = |j: usize| (answers[2 * i + j] - target(2 * i + j)).powi(2);
            assert!((loss - (of(0) + of(1)) / 2.0).abs() < 1e-4 * (1.0 + loss), "row {i}: {loss}");
        }
    }

    #[test]
    fn another_model_is_refused() {
        let answer = Answer::Numbers { stds: vec![1.0] };
        let rows = Task::Rows(Columns { numbers: 3, embedded: vec![], answer });
        for (data, task, what) in [
            (DataKind::Text, rows, "gpt2 is a model of a text, and the data is a table"),
            (DataKind::Table, Task::Tokens { vocab: 9 }, "mlp is a model of a table, and the data is a text"),
        ] {
            assert_eq!(model::training_graph(&Config::defaults(data), &task).unwrap_err().what, what);
        }
    }

    #[test]
    fn balanced_weights_have_a_mean_of_one() {
        for examples in [vec![90, 10], vec![1, 1, 1], vec![3, 5, 992]] {
            let weights = balanced(&examples);
            let n: usize = examples.iter().sum();
            let mean = weights.iter().zip(&examples).map(|(w, n)| w * *n as f64).sum::<f64>() / n as f64;
            assert!((mean - 1.0).abs() < 1e-15, "{mean}");
            let sums: Vec<f64> = weights.iter().zip(&examples).map(|(w, n)| w * *n as f64).collect();
            assert!(sums.iter().all(|sum| (sum - sums[0]).abs() < 1e-9), "every class counts the same: {sums:?}");
        }
    }
}
