//! Finds the byte range of a scalar, list or map in the source text of YAML, JSON, TOML or INI, so
//! that it can be edited there while everything around it stays as it is written.

use std::ops::Range;

use super::ini;
use super::position::{CollectionPosition, SourceScalar};
use super::toml::TomlTree;
use super::yaml::YamlTree;
use crate::path::{PathStep, TextEncoding};

/// A parsed document that knows the positions of its parts.
pub(super) enum SourceDocument<'a> {
    /// YAML, and JSON, which is a subset of it.
    Yaml(YamlTree),
    /// TOML.
    Toml(TomlTree<'a>),
    /// INI or lines of `key=value`, searched line by line on demand.
    Ini(&'a str),
}

impl<'a> SourceDocument<'a> {
    /// Parses one document. `None` if it is not valid in this format.
    pub(super) fn open(encoding: TextEncoding, text: &'a str) -> Option<Self> {
        match encoding {
            TextEncoding::Yaml | TextEncoding::Json => YamlTree::read(text).map(Self::Yaml),
            TextEncoding::Toml => TomlTree::read(text).map(Self::Toml),
            TextEncoding::Ini => Some(Self::Ini(text)),
            TextEncoding::Base64 | TextEncoding::Text => None,
        }
    }

    /// Where the list or map at a path starts; `None` if it is empty. `text` is the document. Only
    /// for YAML.
    pub(super) fn find_collection(
        &self,
        text: &str,
        steps: &[PathStep],
    ) -> Option<CollectionPosition> {
        match self {
            Self::Yaml(tree) => tree.find_collection(text, steps),
            Self::Toml(_) | Self::Ini(_) => None,
        }
    }

    /// The byte range of a scalar, or of an empty list or map, that can be replaced as a whole.
    /// Only for YAML.
    pub(super) fn find_replaceable(&self, steps: &[PathStep]) -> Option<Range<usize>> {
        match self {
            Self::Yaml(tree) => tree.find_replaceable(steps),
            Self::Toml(_) | Self::Ini(_) => None,
        }
    }

    /// The scalar at a path of keys and indexes.
    pub(super) fn find_scalar(&self, steps: &[PathStep]) -> Option<SourceScalar> {
        match self {
            Self::Yaml(tree) => tree.find_scalar(steps),
            Self::Toml(tree) => tree.find_scalar(steps),
            Self::Ini(text) => ini::find_scalar(text, steps),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::path::DocumentPath;

    fn slice_scalar<'a>(
        encoding: TextEncoding,
        text: &'a str,
        path: &DocumentPath,
    ) -> Option<&'a str> {
        Some(&text[SourceDocument::open(encoding, text)?.find_scalar(path.steps())?.range])
    }

    #[test]
    fn a_scalar_is_found_where_it_is_written() {
        let root = DocumentPath::default();
        let yaml = "# é\na: &x {i: 'one', l: [1, \"t\\x77o\"]}\nb:\n  <<: *x\n  l: *y\nc: |\n  text\nd: 1\n";
        let yaml = yaml.replace("'one'", "&y 'one'");
        for (path, expected) in [
            (root.key("a").key("i"), Some("'one'")),
            (root.key("a").key("l").index(1), Some("\"t\\x77o\"")),
            (root.key("b").key("i"), Some("'one'")),
            (root.key("b").key("l"), Some("*y")),
            (root.key("c"), Some("text\n")),
            (root.key("a"), None),
            (root.key("z"), None),
        ] {
            assert_eq!(slice_scalar(TextEncoding::Yaml, &yaml, &path), expected, "{path}");
        }
        let toml = "x = 1\n[a.b]\nimage = \"one\"\nl = ['two']\n";
        assert_eq!(
            slice_scalar(TextEncoding::Toml, toml, &root.key("a").key("b").key("image")),
            Some("\"one\"")
        );
        let two = root.key("a").key("b").key("l").index(0);
        assert_eq!(slice_scalar(TextEncoding::Toml, toml, &two), Some("'two'"));
        let ini = "[a]\nimage = x\n[b]\n# image = y\n image =\"z\"\n";
        assert_eq!(slice_scalar(TextEncoding::Ini, ini, &root.key("b").key("image")), Some("z"));
        assert_eq!(slice_scalar(TextEncoding::Ini, "A=1\nB='x y'\n", &root.key("B")), Some("x y"));
    }

    #[test]
    fn merges_that_lead_round_in_a_circle_end() {
        let text = "x: &x\n  <<: *x\n  a: 1\n";
        assert_eq!(
            slice_scalar(TextEncoding::Yaml, text, &DocumentPath::default().key("x").key("b")),
            None
        );
    }
}
