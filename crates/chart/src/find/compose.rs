//! Composes images whose name and tag are separate fields: `repository`, `image`, `version` in a
//! custom resource, `worker_container_repository` and `worker_container_tag` in a configuration
//! file, `hub` and `tag` in a map above an `image`. Used by `custom` and `containers`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use types::{Digest, DigestAlgorithm, Reference};

use super::findings::{PartRole, ReferencePart};
use super::names::{self, KeyMeaning};
use super::registries;
use crate::path::{DocumentPath, TextEncoding};
use crate::reference_shape::{self, ReferenceShape};

/// The fields of one image: the meaning of each key, the key, and the text.
type ImageFields<'a> = Vec<(KeyMeaning, &'a str, String)>;

/// A registry and a tag from an enclosing map, as Istio's `global.hub` and `global.tag`.
#[derive(Debug, Clone, Default)]
pub(crate) struct InheritedParts {
    registry: Option<ReferencePart>,
    tag: Option<ReferencePart>,
}

impl InheritedParts {
    /// What the children of a map inherit: its own `hub` and `tag` if it has a `hub`, else what it
    /// inherited itself.
    pub(crate) fn inherit_from(&self, map: &Map<String, Value>, path: &DocumentPath) -> Self {
        let part = |key: &str, role| {
            let text = map.get(key).and_then(scalar_text).filter(|text| !text.is_empty())?;
            Some(ReferencePart { path: path.key(key), text, role })
        };
        match part("hub", PartRole::Registry) {
            Some(hub) => Self { registry: Some(hub), tag: part("tag", PartRole::Tag) },
            None => self.clone(),
        }
    }

    /// The image that a bare `name` makes together with the inherited registry and tag. `None` if
    /// no registry is inherited.
    pub(crate) fn compose_image(
        &self,
        path: &DocumentPath,
        name: &str,
    ) -> Option<(Reference, Vec<ReferencePart>)> {
        let registry = self.registry.clone()?;
        let name =
            ReferencePart { path: path.clone(), text: name.to_owned(), role: PartRole::Name };
        join_parts([Some(registry), None, Some(name), self.tag.clone(), None])
    }
}

/// An image that is composed of several fields of one map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ComposedImage {
    pub(crate) reference: Reference,
    pub(crate) parts: Vec<ReferencePart>,
}

/// Finds the images that the scalars of one map make up. Fields belong together when their keys
/// have the same stem: `worker_repository` with `worker_tag`. `is_image` says that the map is the
/// value of a key that names an image; only then is its `name` taken for the repository.
pub(crate) fn compose_images(
    map: &Map<String, Value>,
    path: &DocumentPath,
    is_image: bool,
) -> Vec<ComposedImage> {
    let mut groups: BTreeMap<Vec<String>, ImageFields> = BTreeMap::new();
    for (key, value) in map {
        if names::is_example_key(key) {
            continue;
        }
        let (stem, piece) = match names::classify_key(key) {
            Some(found) => found,
            None if is_image && key == "name" => (vec![], KeyMeaning::Repository),
            None => continue,
        };
        if let Some(text) = scalar_text(value).filter(|text| !text.is_empty()) {
            groups.entry(stem).or_default().push((piece, key, text));
        }
    }
    lend_version(&mut groups);
    groups.values().filter_map(|pieces| compose_group(pieces, path)).collect()
}

/// Gives the version of a map to the image in it that has none of its own, if there is one image
/// only: `baseImage: quay.io/org/app` with `version: "2"` is `quay.io/org/app:2`.
fn lend_version(groups: &mut BTreeMap<Vec<String>, ImageFields<'_>>) {
    let is_version = |piece: &KeyMeaning| matches!(piece, KeyMeaning::Tag | KeyMeaning::Digest);
    let has = |fields: &ImageFields<'_>, wanted: &dyn Fn(&KeyMeaning) -> bool| {
        fields.iter().any(|(piece, ..)| wanted(piece))
    };
    let Some(plain) = groups.get(&Vec::new()).filter(|own| own.iter().all(|f| is_version(&f.0)))
    else {
        return;
    };
    let lent = plain.clone();
    let mut images = groups.values_mut().filter(|fields| has(fields, &|p| *p == KeyMeaning::Image));
    if let (Some(fields), None) = (images.next(), images.next())
        && !has(fields, &is_version)
    {
        fields.extend(lent);
    }
}

