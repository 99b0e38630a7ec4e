//! Pictures in a terminal, in braille dots: 2 by 4 to a character. One is the loss curve:
//!
//! ```text
//! loss (nats a token)
//! 3.00 ┤⢣
//!      │⠈⡆
//!      │ ⠱⡀
//!      │  ⠑⠤⡀       ◆
//! 1.10 ┤    ⠈⠉⠒⠒⠒⠢⠤⠤⠤⠤⠤⠤⣀⣀⣀⣀⣀⣀⣀⣀⣀◆
//!      └──────────────────────────
//!       1         step         201
//!       ── training  ◆ validation
//! ```

use crate::curve::{Curve, drawable, mean};
use crate::plot::loss_label;

/// Characters across, if nobody says otherwise.
pub const WIDTH: usize = 80;

/// Lines for the curve itself, if nobody says otherwise.
pub const HEIGHT: usize = 14;

/// The smallest curve that says anything, in characters.
const SMALLEST: (usize, usize) = (26, 3);

/// Lines between two labels of the upright axis.
const BETWEEN: usize = 3;

/// Marks on a line that has them.
const MARKS: usize = 4;

/// Dots of a character: across, down, and the bit of each (by row, then column) in its code.
const DOTS: (usize, usize) = (2, 4);
const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// One set of points of a picture. What is not finite is a gap.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it is, for the legend.
    pub name: String,
    /// Across and up, in the order in which they are joined.
    pub points: Vec<(f64, f64)>,
    /// Whether neighbours are joined by a line.
    pub joined: bool,
    /// A character that stands at every point, or on a line here and there.
    pub mark: Option<char>,
}

/// What is drawn, and between which bounds.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The line above it.
    pub heading: String,
    /// The name of the axis across.
    pub across: String,
    /// The bounds across: the lower, then a higher one.
    pub x: (f64, f64),
    /// The bounds upwards.
    pub y: (f64, f64),
    /// What is drawn; where marks meet, the last one stays.
    pub series: Vec<Series>,
    /// Whether a line below tells the series apart.
    pub legend: bool,
}

/// The loss curve as lines of text under a title, each ended, no more than `width` characters across; the curve itself takes `height` lines. Too
/// small a size is raised to one that can be read. What is not finite is a gap.
pub fn chart(curve: &Curve, title: &str, width: usize, height: usize) -> String {
    let points = |of: &[(u64, f64)]| of.iter().map(|point| (point.0 as f64, point.1)).collect();
    let (train, validation) = (points(&curve.train), points(&curve.validation));
    let picture = Picture {
        heading: title.to_string(),
        across: "step".to_string(),
        x: curve.steps(),
        y: curve.losses(),
        series: vec![
            Series { name: "training".to_string(), points: train, joined: true, mark: None },
            Series { name: "validation".to_string(), points: validation, joined: false, mark: Some('◆') },
        ],
        legend: !curve.validation.is_empty(),
    };
    picture.draw(width, height)
}

impl Picture {
    /// The picture as lines of text, each ended, no more than `width` characters across; the inner part takes `height`
    /// lines. Too small a size is raised to one that can be read.
    pub fn draw(&self, width: usize, height: usize) -> String {
        let height = height.max(SMALLEST.1);
        let labels = self.labels(height);
        let margin = labels.iter().map(String::len).max().unwrap_or(0);
        let across = width.max(SMALLEST.0 + margin + 2) - margin - 2;
        let cells = Canvas::of(self, across, height);
        let mut text = format!("{}\n", self.heading);
        for (row, label) in labels.iter().enumerate() {
            let tick = if label.is_empty() { '│' } else { '┤' };
            text.push_str(format!("{label:>margin$} {tick}{}", cells.line(row)).trim_end());
            text.push('\n');
        }
        text.push_str(&format!("{:margin$} └{}\n", "", "─".repeat(across)));
        text.push_str(&format!("{:margin$}  {}\n", "", self.axis(across)));
        for entries in self.legend(across) {
            text.push_str(&format!("{:margin$}  {entries}\n", ""));
        }
        text
    }

    /// What tells the series apart, in as many lines as it takes.
    fn legend(&self, across: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for series in self.series.iter().filter(|_| self.legend) {
            let entry = match series.mark {
                Some(mark) => format!("{mark} {}", series.name),
                None => format!("── {}", series.name),
            };
            let room = across.saturating_sub(entry.chars().count() + 2);
            match lines.last_mut().filter(|line| line.chars().count() <= room) {
                Some(line) => line.push_str(&format!("  {entry}")),
                None => lines.push(entry),
            }
        }
        lines
    }

