//! What is wrong with a document of a set of manifests: each with its place and the next step.

use std::fmt;

use types::yaml::DocumentFault;

/// A document in one of the files of a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocumentPlace {
    /// The file, or the kustomization, as the user named it.
    pub file: String,
    /// The number of the document in it, from 1; empty documents do not count.
    pub number: usize,
    /// The line that it starts at, from 1.
    pub line: usize,
}

impl fmt::Display for DocumentPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {} (line {})", self.file, self.number, self.line)
    }
}

/// Why a set of manifests cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestFault {
    /// A document is not valid YAML.
    #[error("{place} is not valid YAML: {fault}")]
    InvalidYaml {
        /// The document.
        place: DocumentPlace,
        /// Where in the document, and what is wrong.
        fault: DocumentFault,
    },
    /// A document has templates or placeholders in it.
    #[error(
        "{place} has a template in it ({text}), and manifests are taken as they are; render it first \
         (helm template, envsubst) and list the result, or list the chart under charts:"
    )]
    Template {
        /// The document.
        place: DocumentPlace,
        /// The template, shortened.
        text: String,
    },
    /// A `List` holds a `List`.
    #[error(
        "{place} has a List inside a List (items[{index}]), which kubectl does not take apart; write its \
         objects as documents of their own, with --- between them"
    )]
    NestedList {
        /// The document.
        place: DocumentPlace,
        /// The index of the inner list.
        index: usize,
    },
    /// A document is no Kubernetes object.
    #[error("{place} is not a Kubernetes object: it has no {missing}{hint}")]
    NotAnObject {
        /// The document.
        place: DocumentPlace,
        /// What it lacks: `kind`.
        missing: &'static str,
        /// The next step, with its separator; empty where nothing more can be said.
        hint: &'static str,
    },
    /// A document is a kustomization, which has to be built.
    #[error("{place} is a kustomization; name its folder instead: {{kustomize: FOLDER}}")]
    Kustomization {
        /// The document.
        place: DocumentPlace,
    },
    /// Two documents are the same object: one would overwrite the other.
    #[error("{object} is in two documents: {first}, and {second}; remove one of the two")]
    Repeated {
        /// The object.
        object: String,
        /// The first document.
        first: DocumentPlace,
        /// The second one.
        second: DocumentPlace,
    },
    /// There is no object at all.
    #[error(
        "there is no Kubernetes object in {files}; name files with manifests (apiVersion, kind)"
    )]
    Empty {
        /// The files.
        files: String,
    },
}
