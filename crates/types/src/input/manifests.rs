//! `manifests:` of `gantry.yaml`: plain Kubernetes manifests and kustomizations that are deployed as a
//! release, as they are written in the file.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};

use super::content::{InputManifestSet, ManifestSource};
use super::possible::RawPossibleImages;
use crate::{Digest, SecretUrl};

/// The longest name of a release: it becomes the value of a label (RFC 1123, 63 characters), and helm
/// takes 53 at most; one limit for both.
const MAX_RELEASE: usize = 53;

/// Plain manifests that are deployed together, as one release.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawManifestSet {
    /// The release's name.
    release: String,
    /// The namespace of the objects that name none [default: that of the kubeconfig's context].
    namespace: Option<String>,
    /// Where the manifests are: one source or a list of them.
    from: RawManifestSources,
    /// Which of its images that are only possible are carried: `possible` for all, or a list of names and
    /// globs [default: that of the top level].
    include: Option<RawPossibleImages>,
    /// The releases that have to be ready before this one is installed.
    #[serde(default)]
    needs: Vec<String>,
}

/// One source of manifests, or a list of them.
#[derive(Clone, schemars::JsonSchema)]
#[schemars(untagged)]
pub(super) enum RawManifestSources {
    Single(RawManifestSource),
    Several(Vec<RawManifestSource>),
}

/// A source of manifests.
#[derive(Clone, schemars::JsonSchema)]
#[schemars(untagged)]
pub(super) enum RawManifestSource {
    /// A file, a glob of files such as ./06-*.yaml, or a folder.
    Path(String),
    Map(RawManifestFields),
}

/// A kustomization, or a file at a URL.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawManifestFields {
    /// The folder of a kustomization.
    kustomize: Option<PathBuf>,
    /// A file at a URL.
    url: Option<String>,
    /// The sha256 of that file.
    sha256: Option<String>,
}

/// What the entries of `from:` may be, for errors.
const EXPECTED: &str = "a path, `{kustomize: FOLDER}`, `{url: …, sha256: …}`, or a list of these";

// By hand and not `#[serde(untagged)]`, whose errors have neither the line nor the misspelt key.
impl<'de> Deserialize<'de> for RawManifestSources {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SourcesVisitor;
        impl<'de> Visitor<'de> for SourcesVisitor {
            type Value = RawManifestSources;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(EXPECTED)
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(RawManifestSources::Single(RawManifestSource::Path(text.to_owned())))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                RawManifestFields::deserialize(MapAccessDeserializer::new(map))
                    .map(|fields| RawManifestSources::Single(RawManifestSource::Map(fields)))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(RawManifestSources::Several)
            }
        }
        deserializer.deserialize_any(SourcesVisitor)
    }
}

impl<'de> Deserialize<'de> for RawManifestSource {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SourceVisitor;
        impl<'de> Visitor<'de> for SourceVisitor {
            type Value = RawManifestSource;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(EXPECTED)
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(RawManifestSource::Path(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                RawManifestFields::deserialize(MapAccessDeserializer::new(map))
                    .map(RawManifestSource::Map)
            }
        }
        deserializer.deserialize_any(SourceVisitor)
    }
}

impl RawManifestSet {
    /// The release's name.
    pub(super) fn release_name(&self) -> &str {
        &self.release
    }

    pub(super) fn into_manifest_set(self) -> Result<InputManifestSet, String> {
        check_release_name(&self.release)?;
        let sources = match self.from {
            RawManifestSources::Single(source) => vec![source],
            RawManifestSources::Several(sources) => sources,
        };
        if sources.is_empty() {
            return Err(format!("from: lists nothing; write {EXPECTED}"));
        }
        Ok(InputManifestSet {
            release: self.release,
            namespace: self.namespace,
            sources: sources
                .into_iter()
                .map(RawManifestSource::into_source)
                .collect::<Result<_, _>>()?,
            include: self.include.map(RawPossibleImages::into_possible_images),
            needs: self.needs,
        })
    }
}

