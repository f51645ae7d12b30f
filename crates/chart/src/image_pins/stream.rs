//! Writes digests into the pods of rendered manifests.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use types::site_content::SiteContent;
use types::{ImagePin, Reference, pod_kinds};

use crate::edit::document_edit::DocumentEdit;
use crate::edit::rewrite::{ReplacedWord, TextReplacement, rewrite_document};
use crate::find::pods;
use crate::manifest::{ManifestDocument, Manifests, parse_yaml};
use crate::path::DocumentPath;
use crate::{Error, Result};

/// The annotation of a pod template that lists the locked digests of the images that are not pinned.
pub const LOCKED_IMAGES: &str = "gantry.dev/locked-images";

/// A stream of manifests whose pods name digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedStream {
    /// The edited stream.
    pub stream: String,
    /// The images that are pinned, with their names now.
    pub pinned: BTreeMap<Reference, Reference>,
    /// The images that an annotation lists, since no digest can be named for them.
    pub annotated: BTreeSet<Reference>,
}

impl PinnedStream {
    /// Whether there is nothing to pin.
    pub fn is_empty(&self) -> bool {
        self.pinned.is_empty() && self.annotated.is_empty()
    }
}

/// What is to be done to the pod template of one object.
struct TemplatePins {
    /// The path of the pod template, or of the pod itself.
    template: DocumentPath,
    /// The images to pin, each with its path and its text.
    images: Vec<(DocumentPath, String, Reference)>,
    /// The texts of images to list, each with the locked digest.
    listed: BTreeMap<Reference, String>,
}

/// Pins the images of the pods of a stream, as far as the site's content says what they are. Images
/// that are named by a digest already, and those that are not locked, stay as they are; so does
/// everything else, byte for byte.
///
/// Jobs that are no hooks are left alone: their pods cannot be changed, and those that are done need
/// not run again.
///
/// # Errors
/// A document that is not valid YAML.
pub fn pin_images(stream: &str, content: &SiteContent, pin: ImagePin) -> Result<PinnedStream> {
    let mut result = PinnedStream {
        stream: stream.to_owned(),
        pinned: BTreeMap::new(),
        annotated: BTreeSet::new(),
    };
    if pin == ImagePin::None {
        return Ok(result);
    }
    let manifests = Manifests::read_render(stream).require_readable()?;
    // From the back, so that what is edited does not move what is still to come.
    for (index, range) in manifests.document_ranges(stream).into_iter().enumerate().rev() {
        let Some(document) = manifests.documents.get(index) else { continue };
        let pins = list_template_pins(document, content, pin);
        if pins.is_empty() {
            continue;
        }
        let (text, all) = match pin_document(document, &pins) {
            Some(text) => (text, pins),
            // An anchor may be used elsewhere too; the annotation alone restarts the pods all the same.
            None => {
                let pins = pins.into_iter().map(TemplatePins::into_listed).collect::<Vec<_>>();
                match pin_document(document, &pins) {
                    Some(text) => (text, pins),
                    None => return Err(unpinnable_error(document)),
                }
            }
        };
        result.stream.replace_range(range, &text);
        for own in all {
            let named = own
                .images
                .into_iter()
                .filter_map(|(_, text, pinned)| Some((text.parse::<Reference>().ok()?, pinned)));
            result.pinned.extend(named);
            result.annotated.extend(own.listed.into_keys());
        }
    }
    Ok(result)
}

impl TemplatePins {
    /// The same, with all images listed and none pinned.
    fn into_listed(mut self) -> Self {
        for (_, text, pinned) in std::mem::take(&mut self.images) {
            if let (Ok(image), Some(digest)) = (text.parse(), pinned.digest()) {
                self.listed.insert(image, digest.to_string());
            }
        }
        self
    }

    /// The text of the annotation: each image with its digest, in a stable order.
    fn annotation(&self) -> String {
        let lines = self.listed.iter().map(|(image, digest)| format!("{image}@{digest}"));
        lines.collect::<Vec<_>>().join(" ")
    }
}

/// What is to be done in a document, for each of its pod templates.
fn list_template_pins(
    document: &ManifestDocument,
    content: &SiteContent,
    pin: ImagePin,
) -> Vec<TemplatePins> {
    let mut found = Vec::new();
    if document.is_definition_file() {
        return found;
    }
    visit_pods(document, &mut |kind, spec, spec_path| {
        let mut own =
            TemplatePins { template: spec_path.parent(), images: vec![], listed: BTreeMap::new() };
        for (location, text) in pod_kinds::list_images(spec) {
            let Ok(image) = text.parse::<Reference>() else { continue };
            // The chart has decided what runs.
            if image.digest().is_some() {
                continue;
            }
            let Some(root) = content.find_current(&image) else { continue };
            match pin_reference(&image, content, pin) {
                Some(pinned) => {
                    let path = pods::image_path(spec_path, location);
                    own.images.push((path, text.to_owned(), pinned));
                }
                // A pod is no template: nothing creates it anew.
                None if kind == "Pod" => {}
                None => {
                    own.listed.insert(image, root.digest().to_string());
                }
            }
        }
        if !own.images.is_empty() || !own.listed.is_empty() {
            found.push(own);
        }
    });
    found
}

