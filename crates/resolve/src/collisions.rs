//! Names that two entries of the input give to different content. A lock, a store and a registry have
//! one root per name, so one of the two would be lost.

use std::collections::HashMap;

use types::lock::{ImageOrigin, Lock, LockedModel, ModelOrigin};
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
    Ok(())
}

/// Every name with its digest and where it comes from, in the words of the input.
fn list_places(lock: &Lock) -> Vec<(&Reference, Digest, String)> {
    let mut places = Vec::new();
    for chart in &lock.charts {
        places.push((&chart.reference, chart.manifest.digest, format!("the chart {}", chart.chart)));
    }
    for image in &lock.images {
        let place = match &image.from {
            None => format!("the image in {}", image.reference.registry()),
            Some(ImageOrigin::Archive(path)) => format!("the archive {path}"),
            Some(ImageOrigin::Layout(path)) => format!("the layout {path}"),
            Some(ImageOrigin::Docker(socket)) => format!("the container engine at {socket}"),
            Some(ImageOrigin::Gantry(_)) => "tools:".to_owned(),
        };
        places.push((&image.reference, image.digest, place));
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

fn describe_origin(from: Option<&ModelOrigin>, remote: &str) -> String {
    match from {
        None => remote.to_owned(),
        Some(ModelOrigin::Cache(path)) => format!("the cache {path}"),
        Some(ModelOrigin::Folder(path)) => format!("the folder {path}"),
        Some(ModelOrigin::Image { image, path }) => format!("{path} in the image {image}"),
    }
}
