//! The depot itself: what can be pulled, read once when it opens; and whether it can still be served.

use std::sync::{Arc, Mutex};

use net::serve::{Readiness, ReadinessProbe};
use prometheus_client::registry::Registry;

use crate::blob_checks::BlobChecks;
use crate::catalogue::{Catalogue, DepotSummary};
use crate::metrics::DepotMetrics;
use crate::served_files::ServedFiles;
use crate::served_models::ServedModels;
use crate::{Result, catalogue_reader};

/// What can be pulled, and the source of its bytes.
pub struct Depot {
    pub(crate) source: Arc<dyn store::Source>,
    pub(crate) catalogue: Catalogue,
    pub(crate) models: ServedModels,
    pub(crate) files: ServedFiles,
    pub(crate) checks: Arc<BlobChecks>,
    metrics: DepotMetrics,
    /// Held while the media are checked, so that a medium that does not answer holds one thread only.
    probing: Arc<Mutex<()>>,
}

impl Depot {
    /// Reads all manifests of the source, but no other blob. Blocks on the disk. What is damaged or
    /// absent is left out and listed in the [`DepotSummary`]; the rest is served.
    pub fn open(source: Arc<dyn store::Source>) -> Result<Self> {
        let mut models = ServedModels::default();
        let mut files = ServedFiles::default();
        let mut damaged = Vec::new();
        let catalogue = catalogue_reader::read_catalogue(
            &*source,
            |root, manifest| {
                models.add_root(root, manifest);
                files.add_root(root, manifest);
            },
            |root, error| damaged.push((root.clone(), error.to_string())),
        )?;
        for (root, reason) in damaged {
            models.add_damaged_root(&root, reason);
        }
        models.add_default_branches();
        let metrics = DepotMetrics::default();
        metrics.set_unserved_roots(catalogue.left_out.len());
        let checks = Arc::new(BlobChecks::new(Arc::clone(&source), metrics.clone()));
        Ok(Self { source, catalogue, models, files, checks, metrics, probing: Arc::default() })
    }

    /// What can be pulled, in numbers, for the start message.
    pub fn summarize(&self) -> DepotSummary {
        self.catalogue.summarize(self.models.len())
    }

    /// Adds the depot's metrics to those of its server.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }
}

impl ReadinessProbe for Depot {
    /// Ready while the media answer. Damage of single blobs is told and is no reason to stop: the rest
    /// is served.
    fn check_readiness(&self) -> Readiness {
        let Ok(_probing) = self.probing.try_lock() else {
            return Readiness::NotReady("the media have not answered the last check yet".into());
        };
        if let Err(error) = self.source.check_media() {
            return Readiness::NotReady(error.to_string());
        }
        let unserved = self.catalogue.left_out.iter();
        let unserved = unserved.map(|root| format!("not served: {}: {}", root.name, root.reason));
        Readiness::Ready(self.checks.list_damaged().into_iter().chain(unserved).collect())
    }
}
