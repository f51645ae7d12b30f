//! Where a text stands in its source: the place of a scalar in YAML, JSON, TOML or INI, byte for
//! byte, so that it can be changed there and nothing around it is written anew.

use std::collections::HashMap;
use std::ops::Range;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};
use toml::de::{DeTable, DeValue};

use crate::path::{Encoding, Step};

/// A scalar and the piece of the source that it is written as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    /// The bytes of the source: with its quotes, but without the `|` above a block.
    pub(super) range: Range<usize>,
    /// What it says.
    pub(super) value: String,
    /// How it is written.
    pub(super) style: Style,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// As it is, without quotes.
    Plain,
    /// In quotes.
    Quoted,
    /// As lines below a `|` or `>`.
    Block,
    /// By the name of another one: `*anchor`.
    Alias,
}

/// Where a list or a map stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In brackets or braces, the first of which stands here.
    Flow { start: usize },
    /// In lines of its own: where it starts, and where the first thing in it does.
    Block { start: usize, first: usize },
}

/// A text that holds other texts, opened to find them.
pub(super) enum Source<'a> {
    /// YAML, and so JSON.
    Yaml(Tree),
    Toml(Box<DeTable<'a>>),
    Ini(&'a str),
}

impl<'a> Source<'a> {
    /// Opens one document. `None` where it is not what it is said to be.
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

    /// Where the list or map at a path stands, if something is in it. `text` is what was opened.
    pub(super) fn place(&self, text: &str, steps: &[Step]) -> Option<Place> {
        match self {
            Self::Yaml(tree) => tree.place(text, steps),
            Self::Toml(_) | Self::Ini(_) => None,
        }
    }

    /// The bytes of a scalar, or of a list or map with nothing in it, that can be written anew.
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

/// The nodes of one YAML document.
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Where each node stands in the text.
    spans: Vec<Range<usize>>,
}

enum Node {
    Scalar(Scalar),
    /// Keys and values by their numbers, in turn.
    Map(Vec<usize>),
    List(Vec<usize>),
    /// Where it stands, and the node that it names.
    Alias(Range<usize>, usize),
}

/// Merge keys may lead round in a circle; a person nests them once or twice.
const MERGES: usize = 16;

impl Tree {
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
                Event::MappingEnd | Event::SequenceEnd => {
                    let end = span.byte_range()?.end;
                    if let Some(closed) = open.pop().and_then(|node| spans.get_mut(node)) {
                        closed.end = end;
                    }
                    continue;
                }
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
            // Others may go by the same name: what has to be said here is said here.
            Node::Alias(range, target) => match self.nodes.get(*target)? {
                Node::Scalar(scalar) => {
                    Some(Scalar { range: range.clone(), style: Style::Alias, ..scalar.clone() })
                }
                _ => None,
            },
            Node::Map(_) | Node::List(_) => None,
        }
    }

    /// The node at a path that leads through no alias and no merge key: what stands there is said
    /// nowhere else.
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
        // A list in lines may be said to start where its first item does, which may be in braces.
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

/// The value of a key in lines of `key = value`; the last one counts, as for the finder.
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
