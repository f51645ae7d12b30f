//! Times and durations as people read them: to the second, in UTC, with the date once.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// An instant: `2026-11-21 12:00:05 UTC`.
pub fn format_instant(at: Timestamp) -> String {
    format_as(at, "%Y-%m-%d %H:%M:%S UTC")
}

/// From one instant to another, with what they share once: `2026-11-21 12:00:05 to 12:04:10 UTC`.
pub fn format_interval(from: Timestamp, to: Timestamp) -> String {
    let (first, last) = (format_as(from, "%Y-%m-%d"), format_as(to, "%Y-%m-%d"));
    let begin = format_as(from, "%Y-%m-%d %H:%M:%S");
    if begin == format_as(to, "%Y-%m-%d %H:%M:%S") {
        format!("{begin} UTC")
    } else if first == last {
        format!("{begin} to {}", format_as(to, "%H:%M:%S UTC"))
    } else {
        format!("{begin} to {}", format_instant(to))
    }
}

/// A number of seconds in its two largest units: `45 s`, `10 min`, `1 h 5 min`, `2 d 3 h`.
pub fn format_seconds(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let largest = UNITS.iter().position(|(size, _)| seconds >= *size).unwrap_or(UNITS.len() - 1);
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, unit) in UNITS.iter().skip(largest).take(2) {
        let count = rest / size;
        rest %= size;
        if count > 0 || parts.is_empty() {
            parts.push(format!("{count} {unit}"));
        }
    }
    parts.join(" ")
}

/// An instant in UTC, in a `strftime` format.
pub(crate) fn format_as(at: Timestamp, format: &str) -> String {
    at.to_zoned(TimeZone::UTC).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_have_seconds_and_their_date_once() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let noon = at("2026-11-21T12:00:05.123456Z");
        assert_eq!(format_instant(noon), "2026-11-21 12:00:05 UTC");
        for (to, text) in [
            ("2026-11-21T12:00:05.9Z", "2026-11-21 12:00:05 UTC"),
            ("2026-11-21T12:04:10Z", "2026-11-21 12:00:05 to 12:04:10 UTC"),
            ("2026-11-22T00:00:01Z", "2026-11-21 12:00:05 to 2026-11-22 00:00:01 UTC"),
        ] {
            assert_eq!(format_interval(noon, at(to)), text);
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (seconds, text) in [
            (0, "0 s"),
            (45, "45 s"),
            (60, "1 min"),
            (605, "10 min 5 s"),
            (3_600, "1 h"),
            (3_905, "1 h 5 min"),
            (90_061, "1 d 1 h"),
        ] {
            assert_eq!(format_seconds(seconds), text);
        }
    }
}
