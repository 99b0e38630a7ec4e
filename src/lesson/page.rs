//! The page of a lesson: headings, paragraphs, tables, listings and small plots, at most 80 columns wide; and the same
//! numbers as JSON rows.

use geartrain_engine::listing::{Line, Listing};
use geartrain_train::chart::{Picture, Series};
use serde_json::{Map, Value, json};

use super::number::{bytes, digits_of, duration, fixed, plain, thousands};

/// Columns of a terminal.
pub const WIDTH: usize = 80;

/// Places across and heights of one line of a plot.
pub type Points = Vec<(f64, f64)>;

/// What tells the lines of a plot apart.
const MARKS: [char; 5] = ['●', '○', '◆', '◇', '▲'];

/// Spaces before tables, listings and plots, which stand apart from the text.
const INDENT: usize = 2;

/// What a column holds, and how it is written.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    /// Text, flush left.
    Text,
    /// A number as a program would write it: what was put in rather than computed.
    Plain,
    /// A number with this many digits after the point.
    Fixed(usize),
    /// A number with this many digits that count; very small and very large ones with an exponent.
    Digits(usize),
    /// A whole number, in groups of three digits.
    Whole,
    /// Bytes, in the unit that suits them.
    Bytes,
    /// Seconds, in the unit that suits them.
    Seconds,
}

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its heading, also its key in a JSON row.
    pub name: String,
    /// How its cells are written.
    pub format: Format,
}

/// A column by its heading and format.
pub fn column(name: impl Into<String>, format: Format) -> Column {
    Column { name: name.into(), format }
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A number that was computed.
    Number(f64),
    /// A count.
    Count(u64),
    /// Nothing is known here.
    Empty,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_string())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Cell {
        Cell::Number(number)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Cell {
        Cell::Count(count)
    }
}

impl From<usize> for Cell {
    fn from(count: usize) -> Cell {
        Cell::Count(count as u64)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(cell: Option<T>) -> Cell {
        cell.map_or(Cell::Empty, Into::into)
    }
}

impl Cell {
    /// As it stands in the table.
    fn written(&self, format: Format) -> String {
        match (self, format) {
            (Cell::Text(text), _) => text.clone(),
            (Cell::Number(x), Format::Fixed(digits)) => fixed(*x, digits),
            (Cell::Number(x), Format::Digits(digits)) => digits_of(*x, digits),
            (Cell::Number(x), Format::Text | Format::Plain | Format::Whole) => plain(*x),
            (Cell::Number(x), Format::Bytes) => bytes(*x),
            (Cell::Number(x), Format::Seconds) => duration(*x),
            (Cell::Count(n), Format::Bytes) => bytes(*n as f64),
            (Cell::Count(n), Format::Plain) => n.to_string(),
            (Cell::Count(n), _) => thousands(*n as usize),
            (Cell::Empty, _) => "-".to_string(),
        }
    }

    /// As it stands in a JSON row: all digits; what is not finite as text.
    fn json(&self) -> Value {
        match self {
            Cell::Text(text) => json!(text),
            Cell::Number(x) if x.is_finite() => json!(x),
            Cell::Number(x) => json!(x.to_string()),
            Cell::Count(n) => json!(n),
            Cell::Empty => Value::Null,
        }
    }
}

/// A row of cells of different kinds: `row![0.1, "wrong", 3]`.
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$($crate::lesson::page::Cell::from($cell)),*] };
}
pub(crate) use row;

/// A page that is being written.
#[derive(Clone, Debug, Default)]
pub struct Page {
    text: String,
    rows: Vec<Value>,
    done: Map<String, Value>,
    threads: usize,
    /// Whether the last line is the underline of a heading, under which text starts without an empty line.
    headed: bool,
}

impl Page {
    /// An empty page whose numbers are computed on `threads` threads, which change none of them.
    pub fn new(threads: usize) -> Page {
        Page { threads: threads.max(1), ..Page::default() }
    }

    /// Threads to compute with.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The page as text; every line is ended.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The rows of its tables, or what a training told, and last `{"done":true,...}`.
    pub fn json(&self) -> impl Iterator<Item = Value> {
        let mut done = Map::from_iter([("done".to_string(), Value::Bool(true))]);
        done.extend(self.done.clone());
        self.rows.iter().cloned().chain([Value::Object(done)])
    }

    /// The first line, underlined.
    pub fn title(&mut self, text: &str) {
        self.line(text);
        self.line(&"=".repeat(width(text).min(WIDTH)));
        self.headed = true;
    }

    /// The heading of a part.
    pub fn heading(&mut self, text: &str) {
        self.gap();
        self.line(text);
        self.line(&"-".repeat(width(text).min(WIDTH)));
        self.headed = true;
    }

