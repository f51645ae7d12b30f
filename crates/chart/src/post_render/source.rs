//! Finds the byte range of a scalar, list or map in the source text of YAML, JSON, TOML or INI, so
//! that it can be edited there while everything around it stays as it is written.

use std::collections::HashMap;
use std::ops::Range;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};
use toml::de::{DeTable, DeValue};

use crate::path::{Encoding, Step};

/// A scalar and the range of the source text in which it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    /// The byte range in the source: with quotes, but without the `|` line of a block.
    pub(super) range: Range<usize>,
    /// Its value, with escapes and folding resolved.
    pub(super) value: String,
    /// How it is written.
    pub(super) style: Style,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
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
pub(super) enum Place {
    /// Flow style: the byte position of its opening bracket or brace.
    Flow { start: usize },
    /// Block style: the byte positions where it and the first thing in it start.
    Block { start: usize, first: usize },
}

/// A parsed document that knows the positions of its parts.
pub(super) enum Source<'a> {
    /// YAML, and JSON, which is a subset of it.
    Yaml(Tree),
    /// TOML.
    Toml(Box<DeTable<'a>>),
    /// INI or lines of `key=value`, searched line by line on demand.
    Ini(&'a str),
}

impl<'a> Source<'a> {
    /// Parses one document. `None` if it is not valid in this format.
    pub(super) fn open(encoding: Encoding, text: &'a str) -> Option<Self> {
        match encoding {
            Encoding::Yaml | Encoding::Json => Tree::read(text).map(Self::Yaml),
            Encoding::Toml => {
                let table = DeTable::parse(text).ok()?;
                Some(Self::Toml(Box::new(table.into_inner())))
            }
            Encoding::Ini => Some(Self::Ini(text)),
            Encoding::Base64 | Encoding::Text => None,
        }
    }

    /// Where the list or map at a path starts; `None` if it is empty. `text` is the document. Only
    /// for YAML.
    pub(super) fn place(&self, text: &str, steps: &[Step]) -> Option<Place> {
        match self {
            Self::Yaml(tree) => tree.place(text, steps),
            Self::Toml(_) | Self::Ini(_) => None,
        }
    }

    /// The byte range of a scalar, or of an empty list or map, that can be replaced as a whole.
    /// Only for YAML.
    pub(super) fn replaceable(&self, steps: &[Step]) -> Option<Range<usize>> {
        match self {
            Self::Yaml(tree) => tree.replaceable(steps),
            Self::Toml(_) | Self::Ini(_) => None,
        }
    }

    /// The scalar at a path of keys and indexes.
    pub(super) fn scalar(&self, steps: &[Step]) -> Option<Scalar> {
        match self {
            Self::Yaml(tree) => tree.scalar(steps),
            Self::Toml(table) => in_table(table, steps),
            Self::Ini(text) => in_lines(text, steps),
        }
    }
}

/// The nodes of one YAML document, in the order of the source; the root is number 0.
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// The byte range of each node.
    spans: Vec<Range<usize>>,
}

