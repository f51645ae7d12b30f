//! TOML: parsed to values, and with the positions of its strings.

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::position::{ScalarNotation, SourceScalar};
use crate::path::PathStep;

/// Parses a document; `None` if it is not TOML.
pub(super) fn parse_toml(text: &str) -> Option<Value> {
    toml::from_str(text).ok()
}

/// A parsed document that knows the positions of its parts.
pub(super) struct TomlTree<'a>(Box<DeTable<'a>>);

impl<'a> TomlTree<'a> {
    /// Parses a document; `None` if it is not TOML.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        Some(Self(Box::new(DeTable::parse(text).ok()?.into_inner())))
    }

    /// The string at a path; other types hold no image.
    pub(super) fn find_scalar(&self, steps: &[PathStep]) -> Option<SourceScalar> {
        let [PathStep::Key(key), rest @ ..] = steps else { return None };
        let mut value = self.0.get(key.as_str())?;
        for step in rest {
            value = match (value.get_ref(), step) {
                (DeValue::Table(table), PathStep::Key(key)) => table.get(key.as_str())?,
                (DeValue::Array(items), PathStep::Index(index)) => items.get(*index)?,
                _ => return None,
            };
        }
        match value.get_ref() {
            DeValue::String(text) => Some(SourceScalar {
                range: value.span(),
                value: text.clone().into_owned(),
                style: ScalarNotation::Quoted,
            }),
            _ => None,
        }
    }
}
