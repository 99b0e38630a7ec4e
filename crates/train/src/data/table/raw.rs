//! A table as it was read: its cells, and how messages name their places.

use std::fmt::Debug;

use crate::error::{Error, Result};
use crate::words::{nearest, thousands};

/// The largest number that is taken, either way: its square and the sum of many of those stay finite.
pub(super) const LARGEST: f64 = 1e30;

/// What stands in columns of numbers for a number that is not known.
const UNKNOWN: [&str; 5] = ["NA", "N/A", "NULL", "None", "?"];

/// A cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    /// Text without blanks around it, perhaps none.
    Text(&'a str),
    /// A number, perhaps not finite.
    Number(f64),
}

/// What holds the cells.
pub(super) trait Cells: Debug {
    /// The cell of a row and column, from 0.
    fn cell(&self, row: usize, column: usize) -> Cell<'_>;
    /// Where it stands, for a message.
    fn place(&self, row: usize, column: usize) -> String;
    /// Where a row stands, for a message.
    fn row(&self, row: usize) -> String;
}

/// A table as it was read.
#[derive(Debug)]
pub(super) struct Raw {
    /// What messages call it: its path.
    pub(super) label: String,
    /// A short name: that of the file without its ending.
    pub(super) name: String,
    /// SHA-256 of its files, in hex.
    pub(super) hash: String,
    /// The names of the columns.
    pub(super) columns: Vec<String>,
    /// The columns that are the target; none where there is none and none is needed.
    pub(super) targets: Vec<usize>,
    /// How many rows there are.
    pub(super) rows: usize,
    pub(super) cells: Box<dyn Cells>,
}

impl Raw {
    pub(super) fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        self.cells.cell(row, column)
    }

    /// An error about a cell.
    pub(super) fn error(&self, row: usize, column: usize, what: impl Into<String>) -> Error {
        Error::usage(what).at(self.cells.place(row, column))
    }

    /// The column of a name.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// Whether a cell has nothing in it: no text, or NaN in an array.
    pub(super) fn is_empty(&self, row: usize, column: usize) -> bool {
        match self.cell(row, column) {
            Cell::Text(text) => text.is_empty(),
            Cell::Number(x) => x.is_nan(),
        }
    }

    /// Whether a cell of a column of numbers has none: it is empty, or says so.
    pub(super) fn is_unknown(&self, row: usize, column: usize) -> bool {
        let says_so = |text: &str| UNKNOWN.iter().any(|word| word.eq_ignore_ascii_case(text));
        self.is_empty(row, column) || matches!(self.cell(row, column), Cell::Text(text) if says_so(text))
    }

    /// A cell as a word. A number is written with the fewest digits that give it back.
    pub(super) fn word(&self, row: usize, column: usize) -> String {
        match self.cell(row, column) {
            Cell::Text(text) => text.to_string(),
            Cell::Number(x) if x.is_nan() => String::new(),
            Cell::Number(x) => format!("{x}"),
        }
    }

    /// A cell as a number of the size that is taken.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn number(&self, row: usize, column: usize) -> Result<f64> {
        let (x, shown) = match self.cell(row, column) {
            Cell::Number(x) => (Some(x), format!("{x}")),
            Cell::Text(text) => (number(text), format!("`{text}`")),
        };
        let error = |what: String, hint: &str| Err(self.error(row, column, what).hint(hint));
        match x {
            Some(x) if x.abs() <= LARGEST => Ok(x),
            Some(x) if x.is_finite() => error(
                format!("{shown} is too large: numbers must lie between -1e30 and 1e30"),
                "give the column in a larger unit, or leave it out with --set data.ignore=COLUMN",
            ),
            Some(_) => error(
                format!("{shown} is not a finite number"),
                "correct the cell; a number that is not known is left empty (NaN in an array), with --set data.missing=mean",
            ),
            None if comma_number(&shown[1..shown.len() - 1]) => error(
                format!("{shown} is not a number: a decimal point is `.`, and nothing sets thousands apart"),
                "write 1234.5 for 1234,5 or 1,234.5",
            ),
            None => error(
                format!("{shown} is not a number, as the other cells of its column are"),
                "correct the cell, or leave it empty, which training takes with --set data.missing=mean; or make words of the whole column with --set data.categories=COLUMN",
            ),
        }
    }

    /// The column that a message, a flag or a file of a run names.
    ///
    /// # Errors
    /// There is none; the hint has the nearest one, or lists them.
    pub(super) fn find(&self, name: &str, key: &str) -> Result<usize> {
        self.column(name).ok_or_else(|| {
            let error = Error::usage(format!("{key}: {} has no column `{name}`", self.label));
            match nearest(name, self.columns.iter().map(String::as_str), 0.6) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("its columns: {}", list(&self.columns))),
            }
        })
    }
}

/// The number that a text is, finite or not.
pub(super) fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// Whether a text is digits with commas between them: `3,14` or `1,234.5`.
pub(super) fn comma_number(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let only = |c: char| c.is_ascii_digit() || c == ',' || c == '.';
    text.contains(',') && text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(only)
}

/// Whether a text looks like a date or a time of day: `2024-01-31`, `31.01.2024`, `1/31/24`, `12:30`.
pub(super) fn date(text: &str) -> bool {
    let first = text.split([' ', 'T']).next().unwrap_or(text);
    let digits =
        |parts: &[&str]| parts.iter().all(|p| (1..=4).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()));
    let made_of = |separator: char, lengths: std::ops::RangeInclusive<usize>| {
        let parts: Vec<&str> = first.split(separator).collect();
        lengths.contains(&parts.len()) && digits(&parts)
    };
    made_of('-', 3..=3) || made_of('/', 3..=3) || made_of('.', 3..=3) || made_of(':', 2..=3)
}

/// Names between backticks, no more than a screen has room for.
pub(super) fn list(names: &[String]) -> String {
    const MOST: usize = 20;
    let shown: Vec<String> = names.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {}", shown.join(", "), format_args!("{} more", thousands(more))),
    }
}
