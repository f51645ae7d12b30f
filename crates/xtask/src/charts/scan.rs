//! A plain look at a rendered stream that knows nothing of the chart crate: every word that looks
//! like an image, Secrets decoded; maps of names to images; parts of an image in custom resources;
//! and registries and repositories without a tag. What it sees and the crate does not say is a
//! defect of one of the two.

use std::collections::BTreeSet;

use base64::Engine as _;
use regex::Regex;
use serde_json::{Map, Value};
use types::Reference;

/// The scanner with its patterns.
pub(super) struct Scan {
    base64: Regex,
    full: Regex,
    field: Regex,
    image_map: Regex,
    inline_map: Regex,
    named_image: Regex,
    prefix_key: Regex,
    prefix_text: Regex,
    prefix_line: Regex,
}

impl Scan {
    pub(super) fn new() -> Result<Self, String> {
        let regex = |pattern: &str| Regex::new(pattern).map_err(|error| error.to_string());
        Ok(Self {
            base64: regex(r#"(?m)^\s+[\w.-]+: "?([A-Za-z0-9+/]{16,}={0,2})"?$"#)?,
            // host/path with a tag or a digest.
            full: regex(concat!(
                r#"(?:^|[\s"'=,\[])"#,
                r"((?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?/[a-z0-9._/-]+",
                r"(?::[A-Za-z0-9_][\w.-]*|@sha256:[0-9a-f]{64}))"
            ))?,
            // Whatever stands behind `image:`, `-image=`, `_IMAGE: ` and has a tag.
            field: regex(
                r#"(?i)image["']?(?:\s*[:=]\s*)["']?([a-z0-9][a-z0-9._/-]*:[\w][\w.-]*)["']?(?:[\s,;\]})]|$)"#,
            )?,
            // `images:` alone on its line, with names of images below it.
            image_map: regex(r#"^(\s*)(?:- )?["']?\w*[iI]mages["']?:\s*\{?\s*$"#)?,
            inline_map: regex(r#"(?i)images["']?\s*:\s*\{([^{}\n]+)\}"#)?,
            named_image: regex(
                r#"[\w.-]+(?:["']\s*:\s*|:\s+)["']?([a-z0-9][a-z0-9._-]*(?::\d+)?(?:/[a-z0-9._-]+)+:[\w][\w.-]*)["']?"#,
            )?,
            prefix_key: regex(r"(?i)(?:registry|repository|image_?repo|(?:^|[_-])hub)$")?,
            prefix_text: regex(r"^((?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?(?:/[a-z0-9._-]+)*)/?$")?,
            prefix_line: regex(concat!(
                r#"(?im)^[\s-]*["']?[\w.-]*(?:registry|repository|image_?repo)["']?\s*[:=]\s*["']?"#,
                r#"((?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?(?:/[a-z0-9._-]+)*)/?["']?,?\s*$"#
            ))?,
        })
    }

    /// The references that a stream names.
    pub(super) fn references(&self, stream: &str) -> BTreeSet<String> {
        let text = self.with_decoded_secrets(stream);
        // Schemas of CRDs are documentation.
        let documents =
            text.split("\n---").filter(|d| !d.contains("kind: CustomResourceDefinition"));
        let mut words = BTreeSet::new();
        for document in documents {
            self.add_words(document, &mut words);
            for value in types::yaml::read_manifest(document).iter().filter(|v| is_custom(v)) {
                visit_maps(value, &mut |map, _| words.extend(compose_image(map)));
            }
        }
        // Names of labels and the like have Kubernetes' domain, and no images.
        let is_label = |word: &&String| {
            let host = word.split('/').next().unwrap_or_default();
            host.ends_with("kubernetes.io")
        };
        let words = words.iter().filter(|word| !is_label(word));
        let parsed = words.filter_map(|word| word.parse::<Reference>().ok());
        parsed.map(|reference| reference.to_string()).collect()
    }

    /// The registries and repositories without a tag that a configuration names, and that a program
    /// completes: in variables, arguments and texts.
    pub(super) fn prefixes(&self, stream: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for document in split_documents(&self.with_decoded_secrets(stream)) {
            visit_maps(&document, &mut |map, _| {
                let variable = map.get("name").and_then(Value::as_str);
                for (key, value) in map {
                    let key = variable.filter(|_| key == "value").unwrap_or(key);
                    match value {
                        Value::String(text) => self.add_prefixes(key, text, &mut found),
                        Value::Array(items) => {
                            for (flag, text) in items.iter().filter_map(|item| {
                                item.as_str()?.strip_prefix('-')?.split_once('=')
                            }) {
                                self.add_prefixes(flag, text, &mut found);
                            }
                        }
                        _ => {}
                    }
                }
            });
        }
        found
    }

    /// The custom resources (kind and name) that have a tag or a version of an image and no name:
    /// their operator has the rest.
    pub(super) fn partial_images(stream: &str) -> BTreeSet<(String, String)> {
        const NAMES: &[&str] = &["repository", "registry", "name", "image", "hub"];
        let mut found = BTreeSet::new();
        for document in split_documents(stream).filter(is_custom) {
            let mut is_partial = false;
            visit_maps(&document, &mut |map, key| {
                let has =
                    |key: &str| map.get(key).and_then(Value::as_str).is_some_and(|t| !t.is_empty());
                is_partial |= key.to_lowercase().ends_with("image")
                    && (has("tag") || has("version"))
                    && !NAMES.iter().any(|name| has(name));
            });
            let text = |path: &str| {
                document.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            if is_partial {
                found.insert((text("/kind"), text("/metadata/name")));
            }
        }
        found
    }

    /// The images that an annotation of Chart.yaml lists (`artifacthub.io/images`, `helm.sh/images`).
    pub(super) fn listed_images(annotation: &str) -> BTreeSet<String> {
        let lines = annotation.lines().filter(|line| !line.trim_start().starts_with('#'));
        let words = lines.filter_map(|line| {
            let line = line.trim().trim_start_matches("- ");
            let line = line.strip_prefix("image:").unwrap_or(line).trim();
            line.trim_matches(['"', '\'']).parse::<Reference>().ok()
        });
        words.map(|reference| reference.to_string()).collect()
    }

    fn with_decoded_secrets(&self, stream: &str) -> String {
        let mut text = stream.to_owned();
        for found in self.base64.captures_iter(stream) {
            let decoded = base64::engine::general_purpose::STANDARD.decode(&found[1]);
            if let Some(decoded) = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
                text.push_str("\n---\n");
                text.push_str(&decoded);
            }
        }
        text
    }

    /// The words of the lines of a document, and what stands below `images:`.
    fn add_words(&self, document: &str, words: &mut BTreeSet<String>) {
        let mut below: Option<usize> = None;
        for line in document.lines().filter(|line| !line.trim_start().starts_with('#')) {
            for found in self.full.captures_iter(line).chain(self.field.captures_iter(line)) {
                words.insert(found[1].to_owned());
            }
            for map in self.inline_map.captures_iter(line) {
                words.extend(self.named_image.captures_iter(&map[1]).map(|f| f[1].to_owned()));
            }
            let depth = line.len() - line.trim_start().len();
            if line.trim().is_empty() {
                continue;
            }
            if below.is_some_and(|key| depth <= key) {
                below = None;
            }
            if below.is_some() {
                words.extend(self.named_image.captures(line).map(|found| found[1].to_owned()));
            } else if let Some(found) = self.image_map.captures(line) {
                below = Some(found[1].len());
            }
        }
    }

    fn add_prefixes(&self, key: &str, text: &str, found: &mut BTreeSet<String>) {
        if self.prefix_key.is_match(key) {
            for word in text.split(',') {
                found.extend(
                    self.prefix_text.captures(word.trim()).map(|found| found[1].to_owned()),
                );
            }
        } else if text.contains('\n') {
            found.extend(self.prefix_line.captures_iter(text).map(|found| found[1].to_owned()));
        }
    }
}

/// The documents of a stream that are YAML and no schemas of custom resources.
fn split_documents(stream: &str) -> impl Iterator<Item = Value> {
    let documents = stream.split("\n---");
    documents
        .filter(|document| !document.contains("kind: CustomResourceDefinition"))
        .filter_map(|document| types::yaml::read_manifest(document.trim_start_matches('-')).ok())
}

/// Whether a document is a custom resource: its API group has a domain that is not Kubernetes' own.
fn is_custom(document: &Value) -> bool {
    let version = document.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    group.contains('.') && !group.ends_with(".k8s.io")
}

/// Calls `visit` with each map and the key that it is under. Labels and annotations are left out.
fn visit_maps(value: &Value, visit: &mut impl FnMut(&Map<String, Value>, &str)) {
    let mut open = vec![(value, "")];
    while let Some((value, key)) = open.pop() {
        match value {
            Value::Object(map) => {
                visit(map, key);
                let inner =
                    map.iter().filter(|(key, _)| !matches!(key.as_str(), "labels" | "annotations"));
                open.extend(inner.map(|(key, value)| (value, key.as_str())));
            }
            Value::Array(items) => open.extend(items.iter().map(|item| (item, key))),
            _ => {}
        }
    }
}

/// The image of a map with a repository and a tag or version beside it.
fn compose_image(map: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (repository, tag) = (text("repository")?, text("tag").or(text("version"))?);
    let registry = text("registry").map(|registry| format!("{registry}/")).unwrap_or_default();
    // NVIDIA's resources have the last word of the repository apart.
    let image = text("image").map(|image| format!("/{image}")).unwrap_or_default();
    (!repository.contains("://")).then(|| format!("{registry}{repository}{image}:{tag}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_scan_sees_images_in_fields_arguments_texts_and_secrets() {
        let secret =
            base64::engine::general_purpose::STANDARD.encode("image: quay.io/a/hidden:1\n");
        let stream = format!(
            "image: nginx:1\nargs: [--x=ghcr.io/a/b:2, \"--y-image=org/app:3\"]\ndata:\n  a: {secret}\n# ghcr.io/a/no:1\n"
        );
        let seen = Scan::new().unwrap().references(&stream);
        let expected = [
            "docker.io/library/nginx:1",
            "docker.io/org/app:3",
            "ghcr.io/a/b:2",
            "quay.io/a/hidden:1",
        ];
        assert_eq!(seen, expected.map(str::to_owned).into());
    }

    #[test]
    fn the_scan_sees_maps_of_images_and_parts_of_images() {
        let stream = "kind: ConfigMap\ndata:\n  a.yaml: |\n    images:\n      default: org/server:1\n      \
            pull: Always\n    other: org/none:1\n  b.json: '{\"images\": {\"x\": \"org/x:2\"}}'\n---\n\
            apiVersion: a.example/v1\nkind: App\nmetadata: {name: app}\nspec:\n  worker: {registry: \
            quay.io, repository: org/w, tag: '3'}\n  image: {tag: '4'}\n";
        let scan = Scan::new().unwrap();
        let expected = ["docker.io/org/server:1", "docker.io/org/x:2", "quay.io/org/w:3"];
        assert_eq!(scan.references(stream), expected.map(str::to_owned).into());
        let partial = Scan::partial_images(stream);
        assert_eq!(partial, [("App".to_owned(), "app".to_owned())].into());
    }

    #[test]
    fn the_scan_sees_registries_and_repositories_that_a_program_completes() {
        let stream = "kind: Pod\nspec: {containers: [{args: ['--registry=quay.io'], env: [{name: \
            A_IMAGE_REPOSITORY, value: quay.io/x/y}, {name: DB_REPOSITORY, value: 'mirror.gcr.io/a/db,ghcr.io/b/db'}, \
            {name: URL_REPOSITORY, value: 'https://charts.example.org/x'}]}]}\n---\nkind: ConfigMap\n\
            data:\n  a.yaml: |\n    container-registry: gcr.io\n    level: 0\n";
        let expected = ["gcr.io", "ghcr.io/b/db", "mirror.gcr.io/a/db", "quay.io", "quay.io/x/y"];
        assert_eq!(Scan::new().unwrap().prefixes(stream), expected.map(str::to_owned).into());
        let listed = "- name: a\n  image: ghcr.io/a/b:1\n- image: nginx:1\n";
        let listed = Scan::listed_images(listed);
        let expected = ["docker.io/library/nginx:1", "ghcr.io/a/b:1"];
        assert!(expected.iter().all(|image| listed.contains(*image)), "{listed:?}");
    }
}
