//! A plain scan of rendered manifests for images: a text search that knows no kinds and no schemas,
//! written without the chart crate, whose finds and proofs it is to refute where they are wrong.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use types::Reference;

/// A name with a host, a path and a version wherever it stands: in fields, arguments, lists, texts.
/// Behind `//` it is an address and no image.
static FULL: LazyLock<Regex> = LazyLock::new(|| {
    compile_regex(r#"(?:^|[\s"'=,\[{])((?:[a-z0-9-]+\.)+[a-z0-9-]+(?::\d+)?/[a-z0-9][\w./:@-]*)"#)
});
/// `executorImage: a/b:1`, `X_IMAGE: a/b:1`, `"image":"a/b:1"`.
static NAMED: LazyLock<Regex> =
    LazyLock::new(|| compile_regex(r#"(?:image|Image|IMAGE)["']?: *["']?([a-z0-9][\w./:@-]*)"#));
/// A variable of a pod: its name, and its value on the next line.
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    compile_regex(r#"name: *["']?\w*IMAGE\w*["']?\s*\n\s*value: *["']?([a-z0-9][\w./:@-]*)"#)
});
/// `--x-image=a/b:1`, `--runtime-images=k=a/b:1,l=c/d:2`, `--executor-image` and the next item.
static FLAG: LazyLock<Regex> = LazyLock::new(|| {
    compile_regex(r#"--?[a-z-]*images?(?:=|["']?\s*\n\s*- *["']?)([\w./:@=,-]+)"#)
});
/// `image: busybox`, alone on its line: what every pod has, with a version or without.
static FIELD: LazyLock<Regex> = LazyLock::new(|| {
    compile_regex(r#"(?m)^\s*(?:- )?["']?image["']?: *["']?([a-z0-9][\w./:@-]*)["']?,?\s*$"#)
});
/// What may be base64: the data of a Secret.
static BASE64: LazyLock<Regex> = LazyLock::new(|| {
    compile_regex(r#"(?m)^\s+[\w.-]+: *["']?([A-Za-z0-9+/]{16,}={0,2})["']?\s*$"#)
});

/// Every image that the manifests name, by its full name (`docker.io/library/redis:7`), sorted.
/// Texts in Secrets are decoded. Comments and definitions of custom resources are passed over: they
/// are for people.
pub fn scan_images(manifests: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let documents = manifests.split("\n---").filter(|document| !is_definition(document));
    for document in documents {
        let document = without_comments(document);
        search_images(&document, &mut found);
        for word in BASE64.captures_iter(&document) {
            let bytes = STANDARD.decode(&word[1]).unwrap_or_default();
            if let Ok(text) = String::from_utf8(bytes) {
                search_images(&without_comments(&text), &mut found);
            }
        }
    }
    found
}

/// The names of what runs pods with an image that starts with `prefix` and has this pull secret
/// neither of its own nor by its service account, sorted.
pub fn scan_images_without_secret(manifests: &str, prefix: &str, secret: &str) -> BTreeSet<String> {
    let has_secret = |document: &str| document.lines().any(|line| is_list_item(line, secret));
    let documents = || manifests.split("\n---").filter(|document| !is_definition(document));
    let accounts: BTreeSet<&str> = documents()
        .filter(|document| field_value(document, "kind: ") == Some("ServiceAccount"))
        .filter(|document| has_secret(document))
        .filter_map(|document| field_value(document, "  name: "))
        .collect();
    documents()
        .filter(|document| document.contains("ontainers:") && !has_secret(document))
        .filter(|document| scan_images(document).iter().any(|image| image.starts_with(prefix)))
        .filter(|document| {
            let mut lines = document.lines().map(str::trim_start);
            let account = lines.find_map(|line| line.strip_prefix("serviceAccountName: "));
            !accounts.contains(strip_quotes(account.unwrap_or("default")))
        })
        .filter_map(|document| field_value(document, "  name: ").map(str::to_owned))
        .collect()
}

/// Whether a line is a list's item with this name.
fn is_list_item(line: &str, name: &str) -> bool {
    let item = line.trim_start().strip_prefix("- ");
    item.is_some_and(|item| strip_quotes(item.trim_start_matches("name: ")) == name)
}

/// What stands behind the first line that starts so.
fn field_value<'a>(document: &'a str, start: &str) -> Option<&'a str> {
    document.lines().find_map(|line| line.strip_prefix(start)).map(strip_quotes)
}

fn strip_quotes(text: &str) -> &str {
    text.trim().trim_matches(['"', '\''])
}

fn search_images(text: &str, found: &mut BTreeSet<String>) {
    let words = |pattern: &'static Regex| {
        let all = pattern.captures_iter(text).map(|captures| captures.extract::<1>().1[0]);
        // A flag's list has items, `k=v`; all others are one item.
        all.flat_map(|words| words.split(',')).filter_map(|item| item.rsplit('=').next())
    };
    let versioned = [&*FULL, &*NAMED, &*VARIABLE, &*FLAG].into_iter().flat_map(words);
    // In a custom resource a field `image` may be the last part of a name only.
    let fields = text.contains("ontainers:").then(|| words(&FIELD)).into_iter().flatten();
    let all = versioned.filter(|word| has_version(word)).chain(fields);
    let images = all.filter_map(|word| word.parse::<Reference>().ok());
    found.extend(images.map(|image| image.to_string()));
}

/// Without one, a word beside `image` may be anything.
fn has_version(word: &str) -> bool {
    word.contains('@') || word.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

fn is_definition(document: &str) -> bool {
    document.lines().any(|line| line.trim_end() == "kind: CustomResourceDefinition")
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn compile_regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of our own is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_its_secret_from_itself_or_from_its_account() {
        let pod = |name: &str, more: &str| {
            format!(
                "\n---\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  containers:\n  \
                 - image: site.internal/a:1\n{more}"
            )
        };
        let stream =
            "kind: ServiceAccount\nmetadata:\n  name: robot\nimagePullSecrets:\n- name: \"pull\""
                .to_owned()
                + &pod("own", "  imagePullSecrets:\n    - name: pull\n")
                + &pod("by-account", "  serviceAccountName: \"robot\"\n")
                + &pod("neither", "  serviceAccountName: other\n");

        assert_eq!(
            scan_images_without_secret(&stream, "site.internal/", "pull"),
            ["neither".to_owned()].into()
        );
    }

    #[test]
    fn images_are_seen_wherever_charts_hide_them() {
        let manifests = "\
kind: Deployment
spec:
  containers:
  - image: busybox
  # image: old/one:1
  - image: \"quay.io/a/b:2\"
  - image: 127.0.0.1:5000/site/d:1
  - helperImage: auto
  - args: [--config-reloader=quay.io/reloader/c:v3, --url=https://quay.io/no/image:1]
  - args:
    - --runtime-images=x=ghcr.io/org/x:1,y=org/y:2
    - --executor-image
    - org/executor:4
  - env:
    - name: SANDBOX_IMAGE
      value: org/sandbox:5
---
kind: ClusterPolicy
spec:
  driver:
    repository: quay.io/nvidia
    image: driver
---
kind: CustomResourceDefinition
description: such as quay.io/some/thing:1
---
kind: Secret
data:
  values.yaml: aW1hZ2U6IG9yZy9oaWRkZW46NgojIGltYWdlOiBvcmcvbm9uZToxCg==
";

        let found = scan_images(manifests);

        let expected = [
            "127.0.0.1:5000/site/d:1",
            "docker.io/library/busybox:latest",
            "docker.io/org/executor:4",
            "docker.io/org/hidden:6",
            "docker.io/org/sandbox:5",
            "docker.io/org/y:2",
            "ghcr.io/org/x:1",
            "quay.io/a/b:2",
            "quay.io/reloader/c:v3",
        ];
        assert_eq!(found, expected.map(String::from).into());
    }
}
