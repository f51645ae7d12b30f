//! Writes digests into the overlay, where a value of the chart takes one: a whole reference
//! (`image: site/app:1`), a `digest` beside a `repository`, or else its `tag`. What a chart does with
//! them is seen in a render: a pin counts where every difference is an image of a pod that got its
//! digest, and is taken back otherwise.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use types::site_content::SiteContent;
use types::{ImagePin, Reference, pod_kinds};

use super::stream::{pin_reference, visit_pods};
use crate::edit::document_edit::DocumentEdit;
use crate::find::pods;
use crate::manifest::{Manifests, parse_yaml};
use crate::path::{DocumentPath, PathStep};
use crate::proof::differences::{LeafDifference, find_differences, find_volatile_leaves};
use crate::render::RenderFunction;
use crate::taint::indexed_render::IndexedRender;
use crate::taint::scopes::ChartScopes;
use crate::values::{self, merge_values};
use crate::{HelmChart, Result};

/// An overlay with digests in it.
#[derive(Debug, Clone, PartialEq)]
pub struct PinnedOverlay {
    /// The text of the overlay.
    pub overlay: String,
    /// The values that have a digest.
    pub values: Vec<PinnedValue>,
}

/// A value of the overlay that names the digest of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
pub struct PinnedValue {
    /// The path of the value.
    pub path: DocumentPath,
    /// The text that it is set to.
    pub text: String,
    /// The image at the site, by its tag.
    pub image: Reference,
}

/// How often pins are tried: a chart may take a tag where it ignores a digest.
const ROUNDS: usize = 4;

/// Writes the digests of a chart's images at the site into an overlay that has moved them. `user` are the
/// user's values, merged into one; `render` renders the chart with them and an overlay on top.
///
/// # Errors
/// The chart does not render with the overlay as it is.
pub fn pin_overlay(
    chart: &HelmChart,
    user: &Value,
    overlay: &str,
    content: &SiteContent,
    pin: ImagePin,
    render: &RenderFunction,
) -> Result<PinnedOverlay> {
    let unpinned = || PinnedOverlay { overlay: overlay.to_owned(), values: vec![] };
    if matches!(pin, ImagePin::None | ImagePin::Annotation) {
        return Ok(unpinned());
    }
    let read =
        |stream: &str| Manifests::read_render(stream).require_readable().map(IndexedRender::new);
    let before = read(&render(Some(overlay))?)?;
    let images = list_pinned_images(&before.manifests, content, pin);
    let mut open = list_candidates(chart, user, overlay, &images)?;
    let mut volatile = None;
    for _ in 0..ROUNDS {
        let Some(text) = write_pins(overlay, &open).filter(|_| !open.is_empty()) else { break };
        // A schema may refuse a digest; the message says nothing of which one, so none is kept.
        let Some(after) = render(Some(&text)).ok().and_then(|stream| read(&stream).ok()) else {
            break;
        };
        let mut judged = judge_pins(&before, &after, &images, &open);
        if !judged.is_clean() && volatile.is_none() {
            // Passwords and dates differ in each render.
            let again = read(&render(Some(overlay))?)?;
            volatile = Some(find_volatile_leaves(&before, &again));
        }
        if let Some(volatile) = &volatile {
            judged.strange.retain(|(document, difference)| {
                !volatile.contains(&(*document, difference.path.clone()))
            });
        }
        if judged.is_clean() {
            let mut values: Vec<PinnedValue> = open;
            values.sort();
            return Ok(PinnedOverlay { overlay: text, values });
        }
        open = drop_refused(open, &judged, &images);
    }
    Ok(unpinned())
}

/// The images of pods that are named by a tag, each with its pinned name.
fn list_pinned_images(
    manifests: &Manifests,
    content: &SiteContent,
    pin: ImagePin,
) -> BTreeMap<Reference, Reference> {
    let mut found = BTreeMap::new();
    for document in manifests.documents.iter().filter(|document| !document.is_definition_file()) {
        visit_pods(document, &mut |_, spec, _| {
            for (_, text) in pod_kinds::list_images(spec) {
                let Ok(image) = text.parse::<Reference>() else { continue };
                if let Some(pinned) = pin_reference(&image, content, pin) {
                    found.insert(image, pinned);
                }
            }
        });
    }
    found
}

