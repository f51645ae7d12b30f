//! Parses and prints the quantities of Kubernetes (`500m`, `1Gi`, `2e3`). They are held as integers
//! in thousandths, so that `quota` can compare and add them without rounding (apimachinery,
//! `pkg/api/resource/quantity.go`).

/// Parses a quantity into thousandths: `500m` is 500, `1Ki` is 1,024,000. `None` if it is not
/// valid.
pub(super) fn parse_milli_quantity(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    // Numerator and denominator, from the unit to thousandths.
    let factor = match suffix {
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
        "" => (1000, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1000 << 10, 1),
        "Mi" => (1000 << 20, 1),
        "Gi" => (1000 << 30, 1),
        "Ti" => (1000 << 40, 1),
        "Pi" => (1000 << 50, 1),
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            (10_i128.checked_pow(power)?.checked_mul(1000)?, 1)
        }
    };
    // 1.5Gi is 15 Gi divided by 10: integers only, since a float would round large sizes.
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let value: i128 = digits.parse().ok()?;
    let divisor =
        10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(factor.1)?;
    let product = value.checked_mul(factor.0)?;
    // Rounded up to a whole thousandth, as Kubernetes does.
    Some(product.div_euclid(divisor) + i128::from(product.rem_euclid(divisor) != 0))
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
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, expected) in [
            ("500m", 500),
            ("2", 2000),
            ("0.5", 500),
            ("1Gi", 1000 << 30),
            ("1.5Gi", (1536 * 1000) << 20),
            ("2e3", 2_000_000),
            ("100n", 1),
            ("-1", -1000),
        ] {
            assert_eq!(parse_milli_quantity(text), Some(expected), "{text}");
        }
        assert_eq!(parse_milli_quantity("1x"), None);
        assert_eq!(parse_milli_quantity(""), None);
        assert_eq!(format_quantity("requests.cpu", 1500), "1500m");
        assert_eq!(format_quantity("requests.memory", 1000 << 30), "1.0 GiB");
    }
}
