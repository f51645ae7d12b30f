//! The result types of the finders (image, location, confidence) and the collector that gathers the
//! results of one document.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::Serialize;
use types::Reference;

use super::positions;
use crate::image_names::name_length;
use crate::manifest::{ManifestDocument, UnreadableDocument};
use crate::path::{DocumentPath, TextEncoding};
use crate::reference_shape::{self, ReferenceShape};

/// Everything that was found in one stream of manifests.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageScan {
    /// The images in the order of the documents, one entry for each location; the same image may
    /// have many.
    pub images: Vec<FoundImage>,
    /// Image fields whose content cannot be an image: an error in the chart or its values.
    pub broken: Vec<BrokenImageField>,
    /// Documents that are not valid YAML.
    pub unread: Vec<UnreadableDocument>,
}

/// One image at one location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct FoundImage {
    /// The full reference.
    pub reference: Reference,
    /// The texts that the reference is composed of, in the order registry, repository, tag, digest.
    pub parts: Vec<ReferencePart>,
    /// The location of its first text.
    #[serde(rename = "location")]
    pub place: ManifestLocation,
    /// The kind of location.
    #[serde(rename = "locationKind")]
    pub pattern: LocationKind,
    /// How certain it is that the image will be pulled.
    pub confidence: Confidence,
    /// The chart values that the reference comes from. Known only if the chart was rendered with
    /// marked values, see [`crate::inspect`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<DocumentPath>,
    /// A remark for people: a rule's reason, or the value that would enable it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A text in a document that is an image reference or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ReferencePart {
    /// Its path in the document.
    pub path: DocumentPath,
    /// The text as it is written.
    pub text: String,
    /// Which part of the reference it is.
    pub role: PartRole,
}

/// Which part of an image reference a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PartRole {
    /// The complete reference.
    Whole,
    /// The registry, possibly with a path: `nvcr.io/nvidia`.
    Registry,
    /// The repository, possibly with the registry in front: `quay.io/org/app`.
    Repository,
    /// The last segment of the repository.
    Name,
    /// The tag.
    Tag,
    /// The digest.
    Digest,
}

/// The location of an image or an address in a stream of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ManifestLocation {
    /// The template that rendered the document; absent in plain manifests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The document's number in the stream, from 0.
    pub document: usize,
    /// The document's kind.
    pub kind: String,
    /// The document's name.
    pub name: String,
    /// The path in the document.
    pub path: DocumentPath,
}

/// The kind of location that an image was found in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum LocationKind {
    /// A container or image volume of a pod.
    Pod,
    /// A field of a custom resource.
    CustomResource,
    /// An argument or a command of a container.
    Argument,
    /// An environment variable.
    Environment,
    /// The data of a ConfigMap or Secret.
    Text,
    /// An annotation.
    Annotation,
    /// A default in a CustomResourceDefinition.
    CrdDefault,
    /// Nowhere in the manifests: a rule says that an operator pulls it for one of them.
    Rule,
    /// An annotation of Chart.yaml.
    Hint,
    /// A value of the chart that did not get into any manifest.
    Value,
}

/// How certain it is that an image will be pulled. Ordered: `Certain` is the highest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Only named: a value that was not rendered, an annotation of Chart.yaml.
    Possible,
    /// An operator or a program is configured with it and will start it.
    Likely,
    /// It is in a pod's specification: the kubelet will pull it.
    Certain,
}

/// An image field whose content is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct BrokenImageField {
    /// The location of the field.
    #[serde(rename = "location")]
    pub place: ManifestLocation,
    /// Its content.
    pub text: String,
    /// Why that is not an image reference.
    pub reason: String,
}

impl ImageScan {
    /// The distinct images that were found with at least this confidence.
    pub fn references_at_least(&self, at_least: Confidence) -> BTreeSet<&Reference> {
        let sure = |found: &&FoundImage| found.confidence >= at_least;
        self.images.iter().filter(sure).map(|found| &found.reference).collect()
    }

    /// The paths of the texts that images are composed of, by the number of their document.
    pub(crate) fn paths_by_document(&self) -> BTreeMap<usize, BTreeSet<&DocumentPath>> {
        let mut paths: BTreeMap<usize, BTreeSet<&DocumentPath>> = BTreeMap::new();
        for found in &self.images {
            let own = paths.entry(found.place.document).or_default();
            own.extend(found.parts.iter().map(|part| &part.path));
        }
        paths
    }
}

