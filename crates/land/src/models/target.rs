//! A folder or a bucket with models, opened to be read or written. Claims and nodes' disks are reached
//! through a pod instead ([`crate::claim`]).

use std::path::{Path, PathBuf};

use store::Source;
use store::progress::Progress;
use tokio::runtime::{Builder, Runtime};
use types::config::UserConfig;
use types::destination::ModelDestination;
use types::lock::LockedModel;
use types::site::{ModelLayout, ModelTarget};

use super::bucket::{self, BucketAccess, PlainHttpPolicy};
use super::write;
use super::{
    Error, ModelBucket, ModelName, ModelPlan, ModelPutOutcome, ModelRecord, ModelStorage as _,
    ModelVerifyReport, Result, verify_models, write_models,
};

/// A target with models, opened.
pub enum OpenModelTarget {
    /// A folder.
    Folder(PathBuf),
    /// A bucket, and the async runtime that its connections run on as long as it is open.
    Bucket(ModelBucket, Runtime),
}

impl OpenModelTarget {
    /// Opens a folder or a bucket, which must exist. Blocks; call it outside of an async runtime.
    pub fn open(to: &ModelDestination, access: &BucketAccess) -> Result<Self> {
        match to {
            ModelDestination::Folder(path) if path.is_dir() => Ok(Self::Folder(path.clone())),
            ModelDestination::Folder(path) => Err(Error::NoFolder { path: path.clone() }),
            to => Self::open_to_write(to, access),
        }
    }

    /// As [`Self::open`], but a missing folder is no error: writing creates it.
    pub fn open_to_write(to: &ModelDestination, access: &BucketAccess) -> Result<Self> {
        match to {
            ModelDestination::Folder(path) => Ok(Self::Folder(path.clone())),
            ModelDestination::Bucket(address) => {
                let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
                let runtime = runtime.map_err(|cause| Error::Runtime { cause })?;
                let bucket = ModelBucket::open(address, access, runtime.handle())?;
                Ok(Self::Bucket(bucket, runtime))
            }
            ModelDestination::Claim(claim) => {
                Err(Error::OnlyInCluster { claim: claim.to_string() })
            }
            ModelDestination::Depot => Err(Error::NoFiles),
        }
    }

    /// The records that Gantry left there, one for each model.
    pub fn records(&self) -> Result<Vec<ModelRecord>> {
        match self {
            Self::Folder(path) => ModelRecord::read_all(path.as_path()),
            Self::Bucket(bucket, _) => ModelRecord::read_all(bucket),
        }
    }

    /// Reads and hashes every file in the records.
    pub fn verify(&self, progress: &dyn Progress) -> Result<ModelVerifyReport> {
        match self {
            Self::Folder(path) => verify_models(path.as_path(), progress),
            Self::Bucket(bucket, _) => verify_models(bucket, progress),
        }
    }

    /// Writes models.
    pub fn write(
        &self,
        source: &dyn Source,
        plans: &[ModelPlan],
        layout: ModelLayout,
        progress: &dyn Progress,
    ) -> Result<Vec<ModelPutOutcome>> {
        match self {
            Self::Folder(path) => write_models(source, path, plans, layout, progress),
            Self::Bucket(bucket, _) => bucket::push_models(source, bucket, plans, layout, progress),
        }
    }

    /// How many bytes of each model are not there yet. Nothing is written.
    pub fn find_missing_bytes(&self, plans: &[ModelPlan]) -> Result<Vec<u64>> {
        match self {
            Self::Folder(path) => write::find_missing_bytes(path, plans),
            Self::Bucket(bucket, _) => bucket::find_missing_bytes(bucket, plans),
        }
    }

    /// The path or URL of a file in it, as shown to the user.
    pub fn display_path(&self, file: &Path) -> PathBuf {
        match self {
            Self::Folder(path) => path.as_path().display_path(file),
            Self::Bucket(bucket, _) => bucket.display_path(file),
        }
    }
}

impl BucketAccess {
    /// How to reach the server of a target's bucket: as the target says, with the certificate authorities
    /// and the bandwidth of the user's configuration.
    pub fn of_target(target: &ModelTarget, config: &UserConfig) -> Self {
        Self {
            endpoint: target.endpoint.clone(),
            ca: target.ca.iter().chain(&config.ca).cloned().collect(),
            bandwidth: config.bandwidth,
            http: if target.plain_http {
                PlainHttpPolicy::Allowed
            } else {
                PlainHttpPolicy::Refused
            },
        }
    }
}

/// The target with its paths resolved: in site.yaml they are relative to that file's folder.
#[must_use]
pub fn resolve_target_paths(target: &ModelTarget, folder: &Path) -> ModelTarget {
    let mut target = target.clone();
    target.ca = target.ca.map(|path| folder.join(path));
    if let ModelDestination::Folder(path) = &mut target.to {
        *path = folder.join(&*path);
    }
    target
}

/// The name of a locked model if it belongs to this target: the layout must suit it, and the target must
/// name it or take all models.
pub fn find_expected_name(target: &ModelTarget, model: &LockedModel) -> Option<String> {
    let name = match model {
        LockedModel::Hub(model) if target.layout != ModelLayout::Ollama => model.hf.to_string(),
        LockedModel::Ollama(model) if target.layout == ModelLayout::Ollama => model.ollama.clone(),
        LockedModel::Url(model) if target.layout == ModelLayout::Flat => {
            model.reference.to_string()
        }
        _ => return None,
    };
    let own = ModelName::from_lock(model);
    let is_named = |named: &String| own.is_called(named);
    (target.models.is_empty() || target.models.iter().any(is_named)).then_some(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read_target(text: &str) -> ModelTarget {
        let site = format!("version: 1\nregistry: {{url: site:5000}}\nmodels:\n- {{{text}}}\n");
        types::site::Site::parse("site.yaml", &site).unwrap().models.remove(0)
    }

    #[test]
    fn paths_of_a_target_are_relative_to_the_folder_of_its_site_file() {
        let here = Path::new("/etc/gantry");
        let target = resolve_target_paths(&read_target("to: ./models"), here);
        assert_eq!(target.to, ModelDestination::Folder("/etc/gantry/./models".into()));
        let target = resolve_target_paths(&read_target("to: /srv/models"), here);
        assert_eq!(target.to, ModelDestination::Folder("/srv/models".into()));
        let bucket = read_target("to: 's3://models', endpoint: 'https://s3.site', ca: ca.pem");
        let access =
            BucketAccess::of_target(&resolve_target_paths(&bucket, here), &UserConfig::default());
        assert_eq!(access.ca, [PathBuf::from("/etc/gantry/ca.pem")]);
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let open = |text: &str| {
            let target = read_target(text);
            OpenModelTarget::open(
                &target.to,
                &BucketAccess::of_target(&target, &UserConfig::default()),
            )
            .err()
        };
        assert!(matches!(open("to: /does/not/exist"), Some(Error::NoFolder { .. })));
        assert!(matches!(open("to: 'pvc://ai/models'"), Some(Error::OnlyInCluster { .. })));
        assert!(matches!(open("to: depot"), Some(Error::NoFiles)));
        assert!(open("to: /").is_none());
    }
}
