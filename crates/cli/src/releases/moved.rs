//! Prepares one release for the site: the overlay that moves its images, with the proof that it does
//! (as in `gantry relocate`), the settings for offline use, and helm's post-renderer for what no value
//! reaches. The result is what helm is given.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use chart::manifest::Manifests;
use chart::mirrors::Scheme;
use chart::relocate::{self, Locked, Target, Verdict};
use chart::report::{LeftoverKind, Report};
use chart::wiring::{self, Wiring};
use clap::ValueEnum;
use deploy::release::{Planned, labels};
use remote::helm::{self, Install, PostRenderer};
use remote::scratch::Scratch;
use resolve::Release;
use types::site::Site;

use super::Asked;
use crate::commands::post_render;
use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::offline::{Inside, Kept};
use crate::world;

/// The name under which helm 4 finds the post-renderer plugin.
const PLUGIN: &str = "gantry";

/// A workaround for images that no chart value can move to the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// Helm's post-renderer (gantry post-render) moves them.
    PostRender,
    /// The container runtimes of the nodes pull them from a mirror (--mirrors writes the files).
    Mirrors,
    /// Gantry's admission webhook moves them (gantry webhook).
    Webhook,
}

/// Prepares releases for one site.
pub(crate) struct Mover<'a> {
    pub(crate) context: &'a Context,
    pub(crate) site: &'a Site,
    /// The path of the site file, which the post-renderer reads again.
    pub(crate) site_file: &'a Path,
    pub(crate) target: &'a Target,
    pub(crate) locked: &'a Locked,
    pub(crate) inside: &'a Inside,
    pub(crate) binary: helm::Binary,
    /// Whether helm passes hooks to post-renderers, as helm 4 does.
    pub(crate) has_plugins: bool,
    /// The cluster's version of Kubernetes.
    pub(crate) kube_version: String,
    /// The API versions that the cluster has beside those of Kubernetes itself.
    pub(crate) api_versions: Vec<String>,
    /// The workarounds for leftovers that the user accepts (`--leftovers`).
    pub(crate) ways: &'a [Way],
    /// Whether runtimes that cannot be configured for offline use are accepted (`--allow-unwired`).
    pub(crate) unwired: bool,
}

/// A release prepared for helm. Its temporary files are deleted when this is dropped.
pub(crate) struct Moved {
    pub(crate) planned: Planned,
    pub(crate) report: Report,
    pub(crate) wiring: Wiring,
    /// Whether the chart contains CustomResourceDefinitions that other charts may need.
    pub(crate) brings_kinds: bool,
    _release: Release,
    _files: Scratch,
}

