//! Tables of text: a line of names, then a line a row.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord};

use super::raw::{Cell, Cells, Raw, list, number};
use super::{Preprocessing, Source, Use, load};
use crate::config::{Config, DataKind};
use crate::data::Kind;
use crate::error::{Error, Result};

/// A `.csv` or `.tsv` file. The first line names the columns. Cells are separated by commas, semicolons or tabs,
/// whichever the first line has most of; one with quotation marks around it may hold any of these and line breaks. UTF-8.
pub static KIND: Kind = Kind {
    name: "table",
    encoder: super::FILE,
    defaults: DataKind::Table,
    reads: |path| ["csv", "tsv"].iter().any(|end| super::ends_with(path, end)),
    decode: Preprocessing::decode,
    load: |config, encoder| load(Source::Csv, config, encoder),
};

/// The rows of a file and the line at which each begins, from 1.
#[derive(Debug)]
struct Rows {
    label: String,
    columns: Vec<String>,
    rows: Vec<(StringRecord, u64)>,
}

impl Cells for Rows {
    fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        Cell::Text(self.rows[row].0.get(column).unwrap_or("").trim())
    }
    fn place(&self, row: usize, column: usize) -> String {
        format!("{}: column `{}`", self.row(row), self.columns[column])
    }
    fn row(&self, row: usize) -> String {
        format!("{}:{}", self.label, self.rows[row].1)
    }
}

/// Reads a table. The target that the configuration names must be a column where it is needed.
///
/// # Errors
/// A file that cannot be read or is no table: with the line.
pub(super) fn read(path: &Path, config: &Config, wanted: Use) -> Result<Raw> {
    let label = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|reason| match reason.kind() {
        std::io::ErrorKind::NotFound => Error::usage(format!("there is no `{label}`"))
            .hint("name a .csv or .tsv file, with the names of its columns in the first line"),
        _ => Error::io("read", path, &reason),
    })?;
    let hash = super::sha256(&bytes);
    let text = std::str::from_utf8(&bytes).map_err(|error| not_utf8(&label, &bytes, error.valid_up_to()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(Error::usage(format!("{label} is empty"))
            .hint("a table has a line of column names and then a line for each row"));
    }
    let mut rows = records(text, &label)?;
    let (header, line) = rows.remove(0);
    let columns = names(&header).map_err(|error| error.at(format!("{label}:{line}")))?;
    if let Some((row, line)) = rows.iter().find(|(row, _)| row.len() != columns.len()) {
        let cells = |n: usize| if n == 1 { "1 cell".to_string() } else { format!("{n} cells") };
        let what = format!("{label}:{line}: this row has {}, the header has {}", cells(row.len()), columns.len());
        return Err(Error::usage(what).hint("a cell that holds a separator needs quotation marks around it: \"a, b\""));
    }
    if rows.is_empty() {
        return Err(Error::usage(format!("{label} has names of columns, but no rows")).hint("add a line for each row"));
    }
    let cells = Rows { label: label.clone(), columns: columns.clone(), rows };
    let name = super::short_name(path);
    let mut raw =
        Raw { label, name, hash, columns, targets: Vec::new(), rows: cells.rows.len(), cells: Box::new(cells) };
    raw.targets = target(&raw, config.data.target.as_deref(), wanted)?;
    Ok(raw)
}

/// The column that is learned.
fn target(raw: &Raw, name: Option<&str>, wanted: Use) -> Result<Vec<usize>> {
    match (name, wanted) {
        (Some(name), Use::Learn) => Ok(vec![raw.find(name, "data.target")?]),
        (Some(name), Use::Answer) => Ok(raw.column(name).into_iter().collect()),
        (None, Use::Answer) => Ok(Vec::new()),
        (None, Use::Learn) => {
            let usual = ["target", "label", "class", "outcome", "y"];
            let usual = raw.columns.iter().find(|name| usual.contains(&name.to_lowercase().as_str()));
            let likely = usual.or(raw.columns.last()).map_or("", String::as_str);
            let likely =
                if likely.contains(char::is_whitespace) { format!("\"{likely}\"") } else { likely.to_string() };
            Err(Error::usage(format!("--target is missing: which column of {} is to be learned?", raw.label))
                .hint(format!("for example --target {likely}; the columns: {}", list(&raw.columns))))
        }
    }
}

