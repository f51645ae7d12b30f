//! Splits and parses a stream of manifests from helm, kustomize or a person, and notes the template
//! that each document comes from. The only module of this crate that reads rendered YAML (with the
//! help of `definition_text`); all others work on the parsed documents.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::Value;
use types::yaml::DocumentFault;

use crate::definition_text::read_definition_head;

/// The annotation in which helm 4 passes the template of a document to a post-renderer
/// (helm, `pkg/action/action.go`, `filenameAnnotation`).
const FILE: &str = "postrenderer.helm.sh/postrender-filename";

/// One document of a stream of manifests.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestDocument {
    /// The template that it was rendered from, as helm's `# Source:` line or helm 4's annotation
    /// for post-renderers says; absent in plain manifests.
    pub template: Option<String>,
    /// Its text, without the separator.
    pub text: String,
    /// Its parsed content.
    pub value: Value,
}

/// A document that is not valid YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableDocument {
    /// The template that it was rendered from.
    pub template: Option<String>,
    /// The line of the stream that it starts at, from 1.
    pub line: usize,
    /// Where in the document, and what is wrong.
    pub reason: DocumentFault,
}

/// A parsed stream of manifests.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifests {
    /// The documents in their order; empty ones are left out.
    pub documents: Vec<ManifestDocument>,
    /// The documents that could not be parsed. Nothing can be proven about their images, so callers
    /// must report them.
    pub unread: Vec<UnreadableDocument>,
}

impl ManifestDocument {
    /// The document's kind; empty if it has none.
    pub fn kind(&self) -> &str {
        self.value.get("kind").and_then(Value::as_str).unwrap_or_default()
    }

    /// `apiVersion` without the version: `apps`; empty for the core group.
    pub fn group(&self) -> &str {
        api_group(&self.value)
    }

    /// Whether it is a helm hook, which helm runs before or after the release and does not count as
    /// a part of it.
    pub fn is_hook(&self) -> bool {
        self.annotation("helm.sh/hook").is_some()
    }

    /// Whether it comes from a file in the `crds/` folder of the chart or of a sub-chart. helm does not
    /// render these files, so no value changes them, and does not pass them to a post-renderer.
    pub fn is_definition_file(&self) -> bool {
        self.template.as_deref().is_some_and(is_definition_path)
    }

    /// The name in the metadata; empty if there is none.
    pub fn name(&self) -> &str {
        self.metadata_text("name")
    }

    /// The namespace in the metadata; empty if there is none.
    pub fn namespace(&self) -> &str {
        self.metadata_text("namespace")
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.value.get("metadata")?.get("annotations")?.get(name)?.as_str()
    }