impl Mover<'_> {
    /// Prepares a release whose chart is in this file. Blocks, since it runs helm several times.
    pub(crate) fn moved(&self, asked: &Asked, archive: &Path) -> Result<Moved> {
        let mut chart = asked.chart.clone();
        chart.kube_version = Some(self.kube_version.clone());
        chart.api_versions.extend(self.api_versions.iter().cloned());
        let base = &self.context.directory;
        let archive = absolute(archive)?;
        let mut release = resolve::open_local(base, &chart, &archive, &[], self.binary.clone())?;
        // Claims with models can only be mounted in their own namespace, so it decides how the runtimes get
        // their models.
        let namespace = asked.chart.namespace.as_deref();
        let offline = wiring::Offline::of_site(self.site, namespace);
        let kept = self.inside.keep(&mut release, &offline)?;
        let settings = kept.settings();
        let options = relocate::Options {
            rules: self.inside.rules(),
            locked: Some(self.locked),
            settings: &settings,
            ..relocate::Options::default()
        };
        let render = |overlay: Option<&str>| release.render(overlay);
        let moved =
            relocate::relocate(release.chart(), release.values(), self.target, &options, &render)
                .map_err(|error| release.refused(error))?;
        // Values under `set:` come after all files in helm, so the proof above, which rendered with them,
        // would already show leftovers. This names the cause.
        check_set(&release, &moved.overlay, asked)?;
        let scheme = if self.site.registry.plain_http { Scheme::Http } else { Scheme::Https };
        let report = Report::new(release.chart(), self.target, scheme, &moved)?;
        self.judge(asked, &report, &kept)?;
        // The final render, with all values that helm will get. The deployment checks rights, images and
        // service accounts in it.
        let rendered = release
            .render(Some(&moved.overlay))
            .map_err(|error| release.refused(chart::Error::Render { message: error.message }))?;
        let brings_kinds = brings_kinds(&rendered);
        let files = Scratch::new("gantry-deploy-")?;
        let install = self.install(&release, &moved.overlay, &kept, &files)?;
        let elsewhere = self.is_elsewhere();
        let leftovers = report.leftovers.iter().filter(|_| elsewhere);
        let planned = Planned {
            install,
            rendered,
            chart: report.chart.clone(),
            version: report.version.clone(),
            elsewhere: leftovers.map(|leftover| leftover.image.clone()).collect::<BTreeSet<_>>(),
        };
        let wiring = kept.wiring;
        Ok(Moved { planned, report, wiring, brings_kinds, _release: release, _files: files })
    }

    /// What helm is given: the user's values, then the settings for offline use, then the overlay, so
    /// that later ones win; and the post-renderer, if anything is left for it.
    fn install(
        &self,
        release: &Release,
        overlay: &str,
        kept: &Kept,
        files: &Scratch,
    ) -> Result<Install> {
        let mut given = release.given().clone();
        let file = files.path().join("overlay.yaml");
        write(&file, overlay)?;
        given.values.push(file);
        let patches = files.path().join("patches.yaml");
        let has_patches = !kept.wiring.patches.is_empty();
        if has_patches {
            write(&patches, &kept.wiring.patches().write()?)?;
        }
        let post_renderer = match self.is_post_rendered(kept) {
            true => Some(self.post_renderer(has_patches.then_some(&patches), files)?),
            false => None,
        };
        Ok(Install { release: given, post_renderer, labels: labels() })
    }

    fn post_renderer(&self, patches: Option<&PathBuf>, files: &Scratch) -> Result<PostRenderer> {
        let plugins = files.path().join("plugins");
        if self.has_plugins {
            post_render::plugin(&plugins.join(PLUGIN))?;
        }
        // Helm may run the post-renderer in another folder, so all paths are absolute.
        let directory = absolute(&self.context.directory)?;
        let lock = directory.join(world::LOCK);
        let mut arguments = vec![
            format!("--site={}", absolute(self.site_file)?.display()),
            format!("--directory={}", directory.display()),
            format!("--lock={}", lock.display()),
        ];
        arguments.extend(patches.map(|file| format!("--patches={}", file.display())));
        Ok(PostRenderer {
            program: world::own_binary()?,
            verb: vec!["post-render".to_owned()],
            plugins,
            plugin: PLUGIN.to_owned(),
            arguments,
        })
    }

    fn is_post_rendered(&self, kept: &Kept) -> bool {
        self.ways.contains(&Way::PostRender) || !kept.wiring.patches.is_empty()
    }

    fn is_elsewhere(&self) -> bool {
        self.ways.iter().any(|way| matches!(way, Way::Mirrors | Way::Webhook))
    }

    /// Refuses a release whose proof failed, or that has leftovers for which the user chose no workaround.
    fn judge(&self, asked: &Asked, report: &Report, kept: &Kept) -> Result<()> {
        let name = asked.release();
        if report.verdict == Verdict::Refuted {
            return Err(CommandError::new(
                Kind::Integrity,
                format!(
                    "release {name}: the proof failed, so nothing is deployed:\n{}",
                    report.refutation()
                ),
            )
            .hint("read the report: gantry relocate … --report review.md"));
        }
        // The post-renderer moves every image it sees, also if it is needed only for patches.
        let is_post = self.is_post_rendered(kept);
        // Mirrors and the webhook act on every pod, whatever created it. A post-renderer sees only what
        // helm passes to it: never the crds/ folder, and hooks only with helm 4.
        let is_covered = |kind: LeftoverKind| match kind {
            _ if self.is_elsewhere() => true,
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
                Kind::Integrity,
                format!(
                    "release {name}: no chart value moves these images to the site:\n{}",
                    lines.join("\n")
                ),
            );
            let is_rendered = |kind| {
                kind == LeftoverKind::Rendered || (kind == LeftoverKind::Hook && self.has_plugins)
            };
            if open.iter().all(|one| is_rendered(one.kind)) {
                error = error.hint("let helm's post-renderer move them: --leftovers post-render");
            }
            return Err(error.hint(
                "or use --leftovers mirrors (--mirrors DIR writes the configuration for the nodes), or --leftovers webhook",
            ));
        }
        match kept.wiring.leftovers.first() {
            Some(left) if !self.unwired => Err(CommandError::new(
                Kind::Integrity,
                format!(
                    "release {name} is not fully configured for offline use: {}: {}",
                    left.place, left.what
                ),
            )
            .hint(left.next.clone())
            .hint("or deploy it all the same: --allow-unwired")),
            _ => Ok(()),
        }
    }
}

/// Refuses `set:` values that the overlay would have to change: in helm `--set` wins over every values
/// file, so the overlay would have no effect.
fn check_set(release: &Release, overlay: &str, asked: &Asked) -> Result<()> {
    let values = chart::values::read("the overlay", overlay)?;
    match release.set_wins_over(&values)? {
        None => Ok(()),
        Some(value) => Err(CommandError::usage(format!(
            "release {}: {value} is given under set:, which in helm overrides every values file, the overlay too",
            asked.release()
        ))
        .hint("move it to one of the release's values files")),
    }
}

/// Whether rendered manifests contain CustomResourceDefinitions.
fn brings_kinds(rendered: &str) -> bool {
    let manifests = Manifests::read(rendered);
    manifests.documents.iter().any(|document| document.kind() == "CustomResourceDefinition")
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .map_err(|cause| CommandError::failed(format!("cannot write {}: {cause}", path.display())))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|cause| {
        CommandError::usage(format!("{} is not a usable path: {cause}", path.display()))
    })
}
