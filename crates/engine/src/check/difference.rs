//! Central differences, and when a derivative agrees with them.

/// A derivative `a` agrees with a difference `n` when |a − n| ≤ `TOLERANCE` (1 + max(|a|, |n|)).
pub const TOLERANCE: f64 = 1e-6;

/// A derivative in one direction beside a difference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// From the gradient graph.
    pub analytic: f64,
    /// From central differences.
    pub numeric: f64,
    /// |a − n| / (1 + max(|a|, |n|)).
    pub error: f64,
}

impl Comparison {
    /// Two numbers beside each other.
    pub fn new(analytic: f64, numeric: f64) -> Comparison {
        let error = (analytic - numeric).abs() / (1.0 + analytic.abs().max(numeric.abs()));
        Comparison { analytic, numeric, error }
    }

    /// Whether they agree. NaN never does.
    pub fn holds(&self) -> bool {
        self.within(TOLERANCE)
    }

    /// Whether the error is at most `tolerance`. NaN never is.
    pub fn within(&self, tolerance: f64) -> bool {
        self.error <= tolerance
    }
}

/// The formulas, in the order they are tried: step, and whether four points are used instead of two. Two points are
/// enough for most functions; four have an error of h⁴ and allow a larger step where rounding would drown a small one.
const FORMULAS: [(f64, bool); 5] = [(1e-5, false), (1e-6, false), (1e-4, true), (3e-5, true), (1e-3, true)];

/// Compares `analytic` with central differences of `f` at 0. The first formula that agrees is taken, else the one that
/// comes closest; the tolerance is the same for all.
///
/// # Errors
/// Those of `f`.
pub fn compare<E>(analytic: f64, mut f: impl FnMut(f64) -> Result<f64, E>) -> Result<Comparison, E> {
    let mut best: Option<Comparison> = None;
    for (h, four) in FORMULAS {
        let near = f(h)? - f(-h)?;
        let numeric = match four {
            false => near / (2.0 * h),
            true => (8.0 * near - (f(2.0 * h)? - f(-2.0 * h)?)) / (12.0 * h),
        };
        let found = Comparison::new(analytic, numeric);
        if found.holds() {
            return Ok(found);
        }
        if best.is_none_or(|b| b.error.is_nan() || found.error < b.error) {
            best = Some(found);
        }
    }
    Ok(best.unwrap_or_else(|| Comparison::new(analytic, f64::NAN)))
}

/// Σ a · b
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(analytic: f64, f: impl Fn(f64) -> f64) -> Comparison {
        compare(analytic, |h| Ok::<f64, ()>(f(h))).unwrap()
    }

    #[test]
    fn right_and_wrong_derivatives_are_told_apart() {
        assert!(of(1.0, libm::sin).holds());
        assert!(of(1.0 + 1.9e-6, libm::sin).holds());
        assert!(!of(1.0 + 2.1e-6, libm::sin).holds());
        assert!(!of(-1.0, libm::sin).holds());
        assert!(!of(f64::NAN, libm::sin).holds());
        assert!(!of(0.0, |_| f64::NAN).holds());
    }

    #[test]
    fn a_strongly_bent_function_needs_the_better_formula() {
        // d/dh exp(1000 h) / 1000 at 0: two points at 1e-5 are off by 1.7e-5.
        assert!(of(1.0, |h| libm::exp(1000.0 * h) / 1000.0).holds());
        // Large values drown small steps in rounding.
        assert!(of(1.0, |h| 1e5 + libm::sin(h)).holds());
    }
}