/// A node of YAML. Others are referred to by their number.
enum Node {
    Scalar(Scalar),
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

impl Tree {
    /// Builds the nodes from the parser's events. `None` if the text is not valid YAML or is empty.
    fn read(text: &str) -> Option<Self> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut spans: Vec<Range<usize>> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        let mut anchors: HashMap<usize, usize> = HashMap::new();
        for next in Parser::new_from_str(text) {
            let (event, span) = next.ok()?;
            let number = nodes.len();
            let (node, anchor) = match event {
                Event::Scalar(value, style, anchor, _) => {
                    let style = match style {
                        ScalarStyle::Plain => Style::Plain,
                        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                    };
                    let (range, value) = (span.byte_range()?, value.into_owned());
                    (Node::Scalar(Scalar { range, value, style }), anchor)
                }
                Event::MappingStart(_, anchor, _) => (Node::Map(vec![]), anchor),
                Event::SequenceStart(_, anchor, _) => (Node::List(vec![]), anchor),
                Event::Alias(anchor) => {
                    (Node::Alias(span.byte_range()?, *anchors.get(&anchor)?), 0)
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
            let is_open = matches!(node, Node::Map(_) | Node::List(_));
            if let Some(Node::Map(children) | Node::List(children)) =
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

    fn scalar(&self, steps: &[Step]) -> Option<Scalar> {
        let node = steps.iter().try_fold(0, |node, step| self.child(node, step, 0))?;
        match self.nodes.get(node)? {
            Node::Scalar(scalar) => Some(scalar.clone()),
            // The range of the alias, not of the anchor: an edit must not change other uses of it.
            Node::Alias(range, target) => match self.nodes.get(*target)? {
                Node::Scalar(scalar) => {
                    Some(Scalar { range: range.clone(), style: Style::Alias, ..scalar.clone() })
                }
                _ => None,
            },
            Node::Map(_) | Node::List(_) => None,
        }
    }

    /// The node at a path without following aliases or merge keys, so that an edit there changes
    /// nothing elsewhere. The last of duplicate keys counts, as for the API server.
    fn own(&self, steps: &[Step]) -> Option<usize> {
        steps.iter().try_fold(0, |node, step| match (self.nodes.get(node)?, step) {
            (Node::List(items), Step::Index(index)) => items.get(*index).copied(),
            (Node::Map(entries), Step::Key(key)) => {
                let (entries, _) = entries.as_chunks::<2>();
                Some(entries.iter().rev().find(|[own, _]| self.says(*own, key))?[1])
            }
            _ => None,
        })
    }

    fn place(&self, text: &str, steps: &[Step]) -> Option<Place> {
        let node = self.own(steps)?;
        let (opener, children) = match self.nodes.get(node)? {
            Node::Map(children) => (b'{', children),
            Node::List(children) => (b'[', children),
            Node::Scalar(_) | Node::Alias(..) => return None,
        };
        let start = self.spans.get(node)?.start;
        let first = self.spans.get(*children.first()?)?.start;
        // The parser lets a block list start where its first item does. If that item is `[x]`, the
        // byte there is a bracket as well; only in flow style is it before the first item.
        let is_flow = start < first && text.as_bytes().get(start) == Some(&opener);
        Some(if is_flow { Place::Flow { start } } else { Place::Block { start, first } })
    }

    fn replaceable(&self, steps: &[Step]) -> Option<Range<usize>> {
        let node = self.own(steps)?;
        match self.nodes.get(node)? {
            Node::Scalar(scalar) => Some(scalar.range.clone()),
            Node::Map(children) | Node::List(children) if children.is_empty() => {
                self.spans.get(node).cloned()
            }
            _ => None,
        }
    }

    /// The child of a node, following aliases and merge keys.
    fn child(&self, node: usize, step: &Step, merges: usize) -> Option<usize> {
        match (self.nodes.get(node)?, step) {
            (Node::Alias(_, target), step) => self.child(*target, step, merges),
            (Node::List(items), Step::Index(index)) => items.get(*index).copied(),
            (Node::Map(entries), Step::Key(key)) => {
                let value_of = |wanted: &str| {
                    let (entries, _) = entries.as_chunks::<2>();
                    let own = entries.iter().rev().find(|[key, _]| self.says(*key, wanted))?;
                    Some(own[1])
                };
                value_of(key).or_else(|| {
                    let merged = value_of("<<").filter(|_| merges < MERGES)?;
                    match self.nodes.get(merged)? {
                        Node::List(all) => {
                            all.iter().find_map(|one| self.child(*one, step, merges + 1))
                        }
                        _ => self.child(merged, step, merges + 1),
                    }
                })
            }
            _ => None,
        }
    }

    /// Whether a node is this key, also by an alias.
    fn says(&self, node: usize, key: &str) -> bool {
        match self.nodes.get(node) {
            Some(Node::Scalar(scalar)) => scalar.value == key,
            Some(Node::Alias(_, target)) => {
                matches!(self.nodes.get(*target), Some(Node::Scalar(scalar)) if scalar.value == key)
            }
            _ => false,
        }
    }
}

/// The string at a path of a TOML document; other types hold no image.
fn in_table(table: &DeTable, steps: &[Step]) -> Option<Scalar> {
    let [Step::Key(key), rest @ ..] = steps else { return None };
    let mut value = table.get(key.as_str())?;
    for step in rest {
        value = match (value.get_ref(), step) {
            (DeValue::Table(table), Step::Key(key)) => table.get(key.as_str())?,
            (DeValue::Array(items), Step::Index(index)) => items.get(*index)?,
            _ => return None,
        };
    }
    match value.get_ref() {
        DeValue::String(text) => Some(Scalar {
            range: value.span(),
            value: text.clone().into_owned(),
            style: Style::Quoted,
        }),
        _ => None,
    }
}

/// The value of a key in lines of `key = value`, below a section if the path has two keys. The last
/// of duplicate keys counts, as for the finder.
fn in_lines(text: &str, steps: &[Step]) -> Option<Scalar> {
    let (wanted_section, wanted_key) = match steps {
        [Step::Key(section), Step::Key(key)] => (Some(section.as_str()), key.as_str()),
        [Step::Key(key)] => (None, key.as_str()),
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
            found = Some(Scalar { range, value: bare.to_owned(), style: Style::Plain });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::path::Path;

    fn slice<'a>(encoding: Encoding, text: &'a str, path: &Path) -> Option<&'a str> {
        Some(&text[Source::open(encoding, text)?.scalar(path.steps())?.range])
    }

    #[test]
    fn a_scalar_is_found_where_it_is_written() {
        let root = Path::default();
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
            assert_eq!(slice(Encoding::Yaml, &yaml, &path), expected, "{path}");
        }
        let toml = "x = 1\n[a.b]\nimage = \"one\"\nl = ['two']\n";
        assert_eq!(
            slice(Encoding::Toml, toml, &root.key("a").key("b").key("image")),
            Some("\"one\"")
        );
        let two = root.key("a").key("b").key("l").index(0);
        assert_eq!(slice(Encoding::Toml, toml, &two), Some("'two'"));
        let ini = "[a]\nimage = x\n[b]\n# image = y\n image =\"z\"\n";
        assert_eq!(slice(Encoding::Ini, ini, &root.key("b").key("image")), Some("z"));
        assert_eq!(slice(Encoding::Ini, "A=1\nB='x y'\n", &root.key("B")), Some("x y"));
    }

    #[test]
    fn merges_that_lead_round_in_a_circle_end() {
        let text = "x: &x\n  <<: *x\n  a: 1\n";
        assert_eq!(slice(Encoding::Yaml, text, &Path::default().key("x").key("b")), None);
    }
}
