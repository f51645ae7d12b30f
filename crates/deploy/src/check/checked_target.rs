//! A target of `site.yaml` where models should be, and which of them.

use std::path::Path;

use land::claim::SeederImage;
use land::models::bucket::BucketAccess;
use land::models::{find_expected_name, resolve_target_paths};
use types::config::UserConfig;
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
    /// How its server is reached, if it is a bucket.
    pub access: BucketAccess,
}

impl CheckedModelTarget {
    /// The targets of a site. `folder` is that of the site file, to which its paths are relative; `config`
    /// has certificate authorities and limits.
    pub fn list_of_site(
        site: &Site,
        folder: &Path,
        lock: Option<&Lock>,
        config: &UserConfig,
    ) -> Result<Vec<Self>> {
        let models = || lock.iter().flat_map(|lock| &lock.models);
        let image = SeederImage::at_site(site)?;
        let one = |target: &ModelTarget| {
            let resolved = resolve_target_paths(target, folder);
            Self {
                name: target.to.to_string(),
                wanted: models().filter_map(|model| find_expected_name(target, model)).collect(),
                image: image.clone(),
                access: BucketAccess::of_target(&resolved, config),
                target: resolved,
            }
        };
        Ok(site.models.iter().map(one).collect())
    }
}
