//! Finds the archives of locked charts inside the air gap: in bundle files or a store (`--from`), at the
//! local path of gantry.yaml, or in the site's registry. Each must have the digest in the lock.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use net::{Client, Mirrors};
use remote::helm;
use remote::oci::RegistryClient;
use remote::scratch::ScratchFolder;
use store::Source;
use types::input::ChartSource;
use types::site;

use super::SelectedRelease;
use crate::context::CommandContext;
use crate::error::{CommandError, ErrorKind, Result};

/// Where chart archives are looked for.
pub(crate) struct ChartArchives<'a> {
    /// Bundle files or a store (`--from`). If given, nothing else is searched.
    pub(crate) from: Option<Arc<dyn Source>>,
    /// The site's registry.
    pub(crate) registry: &'a site::RegistryTarget,
    /// The HTTP client for the registry.
    pub(crate) client: Client,
    /// The mirrors, which decide the registry's actual address and scheme.
    pub(crate) mirrors: Mirrors,
    /// The temporary folder for the archives, for helm to read.
    pub(crate) scratch: ScratchFolder,
}

impl ChartArchives<'_> {
    /// Finds the archive of a release's chart and returns its path.
    pub(crate) async fn find_archive(
        &self,
        context: &CommandContext,
        asked: &SelectedRelease,
    ) -> Result<PathBuf> {
        if let (None, ChartSource::Local(path)) = (&self.from, &asked.chart.source) {
            let path = context.directory.join(path);
            if path.exists() {
                return check_local_chart(&path, asked);
            }
        }
        let bytes = match &self.from {
            Some(source) => {
                let name = asked.locked.reference.to_string();
                helm::read_archive(source.as_ref(), &name, &asked.locked.manifest.digest).map_err(
                    |error| {
                        CommandError::from(error).with_hint(format!(
                            "check that the bundle or store named with --from contains the chart of release {}",
                            asked.release()
                        ))
                    },
                )?
            }
            None => match self.pull_from_site(asked).await {
                Ok(bytes) => bytes,
                // A machine that both fetched and deploys has the chart in its store. If that fails too, the error
                // of the registry is the one to act on.
                Err(error) => return self.find_in_store(context, asked).ok_or(error),
            },
        };
        let file = self.scratch.path().join(format!("{}.tgz", asked.release()));
        fs::write(&file, bytes).map_err(|cause| {
            CommandError::failure(format!("cannot write {}: {cause}", file.display()))
        })?;
        Ok(file)
    }

    async fn pull_from_site(&self, asked: &SelectedRelease) -> Result<Vec<u8>> {
        let prefix = self.registry.parse_prefix()?;
        let name = prefix.site_reference(self.registry.naming, &asked.locked.reference)?;
        let registry = RegistryClient::new(&self.client, &self.mirrors, name.registry());
        // By digest: a tag at the site's registry may have been pushed again since.
        let name = name.with_digest(asked.locked.manifest.digest);
        let bytes = helm::download_archive(&registry, &name).await;
        bytes.map_err(|error| {
            CommandError::from(error).with_hint(
                "load the bundle first: gantry load BUNDLE… --site site.yaml, or name it here: --from BUNDLE…",
            )
        })
    }

    /// The archive in the local store, as a fallback for the registry.
    fn find_in_store(&self, context: &CommandContext, asked: &SelectedRelease) -> Option<PathBuf> {
        let store = context.open_existing_store().ok()??;
        let name = asked.locked.reference.to_string();
        let bytes = helm::read_archive(&store, &name, &asked.locked.manifest.digest).ok()?;
        let file = self.scratch.path().join(format!("{}.tgz", asked.release()));
        fs::write(&file, bytes).ok()?;
        Some(file)
    }
}

/// Checks that the chart at a local path is the one that was locked.
fn check_local_chart(path: &Path, asked: &SelectedRelease) -> Result<PathBuf> {
    let archive = match path.is_dir() {
        true => helm::package_chart(path)?,
        false => helm::ChartArchive::read(path)?,
    };
    let digest = archive.digest();
    if asked.locked.manifest.layers.iter().any(|layer| layer.digest == digest) {
        return Ok(path.to_owned());
    }
    Err(CommandError::new(
        ErrorKind::Integrity,
        format!(
            "{} differs from the chart that was locked for release {}: its digest is {}",
            path.display(),
            asked.release(),
            digest.short_hex()
        ),
    )
    .with_hint("run gantry lock again where there is internet access, or use the chart in the bundle: --from BUNDLE…"))
}
