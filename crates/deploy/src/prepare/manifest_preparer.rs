//! Prepares a set of plain manifests for a site: configures it for offline use, moves its images to the
//! site's registry by edits in place, proves that, and refuses what it cannot prove. The result is what
//! is applied to the cluster.

use std::collections::BTreeSet;

use chart::manifest::Manifests;
use chart::mirrors::RegistryScheme;
use chart::relocate::{ProofVerdict, RelocationTarget};
use chart::report::RelocationReport;
use chart::wiring::{OfflineWiring, SiteServices};
use chart::{image_pins, post_render};
use types::site::Site;
use types::site_content::SiteContent;
use types::{ImagePin, Reference};

use super::archives::ChartArchives;
use super::offline::OfflineRules;
use super::preparer::{LeftoverWorkaround, UnwiredPolicy, has_custom_kinds};
use super::refusal::{PostRendererReach, ReleaseRefusal};
use super::selection::SelectedManifests;
use crate::Result;
use crate::release::{ImageProof, PlannedManifests};

/// A set of manifests that was moved, wired and proven.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PreparedManifests {
    /// What [`crate::release::ManifestDeployer`] applies.
    pub planned: PlannedManifests,
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
    /// How releases are told of a tag with new content, before what the site says.
    pub pin: Option<ImagePin>,
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
        let pin = self.pin.or(self.site.pin).unwrap_or_default();
        let stream = image_pins::pin_images(&moved.stream, self.locked, pin)?.stream;
        let elsewhere = self.list_images_elsewhere(&report);
        let proof = ImageProof {
            target: self.target,
            rules: self.rules.rules(),
            locked: self.locked,
            elsewhere: &elsewhere,
        };
        let place = namespace.unwrap_or("default");
        let planned =
            PlannedManifests::prove(selected.name(), place, "manifests", stream.clone(), &proof)?;
        Ok(PreparedManifests {
            planned,
            release: selected.name().to_owned(),
            namespace: selected.set.namespace.clone(),
            brings_kinds: has_custom_kinds(&Manifests::read(&stream)),
            stream,
            report,
            wiring,
            number: selected.number,
        })
    }

    /// The images that may stay, since something outside of the manifests moves them.
    fn list_images_elsewhere(&self, report: &RelocationReport) -> BTreeSet<Reference> {
        let is_elsewhere = self.workarounds.iter().any(|way| way.is_outside_of_manifests());
        let leftovers = report.leftovers.iter().filter(|_| is_elsewhere);
        leftovers.map(|left| left.image.clone()).collect()
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
        let mut leftovers = report.open_leftovers(|_| is_elsewhere);
        if self.workarounds.contains(&LeftoverWorkaround::Accept) {
            leftovers.registries.clear();
            leftovers.broken.clear();
        }
        if !leftovers.is_empty() {
            let post_renderer = PostRendererReach::NotAll;
            return Err(ReleaseRefusal::Leftovers { release, leftovers, post_renderer });
        }
        match wiring.leftovers.first() {
            Some(left) if self.unwired == UnwiredPolicy::Refuse => {
                Err(ReleaseRefusal::NotOffline { release, leftover: left.clone() })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;
    use std::sync::Arc;

    use net::{Client, Mirrors};
    use remote::scratch::ScratchFolder;
    use store::Store;
    use types::input::Input;
    use types::lock::Lock;

    use super::*;
    use crate::Error;
    use crate::prepare::select_manifests;

    const IMAGE: &str = "ghcr.io/o/embedder:1";
    const STREAM: &str = "\
---
# Source: web.yaml
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  template:
    spec:
      containers:
        - name: server
          image: ghcr.io/o/embedder:1 # ours
          env:
            - {name: HF_HOME, value: /cache}
          volumeMounts:
            - {name: models, mountPath: /cache}
      volumes:
        - name: models
          persistentVolumeClaim: {claimName: models}
";

    /// A lock with one image and the stream as a set of manifests.
    fn lock_with(image: &str, stream: &[u8]) -> Lock {
        let digest = store::hash::sha256(stream);
        let text = format!(
            "version: 1\nname: a\nplatforms: [linux/amd64]\nmanifests:\n- {{release: web, namespace: onyx, \
             from: [web.yaml], reference: 'manifests.gantry/web:{}', content: {{digest: '{digest}', size: {}}}, \
             manifest: {{digest: '{digest}', size: 1}}}}\nimages:\n- {{reference: '{image}', digest: '{digest}', \
             mediaType: m, size: 1, platforms: [], manifests: [], seen: []}}\n",
            digest.short_hex(),
            stream.len()
        );
        Lock::parse("gantry.lock", &text).unwrap()
    }

    /// Prepares the stream for a site with a claim of models in this namespace.
    async fn prepare(
        image: &str,
        claims_in: &str,
        unwired: UnwiredPolicy,
    ) -> Result<PreparedManifests> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        store.put_bytes(STREAM.as_bytes()).unwrap();
        let text = format!(
            "version: 1\nregistry: {{url: 'site:5000/ai'}}\nmodels: [{{to: 'pvc://{claims_in}/models'}}]\n"
        );
        let site = Site::parse("site.yaml", &text).unwrap();
        let input =
            "version: 1\nname: a\nmanifests: [{release: web, namespace: onyx, from: web.yaml}]\n";
        let input = Input::parse("gantry.yaml", input).unwrap();
        let lock = lock_with(image, STREAM.as_bytes());
        let target = RelocationTarget::from_registry(&site.registry).unwrap();
        let preparer = ManifestPreparer {
            site: &site,
            target: &target,
            locked: &SiteContent::new(std::slice::from_ref(&lock), &[], &site.registry).unwrap(),
            rules: &OfflineRules::new(Some(&input), &target),
            archives: &ChartArchives {
                base: Path::new("."),
                from: Some(Arc::new(store)),
                store: None,
                registry: &site.registry,
                client: Client::builder().build().unwrap(),
                mirrors: Mirrors::new(&[].into(), &[]).unwrap(),
                scratch: ScratchFolder::new("gantry-test-").unwrap(),
            },
            workarounds: &[],
            unwired,
            pin: Some(ImagePin::None),
        };
        preparer.prepare_manifests(&select_manifests(&input, &lock, &[]).unwrap()[0]).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn manifests_are_moved_and_told_where_the_mounted_models_are() {
        let prepared = prepare(IMAGE, "onyx", UnwiredPolicy::Refuse).await.unwrap();

        assert_eq!(prepared.report.verdict, ProofVerdict::Proven);
        let stream = &prepared.stream;
        assert!(stream.contains("image: site:5000/ai/o/embedder:1 # ours"), "{stream}");
        assert!(stream.contains(r#""HF_HUB_CACHE","value":"/cache""#), "{stream}");
        assert!(!prepared.wiring.lines.is_empty() && !prepared.brings_kinds);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_locked_or_not_wired_is_refused() {
        let refuse = UnwiredPolicy::Refuse;
        let unlocked = prepare("quay.io/o/other:1", "onyx", refuse).await.unwrap_err();
        let elsewhere = prepare(IMAGE, "other", refuse).await.unwrap_err();

        assert!(
            matches!(&unlocked, Error::NotDeployable(ReleaseRefusal::Unproven { report, .. }) if report.contains("embedder")),
            "{unlocked}"
        );
        assert!(
            matches!(&elsewhere, Error::NotDeployable(ReleaseRefusal::NotOffline { leftover, .. }) if leftover.what.contains("namespace other")),
            "{elsewhere}"
        );
        assert!(prepare(IMAGE, "other", UnwiredPolicy::Deploy).await.is_ok());
    }
}