impl RawManifestSource {
    fn into_source(self) -> Result<ManifestSource, String> {
        let fields = match self {
            Self::Path(path) if path.contains("://") => {
                return Err(format!(
                    "{path} is a URL; write {{url: {path}, sha256: …}}, with the sha256 of the file"
                ));
            }
            Self::Path(path) if path.is_empty() => {
                return Err("from: has an empty path; write a file, a glob or a folder".into());
            }
            Self::Path(path) => return Ok(ManifestSource::Path(path)),
            Self::Map(fields) => fields,
        };
        match (fields.kustomize, fields.url, fields.sha256) {
            (Some(folder), None, None) => {
                if folder.to_string_lossy().contains("://") {
                    return Err(format!(
                        "kustomize: {} is not on this machine; clone it and name its folder, so that \
                         what is locked is what was reviewed",
                        folder.display()
                    ));
                }
                Ok(ManifestSource::Kustomization(folder))
            }
            (None, Some(url), Some(sha256)) => {
                if !url.starts_with("https://") && !url.starts_with("http://") {
                    return Err(format!(
                        "{url} is not an http:// or https:// URL; write a file of this machine as a path"
                    ));
                }
                let hex = sha256.strip_prefix("sha256:").unwrap_or(&sha256);
                let sha256 = Digest::from_sha256_hex(hex).map_err(|error| error.to_string())?;
                Ok(ManifestSource::Url { url: SecretUrl::new(url), sha256 })
            }
            (None, Some(url), None) => Err(format!(
                "{} needs `sha256`, so that what is applied is what was reviewed: \
                 curl -L URL | sha256sum",
                SecretUrl::new(url)
            )),
            _ => {
                Err("a source of manifests needs either `kustomize`, or `url` and `sha256`".into())
            }
        }
    }
}

/// Checks the name of a release, which becomes a label and a part of the names of objects.
fn check_release_name(name: &str) -> Result<(), String> {
    let is_valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty()
        || name.len() > MAX_RELEASE
        || !name.bytes().all(is_valid)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        return Err(format!(
            "release: {name:?} is not a valid name: use up to {MAX_RELEASE} of a-z, 0-9 and -"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::input::Input;

    const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse_manifests(manifests: &str) -> crate::Result<Vec<InputManifestSet>> {
        let text = format!("version: 1\nname: a\nmanifests:\n{manifests}");
        Ok(Input::parse("f", &text)?.manifests)
    }

    #[test]
    fn one_source_stands_alone_and_several_are_a_list() {
        let single = parse_manifests("- {release: web, from: ./k8s}\n").unwrap();
        assert_eq!(single[0].sources, [ManifestSource::Path("./k8s".into())]);
        let built = parse_manifests("- {release: web, from: {kustomize: ./prod}}\n").unwrap();
        assert_eq!(built[0].sources, [ManifestSource::Kustomization("./prod".into())]);
        let several = parse_manifests(&format!(
            "- release: onyx\n  namespace: ai\n  from:\n  - ./06-*.yaml\n  - kustomize: ./prod\n  \
             - {{url: 'https://u:p@x.example/crds.yaml', sha256: {SHA}}}\n"
        ))
        .unwrap();
        let names: Vec<String> =
            several[0].sources.iter().map(ManifestSource::locked_name).collect();
        assert_eq!(names, ["./06-*.yaml", "kustomize ./prod", "https://x.example/crds.yaml"]);
        assert_eq!(several[0].namespace.as_deref(), Some("ai"));
    }

    #[test]
    fn each_mistake_is_named_with_its_place_and_the_next_step() {
        for (entry, expected) in [
            ("- {release: web}\n", "the key \"from\" is missing"),
            ("- {from: ./k8s}\n", "the key \"release\" is missing"),
            ("- {release: web, from: []}\n", "f:4:3: from: lists nothing"),
            ("- {release: Web, from: ./k8s}\n", "f:4:3: release: \"Web\" is not a valid name"),
            ("- {release: web, from: {kustomise: ./x}}\n", "did you mean \"kustomize\""),
            ("- {release: web, from: {url: 'https://x.example/a'}}\n", "needs `sha256`"),
            ("- {release: web, from: 'https://x.example/a'}\n", "is a URL; write {url:"),
            ("- {release: web, from: {kustomize: 'https://x.example/a'}}\n", "clone it"),
            ("- {release: web, from: {sha256: a}}\n", "needs either `kustomize`, or"),
            ("- {release: web, from: 3}\n", "a path, `{kustomize: FOLDER}`"),
            ("- {release: web, from: ./a, needs: [db]}\n", "there is no release \"db\""),
            (
                "- {release: web, from: ./a}\n- {release: web, from: ./b}\n",
                "f:5:3: the release web is listed in line 4 as well",
            ),
        ] {
            let error = parse_manifests(entry).unwrap_err().to_string();
            assert!(error.contains(expected), "{entry}: {error}");
        }
    }
}
