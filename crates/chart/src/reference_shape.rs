//! Decides whether a text looks like an image reference. All finders ask this module, so that they
//! agree on the difference between `ghcr.io/org/app:1` and a Go package path.

use types::Reference;

/// Which parts of an image reference a text has, ordered from weak to strong evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReferenceShape {
    /// One word: `nginx`. No evidence by itself.
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

/// Hosts of source code, package paths and documents. Their paths have the shape of an image, and
/// none of these hosts serves a registry under this name (GitHub's is `ghcr.io`).
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

/// Domains of labels, annotations, taints and extended resources. `nvidia.com/gpu:1` has the form of
/// an image; none of them serves a registry but under a name that says so (`registry.k8s.io`).
const NAME_DOMAINS: &[&str] = &[
    "amd.com",
    "argoproj.io",
    "cert-manager.io",
    "cilium.io",
    "coreos.com",
    "crossplane.io",
    "eks.amazonaws.com",
    "external-secrets.io",
    "fluxcd.io",
    "gatekeeper.sh",
    "gke.io",
    "google.com",
    "habana.ai",
    "helm.sh",
    "intel.com",
    "istio.io",
    "k8s.amazonaws.com",
    "k8s.aws",
    "k8s.io",
    "karpenter.sh",
    "keda.sh",
    "knative.dev",
    "kserve.io",
    "kubeflow.org",
    "kubernetes.azure.com",
    "kubernetes.io",
    "kubevirt.io",
    "kyverno.io",
    "linkerd.io",
    "longhorn.io",
    "nginx.org",
    "nvidia.com",
    "openshift.io",
    "projectcalico.org",
    "prometheus.io",
    "ray.io",
    "rook.io",
    "run.ai",
    "stakater.com",
    "tekton.dev",
    "traefik.io",
    "velero.io",
    "volcano.sh",
    "x-k8s.io",
];

/// How the first label of a registry's host starts.
const REGISTRY_LABELS: &[&str] = &[
    "artifactory",
    "container",
    "cr",
    "dkr",
    "docker",
    "ecr",
    "gcr",
    "ghcr",
    "harbor",
    "hub",
    "image",
    "mirror",
    "nexus",
    "oci",
    "packages",
    "public",
    "quay",
    "reg",
    "repo",
    "xpkg",
];

/// The effects of taints and the operators of selectors: `nvidia.com/gpu:NoSchedule`.
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute", "Exists", "DoesNotExist"];

