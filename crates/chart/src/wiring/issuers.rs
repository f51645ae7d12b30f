//! Issuers of certificates that no value reaches: annotations of cert-manager become the site's
//! issuer; an issuer that asks the internet is told.

use serde_json::Value;

use super::pods::text;
use super::{Leftover, Patch};
use crate::manifest::Manifests;

/// cert-manager's annotation (cert-manager.io/docs, Annotated Ingress resource).
const ANNOTATION: &str = "cert-manager.io/cluster-issuer";

/// What is found about issuers.
#[derive(Debug, Default)]
pub(super) struct Issuers {
    pub(super) patches: Vec<Patch>,
    pub(super) leftovers: Vec<Leftover>,
}

/// Looks at a render for issuers that are not the site's.
pub(super) fn find(manifests: &Manifests, issuer: Option<&str>) -> Issuers {
    let mut found = Issuers::default();
    let hint = issuer.unwrap_or("the site's own (clusterIssuer of site.yaml)");
    for document in &manifests.documents {
        let place = format!("{} {}", document.kind(), document.name());
        if let Some(server) = document.value.pointer("/spec/acme/server").and_then(Value::as_str)
            && document.group() == "cert-manager.io"
        {
            found.leftovers.push(Leftover {
                place: place.clone(),
                what: format!("an issuer that asks {server}"),
                next: format!("turn it off in the chart's values, and use {hint}"),
            });
        }
        let Some(issuer) = issuer else { continue };
        let annotations = document.value.get("metadata").and_then(|m| m.get("annotations"));
        let own = annotations.map(|own| text(own, ANNOTATION)).unwrap_or_default();
        if !own.is_empty() && own != issuer {
            found.patches.push(Patch {
                kind: document.kind().to_owned(),
                name: document.name().to_owned(),
                hook: document.is_hook(),
                annotations: [(ANNOTATION.to_owned(), issuer.to_owned())].into(),
                ..Patch::default()
            });
        }
        let reference = document.value.pointer("/spec/issuerRef");
        if let Some(reference) = reference.filter(|_| document.group() == "cert-manager.io")
            && text(reference, "kind") == "ClusterIssuer"
            && text(reference, "name") != issuer
        {
            found.leftovers.push(Leftover {
                place,
                what: format!("its issuer is {}", text(reference, "name")),
                next: format!("set the value behind it to {issuer}"),
            });
        }
    }
    found
}
