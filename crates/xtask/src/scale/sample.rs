//! What was measured, and how it grows.

use crate::bench::measure::Sample;

/// One verb with one number of images.
pub(super) struct ScaleSample {
    pub(super) verb: &'static str,
    pub(super) images: usize,
    pub(super) used: Sample,
}

/// The exponent of growth between two measurements: 1 is a straight line.
pub(super) fn growth_exponent(before: (usize, f64), after: (usize, f64)) -> f64 {
    (after.1 / before.1).ln() / (after.0 as f64 / before.0 as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::growth_exponent;

    #[test]
    fn a_straight_line_has_one_and_a_square_two() {
        assert!((growth_exponent((250, 1.0), (1000, 4.0)) - 1.0).abs() < 1e-9);
        assert!((growth_exponent((250, 1.0), (1000, 16.0)) - 2.0).abs() < 1e-9);
    }
}
