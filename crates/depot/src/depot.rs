//! The depot itself: what can be pulled, read once when it opens.

use std::sync::Arc;

use crate::catalogue::{Catalogue, DepotSummary};
use crate::served_models::ServedModels;
use crate::{Result, catalogue_reader};

/// What can be pulled, and the source of its bytes.
pub struct Depot {
    pub(crate) source: Arc<dyn store::Source>,
    pub(crate) catalogue: Catalogue,
    pub(crate) models: ServedModels,
}

impl Depot {
    /// Reads all manifests of the source, but no other blob. Blocks on the disk. What is damaged or
    /// absent is left out and listed in the [`DepotSummary`]; the rest is served.
    pub fn open(source: Arc<dyn store::Source>) -> Result<Self> {
        let mut models = ServedModels::default();
        let catalogue = catalogue_reader::read_catalogue(&*source, |root, manifest| {
            models.add_root(root, manifest);
        })?;
        models.add_default_branches();
        Ok(Self { source, catalogue, models })
    }

    /// What can be pulled, in numbers, for the start message.
    pub fn summarize(&self) -> DepotSummary {
        self.catalogue.summarize(self.models.len())
    }
}
