//! Decides from a table what its columns are: the task that its target asks for, and how each column is read.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::columns::{Column, Form, Learned, ONE_HOT, Parts, Preprocessing, Scale, Source, Target, embedding_width};
use super::encode::{label, missing, target_number};
use super::raw::{Cell, Raw, comma_number, date, list, number};
use super::split::{Split, split};
use crate::config::{Config, Missing, TaskKind};
use crate::error::{Error, Result};
use crate::words::count;

/// Whole numbers are taken as classes up to this many different ones.
const FEW: usize = 20;
/// Classes that a target may have.
const CLASSES: usize = 1000;

/// What was decided.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) preprocessing: Preprocessing,
    pub(super) split: Split,
    /// What was decided, in sentences.
    pub(super) notes: Vec<String>,
    /// What looks like a mistake.
    pub(super) warnings: Vec<String>,
}

/// Looks at a table.
///
/// # Errors
/// A table that nothing can be learned from, or a cell that is not what its column holds: with its place.
pub(super) fn fit(raw: &Raw, config: &Config, source: Source) -> Result<Fit> {
    if raw.rows < 2 {
        return Err(Error::usage(format!("{} has 1 row, and learning needs at least 2", raw.label))
            .hint("add rows; a few dozen are the least that teach anything"));
    }
    let (mut notes, mut warnings) = (Vec::new(), Vec::new());
    let mut target = target(raw, config, &mut notes)?;
    let split = split(&target.classes, config.data.validation, config.train.seed);
    target.measure(raw, &split)?;
    let columns = Looking { raw, config, split: &split }.columns(&mut notes, &mut warnings)?;
    notes.push(parts(&split, &target.form, config));
    let target = Target { name: target.name, form: target.form };
    let missing = config.data.missing == Missing::Mean;
    Ok(Fit { preprocessing: Preprocessing::new(source, missing, columns, target), split, notes, warnings })
}

/// How the rows were split, in a sentence.
fn parts(split: &Split, form: &Learned, config: &Config) -> String {
    let (train, kept) = (count(split.train.len(), "row"), count(split.validation.len(), "row"));
    let how = match form {
        Learned::Classification { .. } => ", every class in proportion",
        Learned::Regression { .. } => "",
    };
    match split.validation.len() {
        0 => format!("{train} to learn from, none for validation"),
        _ => format!("{train} to learn from, {kept} for validation, drawn by seed {}{how}", config.train.seed),
    }
}

/// The target of a table.
struct Chosen {
    name: String,
    columns: Vec<usize>,
    form: Learned,
    /// The class of every row, for the split; all 0 where numbers are learned.
    classes: Vec<u32>,
}

impl Chosen {
    /// Fills in the figures of the training part.
    fn measure(&mut self, raw: &Raw, split: &Split) -> Result<()> {
        match &mut self.form {
            Learned::Classification { rows, .. } => {
                split.train.iter().for_each(|row| rows[self.classes[*row as usize] as usize] += 1);
            }
            Learned::Regression { numbers } => {
                for column in &self.columns {
                    let values: Result<Vec<f64>> =
                        split.train.iter().map(|row| target_number(raw, *row as usize, *column)).collect();
                    let scale = scale(&values?).ok_or_else(|| {
                        Error::usage(format!(
                            "the target `{}` has the same value in every row that is learned from",
                            raw.columns[*column]
                        ))
                        .hint("choose a column with different values, or more rows")
                    })?;
                    numbers.push(scale);
                }
            }
        }
        Ok(())
    }
}

