//! Cells into the arrays that a model reads.

use std::collections::HashMap;

use super::columns::{Form, Learned, Preprocessing};
use super::raw::{Cell, Raw, list};
use crate::error::{Error, Result};
use crate::words::count;

/// Every row of a table as a model reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Encoded {
    /// (rows, numbers): numbers and columns of 0 and 1, in the order of the columns.
    pub(super) numbers: Vec<f32>,
    /// For each embedded column the rows of its table.
    pub(super) words: Vec<Vec<u32>>,
    pub(super) targets: Targets,
    /// What the run has not seen, for people.
    pub(super) warnings: Vec<String>,
}

/// The targets of every row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Targets {
    /// None were there.
    #[default]
    None,
    /// Classes.
    Classes(Vec<u32>),
    /// (rows, targets): standardised numbers.
    Numbers(Vec<f32>),
}

/// Turns a table into arrays. Columns may stand in any order, and there may be more of them.
///
/// # Errors
/// A column that is not there; a cell that is not what the column holds: with its place.
pub(super) fn encode(how: &Preprocessing, raw: &Raw) -> Result<Encoded> {
    let missing: Vec<String> =
        how.columns.iter().map(|column| column.name.clone()).filter(|name| raw.column(name).is_none()).collect();
    if !missing.is_empty() {
        let (n, lost) = (count(missing.len(), "column"), list(&missing));
        return Err(Error::usage(format!("{} lacks {n} that the run has learned from: {lost}", raw.label))
            .hint("give the table all columns of the training data but the target"));
    }
    let stride = how.numbers();
    let mut out = Encoded { numbers: zeros(raw, stride)?, ..Encoded::default() };
    let mut at = 0;
    for column in &how.columns {
        let Some(place) = raw.column(&column.name) else { continue };
        match &column.form {
            Form::Number { mean, std } => {
                for row in 0..raw.rows {
                    // The mean of the training part is 0 of the standardised column.
                    let unknown = taken(how, raw, (row, place), raw.is_unknown(row, place))?;
                    let x = if unknown { 0.0 } else { (raw.number(row, place)? - mean) / std };
                    out.numbers[row * stride + at] = x as f32;
                }
                at += 1;
            }
            Form::OneHot { words } => {
                for (row, word) in indices(how, raw, place, words, &mut out.warnings)?.into_iter().enumerate() {
                    if word > 0 {
                        out.numbers[row * stride + at + word as usize - 1] = 1.0;
                    }
                }
                at += words.len();
            }
            Form::Embedding { words, .. } => {
                let indices = indices(how, raw, place, words, &mut out.warnings)?;
                out.words.push(indices);
            }
        }
    }
    out.targets = targets(how, raw)?;
    Ok(out)
}

/// Zeros for every row.
fn zeros(raw: &Raw, stride: usize) -> Result<Vec<f32>> {
    let mut zeros = Vec::new();
    let fits = raw.rows.checked_mul(stride).filter(|n| zeros.try_reserve_exact(*n).is_ok());
    let Some(n) = fits else {
        let rows = count(raw.rows, "row");
        return Err(Error::usage(format!("{}: {rows} of {stride} numbers are too many for this machine", raw.label))
            .hint("leave columns out with --set data.ignore=NAMES"));
    };
    zeros.resize(n, 0.0);
    Ok(zeros)
}

/// Whether there is nothing in a cell, where such cells are taken.
fn taken(how: &Preprocessing, raw: &Raw, (row, column): (usize, usize), nothing: bool) -> Result<bool> {
    match nothing && !how.missing {
        true => Err(missing(raw, row, column)),
        false => Ok(nothing),
    }
}

