//! What a find is: the image, where it stands, and how sure it is.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use serde::Serialize;
use types::Reference;

use crate::form::{self, Shape};
use crate::manifest::{Document, Unread};
use crate::path::{Encoding, Path};

/// Everything that was found in a stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// The images in the order of the documents; one image may stand in many places.
    pub images: Vec<Found>,
    /// Image fields whose content can be no image: a chart or its values are at fault.
    pub broken: Vec<Broken>,
    /// Documents that are no YAML.
    pub unread: Vec<Unread>,
}

/// One image at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The full reference.
    pub reference: Reference,
    /// The texts that make it up, in the order of the reference.
    pub parts: Vec<Part>,
    /// Where it stands.
    pub place: Place,
    /// What kind of place that is.
    pub pattern: Pattern,
    /// How sure it is that the image will be pulled.
    pub confidence: Confidence,
    /// The values that make it up, where the chart was rendered with marked values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Path>,
    /// What a person should know about it: a rule's reason, the switch that turns it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A text that is a reference or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Where it stands in the document.
    pub path: Path,
    /// The text as it is written.
    pub text: String,
    /// What it gives to the reference.
    pub role: Role,
}

/// What a text gives to a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// All of it.
    Whole,
    /// The registry, perhaps with a path.
    Registry,
    /// The repository, perhaps with the registry.
    Repository,
    /// The last segment of the repository.
    Name,
    /// The tag.
    Tag,
    /// The digest.
    Digest,
}

/// Where a find stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The template behind the document; absent in plain manifests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The document's number in the stream, from 0.
    pub document: usize,
    /// The document's kind.
    pub kind: String,
    /// The document's name.
    pub name: String,
    /// The path in the document.
    pub path: Path,
}

/// What kind of place an image was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
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
    /// An operator pulls it for what was rendered, says a rule.
    Rule,
    /// Chart.yaml names it.
    Hint,
    /// A value that was not rendered.
    Value,
}

/// How sure it is that an image will be pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// A value that was not rendered, or a hint.
    Possible,
    /// An operator or a program will start it.
    Likely,
    /// The kubelet will pull it.
    Certain,
}

/// An image field that holds no image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Where it stands.
    pub place: Place,
    /// What stands there.
    pub text: String,
    /// Why it is no image.
    pub reason: String,
}

impl Findings {
    /// The images, each once, that are found with at least this confidence.
    pub fn references(&self, at_least: Confidence) -> BTreeSet<&Reference> {
        let sure = |found: &&Found| found.confidence >= at_least;
        self.images.iter().filter(sure).map(|found| &found.reference).collect()
    }
}

impl Found {
    /// A find with nothing said beside it.
    pub(crate) fn new(
        reference: Reference,
        parts: Vec<Part>,
        place: Place,
        pattern: Pattern,
        confidence: Confidence,
    ) -> Self {
        Self { reference, parts, place, pattern, confidence, values: vec![], note: None }
    }

    /// Why this counts as an image, in a sentence or two.
    pub fn explain(&self) -> String {
        let why = match self.pattern {
            Pattern::Pod => "a container or image volume of a pod: the kubelet pulls it",
            Pattern::CustomResource => {
                "a field of a custom resource that names an image: its operator starts it"
            }
            Pattern::Argument => "an argument of a container that names an image",
            Pattern::Environment => "an environment variable that names an image",
            Pattern::Text => "a text of a ConfigMap or Secret that names an image",
            Pattern::Annotation => "an annotation that names an image",
            Pattern::CrdDefault => {
                "a default in a CustomResourceDefinition, used where a resource does not say"
            }
            Pattern::Rule => "an operator has it compiled in, says a rule",
            Pattern::Hint => "Chart.yaml names it",
            Pattern::Value => "a value that looks like an image and was not rendered",
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(template) = &self.template {
            write!(f, "{template}: ")?;
        }
        write!(f, "{} {}", self.kind, self.name)?;
        if self.path == Path::default() { Ok(()) } else { write!(f, ": {}", self.path) }
    }
}

impl Confidence {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
            Self::Possible => "possible",
        }
    }
}

