//! The archives of locked charts on the inside: out of volumes or a store, as a folder or `.tgz` that
//! lies where gantry.yaml says, or from the site's registry. Each is what the lock says, or an error.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use net::{Client, Mirrors};
use remote::helm;
use remote::oci::Registry;
use remote::scratch::Scratch;
use store::Source;
use types::input::ChartSource;
use types::site;

use super::Asked;
use crate::context::Context;
use crate::error::{CommandError, Kind, Result};

/// Where archives are looked for.
pub(crate) struct Archives<'a> {
    /// Volumes or a store that were named, which are the only place then.
    pub(crate) from: Option<Arc<dyn Source>>,
    /// The site's registry.
    pub(crate) registry: &'a site::Registry,
    /// How it is spoken to.
    pub(crate) client: Client,
    /// Where it really is.
    pub(crate) mirrors: Mirrors,
    /// Where archives are put for helm.
    pub(crate) scratch: Scratch,
}

impl Archives<'_> {
    /// The archive of a chart, as a file.
    pub(crate) async fn file(&self, context: &Context, asked: &Asked) -> Result<PathBuf> {
        if let (None, ChartSource::Local(path)) = (&self.from, &asked.chart.source) {
            let path = context.directory.join(path);
            if path.exists() {
                return local(&path, asked);
            }
        }
        let bytes = match &self.from {
            Some(source) => {
                let name = asked.locked.reference.to_string();
                helm::archive_in(source.as_ref(), &name, &asked.locked.manifest.digest).map_err(
                    |error| {
                        CommandError::from(error).hint(format!(
                            "is the chart of release {} in what --from names?",
                            asked.release()
                        ))
                    },
                )?
            }
            None => match self.at_site(asked).await {
                Ok(bytes) => bytes,
                Err(error) => return self.kept(context, asked).ok_or(error),
            },
        };
        let file = self.scratch.path().join(format!("{}.tgz", asked.release()));
        fs::write(&file, bytes).map_err(|cause| {
            CommandError::failed(format!("cannot write {}: {cause}", file.display()))
        })?;
        Ok(file)
    }

    async fn at_site(&self, asked: &Asked) -> Result<Vec<u8>> {
        let prefix = self.registry.prefix()?;
        let name = prefix.target(self.registry.naming, &asked.locked.reference)?;
        let registry = Registry::new(&self.client, &self.mirrors, name.registry());
        let name = name.with_digest(asked.locked.manifest.digest);
        let bytes = helm::archive_at(&registry, &name).await;
        bytes.map_err(|error| {
            CommandError::from(error).hint(
                "load the bundle: gantry load VOLUME… --site site.yaml, or name it: --from VOLUME…",
            )
        })
    }

    /// The archive in this user's store, where the registry has it not.
    fn kept(&self, context: &Context, asked: &Asked) -> Option<PathBuf> {
        let store = context.existing_store().ok()??;
        let name = asked.locked.reference.to_string();
        let bytes = helm::archive_in(&store, &name, &asked.locked.manifest.digest).ok()?;
        let file = self.scratch.path().join(format!("{}.tgz", asked.release()));
        fs::write(&file, bytes).ok()?;
        Some(file)
    }
}

/// A chart that lies where gantry.yaml says, if it is the one that was locked.
fn local(path: &Path, asked: &Asked) -> Result<PathBuf> {
    let archive = match path.is_dir() {
        true => helm::package(path)?,
        false => helm::Archive::read(path)?,
    };
    let digest = archive.digest();
    if asked.locked.manifest.layers.iter().any(|layer| layer.digest == digest) {
        return Ok(path.to_owned());
    }
    Err(CommandError::new(
        Kind::Integrity,
        format!(
            "{} is not what was locked for release {}: its archive is {}",
            path.display(),
            asked.release(),
            digest.short()
        ),
    )
    .hint("lock it again on the outside (gantry lock), or take the one that was carried: --from VOLUME…"))
}
