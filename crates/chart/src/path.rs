//! Paths in a document: keys, list indexes, and the encodings that have to be decoded on the way to
//! a text (base64 in a Secret, JSON in a ConfigMap). The finders name locations by them, and the
//! editors and proofs follow them back to the text.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// The deepest nesting that walks over documents and values follow. Real ones stay below 20 levels;
/// the limit keeps a crafted file from exhausting the stack.
pub(crate) const DEEPEST_NESTING: usize = 64;

/// The path of a value in a document, from the root. Printed as
/// `data["values.yaml"]|base64|YAML|image`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DocumentPath(Vec<PathStep>);

/// One step of a [`DocumentPath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathStep {
    /// The value of a key.
    Key(String),
    /// An item of a list, from 0.
    Index(usize),
    /// The decoded content of a text.
    Inside(TextEncoding),
}

/// The format in which a text holds another document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TextEncoding {
    /// Base64, as in the `data` of a Secret.
    Base64,
    /// JSON.
    Json,
    /// YAML, one or more documents.
    Yaml,
    /// TOML.
    Toml,
    /// Sections with `key = value` lines.
    Ini,
    /// Plain text, read word by word.
    Text,
}

impl TextEncoding {
    /// The format's usual name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Json => "JSON",
            Self::Yaml => "YAML",
            Self::Toml => "TOML",
            Self::Ini => "INI",
            Self::Text => "text",
        }
    }
}

impl DocumentPath {
    /// The path one key deeper.
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.then(PathStep::Key(key.into()))
    }

    /// The path one list item deeper.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.then(PathStep::Index(index))
    }

    /// The path into the content of the text at this path.
    #[must_use]
    pub fn inside(&self, encoding: TextEncoding) -> Self {
        self.then(PathStep::Inside(encoding))
    }

    /// The path one step deeper.
    #[must_use]
    pub fn then(&self, step: PathStep) -> Self {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        Self(steps)
    }

    /// The path with the steps of `below` after its own.
    #[must_use]
    pub fn join(&self, below: &Self) -> Self {
        Self([self.0.as_slice(), below.0.as_slice()].concat())
    }

    /// The path of `keys` (`image.tag`, as templates and rules write them) below this one.
    #[must_use]
    pub fn keys(&self, keys: &str) -> Self {
        let mut steps = self.0.clone();
        steps.extend(keys.split('.').map(|key| PathStep::Key(key.to_owned())));
        Self(steps)
    }

    /// The steps from the root.
    pub fn steps(&self) -> &[PathStep] {
        &self.0
    }

    /// The last key on the path; list indexes after it are skipped.
    pub fn last_key(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| match step {
            PathStep::Key(key) => Some(key.as_str()),
            _ => None,
        })
    }

    /// The path without its last step; the root stays the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// Whether `self` is `other` or an ancestor of it.
    pub fn is_above(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// The part of the path in the document itself, up to the first text that has to be decoded.
    #[must_use]
    pub fn outer(&self) -> Self {
        let end = self.0.iter().position(|step| matches!(step, PathStep::Inside(_)));
        Self(self.0[..end.unwrap_or(self.0.len())].to_vec())
    }

    /// Whether the text at [`DocumentPath::outer`] has to be decoded from base64 first.
    pub fn is_base64(&self) -> bool {
        self.0.contains(&PathStep::Inside(TextEncoding::Base64))
    }

    /// The value at this path. `None` if it is missing or inside an encoded text; those are read by
    /// `edit::embedded`.
    pub fn find_value<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(root, |value, step| match step {
            PathStep::Key(key) => value.get(key),
            PathStep::Index(index) => value.get(index),
            PathStep::Inside(_) => None,
        })
    }

    /// The value at this path, to be changed; `None` as in [`DocumentPath::find_value`].
    pub fn find_value_mut<'a>(&self, root: &'a mut Value) -> Option<&'a mut Value> {
        self.0.iter().try_fold(root, |value, step| match step {
            PathStep::Key(key) => value.get_mut(key),
            PathStep::Index(index) => value.get_mut(index),
            PathStep::Inside(_) => None,
        })
    }

    /// Whether the text at this path of a Secret is base64: an entry of `data` (Kubernetes API,
    /// Secret v1). The entries of `stringData` are not.
    pub(crate) fn is_secret_data(&self) -> bool {
        matches!(self.0.as_slice(), [PathStep::Key(data), PathStep::Key(_)] if data == "data")
    }
}

impl FromIterator<PathStep> for DocumentPath {
    fn from_iter<I: IntoIterator<Item = PathStep>>(steps: I) -> Self {
        Self(steps.into_iter().collect())
    }
}

/// `spec.containers[0].image`, `data["values.yaml"]|base64|YAML|image`.
impl fmt::Display for DocumentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut needs_dot = false;
        // Two encodings in a row share a bar: `|base64|YAML|`, not `|base64||YAML|`.
        let mut is_opened = false;
        for step in &self.0 {
            let was_opened = std::mem::replace(&mut is_opened, matches!(step, PathStep::Inside(_)));
            match step {
                PathStep::Key(key) if is_plain_key(key) => {
                    if needs_dot {
                        f.write_str(".")?;
                    }
                    f.write_str(key)?;
                    needs_dot = true;
                }
                PathStep::Key(key) => {
                    write!(f, "[{key:?}]")?;
                    needs_dot = true;
                }
                PathStep::Index(index) => {
                    write!(f, "[{index}]")?;
                    needs_dot = true;
                }
                PathStep::Inside(encoding) => {
                    write!(f, "{}{}|", if was_opened { "" } else { "|" }, encoding.as_str())?;
                    needs_dot = false;
                }
            }
        }
        Ok(())
    }
}

fn is_plain_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-/".contains(&b))
}

impl schemars::JsonSchema for DocumentPath {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DocumentPath".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

impl Serialize for DocumentPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_people_write_it() {
        let path = DocumentPath::default().key("data").key("values.yaml");
        let path = path
            .inside(TextEncoding::Base64)
            .inside(TextEncoding::Yaml)
            .key("hub")
            .key("images")
            .index(2);
        assert_eq!(path.to_string(), "data[\"values.yaml\"]|base64|YAML|hub.images[2]");
        assert_eq!(path.outer().to_string(), "data[\"values.yaml\"]");
        assert_eq!(path.last_key(), Some("images"));
    }
}