    /// The labels of the upright axis, one a row.
    fn labels(&self, height: usize) -> Vec<String> {
        let (low, high) = self.y;
        let label = |row: usize| {
            let value = high - (high - low) * row as f64 / (height - 1) as f64;
            if row.is_multiple_of(BETWEEN) || row == height - 1 { loss_label(value, high - low) } else { String::new() }
        };
        // A label just above the last one would only crowd it.
        let shown = |row: usize| row + 1 == height || row + BETWEEN <= height;
        (0..height).map(|row| if shown(row) { label(row) } else { String::new() }).collect()
    }

    /// The bounds at the two ends, and between them what they are.
    fn axis(&self, across: usize) -> String {
        let (first, last) = (self.x.0.to_string(), self.x.1.to_string());
        let room = across.saturating_sub(first.len() + last.len());
        format!("{first}{:^room$}{last}", self.across)
    }
}

struct Canvas {
    across: usize,
    /// Braille codes without their base, row by row.
    dots: Vec<u8>,
    /// Characters that stand in place of the dots.
    marks: Vec<Option<char>>,
}

impl Canvas {
    fn of(picture: &Picture, across: usize, down: usize) -> Canvas {
        let mut canvas = Canvas { across, dots: vec![0; across * down], marks: vec![None; across * down] };
        let (columns, rows) = (across * DOTS.0, down * DOTS.1);
        let ((first, last), (low, high)) = (picture.x, picture.y);
        let share = |value: f64, low: f64, high: f64| ((value - low) / (high - low)).clamp(0.0, 1.0);
        let column = |x: f64| (share(x, first, last) * (columns - 1) as f64).round() as usize;
        let row = |y: f64| ((1.0 - share(y, low, high)) * (rows - 1) as f64).round() as usize;
        for (i, series) in picture.series.iter().enumerate() {
            if !series.joined {
                let points = series.points.iter().filter(|point| point.1.is_finite() && drawable(point.1));
                points.for_each(|point| canvas.mark(series.mark, (column(point.0), row(point.1))));
                continue;
            }
            // One mean a column: a long noisy curve stays a line.
            let mut dots: Vec<Option<(usize, usize)>> = Vec::new();
            for points in series.points.chunk_by(|a, b| column(a.0) == column(b.0)) {
                let (x, y) = mean(points);
                dots.push(y.is_finite().then(|| (column(x), row(y))));
            }
            let mut before = None;
            for dot in &dots {
                if let Some(dot) = *dot {
                    canvas.line_to(before.unwrap_or(dot), dot);
                }
                before = *dot;
            }
            // Marks of different lines stand in different columns.
            let spots = (0..MARKS).map(|k| (k * picture.series.len() + i + 1) * dots.len());
            let spots = spots.map(|at| at / (MARKS * picture.series.len() + 1));
            spots.filter_map(|at| dots.get(at).copied().flatten()).for_each(|dot| canvas.mark(series.mark, dot));
        }
        canvas
    }

    /// Puts a mark into the character that holds a dot, so that it lies on the line it is level with.
    fn mark(&mut self, mark: Option<char>, (x, y): (usize, usize)) {
        let cell = &mut self.marks[y / DOTS.1 * self.across + x / DOTS.0];
        *cell = mark.or(*cell);
    }

