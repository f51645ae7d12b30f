//! Slots: the values that may be an image or a part of one. The marker of a slot is put *before* its
//! text and leaves the text whole, so that a template that looks at it (does it have a host? is the
//! version new enough?) decides as before.
//!
//! For example, slot 3 is the value `image.registry: docker.io`. With its marker the value is
//! `zq3qzdocker.io`, and the render has `image: zq3qzdocker.io/zq4qzorg/app:1`. Without the markers
//! the text is `docker.io/org/app:1`, with slot 3 at offset 0 and slot 4 at offset 10.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::markers::MarkerKind;
use super::scopes::ChartScopes;
use crate::chart::HelmChart;
use crate::find::names::{self, KeyMeaning};
use crate::image_names::is_part_of_reference;
use crate::path::{DocumentPath, PathStep};
use crate::reference_shape::{self, ReferenceShape};
use crate::values;
use crate::words::split_text_words;

/// A value, or a part of its text, that may be a part of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValueSlot {
    /// The path of the value.
    pub(crate) path: DocumentPath,
    /// Its offset in the value's text, in bytes; not 0 only for an image inside a longer text.
    pub(crate) start: usize,
    /// Its text now; empty for a value that is not set.
    pub(crate) text: String,
    /// Why it is a slot.
    pub(crate) reason: SlotReason,
}

/// Why a value may be a part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SlotReason {
    /// Its key (`repository`) or its text (`ghcr.io/org/app:1`) says so.
    Likely,
    /// Its text is a part of a rendered reference, whatever its key is.
    Part,
    /// It is not set, and its key says that it would be a registry.
    Unset,
    /// It is not set, and its key says that it would be an image or a repository.
    UnsetName,
}

impl ValueSlot {
    /// Whether it is below `global`, and so seen by all sub-charts.
    pub(crate) fn is_global(&self) -> bool {
        self.path.steps().contains(&PathStep::Key("global".into()))
    }

    /// Whether the chart leaves it unset.
    pub(crate) fn is_unset(&self) -> bool {
        matches!(self.reason, SlotReason::Unset | SlotReason::UnsetName)
    }

    /// Whether the value has other text around it.
    fn is_inside_longer_text(&self, whole: &str) -> bool {
        self.start > 0 || self.text.len() < whole.len()
    }
}

/// All slots of a chart with its merged values. `rendered` are texts of rendered references, for
/// values that are a part of one by their text alone.
pub(crate) fn find_slots(
    chart: &HelmChart,
    effective: &Value,
    rendered: &[&str],
) -> Vec<ValueSlot> {
    let scopes = ChartScopes::new(chart, effective);
    let mut slots = Vec::new();
    values::visit_leaves(effective, &DocumentPath::default(), &mut |path, leaf| {
        add_slots_in_leaf(&scopes.path_to_set(path), leaf, rendered, &mut slots);
    });
    // Registries that only the templates know of, such as `global.imageRegistry`.
    for (wanted, reason) in [
        (names::is_registry_key as fn(&str) -> bool, SlotReason::Unset),
        (names::is_name_key, SlotReason::UnsetName),
    ] {
        for path in scopes.find_unset_values(chart, effective, wanted) {
            slots.push(ValueSlot { path, start: 0, text: String::new(), reason });
        }
    }
    for path in find_missing_fields(effective) {
        let path = scopes.path_to_set(&path);
        if scopes.allows_value(&path) {
            let reason = SlotReason::UnsetName;
            slots.push(ValueSlot { path, start: 0, text: String::new(), reason });
        }
    }
    let mut seen = BTreeSet::new();
    slots.retain(|slot| seen.insert((slot.path.clone(), slot.start)));
    slots
}

/// The fields that maps of images (`image: {tag: "1", pullPolicy: Always}`) do not have and that a
/// template may read through a helper, which does not name the value.
fn find_missing_fields(effective: &Value) -> Vec<DocumentPath> {
    let mut missing = Vec::new();
    values::visit_entries(effective, &DocumentPath::default(), &mut |path, value, _| {
        let Value::Object(map) = value else { return };
        let has = |key: &str| map.contains_key(key);
        if has("repository") && !has("registry") {
            missing.push(path.key("registry"));
        }
        let is_image = path.last_key().is_some_and(names::is_name_key);
        if is_image && (has("tag") || has("pullPolicy")) && !has("repository") && !has("name") {
            missing.push(path.key("repository"));
        }
    });
    missing
}

/// The values that have one of these digests in them, and so are a part of a pinned image.
pub(crate) fn find_digest_slots(
    scopes: &ChartScopes,
    effective: &Value,
    digests: &[&str],
) -> Vec<ValueSlot> {
    let mut slots = Vec::new();
    values::visit_leaves(effective, &DocumentPath::default(), &mut |path, leaf| {
        if let Some(text) = leaf.as_str()
            && digests.iter().any(|digest| text.contains(digest))
        {
            let (path, reason) = (scopes.path_to_set(path), SlotReason::Part);
            slots.push(ValueSlot { path, start: 0, text: text.to_owned(), reason });
        }
    });
    let mut seen = BTreeSet::new();
    slots.retain(|slot| seen.insert(slot.path.clone()));
    slots
}

/// The slots that are recognised by their own key or text.
pub(crate) fn find_likely_slots(scopes: &ChartScopes, effective: &Value) -> Vec<ValueSlot> {
    let mut slots = Vec::new();
    values::visit_leaves(effective, &DocumentPath::default(), &mut |path, leaf| {
        add_slots_in_leaf(&scopes.path_to_set(path), leaf, &[], &mut slots);
    });
    let mut seen = BTreeSet::new();
    slots.retain(|slot| {
        slot.reason == SlotReason::Likely && seen.insert((slot.path.clone(), slot.start))
    });
    slots
}

