//! What a search through nested structures hands down: to maps and lists in `custom`, to the
//! arguments of containers, and to documents inside texts.

use super::compose::InheritedParts;
use super::findings::LocationKind;

/// What the search hands down to the parts of a structure.
#[derive(Clone)]
pub(crate) struct StructureWalk {
    /// The kind of location that all images get.
    pub(crate) pattern: LocationKind,
    /// Registry and tag from an enclosing map.
    pub(super) above: InheritedParts,
    /// Whether the nearest key above names an image. List items have the key of their list.
    pub(super) is_image: bool,
    /// Whether the map at hand has an image under each of its keys, as `images` has.
    pub(super) is_image_map: bool,
    /// How many maps and lists are above.
    pub(super) depth: usize,
}

impl StructureWalk {
    /// The start of a search, where nothing is handed down yet.
    pub(crate) fn new(pattern: LocationKind) -> Self {
        Self {
            pattern,
            above: InheritedParts::default(),
            is_image: false,
            is_image_map: false,
            depth: 0,
        }
    }

    /// What the parts of a structure get in a list or map of it.
    pub(super) fn one_level_deeper(&self) -> Self {
        Self { depth: self.depth + 1, ..self.clone() }
    }
}
