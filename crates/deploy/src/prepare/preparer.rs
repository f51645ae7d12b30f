//! Moves the images of one release to the site and proves that (as in `gantry relocate`), configures it
//! for offline use, and decides whether what is left may be deployed. The result is what helm is given.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use chart::image_pins;
use chart::manifest::Manifests;
use chart::mirrors::RegistryScheme;
use chart::relocate::{self, ProofVerdict, PullPolicy, RelocationTarget};
use chart::report::{LeftoverKind, OpenLeftovers, RelocationReport};
use chart::wiring;
use remote::helm::{HelmBinary, PostRenderer, ReleaseInstall};
use remote::scratch::ScratchFolder;
use resolve::OpenedChart;
use types::ImagePin;
use types::site::Site;
use types::site_content::SiteContent;

use super::archives::ChartArchives;
use super::cluster_facts::ClusterFacts;
use super::offline::{OfflineChanges, OfflineRules};
use super::post_renderer::PostRenderCommand;
use super::prepared::{PostRenderNeed, PreparedRelease};
use super::refusal::{PostRendererReach, ReleaseRefusal};
use super::selection::SelectedRelease;
use crate::release::{PlannedRelease, release_labels};
use crate::{Error, Result};

/// A workaround for images that no chart value can move to the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftoverWorkaround {
    /// Helm's post-renderer (gantry post-render) moves them.
    PostRender,
    /// The container runtimes of the nodes pull them from a mirror.
    Mirrors,
    /// Gantry's admission webhook moves them.
    Webhook,
    /// Registries that stand alone and texts that are no images stay as they are; images do not.
    Accept,
}

impl LeftoverWorkaround {
    /// Whether it moves images of pods whatever their manifests say.
    pub(super) fn is_outside_of_manifests(self) -> bool {
        matches!(self, Self::Mirrors | Self::Webhook)
    }
}

/// What happens to a release with containers that cannot be configured for offline use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnwiredPolicy {
    /// It is refused.
    Refuse,
    /// It is deployed all the same.
    Deploy,
}

/// Prepares releases for one site.
pub struct ReleasePreparer<'a> {
    /// The site.
    pub site: &'a Site,
    /// The site's registry, to which images are moved.
    pub target: &'a RelocationTarget,
    /// What the site holds: no other image may be installed.
    pub locked: &'a SiteContent,
    /// What is known about programs that connect to the outside.
    pub rules: &'a OfflineRules,
    /// Where the charts come from.
    pub archives: &'a ChartArchives<'a>,
    /// The helm program that renders.
    pub binary: HelmBinary,
    /// Whether helm passes hooks to post-renderers, as helm 4 does.
    pub has_plugins: bool,
    /// What the charts' templates may ask of the cluster.
    pub facts: ClusterFacts,
    /// How helm runs the post-renderer, for releases that need it.
    pub post_render: PostRenderCommand,
    /// The workarounds for leftovers that the user accepts.
    pub workarounds: &'a [LeftoverWorkaround],
    /// What happens to releases that cannot be configured for offline use.
    pub unwired: UnwiredPolicy,
    /// How releases are told of a tag with new content, before what gantry.yaml and the site say.
    pub pin: Option<ImagePin>,
    /// The pull policy that every image gets where a value controls it; the charts' own when absent.
    pub pull_policy: Option<PullPolicy>,
}

