//! Prepares a set of plain manifests for a site: configures it for offline use, moves its images to the
//! site's registry by edits in place, proves that, and refuses what it cannot prove. The result is what
//! is applied to the cluster.

use chart::manifest::Manifests;
use chart::mirrors::RegistryScheme;
use chart::post_render;
use chart::relocate::{ProofVerdict, RelocationTarget};
use chart::report::RelocationReport;
use chart::wiring::{OfflineWiring, SiteServices};
use types::site::Site;
use types::site_content::SiteContent;

use super::archives::ChartArchives;
use super::offline::OfflineRules;
use super::preparer::{LeftoverWorkaround, UnwiredPolicy, has_custom_kinds};
use super::refusal::ReleaseRefusal;
use super::selection::SelectedManifests;
use crate::Result;

/// A set of manifests that was moved, wired and proven.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PreparedManifests {
    /// The release's name.
    pub release: String,
    /// The namespace of the objects that name none; as for [`SelectedManifests::for_cluster`].
    pub namespace: Option<String>,
    /// What is applied: a stream of YAML documents, each one object, in the order of application. Each
    /// has its file in a comment, `# Source: web.yaml`.
    pub stream: String,
    /// How its images were moved, with the proof and what is left.
    pub report: RelocationReport,
    /// How its runtimes were configured for offline use; `stream` has all of it.
    pub wiring: OfflineWiring,
    /// Whether it has CustomResourceDefinitions that other releases may need.
    pub brings_kinds: bool,
    /// Its index among the releases of gantry.yaml.
    pub number: usize,
}

/// Prepares sets of manifests for one site.
pub struct ManifestPreparer<'a> {
    /// The site.
    pub site: &'a Site,
    /// The site's registry, to which images are moved.
    pub target: &'a RelocationTarget,
    /// What the site holds: no other image may be applied.
    pub locked: &'a SiteContent,
    /// What is known about programs that connect to the outside.
    pub rules: &'a OfflineRules,
    /// Where the manifests come from.
    pub archives: &'a ChartArchives<'a>,
    /// The workarounds for leftovers that the user accepts.
    pub workarounds: &'a [LeftoverWorkaround],
    /// What happens to releases that cannot be configured for offline use.
    pub unwired: UnwiredPolicy,
}

impl ManifestPreparer<'_> {
    /// Prepares a set of manifests: finds it inside the air gap, configures it for offline use, moves its
    /// images, and proves that it pulls only from the site. Nothing is written to the cluster.
    ///
    /// # Errors
    /// [`crate::Error::NotDeployable`] if a proof fails or something is left that no accepted workaround
    /// covers; all others are about reading the manifests and the site.
    pub async fn prepare_manifests(
        &self,
        selected: &SelectedManifests,
    ) -> Result<PreparedManifests> {
        let stream = self.archives.read_manifests(selected).await?;
        // Editing and proving is work for the processor.
        tokio::task::block_in_place(|| self.relocate_manifests(selected, &stream))
    }

    fn relocate_manifests(
        &self,
        selected: &SelectedManifests,
        stream: &str,
    ) -> Result<PreparedManifests> {
        let namespace = selected.set.namespace.as_deref();
        let services = SiteServices::from_site(self.site, namespace);
        let wiring = self.rules.wire_manifests(stream, &services)?;
        let wired = wiring.patches().apply(stream)?;
        let moved = post_render::post_render_with_rules(
            &wired,
            self.target,
            self.rules.rules(),
            Some(self.locked),
        )?;
        let scheme = match self.site.registry.plain_http {
            true => RegistryScheme::Http,
            false => RegistryScheme::Https,
        };
        let report =
            RelocationReport::for_manifests(selected.name(), self.target, scheme, &moved.proof)?;
        self.refuse_unproven(selected, &report, &wiring)?;
        Ok(PreparedManifests {
            release: selected.name().to_owned(),
            namespace: selected.set.namespace.clone(),
            brings_kinds: has_custom_kinds(&Manifests::read(&moved.stream)),
            stream: moved.stream,
            report,
            wiring,
            number: selected.number,
        })
    }

    /// Refuses manifests whose proof failed, or that have leftovers for which the user chose no
    /// workaround.
    fn refuse_unproven(
        &self,
        selected: &SelectedManifests,
        report: &RelocationReport,
        wiring: &OfflineWiring,
    ) -> Result<(), ReleaseRefusal> {
        let release = selected.name().to_owned();
        if report.verdict == ProofVerdict::Refuted || !report.unconfirmed.is_empty() {
            let report = report.refutation_markdown() + &report.unconfirmed_markdown();
            return Err(ReleaseRefusal::Unproven { release, report });
        }
        // Mirrors and the webhook act on every pod, whatever created it; a post-renderer has nothing to
        // add to the edits that were made already.
        let is_elsewhere = self.workarounds.iter().any(|way| way.is_outside_of_manifests());
        if !report.leftovers.is_empty() && !is_elsewhere {
            let leftovers = report.leftovers.clone();
            let is_for_post_renderer = false;
            return Err(ReleaseRefusal::Leftovers { release, leftovers, is_for_post_renderer });
        }
        match wiring.leftovers.first() {
            Some(left) if self.unwired == UnwiredPolicy::Refuse => {
                Err(ReleaseRefusal::NotOffline { release, leftover: left.clone() })
            }
            _ => Ok(()),
        }
    }
}