/// The values that may take a digest, at most one for each map of an image.
fn list_candidates(
    chart: &HelmChart,
    user: &Value,
    overlay: &str,
    images: &BTreeMap<Reference, Reference>,
) -> Result<Vec<PinnedValue>> {
    let own = values::read_values("the overlay", overlay)?;
    let mut merged = user.clone();
    merge_values(&mut merged, &own);
    let effective = chart.effective_values(&merged);
    let scopes = ChartScopes::new(chart, &effective);
    let mut found: BTreeMap<DocumentPath, PinnedValue> = BTreeMap::new();
    let mut add = |path: DocumentPath, text: String, image: &Reference| {
        let path = scopes.path_to_set(&path);
        // Helm replaces lists as a whole: only one that the overlay has already can be changed in place.
        let is_in_list = path.steps().iter().any(|step| matches!(step, PathStep::Index(_)));
        if !is_in_list || path.find_value(&own).is_some() {
            let value = PinnedValue { path: path.clone(), text, image: image.clone() };
            found.entry(path).or_insert(value);
        }
    };
    values::visit_entries(
        &effective,
        &DocumentPath::default(),
        &mut |path, value, _| match value {
            Value::String(text) => {
                let image = text.parse::<Reference>().ok();
                let image = image.filter(|image| image.digest().is_none() && text.contains(':'));
                if let Some((image, digest)) = image.and_then(|image| find_pin(images, &image)) {
                    add(path.clone(), format!("{text}@{digest}"), image);
                }
            }
            Value::Object(map) => {
                let text = |key: &str| {
                    map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
                };
                let Some(repository) =
                    text("repository").or_else(|| text("name")).or_else(|| text("image"))
                else {
                    return;
                };
                let tag = text("tag");
                let is_meant = |image: &&Reference| {
                    let name = image.name();
                    let is_named = name == repository || name.ends_with(&format!("/{repository}"));
                    is_named && tag.is_none_or(|tag| image.tag() == Some(tag))
                };
                let mut meant = images.keys().filter(is_meant);
                // Two versions of one repository: the map does not say which is its own.
                let (Some(image), None) = (meant.next(), meant.next()) else { return };
                let Some((image, digest)) = find_pin(images, image) else { return };
                // Where the tag is not set, the template has another one, which is known from the image.
                match (map.contains_key("digest"), map.contains_key("tag"), image.tag()) {
                    (true, _, _) => add(path.key("digest"), digest, image),
                    (false, true, Some(tag)) => {
                        add(path.key("tag"), format!("{tag}@{digest}"), image);
                    }
                    (false, _, _) => {}
                }
            }
            _ => {}
        },
    );
    Ok(found.into_values().collect())
}

/// An image with the digest that it is pinned to.
fn find_pin<'a>(
    images: &'a BTreeMap<Reference, Reference>,
    image: &Reference,
) -> Option<(&'a Reference, String)> {
    let (image, pinned) = images.get_key_value(image)?;
    Some((image, pinned.digest()?.to_string()))
}

/// The text of the overlay with these values; `None` if the editor cannot write them.
fn write_pins(overlay: &str, pins: &[PinnedValue]) -> Option<String> {
    let mut value = match parse_yaml(overlay).ok()? {
        Value::Null => Value::Object(serde_json::Map::new()),
        other => other,
    };
    let mut text = overlay.to_owned();
    for pin in pins {
        let new = Value::from(pin.text.as_str());
        let edit = if pin.path.find_value(&value).is_some() {
            DocumentEdit::Scalar { at: pin.path.clone(), to: new }
        } else {
            let keys: Option<Vec<&str>> = pin
                .path
                .steps()
                .iter()
                .map(|step| match step {
                    PathStep::Key(key) => Some(key.as_str()),
                    _ => None,
                })
                .collect();
            match keys {
                Some(keys) => {
                    DocumentEdit::set_nested(&value, &DocumentPath::default(), &keys, new)
                }
                // A new key of a list's item.
                None => DocumentEdit::Key {
                    map: pin.path.parent(),
                    key: pin.path.last_key()?.to_owned(),
                    value: new,
                },
            }
        };
        text = edit.apply_to_text(&text)?;
        edit.apply_to_value(&mut value);
    }
    (parse_yaml(&text).ok().as_ref() == Some(&value)).then_some(text)
}