/// Calls `visit` with the kind of each object of a document that has pods which may change, their spec
/// and its path. A job that is no hook is left out: the API server refuses to change its pods.
pub(super) fn visit_pods<'a>(
    document: &'a ManifestDocument,
    visit: &mut impl FnMut(&str, &'a Value, &DocumentPath),
) {
    pods::visit_objects(&document.value, &DocumentPath::default(), &mut |object, path| {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        if kind == "Job" && !document.is_hook() {
            return;
        }
        let Some(to_spec) = pods::pod_spec_path(kind) else { return };
        let Some(spec) = to_spec.find_value(object) else { return };
        visit(kind, spec, &path.join(&to_spec));
    });
}

/// The name of an image of the site with the digest that it is pinned to; `None` where it has none.
pub(super) fn pin_reference(
    image: &Reference,
    content: &SiteContent,
    pin: ImagePin,
) -> Option<Reference> {
    if image.digest().is_some() || !content.is_site_name(image) {
        return None;
    }
    let digest = content.find_current(image)?.pinned_digest(pin)?;
    Reference::new(image.registry(), image.repository(), image.tag(), Some(digest)).ok()
}

/// The text of a document with its pins; `None` if the editor cannot make exactly these changes.
fn pin_document(document: &ManifestDocument, pins: &[TemplatePins]) -> Option<String> {
    let mut value = document.value.clone();
    let images: Vec<(&DocumentPath, &str, String)> = pins
        .iter()
        .flat_map(|own| &own.images)
        .map(|(path, text, pinned)| (path, text.as_str(), add_digest(text, pinned)))
        .collect();
    let wants: Vec<TextReplacement> = images
        .iter()
        .map(|(path, from, to)| TextReplacement {
            steps: path.steps(),
            from,
            to,
            word: ReplacedWord::Reference,
        })
        .collect();
    let mut text = rewrite_document(&document.text, &wants);
    for (path, _, to) in &images {
        *path.find_value_mut(&mut value)? = Value::from(to.as_str());
    }
    for own in pins.iter().filter(|own| !own.listed.is_empty()) {
        let keys = ["metadata", "annotations", LOCKED_IMAGES];
        let edit = DocumentEdit::set_nested(&value, &own.template, &keys, own.annotation().into());
        text = edit.apply_to_text(&text)?;
        edit.apply_to_value(&mut value);
    }
    // The proof: the edited text parses to what is wanted, and nothing else.
    (parse_yaml(&text).ok().as_ref() == Some(&value)).then_some(text)
}

/// The text of an image with a digest behind it; everything else is as the manifest writes it.
fn add_digest(text: &str, pinned: &Reference) -> String {
    match pinned.digest() {
        Some(digest) => format!("{text}@{digest}"),
        None => text.to_owned(),
    }
}

fn unpinnable_error(document: &ManifestDocument) -> Error {
    Error::Patch {
        object: format!("{} {}", document.kind(), document.name()),
        reason:
            "its YAML does not take the digests of its images; write it without anchors, or set \
                 pin: none for this release"
                .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use types::lock::Lock;
    use types::naming::NamingRule;
    use types::receipt::Receipt;
    use types::site::RegistryTarget;

    use super::*;

    fn digest(letters: &str) -> String {
        format!("sha256:{}", letters.repeat(32))
    }

    /// A site that holds `q.io/o/app:1` (one platform of an index), `q.io/o/whole:1` (without an index) and
    /// `q.io/o/two:1` (two platforms of an index of three).
    fn site_content(receipt: Option<&str>) -> SiteContent {
        let manifest = |letters: &str, platform: &str| {
            format!(
                "{{digest: '{}', size: 1, mediaType: m, platform: {platform}}}",
                digest(letters)
            )
        };
        let image = |name: &str, own: &str, manifests: &str| {
            format!(
                "- {{reference: 'q.io/o/{name}:1', digest: '{}', mediaType: m, size: 1, platforms: [linux/amd64], \
                 manifests: [{manifests}], seen: [{{by: gantry.yaml}}]}}\n",
                digest(own)
            )
        };
        let lock = format!(
            "version: 1\nname: l\nplatforms: [linux/amd64]\nimages:\n{}{}{}",
            image("app", "a1", &manifest("a2", "linux/amd64")),
            image(
                "two",
                "b1",
                &[manifest("b2", "linux/amd64"), manifest("b3", "linux/arm64")].join(", ")
            ),
            image("whole", "c1", &manifest("c1", "linux/amd64")),
        );
        let receipts: Vec<Receipt> = receipt
            .map(|rewritten| {
                let text = format!(
                    r#"{{"version": 1, "target": "site:5000", "blobs": [], "roots": [{{"name": "q.io/o/two:1",
                    "kind": "image", "digest": "{}", "target": "site:5000/o/two:1"{rewritten}}}]}}"#,
                    digest("b1")
                );
                Receipt::parse("r", &text).unwrap()
            })
            .into_iter()
            .collect();
        let registry = RegistryTarget::from_prefix(&"site:5000".parse().unwrap(), NamingRule::Path);
        let locks = [Lock::parse("gantry.lock", &lock).unwrap()];
        SiteContent::new(&locks, &receipts, &registry).unwrap()
    }

    const STREAM: &str = "\
# Source: a/templates/a.yaml
kind: Deployment
apiVersion: apps/v1
metadata: {name: a}
spec:
  template:
    metadata:
      labels: {app: a}
    spec:
      initContainers:
      - {name: i, image: 'site:5000/o/whole:1'} # keep
      containers:
      - name: c
        image: site:5000/o/app:1
        args: [--image=site:5000/o/app:1, --mode=0644]
      - name: pinned
        image: site:5000/o/app@sha256:d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0
