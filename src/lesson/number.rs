//! Numbers as people write them.

pub use geartrain_train::words::thousands;

/// A number with `digits` digits after the point; one that rounds to 0 has no sign.
pub fn fixed(x: f64, digits: usize) -> String {
    let text = format!("{x:.digits$}");
    let zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if zero { text.trim_start_matches('-').to_string() } else { text }
}

/// A number in as few digits as tell it from all others: `0.1`, `2`, `1e-6`.
pub fn plain(x: f64) -> String {
    let small = x != 0.0 && x.abs() < 1e-4;
    if small || x.abs() >= 1e9 { format!("{x:e}") } else { x.to_string() }
}

/// A number with `digits` digits that count, and all those before the point: `0.0025`, `1,250`, `9.5e-7`.
pub fn digits_of(x: f64, digits: usize) -> String {
    if x == 0.0 || !x.is_finite() {
        return if x == 0.0 { "0".to_string() } else { x.to_string() };
    }
    // The exponent after rounding to so many digits: 9.99 with two digits is 1.0e1.
    let rounded = format!("{x:.*e}", digits.saturating_sub(1));
    let exponent: i32 = rounded.split('e').nth(1).and_then(|e| e.parse().ok()).unwrap_or(0);
    match exponent {
        ..-4 | 6.. => return rounded,
        3..6 if digits <= 4 => {
            return format!("{}{}", if x < 0.0 { "-" } else { "" }, thousands(x.abs().round() as usize));
        }
        _ => {}
    }
    format!("{x:.*}", usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0))
}

/// A number with three digits that count in the largest unit that leaves at least 1 of it; whole below 1,000,000 of the
/// last one, then in millions of it.
fn in_units(x: f64, units: &[(f64, &str)]) -> String {
    let unit = units.iter().rev().find(|(size, _)| x >= *size * 0.9995).or(units.first());
    let Some((size, name)) = unit else { return x.to_string() };
    match x / size {
        n if *name == "B" => format!("{} {name}", n.round()),
        n if n < 1000.0 => format!("{} {name}", digits_of(n, 3)),
        n if n < 1e6 => format!("{} {name}", thousands(n.round() as usize)),
        n => format!("{} million {name}", digits_of(n / 1e6, 3)),
    }
}

/// `724 B`, `1.62 MB`, `6.49 TB`: powers of 1,000.
pub fn bytes(n: f64) -> String {
    in_units(n, &[(1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB")])
}

/// `3.10 ms`, `12.0 minutes`, `1.20 million years`.
pub fn duration(seconds: f64) -> String {
    const DAY: f64 = 86_400.0;
    let units = [(1e-6, "us"), (1e-3, "ms"), (1.0, "seconds"), (60.0, "minutes"), (3600.0, "hours"), (DAY, "days")];
    match seconds >= 365.25 * DAY {
        true => in_units(seconds, &[(365.25 * DAY, "years")]),
        false => in_units(seconds, &units),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_write_them() {
        let written = [0.25, 1234.4, 9.5367431640625e-7, 0.9996, 99.96, 1e7, -0.02, 0.0].map(|x| digits_of(x, 3));
        assert_eq!(written, ["0.250", "1,234", "9.54e-7", "1.00", "100", "1.00e7", "-0.0200", "0"]);
        assert_eq!([plain(0.1), plain(-2.0), plain(1e-6), plain(0.0)], ["0.1", "-2", "1e-6", "0"]);
        assert_eq!([digits_of(f64::NAN, 3), digits_of(f64::INFINITY, 3)], ["NaN", "inf"]);
        assert_eq!(
            [thousands(0), thousands(999), thousands(1000), thousands(12_345_678)],
            ["0", "999", "1,000", "12,345,678"]
        );
        assert_eq!([fixed(-0.0001, 2), fixed(-1.5, 0), fixed(-0.006, 2)], ["0.00", "-2", "-0.01"]);
    }

    #[test]
    fn bytes_and_seconds_have_units() {
        assert_eq!([bytes(68.0), bytes(810_496.0), bytes(1e12)], ["68 B", "810 kB", "1.00 TB"]);
        assert_eq!([duration(0.0031), duration(90.0), duration(3.5e5)], ["3.10 ms", "1.50 minutes", "4.05 days"]);
        let year = 365.25 * 86_400.0;
        assert_eq!([duration(year), duration(12_345.0 * year)], ["1.00 years", "12,345 years"]);
        assert_eq!(duration(1.2e6 * year), "1.20 million years");
    }
}
