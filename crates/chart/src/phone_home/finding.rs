//! One thing that connects to the internet, and how it is told to people.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::find::ManifestLocation;
use crate::path::DocumentPath;

/// One thing that connects to the internet, or that may do so.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum PhoneHomeFinding {
    /// A value of the chart that enables it.
    Value {
        /// The path of the value.
        path: DocumentPath,
        /// The setting that turns it off; absent where a person has to choose one.
        #[serde(skip_serializing_if = "Option::is_none")]
        off: Option<Value>,
        /// Whether it can be turned off without losing a function: `relocate --offline` does so.
        safe: bool,
        /// What the chart does while it is on.
        why: String,
    },
    /// Containers of an image lack an environment variable that would prevent it.
    Environment {
        /// The variable's name.
        name: String,
        /// The value of the variable that prevents it.
        off: String,
        /// The image's name without the tag.
        image: String,
        /// The containers that lack it.
        #[serde(rename = "locations")]
        places: Vec<ManifestLocation>,
        /// What the program does without the variable.
        why: String,
    },
    /// Addresses of one host outside the site, in one document.
    Address {
        /// The host name.
        host: String,
        /// The URLs.
        urls: Vec<String>,
        /// The location of the first one.
        #[serde(rename = "location")]
        place: ManifestLocation,
        /// The values that contain the host, if the chart's values are known.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        values: Vec<DocumentPath>,
        /// What the host is for, if a rule knows it.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
}

impl fmt::Display for PhoneHomeFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { path, off: Some(off), why, .. } => {
                write!(f, "{path}: {why}; set it to {off} to turn this off")
            }
            Self::Value { path, off: None, why, .. } => write!(f, "{path}: {why}"),
            Self::Environment { name, off, image, places, why } => {
                write!(f, "{image}: {why}; to prevent it, set {name}={off} in ")?;
                write_first_of(f, places)
            }
            Self::Address { urls, place, values, why, .. } => {
                write!(f, "{place}: ")?;
                write_first_of(f, urls)?;
                if let Some(why) = why {
                    write!(f, ": {why}")?;
                }
                if !values.is_empty() {
                    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                    write!(f, "; set by {}", values.join(", "))?;
                }
                Ok(())
            }
        }
    }
}

/// Writes the first item and the number of the others: `a and 3 more`.
fn write_first_of<T: fmt::Display>(f: &mut fmt::Formatter<'_>, all: &[T]) -> fmt::Result {
    match all {
        [] => Ok(()),
        [one] => write!(f, "{one}"),
        [first, rest @ ..] => write!(f, "{first} and {} more", rest.len()),
    }
}