impl FoundImage {
    /// An image without known values and without a note.
    pub(crate) fn new(
        reference: Reference,
        parts: Vec<ReferencePart>,
        place: ManifestLocation,
        pattern: LocationKind,
        confidence: Confidence,
    ) -> Self {
        Self { reference, parts, place, pattern, confidence, values: vec![], note: None }
    }

    /// Explains to a person why this counts as an image; several lines where it has several parts.
    pub fn explain(&self) -> String {
        let why = match self.pattern {
            LocationKind::Pod => "a container or image volume of a pod: the kubelet pulls it",
            LocationKind::CustomResource => {
                "a field of a custom resource that names an image; its operator starts it"
            }
            LocationKind::Argument => "an argument of a container that names an image",
            LocationKind::Environment => "an environment variable that names an image",
            LocationKind::Text => "a text of a ConfigMap or Secret that names an image",
            LocationKind::Annotation => "an annotation that names an image",
            LocationKind::CrdDefault => {
                "a default in a CustomResourceDefinition, used if a resource does not set the field"
            }
            LocationKind::Rule => "not in the manifests; a rule says that an operator pulls it",
            LocationKind::Hint => "an annotation of Chart.yaml lists it",
            LocationKind::Value => {
                "a value that looks like an image and is in no rendered manifest"
            }
        };
        let mut text =
            format!("{} ({}): {why}; {}", self.reference, self.confidence.as_str(), self.place);
        for part in self.parts.iter().filter(|_| self.parts.len() > 1) {
            let _ = write!(text, "\n  {} = {:?}", part.path, part.text);
        }
        if !self.values.is_empty() {
            let values: Vec<String> = self.values.iter().map(ToString::to_string).collect();
            let _ = write!(text, "\n  from the values {}", values.join(", "));
        }
        if let Some(note) = &self.note {
            let _ = write!(text, "\n  {note}");
        }
        text
    }
}

impl ManifestLocation {
    /// The location of a path in the document with this number.
    pub fn new(index: usize, document: &ManifestDocument, path: DocumentPath) -> Self {
        Self {
            template: document.template.clone(),
            document: index,
            kind: document.kind().to_owned(),
            name: document.name().to_owned(),
            path,
        }
    }
}

impl fmt::Display for ManifestLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(template) = &self.template {
            write!(f, "{template}: ")?;
        }
        write!(f, "{} {}", self.kind, self.name)?;
        if self.path == DocumentPath::default() { Ok(()) } else { write!(f, ": {}", self.path) }
    }
}

impl Confidence {
    /// The word used in reports and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
            Self::Possible => "possible",
        }
    }
}

impl LocationKind {
    /// The words used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "container",
            Self::CustomResource => "custom resource",
            Self::Argument => "argument",
            Self::Environment => "environment",
            Self::Text => "text",
            Self::Annotation => "annotation",
            Self::CrdDefault => "default in a CRD",
            Self::Rule => "rule",
            Self::Hint => "hint in Chart.yaml",
            Self::Value => "value that was not rendered",
        }
    }
}

/// Gathers the images of one document for all finders and keeps each location once.
pub(crate) struct ImageCollector<'a> {
    index: usize,
    document: &'a ManifestDocument,
    findings: &'a mut ImageScan,
    /// The names with a domain that the document has, listed when one is asked for.
    names: OnceCell<BTreeSet<String>>,
}

impl<'a> ImageCollector<'a> {
    pub(crate) fn new(
        index: usize,
        document: &'a ManifestDocument,
        findings: &'a mut ImageScan,
    ) -> Self {
        Self { index, document, findings, names: OnceCell::new() }
    }

    /// The location of a path in the current document.
    pub(crate) fn locate_path(&self, path: DocumentPath) -> ManifestLocation {
        ManifestLocation::new(self.index, self.document, path)
    }

    /// Adds the image of a field that must hold one, such as a container's `image`; any other
    /// content is reported as broken.
    pub(crate) fn add_required_image(
        &mut self,
        path: DocumentPath,
        text: &str,
        pattern: LocationKind,
        sure: Confidence,
    ) {
        match reference_shape::parse_image(text) {
            Some((reference, _)) => self.add_whole_image(path, text, reference, pattern, sure),
            // Istio's sidecar injector replaces `auto` in the running cluster; an empty field is
            // left to a default of the API server or of an admission webhook.
            None if matches!(text.trim(), "" | "auto") => {}
            None => {
                let reason = match text.trim().parse::<Reference>() {
                    Ok(_) => "it is a version number or a keyword, not an image".to_owned(),
                    Err(error) => error.to_string(),
                };
                let place = self.locate_path(path);
                self.findings.broken.push(BrokenImageField {
                    place,
                    text: text.to_owned(),
                    reason,
                });
            }
        }
    }

