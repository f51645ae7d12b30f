//! Range requests (RFC 9110, 14): one range of bytes; several at once are answered whole, which
//! the RFC allows.

use std::ops::Range;

use http::{HeaderMap, header};

/// What of a body was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All of it.
    Whole,
    /// A part.
    Part(Range<u64>),
    /// A part that it does not have.
    Unsatisfiable,
}

/// Reads the `Range` header for a body of `size` bytes. An overrun is clamped (hf-hub asks for
/// `bytes=0-<size>`); what is no byte range is ignored.
pub(crate) fn asked(headers: &HeaderMap, size: u64) -> Asked {
    let Some(text) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Asked::Whole;
    };
    let Some(spec) = text.trim().strip_prefix("bytes=") else { return Asked::Whole };
    if spec.contains(',') {
        return Asked::Whole;
    }
    let Some((first, last)) = spec.split_once('-') else { return Asked::Whole };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            Some(0) => Asked::Unsatisfiable,
            Some(_) if size == 0 => Asked::Unsatisfiable,
            Some(length) => Asked::Part(size.saturating_sub(length)..size),
            None => Asked::Whole,
        },
        (first, last) => {
            let Some(first) = number(first) else { return Asked::Whole };
            let end = match last {
                "" => size,
                last => match number(last) {
                    Some(last) if last < first => return Asked::Whole,
                    Some(last) => last.saturating_add(1).min(size),
                    None => return Asked::Whole,
                },
            };
            if first >= size { Asked::Unsatisfiable } else { Asked::Part(first..end) }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_are_read_as_clients_write_them() {
        for (text, expected) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=5-", Asked::Part(5..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-30", Asked::Part(0..10)),
            ("bytes=0-10", Asked::Part(0..10)),
            ("bytes=0-99999", Asked::Part(0..10)),
            ("bytes=10-", Asked::Unsatisfiable),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=5-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("bytes=x-", Asked::Whole),
        ] {
            let headers = HeaderMap::from_iter([(header::RANGE, text.parse().unwrap())]);
            assert_eq!(asked(&headers, 10), expected, "{text}");
        }
        assert_eq!(asked(&HeaderMap::new(), 10), Asked::Whole);
    }
}