/// Decides what is learned about the target.
fn target(raw: &Raw, config: &Config, notes: &mut Vec<String>) -> Result<Chosen> {
    let (first, several) = (raw.targets[0], raw.targets.len() > 1);
    let name = if several { "y".to_string() } else { raw.columns[first].clone() };
    let classes = config.data.task == TaskKind::Classification;
    if several && classes {
        return Err(Error::usage(format!(
            "data.task=classification wants one target a row, got {}",
            raw.targets.len()
        ))
        .hint("give the class of each row as one whole number, in an array of the shape (rows)"));
    }
    let numbers = several || numeric(raw, first);
    if !numbers && config.data.task == TaskKind::Regression {
        let row = (0..raw.rows).find(|row| raw.number(*row, first).is_err()).unwrap_or(0);
        return Err(raw
            .error(row, first, format!("data.task=regression wants numbers, got `{}`", raw.word(row, first)))
            .hint("choose another target, or leave data.task out to learn classes"));
    }
    let few = || few_whole_numbers(raw, first);
    let as_classes = !several && (classes || config.data.task == TaskKind::Auto && (!numbers || few()?));
    let form = match as_classes {
        true => learned_classes(raw, first, numbers)?,
        false => (Learned::Regression { numbers: Vec::new() }, vec![0; raw.rows]),
    };
    notes.push(decision(&name, &form.0, raw.targets.len(), numbers, config.data.task));
    Ok(Chosen { name, columns: raw.targets.clone(), form: form.0, classes: form.1 })
}

/// What was decided about the target, in a sentence.
fn decision(name: &str, form: &Learned, targets: usize, numbers: bool, task: TaskKind) -> String {
    let forced = task != TaskKind::Auto;
    match form {
        Learned::Classification { classes, .. } => {
            let what = match (forced, numbers) {
                (false, true) => format!("{} different whole numbers", classes.len()),
                _ => format!("{} classes", classes.len()),
            };
            let other = if !forced && numbers { " (as numbers: --set data.task=regression)" } else { "" };
            format!("target `{name}`: {what}, so this is a classification{other}")
        }
        Learned::Regression { .. } if targets > 1 => {
            format!("target: {targets} numbers a row, so this is a regression")
        }
        Learned::Regression { .. } => format!("target `{name}`: numbers, so this is a regression"),
    }
}

/// Whether a target is numbers: all of its cells, or most, so that the others are mistakes.
fn numeric(raw: &Raw, column: usize) -> bool {
    let (mut numbers, mut words) = (0, 0);
    for row in (0..raw.rows).filter(|row| !raw.is_unknown(*row, column)) {
        match raw.cell(row, column) {
            Cell::Text(text) if number(text).is_none() => words += 1,
            _ => numbers += 1,
        }
    }
    numbers > words
}

/// Whether numbers look like the names of classes: whole, few, and each of several rows.
fn few_whole_numbers(raw: &Raw, column: usize) -> Result<bool> {
    let mut counts: HashMap<u64, usize> = HashMap::new();
    for row in 0..raw.rows {
        let x = target_number(raw, row, column)? + 0.0;
        *counts.entry(x.to_bits()).or_default() += 1;
        if libm::trunc(x) != x || counts.len() > FEW {
            return Ok(false);
        }
    }
    Ok(counts.values().all(|n| *n > 1))
}

/// The classes of a target, in the order of their names or numbers, and that of every row.
fn learned_classes(raw: &Raw, column: usize, numbers: bool) -> Result<(Learned, Vec<u32>)> {
    let labels: Vec<String> = (0..raw.rows).map(|row| label(raw, row, column, numbers)).collect::<Result<_>>()?;
    let mut classes: Vec<String> = labels.iter().collect::<HashSet<_>>().into_iter().cloned().collect();
    match numbers {
        true => classes.sort_by(|a, b| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0))),
        false => classes.sort_unstable(),
    }
    let name = &raw.columns[column];
    if classes.len() < 2 {
        return Err(Error::usage(format!("the target `{name}` is `{}` in every row", classes[0]))
            .hint("choose a column with different values"));
    }
    if let Some(comma) = labels.iter().position(|label| comma_number(label)).filter(|_| classes.len() > FEW) {
        let what =
            format!("`{}` is not a number: a decimal point is `.`, and nothing sets thousands apart", labels[comma]);
        return Err(raw.error(comma, column, what).hint("write 1234.5 for 1234,5 or 1,234.5"));
    }
    if classes.len() > CLASSES || classes.len() > FEW && classes.len() * 2 > raw.rows {
        let (n, rows) = (count(classes.len(), "different value"), count(raw.rows, "row"));
        return Err(Error::usage(format!("the target `{name}` has {n} in {rows}, too many to be classes")).hint(
            "choose a column whose values recur: each class needs several rows, and there may be at most 1,000 classes",
        ));
    }
    let places: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0u32..).collect();
    let of_rows = labels.iter().map(|label| places.get(label.as_str()).copied().unwrap_or(0)).collect();
    let rows = vec![0; classes.len()];
    Ok((Learned::Classification { classes, rows, numbers }, of_rows))
}