    fn metadata_text(&self, key: &str) -> &str {
        let metadata = self.value.get("metadata");
        metadata.and_then(|m| m.get(key)).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Manifests {
    /// Parses a stream. A document that is not valid YAML does not hide the others.
    pub fn read(stream: &str) -> Self {
        Self::read_documents(stream, parse_yaml)
    }

    /// Parses what a chart renders to, for its images: of large custom resource definitions only the
    /// head, with `spec` as a text.
    pub fn read_render(stream: &str) -> Self {
        Self::read_reusing(stream, &Self::default())
    }

    /// Returns the same manifests, or an error about the first document that could not be parsed.
    pub(crate) fn require_readable(self) -> crate::Result<Self> {
        match self.unread.first() {
            Some(unread) => Err(crate::Error::Unread {
                template: unread.template.clone().unwrap_or_else(|| "a document".into()),
                line: unread.line,
                fault: unread.reason.clone(),
            }),
            None => Ok(self),
        }
    }

    /// Parses another render of the same chart, as [`Manifests::read_render`] does. Documents with the
    /// same text as in `other` take their content from there: parsing is the most expensive part, and
    /// renders differ in few documents. If the stream has no files of `crds/`, they are those of `other`:
    /// values do not change them, so helm needs to print them once only.
    pub fn read_reusing(stream: &str, other: &Self) -> Self {
        let known: HashMap<&str, &Value> =
            other.documents.iter().map(|d| (d.text.as_str(), &d.value)).collect();
        let mut manifests = Self::read_documents(stream, |text| match known.get(text) {
            Some(value) => Ok((*value).clone()),
            None => read_definition_head(text).map_or_else(|| parse_yaml(text), Ok),
        });
        if !manifests.documents.iter().any(ManifestDocument::is_definition_file) {
            let files = other.documents.iter().filter(|document| document.is_definition_file());
            manifests.documents.splice(0..0, files.cloned());
        }
        manifests
    }

    fn read_documents(stream: &str, parse: impl Fn(&str) -> Result<Value, DocumentFault>) -> Self {
        let mut manifests = Self::default();
        let mut definition_file: Option<String> = None;
        for (line, text) in split_documents(stream) {
            let source = find_source_comment(text);
            if source.is_some() {
                definition_file = source.clone().filter(|path| is_definition_path(path));
            }
            // helm prints a file of `crds/` as it is, with one comment for all documents in it.
            let template = source.or_else(|| definition_file.clone());
            match parse(text) {
                // Templates whose condition is false render to comments and blank lines.
                Ok(Value::Null) => {}
                Ok(value) => {
                    let mut document = ManifestDocument { template, text: text.to_owned(), value };
                    if document.template.is_none() {
                        document.template = document.annotation(FILE).map(str::to_owned);
                    }
                    manifests.documents.push(document);
                }
                Err(reason) => manifests.unread.push(UnreadableDocument { template, line, reason }),
            }
        }
        manifests
    }

    /// The byte range of each document in `stream`, the text that they were parsed from.
    pub(crate) fn document_ranges(&self, stream: &str) -> Vec<Range<usize>> {
        let mut documents = self.documents.iter().peekable();
        // Splitting again gives the same texts; those without a document were empty or unreadable.
        let own = split_documents(stream).filter_map(|(_, text)| {
            documents.next_if(|document| document.text == text)?;
            let start = text.as_ptr().addr() - stream.as_ptr().addr();
            Some(start..start + text.len())
        });
        own.collect()
    }
}

/// `apiVersion` of an object without the version: `apps`; empty for the core group.
pub(crate) fn api_group(object: &Value) -> &str {
    let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    version.split_once('/').map_or("", |(group, _)| group)
}

/// Parses one YAML document as the API server does. The error says where and what is wrong.
pub(crate) fn parse_yaml(text: &str) -> Result<Value, DocumentFault> {
    types::yaml::read_manifest(text)
}

/// Splits a stream into documents, each with the number of its first line, from 1. Splitting first
/// and parsing then keeps one broken document from ending the whole stream.
pub(crate) fn split_documents(stream: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = stream;
    let mut line = 1;
    let mut is_done = false;
    std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        let start_line = line;
        let mut offset = 0;
        for text in rest.split_inclusive('\n') {
            line += 1;
            let end = offset + text.len();
            if is_separator(text) {
                let document = &rest[..offset];
                rest = &rest[end..];
                return Some((start_line, document));
            }
            offset = end;
        }
        is_done = true;
        Some((start_line, rest))
    })
}

/// Whether a line separates documents: `---`, alone or with a comment behind it. A `---` that
/// starts a document on its own line (`--- {a: 1}`) is not written by helm or kustomize.
fn is_separator(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.trim().is_empty() || rest.trim_start().starts_with('#'))
}

/// Whether a template's path is that of a file in the `crds/` folder of a chart:
/// `top/charts/sub/crds/x.yaml`. A sub-chart may be called `crds` itself.
pub(crate) fn is_definition_path(template: &str) -> bool {
    let mut folders = template.split('/');
    let mut folder = folders.next().and_then(|_| folders.next());
    while folder == Some("charts") {
        folder = folders.next().and_then(|_| folders.next());
    }
    folder == Some("crds")
}

