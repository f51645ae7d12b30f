//! Finds the byte range of a scalar, list or map in the source text of YAML, JSON, TOML or INI, so
//! that it can be edited there while everything around it stays as it is written.

use std::collections::HashMap;
use std::ops::Range;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};
use toml::de::{DeTable, DeValue};

use crate::path::{PathStep, TextEncoding};

/// A scalar and the range of the source text in which it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceScalar {
    /// The byte range in the source: with quotes, but without the `|` line of a block.
    pub(super) range: Range<usize>,
    /// Its value, with escapes and folding resolved.
    pub(super) value: String,
    /// How it is written.
    pub(super) style: ScalarNotation,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarNotation {
    /// Without quotes.
    Plain,
    /// In quotes.
    Quoted,
    /// As an indented block below `|` or `>`.
    Block,
    /// As a reference to another scalar: `*anchor`.
    Alias,
}

/// Where a list or map starts in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CollectionPosition {
    /// Flow style: the byte position of its opening bracket or brace.
    Flow { start: usize },
    /// Block style: the byte positions where it and the first thing in it start.
    Block { start: usize, first: usize },
}

/// A parsed document that knows the positions of its parts.
pub(super) enum SourceDocument<'a> {
    /// YAML, and JSON, which is a subset of it.
    Yaml(YamlTree),
    /// TOML.
    Toml(Box<DeTable<'a>>),
    /// INI or lines of `key=value`, searched line by line on demand.
    Ini(&'a str),
}

impl<'a> SourceDocument<'a> {
    /// Parses one document. `None` if it is not valid in this format.
    pub(super) fn open(encoding: TextEncoding, text: &'a str) -> Option<Self> {
        match encoding {
            TextEncoding::Yaml | TextEncoding::Json => YamlTree::read(text).map(Self::Yaml),
            TextEncoding::Toml => {
                let table = DeTable::parse(text).ok()?;
                Some(Self::Toml(Box::new(table.into_inner())))
            }
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
            Self::Toml(table) => find_toml_scalar(table, steps),
            Self::Ini(text) => find_ini_scalar(text, steps),
        }
    }
}

/// The nodes of one YAML document, in the order of the source; the root is number 0.
pub(super) struct YamlTree {
    nodes: Vec<YamlNode>,
    /// The byte range of each node.
    spans: Vec<Range<usize>>,
}

/// A node of YAML. Others are referred to by their number.
enum YamlNode {
    Scalar(SourceScalar),
    /// The nodes of its keys and values, alternating.
    Map(Vec<usize>),
    /// The nodes of its items.
    List(Vec<usize>),
    /// Its byte range, and the node that it refers to.
    Alias(Range<usize>, usize),
}

/// The most merge keys (`<<`) that are followed in a row. A map can merge itself by an alias, so a
/// limit is needed; people nest them once or twice.
const MERGES: usize = 16;

impl YamlTree {
    /// Builds the nodes from the parser's events. `None` if the text is not valid YAML or is empty.
    fn read(text: &str) -> Option<Self> {
        let mut nodes: Vec<YamlNode> = Vec::new();
        let mut spans: Vec<Range<usize>> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        let mut anchors: HashMap<usize, usize> = HashMap::new();
        for next in Parser::new_from_str(text) {
            let (event, span) = next.ok()?;
            let number = nodes.len();
            let (node, anchor) = match event {
                Event::Scalar(value, style, anchor, _) => {
                    let style = match style {
                        ScalarStyle::Plain => ScalarNotation::Plain,
                        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
                            ScalarNotation::Quoted
                        }
                        ScalarStyle::Literal | ScalarStyle::Folded => ScalarNotation::Block,
                    };
                    let (range, value) = (span.byte_range()?, value.into_owned());
                    (YamlNode::Scalar(SourceScalar { range, value, style }), anchor)
                }
                Event::MappingStart(_, anchor, _) => (YamlNode::Map(vec![]), anchor),
                Event::SequenceStart(_, anchor, _) => (YamlNode::List(vec![]), anchor),
                Event::Alias(anchor) => {
                    (YamlNode::Alias(span.byte_range()?, *anchors.get(&anchor)?), 0)
                }
                // The event that starts a collection spans only its first character.
                Event::MappingEnd | Event::SequenceEnd => {
                    let end = span.byte_range()?.end;
                    if let Some(closed) = open.pop().and_then(|node| spans.get_mut(node)) {
                        closed.end = end;
                    }
                    continue;
                }
                // Streams are split into documents before.
                Event::DocumentEnd => break,
                _ => continue,
            };
            let is_open = matches!(node, YamlNode::Map(_) | YamlNode::List(_));
            if let Some(YamlNode::Map(children) | YamlNode::List(children)) =
                open.last().and_then(|parent| nodes.get_mut(*parent))
            {
                children.push(number);
            }
            nodes.push(node);
            spans.push(span.byte_range()?);
            // The parser numbers anchors from 1; 0 means none.
            if anchor != 0 {
                anchors.insert(anchor, number);
            }
            if is_open {
                open.push(number);
            }
        }
        (!nodes.is_empty()).then_some(Self { nodes, spans })
    }

    fn find_scalar(&self, steps: &[PathStep]) -> Option<SourceScalar> {
        let node = steps.iter().try_fold(0, |node, step| self.find_child(node, step, 0))?;
        match self.nodes.get(node)? {
            YamlNode::Scalar(scalar) => Some(scalar.clone()),
            // The range of the alias, not of the anchor: an edit must not change other uses of it.
            YamlNode::Alias(range, target) => match self.nodes.get(*target)? {
                YamlNode::Scalar(scalar) => Some(SourceScalar {
                    range: range.clone(),
                    style: ScalarNotation::Alias,
                    ..scalar.clone()
                }),
                _ => None,
            },
            YamlNode::Map(_) | YamlNode::List(_) => None,
        }
    }

    /// The node at a path without following aliases or merge keys, so that an edit there changes
    /// nothing elsewhere. The last of duplicate keys counts, as for the API server.
    fn find_own_node(&self, steps: &[PathStep]) -> Option<usize> {
        steps.iter().try_fold(0, |node, step| match (self.nodes.get(node)?, step) {
            (YamlNode::List(items), PathStep::Index(index)) => items.get(*index).copied(),
            (YamlNode::Map(entries), PathStep::Key(key)) => {
                let (entries, _) = entries.as_chunks::<2>();
                Some(entries.iter().rev().find(|[own, _]| self.is_key(*own, key))?[1])
            }
            _ => None,
        })
    }

    fn find_collection(&self, text: &str, steps: &[PathStep]) -> Option<CollectionPosition> {
        let node = self.find_own_node(steps)?;
        let (opener, children) = match self.nodes.get(node)? {
            YamlNode::Map(children) => (b'{', children),
            YamlNode::List(children) => (b'[', children),
            YamlNode::Scalar(_) | YamlNode::Alias(..) => return None,
        };
        let start = self.spans.get(node)?.start;
        let first = self.spans.get(*children.first()?)?.start;
        // The parser lets a block list start where its first item does. If that item is `[x]`, the
        // byte there is a bracket as well; only in flow style is it before the first item.
        let is_flow = start < first && text.as_bytes().get(start) == Some(&opener);
        Some(if is_flow {
            CollectionPosition::Flow { start }
        } else {
            CollectionPosition::Block { start, first }
        })
    }

    fn find_replaceable(&self, steps: &[PathStep]) -> Option<Range<usize>> {
        let node = self.find_own_node(steps)?;
        match self.nodes.get(node)? {
            YamlNode::Scalar(scalar) => Some(scalar.range.clone()),
            YamlNode::Map(children) | YamlNode::List(children) if children.is_empty() => {
                self.spans.get(node).cloned()
            }
            _ => None,
        }
    }

    /// The child of a node, following aliases and merge keys.
    fn find_child(&self, node: usize, step: &PathStep, merges: usize) -> Option<usize> {
        match (self.nodes.get(node)?, step) {
            (YamlNode::Alias(_, target), step) => self.find_child(*target, step, merges),
            (YamlNode::List(items), PathStep::Index(index)) => items.get(*index).copied(),
            (YamlNode::Map(entries), PathStep::Key(key)) => {
                let value_of = |wanted: &str| {
                    let (entries, _) = entries.as_chunks::<2>();
                    let own = entries.iter().rev().find(|[key, _]| self.is_key(*key, wanted))?;
                    Some(own[1])
                };
                value_of(key).or_else(|| {
                    let merged = value_of("<<").filter(|_| merges < MERGES)?;
                    match self.nodes.get(merged)? {
                        YamlNode::List(all) => {
                            all.iter().find_map(|one| self.find_child(*one, step, merges + 1))
                        }
                        _ => self.find_child(merged, step, merges + 1),
                    }
                })
            }
            _ => None,
        }
    }

    /// Whether a node is this key, also by an alias.
    fn is_key(&self, node: usize, key: &str) -> bool {
        match self.nodes.get(node) {
            Some(YamlNode::Scalar(scalar)) => scalar.value == key,
            Some(YamlNode::Alias(_, target)) => {
                matches!(self.nodes.get(*target), Some(YamlNode::Scalar(scalar)) if scalar.value == key)
            }
            _ => false,
        }
    }
}