/// Mean and standard deviation (of the whole, not of a sample); `None` where all values are the same.
fn scale(values: &[f64]) -> Option<Scale> {
    let first = *values.first()?;
    if values.iter().all(|x| *x == first) {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let std = libm::sqrt(values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n);
    // Differences below 1e-162 have squares that are 0.
    (std > 0.0).then_some(Scale { mean, std })
}

/// What is looked at.
struct Looking<'a> {
    raw: &'a Raw,
    config: &'a Config,
    split: &'a Split,
}

impl Looking<'_> {
    /// How each column is read, but for the target and those that are left out.
    fn columns(&self, notes: &mut Vec<String>, warnings: &mut Vec<String>) -> Result<Parts> {
        let raw = self.raw;
        let (ignored, words) = (self.named("data.ignore")?, self.named("data.categories")?);
        let mut columns = Vec::new();
        let mut constant = Vec::new();
        for at in (0..raw.columns.len()).filter(|at| !raw.targets.contains(at) && !ignored.contains(at)) {
            let name = raw.columns[at].clone();
            let form = match words.contains(&at) || !self.is_number(at)? {
                true => self.words(at)?,
                false => self.number(at, warnings)?,
            };
            match form {
                Some(form) => columns.push(Column { name, form }),
                None => constant.push(name),
            }
        }
        if columns.is_empty() {
            let what = match constant.len() {
                0 => "has no column but the target".to_string(),
                _ => format!("has nothing to learn from: {} does not vary", list(&constant)),
            };
            return Err(Error::usage(format!("{} {what}", raw.label)).hint("a table needs a column to predict from"));
        }
        notes.push(inputs(&columns));
        if !constant.is_empty() {
            notes.push(format!("left out, having one value in the training part: {}", list(&constant)));
        }
        let left_out = (0..raw.columns.len()).filter(|at| ignored.contains(at)).map(|at| raw.columns[at].clone());
        Ok((columns, left_out.chain(constant).collect()))
    }

    /// The columns that a key names.
    fn named(&self, key: &str) -> Result<HashSet<usize>> {
        let names = match key {
            "data.ignore" => &self.config.data.ignore,
            _ => &self.config.data.categories,
        };
        let names = names.as_deref().unwrap_or("").split(',').map(str::trim).filter(|name| !name.is_empty());
        let places: HashSet<usize> = names.map(|name| self.raw.find(name, key)).collect::<Result<_>>()?;
        match self.raw.targets.iter().find(|target| places.contains(target)) {
            None => Ok(places),
            Some(target) => {
                let name = &self.raw.columns[*target];
                let hint = match key {
                    "data.ignore" => "choose another target, or take it out of data.ignore",
                    _ => "take it out of data.categories; data.task=classification makes classes of numbers",
                };
                Err(Error::usage(format!("{key}: `{name}` is the target")).hint(hint))
            }
        }
    }

    fn filled(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.raw.rows).filter(move |row| !self.raw.is_empty(*row, at))
    }

    /// Whether a column is one of numbers: more of its cells are numbers than not, so that the others are mistakes.
    fn is_number(&self, at: usize) -> Result<bool> {
        let raw = self.raw;
        let Some(first) = self.filled(at).next() else {
            return Err(Error::usage(format!("{}: column `{}` is empty", raw.label, raw.columns[at]))
                .hint(format!("leave it out with --set data.ignore={}", raw.columns[at])));
        };
        if numeric(raw, at) {
            return Ok(true);
        }
        let Cell::Text(text) = raw.cell(first, at) else { return Ok(true) };
        let hint = format!("or leave the column out with --set data.ignore={}", raw.columns[at]);
        if date(text) {
            let what = format!("`{text}` is a date or a time, not a number");
            return Err(raw
                .error(first, at, what)
                .hint(format!("make numbers of it, such as year, month and day, {hint}")));
        }
        if comma_number(text) {
            let what = format!("`{text}` is not a number: a decimal point is `.`, and nothing sets thousands apart");
            return Err(raw.error(first, at, what).hint(format!("write 1234.5 for 1234,5 or 1,234.5, {hint}")));
        }
        Ok(false)
    }

    /// The form of a column of numbers; `None` if they are all the same.
    fn number(&self, at: usize, warnings: &mut Vec<String>) -> Result<Option<Form>> {
        let raw = self.raw;
        self.check_missing(at, Raw::is_unknown)?;
        let known = |row: &usize| !raw.is_unknown(*row, at);
        // Every cell is checked, those of the validation part too; only the training part is measured.
        let all: Vec<f64> = (0..raw.rows).filter(known).map(|row| raw.number(row, at)).collect::<Result<_>>()?;
        let counts = raw.rows > 20 && all.len() == raw.rows && all.windows(2).all(|pair| pair[1] == pair[0] + 1.0);
        if counts {
            let name = &raw.columns[at];
            warnings.push(format!(
                "column `{name}` counts the rows; unless that means something, leave it out with --set data.ignore={name}"
            ));
        }
        let train = self.split.train.iter().map(|row| *row as usize).filter(known);
        let values: Vec<f64> = train.map(|row| raw.number(row, at)).collect::<Result<_>>()?;
        Ok(scale(&values).map(|Scale { mean, std }| Form::Number { mean, std }))
    }

    /// The form of a column of words; `None` if they are all the same.
    fn words(&self, at: usize) -> Result<Option<Form>> {
        let (raw, train) = (self.raw, &self.split.train);
        self.check_missing(at, Raw::is_empty)?;
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        train.iter().for_each(|row| *counts.entry(raw.word(*row as usize, at)).or_default() += 1);
        if counts.len() > ONE_HOT && counts.len() * 2 > train.len() {
            let (name, n, rows) = (&raw.columns[at], count(counts.len(), "different word"), count(train.len(), "row"));
            let what =
                format!("{}: column `{name}` has {n} in {rows}, so hardly anything can be learned from it", raw.label);
            return Err(Error::usage(what).hint(format!("leave it out with --set data.ignore={name}")));
        }
        Ok(match counts.len() {
            0 | 1 => None,
            n if n <= ONE_HOT => Some(Form::OneHot { words: counts.into_keys().collect() }),
            _ => {
                let words: Vec<String> = counts.into_iter().filter(|(_, n)| *n > 1).map(|(word, _)| word).collect();
                let width = embedding_width(words.len());
                Some(Form::Embedding { words, width })
            }
        })
    }

    /// Refuses a cell that has nothing in it, where they are not taken.
    fn check_missing(&self, at: usize, nothing: fn(&Raw, usize, usize) -> bool) -> Result<()> {
        let empty = || (0..self.raw.rows).find(|row| nothing(self.raw, *row, at));
        match self.config.data.missing == Missing::Refuse {
            true => empty().map_or(Ok(()), |row| Err(missing(self.raw, row, at))),
            false => Ok(()),
        }
    }
}

/// What the model reads of a row, in a sentence.
fn inputs(columns: &[Column]) -> String {
    let (mut numbers, mut parts) = (0, Vec::new());
    for column in columns {
        match &column.form {
            Form::Number { .. } => numbers += 1,
            Form::OneHot { words } => parts.push(format!("`{}` ({} words)", column.name, words.len())),
            Form::Embedding { words, width } => {
                parts.push(format!("`{}` ({} words, vectors of {width})", column.name, words.len()));
            }
        }
    }
    if numbers > 0 {
        parts.insert(0, format!("{} of numbers", count(numbers, "column")));
    }
    format!("inputs: {}", parts.join(", "))
}
