//! Prepares one release for the site: the overlay that moves its images, with the proof that it does
//! (as in `gantry relocate`), the settings for offline use, and helm's post-renderer for what no value
//! reaches. The result is what helm is given.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use chart::manifest::Manifests;
use chart::mirrors::RegistryScheme;
use chart::relocate::{self, ProofVerdict, RelocationTarget};
use chart::report::{LeftoverKind, RelocationReport};
use chart::wiring::{self, OfflineWiring};
use clap::ValueEnum;
use deploy::release::{PlannedRelease, release_labels};
use remote::helm::{self, PostRenderer, ReleaseInstall};
use remote::scratch::ScratchFolder;
use resolve::OpenedChart;
use types::site::Site;
use types::site_content::SiteContent;

use super::SelectedRelease;
use crate::commands::post_render;
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, ErrorKind, Result};
use crate::offline::{OfflineChanges, OfflineRules};

/// The name under which helm 4 finds the post-renderer plugin.
const PLUGIN: &str = "gantry";

/// A workaround for images that no chart value can move to the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LeftoverWorkaround {
    /// Helm's post-renderer (gantry post-render) moves them.
    PostRender,
    /// The container runtimes of the nodes pull them from a mirror (--mirrors writes the files).
    Mirrors,
    /// Gantry's admission webhook moves them (gantry webhook).
    Webhook,
}

/// Prepares releases for one site.
pub(crate) struct ReleaseRelocator<'a> {
    pub(crate) context: &'a CommandContext,
    pub(crate) site: &'a Site,
    /// The path of the site file, which the post-renderer reads again.
    pub(crate) site_file: &'a Path,
    pub(crate) target: &'a RelocationTarget,
    pub(crate) locked: &'a SiteContent,
    pub(crate) inside: &'a OfflineRules,
    pub(crate) binary: helm::HelmBinary,
    /// Whether helm passes hooks to post-renderers, as helm 4 does.
    pub(crate) has_plugins: bool,
    /// The cluster's version of Kubernetes.
    pub(crate) kube_version: String,
    /// The API versions that the cluster has beside those of Kubernetes itself.
    pub(crate) api_versions: Vec<String>,
    /// The workarounds for leftovers that the user accepts (`--leftovers`).
    pub(crate) workarounds: &'a [LeftoverWorkaround],
    /// Whether runtimes that cannot be configured for offline use are accepted (`--allow-online`).
    pub(crate) allows_online: bool,
}

/// A release prepared for helm. Its temporary files are deleted when this is dropped.
pub(crate) struct RelocatedRelease {
    pub(crate) planned: PlannedRelease,
    pub(crate) report: RelocationReport,
    pub(crate) wiring: OfflineWiring,
    /// Whether the chart contains CustomResourceDefinitions that other charts may need.
    pub(crate) brings_kinds: bool,
    _release: OpenedChart,
    _files: ScratchFolder,
}