/// What is not UTF-8, by its line.
fn not_utf8(label: &str, bytes: &[u8], at: usize) -> Error {
    let wide = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    let what = match wide {
        true => format!("{label} is UTF-16 text, not UTF-8"),
        false => format!("{label}:{line}: not UTF-8 text"),
    };
    Error::usage(what).hint("save it as UTF-8; spreadsheets call that \"CSV UTF-8\"")
}

/// The separator that the first line has most of outside quotation marks; a comma where it has none.
fn separator(text: &str) -> u8 {
    let (mut quoted, mut counts) = (false, [0usize; 3]);
    for byte in text.bytes() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => break,
            b',' | b';' | b'\t' if !quoted => counts[usize::from(byte == b';') + 2 * usize::from(byte == b'\t')] += 1,
            _ => {}
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    counts.iter().position(|n| *n == most).map_or(b',', |i| [b',', b';', b'\t'][i])
}

/// Every record of a text, the names first, with the line at which it begins. Empty lines are left out.
fn records(text: &str, label: &str) -> Result<Vec<(StringRecord, u64)>> {
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator(text)).from_reader(text.as_bytes());
    let mut rows: Vec<(StringRecord, u64)> = Vec::new();
    let (mut line, mut counted) = (1u64, 0usize);
    let bytes = text.as_bytes();
    for record in reader.records() {
        let record = record.map_err(|error| Error::usage(format!("{label} cannot be read as a table: {error}")))?;
        let start = record.position().map_or(0, |place| place.byte() as usize).min(bytes.len());
        // A record is said to begin before the empty lines in front of it.
        let blank = bytes[start..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        check_quotes(&bytes[counted..start + blank], label, line)?;
        line += line_ends(&bytes[counted..start + blank]);
        counted = start + blank;
        rows.push((record, line));
    }
    check_quotes(&bytes[counted..], label, line)?;
    Ok(rows)
}

/// A record with an odd number of quotation marks opens a cell that nothing closes: it swallows the rest of the file.
fn check_quotes(record: &[u8], label: &str, line: u64) -> Result<()> {
    if record.iter().filter(|byte| **byte == b'"').count().is_multiple_of(2) {
        return Ok(());
    }
    Err(Error::usage(format!("{label}:{line}: a quotation mark is not closed"))
        .hint("inside a cell in quotation marks, write a quotation mark twice: \"a 5\"\" pipe\""))
}

/// Ends of lines: LF, CR LF, or CR alone.
fn line_ends(bytes: &[u8]) -> u64 {
    let lone = |i: &usize| bytes[*i] == b'\n' || bytes[*i] == b'\r' && bytes.get(i + 1) != Some(&b'\n');
    (0..bytes.len()).filter(lone).count() as u64
}

/// The names of the columns.
fn names(header: &StringRecord) -> Result<Vec<String>> {
    let names: Vec<String> = header.iter().map(|name| name.trim().to_string()).collect();
    if names.iter().all(|name| number(name).is_some()) {
        return Err(Error::usage("the first line holds numbers, not the names of the columns")
            .hint("write the names into the first line, with a separator between them"));
    }
    if let Some(i) = names.iter().position(String::is_empty) {
        return Err(Error::usage(format!("column {} has no name", i + 1))
            .hint("name it; if it only counts the rows, write the file without it (pandas: index=False)"));
    }
    let mut seen = std::collections::HashMap::new();
    for (i, name) in names.iter().enumerate() {
        if let Some(first) = seen.insert(name, i + 1) {
            return Err(Error::usage(format!("columns {first} and {} are both called `{name}`", i + 1))
                .hint("give every column a name of its own"));
        }
    }
    Ok(names)
}
