//! Finds cert-manager issuers in a render that are not the site's. Annotations get a patch to the
//! site's issuer; ACME issuers, which need the internet, and fixed references become leftovers.

use serde_json::Value;

use super::offline_wiring::WiringLeftover;
use super::patch::ObjectPatch;
use super::pods::text_field;
use crate::manifest::Manifests;

/// The annotation that chooses a ClusterIssuer (cert-manager.io/docs/usage/ingress).
const ANNOTATION: &str = "cert-manager.io/cluster-issuer";

/// The patches and leftovers for issuers.
#[derive(Debug, Default)]
pub(super) struct IssuerFindings {
    pub(super) patches: Vec<ObjectPatch>,
    pub(super) leftovers: Vec<WiringLeftover>,
}

/// Finds the issuers in a render that are not the site's. Without an `issuer` of the site, only
/// ACME servers are reported.
pub(super) fn find_foreign_issuers(manifests: &Manifests, issuer: Option<&str>) -> IssuerFindings {
    let mut found = IssuerFindings::default();
    let hint = issuer.unwrap_or("the site's own issuer (clusterIssuer in site.yaml)");
    for document in &manifests.documents {
        let place = format!("{} {}", document.kind(), document.name());
        // The issuer itself: it would ask an ACME server such as Let's Encrypt.
        if let Some(server) = document.value.pointer("/spec/acme/server").and_then(Value::as_str)
            && document.group() == "cert-manager.io"
        {
            found.leftovers.push(WiringLeftover {
                place: place.clone(),
                what: format!("this issuer requests certificates from {server}"),
                next: format!("disable it in the chart's values and use {hint}"),
            });
        }
        let Some(issuer) = issuer else { continue };
        let annotations = document.value.get("metadata").and_then(|m| m.get("annotations"));
        let own = annotations.map(|own| text_field(own, ANNOTATION)).unwrap_or_default();
        if !own.is_empty() && own != issuer {
            found.patches.push(ObjectPatch {
                kind: document.kind().to_owned(),
                name: document.name().to_owned(),
                namespace: Some(document.namespace().to_owned()).filter(|own| !own.is_empty()),
                hook: document.is_hook(),
                annotations: [(ANNOTATION.to_owned(), issuer.to_owned())].into(),
                ..ObjectPatch::default()
            });
        }
        // A Certificate names its issuer in its spec, which patches do not change.
        let reference = document.value.pointer("/spec/issuerRef");
        if let Some(reference) = reference.filter(|_| document.group() == "cert-manager.io")
            && text_field(reference, "kind") == "ClusterIssuer"
            && text_field(reference, "name") != issuer
        {
            found.leftovers.push(WiringLeftover {
                place,
                what: format!(
                    "it uses the ClusterIssuer {}, which is not the site's",
                    text_field(reference, "name")
                ),
                next: format!("set the value of the chart that names the issuer to {issuer}"),
            });
        }
    }
    found
}