    /// A paragraph, filled to the width of the page. Line breaks and runs of blanks count as one blank.
    pub fn paragraph(&mut self, text: &str) {
        self.gap();
        fill(text, WIDTH).iter().for_each(|line| self.line(line));
    }

    /// A table: headings, and cells under them. Each row also becomes a JSON object with the key `table`.
    pub fn table(&mut self, name: &str, columns: &[Column], rows: &[Vec<Cell>]) {
        for row in rows {
            let mut object = Map::from_iter([("table".to_string(), json!(name))]);
            object.extend(columns.iter().zip(row).map(|(column, cell)| (column.name.clone(), cell.json())));
            self.rows.push(Value::Object(object));
        }
        self.text_table(columns, rows);
    }

    /// A table in the text alone.
    pub fn text_table(&mut self, columns: &[Column], rows: &[Vec<Cell>]) {
        let written = |row: &Vec<Cell>| columns.iter().zip(row).map(|(c, cell)| cell.written(c.format)).collect();
        let mut cells: Vec<Vec<String>> = vec![columns.iter().map(|c| c.name.clone()).collect()];
        cells.extend(rows.iter().map(written));
        let wide = |k: usize| cells.iter().filter_map(|row| row.get(k)).map(|cell| width(cell)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns.len()).map(wide).collect();
        self.gap();
        for row in &cells {
            let mut line = " ".repeat(INDENT);
            for ((cell, column), w) in row.iter().zip(columns).zip(&widths) {
                let room = " ".repeat(w.saturating_sub(width(cell)));
                let blank = if line.trim().is_empty() { "" } else { "  " };
                line += &match column.format {
                    Format::Text => format!("{blank}{cell}{room}"),
                    _ => format!("{blank}{room}{cell}"),
                };
            }
            self.line(&line);
        }
    }

    /// A few lines that stand as they are, indented.
    pub fn verbatim(&mut self, text: &str) {
        self.gap();
        text.lines().for_each(|line| self.line(&format!("{:INDENT$}{line}", "")));
    }

    /// The forward pass and the derived backward pass of a network, and its update if `optimizer` names its rule.
    pub fn listing(&mut self, listing: &Listing, optimizer: Option<&str>) {
        self.gap();
        let lines = || listing.forward.iter().chain(&listing.backward);
        let widest = |of: &dyn Fn(&Line) -> usize, least: usize| lines().map(of).max().unwrap_or(0).max(least);
        let shapes = widest(&|line| width(&line.shape.to_string()), "shape".len());
        let chains = widest(&|line| width(&line.chain), "chain rule".len());
        // What is left of the width; a statement stands further in than its heading, and what follows it still further.
        let room = WIDTH.saturating_sub(INDENT + 2 + shapes + 2 + chains);
        let room = widest(&|line| width(&statement(line)) + INDENT, 0).min(room);
        for (heading, chain, lines) in
            [("forward", "", &listing.forward), ("backward", "chain rule", &listing.backward)]
        {
            self.line(&format!("  {heading:room$}  {:shapes$}  {chain}", "shape"));
            for line in lines {
                let (shape, chain) = (line.shape.to_string(), &line.chain);
                for (i, part) in fill(&statement(line), room - INDENT).iter().enumerate() {
                    match i {
                        0 => self.line(&format!("    {part:0$}  {shape:shapes$}  {chain}", room - INDENT)),
                        _ => self.line(&format!("      {part}")),
                    }
                }
            }
        }
        if let Some(optimizer) = optimizer {
            self.line(&format!("  update: {optimizer}"));
            listing.update.iter().for_each(|line| self.line(&format!("    {}", line.text)));
        }
    }

    /// Plots beside each other, each in its share of the width, with `height` lines for the inner part.
    pub fn plots(&mut self, pictures: &[Picture], height: usize) {
        self.gap();
        let share = (WIDTH - INDENT) / pictures.len().max(1);
        let drawn: Vec<Vec<String>> = pictures
            .iter()
            .map(|picture| picture.draw(share - INDENT, height).lines().map(str::to_string).collect())
            .collect();
        for i in 0..drawn.iter().map(Vec::len).max().unwrap_or(0) {
            let line = drawn.iter().map(|lines| {
                let part = lines.get(i).map_or("", |line| line.as_str());
                format!("{:INDENT$}{part}{:2$}", "", "", (share - INDENT).saturating_sub(width(part)))
            });
            self.line(&line.collect::<String>());
        }
    }

    /// What to run next.
    pub fn next(&mut self, commands: &[&str]) {
        self.gap();
        commands.iter().for_each(|command| self.line(&format!("next: {command}")));
    }

