//! A release that is ready to be installed: what helm gets, and what was proven about it.

use std::collections::BTreeSet;

use remote::helm::ReleaseInstall;
use types::Reference;

/// A release whose images point to the site's registry, ready to be installed. Only
/// [`crate::prepare::ReleasePreparer`] makes one, when everything about it is proven.
#[derive(Debug, Clone)]
pub struct PlannedRelease {
    /// The chart, values and names that helm gets.
    pub(crate) install: ReleaseInstall,
    /// The chart's objects rendered without a cluster. Their kinds determine which rights are
    /// needed.
    pub(crate) rendered: String,
    /// The chart's name.
    pub(crate) chart: String,
    /// The chart's version.
    pub(crate) version: String,
    /// Public image names that may stay, because the user says that registry mirrors on the nodes
    /// or the admission webhook redirect them.
    pub(crate) elsewhere: BTreeSet<Reference>,
}

impl PlannedRelease {
    /// The release's name.
    pub fn name(&self) -> &str {
        &self.install.release.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.install.release.namespace.as_deref().unwrap_or("default")
    }
}
