//! `loss.svg`: training and validation loss by step.

use std::fmt::Display;
use std::path::Path;

use plotters::prelude::*;

use crate::atomic;
use crate::curve::{Curve, thinned};
use crate::error::{Error, Result};

/// Size of the picture.
const SIZE: (u32, u32) = (800, 480);

/// Points drawn at most; a longer curve is drawn from the means of neighbours.
const POINTS: usize = 1000;

const TRAIN: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const VALIDATION: RGBColor = RGBColor(0xd6, 0x5f, 0x0e);

/// Writes the picture of a curve, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, curve: &Curve, title: &str, loss: &str) -> Result<()> {
    atomic::replace_with(path, svg(curve, title, loss)?.as_bytes())
}

/// The picture of a curve, with what its losses are: the same text for the same losses. What is not finite is a gap in the line.
///
/// # Errors
/// The drawing fails, which no curve should make happen.
pub fn svg(curve: &Curve, title: &str, loss: &str) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, curve, title, loss)
        .map_err(|reason| Error::failed(format!("cannot draw the loss curve: {reason}")))?;
    Ok(text)
}

fn draw(
    text: &mut String,
    curve: &Curve,
    title: &str,
    loss: &str,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let ((first, last), (low, high)) = (curve.steps(), curve.losses());
    let room = (high - low) / 20.0;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(14)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(first..last, low - room..high + room)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc("step")
        .y_desc(loss)
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(&|step| step_label(*step))
        .y_label_formatter(&|loss| loss_label(*loss, high - low))
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 13))
        .draw()?;
    let mut drawn = false;
    for (points, color, name) in [(&curve.train, TRAIN, "training"), (&curve.validation, VALIDATION, "validation")] {
        let points = thinned(points, POINTS);
        let dots = color == VALIDATION && points.len() <= 60;
        for (i, piece) in pieces(&points).enumerate() {
            let style = color.stroke_width(2);
            let series = chart.draw_series(LineSeries::new(piece.iter().copied(), style))?;
            if i == 0 {
                series.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
                drawn = true;
            }
            if dots || piece.len() == 1 {
                chart.draw_series(piece.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
            }
        }
    }
    if drawn {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .margin(12)
            .background_style(WHITE.mix(0.9))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 14))
            .draw()?;
    }
    area.present()?;
    Ok(())
}

/// The runs of finite points.
fn pieces(points: &[(f64, f64)]) -> impl Iterator<Item = &[(f64, f64)]> {
    points.split(|point| !point.1.is_finite()).filter(|piece| !piece.is_empty())
}

/// A step on an axis: whole steps only.
fn step_label(step: f64) -> String {
    if step.fract() == 0.0 { step.to_string() } else { String::new() }
}

/// A loss on an axis that spans `width`: as many digits as tell neighbouring labels apart.
pub(crate) fn loss_label(loss: f64, width: f64) -> String {
    let digits = (2.0 - libm::floor(libm::log10(width))).clamp(0.0, 12.0) as usize;
    let shown: &dyn Display =
        if loss.abs() < 1e6 { &format_args!("{loss:.digits$}") } else { &format_args!("{loss:.2e}") };
    shown.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSS: &str = "loss (nats a token)";

    fn curve(train: &[(u64, f64)], validation: &[(u64, f64)]) -> Curve {
        Curve { train: train.to_vec(), validation: validation.to_vec() }
    }

    fn falling(n: u64) -> Vec<(u64, f64)> {
        (1..=n).map(|i| (i * 10, 2.0 + 10.0 / (i as f64 + 5.0) + ((i * 7919) % 13) as f64 * 0.01)).collect()
    }

    #[test]
    fn axes_and_curves_are_named() {
        let text = svg(&curve(&falling(50), &[(100, 2.9), (250, 2.5), (500, 2.4)]), "names-gpt2-1", LOSS).unwrap();
        for part in ["<svg ", "names-gpt2-1", "step\n", "loss (nats a token)", "training", "validation", "</svg>"] {
            assert!(text.contains(part), "no {part}");
        }
        assert_eq!(
            text.matches("<polyline fill=\"none\" opacity=\"1\" stroke=\"#1F77B4\"").count(),
            2,
            "line and legend"
        );
        assert_eq!(
            text,
            svg(&curve(&falling(50), &[(100, 2.9), (250, 2.5), (500, 2.4)]), "names-gpt2-1", LOSS).unwrap()
        );
    }

    #[test]
    fn long_curves_stay_small() {
        let text = svg(&curve(&falling(100_000), &[]), "x", LOSS).unwrap();
        assert!(text.len() < 40_000, "{}", text.len());
        assert!(!text.contains("validation"));
    }

    #[test]
    fn odd_curves_are_drawn() {
        let nan = f64::NAN;
        for points in [
            vec![],
            vec![(1, 2.0)],
            vec![(1, nan)],
            vec![(1, 2.0), (2, nan), (3, 1.0), (4, f64::INFINITY)],
            vec![(1, 0.0), (2, 0.0)],
            vec![(0, 1e29), (u64::MAX, -1e29)],
            vec![(u64::MAX - 1, 1.0), (u64::MAX, 2.0)],
            vec![(0, f64::MAX), (1, -f64::MAX)],
        ] {
            let text = svg(&curve(&points, &points), "<odd> & \"titles\"", LOSS).unwrap();
            assert!(!text.contains("NaN") && !text.contains("<odd>"), "{points:?}");
        }
    }

    #[test]
    fn labels_have_the_digits_that_matter() {
        assert_eq!(loss_label(2.5, 3.0), "2.50");
        assert_eq!(loss_label(2.5, 0.03), "2.5000");
        assert_eq!(loss_label(250.0, 300.0), "250");
        assert_eq!(loss_label(2.5e9, 3e9), "2.50e9");
    }

    #[test]
    fn the_file_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loss.svg");
        write(&path, &curve(&falling(5), &[]), "x", LOSS).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().trim_end().ends_with("</svg>"));
    }
}