/// Finds the repositories that a map names with their registry and without a tag, for a program that
/// adds it: `OPERAND_IMAGE_REPOSITORY=quay.io/org/operand`, also several in a list with commas.
/// `taken` are the paths of texts that are parts of a composed image.
pub(crate) fn find_repositories(
    map: &Map<String, Value>,
    path: &DocumentPath,
    taken: &[&DocumentPath],
) -> Vec<ComposedImage> {
    // Repositories of something else than images.
    const OTHERS: &[&str] = &["chart", "charts", "git", "helm", "maven", "npm", "source"];
    let mut found = Vec::new();
    for (key, value) in map {
        let Some((stem, KeyMeaning::Repository)) = names::classify_key(key) else { continue };
        let Some(text) = value.as_str() else { continue };
        let own = path.key(key);
        let is_other = stem.iter().any(|word| OTHERS.contains(&word.as_str()));
        if is_other || stem.is_empty() || names::is_example_key(key) || taken.contains(&&own) {
            continue;
        }
        let list: Vec<&str> = text.split(',').map(str::trim).collect();
        let own = if list.len() > 1 { own.inside(TextEncoding::Text) } else { own };
        for text in list {
            if let Some((reference, ReferenceShape::Hosted)) = reference_shape::parse_image(text)
                && registries::is_public_registry(text)
            {
                let (path, role) = (own.clone(), PartRole::Repository);
                let part = ReferencePart { path, text: text.to_owned(), role };
                found.push(ComposedImage { reference, parts: vec![part] });
            }
        }
    }
    found
}

/// Composes the fields of one stem; `None` if they are no image, or one field is already complete.
fn compose_group(pieces: &ImageFields, path: &DocumentPath) -> Option<ComposedImage> {
    let part = |wanted: KeyMeaning, role| {
        let (_, key, text) = pieces.iter().find(|(piece, ..)| *piece == wanted)?;
        Some(ReferencePart { path: path.key(*key), text: text.clone(), role })
    };
    let registry = part(KeyMeaning::Registry, PartRole::Registry);
    let repository = part(KeyMeaning::Repository, PartRole::Repository);
    let image = part(KeyMeaning::Image, PartRole::Name);
    let tag = part(KeyMeaning::Tag, PartRole::Tag);
    let digest = part(KeyMeaning::Digest, PartRole::Digest);
    // `image: org/app:1` is complete by itself, and is found as such by the caller. A `version`
    // beside it is about something else.
    if let Some(image) = &image
        && let Some((
            _,
            ReferenceShape::Full | ReferenceShape::TaggedPath | ReferenceShape::TaggedWord,
        )) = reference_shape::parse_image(&image.text)
    {
        return None;
    }
    let has_version = tag.is_some() || digest.is_some();
    let has_name = match (&registry, &repository, &image) {
        (_, Some(_), Some(_)) | (Some(_), Some(_), None) | (Some(_), None, Some(_)) => true,
        (None, Some(_), None) | (None, None, Some(_)) => has_version,
        (_, None, None) => false,
    };
    // `repository: charts, version: 1` is a chart in a Helm repository. An image needs a `/` there,
    // or a key that says tag.
    let is_versioned_word = image.is_none()
        && tag.as_ref().and_then(|tag| tag.path.last_key()) == Some("version")
        && repository.as_ref().is_some_and(|repository| !repository.text.contains('/'));
    if !has_name
        || is_versioned_word
        || tag.as_ref().is_some_and(|tag| tag.text.contains(['/', ' ']))
    {
        return None;
    }
    let (reference, parts) = join_parts([registry, repository, image, tag, digest])?;
    Some(ComposedImage { reference, parts })
}

