//! The one place that knows the YAML library (serde-saphyr): documents that people write are read
//! strictly, with the place of every mistake; documents that Gantry writes are byte-stable.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Reads one YAML document. `name` is what an error calls it, usually the path. Unknown keys,
/// duplicate keys and wrong types are errors with line, column and the nearest known key.
pub fn read<T: DeserializeOwned>(name: &str, text: &str) -> Result<T> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let (line, column) = error.location().map_or((0, 0), |l| (l.line(), l.column()));
        Error::Document { document: name.to_owned(), line, column, message: message(error) }
    })
}

fn message(error: &serde_saphyr::Error) -> String {
    match error {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
            unknown("key", field, expected)
        }
        serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => {
            unknown("value", variant, expected)
        }
        serde_saphyr::Error::SerdeMissingField { field, .. } => {
            format!("the key {field:?} is missing")
        }
        other => {
            // The library appends its own place to the message; ours stands in front of it.
            let text = other.to_string();
            match text.rsplit_once(" at line ") {
                Some((text, _)) => text.to_owned(),
                None => text,
            }
        }
    }
}

fn unknown(what: &str, found: &str, known: &[&'static str]) -> String {
    const NEAR: f64 = 0.7;
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(found, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, candidate)) => format!("unknown {what} {found:?}; did you mean {candidate:?}?"),
        None => format!("unknown {what} {found:?}; known are {}", known.join(", ")),
    }
}

/// Writes a document: two spaces, keys in the order of the type, nothing that depends on the time
/// or the machine.
pub fn write<T: Serialize>(value: &T) -> Result<String> {
    let options =
        serde_saphyr::ser_options! { compact_list_indent: true, prefer_block_scalars: false };
    print(value, options)
}

/// Writes a Kubernetes manifest: as [`write()`], with a text of several lines (a program in CEL or
/// Rego) as a block that a person can read.
pub fn write_manifest<T: Serialize>(value: &T) -> Result<String> {
    // A text of one line stays on one line, however long it is.
    let options = serde_saphyr::ser_options! {
        compact_list_indent: true,
        prefer_block_scalars: true,
        folded_wrap_chars: usize::MAX,
    };
    print(value, options)
}

fn print<T: Serialize>(value: &T, options: serde_saphyr::SerializerOptions) -> Result<String> {
    serde_saphyr::to_string_with_options(value, options).map_err(|error| Error::Document {
        document: "a document to write".into(),
        line: 0,
        column: 0,
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only read")]
        platforms: Vec<String>,
    }

    #[test]
    fn a_mistyped_key_names_its_place_and_the_nearest_known_one() {
        let error = read::<Sample>("gantry.yaml", "\nplatfroms: []\n").unwrap_err().to_string();
        assert_eq!(
            error,
            "gantry.yaml:2:1: unknown key \"platfroms\"; did you mean \"platforms\"?"
        );
    }

    #[test]
    fn a_duplicate_key_and_a_wrong_type_are_refused_with_their_place() {
        let twice = read::<Sample>("f", "platforms: []\nplatforms: []\n").unwrap_err().to_string();
        assert!(twice.starts_with("f:2:1:") && twice.contains("uplicate"), "{twice}");
        let wrong = read::<Sample>("f", "platforms: {a: 1}\n").unwrap_err().to_string();
        assert!(wrong.starts_with("f:1:"), "{wrong}");
    }
}
