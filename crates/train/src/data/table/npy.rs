//! Tables of numbers in NumPy's format: `X.npy` (rows, features) and `y.npy` (rows) or (rows, targets).
//!
//! Source: "NPY format", numpy.lib.format, versions 1.0, 2.0 and 3.0.

use std::path::{Path, PathBuf};

use super::raw::{Cell, Cells, Raw};
use super::{Preprocessing, Source, Use, load};
use crate::config::{Config, DataKind};
use crate::data::Kind;
use crate::error::{Error, Result};
use crate::words::count;

/// An `.npy` file of rows of numbers, and another with their targets. Whole numbers of 1 to 8 bytes, floats of 4 and 8
/// bytes and bools, of either byte order, by rows (C) or by columns (Fortran).
pub static KIND: Kind = Kind {
    name: "pair of arrays",
    encoder: super::FILE,
    defaults: DataKind::Table,
    reads: |path| super::ends_with(path, "npy"),
    decode: Preprocessing::decode,
    load: |config, encoder| load(Source::Npy, config, encoder),
};

const HINT: &str = "write it again with numpy.save, as an array of ints or floats";

/// One array of one or two axes; one axis is one column.
#[derive(Debug)]
struct Array {
    label: String,
    bytes: Vec<u8>,
    start: usize,
    number: Number,
    axes: usize,
    rows: usize,
    columns: usize,
    by_column: bool,
}

/// How a number stands in an array.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Number {
    kind: u8,
    size: usize,
    big: bool,
}

impl Array {
    fn at(&self, row: usize, column: usize) -> f64 {
        let i = if self.by_column { column * self.rows + row } else { row * self.columns + column };
        let start = self.start + i * self.number.size;
        self.number.read(&self.bytes[start..start + self.number.size])
    }

    fn place(&self, row: usize, column: usize) -> String {
        match self.axes {
            1 => format!("{}[{row}]", self.label),
            _ => format!("{}[{row}, {column}]", self.label),
        }
    }
}

impl Number {
    /// `<f4`, `>i8`, `|u1`, ...
    fn parse(text: &str) -> Option<Number> {
        let order = text.chars().next().filter(|c| matches!(c, '<' | '>' | '|' | '='))?;
        let kind = *text.as_bytes().get(1)?;
        let size: usize = text.get(2..)?.parse().ok()?;
        let known = match kind {
            b'f' => matches!(size, 4 | 8),
            b'i' | b'u' => matches!(size, 1 | 2 | 4 | 8),
            b'b' => size == 1,
            _ => false,
        };
        known.then_some(Number { kind, size, big: order == '>' })
    }

    fn read(self, bytes: &[u8]) -> f64 {
        let mut low = [0u8; 8];
        for (to, from) in low.iter_mut().zip(0..self.size) {
            *to = bytes[if self.big { self.size - 1 - from } else { from }];
        }
        let bits = u64::from_le_bytes(low);
        let unused = 64 - 8 * self.size as u32;
        match (self.kind, self.size) {
            (b'f', 4) => f64::from(f32::from_bits(bits as u32)),
            (b'f', _) => f64::from_bits(bits),
            (b'i', _) => (((bits << unused) as i64) >> unused) as f64,
            _ => bits as f64,
        }
    }
}

/// The features, and behind them the targets.
#[derive(Debug)]
struct Pair {
    x: Array,
    y: Option<Array>,
}

impl Cells for Pair {
    fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        let (array, column) = self.of(column);
        Cell::Number(array.at(row, column))
    }
    fn place(&self, row: usize, column: usize) -> String {
        let (array, column) = self.of(column);
        array.place(row, column)
    }
    fn row(&self, row: usize) -> String {
        format!("{}[{row}]", self.x.label)
    }
}

impl Pair {
    fn of(&self, column: usize) -> (&Array, usize) {
        match &self.y {
            Some(y) if column >= self.x.columns => (y, column - self.x.columns),
            _ => (&self.x, column),
        }
    }
}

/// Reads a pair of arrays, the second from the file that `data.target` names where it is needed.
///
/// # Errors
/// Files that cannot be read, are no arrays of numbers, or do not fit together.
pub(super) fn read(path: &Path, config: &Config, wanted: Use) -> Result<Raw> {
    let x = array(path)?;
    if x.axes != 2 {
        let what = format!("{} has one axis, and features have two: (rows, features)", x.label);
        return Err(Error::usage(what).hint("write X.reshape(-1, 1) for a single feature"));
    }
    let mut columns: Vec<String> = (0..x.columns).map(|i| i.to_string()).collect();
    let mut hash = super::sha256(&x.bytes);
    let (y, targets) = match wanted {
        Use::Answer => (None, Vec::new()),
        Use::Learn => {
            let y = array(&target_path(path, config)?)?;
            if y.rows != x.rows {
                let (n, m) = (count(x.rows, "row"), count(y.rows, "row"));
                return Err(Error::usage(format!("{} has {n}, and {} has {m}", x.label, y.label))
                    .hint("each row of the features needs one row of targets"));
            }
            hash = super::sha256(format!("{hash} {}", super::sha256(&y.bytes)).as_bytes());
            if y.columns == 0 {
                return Err(Error::usage(format!("{} has no numbers", y.label))
                    .hint("targets are an array of the shape (rows)"));
            }
            let name = |i: usize| if y.columns == 1 { "y".to_string() } else { format!("y{i}") };
            columns.extend((0..y.columns).map(name));
            let targets = (x.columns..x.columns + y.columns).collect();
            (Some(y), targets)
        }
    };
    let (label, rows) = (x.label.clone(), x.rows);
    if rows == 0 {
        return Err(
            Error::usage(format!("{label} has no rows")).hint("features are an array of the shape (rows, features)")
        );
    }
    let name = super::short_name(path);
    Ok(Raw { label, name, hash, columns, targets, rows, cells: Box::new(Pair { x, y }) })
}