---
kind: Job
apiVersion: batch/v1
metadata: {name: j}
spec: {template: {spec: {containers: [{name: c, image: 'site:5000/o/app:1'}]}}}
---
kind: Job
apiVersion: batch/v1
metadata: {name: h, annotations: {helm.sh/hook: pre-install}}
spec: {template: {spec: {containers: [{name: c, image: \"site:5000/o/app:1\"}]}}}
";

    #[test]
    fn images_of_pod_templates_get_their_digest_and_everything_else_stays_byte_for_byte() {
        let pinned = pin_images(STREAM, &site_content(None), ImagePin::Auto).unwrap();

        let (app, whole) = (digest("a2"), digest("c1"));
        let expected = STREAM
            .replace("'site:5000/o/whole:1'", &format!("\"site:5000/o/whole:1@{whole}\""))
            .replace("image: site:5000/o/app:1\n", &format!("image: site:5000/o/app:1@{app}\n"))
            .replace("\"site:5000/o/app:1\"", &format!("\"site:5000/o/app:1@{app}\""))
            .replace(
                &format!("\"site:5000/o/whole:1@{whole}\""),
                &format!("'site:5000/o/whole:1@{whole}'"),
            );
        assert_eq!(pinned.stream, expected);
        assert_eq!(pinned.pinned.len(), 2);
        assert!(pinned.annotated.is_empty());
        let again = pin_images(&pinned.stream, &site_content(None), ImagePin::Auto).unwrap();
        assert!(again.is_empty(), "{again:?}");
        assert_eq!(again.stream, expected);
    }

    /// How the image with two platforms of three is named, and the annotation of its pod template.
    fn pin_two(receipt: Option<&str>, pin: ImagePin) -> (String, Option<String>) {
        let stream = "kind: StatefulSet\nmetadata: {name: s}\nspec:\n  template:\n    spec:\n      containers: [{name: c, image: 'site:5000/o/two:1'}]\n";
        let pinned = pin_images(stream, &site_content(receipt), pin).unwrap();
        let value = parse_yaml(&pinned.stream).unwrap();
        let template = &value["spec"]["template"];
        let image = template["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
        let note = template.pointer("/metadata/annotations/gantry.dev~1locked-images");
        (image, note.map(|note| note.as_str().unwrap().to_owned()))
    }

    #[test]
    fn an_index_is_pinned_where_the_site_keeps_it_and_its_template_annotated_where_not() {
        let tag = "site:5000/o/two:1".to_owned();
        let note = Some(format!("{tag}@{}", digest("b1")));
        let rewritten = format!(r#", "rewritten": "{}""#, digest("b9"));
        let (kept, rewritten) = (Some(""), Some(rewritten.as_str()));
        let pinned = |letters: &str| (format!("{tag}@{}", digest(letters)), None);
        assert_eq!(pin_two(kept, ImagePin::Auto), pinned("b1"));
        assert_eq!(pin_two(kept, ImagePin::Annotation), (tag.clone(), note.clone()));
        assert_eq!(pin_two(kept, ImagePin::None), (tag.clone(), None));
        assert_eq!(pin_two(rewritten, ImagePin::Auto), (tag.clone(), note.clone()));
        assert_eq!(pin_two(rewritten, ImagePin::Digest), pinned("b9"));
        assert_eq!(pin_two(None, ImagePin::Digest), (tag, note));
    }

    #[test]
    fn a_name_that_an_anchor_shares_is_listed_instead() {
        let stream = "kind: Deployment\nmetadata: {name: a}\nspec:\n  template:\n    metadata: {annotations: }\n    spec:\n      containers:\n      - &c {name: c, image: 'site:5000/o/app:1'}\n  other: *c\n";
        let pinned = pin_images(stream, &site_content(None), ImagePin::Auto).unwrap();
        assert!(pinned.pinned.is_empty(), "{}", pinned.stream);
        assert_eq!(pinned.annotated.len(), 1);
        assert!(pinned.stream.contains(&format!("app:1@{}", digest("a2"))), "{}", pinned.stream);
    }
}