impl Pattern {
    /// What reports call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "container",
            Self::CustomResource => "custom resource",
            Self::Argument => "argument",
            Self::Environment => "environment",
            Self::Text => "text",
            Self::Annotation => "annotation",
            Self::CrdDefault => "default of a CRD",
            Self::Rule => "rule",
            Self::Hint => "hint in Chart.yaml",
            Self::Value => "value that was not rendered",
        }
    }
}

/// Gathers the finds of one document.
pub(crate) struct Collector<'a> {
    index: usize,
    document: &'a Document,
    findings: &'a mut Findings,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(index: usize, document: &'a Document, findings: &'a mut Findings) -> Self {
        Self { index, document, findings }
    }

    pub(crate) fn place(&self, path: Path) -> Place {
        Place {
            template: self.document.template.clone(),
            document: self.index,
            kind: self.document.kind().to_owned(),
            name: self.document.name().to_owned(),
            path,
        }
    }

    /// Adds the image of a field that must hold one; a text that is none is broken.
    pub(crate) fn field(&mut self, path: Path, text: &str, pattern: Pattern, sure: Confidence) {
        match form::image(text) {
            Some((reference, _)) => self.add(path, text, reference, pattern, sure),
            // Istio's injector replaces it in the running cluster; empty means a default.
            None if matches!(text.trim(), "" | "auto") => {}
            None => {
                let reason = match text.trim().parse::<Reference>() {
                    Ok(_) => "it is a version or a key word".to_owned(),
                    Err(error) => error.to_string(),
                };
                let place = self.place(path);
                self.findings.broken.push(Broken { place, text: text.to_owned(), reason });
            }
        }
    }

    /// Adds the image of a field that may hold one, if its form says at least `shape`.
    pub(crate) fn maybe(
        &mut self,
        path: Path,
        text: &str,
        shape: Shape,
        pattern: Pattern,
        sure: Confidence,
    ) -> Option<()> {
        let (reference, found) = form::image(text)?;
        (found >= shape && !form::is_address(text))
            .then(|| self.add(path, text, reference, pattern, sure))
    }

    /// Adds an image that several texts make up.
    pub(crate) fn composed(
        &mut self,
        reference: Reference,
        parts: Vec<Part>,
        pattern: Pattern,
        confidence: Confidence,
    ) {
        let Some(path) = parts.first().map(|part| part.path.clone()) else { return };
        // Without a version nobody can say which image it is.
        let has_version =
            parts.iter().any(|part| matches!(part.role, Role::Tag | Role::Digest | Role::Whole));
        let confidence = if has_version { confidence } else { Confidence::Possible };
        let place = self.place(path);
        self.push(Found::new(reference, parts, place, pattern, confidence));
    }

    /// The number of finds so far; a mark for [`Collector::move_below`].
    pub(crate) fn len(&self) -> usize {
        self.findings.images.len()
    }

    /// Moves the finds since `mark`, which were found in a structure of its own, to where that
    /// structure stands: the values of a Secret below `data`, behind base64.
    pub(crate) fn move_below(&mut self, mark: usize, path: &Path, is_base64: bool) {
        let moved = |own: &Path| {
            let mut steps = own.steps().iter().cloned();
            let mut all = steps.next().into_iter().fold(path.clone(), |path, step| path.then(step));
            if is_base64 {
                all = all.inside(Encoding::Base64);
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

    fn add(
        &mut self,
        path: Path,
        text: &str,
        reference: Reference,
        pattern: Pattern,
        confidence: Confidence,
    ) {
        let part = Part { path: path.clone(), text: text.trim().to_owned(), role: Role::Whole };
        let place = self.place(path);
        self.push(Found::new(reference, vec![part], place, pattern, confidence));
    }

    pub(crate) fn push(&mut self, found: Found) {
        // A place that two finders know is one find; the surer one was asked first.
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
