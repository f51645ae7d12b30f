//! Parses and prints the quantities of Kubernetes (`500m`, `1Gi`, `2e3`). They are held as integers
//! in thousandths, so that `quota` can compare and add them without rounding.
//!
//! The grammar (apimachinery, `pkg/api/resource/quantity.go`):
//!
//! ```text
//! quantity        ::= signedNumber suffix
//! signedNumber    ::= number | "+" number | "-" number
//! number          ::= digits | digits "." digits | digits "." | "." digits
//! suffix          ::= binarySI | decimalExponent | decimalSI
//! binarySI        ::= "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei"
//! decimalSI       ::= "n" | "u" | "m" | "" | "k" | "M" | "G" | "T" | "P" | "E"
//! decimalExponent ::= ("e" | "E") integer
//! ```
//!
//! As there, what is finer than the smallest unit is rounded away from zero, and what is larger than
//! 2^63 - 1 counts as that. It is our own: the crate `kube_quantity` reads numbers as floats (which
//! rounds sizes) and knows no exponents.

/// The most that a quantity can be, in thousandths.
const MOST: u128 = i64::MAX as u128 * 1000;
/// Further digits behind the point are only rounded: no unit makes them as large as a thousandth.
const MOST_FRACTION_DIGITS: usize = 16;

/// Parses a quantity into thousandths: `500m` is 500, `1Ki` is 1,024,000. `None` if it is not
/// valid.
pub(super) fn parse_milli_quantity(text: &str) -> Option<i128> {
    let (is_negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let unit = parse_suffix(suffix)?;
    let amount = scale_digits(whole, fraction, unit).unwrap_or(MOST).min(MOST);
    let amount = i128::try_from(amount).ok()?;
    Some(if is_negative { -amount } else { amount })
}

/// What a suffix multiplies by: a power of two times a power of ten.
#[derive(Clone, Copy)]
struct QuantityUnit {
    binary: u32,
    decimal: i64,
}

/// Reads a suffix.
fn parse_suffix(suffix: &str) -> Option<QuantityUnit> {
    let binary = |binary| Some(QuantityUnit { binary, decimal: 0 });
    let decimal = |decimal| Some(QuantityUnit { binary: 0, decimal });
    match suffix {
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        // Alone it is the unit; before a number it begins an exponent.
        "E" => decimal(18),
        exponent => decimal(i64::from(exponent.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?)),
    }
}

/// The thousandths of a number with a unit, rounded up; `None` if there are more than can be held.
/// The number is read as one integer, `15` for `1.5`, and the point moves into the power of ten:
/// 1.5Gi is 15 × 2^30 × 10^-1. Integers only, since a float would round large sizes.
fn scale_digits(whole: &str, fraction: &str, unit: QuantityUnit) -> Option<u128> {
    let fraction = fraction.trim_end_matches('0');
    let kept = &fraction[..fraction.len().min(MOST_FRACTION_DIGITS)];
    let digits = format!("{whole}{kept}");
    let digits = digits.trim_start_matches('0');
    let mut number: u128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    // What was cut off is not zero, and everything is rounded up.
    number = number.checked_add(u128::from(kept.len() < fraction.len()))?;
    if number == 0 {
        return Some(0);
    }
    let number = number.checked_mul(1_u128.checked_shl(unit.binary)?)?;
    // From units to thousandths is a factor of 10^3.
    let power = unit.decimal + 3 - i64::try_from(kept.len()).ok()?;
    let factor = u32::try_from(power.unsigned_abs()).ok().and_then(|p| 10_u128.checked_pow(p));
    if power >= 0 {
        number.checked_mul(factor?)
    } else {
        // Less than a thousandth, however small, is one.
        Some(factor.map_or(1, |factor| number.div_ceil(factor)))
    }
}

/// Prints a quantity for people: bytes with binary units, everything else as Kubernetes writes it.
pub(super) fn format_quantity(resource: &str, milli: i128) -> String {
    let is_bytes = ["memory", "storage"].iter().any(|part| resource.contains(part));
    if is_bytes && let Ok(bytes) = u64::try_from(milli / 1000) {
        return types::ByteSize(bytes).to_string();
    }
    if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("500m", 500),
            ("2", 2000),
            ("+2", 2000),
            ("0.5", 500),
            (".5", 500),
            ("5.", 5000),
            ("1Gi", 1000 << 30),
            ("1.5Gi", (1536 * 1000) << 20),
            ("1E", 1_000_000_000_000_000_000_000),
            ("1Ei", 1000_i128 << 60),
            ("0.5Ei", 500_i128 << 60),
            ("2e3", 2_000_000),
            ("2E3", 2_000_000),
            ("2e+3", 2_000_000),
            ("5e-1", 500),
            ("1e-30", 1),
            ("0e99", 0),
            // Finer than a thousandth: away from zero.
            ("100n", 1),
            ("1u", 1),
            ("1001u", 2),
            ("-1", -1000),
            ("-100n", -1),
            ("1.00000000000000000000000001", 1001),
            // More than Kubernetes can hold counts as the most.
            ("8Ei", i128::from(i64::MAX) * 1000),
            ("9e99", i128::from(i64::MAX) * 1000),
            ("99999999999999999999999999999999999999999", i128::from(i64::MAX) * 1000),
        ] {
            assert_eq!(parse_milli_quantity(text), Some(expected), "{text}");
        }
        for text in ["", "1x", "e3", "Ki", ".", "+", "1.2.3", "1 Gi", "1KiB", "1e", "1e1.5", "--1"]
        {
            assert_eq!(parse_milli_quantity(text), None, "{text}");
        }
    }

    #[test]
    fn quantities_are_printed_for_people() {
        assert_eq!(format_quantity("requests.cpu", 1500), "1500m");
        assert_eq!(format_quantity("requests.memory", 1000 << 30), "1.0 GiB");
    }

    proptest! {
        #[test]
        fn units_agree_with_each_other(number in 0..1_000_000_i128) {
            let parse = |unit: &str| parse_milli_quantity(&format!("{number}{unit}"));
            prop_assert_eq!(parse("m"), Some(number));
            prop_assert_eq!(parse("Ki"), Some(number * 1024 * 1000));
            for (unit, exponent) in [("k", "e3"), ("M", "E6"), ("G", "e9"), ("T", "e12")] {
                prop_assert_eq!(parse(unit), parse(exponent));
            }
            prop_assert_eq!(parse("000u"), parse("m"));
        }

        #[test]
        fn no_text_breaks_it(text in "[-+]?[0-9.]{0,45}[numkMGTPEeKi]{0,2}[-+]?[0-9]{0,12}|.{0,20}") {
            let _ = parse_milli_quantity(&text);
        }
    }
}
