//! What the previous lock has pinned: an item that the input still requests in the same way stays
//! what it was, unless it is to be upgraded, or content of it from this machine is gone from the
//! store.

use std::collections::HashMap;

use store::{Source, Store};
use types::lock::{self, Blob, Lock, Origin};
use types::{GitId, ModelId, Platform, Reference};

/// What is resolved again although it is pinned (`--upgrade`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing: all pins are kept.
    Nothing,
    /// Everything: no pin is kept.
    All,
    /// The items of these names: a reference with or without its tag, a chart, a release, a model.
    Named(Vec<String>),
}

/// The pins of the previous lock, as far as they are kept.
pub(crate) struct Pins<'a> {
    previous: Option<&'a Lock>,
    upgrade: &'a Upgrade,
    store: &'a Store,
}

impl<'a> Pins<'a> {
    pub(crate) fn new(previous: Option<&'a Lock>, upgrade: &'a Upgrade, store: &'a Store) -> Self {
        Self { previous, upgrade, store }
    }

    /// The names to upgrade that nothing in the previous lock has.
    pub(crate) fn unknown_names(&self) -> Vec<&'a str> {
        let Upgrade::Named(names) = self.upgrade else { return Vec::new() };
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
    pub(crate) fn chart(
        &self,
        chart: &str,
        name: Option<&str>,
        requested: Option<&str>,
    ) -> Option<&'a lock::Chart> {
        self.previous?.charts.iter().find(|pinned| {
            pinned.chart == chart
                && pinned.name.as_deref() == name
                && pinned.requested.as_deref() == requested
                && self.stays(&chart_names(pinned))
                && self.is_here(&pinned.reference)
                && pinned.manifest.layers.iter().all(|blob| self.has(*blob))
        })
    }

    /// The pinned image. An image from a local source is never pinned: an archive of the same name
    /// may hold another image by now.
    pub(crate) fn image(
        &self,
        reference: &Reference,
        platforms: &[Platform],
    ) -> Option<&'a lock::Image> {
        self.previous?.images.iter().find(|pinned| {
            pinned.reference == *reference
                && pinned.platforms == platforms
                && pinned.from.is_none()
                && self.stays(&reference_names(reference))
        })
    }

    /// The pinned model that `is_it` accepts, if its content from this machine is in the store.
    pub(crate) fn model(&self, is_it: impl Fn(&lock::Model) -> bool) -> Option<&'a lock::Model> {
        self.previous?.models.iter().find(|pinned| {
            is_it(pinned) && self.stays(&model_names(pinned)) && self.is_here(pinned.reference())
        })
    }

    /// The files outside of LFS that the previous lock knows, by their git id. The Hub lists only
    /// the git id of such a file, so its sha256 was found by reading it; this saves reading it
    /// again.
    pub(crate) fn small_files(&self, id: &ModelId) -> HashMap<GitId, Blob> {
        let models = self.previous.into_iter().flat_map(|previous| &previous.models);
        models
            .filter_map(|model| match model {
                lock::Model::Hub(model) if model.hf == *id => Some(&model.files),
                _ => None,
            })
            .flatten()
            .filter(|file| !file.lfs)
            .map(|file| (file.git.clone(), Blob { digest: file.digest, size: file.size }))
            .collect()
    }

    /// Whether all content of a root that came from local sources is in the store.
    fn is_here(&self, owner: &Reference) -> bool {
        let Some(previous) = self.previous else { return false };
        let content = previous.content();
        content
            .iter()
            .filter(|content| content.owner == owner && content.origin == Origin::Local)
            .all(|content| self.has(content.blob))
    }

    fn has(&self, blob: Blob) -> bool {
        self.store.size(&blob.digest).is_ok_and(|size| size == Some(blob.size))
    }

    fn stays(&self, names: &[String]) -> bool {
        match self.upgrade {
            Upgrade::Nothing => true,
            Upgrade::All => false,
            Upgrade::Named(wanted) => !names.iter().any(|name| wanted.contains(name)),
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

fn chart_names(chart: &lock::Chart) -> Vec<String> {
    let mut names = reference_names(&chart.reference);
    names.extend([chart.chart.clone(), chart.release.clone()]);
    names.extend(chart.name.clone());
    names
}

fn model_names(model: &lock::Model) -> Vec<String> {
    let mut names = reference_names(model.reference());
    names.push(match model {
        lock::Model::Hub(model) => model.hf.to_string(),
        lock::Model::Ollama(model) => model.ollama.clone(),
        lock::Model::Url(model) => model.url.clone(),
    });
    names
}
