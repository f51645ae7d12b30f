//! Lengths of time, as people write and read them.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::{Error, Result};

/// A length of time as Go and Kubernetes write it: `90s`, `1h30m`, `1.5h`, `500ms` (Go,
/// `time.ParseDuration`). A whole number without a unit is a number of seconds, and `30d` are 30 days
/// of 24 hours, as Prometheus has them; Go accepts neither. Written without both, so that what is
/// passed on to programs in Go is read there. Never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GoDuration(pub Duration);

/// The units and their lengths in nanoseconds, the longest first.
const UNITS: [(&str, u128); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    // Both letters that look like it: U+00B5 (micro sign) and U+03BC (Greek mu).
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
];
/// The unit that is read and not written.
const DAY: (&str, u128) = ("d", 24 * UNITS[0].1);
/// The nanoseconds of a second.
const SECOND: u128 = 1_000_000_000;
/// The longest duration, as in Go: some 292 years.
const LONGEST: u128 = i64::MAX as u128;
/// More digits behind the point are below a nanosecond in every unit, and are ignored.
const MOST_FRACTION_DIGITS: usize = 18;
/// What to write instead of something that is not a duration.
const ADVICE: &str = "write a time such as 90s, 10m or 1h30m, or a number of seconds";

impl GoDuration {
    /// The duration, if it is in a range.
    ///
    /// # Errors
    /// It is shorter or longer; the error names both ends.
    pub fn require_within(self, range: &RangeInclusive<Duration>) -> Result<Duration> {
        if range.contains(&self.0) {
            return Ok(self.0);
        }
        let (shortest, longest) = (Self(*range.start()), Self(*range.end()));
        let reason = format!("write a time from {shortest} to {longest}, such as 90s or 1h30m");
        Err(Error::invalid_text("duration", &self.to_string(), reason))
    }
}

impl FromStr for GoDuration {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let nanoseconds = match text.parse::<u64>() {
            Ok(seconds) if !text.starts_with('+') => u128::from(seconds).checked_mul(SECOND),
            _ => sum_terms(text),
        };
        let nanoseconds = nanoseconds.filter(|nanoseconds| *nanoseconds <= LONGEST);
        nanoseconds
            .and_then(|all| {
                let seconds = u64::try_from(all / SECOND).ok()?;
                let rest = u32::try_from(all % SECOND).ok()?;
                Some(Self(Duration::new(seconds, rest)))
            })
            .ok_or_else(|| Error::invalid_text("duration", text, ADVICE))
    }
}

/// The nanoseconds of numbers with units, one after the other: `1h`, `30m` for `1h30m`. As in Go,
/// units may stand in any order and more than once.
fn sum_terms(text: &str) -> Option<u128> {
    let mut rest = text;
    let mut all: u128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(end);
        let end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let (_, factor) = UNITS.into_iter().chain([DAY]).find(|(name, _)| *name == unit)?;
        all = all.checked_add(scale_number(number, factor)?)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(all)
}

/// A decimal number (`1`, `1.5`, `.5`) times a factor, rounded down.
fn scale_number(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let is_digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    let kept = fraction.get(..fraction.len().min(MOST_FRACTION_DIGITS)).filter(|_| is_digits)?;
    let part: u128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    let scale = 10_u128.checked_pow(u32::try_from(kept.len()).ok()?)?;
    whole.checked_mul(factor)?.checked_add(part.checked_mul(factor)? / scale)
}

/// The parts that are not zero: `1h30m`, `500ms`. It parses to the same duration.
impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in UNITS {
            let count = rest / factor;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

crate::text::serde_as_text!(GoDuration);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<Duration> {
        text.parse::<GoDuration>().ok().map(|duration| duration.0)
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("90s", Duration::from_secs(90)),
            ("1h30m", Duration::from_mins(90)),
            ("30d", Duration::from_hours(30 * 24)),
            ("1d12h", Duration::from_hours(36)),
            ("1.5h", Duration::from_mins(90)),
            ("500ms", Duration::from_millis(500)),
            ("1m0.5s", Duration::from_millis(60_500)),
            (".5s", Duration::from_millis(500)),
            ("1.s", Duration::from_secs(1)),
            ("30s1h", Duration::from_secs(3630)),
            ("100us", Duration::from_micros(100)),
            ("100µs", Duration::from_micros(100)),
            ("7ns", Duration::from_nanos(7)),
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
            // Not Go's: a number of seconds.
            ("90", Duration::from_secs(90)),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_examples() {
        for text in [
            "",
            "s",
            "h1",
            "soon",
            "-1s",
            "+1s",
            "+1",
            "1 h",
            "1.5",
            "1..5s",
            "1.2.3s",
            ".s",
            "1h30",
            "PT90S",
            "1H",
            "9999999999h",
            "18446744073709551615",
        ] {
            let error = text.parse::<GoDuration>().unwrap_err().to_string();
            assert!(error.contains("such as 90s, 10m or 1h30m"), "{text}: {error}");
        }
    }

    #[test]
    fn a_range_names_its_ends() {
        let range = Duration::from_secs(1)..=Duration::from_hours(4);
        assert!(GoDuration(Duration::from_hours(4)).require_within(&range).is_ok());
        let error = GoDuration(Duration::from_hours(9)).require_within(&range).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"9h\" is not a valid duration: write a time from 1s to 4h, such as 90s or 1h30m"
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_the_same(nanoseconds in 0..=u64::MAX / 2) {
            let duration = GoDuration(Duration::from_nanos(nanoseconds));
            prop_assert_eq!(duration.to_string().parse::<GoDuration>().unwrap(), duration);
        }

        #[test]
        fn no_text_breaks_it(text in "[0-9hmsuµn. +-]{0,12}|.{0,40}") {
            if let Ok(duration) = text.parse::<GoDuration>() {
                prop_assert_eq!(duration.to_string().parse::<GoDuration>().unwrap(), duration);
            }
        }

        #[test]
        fn parts_add_up(hours in 0..500_u64, minutes in 0..500_u64, seconds in 0..5000_u64) {
            let expected = Duration::from_secs(hours * 3600 + minutes * 60 + seconds);
            prop_assert_eq!(parse(&format!("{hours}h{minutes}m{seconds}s")), Some(expected));
            prop_assert_eq!(parse(&expected.as_secs().to_string()), Some(expected));
        }
    }
}