/// The string at a path of a TOML document; other types hold no image.
fn find_toml_scalar(table: &DeTable, steps: &[PathStep]) -> Option<SourceScalar> {
    let [PathStep::Key(key), rest @ ..] = steps else { return None };
    let mut value = table.get(key.as_str())?;
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

/// The value of a key in lines of `key = value`, below a section if the path has two keys. The last
/// of duplicate keys counts, as for the finder.
fn find_ini_scalar(text: &str, steps: &[PathStep]) -> Option<SourceScalar> {
    let (wanted_section, wanted_key) = match steps {
        [PathStep::Key(section), PathStep::Key(key)] => (Some(section.as_str()), key.as_str()),
        [PathStep::Key(key)] => (None, key.as_str()),
        _ => return None,
    };
    let mut section = "";
    let mut start = 0;
    let mut found = None;
    for line in text.split_inclusive('\n') {
        let line_start = start;
        start += line.len();
        let bare = line.trim();
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if wanted_section.is_none_or(|wanted| wanted == section)
            && !bare.starts_with(['#', ';', '!'])
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == wanted_key
        {
            let bare = value.trim().trim_matches(['"', '\'']);
            let offset = value.find(bare)?;
            let start = line_start + key.len() + 1 + offset;
            let range = start..start + bare.len();
            found =
                Some(SourceScalar { range, value: bare.to_owned(), style: ScalarNotation::Plain });
        }
    }
    found
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