/// Joins registry, repository, name, tag and digest into a reference.
fn join_parts(parts: [Option<ReferencePart>; 5]) -> Option<(Reference, Vec<ReferencePart>)> {
    let [registry, repository, name, mut tag, mut digest] = parts;
    // NVIDIA's gpu-operator takes a digest in `version`; Grafana's chart has the bare hex in `sha`.
    if digest.is_none() && tag.as_ref().is_some_and(|tag| tag.text.parse::<Digest>().is_ok()) {
        digest = tag.take().map(|tag| ReferencePart { role: PartRole::Digest, ..tag });
    }
    let path: Vec<&str> = [&registry, &repository, &name]
        .into_iter()
        .flatten()
        .map(|part| part.text.trim_matches('/'))
        .collect();
    let mut text = path.join("/");
    if let Some(tag) = &tag {
        text = format!("{text}:{}", tag.text);
    }
    if let Some(digest) = &digest {
        text = format!("{text}@{}", parse_digest_field(&digest.text)?);
    }
    let (reference, shape) = reference_shape::parse_image(&text)?;
    // A single word after joining means that only one part had content.
    (shape > ReferenceShape::Word).then_some(())?;
    Some((reference, [registry, repository, name, tag, digest].into_iter().flatten().collect()))
}

/// The digest of a field: with its algorithm, or its digits alone, whose number tells the algorithm.
fn parse_digest_field(text: &str) -> Option<Digest> {
    let bare = || DigestAlgorithm::ALL.into_iter().find_map(|it| it.parse_hex(text).ok());
    text.parse().ok().or_else(bare)
}

/// The text of a string or number. YAML reads an unquoted tag such as `3.1` as a number.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn compose_references(value: &Value, is_image: bool) -> Vec<String> {
        compose_images(value.as_object().unwrap(), &DocumentPath::default(), is_image)
            .iter()
            .map(|composed| composed.reference.to_string())
            .collect()
    }

    #[test]
    fn the_pieces_of_an_image_are_put_together_by_what_their_keys_say() {
        let hex = "ab".repeat(32);
        for (map, image) in [
            (
                json!({"repository": "nvcr.io/nvidia", "image": "driver", "version": "5.1"}),
                "nvcr.io/nvidia/driver:5.1".to_owned(),
            ),
            (
                json!({"repository": "nvcr.io/nvidia", "image": "driver", "version": format!("sha256:{hex}")}),
                format!("nvcr.io/nvidia/driver@sha256:{hex}"),
            ),
            (
                json!({"registry": "docker.io", "repository": "bitnami/redis", "tag": "7"}),
                "docker.io/bitnami/redis:7".to_owned(),
            ),
            (
                json!({"repository": "org/app", "sha": hex, "tag": ""}),
                format!("docker.io/org/app@sha256:{hex}"),
            ),
            (
                json!({"worker_container_repository": "apache/airflow", "worker_container_tag": "3.1"}),
                "docker.io/apache/airflow:3.1".to_owned(),
            ),
            (
                json!({"image": "kserve/agent", "defaultImageVersion": "v0.15"}),
                "docker.io/kserve/agent:v0.15".to_owned(),
            ),
        ] {
            assert_eq!(compose_references(&map, false), [image], "{map}");
        }
    }

    #[test]
    fn a_map_under_an_image_key_has_its_repository_in_name() {
        let map = json!({"name": "quay.io/jupyterhub/sample", "tag": "4"});
        assert_eq!(compose_references(&map, true), ["quay.io/jupyterhub/sample:4"]);
        assert!(compose_references(&map, false).is_empty());
    }

    #[test]
    fn what_only_shares_a_word_with_images_is_none() {
        for map in [
            json!({"name": "x", "version": "1"}),
            json!({"repository": "https://github.com/a/b", "version": "1"}),
            json!({"repository": "charts"}),
            json!({"tag": "1", "digest": "x"}),
            json!({"image": "org/app:1", "version": "2"}),
        ] {
            assert!(compose_references(&map, false).is_empty(), "{map}");
        }
    }
}