/// The file of the targets that a configuration names for a pair of arrays: as it stands, or beside the features.
pub(super) fn target_file(path: &Path, target: &str) -> PathBuf {
    let (given, beside) = (PathBuf::from(target), path.with_file_name(target));
    if !given.exists() && beside.exists() { beside } else { given }
}

fn target_path(path: &Path, config: &Config) -> Result<PathBuf> {
    let hint = "for example --target y.npy, an array with a number for each row";
    let Some(target) = config.data.target.as_deref() else {
        return Err(
            Error::usage(format!("--target is missing: which file has the targets of {}?", path.display())).hint(hint)
        );
    };
    match super::ends_with(Path::new(target), "npy") {
        true => Ok(target_file(path, target)),
        false => Err(Error::usage(format!("the target of an array is an .npy file, got `{target}`")).hint(hint)),
    }
}

fn array(path: &Path) -> Result<Array> {
    let label = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|reason| match reason.kind() {
        std::io::ErrorKind::NotFound => {
            Error::usage(format!("there is no `{label}`")).hint("name a file that numpy.save has written")
        }
        _ => Error::io("read", path, &reason),
    })?;
    parse(&label, bytes).map_err(|what| Error::usage(format!("{label} {what}")).hint(HINT))
}

fn parse(label: &str, bytes: Vec<u8>) -> std::result::Result<Array, String> {
    let (header, start) = header(&bytes)?;
    let descr = value(header, "descr")?;
    let descr = descr.trim_matches(['\'', '"']);
    let number = Number::parse(descr).ok_or_else(|| format!("holds values of type `{descr}`, which cannot be read"))?;
    let by_column = match value(header, "fortran_order")? {
        "True" => true,
        "False" => false,
        other => return Err(format!("has a damaged header: fortran_order is `{other}`")),
    };
    let shape = value(header, "shape")?;
    let sizes: Option<Vec<usize>> = shape
        .trim_matches(['(', ')'])
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .map(|size| size.parse().ok())
        .collect();
    let sizes = sizes.ok_or_else(|| format!("has a damaged header: the shape is `{shape}`"))?;
    let (rows, columns) = match sizes[..] {
        [rows] => (rows, 1),
        [rows, columns] => (rows, columns),
        _ => return Err(format!("has {} axes, and one or two are read: its shape is {shape}", sizes.len())),
    };
    let wanted = rows.checked_mul(columns).and_then(|n| n.checked_mul(number.size));
    let wanted = wanted.filter(|_| rows <= i32::MAX as usize && columns <= i32::MAX as usize);
    let wanted = wanted.ok_or_else(|| format!("has too many numbers: its shape is {shape}"))?;
    match bytes.len() - start {
        found if found < wanted => Err(format!("is cut off: {found} of {wanted} bytes of numbers are there")),
        found if found > wanted => Err(format!("has {found} bytes of numbers, and its shape {shape} needs {wanted}")),
        _ => Ok(Array { label: label.to_string(), bytes, start, number, axes: sizes.len(), rows, columns, by_column }),
    }
}

/// The header's text, and where the numbers start.
fn header(bytes: &[u8]) -> std::result::Result<(&str, usize), String> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("is not an .npy file: it does not begin with \\x93NUMPY")?;
    let (length, from) = match *rest {
        [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([a, b])), 10),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]) as usize, 12),
        [1..=3, ..] | [] => return Err("is cut off in its header".to_string()),
        [version, ..] => return Err(format!("has version {version} of the format, and 1 to 3 are read")),
    };
    let end = from + length;
    let header = bytes.get(from..end).ok_or("is cut off in its header")?;
    let header = std::str::from_utf8(header).map_err(|_| "has a damaged header")?;
    Ok((header, end))
}

/// The value of a key of a header like `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn value<'a>(header: &'a str, key: &str) -> std::result::Result<&'a str, String> {
    let missing = || format!("has a damaged header: there is no `{key}`");
    let at = header.find(&format!("'{key}':")).ok_or_else(missing)? + key.len() + 3;
    let rest = header[at..].trim_start();
    let end = match rest.chars().next() {
        Some('(') => rest.find(')').map(|end| end + 1),
        Some('[') => rest.find(']').map(|end| end + 1),
        _ => rest.find([',', '}']),
    };
    Ok(rest[..end.ok_or_else(missing)?].trim())
}

#[cfg(test)]
mod tests;
