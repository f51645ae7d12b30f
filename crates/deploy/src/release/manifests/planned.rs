//! A release of plain manifests that is ready to be applied.

use super::super::image_proof::ImageProof;
use crate::Result;
use crate::prepare::ReleaseRefusal;

/// A release of plain manifests whose images point to the site's registry.
#[derive(Debug, Clone)]
pub struct PlannedManifests {
    release: String,
    namespace: String,
    source: String,
    stream: String,
}

impl PlannedManifests {
    /// Proves that a stream of manifests makes the cluster pull only from the site's registry.
    /// `source` says in a few words where the manifests come from, beside the chart of other releases.
    ///
    /// # Errors
    /// [`ReleaseRefusal::OutsideImages`] with every image that would be pulled from elsewhere.
    pub fn prove(
        release: &str,
        namespace: &str,
        source: &str,
        stream: String,
        proof: &ImageProof<'_>,
    ) -> Result<Self> {
        let places = proof.find_outside_images(&stream)?;
        if !places.is_empty() {
            let release = release.to_owned();
            return Err(ReleaseRefusal::OutsideImages { release, places }.into());
        }
        Ok(Self {
            release: release.to_owned(),
            namespace: namespace.to_owned(),
            source: source.to_owned(),
            stream,
        })
    }

    /// The release's name.
    pub fn name(&self) -> &str {
        &self.release
    }

    /// Its namespace, in which objects are that name none.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Where the manifests come from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The objects as a stream of YAML documents.
    pub(super) fn stream(&self) -> &str {
        &self.stream
    }
}