    /// Sets the dots between two, in every column and without gaps from row to row.
    fn line_to(&mut self, from: (usize, usize), to: (usize, usize)) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        for i in 0..=steps {
            let at = |a: usize, b: usize| (a * (steps - i) + b * i + steps / 2) / steps;
            let (x, y) = (at(from.0, to.0), at(from.1, to.1));
            self.dots[y / DOTS.1 * self.across + x / DOTS.0] |= BITS[y % DOTS.1][x % DOTS.0];
        }
    }

    fn line(&self, row: usize) -> String {
        let cells = row * self.across..(row + 1) * self.across;
        let glyph = |(dots, mark): (&u8, &Option<char>)| match (dots, mark) {
            (_, Some(mark)) => *mark,
            (0, _) => ' ',
            (dots, _) => char::from_u32(0x2800 + u32::from(*dots)).unwrap_or('·'),
        };
        self.dots[cells.clone()].iter().zip(&self.marks[cells]).map(glyph).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLE: &str = "loss (nats a token)";

    fn curve(train: &[(u64, f64)], validation: &[(u64, f64)]) -> Curve {
        Curve { train: train.to_vec(), validation: validation.to_vec() }
    }

    #[test]
    fn a_curve_is_drawn_to_the_character() {
        let train: Vec<(u64, f64)> = (0..=20).map(|i| (i * 10 + 1, 1.0 + 2.0 / (1.0 + i as f64))).collect();
        let text = chart(&curve(&train, &[(100, 1.5), (201, 1.2)]), TITLE, 32, 5);
        let expected = "\
loss (nats a token)
3.00 ┤⢣
     │⠈⡆
     │ ⠱⡀
     │  ⠑⠤⡀       ◆
1.10 ┤    ⠈⠉⠒⠒⠒⠢⠤⠤⠤⠤⠤⠤⣀⣀⣀⣀⣀⣀⣀⣀⣀◆
     └──────────────────────────
      1         step         201
      ── training  ◆ validation
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn every_line_fits() {
        let train: Vec<(u64, f64)> = (1..5000).map(|i| (i, (i as f64).sin() + 3.0)).collect();
        for (width, height) in [(0, 0), (20, 3), (40, 4), (80, 14), (81, 15), (200, 50)] {
            let text = chart(&curve(&train, &[(2500, 3.0)]), TITLE, width, height);
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= width.max(SMALLEST.0 + 7), "{longest} in {width}");
            assert_eq!(text.lines().count(), height.max(SMALLEST.1) + 4);
        }
    }

    #[test]
    fn odd_curves_are_drawn() {
        let nan = f64::NAN;
        for (points, dots) in [
            (vec![], false),
            (vec![(1, 2.0)], true),
            (vec![(1, nan)], false),
            (vec![(1, 2.0), (2, nan), (3, 1.0), (4, f64::INFINITY)], true),
            (vec![(1, 0.0), (2, 0.0)], true),
            (vec![(5, 2.0), (1, 3.0)], true),
            (vec![(0, 1e29), (u64::MAX, -1e29)], true),
            (vec![(0, f64::MAX), (1, -f64::MAX)], false),
        ] {
            let text = chart(&curve(&points, &[]), TITLE, WIDTH, HEIGHT);
            assert_eq!(text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), dots, "{points:?}\n{text}");
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }

    #[test]
    fn a_gap_is_left_where_the_loss_is_not_finite() {
        let train: Vec<(u64, f64)> =
            (0..100).map(|i| (i, if (40..60).contains(&i) { f64::NAN } else { 1.0 })).collect();
        let text = chart(&curve(&train, &[]), TITLE, 106, 3);
        let line = text.lines().find(|line| line.contains('⠒') || line.contains('⠤') || line.contains('⠉')).unwrap();
        assert!(line.trim_end().contains("          "), "{text}");
    }

    #[test]
    fn several_lines_are_told_apart_by_their_marks() {
        let line = |name: &str, mark: char, slope: f64| Series {
            name: name.to_string(),
            points: (0..=10).map(|i| (i as f64, slope * i as f64)).collect(),
            joined: true,
            mark: Some(mark),
        };
        let picture = Picture {
            heading: "height".to_string(),
            across: "way".to_string(),
            x: (0.0, 10.0),
            y: (-10.0, 10.0),
            series: vec![line("up", 'u', 1.0), line("down", 'd', -1.0)],
            legend: true,
        };
        let text = picture.draw(40, 7);
        let marks = |mark: char| -> Vec<usize> {
            let rows: Vec<&str> = text.lines().skip(1).take(7).collect();
            (0..7).filter(|row| rows[*row].contains(mark)).collect()
        };
        assert!(marks('u').len() >= 3 && marks('u').iter().all(|row| *row <= 3), "{text}");
        assert!(marks('d').len() >= 3 && marks('d').iter().all(|row| *row >= 3), "{text}");
        assert!(text.ends_with("u up  d down\n"), "{text}");
        let long = "a name that takes a line of its own".to_string();
        let series = picture.series.iter().map(|series| Series { name: long.clone(), ..series.clone() }).collect();
        let text = Picture { series, ..picture }.draw(40, 7);
        assert!(text.ends_with(&format!("u {long}\n       d {long}\n")), "{text}");
    }
}