impl ReleaseRelocator<'_> {
    /// Prepares a release whose chart is in this file. Blocks, since it runs helm several times.
    pub(crate) fn relocate(
        &self,
        asked: &SelectedRelease,
        archive: &Path,
    ) -> Result<RelocatedRelease> {
        let mut chart = asked.chart.clone();
        chart.kube_version = Some(self.kube_version.clone());
        chart.api_versions.extend(self.api_versions.iter().cloned());
        let base = &self.context.directory;
        let archive = make_absolute(archive)?;
        let mut release =
            resolve::open_local_chart(base, &chart, &archive, &[], self.binary.clone())?;
        // Claims with models can only be mounted in their own namespace, so it decides how the runtimes get
        // their models.
        let namespace = asked.chart.namespace.as_deref();
        let offline = wiring::SiteServices::from_site(self.site, namespace);
        let kept = self.inside.configure_release(&mut release, &offline)?;
        let settings = kept.settings();
        let options = relocate::RelocationOptions {
            rules: self.inside.rules(),
            locked: Some(self.locked),
            settings: &settings,
            ..relocate::RelocationOptions::default()
        };
        let render = |overlay: Option<&str>| release.render(overlay);
        let moved =
            relocate::relocate(release.chart(), release.values(), self.target, &options, &render)
                .map_err(|error| release.to_remote_error(error))?;
        // Values under `set:` come after all files in helm, so the proof above, which rendered with them,
        // would already show leftovers. This names the cause.
        check_set_values(&release, &moved.overlay, asked)?;
        let scheme = if self.site.registry.plain_http {
            RegistryScheme::Http
        } else {
            RegistryScheme::Https
        };
        let report = RelocationReport::new(release.chart(), self.target, scheme, &moved)?;
        self.refuse_unproven(asked, &report, &kept)?;
        // The final render, with all values that helm will get. The deployment checks rights, images and
        // service accounts in it.
        let rendered = release.render(Some(&moved.overlay)).map_err(|error| {
            release.to_remote_error(chart::Error::Render { message: error.message })
        })?;
        let brings_kinds = has_custom_kinds(&rendered);
        let files = ScratchFolder::new("gantry-deploy-")?;
        let install = self.build_install(&release, &moved.overlay, &kept, &files)?;
        let elsewhere = self.is_moved_elsewhere();
        let leftovers = report.leftovers.iter().filter(|_| elsewhere);
        let planned = PlannedRelease {
            install,
            rendered,
            chart: report.chart.clone(),
            version: report.version.clone(),
            elsewhere: leftovers.map(|leftover| leftover.image.clone()).collect::<BTreeSet<_>>(),
        };
        let wiring = kept.wiring;
        Ok(RelocatedRelease {
            planned,
            report,
            wiring,
            brings_kinds,
            _release: release,
            _files: files,
        })
    }

    /// What helm is given: the user's values, then the settings for offline use, then the overlay, so
    /// that later ones win; and the post-renderer, if anything is left for it.
    fn build_install(
        &self,
        release: &OpenedChart,
        overlay: &str,
        kept: &OfflineChanges,
        files: &ScratchFolder,
    ) -> Result<ReleaseInstall> {
        let mut given = release.helm_release().clone();
        let file = files.path().join("overlay.yaml");
        write_file(&file, overlay)?;
        given.values.push(file);
        let patches = files.path().join("patches.yaml");
        let has_patches = !kept.wiring.patches.is_empty();
        if has_patches {
            write_file(&patches, &kept.wiring.patches().write()?)?;
        }
        let post_renderer = match self.needs_post_renderer(kept) {
            true => Some(self.build_post_renderer(has_patches.then_some(&patches), files)?),
            false => None,
        };
        Ok(ReleaseInstall { release: given, post_renderer, labels: release_labels() })
    }

    fn build_post_renderer(
        &self,
        patches: Option<&PathBuf>,
        files: &ScratchFolder,
    ) -> Result<PostRenderer> {
        let plugins = files.path().join("plugins");
        if self.has_plugins {
            post_render::write_plugin_files(&plugins.join(PLUGIN))?;
        }
        // Helm may run the post-renderer in another folder, so all paths are absolute.
        let directory = make_absolute(&self.context.directory)?;
        let lock = directory.join(environment::LOCK);
        let mut arguments = vec![
            format!("--site={}", make_absolute(self.site_file)?.display()),
            format!("--directory={}", directory.display()),
            format!("--lock={}", lock.display()),
        ];
        arguments.extend(patches.map(|file| format!("--patches={}", file.display())));
        Ok(PostRenderer {
            program: environment::find_own_binary()?,
            verb: vec!["post-render".to_owned()],
            plugins,
            plugin: PLUGIN.to_owned(),
            arguments,
        })
    }

    fn needs_post_renderer(&self, kept: &OfflineChanges) -> bool {
        self.workarounds.contains(&LeftoverWorkaround::PostRender)
            || !kept.wiring.patches.is_empty()
    }

    fn is_moved_elsewhere(&self) -> bool {
        self.workarounds
            .iter()
            .any(|way| matches!(way, LeftoverWorkaround::Mirrors | LeftoverWorkaround::Webhook))
    }

    /// Refuses a release whose proof failed, or that has leftovers for which the user chose no workaround.
    fn refuse_unproven(
        &self,
        asked: &SelectedRelease,
        report: &RelocationReport,
        kept: &OfflineChanges,
    ) -> Result<()> {
        let name = asked.release();
        if report.verdict == ProofVerdict::Refuted {
            return Err(CommandError::new(
                ErrorKind::Integrity,
                format!(
                    "release {name}: the proof failed, so nothing is deployed:\n{}",
                    report.refutation_markdown()
                ),
            )
            .with_hint("read the report: gantry relocate … --report review.md"));
        }
        // The post-renderer moves every image it sees, also if it is needed only for patches.
        let is_post = self.needs_post_renderer(kept);
        // Mirrors and the webhook act on every pod, whatever created it. A post-renderer sees only what
        // helm passes to it: never the crds/ folder, and hooks only with helm 4.
        let is_covered = |kind: LeftoverKind| match kind {
            _ if self.is_moved_elsewhere() => true,
            LeftoverKind::Rendered => is_post,
            LeftoverKind::Hook => is_post && self.has_plugins,
            LeftoverKind::Crds | LeftoverKind::CompiledIn => false,
        };
        let open: Vec<_> = report.leftovers.iter().filter(|one| !is_covered(one.kind)).collect();
        if !open.is_empty() {
            let lines: Vec<String> = open
                .iter()
                .map(|one| format!("- {} in {}: {}", one.image, one.place, one.reason))
                .collect();
            let mut error = CommandError::new(
                ErrorKind::Integrity,
                format!(
                    "release {name}: no chart value moves these images to the site:\n{}",
                    lines.join("\n")
                ),
            );
            let is_rendered = |kind| {
                kind == LeftoverKind::Rendered || (kind == LeftoverKind::Hook && self.has_plugins)
            };
            if open.iter().all(|one| is_rendered(one.kind)) {
                error =
                    error.with_hint("let helm's post-renderer move them: --leftovers post-render");
            }
            return Err(error.with_hint(
                "or use --leftovers mirrors (--mirrors DIR writes the configuration for the nodes), or --leftovers webhook",
            ));
        }
        match kept.wiring.leftovers.first() {
            Some(left) if !self.allows_online => Err(CommandError::new(
                ErrorKind::Integrity,
                format!(
                    "release {name} is not fully configured for offline use: {}: {}",
                    left.place, left.what
                ),
            )
            .with_hint(left.next.clone())
            .with_hint("or deploy it all the same: --allow-online")),
            _ => Ok(()),
        }
    }
}

/// Refuses `set:` values that the overlay would have to change: in helm `--set` wins over every values
/// file, so the overlay would have no effect.
fn check_set_values(release: &OpenedChart, overlay: &str, asked: &SelectedRelease) -> Result<()> {
    let values = chart::values::read_values("the overlay", overlay)?;
    match release.find_value_overridden_by_set(&values)? {
        None => Ok(()),
        Some(value) => Err(CommandError::usage_error(format!(
            "release {}: {value} is given under set:, which in helm overrides every values file, the overlay too",
            asked.release()
        ))
        .with_hint("move it to one of the release's values files")),
    }
}

/// Whether rendered manifests contain CustomResourceDefinitions.
fn has_custom_kinds(rendered: &str) -> bool {
    let manifests = Manifests::read(rendered);
    manifests.documents.iter().any(|document| document.kind() == "CustomResourceDefinition")
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .map_err(|cause| CommandError::failure(format!("cannot write {}: {cause}", path.display())))
}

fn make_absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|cause| {
        CommandError::usage_error(format!("{} is not a usable path: {cause}", path.display()))
    })
}