    /// Adds the image of a field that may hold one, if the text has at least the parts of `shape`.
    /// `None` if nothing was added.
    pub(crate) fn add_optional_image(
        &mut self,
        path: DocumentPath,
        text: &str,
        shape: ReferenceShape,
        pattern: LocationKind,
        sure: Confidence,
    ) -> Option<()> {
        let (reference, found) = reference_shape::parse_image(text)?;
        // Where the key does not say so, a name that the document uses for a label is one of those.
        // No label has a digest.
        let may_be_name = shape == ReferenceShape::Full && !text.contains('@');
        let is_other = reference_shape::is_host_and_port(text)
            || reference_shape::is_kubernetes_name(text)
            || may_be_name && self.is_qualified_name(&text.trim()[..name_length(text.trim())]);
        (found >= shape && !is_other)
            .then(|| self.add_whole_image(path, text, reference, pattern, sure))
    }

    /// Whether the document uses a text as the name of a label, a resource, a taint or the like.
    fn is_qualified_name(&self, name: &str) -> bool {
        let names = || positions::list_qualified_names(&self.document.value);
        // Such a name has one slash, behind its domain.
        name.matches('/').count() == 1 && self.names.get_or_init(names).contains(name)
    }

    /// Adds an image that is composed of several texts.
    pub(crate) fn add_composed_image(
        &mut self,
        reference: Reference,
        parts: Vec<ReferencePart>,
        pattern: LocationKind,
        confidence: Confidence,
    ) {
        let Some(path) = parts.first().map(|part| part.path.clone()) else { return };
        // Without tag or digest the program that reads the parts chooses the version, which cannot
        // be known here.
        let has_version = parts
            .iter()
            .any(|part| matches!(part.role, PartRole::Tag | PartRole::Digest | PartRole::Whole));
        let confidence = if has_version { confidence } else { Confidence::Possible };
        let place = self.locate_path(path);
        let mut found = FoundImage::new(reference, parts, place, pattern, confidence);
        if !has_version {
            found.note = Some("no tag stands with it: the program that reads it adds one".into());
        }
        self.push_once(found);
    }

    /// The number of images so far; remembered as the mark for [`ImageCollector::move_images_below`].
    pub(crate) fn len(&self) -> usize {
        self.findings.images.len()
    }

    /// Rewrites the paths of the images that were added since `mark`. They were found in a
    /// temporary structure; afterwards they name the real location: an entry of a Secret below
    /// `data`, behind base64.
    pub(crate) fn move_images_below(&mut self, mark: usize, path: &DocumentPath, is_base64: bool) {
        let moved = |own: &DocumentPath| {
            // The first step is the key of the entry, which is outside of the base64 text.
            let mut steps = own.steps().iter().cloned();
            let mut all = steps.next().into_iter().fold(path.clone(), |path, step| path.then(step));
            if is_base64 {
                all = all.inside(TextEncoding::Base64);
            }
            steps.fold(all, |path, step| path.then(step))
        };
        for found in &mut self.findings.images[mark..] {
            found.place.path = moved(&found.place.path);
            for part in &mut found.parts {
                part.path = moved(&part.path);
            }
        }
    }

    /// Adds an image whose reference is one text.
    fn add_whole_image(
        &mut self,
        path: DocumentPath,
        text: &str,
        reference: Reference,
        pattern: LocationKind,
        confidence: Confidence,
    ) {
        let part = ReferencePart {
            path: path.clone(),
            text: text.trim().to_owned(),
            role: PartRole::Whole,
        };
        let place = self.locate_path(path);
        self.push_once(FoundImage::new(reference, vec![part], place, pattern, confidence));
    }

    /// Adds an image unless the same one is already known at this location.
    pub(crate) fn push_once(&mut self, found: FoundImage) {
        // Two finders may know the same location; the one with the higher confidence ran first.
        // Only the images of the current document, which are the last ones, need to be compared.
        let is_known = self
            .findings
            .images
            .iter()
            .rev()
            .take_while(|f| f.place.document == self.index)
            .any(|f| f.place.path == found.place.path && f.reference == found.reference);
        if !is_known {
            self.findings.images.push(found);
        }
    }
}
