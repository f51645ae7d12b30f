//! What the previous lock has pinned: an item that the input still requests in the same way stays
//! what it was, unless it is to be upgraded, or content of it from this machine is gone from the
//! store.

use std::collections::HashMap;

use store::{Source, Store};
use types::lock::{self, Blob, BlobOrigin, Lock};
use types::{GitId, ModelId, Platform, Reference};

/// What is resolved again although it is pinned (`--upgrade`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradeSelection {
    /// Nothing: all pins are kept.
    Nothing,
    /// Everything: no pin is kept.
    All,
    /// The items of these names: a reference with or without its tag, a chart, a release, a model.
    Named(Vec<String>),
}

/// The pins of the previous lock, as far as they are kept.
pub(crate) struct LockPins<'a> {
    previous: Option<&'a Lock>,
    upgrade: &'a UpgradeSelection,
    store: &'a Store,
}

impl<'a> LockPins<'a> {
    pub(crate) fn new(
        previous: Option<&'a Lock>,
        upgrade: &'a UpgradeSelection,
        store: &'a Store,
    ) -> Self {
        Self { previous, upgrade, store }
    }

    /// The names to upgrade that nothing in the previous lock has.
    pub(crate) fn find_unknown_names(&self) -> Vec<&'a str> {
        let UpgradeSelection::Named(names) = self.upgrade else { return Vec::new() };
        // Without a previous lock everything is resolved again anyway.
        let Some(previous) = self.previous else { return Vec::new() };
        let all: Vec<Vec<String>> = previous
            .charts
            .iter()
            .map(chart_names)
            .chain(previous.images.iter().map(|image| reference_names(&image.reference)))
            .chain(previous.models.iter().map(model_names))
            .chain(previous.files.iter().map(|file| vec![file.file.clone()]))
            .collect();
        let is_known = |name: &str| all.iter().flatten().any(|known| known == name);
        names.iter().map(String::as_str).filter(|name| !is_known(name)).collect()
    }

    /// The pinned chart that the input requests in the same way: chart, name and version.
    pub(crate) fn pinned_chart(
        &self,
        chart: &str,
        name: Option<&str>,
        requested: Option<&str>,
    ) -> Option<&'a lock::LockedChart> {
        self.previous?.charts.iter().find(|pinned| {
            pinned.chart == chart
                && pinned.name.as_deref() == name
                && pinned.requested.as_deref() == requested
                && self.is_kept(&chart_names(pinned))
                && self.is_local_content_stored(&pinned.reference)
                && pinned.manifest.layers.iter().all(|blob| self.is_stored(*blob))
        })
    }

    /// The pinned image. An image from a local source is never pinned: an archive of the same name
    /// may hold another image by now.
    pub(crate) fn pinned_image(
        &self,
        reference: &Reference,
        platforms: &[Platform],
    ) -> Option<&'a lock::LockedImage> {
        self.previous?.images.iter().find(|pinned| {
            pinned.reference == *reference
                && pinned.platforms == platforms
                && pinned.from.is_none()
                && self.is_kept(&reference_names(reference))
        })
    }

    /// The pinned model that `is_it` accepts, if its content from this machine is in the store.
    pub(crate) fn pinned_model(
        &self,
        is_it: impl Fn(&lock::LockedModel) -> bool,
    ) -> Option<&'a lock::LockedModel> {
        self.previous?.models.iter().find(|pinned| {
            is_it(pinned)
                && self.is_kept(&model_names(pinned))
                && self.is_local_content_stored(pinned.reference())
        })
    }

    /// The files outside of LFS that the previous lock knows, by their git id. The Hub lists only
    /// the git id of such a file, so its sha256 was found by reading it; this saves reading it
    /// again.
    pub(crate) fn pinned_small_files(&self, id: &ModelId) -> HashMap<GitId, Blob> {
        let models = self.previous.into_iter().flat_map(|previous| &previous.models);
        models
            .filter_map(|model| match model {
                lock::LockedModel::Hub(model) if model.hf == *id => Some(&model.files),
                _ => None,
            })
            .flatten()
            .filter(|file| !file.lfs)
            .map(|file| (file.git.clone(), Blob { digest: file.digest, size: file.size }))
            .collect()
    }

    /// Whether all content of a root that came from local sources is in the store.
    fn is_local_content_stored(&self, owner: &Reference) -> bool {
        let Some(previous) = self.previous else { return false };
        let content = previous.blobs();
        content
            .iter()
            .filter(|content| content.owner == owner && content.origin == BlobOrigin::Local)
            .all(|content| self.is_stored(content.blob))
    }

    fn is_stored(&self, blob: Blob) -> bool {
        self.store.blob_size(&blob.digest).is_ok_and(|size| size == Some(blob.size))
    }

    fn is_kept(&self, names: &[String]) -> bool {
        match self.upgrade {
            UpgradeSelection::Nothing => true,
            UpgradeSelection::All => false,
            UpgradeSelection::Named(wanted) => !names.iter().any(|name| wanted.contains(name)),
        }
    }
}

fn reference_names(reference: &Reference) -> Vec<String> {
    let mut names = vec![reference.to_string(), reference.name()];
    // Images of Docker Hub also have the short name that people write: `nginx:1.25`.
    if reference.registry() == "docker.io" {
        let short = reference.repository().trim_start_matches("library/").to_owned();
        if let Some(tag) = reference.tag() {
            names.push(format!("{short}:{tag}"));
        }
        names.push(short);
    }
    names
}

fn chart_names(chart: &lock::LockedChart) -> Vec<String> {
    let mut names = reference_names(&chart.reference);
    names.extend([chart.chart.clone(), chart.release.clone()]);
    names.extend(chart.name.clone());
    names
}

fn model_names(model: &lock::LockedModel) -> Vec<String> {
    let mut names = reference_names(model.reference());
    names.push(match model {
        lock::LockedModel::Hub(model) => model.hf.to_string(),
        lock::LockedModel::Ollama(model) => model.ollama.clone(),
        lock::LockedModel::Url(model) => model.url.clone(),
    });
    names
}
