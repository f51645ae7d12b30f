//! A target of `site.yaml` where models should be, and which of them.

use std::path::{Path, PathBuf};

use land::claim::SeederImage;
use land::models::{find_expected_name, resolve_target_paths};
use types::lock::Lock;
use types::site::{ModelTarget, Site};

use crate::Result;

/// A target where models should be.
#[derive(Debug, Clone)]
pub struct CheckedModelTarget {
    /// Its address as in `site.yaml`: `/srv/models`, `s3://…`, `pvc://…`.
    pub name: String,
    /// The target, with its paths resolved.
    pub target: ModelTarget,
    /// The locked models that should be there, by their usual names (`org/name`).
    pub wanted: Vec<String>,
    /// The image of the pod that reads it, if it is a claim.
    pub image: SeederImage,
    /// PEM files of CA certificates that are trusted beside the target's own.
    pub ca: Vec<PathBuf>,
}

impl CheckedModelTarget {
    /// The targets of a site. `folder` is that of the site file, to which its paths are relative.
    pub fn list_of_site(
        site: &Site,
        folder: &Path,
        lock: Option<&Lock>,
        ca: &[PathBuf],
    ) -> Result<Vec<Self>> {
        let models = || lock.iter().flat_map(|lock| &lock.models);
        let image = SeederImage::at_site(site)?;
        let one = |target: &ModelTarget| Self {
            name: target.to.to_string(),
            target: resolve_target_paths(target, folder),
            wanted: models().filter_map(|model| find_expected_name(target, model)).collect(),
            image: image.clone(),
            ca: ca.to_vec(),
        };
        Ok(site.models.iter().map(one).collect())
    }
}