/// Adds the slots in one leaf of the values.
fn add_slots_in_leaf(
    path: &DocumentPath,
    leaf: &Value,
    rendered: &[&str],
    slots: &mut Vec<ValueSlot>,
) {
    let key = path.last_key().unwrap_or_default();
    let mut add = |start: usize, text: &str, reason| {
        slots.push(ValueSlot { path: path.clone(), start, text: text.to_owned(), reason });
    };
    match leaf {
        Value::String(text) if !text.trim().is_empty() => {
            if let Some(name) = find_name_before_template(key, text) {
                add(0, name, SlotReason::Likely);
            } else if is_likely_image(key, path, text) {
                add(0, text, SlotReason::Likely);
            // A command line or a list in one text: each word that is an image is a slot. Texts
            // with template syntax are left alone, as their words are not what is rendered.
            } else if text.contains([' ', '\n', '=', ',']) && !text.contains("{{") {
                for (start, word) in split_text_words(text) {
                    let is_rendered = rendered.contains(&word) && word.contains([':', '/']);
                    if is_rendered || reference_shape::has_image_shape(word) {
                        add(start, word, SlotReason::Likely);
                    }
                }
            } else if rendered.iter().any(|reference| is_part_of_reference(text, reference)) {
                add(0, text, SlotReason::Part);
            }
        }
        Value::String(_) | Value::Null if names::is_registry_key(key) => {
            add(0, "", SlotReason::Unset);
        }
        Value::String(_) | Value::Null if names::is_name_key(key) => {
            add(0, "", SlotReason::UnsetName);
        }
        _ => {}
    }
}

/// The name of an image at the start of a value with template code behind it, which the chart renders
/// with `tpl`: `ghcr.io/org/app:{{ .Chart.AppVersion }}`.
fn find_name_before_template<'t>(key: &str, text: &'t str) -> Option<&'t str> {
    let (front, _) = text.split_once("{{")?;
    let name = front.trim_end().trim_end_matches([':', '@']);
    let (_, shape) = reference_shape::parse_image(name)?;
    let is_name = match shape {
        ReferenceShape::Hosted => true,
        ReferenceShape::Word | ReferenceShape::Path => names::is_name_key(key),
        ReferenceShape::TaggedWord | ReferenceShape::TaggedPath | ReferenceShape::Full => false,
    };
    is_name.then_some(name)
}

/// Whether a value's key or text says that it is an image or (a part of) its name.
fn is_likely_image(key: &str, path: &DocumentPath, text: &str) -> bool {
    if text.contains("://") || text.contains('\n') {
        return false;
    }
    if text.contains("{{") {
        return !text.contains(' ')
            || names::is_image_key(key)
            || names::classify_key(key).is_some();
    }
    if text.contains([' ', ',', '=']) {
        return false;
    }
    // Tags and digests are no likely slots: a relocation mostly leaves them as they are.
    let by_key = match names::classify_key(key) {
        Some((_, KeyMeaning::Registry | KeyMeaning::Repository | KeyMeaning::Image)) => true,
        Some((_, KeyMeaning::Tag | KeyMeaning::Digest)) => false,
        None => names::is_image_key(key) || key == "name" && names::is_image_key(parent_key(path)),
    };
    let by_form = reference_shape::parse_image(text).is_some_and(|(_, shape)| {
        matches!(shape, ReferenceShape::Full | ReferenceShape::TaggedPath | ReferenceShape::Hosted)
    });
    by_key || by_form
}

/// The key above the last one of a path; empty if there is none.
fn parent_key(path: &DocumentPath) -> &str {
    match path.steps() {
        [.., PathStep::Key(parent), PathStep::Key(_)] => parent,
        _ => "",
    }
}

/// An overlay that puts markers into the chosen slots.
pub(crate) fn mark_slots(slots: &[ValueSlot], chosen: &[usize], effective: &Value) -> Value {
    let texts = chosen
        .iter()
        .map(|&slot| (slot, format!("{}{}", MarkerKind::Slot.marker(slot), slots[slot].text)));
    fill_slots(slots, texts, effective)
}

/// An overlay that gives each of these slots a new text.
pub(crate) fn fill_slots(
    slots: &[ValueSlot],
    texts: impl IntoIterator<Item = (usize, String)>,
    effective: &Value,
) -> Value {
    let mut leaves: BTreeMap<&DocumentPath, Vec<(usize, String)>> = BTreeMap::new();
    for (slot, text) in texts {
        leaves.entry(&slots[slot].path).or_default().push((slot, text));
    }
    let mut overlay = Value::Object(Map::new());
    for (path, mut changes) in leaves {
        let was = path.find_value(effective).and_then(Value::as_str).unwrap_or_default();
        let mut now = was.to_owned();
        // From the back, so that the offsets of those in front stay right.
        changes.sort_by_key(|(slot, _)| std::cmp::Reverse(slots[*slot].start));
        for (index, text) in changes {
            let slot = &slots[index];
            let end = slot.start + slot.text.len();
            if slot.is_inside_longer_text(was) && was.get(slot.start..end).is_some() {
                now.replace_range(slot.start..end, &text);
            } else {
                now = text;
            }
        }
        values::set_value(&mut overlay, path, Value::String(now), effective);
    }
    overlay
}
