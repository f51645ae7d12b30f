//! Finds registries that stand alone in a configuration: `container-registry: quay.io`,
//! `OPERANDS_REGISTRY=ghcr.io/org`, `--registry=docker.io`. The program that reads one puts names of
//! images behind it, which no manifest shows, so what is found here is no image.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{names, positions};
use crate::edit::embedded::parse_embedded;
use crate::manifest::ManifestDocument;
use crate::path::{DocumentPath, TextEncoding};
use crate::texts::decode_secret_data;

/// Public registries, by their hosts. Under a key such as `schema-registry` a host may be anything,
/// so only these count.
const HOSTS: &[&str] = &[
    "cgr.dev",
    "container-registry.oracle.com",
    "docker.elastic.co",
    "docker.io",
    "gcr.io",
    "ghcr.io",
    "icr.io",
    "index.docker.io",
    "lscr.io",
    "mcr.microsoft.com",
    "nvcr.io",
    "public.ecr.aws",
    "quay.io",
    "reg.kyverno.io",
    "registry-1.docker.io",
    "registry.access.redhat.com",
    "registry.connect.redhat.com",
    "registry.gitlab.com",
    "registry.k8s.io",
    "registry.redhat.io",
    "xpkg.upbound.io",
];

/// The ends of the hosts of registries that have one for each customer or region.
const ENDINGS: &[&str] = &[".azurecr.io", ".gcr.io", ".pkg.dev"];

/// The registries that a document names, with their paths. `taken` are the paths of texts that are
/// parts of an image.
pub(crate) fn find_registries(
    document: &ManifestDocument,
    taken: &BTreeSet<&DocumentPath>,
) -> Vec<(DocumentPath, String)> {
    let mut search = RegistrySearch { document, taken, found: Vec::new() };
    // Schemas describe fields; nothing reads them as a configuration.
    if document.kind() != "CustomResourceDefinition" && may_name_registries(&document.text) {
        search.search_value(&document.value, &DocumentPath::default());
    }
    search.found
}

/// Whether a text is a public registry, alone or with a path: `quay.io`, `ghcr.io/org/`.
pub(crate) fn is_public_registry(text: &str) -> bool {
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    let is_path = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._/".contains(&b);
    let is_host = HOSTS.contains(&host) || ENDINGS.iter().any(|ending| host.ends_with(ending));
    is_host && path.bytes().all(is_path)
}

/// A cheap test that saves the search through most documents. Secrets are encoded.
fn may_name_registries(text: &str) -> bool {
    text.contains("kind: Secret") || names::may_name_images(text)
}

struct RegistrySearch<'a> {
    document: &'a ManifestDocument,
    taken: &'a BTreeSet<&'a DocumentPath>,
    found: Vec<(DocumentPath, String)>,
}

impl RegistrySearch<'_> {
    fn search_value(&mut self, value: &Value, path: &DocumentPath) {
        match value {
            Value::Object(map) => {
                // A variable has its name beside its value.
                let variable = map.get("name").and_then(Value::as_str);
                for (key, value) in map {
                    if positions::is_without_images(key) || names::is_example_key(key) {
                        continue;
                    }
                    let path = path.key(key);
                    match (value, variable) {
                        (Value::String(text), Some(name)) if key == "value" => {
                            self.search_entry(name, text, &path);
                        }
                        (Value::String(text), _) => self.search_entry(key, text, &path),
                        _ => self.search_value(value, &path),
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = path.index(index);
                    match item.as_str().and_then(|text| text.split_once('=')) {
                        Some((flag, text)) if flag.starts_with('-') => {
                            self.search_entry(flag, text, &path.inside(TextEncoding::Text));
                        }
                        _ => self.search_value(item, &path),
                    }
                }
            }
            _ => {}
        }
    }

    fn search_entry(&mut self, key: &str, text: &str, path: &DocumentPath) {
        let decoded = decode_secret_data(self.document, path, text);
        let path = match &decoded {
            Some(_) => path.inside(TextEncoding::Base64),
            None => path.clone(),
        };
        let text = decoded.as_deref().unwrap_or(text);
        if names::is_registry_key(key) && is_public_registry(text) {
            if !self.taken.contains(&path) {
                self.found.push((path, text.to_owned()));
            }
        } else if names::may_name_images(text)
            && let Some((encoding, inner)) = parse_embedded(text)
        {
            self.search_value(&inner, &path.inside(encoding));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::manifest::Manifests;

    #[test]
    fn registries_are_found_in_variables_flags_and_texts_and_parts_of_images_are_none() {
        let stream = "kind: Pod\nspec: {containers: [{args: ['--registry=quay.io'], env: [{name: X_REGISTRY, value: \
            ghcr.io/org}, {name: SCHEMA_REGISTRY, value: sr.example.com}, {name: REGISTRY, value: 'quay.io/a:1'}]}]}\n---\n\
            kind: ConfigMap\ndata:\n  a.yaml: |\n    container-registry: quay.io\n    image: {registry: docker.io, repository: a/b, tag: '1'}\n";
        let read = Manifests::read(stream);
        let part = DocumentPath::default().key("data").key("a.yaml");
        let part = part.inside(TextEncoding::Yaml).key("image").key("registry");
        let taken = BTreeSet::from([&part]);
        let found: Vec<String> = read
            .documents
            .iter()
            .flat_map(|document| find_registries(document, &taken))
            .map(|(path, text)| format!("{path} {text}"))
            .collect();
        assert_eq!(
            found,
            [
                "spec.containers[0].args[0]|text| quay.io",
                "spec.containers[0].env[0].value ghcr.io/org",
                "data[\"a.yaml\"]|YAML|container-registry quay.io"
            ]
        );
    }
}