/// What a render with pins shows.
#[derive(Default)]
struct JudgedPins {
    /// The images that got their digest somewhere.
    pinned: BTreeSet<Reference>,
    /// Differences that are no pinned image of a pod.
    strange: Vec<(usize, LeafDifference)>,
    /// Whether a document came or went.
    is_other: bool,
    /// The images that nothing shows to be pinned although a value was set for them.
    ignored: BTreeSet<Reference>,
}

impl JudgedPins {
    fn is_clean(&self) -> bool {
        self.strange.is_empty() && self.ignored.is_empty() && !self.is_other
    }
}

fn judge_pins(
    before: &IndexedRender,
    after: &IndexedRender,
    images: &BTreeMap<Reference, Reference>,
    pins: &[PinnedValue],
) -> JudgedPins {
    let mut judged = JudgedPins::default();
    let count = |render: &IndexedRender| {
        render.manifests.documents.iter().filter(|one| !one.is_definition_file()).count()
    };
    judged.is_other = count(before) != count(after);
    for (index, document) in before.manifests.documents.iter().enumerate() {
        let Some(same) = after.find_same_document(before, index) else {
            // Files of crds/ are printed in some renders only.
            judged.is_other |= !document.is_definition_file();
            continue;
        };
        let same = &after.manifests.documents[same];
        if same.text == document.text {
            continue;
        }
        let mut places: BTreeMap<DocumentPath, &str> = BTreeMap::new();
        visit_pods(document, &mut |_, spec, path| {
            for (location, text) in pod_kinds::list_images(spec) {
                places.insert(pods::image_path(path, location), text);
            }
        });
        for difference in find_differences(&document.value, &same.value) {
            let image =
                places.get(&difference.path).and_then(|text| text.parse::<Reference>().ok());
            let pinned = image.as_ref().and_then(|image| images.get(image));
            let now = difference.after.as_deref().and_then(|text| text.parse::<Reference>().ok());
            match (image, pinned, now) {
                (Some(image), Some(pinned), Some(now)) if is_pinned(&now, pinned) => {
                    judged.pinned.insert(image);
                }
                _ => judged.strange.push((index, difference)),
            }
        }
    }
    let wanted = pins.iter().map(|pin| &pin.image);
    judged.ignored = wanted.filter(|image| !judged.pinned.contains(*image)).cloned().collect();
    judged
}

/// Whether a reference names the pinned image; charts drop the tag where they have a digest.
fn is_pinned(now: &Reference, pinned: &Reference) -> bool {
    now.name() == pinned.name()
        && now.digest() == pinned.digest()
        && now.tag().is_none_or(|tag| pinned.tag() == Some(tag))
}

/// The pins without those that a render speaks against. Of an image that a chart did not pin by a digest
/// of its own, the tag is tried next.
fn drop_refused(
    open: Vec<PinnedValue>,
    judged: &JudgedPins,
    images: &BTreeMap<Reference, Reference>,
) -> Vec<PinnedValue> {
    let digest_of = |image: &Reference| {
        images.get(image).and_then(Reference::digest).map(types::Digest::hex).unwrap_or_default()
    };
    let texts: Vec<&str> =
        judged.strange.iter().filter_map(|(_, difference)| difference.after.as_deref()).collect();
    let is_named = |image: &Reference| texts.iter().any(|text| text.contains(&digest_of(image)));
    let refused: BTreeSet<Reference> = open
        .iter()
        .map(|pin| pin.image.clone())
        .filter(|image| judged.ignored.contains(image) || is_named(image))
        .collect();
    // Something changed that no digest explains, so nothing says which pin did it.
    if refused.is_empty() {
        return vec![];
    }
    let is_digest = |pin: &PinnedValue| pin.path.last_key() == Some("digest");
    open.into_iter()
        .filter_map(|pin| match refused.contains(&pin.image) {
            false => Some(pin),
            true if is_digest(&pin) && judged.ignored.contains(&pin.image) => {
                let tag = pin.image.tag()?;
                let path = pin.path.parent().key("tag");
                Some(PinnedValue { path, text: format!("{tag}@{}", pin.text), ..pin })
            }
            true => None,
        })
        .collect()
}
