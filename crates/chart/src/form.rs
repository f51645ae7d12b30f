//! Does a text look like an image? The one place of the answer, so that every finder draws the
//! line between `ghcr.io/org/app:1` and a Go package path at the same spot.

use types::Reference;

/// How much of an image reference a text has. The order is by how much it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// One word: `nginx`. Says nothing by itself.
    Word,
    /// One word with a tag: `nginx:1.25`; so is `localhost:8080`.
    TaggedWord,
    /// A path with no host and no tag: `org/app`; so is `text/plain`.
    Path,
    /// A host and a path, no tag: `ghcr.io/org/app`; so is a Go package.
    Hosted,
    /// A path with a tag: `org/app:1.0`.
    TaggedPath,
    /// A host, a path, and a tag or digest; or any name with a digest.
    Full,
}

/// Hosts that name source code and documents, never a registry.
const NO_REGISTRIES: &[&str] = &[
    "github.com",
    "gitlab.com",
    "golang.org",
    "gopkg.in",
    "sigs.k8s.io",
    "k8s.io",
    "go.uber.org",
    "google.golang.org",
    "cloud.google.com",
    "huggingface.co",
    "artifacthub.io",
    "helm.sh",
];

/// The reference in `text` and its shape, or `None` when it can be no image whatever stands
/// around it: URLs, versions, numbers, absolute paths, template code.
pub(crate) fn image(text: &str) -> Option<(Reference, Shape)> {
    // The longest name (255), tag (128) and digest (71) with their separators, and some air.
    const LONGEST: usize = 512;
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST || text.contains("://") {
        return None;
    }
    let reference: Reference = text.parse().ok()?;
    let head = text.split('@').next().unwrap_or(text);
    let (first, is_path) = match head.split_once('/') {
        Some((first, _)) => (first, true),
        None => (head, false),
    };
    let has_host = is_path && (first.contains(['.', ':']) || first == "localhost");
    if has_host && (NO_REGISTRIES.contains(&first) || !is_plausible_host(first)) {
        return None;
    }
    let has_tag = head.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let shape = match (has_host, is_path, has_tag, reference.digest().is_some()) {
        (_, _, _, true) | (true, _, true, _) => Shape::Full,
        (true, _, false, _) => Shape::Hosted,
        (false, true, true, _) => Shape::TaggedPath,
        (false, true, false, _) => Shape::Path,
        (false, false, true, _) => Shape::TaggedWord,
        (false, false, false, _) => Shape::Word,
    };
    if shape == Shape::Word && is_version(text) {
        return None;
    }
    Some((reference, shape))
}

/// Whether a text is an image whatever its key says: host, path, and a tag or digest, and nothing
/// of a service's address in the cluster.
pub(crate) fn is_image_by_form(text: &str) -> bool {
    const IN_CLUSTER: &[&str] = &[".svc", ".local", ".cluster"];
    // Most words are none; nothing is parsed for them.
    if !text.contains(['/', '@']) || !text.contains([':', '@']) {
        return false;
    }
    let Some((reference, Shape::Full)) = image(text) else { return false };
    let host = reference.registry().split(':').next().unwrap_or_default();
    // `service:9000/bucket:x` has a port but no dot: an address, unless a digest speaks for it.
    let is_registry = host.contains('.') || reference.digest().is_some() || host == "localhost";
    is_registry && !IN_CLUSTER.iter().any(|suffix| host.ends_with(suffix))
}

/// Whether a text that could be a word with a tag is a host with a port: `10.0.0.1:8080`,
/// `api.example.com:443`.
pub(crate) fn is_address(text: &str) -> bool {
    let text = text.trim();
    text.split_once(':').is_some_and(|(host, port)| {
        host.contains('.') && !host.contains('/') && port.bytes().all(|b| b.is_ascii_digit())
    })
}

/// A registry's host has a name that resolves somewhere: a dotted name, an address, or a port.
/// `v1.2/x` and `1.2.3/x` are none.
fn is_plausible_host(host: &str) -> bool {
    let (name, has_port) = match host.rsplit_once(':') {
        Some((name, _)) => (name, true),
        None => (host, false),
    };
    if name == "localhost" || name.parse::<std::net::IpAddr>().is_ok() || name.starts_with('[') {
        return true;
    }
    match name.rsplit_once('.') {
        Some((_, top)) => top.len() >= 2 && top.bytes().all(|b| b.is_ascii_alphabetic()),
        None => has_port,
    }
}

/// `1.2.3`, `v1`, `2025`, `true`.
fn is_version(word: &str) -> bool {
    let digits = word.strip_prefix('v').unwrap_or(word);
    matches!(word, "true" | "false" | "null" | "none" | "auto" | "latest")
        || digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_the_shape_that_its_parts_give_it() {
        let digest = format!("a/b@sha256:{}", "0a".repeat(32));
        for (text, shape) in [
            ("nginx", Some(Shape::Word)),
            ("nginx:1.25", Some(Shape::TaggedWord)),
            ("org/app", Some(Shape::Path)),
            ("ghcr.io/org/app", Some(Shape::Hosted)),
            ("org/app:1.0", Some(Shape::TaggedPath)),
            ("ghcr.io/org/app:1", Some(Shape::Full)),
            ("localhost:5000/app:1", Some(Shape::Full)),
            (&digest, Some(Shape::Full)),
            ("https://ghcr.io/a/b:1", None),
            ("1.2.3", None),
            ("v1", None),
            ("auto", None),
            ("github.com/org/app", None),
            ("k8s.io/client-go", None),
            ("/bin/sh", None),
            ("1.2/x:1", None),
            ("{{ .Values.x }}", None),
            ("BAAI/bge-m3", None),
            ("", None),
        ] {
            assert_eq!(image(text).map(|(_, shape)| shape), shape, "{text}");
        }
    }
}