impl ReleasePreparer<'_> {
    /// Prepares a release: finds its chart, moves its images, configures it for offline use, and proves
    /// that what helm is given pulls only from the site. Nothing is written to the cluster.
    ///
    /// helm runs several times, on the runtime's own threads: this needs a multi-threaded one.
    ///
    /// # Errors
    /// [`Error::NotDeployable`] if a proof fails or something is left that no accepted workaround
    /// covers; all others are about reading the chart and the site.
    pub async fn prepare_release(&self, selected: &SelectedRelease) -> Result<PreparedRelease> {
        let archive = self.archives.find_archive(selected).await?;
        let prepared = tokio::task::block_in_place(|| self.relocate_release(selected, &archive));
        prepared.map_err(|error| self.explain_version(error, selected))
    }

    /// Makes helm's message about the version of Kubernetes one about the cluster: it alone decides the
    /// version here.
    fn explain_version(&self, error: Error, selected: &SelectedRelease) -> Error {
        let Error::Helm(cause) = &error else { return error };
        match (cause.unsupported_kubernetes(), &self.facts.kube_version) {
            (Some(message), Some(version)) => Error::UnsupportedKubernetes {
                release: selected.name().to_owned(),
                version: version.clone(),
                message,
            },
            _ => error,
        }
    }

    fn relocate_release(
        &self,
        selected: &SelectedRelease,
        archive: &Path,
    ) -> Result<PreparedRelease> {
        let mut chart = selected.chart.clone();
        if let Some(version) = &self.facts.kube_version {
            chart.kube_version = Some(version.clone());
        }
        chart.api_versions.extend(self.facts.api_versions.iter().cloned());
        let archive = std::path::absolute(archive)
            .map_err(|cause| Error::Read { path: archive.to_owned(), cause })?;
        let base = self.archives.base;
        let mut release =
            resolve::open_local_chart(base, &chart, &archive, &[], self.binary.clone())?;
        // Claims with models can only be mounted in their own namespace, so it decides how the runtimes get
        // their models.
        let namespace = selected.chart.namespace.as_deref();
        let services = wiring::SiteServices::from_site(self.site, namespace);
        let offline = self.rules.configure_release(&mut release, &services)?;
        let settings = offline.settings();
        let options = relocate::RelocationOptions {
            rules: self.rules.rules(),
            locked: Some(self.locked),
            settings: &settings,
            pull_policy: self.pull_policy,
        };
        let render = |overlay: Option<&str>| release.render_variant(overlay);
        let moved =
            relocate::relocate(release.chart(), release.values(), self.target, &options, &render)
                .map_err(|error| release.to_remote_error(error))?;
        // Values under `set:` come after all files in helm, so the proof above, which rendered with them,
        // would already show leftovers. This names the cause.
        refuse_set_values(&release, &moved.overlay, selected)?;
        let pin = self.pin.or(selected.chart.pin).or(self.site.pin).unwrap_or_default();
        let overlay = image_pins::pin_overlay(
            release.chart(),
            release.values(),
            &moved.overlay,
            self.locked,
            pin,
            &render,
        )
        .map_err(|error| release.to_remote_error(error))?
        .overlay;
        let scheme = if self.site.registry.plain_http {
            RegistryScheme::Http
        } else {
            RegistryScheme::Https
        };
        let report = RelocationReport::new(release.chart(), self.target, scheme, &moved)?;
        self.refuse_unproven(selected, &report, &offline)?;
        // The final render, with all values that helm will get. The deployment checks rights, images and
        // service accounts in it.
        let rendered = release.render(Some(&overlay)).map_err(|error| {
            release.to_remote_error(chart::Error::Render { message: error.message })
        })?;
        let brings_kinds = has_custom_kinds(&Manifests::read(&rendered));
        let files = ScratchFolder::new("gantry-deploy-")?;
        let pinned = image_pins::pin_images(&rendered, self.locked, pin)?;
        let is_moving = self.needs_post_renderer(&offline);
        let need = (is_moving || !pinned.is_empty())
            .then_some(PostRenderNeed { pin, is_pin_only: !is_moving });
        let install = self.build_install(&release, &overlay, &offline, need, &files)?;
        let mut unpinned = pinned.annotated;
        // What mirrors or the webhook move has its name at the source, which no digest is written behind.
        unpinned.retain(|image| pin != ImagePin::Annotation && self.locked.is_site_name(image));
        let is_elsewhere = self.is_moved_elsewhere();
        let elsewhere = report.leftovers.iter().filter(|_| is_elsewhere);
        let planned = PlannedRelease {
            install,
            rendered,
            chart: report.chart.clone(),
            version: report.version.clone(),
            elsewhere: elsewhere.map(|leftover| leftover.image.clone()).collect::<BTreeSet<_>>(),
        };
        Ok(PreparedRelease {
            planned,
            report,
            wiring: offline.wiring,
            unpinned,
            post_render: need,
            brings_kinds,
            number: selected.number,
            _files: (release, files),
        })
    }

    /// What helm is given: the user's values, then the settings for offline use, then the overlay, so
    /// that later ones win; and the post-renderer, if anything is left for it.
    fn build_install(
        &self,
        release: &OpenedChart,
        overlay: &str,
        offline: &OfflineChanges,
        need: Option<PostRenderNeed>,
        files: &ScratchFolder,
    ) -> Result<ReleaseInstall> {
        let mut given = release.helm_release().clone();
        let file = files.path().join("overlay.yaml");
        write_file(&file, overlay)?;
        given.values.push(file);
        let post_renderer =
            need.map(|need| self.build_post_renderer(offline, need, files)).transpose()?;
        Ok(ReleaseInstall { release: given, post_renderer, labels: release_labels() })
    }

    fn build_post_renderer(
        &self,
        offline: &OfflineChanges,
        need: PostRenderNeed,
        files: &ScratchFolder,
    ) -> Result<PostRenderer> {
        let mut arguments = vec![format!("--pin={}", need.pin)];
        if need.is_pin_only {
            arguments.push("--pin-only".to_owned());
        }
        if !offline.wiring.patches.is_empty() {
            let file = files.path().join("patches.yaml");
            write_file(&file, &offline.wiring.patches().write()?)?;
            arguments.push(format!("--patches={}", file.display()));
        }
        let plugins = self.has_plugins.then(|| files.path().join("plugins"));
        self.post_render.build(arguments, plugins.as_deref())
    }

    /// Whether a post-renderer has to move or patch something.
    fn needs_post_renderer(&self, offline: &OfflineChanges) -> bool {
        self.workarounds.contains(&LeftoverWorkaround::PostRender)
            || !offline.wiring.patches.is_empty()
    }

    fn is_moved_elsewhere(&self) -> bool {
        self.workarounds.iter().any(|way| way.is_outside_of_manifests())
    }

    /// Refuses a release whose proof failed, or that has leftovers for which the user chose no workaround.
    fn refuse_unproven(
        &self,
        selected: &SelectedRelease,
        report: &RelocationReport,
        offline: &OfflineChanges,
    ) -> Result<(), ReleaseRefusal> {
        let release = selected.name().to_owned();
        if report.verdict == ProofVerdict::Refuted || !report.unconfirmed.is_empty() {
            let report = report.refutation_markdown() + &report.unconfirmed_markdown();
            return Err(ReleaseRefusal::Unproven { release, report });
        }
        // The post-renderer moves every image it sees, also if it is needed only for patches.
        let is_post = self.needs_post_renderer(offline);
        // Mirrors and the webhook act on every pod, whatever created it. A post-renderer sees only what
        // helm passes to it: never the crds/ folder, and hooks only with helm 4.
        let is_covered = |kind: LeftoverKind| match kind {
            _ if self.is_moved_elsewhere() => true,
            LeftoverKind::Rendered | LeftoverKind::Hook => is_post && self.is_post_rendered(kind),
            LeftoverKind::Crds | LeftoverKind::CompiledIn => false,
        };
        let mut leftovers = report.open_leftovers(is_covered);
        if self.workarounds.contains(&LeftoverWorkaround::Accept) {
            leftovers.registries.clear();
            leftovers.broken.clear();
        }
        if !leftovers.is_empty() {
            let post_renderer = self.reach_of_post_renderer(&leftovers);
            return Err(ReleaseRefusal::Leftovers { release, leftovers, post_renderer });
        }
        match offline.wiring.leftovers.first() {
            Some(left) if self.unwired == UnwiredPolicy::Refuse => {
                Err(ReleaseRefusal::NotOffline { release, leftover: left.clone() })
            }
            _ => Ok(()),
        }
    }

    /// What of these the post-renderer would move.
    fn reach_of_post_renderer(&self, leftovers: &OpenLeftovers) -> PostRendererReach {
        let is_in_manifests =
            |kind: LeftoverKind| matches!(kind, LeftoverKind::Rendered | LeftoverKind::Hook);
        let is_all = leftovers.registries.is_empty()
            && leftovers.broken.is_empty()
            && leftovers.images.iter().all(|one| is_in_manifests(one.kind));
        match is_all {
            false => PostRendererReach::NotAll,
            true if leftovers.images.iter().all(|one| self.is_post_rendered(one.kind)) => {
                PostRendererReach::All
            }
            true => PostRendererReach::AllWithHelm4,
        }
    }

    /// Whether helm passes objects with leftovers of this kind to a post-renderer.
    fn is_post_rendered(&self, kind: LeftoverKind) -> bool {
        kind == LeftoverKind::Rendered || (kind == LeftoverKind::Hook && self.has_plugins)
    }
}

/// Refuses `set:` values that the overlay would have to change: in helm `--set` wins over every values
/// file, so the overlay would have no effect.
fn refuse_set_values(
    release: &OpenedChart,
    overlay: &str,
    selected: &SelectedRelease,
) -> Result<()> {
    let values = chart::values::read_values("the overlay", overlay)?;
    match release.find_value_overridden_by_set(&values)? {
        None => Ok(()),
        Some(value) => {
            let release = selected.name().to_owned();
            Err(ReleaseRefusal::OverriddenBySet { release, value }.into())
        }
    }
}

/// Whether manifests contain CustomResourceDefinitions.
pub(super) fn has_custom_kinds(manifests: &Manifests) -> bool {
    manifests.documents.iter().any(|document| document.kind() == "CustomResourceDefinition")
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|cause| Error::Write { path: path.to_owned(), cause })
}
