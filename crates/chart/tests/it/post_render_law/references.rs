//! The images of the generated streams, with their names at the site. Those are computed here from
//! the naming rules as the documentation states them, not by the code under test.

use types::naming::NamingRule;

use super::choices::Choices;

/// The registry of the site, with its path.
pub(crate) const SITE: &str = "site.internal:5000/ai";

/// An image as a manifest writes it, and as it must be written for the site.
#[derive(Debug, Clone)]
pub(crate) struct ImageReference {
    /// The name without tag and digest: `redis`, `quay.io/org/app`.
    pub(crate) name: String,
    /// The name at the site.
    pub(crate) site_name: String,
    /// The tag without its colon; empty where there is none.
    pub(crate) tag: &'static str,
    /// What stands behind the name: `:1`, `@sha256:…`, or nothing.
    pub(crate) version: String,
}

/// What a text must have at least, to be taken for an image where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReferenceNeed {
    /// Any name, as in the `image` of a container.
    Name,
    /// A tag or a path, as under a key that names an image.
    TagOrPath,
    /// A registry and a tag, or a digest: an image whatever the key is.
    RegistryAndTag,
    /// A tag, which stands in a field of its own.
    Tag,
}

/// Names as they are written, each with its registry and its full path. No two have the same path
/// or the same last segment, so that no naming rule gives two of them one name.
const NAMES: &[(&str, &str, &str)] = &[
    ("redis", "docker.io", "library/redis"),
    ("org/worker", "docker.io", "org/worker"),
    ("docker.io/busybox", "docker.io", "library/busybox"),
    ("docker.io/org/hub_app", "docker.io", "org/hub_app"),
    ("index.docker.io/org/old", "docker.io", "org/old"),
    ("quay.io/org/app", "quay.io", "org/app"),
    // Names that begin like another one.
    ("quay.io/org/app-docs", "quay.io", "org/app-docs"),
    ("quay.io/org/app/sub", "quay.io", "org/app/sub"),
    ("ghcr.io/org/team/tool", "ghcr.io", "org/team/tool"),
    ("registry.k8s.io/pause", "registry.k8s.io", "pause"),
    ("localhost:5000/local/x", "localhost-5000", "local/x"),
    ("10.0.0.1:5000/a/b", "10.0.0.1-5000", "a/b"),
    ("nvcr.io/nvidia/cuda.x", "nvcr.io", "nvidia/cuda.x"),
    ("registry.example.com:8443/team_a/app__b", "registry.example.com-8443", "team_a/app__b"),
];

/// Tags of which some begin like another one.
const TAGS: &[&str] = &["1", "1.0_x", "1-debug", "7.2-alpine", "v1.25.3", "latest", "2024.10"];

impl ImageReference {
    /// Picks an image that has what is needed.
    pub(crate) fn pick(choices: &mut Choices, naming: NamingRule, need: ReferenceNeed) -> Self {
        let (name, host, path) = choices.pick_item(NAMES);
        let mut tag = choices.pick_item(TAGS);
        let digest = format!("@sha256:{}", ["0a", "b7", "f3"][choices.pick_number(3)].repeat(32));
        let has_host = name.contains('.') || name.starts_with("localhost");
        let is_bare = !name.contains('/');
        let version = match (choices.pick_number(8), need) {
            (0, ReferenceNeed::Name) => String::new(),
            (0, ReferenceNeed::TagOrPath) if !is_bare => String::new(),
            (1, ReferenceNeed::Name | ReferenceNeed::TagOrPath | ReferenceNeed::RegistryAndTag) => {
                format!(":{tag}{digest}")
            }
            (2, ReferenceNeed::Name | ReferenceNeed::TagOrPath | ReferenceNeed::RegistryAndTag) => {
                digest.clone()
            }
            (_, ReferenceNeed::RegistryAndTag) if !has_host => digest.clone(),
            _ => format!(":{tag}"),
        };
        if !version.starts_with(':') {
            tag = "";
        }
        let own = match naming {
            NamingRule::Path => path.to_owned(),
            NamingRule::HostPath => format!("{host}/{path}"),
            NamingRule::Name => path.rsplit('/').next().unwrap_or(path).to_owned(),
        };
        // One in ten is at the site already, and stays as it is.
        let site_name = format!("{SITE}/{own}");
        let is_moved = choices.is_one_in(10) && need != ReferenceNeed::Tag;
        let name = if is_moved { site_name.clone() } else { name.to_owned() };
        Self { name, site_name, tag, version }
    }

    /// The whole reference as the manifest writes it.
    pub(crate) fn whole(&self) -> String {
        format!("{}{}", self.name, self.version)
    }

    /// The whole reference at the site.
    pub(crate) fn whole_at_site(&self) -> String {
        format!("{}{}", self.site_name, self.version)
    }

    /// The registry and the repository as two fields, and the same at the site: of the name there,
    /// the registry takes all before the repository, or before its last segment if the repository is
    /// not the end of that name. `None` for a name without a registry.
    pub(crate) fn registry_and_repository(&self) -> Option<[(String, String); 2]> {
        let (host, repository) =
            self.name.split_once('/').filter(|(host, _)| host.contains('.'))?;
        let (site_host, site_repository) = match self.site_name.strip_suffix(repository) {
            Some(head) if head.ends_with('/') => (head.trim_end_matches('/'), repository),
            _ => self.site_name.rsplit_once('/')?,
        };
        Some([
            (host.to_owned(), site_host.to_owned()),
            (repository.to_owned(), site_repository.to_owned()),
        ])
    }
}

/// A text that stands where Kubernetes never has an image: often the very text of an image.
pub(crate) fn pick_other_text(choices: &mut Choices) -> String {
    const TEXTS: &[&str] = &[
        "nvidia.com/gpu:1",
        "app.kubernetes.io/name",
        "example.org/pool:NoSchedule",
        "web",
        "a b: c # d",
        "{{ .Values.x }}",
        "é",
        "- x",
        "",
        "0x1F",
    ];
    match choices.pick_number(3) {
        0 => choices.pick_item(TEXTS).to_owned(),
        _ => ImageReference::pick(choices, NamingRule::Path, ReferenceNeed::Name).whole(),
    }
}

/// A text that stands where a label or another key has its name. A name with one slash makes the
/// document say that it is a label (`example.org/pool`), so no image has it.
pub(crate) fn pick_other_name(choices: &mut Choices) -> String {
    let text = pick_other_text(choices);
    match text.matches('/').count() {
        1 => "example.org/pool".to_owned(),
        _ => text,
    }
}
