//! What the subcommands share that prepare releases for a site (`deploy`, `render`): where their charts come
//! from, the post-renderer, and the workarounds for images that no value moves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chart::report::RelocationReport;
use chart::wiring::OfflineWiring;
use clap::ValueEnum;
use cluster::Cluster;
use deploy::prepare::{
    ChartArchives, LeftoverWorkaround, PostRenderCommand, SelectedManifests, SelectedRelease,
    select_manifests, select_releases,
};
use net::Credentials;
use remote::scratch::ScratchFolder;
use types::Reference;
use types::input::Input;
use types::lock::Lock;
use types::site::{Site, site_folder};

use crate::context::CommandContext;
use crate::environment;
use crate::error::Result;

/// A workaround for images that no chart value can move to the site, as on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum WorkaroundOption {
    /// Helm's post-renderer (gantry post-render) moves them.
    PostRender,
    /// The container runtimes of the nodes pull them from a mirror (--mirrors writes the files).
    Mirrors,
    /// Gantry's admission webhook moves them (gantry webhook).
    Webhook,
    /// Registries and texts that are no images stay as they are; an image outside is refused all the same.
    Accept,
}

impl From<WorkaroundOption> for LeftoverWorkaround {
    fn from(option: WorkaroundOption) -> Self {
        match option {
            WorkaroundOption::PostRender => Self::PostRender,
            WorkaroundOption::Mirrors => Self::Mirrors,
            WorkaroundOption::Webhook => Self::Webhook,
            WorkaroundOption::Accept => Self::Accept,
        }
    }
}

/// The releases of gantry.yaml that a command line names, or all of them.
pub(crate) struct AskedReleases {
    pub(crate) charts: Vec<SelectedRelease>,
    pub(crate) manifests: Vec<SelectedManifests>,
}

impl AskedReleases {
    /// Selects them by their names; without names, all.
    pub(crate) fn select(
        context: &CommandContext,
        input: &Input,
        lock: &Lock,
        names: &[String],
    ) -> Result<Self> {
        Ok(Self {
            charts: select_releases(&context.directory, input, lock, names)?,
            manifests: select_manifests(input, lock, names)?,
        })
    }

    /// The names, charts first.
    pub(crate) fn names(&self) -> Vec<&str> {
        let charts = self.charts.iter().map(SelectedRelease::name);
        charts.chain(self.manifests.iter().map(SelectedManifests::name)).collect()
    }

    /// The releases with the namespaces that they have in this cluster.
    pub(crate) fn for_cluster(&self, cluster: &Cluster) -> Self {
        Self {
            charts: self.charts.iter().map(|one| one.for_cluster(cluster)).collect(),
            manifests: self.manifests.iter().map(|one| one.for_cluster(cluster)).collect(),
        }
    }
}

/// Opens what the charts of releases come from. Their temporary files are deleted when this is dropped.
pub(crate) fn open_chart_archives<'a>(
    context: &'a CommandContext,
    (site, site_file): (&'a Site, &Path),
    from: &[PathBuf],
    credentials: Credentials,
) -> Result<ChartArchives<'a>> {
    let (folder, registry) = (site_folder(site_file), &site.registry);
    let (client, mirrors) = context.build_site_registry_client(registry, folder, credentials)?;
    Ok(ChartArchives {
        base: &context.directory,
        from: if from.is_empty() { None } else { Some(environment::open_source(from)?) },
        // It is a fallback only: one that cannot be opened is as good as none.
        store: context.open_existing_store().ok().flatten(),
        registry,
        client,
        mirrors,
        scratch: ScratchFolder::new("gantry-charts-")?,
    })
}

/// How helm runs `gantry post-render` for the site of this file, with these receipts.
pub(crate) fn build_post_render_command(
    context: &CommandContext,
    site_file: &Path,
    receipts: &[PathBuf],
) -> Result<PostRenderCommand> {
    let directory = environment::make_absolute(&context.directory)?;
    let mut arguments = vec![
        format!("--site={}", environment::make_absolute(site_file)?.display()),
        format!("--directory={}", directory.display()),
        format!("--lock={}", directory.join(environment::LOCK).display()),
    ];
    arguments.extend(receipts.iter().map(|file| format!("--receipt={}", file.display())));
    Ok(PostRenderCommand { program: environment::find_own_binary()?, arguments })
}

/// Warns about what is left over of a release: images that no value moves, and what could not be configured
/// for offline use. `unpinned` are the images that its pods name by their tag alone.
pub(crate) fn warn_about_leftovers(
    context: &CommandContext,
    name: &str,
    report: &RelocationReport,
    wiring: &OfflineWiring,
    unpinned: &BTreeSet<Reference>,
) {
    for line in report.open_leftovers(|_| false).lines() {
        context.ui.print_warning(&format!("{name}: {line}"));
    }
    for note in &report.notes {
        context.ui.print_warning(&format!("{name}: not changed: {note}"));
    }
    if let Some(hint) = describe_unpinned(unpinned) {
        context.ui.print_warning(&format!("{name}: {hint}"));
    }
    for left in &wiring.leftovers {
        context.ui.print_warning(&format!(
            "{name}: not configured for offline use: {}: {}; {}",
            left.place, left.what, left.next
        ));
    }
}

/// What is not sure of images that the pods name by their tag alone, and what helps; `None` if there are none.
fn describe_unpinned(images: &BTreeSet<Reference>) -> Option<String> {
    let first = images.first()?;
    let more = match images.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "the pods of {first}{more} restart when the tag has new content, and nodes that have the tag pull it again only \
         with --pull-policy Always: the site's registry keeps another digest than the source, or was not asked. \
         --pin digest names that digest instead (policies and the webhook then need the receipt of the load)"
    ))
}
