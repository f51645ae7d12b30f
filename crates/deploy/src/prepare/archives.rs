//! Finds locked charts and manifests inside the air gap: in bundle files or a store, at the local path of
//! gantry.yaml (charts only), or in the site's registry. Each must have the digest in the lock.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use net::{Client, Mirrors};
use remote::helm;
use remote::oci::{self, RegistryClient};
use remote::scratch::ScratchFolder;
use store::{Source, Store};
use types::Cause;
use types::input::ChartSource;
use types::site::RegistryTarget;

use super::chart_origin::ChartOrigin;
use super::selection::{SelectedManifests, SelectedRelease};
use crate::{Error, Result};

/// The longest stream of manifests that is read; the files of a set are bounded when it is locked.
const MAX_STREAM: u64 = 256 << 20;

/// Where charts and manifests are looked for.
pub struct ChartArchives<'a> {
    /// The folder of gantry.yaml, to which the paths of local charts are relative.
    pub base: &'a Path,
    /// Bundle files or a store. If given, nothing else is searched.
    pub from: Option<Arc<dyn Source>>,
    /// The local store, if there is one: what the registry does not have may be there.
    pub store: Option<Store>,
    /// The site's registry.
    pub registry: &'a RegistryTarget,
    /// The HTTP client for the registry.
    pub client: Client,
    /// The mirrors, which decide the registry's actual address and scheme.
    pub mirrors: Mirrors,
    /// The temporary folder for the archives, for helm to read.
    pub scratch: ScratchFolder,
}

impl ChartArchives<'_> {
    /// Finds the archive of a release's chart and returns its path.
    pub(super) async fn find_archive(&self, selected: &SelectedRelease) -> Result<PathBuf> {
        if let (None, ChartSource::Local(path)) = (&self.from, &selected.chart.source) {
            let path = self.base.join(path);
            if path.exists() {
                return check_local_chart(&path, selected);
            }
        }
        let missing = |origin| {
            let release = selected.name().to_owned();
            move |cause| Error::NoChart { release, origin, cause }
        };
        let bytes = match &self.from {
            Some(source) => read_locked_archive(source.as_ref(), selected)
                .map_err(missing(ChartOrigin::Given))?,
            None => match self.pull_from_site(selected).await {
                Ok(bytes) => bytes,
                // A machine that both fetched and deploys has the chart in its store. If that fails too, the
                // error of the registry is the one to act on.
                Err(error) => {
                    let stored = self.store.as_ref();
                    let stored = stored.and_then(|store| read_locked_archive(store, selected).ok());
                    stored.ok_or_else(|| match error {
                        Error::Helm(cause) => missing(ChartOrigin::Registry)(cause),
                        other => other,
                    })?
                }
            },
        };
        let path = self.scratch.path().join(format!("{}.tgz", selected.name()));
        match fs::write(&path, bytes) {
            Ok(()) => Ok(path),
            Err(cause) => Err(Error::Write { path, cause }),
        }
    }

    /// Reads the stream of a set of manifests, as it was locked.
    pub(super) async fn read_manifests(&self, selected: &SelectedManifests) -> Result<String> {
        let missing = |origin| {
            let release = selected.name().to_owned();
            move |cause| Error::NoManifests { release, origin, cause }
        };
        let read = |source: &dyn Source| {
            store::read_blob(source, &selected.locked.content.digest, MAX_STREAM)
                .map_err(remote::Error::from)
        };
        let bytes = match &self.from {
            Some(source) => read(source.as_ref()).map_err(missing(ChartOrigin::Given))?,
            None => match self.pull_manifests(selected).await {
                Ok(bytes) => bytes,
                // As for charts: a machine that both fetched and deploys has them in its store.
                Err(error) => {
                    let stored = self.store.as_ref().and_then(|store| read(store).ok());
                    stored.ok_or_else(|| match error {
                        Error::Helm(cause) => missing(ChartOrigin::Registry)(cause),
                        other => other,
                    })?
                }
            },
        };
        String::from_utf8(bytes).map_err(|error| {
            let reason = Cause::about("it is not a text in UTF-8", error);
            let what = format!("the manifests of release {}", selected.name());
            Error::Helm(remote::Error::Damaged { what, reason })
        })
    }

    async fn pull_manifests(&self, selected: &SelectedManifests) -> Result<Vec<u8>> {
        let prefix = self.registry.parse_prefix()?;
        let name = prefix.site_reference(self.registry.naming, &selected.locked.reference)?;
        let registry = RegistryClient::new(&self.client, &self.mirrors, name.registry());
        let what = format!("the manifests {name}");
        let blob = selected.locked.content;
        Ok(oci::download_document(&registry, name.repository(), &what, blob, MAX_STREAM).await?)
    }

    async fn pull_from_site(&self, selected: &SelectedRelease) -> Result<Vec<u8>> {
        let prefix = self.registry.parse_prefix()?;
        let name = prefix.site_reference(self.registry.naming, &selected.locked.reference)?;
        let registry = RegistryClient::new(&self.client, &self.mirrors, name.registry());
        // By digest: a tag at the site's registry may have been pushed again since.
        let name = name.with_digest(selected.locked.manifest.digest);
        Ok(helm::download_archive(&registry, &name).await?)
    }
}

fn read_locked_archive(source: &dyn Source, selected: &SelectedRelease) -> remote::Result<Vec<u8>> {
    let name = selected.locked.reference.to_string();
    helm::read_archive(source, &name, &selected.locked.manifest.digest)
}

/// Checks that the chart at a local path is the one that was locked.
fn check_local_chart(path: &Path, selected: &SelectedRelease) -> Result<PathBuf> {
    let archive = match path.is_dir() {
        true => helm::package_chart(path)?,
        false => helm::ChartArchive::read(path)?,
    };
    let digest = archive.digest();
    if selected.locked.manifest.layers.iter().any(|layer| layer.digest == digest) {
        return Ok(path.to_owned());
    }
    Err(Error::ChartChanged { path: path.to_owned(), release: selected.name().to_owned(), digest })
}