/// Whether a text in the form of an image is the name of a label, a taint or a resource with its
/// value: it has one of Kubernetes' effects behind it, or one of the domains of such names in front.
pub(crate) fn is_kubernetes_name(text: &str) -> bool {
    let text = text.trim();
    let Some((host, rest)) = text.split_once('/') else { return false };
    if rest.rsplit_once(':').is_some_and(|(_, tag)| EFFECTS.contains(&tag)) {
        return true;
    }
    let is_below = |domain: &&str| {
        host.strip_suffix(*domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
    };
    let first = host.split('.').next().unwrap_or_default();
    let is_registry = REGISTRY_LABELS.iter().any(|label| first.starts_with(label));
    !is_registry && !text.contains('@') && NAME_DOMAINS.iter().any(is_below)
}

/// Parses `text` as an image reference and classifies it. `None` when it cannot be an image in any
/// context: URLs, versions, numbers, absolute paths, template code.
pub(crate) fn parse_image(text: &str) -> Option<(Reference, ReferenceShape)> {
    // The longest name (255), tag (128) and digest (71) with their separators, rounded up.
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
    // Docker's rule (distribution/reference): the first component is a host only if it has a dot, a
    // colon, or is `localhost`; `org/app` is a repository of Docker Hub.
    let has_host = is_path && (first.contains(['.', ':']) || first == "localhost");
    if has_host && (NO_REGISTRIES.contains(&first) || !is_plausible_host(first)) {
        return None;
    }
    let has_tag = head.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let shape = match (has_host, is_path, has_tag, reference.digest().is_some()) {
        (_, _, _, true) | (true, _, true, _) => ReferenceShape::Full,
        (true, _, false, _) => ReferenceShape::Hosted,
        (false, true, true, _) => ReferenceShape::TaggedPath,
        (false, true, false, _) => ReferenceShape::Path,
        (false, false, true, _) => ReferenceShape::TaggedWord,
        (false, false, false, _) => ReferenceShape::Word,
    };
    if shape == ReferenceShape::Word && is_version(text) {
        return None;
    }
    Some((reference, shape))
}

/// Whether a text is an image reference no matter which key it is under: it has host, path, and a
/// tag or digest, and its host is not that of a service in the cluster.
pub(crate) fn has_image_shape(text: &str) -> bool {
    const IN_CLUSTER: &[&str] = &[".svc", ".local", ".cluster"];
    // A cheap test first: most words of a text have neither, and parsing is the costly part.
    if !text.contains(['/', '@']) || !text.contains([':', '@']) {
        return false;
    }
    let Some((reference, ReferenceShape::Full)) = parse_image(text) else { return false };
    if is_kubernetes_name(text) {
        return false;
    }
    let host = reference.registry().split(':').next().unwrap_or_default();
    // `service:9000/bucket:x` has a port but no dot: the address of a service, unless it carries a
    // digest, which only images have.
    let is_registry = host.contains('.') || reference.digest().is_some() || host == "localhost";
    is_registry && !IN_CLUSTER.iter().any(|suffix| host.ends_with(suffix))
}

/// Whether a text is a host with a port rather than a name with a tag: `10.0.0.1:8080`,
/// `api.example.com:443`. `redis:6379` stays ambiguous and counts as a name with a tag.
pub(crate) fn is_host_and_port(text: &str) -> bool {
    let text = text.trim();
    text.split_once(':').is_some_and(|(host, port)| {
        host.contains('.') && !host.contains('/') && port.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Whether a host could be a registry: `localhost`, an IP address, a dotted name with an alphabetic
/// top-level domain, or a name with a port. `v1.2` and `1.2.3` (of `v1.2/x`) are not.
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

/// Whether a word is a version number or a keyword of configuration files: `1.2.3`, `v1`, `2025`,
/// `true`, `latest`. It would parse as the image `docker.io/library/true`.
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
    fn names_of_labels_taints_and_resources_are_no_images_and_registries_beside_them_are() {
        for text in [
            "app.kubernetes.io/component:web",
            "nvidia.com/gpu:1",
            "nvidia.com/mig-1g.5gb:2",
            "example.org/dedicated:NoSchedule",
            "cloud.google.com/gke-accelerator:l4",
        ] {
            assert!(is_kubernetes_name(text) && !has_image_shape(text), "{text}");
        }
        for text in [
            "registry.k8s.io/pause:3.10",
            "reg.kyverno.io/kyverno/kyverno:v1",
            "nvcr.io/nvidia/driver:1",
            "gcr.io/google-samples/x:1",
        ] {
            assert!(!is_kubernetes_name(text) && has_image_shape(text), "{text}");
        }
    }

    #[test]
    fn a_text_has_the_shape_that_its_parts_give_it() {
        let digest = format!("a/b@sha256:{}", "0a".repeat(32));
        for (text, shape) in [
            ("nginx", Some(ReferenceShape::Word)),
            ("nginx:1.25", Some(ReferenceShape::TaggedWord)),
            ("org/app", Some(ReferenceShape::Path)),
            ("ghcr.io/org/app", Some(ReferenceShape::Hosted)),
            ("org/app:1.0", Some(ReferenceShape::TaggedPath)),
            ("ghcr.io/org/app:1", Some(ReferenceShape::Full)),
            ("localhost:5000/app:1", Some(ReferenceShape::Full)),
            (&digest, Some(ReferenceShape::Full)),
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
            assert_eq!(parse_image(text).map(|(_, shape)| shape), shape, "{text}");
        }
    }
}
