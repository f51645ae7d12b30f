//! Finds every image that rendered manifests name, with the place where each stands and how sure
//! it is that it will be pulled. Each kind of place is a module of its own.

mod found;
mod pods;

pub use found::{Broken, Confidence, Findings, Found, Part, Pattern, Place, Role};

use crate::manifest::{Document, Manifests};
use found::Collector;

/// Finds the images in a rendered stream: what `helm template`, `kustomize build` or a person wrote.
pub fn images(rendered: &str) -> Findings {
    in_manifests(&Manifests::read(rendered))
}

/// Finds the images in manifests that are already read.
pub fn in_manifests(manifests: &Manifests) -> Findings {
    let mut findings = Findings { unread: manifests.unread.clone(), ..Findings::default() };
    for (index, document) in manifests.documents.iter().enumerate() {
        in_document(document, &mut Collector::new(index, document, &mut findings));
    }
    findings
}

fn in_document(document: &Document, collector: &mut Collector) {
    pods::find(&document.value, collector);
}
