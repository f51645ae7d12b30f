//! YAML with the positions of its nodes, from the parser's events. JSON, a subset, is read the same
//! way.

use std::collections::HashMap;
use std::ops::Range;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};
use types::yaml::AlignedManifest;

use super::position::{CollectionPosition, ScalarNotation, SourceScalar};
use crate::path::PathStep;

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
    pub(super) fn read(text: &str) -> Option<Self> {
        Self::read_standard(text).or_else(|| {
            let aligned = AlignedManifest::align(text)?;
            let mut tree = Self::read_standard(aligned.text())?;
            tree.shift_positions(&aligned);
            Some(tree)
        })
    }

    /// Makes the positions in an aligned text those in the original one.
    fn shift_positions(&mut self, aligned: &AlignedManifest) {
        let own = self.nodes.iter_mut().filter_map(|node| match node {
            YamlNode::Scalar(scalar) => Some(&mut scalar.range),
            YamlNode::Alias(range, _) => Some(range),
            YamlNode::Map(_) | YamlNode::List(_) => None,
        });
        for range in own.chain(&mut self.spans) {
            *range = aligned.original_offset(range.start)..aligned.original_offset(range.end);
        }
    }

    fn read_standard(text: &str) -> Option<Self> {
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
                    let (range, mut value) = (span.byte_range()?, value.into_owned());
                    // The standard ends a block with a line break even where the document has none.
                    if style == ScalarNotation::Block
                        && range.end >= text.len()
                        && !text.ends_with('\n')
                        && value.ends_with('\n')
                    {
                        value.pop();
                    }
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

    /// The scalar at a path.
    pub(super) fn find_scalar(&self, steps: &[PathStep]) -> Option<SourceScalar> {
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
    /// nothing elsewhere. The last of duplicate keys counts, as for the API server; `None` if a merge
    /// behind it brings the same key.
    fn find_own_node(&self, steps: &[PathStep]) -> Option<usize> {
        steps.iter().try_fold(0, |node, step| match (self.nodes.get(node)?, step) {
            (YamlNode::List(items), PathStep::Index(index)) => items.get(*index).copied(),
            (YamlNode::Map(entries), PathStep::Key(key)) => {
                let (entries, _) = entries.as_chunks::<2>();
                let found = entries.iter().rposition(|[own, _]| self.is_key(*own, key))?;
                let is_merged =
                    |[key, value]: &[usize; 2]| self.find_merged(*key, *value, step, 0).is_some();
                (!entries[found..].iter().any(is_merged)).then_some(entries[found][1])
            }
            _ => None,
        })
    }

    /// Where the list or map at a path starts; `None` if it is empty.
    pub(super) fn find_collection(
        &self,
        text: &str,
        steps: &[PathStep],
    ) -> Option<CollectionPosition> {
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

    /// The byte range of a scalar, or of an empty list or map.
    pub(super) fn find_replaceable(&self, steps: &[PathStep]) -> Option<Range<usize>> {
        let node = self.find_own_node(steps)?;
        match self.nodes.get(node)? {
            YamlNode::Scalar(scalar) => Some(scalar.range.clone()),
            YamlNode::Map(children) | YamlNode::List(children) if children.is_empty() => {
                self.spans.get(node).cloned()
            }
            _ => None,
        }
    }

    /// The child of a node, following aliases and merge keys. The last of duplicate keys counts, and of
    /// a key and a merge the later one, as for helm.
    fn find_child(&self, node: usize, step: &PathStep, merges: usize) -> Option<usize> {
        match (self.nodes.get(node)?, step) {
            (YamlNode::Alias(_, target), step) => self.find_child(*target, step, merges),
            (YamlNode::List(items), PathStep::Index(index)) => items.get(*index).copied(),
            (YamlNode::Map(entries), PathStep::Key(key)) => {
                let (entries, _) = entries.as_chunks::<2>();
                entries.iter().rev().find_map(|[own, value]| match self.is_key(*own, key) {
                    true => Some(*value),
                    false => self.find_merged(*own, *value, step, merges),
                })
            }
            _ => None,
        }
    }

    /// The child that a merge brings; `None` if `key` is no merge key or its maps have no such child.
    fn find_merged(
        &self,
        key: usize,
        value: usize,
        step: &PathStep,
        merges: usize,
    ) -> Option<usize> {
        let is_merge = matches!(
            self.nodes.get(key),
            Some(YamlNode::Scalar(scalar)) if scalar.value == "<<" && scalar.style == ScalarNotation::Plain
        );
        if !is_merge || merges >= MERGES {
            return None;
        }
        match self.nodes.get(value)? {
            YamlNode::List(all) => {
                all.iter().find_map(|one| self.find_child(*one, step, merges + 1))
            }
            _ => self.find_child(value, step, merges + 1),
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