/// A cell that is empty and must not be.
pub(super) fn missing(raw: &Raw, row: usize, column: usize) -> Error {
    let what = match raw.cell(row, column) {
        Cell::Text("") => "the cell is empty".to_string(),
        Cell::Text(text) => format!("`{text}` stands for a number that is not known"),
        Cell::Number(_) => "the number is NaN".to_string(),
    };
    raw.error(row, column, what).hint(
        "fill it in; or train with --set data.missing=mean, which takes the mean of its column (among words, a word of its own)",
    )
}

/// The index of every cell's word, from 1; 0 for words that the list does not have. Tells of the first of those.
fn indices(
    how: &Preprocessing,
    raw: &Raw,
    column: usize,
    words: &[String],
    warnings: &mut Vec<String>,
) -> Result<Vec<u32>> {
    let places: HashMap<&str, u32> = words.iter().map(String::as_str).zip(1u32..).collect();
    let (mut indices, mut unknown, mut first) = (Vec::with_capacity(raw.rows), 0, None);
    for row in 0..raw.rows {
        taken(how, raw, (row, column), raw.is_empty(row, column))?;
        let word = raw.word(row, column);
        let index = places.get(word.as_str()).copied().unwrap_or(0);
        if index == 0 {
            unknown += 1;
            first.get_or_insert((row, word));
        }
        indices.push(index);
    }
    if let Some((row, word)) = first {
        let others = match unknown - 1 {
            0 => String::new(),
            n => format!("; the same holds for {} of this column", count(n, "more cell")),
        };
        warnings.push(raw.error(row, column, format!("the run has not learned `{word}`{others}")).what);
    }
    Ok(indices)
}

/// The targets, where the table has them.
pub(super) fn targets(how: &Preprocessing, raw: &Raw) -> Result<Targets> {
    let columns = &raw.targets;
    match &how.target.form {
        _ if columns.is_empty() => Ok(Targets::None),
        Learned::Classification { classes, numbers, .. } => {
            let places: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0u32..).collect();
            let class = |row| {
                let label = label(raw, row, columns[0], *numbers)?;
                places.get(label.as_str()).copied().ok_or_else(|| {
                    raw.error(row, columns[0], format!("the run has not learned a class `{label}`"))
                        .hint(format!("the classes are {}", list(classes)))
                })
            };
            Ok(Targets::Classes((0..raw.rows).map(class).collect::<Result<_>>()?))
        }
        Learned::Regression { numbers } if numbers.len() == columns.len() => {
            let mut all = Vec::with_capacity(raw.rows.saturating_mul(columns.len()));
            for row in 0..raw.rows {
                for (column, scale) in columns.iter().zip(numbers) {
                    all.push(((target_number(raw, row, *column)? - scale.mean) / scale.std) as f32);
                }
            }
            Ok(Targets::Numbers(all))
        }
        Learned::Regression { numbers } => {
            let (found, wanted) = (count(columns.len(), "number"), numbers.len());
            Err(Error::usage(format!("{}: its target has {found} a row, and the run has learned {wanted}", raw.label))
                .hint("give targets of the form that the run was trained with"))
        }
    }
}

/// The class of a row, as a word.
///
/// # Errors
/// An empty cell, or among numbers one that is none.
pub(super) fn label(raw: &Raw, row: usize, column: usize, numbers: bool) -> Result<String> {
    if raw.is_empty(row, column) {
        return Err(no_target(raw, row, column));
    }
    // 1, 1.0 and 1e0 are one class, and so are 0 and -0.
    if numbers { Ok(format!("{}", raw.number(row, column)? + 0.0)) } else { Ok(raw.word(row, column)) }
}

/// The number that is learned of a row.
///
/// # Errors
/// An empty cell or one that is no number.
pub(super) fn target_number(raw: &Raw, row: usize, column: usize) -> Result<f64> {
    if raw.is_empty(row, column) {
        return Err(no_target(raw, row, column));
    }
    raw.number(row, column)
}

fn no_target(raw: &Raw, row: usize, column: usize) -> Error {
    raw.error(row, column, "the target is empty").hint("fill it in, or take the row out of the table")
}