    /// A JSON row of its own: what a training tells of an epoch.
    pub fn record(&mut self, row: Value) {
        self.rows.push(row);
    }

    /// More to say in the last JSON line.
    pub fn finish(&mut self, key: &str, value: Value) {
        self.done.insert(key.to_string(), value);
    }

    /// An empty line before what comes, but not at the start of the page or under a heading.
    fn gap(&mut self) {
        if !self.headed && !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    fn line(&mut self, text: &str) {
        self.headed = false;
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }
}

/// A plot of named lines, with bounds that hold all their finite points. Several lines have marks and a legend.
pub fn plot(heading: &str, across: &str, lines: Vec<(&str, Points)>) -> Picture {
    let bounds = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let values = lines.iter().flat_map(|line| &line.1).map(of).filter(|value| value.is_finite());
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        match (low < high, low.is_finite()) {
            (true, _) => (low, high),
            (false, true) => (low - 0.5, low + 0.5),
            (false, false) => (0.0, 1.0),
        }
    };
    let (x, y) = (bounds(&|point| point.0), bounds(&|point| point.1));
    let legend = lines.len() > 1;
    let marked = |(i, (name, points)): (usize, (&str, Points))| Series {
        name: name.to_string(),
        points,
        joined: true,
        mark: MARKS.get(i % MARKS.len()).copied().filter(|_| legend),
    };
    let series = lines.into_iter().enumerate().map(marked).collect();
    Picture { heading: heading.to_string(), across: across.to_string(), x, y, series, legend }
}

/// A line of a listing without what stands beside it.
fn statement(line: &Line) -> String {
    format!("{} = {}", line.name, line.text)
}

/// Characters of a text, each of which takes one column here.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// The words of a text in lines of at most `room` characters; a longer word has a line of its own.
fn fill(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| width(line) + 1 + width(word) <= room) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_string()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_set_to_the_character() {
        let mut page = Page::new(1);
        page.title("Two gears");
        page.paragraph("One turns\n   the other.");
        page.table(
            "gears",
            &[column("gear", Format::Text), column("teeth", Format::Whole), column("ratio", Format::Fixed(2))],
            &[row!["small", 8_u64, 1.0], row!["large", 1024_u64, -0.001], row!["none", Cell::Empty, f64::NAN]],
        );
        page.heading("End");
        page.paragraph("Done.");
        page.next(&["geartrain lesson"]);
        let expected = "\
Two gears
=========
One turns the other.

  gear   teeth  ratio
  small      8   1.00
  large  1,024   0.00
  none       -    NaN

End
---
Done.

next: geartrain lesson
";
        assert_eq!(page.text(), expected, "\n{}", page.text());
        let rows: Vec<String> = page.json().map(|row| row.to_string()).collect();
        assert_eq!(
            rows,
            [
                r#"{"gear":"small","ratio":1.0,"table":"gears","teeth":8}"#,
                r#"{"gear":"large","ratio":-0.001,"table":"gears","teeth":1024}"#,
                r#"{"gear":"none","ratio":"NaN","table":"gears","teeth":null}"#,
                r#"{"done":true}"#,
            ]
        );
    }

    #[test]
    fn paragraphs_use_the_width_and_no_more() {
        let text = "word ".repeat(100);
        let lines = fill(&text, WIDTH);
        assert_eq!(lines.len(), 7);
        assert!(lines.iter().all(|line| width(line) <= WIDTH));
        assert_eq!(width(&lines[0]), 79, "another word would not fit");
        assert_eq!(fill(&"x".repeat(99), WIDTH), ["x".repeat(99)]);
        assert!(fill(" \n ", WIDTH).is_empty());
    }

    #[test]
    fn plots_stand_beside_each_other() {
        let points = || vec![(0.0, 0.0), (1.0, 1.0)];
        let picture = |name: &str| plot(name, "x", vec![(name, points())]);
        let mut page = Page::new(1);
        page.plots(&[picture("left"), picture("right")], 4);
        let lines: Vec<&str> = page.text().lines().collect();
        assert_eq!(lines.len(), 1 + 4 + 2);
        assert!(lines[0].starts_with("  left") && lines[0].ends_with("right"), "{}", page.text());
        assert!(lines.iter().all(|line| width(line) <= WIDTH), "{}", page.text());
        // A line without a height still has bounds.
        let flat = plot("flat", "x", vec![("flat", vec![(0.0, 3.0), (0.0, 3.0)])]);
        assert!(flat.x.0 < flat.x.1 && flat.y.0 < flat.y.1);
        let none = plot("none", "x", vec![]);
        assert!(none.x.0 < none.x.1 && none.y.0 < none.y.1, "{none:?}");
    }
}
