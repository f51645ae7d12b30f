//! Parsers of option values for clap, with messages that say what to write.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use types::{Error, GoDuration};

/// The longest time that an option takes: more is a typing error.
pub(crate) const WEEK: Duration = Duration::from_hours(7 * 24);

/// The shortest time that makes sense as a limit: in zero seconds nothing could be ready.
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// The longest pause between two runs of `check --watch`.
pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// The longest delay of a shutdown: clusters kill a pod after half a minute unless told otherwise.
pub(crate) const MINUTE: Duration = Duration::from_mins(1);

/// A parser of durations in a range: `90s`, `1h30m`, or a number of seconds.
pub(crate) fn duration_within(
    range: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let parsed = text.parse().and_then(|time: GoDuration| time.require_within(&range));
        parsed.map_err(|error| match error {
            // clap names the option and the text already.
            Error::Invalid { reason, .. } => reason.to_string(),
            other => other.to_string(),
        })
    }
}

/// A parser of the path of a report, whose form follows from its ending.
pub(crate) fn parse_report_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "json") => Ok(path),
        _ => Err("write FILE.html or FILE.json, such as review.html".into()),
    }
}

/// A parser of whole numbers in a range.
pub(crate) fn number_within(
    range: RangeInclusive<u16>,
) -> impl Fn(&str) -> Result<u16, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let (least, most) = (range.start(), range.end());
        number.ok_or_else(|| format!("write a whole number from {least} to {most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_to_write() {
        let concurrency = number_within(1..=64);
        assert_eq!(concurrency("64"), Ok(64));
        for text in ["x", "0", "65", "-1", "1.5", "70000", ""] {
            assert_eq!(concurrency(text), Err("write a whole number from 1 to 64".to_owned()));
        }
        let timeout = duration_within(SECOND..=WEEK);
        assert_eq!(timeout("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(timeout("90"), Ok(Duration::from_secs(90)));
        for (text, expected) in [
            ("soon", "write a time such as 90s, 10m or 1h30m, or a number of seconds"),
            ("0s", "write a time from 1s to 168h, such as 90s or 1h30m"),
            ("169h", "write a time from 1s to 168h, such as 90s or 1h30m"),
        ] {
            assert_eq!(timeout(text), Err(expected.to_owned()), "{text}");
        }
    }
}
