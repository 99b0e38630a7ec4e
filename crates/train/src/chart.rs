//! The loss curve in a terminal, in braille dots: 2 by 4 to a character.
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

use crate::curve::{Curve, mean};
use crate::plot::loss_label;

/// Characters across, if nobody says otherwise.
pub const WIDTH: usize = 80;

/// Lines for the curve itself, if nobody says otherwise.
pub const HEIGHT: usize = 14;

/// The smallest curve that says anything, in characters.
const SMALLEST: (usize, usize) = (26, 3);

/// Lines between two labels of the loss axis.
const BETWEEN: usize = 3;

/// Dots of a character: across, down, and the bit of each (by row, then column) in its code.
const DOTS: (usize, usize) = (2, 4);
const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// The curve as lines of text under a title, each ended, no more than `width` characters across; the curve itself takes `height` lines. Too
/// small a size is raised to one that can be read. What is not finite is a gap.
pub fn chart(curve: &Curve, title: &str, width: usize, height: usize) -> String {
    let height = height.max(SMALLEST.1);
    let (low, high) = curve.losses();
    let label = |row: usize| {
        let loss = high - (high - low) * row as f64 / (height - 1) as f64;
        if row.is_multiple_of(BETWEEN) || row == height - 1 { loss_label(loss, high - low) } else { String::new() }
    };
    // A label just above the last one would only crowd it.
    let labels: Vec<String> = (0..height)
        .map(|row| if row + 1 < height && row + BETWEEN > height { String::new() } else { label(row) })
        .collect();
    let margin = labels.iter().map(String::len).max().unwrap_or(0);
    let across = width.max(SMALLEST.0 + margin + 2) - margin - 2;
    let cells = Canvas::of(curve, across, height);
    let mut text = format!("{title}\n");
    for (row, label) in labels.iter().enumerate() {
        let tick = if label.is_empty() { '│' } else { '┤' };
        text.push_str(format!("{label:>margin$} {tick}{}", cells.line(row)).trim_end());
        text.push('\n');
    }
    text.push_str(&format!("{:margin$} └{}\n", "", "─".repeat(across)));
    text.push_str(&format!("{:margin$}  {}\n", "", step_axis(curve, across)));
    if !curve.validation.is_empty() {
        text.push_str(&format!("{:margin$}  ── training  ◆ validation\n", ""));
    }
    text
}

/// The first and last step at the two ends, and between them what they are.
fn step_axis(curve: &Curve, across: usize) -> String {
    let (first, last) = curve.steps();
    let (first, last) = (first.to_string(), last.to_string());
    let room = across.saturating_sub(first.len() + last.len());
    format!("{first}{:^room$}{last}", "step")
}

struct Canvas {
    across: usize,
    /// Braille codes without their base, row by row.
    dots: Vec<u8>,
    /// Where a character stands in place of the dots.
    marks: Vec<bool>,
}

impl Canvas {
    fn of(curve: &Curve, across: usize, down: usize) -> Canvas {
        let mut canvas = Canvas { across, dots: vec![0; across * down], marks: vec![false; across * down] };
        let (columns, rows) = (across * DOTS.0, down * DOTS.1);
        let ((first, last), (low, high)) = (curve.steps(), curve.losses());
        let share = |value: f64, low: f64, high: f64| ((value - low) / (high - low)).clamp(0.0, 1.0);
        let column = |step: f64, n: usize| (share(step, first, last) * (n - 1) as f64).round() as usize;
        let row = |loss: f64, n: usize| ((1.0 - share(loss, low, high)) * (n - 1) as f64).round() as usize;
        // One mean a column: a long noisy curve stays a line.
        let mut before = None;
        for points in curve.train.chunk_by(|a, b| column(a.0 as f64, columns) == column(b.0 as f64, columns)) {
            let (step, loss) = mean(points);
            let dot = loss.is_finite().then(|| (column(step, columns), row(loss, rows)));
            if let Some(dot) = dot {
                canvas.line_to(before.unwrap_or(dot), dot);
            }
            before = dot;
        }
        for (step, loss) in curve.validation.iter().map(|point| mean(&[*point])).filter(|point| point.1.is_finite()) {
            // Rows of characters, through the dots, so that a mark lies on the line it is level with.
            canvas.marks[row(loss, rows) / DOTS.1 * across + column(step, columns) / DOTS.0] = true;
        }
        canvas
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
        let glyph = |(dots, mark): (&u8, &bool)| match (dots, mark) {
            (_, true) => '◆',
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
}