/// The template in helm's comment `# Source: chart/templates/x.yaml` at the head of a document.
fn find_source_comment(text: &str) -> Option<String> {
    text.lines()
        .take_while(|line| line.starts_with('#') || line.trim().is_empty())
        .find_map(|line| line.strip_prefix("# Source: "))
        .map(|template| template.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helm_stream_is_cut_into_documents_with_their_templates() {
        let stream = "---\n# Source: a/templates/x.yaml\nkind: Pod\nmetadata: {name: p}\n---\n\
                      # Source: a/templates/empty.yaml\n---\n# Source: b\na: |\n  x\n  --- y\n";
        let read = Manifests::read(stream);
        assert_eq!(read.documents.len(), 2);
        assert_eq!(read.documents[0].template.as_deref(), Some("a/templates/x.yaml"));
        assert_eq!((read.documents[0].kind(), read.documents[0].name()), ("Pod", "p"));
        assert_eq!(read.documents[1].value["a"], "x\n--- y\n");
    }

    #[test]
    fn what_helm_4_hands_to_a_post_renderer_has_its_template_in_an_annotation() {
        let annotation = "postrenderer.helm.sh/postrender-filename: a/templates/x.yaml";
        let stream = format!("kind: Pod\nmetadata: {{annotations: {{{annotation}}}}}\n");
        let read = Manifests::read(&stream);
        assert_eq!(read.documents[0].template.as_deref(), Some("a/templates/x.yaml"));
    }

    #[test]
    fn a_broken_document_is_named_and_does_not_hide_the_others() {
        let read = Manifests::read("kind: A\n---\n# Source: t\na: b: c\n---\nkind: B\n");
        assert_eq!(read.documents.len(), 2);
        assert_eq!(read.unread[0].line, 3);
        assert_eq!(read.unread[0].template.as_deref(), Some("t"));
    }

    #[test]
    fn a_further_render_is_read_as_if_it_were_the_first() {
        let first = Manifests::read("---\n# Source: t\nkind: A\n---\nkind: B\n");
        let stream = "---\n# Source: t\nkind: A\n---\nkind: B\nx: 1\n---\nkind: C\n";
        assert_eq!(Manifests::read_reusing(stream, &first), Manifests::read(stream));
    }

    #[test]
    fn files_of_crds_are_those_of_the_first_render() {
        let crd = |path: &str| format!("---\n# Source: {path}\nkind: CustomResourceDefinition\n");
        let file = crd("a/charts/crds/crds/x.yaml");
        let template = crd("a/charts/crds/templates/x.yaml");
        let pod = "---\n# Source: a/templates/p.yaml\nkind: Pod\n";
        let first = Manifests::read(&format!("{file}{template}{pod}"));
        let files: Vec<bool> =
            first.documents.iter().map(ManifestDocument::is_definition_file).collect();
        assert_eq!(files, [true, false, false]);
        // helm prints a file as it is: with its own separators.
        let several = "---\n# Source: a/crds/x.yaml\n---\nkind: A\n---\nkind: B\n---\n# Source: a/templates/c\nkind: C\n";
        let read = Manifests::read(several);
        let files: Vec<bool> =
            read.documents.iter().map(ManifestDocument::is_definition_file).collect();
        assert_eq!(files, [true, true, false]);
        assert_eq!(Manifests::read_reusing(&format!("{template}{pod}"), &first), first);
        assert_eq!(Manifests::read_reusing(&format!("{file}{pod}"), &first).documents.len(), 2);
    }

    #[test]
    fn anchors_merges_and_duplicate_keys_are_read_as_kubernetes_does() {
        let read = Manifests::read("x: &x {a: 1}\ny: {<<: *x, b: 2}\nz: 1\nz: 2\n1: word\n");
        assert_eq!(read.documents[0].value["y"]["a"], 1);
        assert_eq!(read.documents[0].value["z"], 2);
        assert_eq!(read.documents[0].value["1"], "word");
    }
}
