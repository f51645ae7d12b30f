//! Which part of a body a client requests: range requests (RFC 9110, section 14) and conditional
//! ones (section 13). A request for several ranges is answered with the whole body, which the RFC
//! allows.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, header};

/// The requested part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestedRange {
    /// All of it.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// A range that is outside of the body.
    Unsatisfiable,
}

/// Reads the `Range` header for a body of `size` bytes with the entity tag `etag`. A range that
/// ends after the body is cut to it (hf-hub requests `bytes=0-<size>`). A header that is not a byte
/// range is ignored, and so is a range of content that has changed since (`If-Range`).
pub(crate) fn parse_range(
    headers: &HeaderMap,
    size: u64,
    etag: Option<&HeaderValue>,
) -> RequestedRange {
    if headers.get(header::IF_RANGE).is_some_and(|known| Some(known) != etag) {
        return RequestedRange::Whole;
    }
    let Some(text) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return RequestedRange::Whole;
    };
    let Some(spec) = text.trim().strip_prefix("bytes=") else { return RequestedRange::Whole };
    if spec.contains(',') {
        return RequestedRange::Whole;
    }
    let Some((first, last)) = spec.split_once('-') else { return RequestedRange::Whole };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            // `bytes=-5` is the last five bytes; the last zero bytes cannot be sent (RFC 9110,
            // 14.1.2).
            Some(0) => RequestedRange::Unsatisfiable,
            Some(_) if size == 0 => RequestedRange::Unsatisfiable,
            Some(length) => RequestedRange::Part(size.saturating_sub(length)..size),
            None => RequestedRange::Whole,
        },
        (first, last) => {
            let Some(first) = number(first) else { return RequestedRange::Whole };
            let end = match last {
                "" => size,
                last => match number(last) {
                    Some(last) if last < first => return RequestedRange::Whole,
                    Some(last) => last.saturating_add(1).min(size),
                    None => return RequestedRange::Whole,
                },
            };
            if first >= size {
                RequestedRange::Unsatisfiable
            } else {
                RequestedRange::Part(first..end)
            }
        }
    }
}

/// Whether the client has the content with this entity tag already (`If-None-Match`).
pub(crate) fn is_unchanged(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let bare = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    let (Some(known), Ok(etag)) =
        (headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()), etag.to_str())
    else {
        return false;
    };
    known.split(',').map(bare).any(|one| one == "*" || one == bare(etag))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_are_read_as_clients_write_them() {
        for (text, expected) in [
            ("bytes=0-0", RequestedRange::Part(0..1)),
            ("bytes=5-", RequestedRange::Part(5..10)),
            ("bytes=-3", RequestedRange::Part(7..10)),
            ("bytes=-30", RequestedRange::Part(0..10)),
            ("bytes=0-10", RequestedRange::Part(0..10)),
            ("bytes=0-99999", RequestedRange::Part(0..10)),
            ("bytes=10-", RequestedRange::Unsatisfiable),
            ("bytes=-0", RequestedRange::Unsatisfiable),
            ("bytes=5-2", RequestedRange::Whole),
            ("bytes=0-1,3-4", RequestedRange::Whole),
            ("lines=0-1", RequestedRange::Whole),
            ("bytes=x-", RequestedRange::Whole),
        ] {
            let headers = HeaderMap::from_iter([(header::RANGE, text.parse().unwrap())]);
            assert_eq!(parse_range(&headers, 10, None), expected, "{text}");
        }
        assert_eq!(parse_range(&HeaderMap::new(), 10, None), RequestedRange::Whole);
    }

    #[test]
    fn a_range_of_content_that_changed_is_answered_whole() {
        let (old, new) = (HeaderValue::from_static("\"a\""), HeaderValue::from_static("\"b\""));
        let range = HeaderValue::from_static("bytes=5-");
        let headers =
            HeaderMap::from_iter([(header::RANGE, range), (header::IF_RANGE, old.clone())]);
        assert_eq!(parse_range(&headers, 10, Some(&old)), RequestedRange::Part(5..10));
        assert_eq!(parse_range(&headers, 10, Some(&new)), RequestedRange::Whole);
    }

    #[test]
    fn a_client_that_knows_the_content_is_recognised() {
        let etag = HeaderValue::from_static("\"a\"");
        for (text, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
        ] {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, text.parse().unwrap())]);
            assert_eq!(is_unchanged(&headers, &etag), expected, "{text}");
        }
        assert!(!is_unchanged(&HeaderMap::new(), &etag));
    }
}
