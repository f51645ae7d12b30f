//! Markers: texts that are put into the values of a chart and found again in a render, so that one
//! render shows which values come out where. A marker is `zq`, a letter for its kind, the number of
//! the value, and `qz`: `zq7qz` is slot 7, `zqs0qz` is pull secret 0.
//!
//! Only lower-case letters and digits, so that a marker is valid in a host, in a repository, and in
//! a Kubernetes name, wherever a template puts it. Kinds have letters of their own so that the
//! marker of a pull secret is never read as a part of an image.

use std::fmt;

/// How every marker starts and ends.
const START: &str = "zq";
const END: &str = "qz";

/// A marker: the kind of value that it stands for, and the number of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ValueMarker {
    pub(crate) kind: MarkerKind,
    pub(crate) number: usize,
}

/// The kind of value that a marker stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MarkerKind {
    /// A value that is an image or a part of one; the marker is in front of its text.
    Slot,
    /// A pull secret.
    PullSecret,
    /// A pull policy.
    PullPolicy,
    /// A list of texts, to which the marker is added as an item.
    TextList,
    /// A value that takes variables, volumes or mounts; the marker is the name of a new entry.
    Entry,
}

impl MarkerKind {
    /// The letter of the kind; slots, of which an image may have several in a row, have none.
    fn letter(self) -> &'static str {
        match self {
            Self::Slot => "",
            Self::PullSecret => "s",
            Self::PullPolicy => "p",
            Self::TextList => "r",
            Self::Entry => "w",
        }
    }

    /// The marker of the value with this number.
    pub(crate) fn marker(self, number: usize) -> ValueMarker {
        ValueMarker { kind: self, number }
    }

    /// Whether a text may have markers of this kind, in lower or upper case. A cheap test that
    /// saves a search; it may be wrong in one direction only.
    pub(crate) fn may_be_in(self, text: &str) -> bool {
        let start = format!("{START}{}", self.letter());
        text.contains(&start) || text.contains(&start.to_ascii_uppercase())
    }

    /// The numbers of the markers of this kind in a text, in its order.
    pub(crate) fn find_numbers(self, text: &str) -> impl Iterator<Item = usize> {
        MarkerSearch::new(text)
            .filter(move |found| found.marker.kind == self)
            .map(|found| found.marker.number)
    }
}

impl fmt::Display for ValueMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{START}{}{}{END}", self.kind.letter(), self.number)
    }
}

/// Whether a text may have a marker of any kind, or what a template left of one.
pub(crate) fn may_be_marked(text: &str) -> bool {
    text.contains(START) && text.contains(END)
}

/// A text without the markers of its slots, and for each of them the number of the slot and its
/// offset in the cleaned text.
pub(crate) fn extract_slot_markers(text: &str) -> (String, Vec<(usize, usize)>) {
    let mut clean = String::new();
    let mut slots = Vec::new();
    let mut end = 0;
    for found in MarkerSearch::new(text).filter(|found| found.marker.kind == MarkerKind::Slot) {
        // The marker is cut out; its offset is where the value's own text starts.
        clean.push_str(&text[end..found.start]);
        slots.push((found.marker.number, clean.len()));
        end = found.end;
    }
    clean.push_str(&text[end..]);
    (clean, slots)
}

/// A marker in a text, with the bytes that it takes there.
struct FoundMarker {
    marker: ValueMarker,
    start: usize,
    end: usize,
}

/// The search for the markers in a text, from its start.
struct MarkerSearch<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> MarkerSearch<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }
}

impl Iterator for MarkerSearch<'_> {
    type Item = FoundMarker;

    fn next(&mut self) -> Option<FoundMarker> {
        const KINDS: [MarkerKind; 5] = [
            MarkerKind::PullSecret,
            MarkerKind::PullPolicy,
            MarkerKind::TextList,
            MarkerKind::Entry,
            // Last, since its letter is the start of all others.
            MarkerKind::Slot,
        ];
        loop {
            let start = self.at + self.text.get(self.at..)?.find(START)?;
            let behind = &self.text[start + START.len()..];
            self.at = start + START.len();
            let Some((kind, rest)) =
                KINDS.iter().find_map(|kind| Some((*kind, behind.strip_prefix(kind.letter())?)))
            else {
                continue;
            };
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            // Where it is no marker, the next one may start within these bytes.
            if let Ok(number) = rest[..digits].parse()
                && rest[digits..].starts_with(END)
            {
                self.at += kind.letter().len() + digits + END.len();
                return Some(FoundMarker { marker: kind.marker(number), start, end: self.at });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_taken_out_and_their_places_are_kept() {
        let (clean, found) = extract_slot_markers("zq3qzdocker.io/zq12qzorg/zqapp:1");
        assert_eq!(clean, "docker.io/org/zqapp:1");
        assert_eq!(found, [(3, 0), (12, 10)]);
    }

    #[test]
    fn a_marker_is_found_by_its_kind_and_among_others() {
        let text = "a zqw12qz zqzqs3qz zqwx zqp1qzzq4qz zqqz";
        assert_eq!(MarkerKind::Entry.find_numbers(text).collect::<Vec<_>>(), [12]);
        assert_eq!(MarkerKind::PullSecret.find_numbers(text).collect::<Vec<_>>(), [3]);
        assert_eq!(MarkerKind::PullPolicy.find_numbers(text).collect::<Vec<_>>(), [1]);
        assert_eq!(MarkerKind::Slot.find_numbers(text).collect::<Vec<_>>(), [4]);
        let own = MarkerKind::TextList.marker(0);
        assert_eq!(MarkerKind::TextList.find_numbers(&own.to_string()).collect::<Vec<_>>(), [0]);
    }
}
