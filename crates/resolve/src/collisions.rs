//! Names that two entries of the input give to different content. A lock, a store and a registry have
//! one root per name, so one of the two would be lost.

use std::collections::HashMap;

use types::lock::{ImageOrigin, Lock, LockedImage, LockedModel, ModelOrigin};
use types::{Digest, Reference};

use crate::{Error, Result};

/// Checks that every name of the lock stands for one content.
///
/// # Errors
/// [`Error::NameCollision`] with both places.
pub(crate) fn check_names(lock: &Lock) -> Result<()> {
    let mut seen: HashMap<&Reference, (Digest, String)> = HashMap::new();
    for (name, digest, place) in list_places(lock) {
        match seen.get(name) {
            Some((other, _)) if *other == digest => {}
            Some((other, first)) => {
                return Err(Error::NameCollision {
                    name: name.to_string(),
                    first: format!("{} of {first}", other.short_hex()),
                    second: format!("{} of {place}", digest.short_hex()),
                });
            }
            None => {
                seen.insert(name, (digest, place));
            }
        }
    }
    // One index of which two sources have different platforms. The images are sorted.
    for pair in lock.images.windows(2) {
        let [one, other] = pair else { continue };
        if one.reference == other.reference && one.manifests != other.manifests {
            return Err(Error::NameCollision {
                name: one.reference.to_string(),
                first: describe_content(one),
                second: describe_content(other),
            });
        }
    }
    let mut releases: HashMap<(&str, Option<&str>), String> = HashMap::new();
    for chart in &lock.charts {
        let place = match &chart.name {
            Some(name) => format!("the chart {name} of {}", chart.chart),
            None => format!("the chart {}", chart.chart),
        };
        let key = (chart.release.as_str(), chart.namespace.as_deref());
        if let Some(first) = releases.insert(key, place.clone()) {
            return Err(Error::NameCollision {
                name: format!("the release {}", chart.release),
                first,
                second: place,
            });
        }
    }
    for set in &lock.manifests {
        let place = format!("the manifests {}", set.from.join(", "));
        let key = (set.release.as_str(), set.namespace.as_deref());
        if let Some(first) = releases.insert(key, place.clone()) {
            return Err(Error::NameCollision {
                name: format!("the release {}", set.release),
                first,
                second: place,
            });
        }
    }
    Ok(())
}

/// Every name with its digest and where it comes from, in the words of the input.
fn list_places(lock: &Lock) -> Vec<(&Reference, Digest, String)> {
    let mut places = Vec::new();
    for chart in &lock.charts {
        places.push((
            &chart.reference,
            chart.manifest.digest,
            format!("the chart {}", chart.chart),
        ));
    }
    for set in &lock.manifests {
        let place = format!("the manifests of the release {}", set.release);
        places.push((&set.reference, set.manifest.digest, place));
    }
    for image in &lock.images {
        places.push((&image.reference, image.digest, describe_source(image)));
        for attached in &image.attached {
            let place = format!("what is attached to {}", image.reference);
            places.push((&attached.reference, attached.manifest.digest, place));
        }
    }
    for model in &lock.models {
        let (digest, place) = match model {
            LockedModel::Hub(model) => {
                (model.manifest.digest, describe_origin(model.from.as_ref(), "the Hub"))
            }
            LockedModel::Ollama(model) => {
                let place = describe_origin(model.from.as_ref(), "the Ollama registry");
                (model.manifest.digest, place)
            }
            LockedModel::Url(model) => (model.manifest.digest, model.url.clone()),
        };
        places.push((model.reference(), digest, format!("the model from {place}")));
    }
    for file in &lock.files {
        places.push((&file.reference, file.manifest.digest, format!("the file {}", file.file)));
    }
    places
}

fn describe_source(image: &LockedImage) -> String {
    match &image.from {
        None => format!("the image in {}", image.reference.registry()),
        Some(ImageOrigin::Archive(path)) => format!("the archive {path}"),
        Some(ImageOrigin::Layout(path)) => format!("the layout {path}"),
        Some(ImageOrigin::Docker(socket)) => format!("the container engine at {socket}"),
        Some(ImageOrigin::Gantry(_)) => "tools:".to_owned(),
    }
}

/// Which platforms of an image are carried, and from where.
fn describe_content(image: &LockedImage) -> String {
    let platforms: Vec<String> = image
        .manifests
        .iter()
        .filter_map(|one| one.platform.as_ref())
        .map(ToString::to_string)
        .collect();
    format!("{} of {}", platforms.join(" and "), describe_source(image))
}

fn describe_origin(from: Option<&ModelOrigin>, remote: &str) -> String {
    match from {
        None => remote.to_owned(),
        Some(ModelOrigin::Cache(path)) => format!("the cache {path}"),
        Some(ModelOrigin::Folder(path)) => format!("the folder {path}"),
        Some(ModelOrigin::Image { image, path }) => format!("{path} in the image {image}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use types::lock::{LockedChart, LockedManifest};

    use super::*;

    fn image(name: &str, content: u8, archive: &str) -> LockedImage {
        LockedImage {
            reference: name.parse().unwrap(),
            digest: Digest::Sha256([content; 32]),
            media_type: "index".into(),
            size: 1,
            platforms: vec![],
            from: Some(ImageOrigin::Archive(archive.into())),
            indexes: vec![],
            manifests: vec![],
            attached: vec![],
            attached_content: types::input::AttachedContent::Carried,
            seen: vec![],
        }
    }

    fn chart(source: &str, release: &str, namespace: Option<&str>) -> LockedChart {
        LockedChart {
            chart: source.into(),
            name: None,
            requested: None,
            version: "1.0.0".into(),
            release: release.into(),
            namespace: namespace.map(str::to_owned),
            from: None,
            reference: "charts.gantry/web:1.0.0".parse().unwrap(),
            manifest: LockedManifest {
                digest: Digest::Sha256([9; 32]),
                size: 1,
                media_type: "m".into(),
                platform: None,
                config: None,
                layers: vec![],
                layer_urls: std::collections::BTreeMap::new(),
            },
        }
    }

    fn lock(images: Vec<LockedImage>, charts: Vec<LockedChart>) -> Lock {
        Lock {
            version: types::lock::VERSION,
            name: "a".into(),
            platforms: vec![],
            requests: vec![],
            charts,
            manifests: vec![],
            images,
            models: vec![],
            files: vec![],
        }
    }

    #[test]
    fn one_name_for_two_contents_is_refused_with_both_places() {
        let two = lock(vec![image("own:1", 1, "a.tar"), image("own:1", 2, "b.tar")], vec![]);
        let error = check_names(&two).unwrap_err().to_string();
        assert!(error.contains("docker.io/library/own:1"), "{error}");
        assert!(error.contains("a.tar") && error.contains("b.tar"), "{error}");
        let same = lock(vec![image("own:1", 1, "a.tar"), image("own:1", 1, "b.tar")], vec![]);
        check_names(&same).unwrap();
    }

    #[test]
    fn a_release_twice_is_refused_unless_in_another_namespace() {
        let two =
            |one, other| lock(vec![], vec![chart("./a", "web", one), chart("./b", "web", other)]);
        let error = check_names(&two(None, None)).unwrap_err().to_string();
        assert!(
            error.contains("the release web") && error.contains("./a") && error.contains("./b")
        );
        check_names(&two(Some("x"), Some("y"))).unwrap();
    }
}
