//! `gantry relocate`: writes the overlay, a values file that moves all images of a chart to the site's
//! registry, or plain manifests with their images moved, and proves it. `gantry deploy` does the same for each of its releases.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chart::RelocationPage;
use chart::gitops::{self, GitOpsController, GitOpsRelease};
use chart::image_pins::{self, PinnedValue};
use chart::mirrors::RegistryScheme;
use chart::offline;
use chart::phone_home::PhoneHomeFinding;
use chart::relocate::{self, ProofVerdict, PullPolicy, Relocation, RelocationTarget};
use chart::report::{LeftoverKind, RelocationReport};
use chart::wiring::patch::PatchFile;
use chart::wiring::{self, OfflineWiring};
use clap::ValueEnum;
use deploy::prepare::{OfflineChanges, OfflineRules};
use resolve::{FileComparison, OpenedChart};
use serde::Serialize;
use types::ImagePin;
use types::naming::{NamingRule, RegistryPrefix};
use types::own_image;
use types::site::RegistryTarget;
use types::site_content::{SiteContent, SiteRoot};

use crate::charts::{self, HelmRenderArgs};
use crate::context::CommandContext;
use crate::error::{CommandError, ErrorKind, Result};
use crate::output_files::{OutputKind, OverwriteArgs};
use crate::site_digests::{
    CONFIRM_HINT, KEEP_HINT, KnownSite, SiteReceiptArgs, missing_lock_error,
};
use crate::{environment, ui};

/// Write a values file that makes a chart pull all of its images from the site's registry, or plain
/// manifests with their images moved, and prove it.
///
/// Gantry marks the chart's values and renders it, to learn which values make up which image. It writes
/// the smallest overlay that moves all images, and renders the chart again with it: every image must
/// then be the site's name for the same tag or digest, and nothing but image references may differ.
/// If there is a gantry.lock, every image must be in it.
///
/// Plain manifests (files, folders, the folder of a kustomization, or - for standard input) are edited in
/// place, and nothing but image references may differ; -o names the file for all of them, ordered so that
/// they can be applied. With --offline their containers are configured in the same way.
///
/// An image that no value can change is a leftover. It is listed with its location, the reason and the
/// workarounds. Exit code 0: proven. Exit code 3: there are leftovers (the overlay is written; see
/// --mirrors and `gantry post-render`), or the proof failed (nothing is written).
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry relocate ./my-chart -f values.yaml --site site.yaml -o overlay.yaml
  gantry relocate oci://registry.internal:5000/ai/charts/app --to registry.internal:5000/ai
  gantry relocate ./my-chart --site site.yaml --offline --patches patches.yaml --report review.html
  gantry relocate ./my-chart --site site.yaml --offline --for flux -n ai -o helmrelease.yaml
  gantry relocate ./my-chart --site site.yaml --mirrors ./for-the-nodes
  gantry relocate manifests/*.yaml --site site.yaml --offline -o moved.yaml
  gantry relocate ./overlays/prod --site site.yaml -o - | kubectl apply --server-side -f -
  helm upgrade --install app ./my-chart -f values.yaml -f overlay.yaml")]
pub(crate) struct RelocateArgs {
    /// The chart: oci://…, a folder, a .tgz, or the URL of a repository followed by the chart's name; or
    /// plain manifests: files, folders, the folder of a kustomization, or - for standard input.
    #[arg(required = true, num_args = 1.., value_name = "CHART")]
    pub(super) chart: Vec<String>,
    #[command(flatten)]
    pub(super) render: HelmRenderArgs,
    /// The site file (site.yaml): its registry, naming and pull secret.
    #[arg(long, value_name = "FILE", required_unless_present = "to", conflicts_with = "to")]
    pub(super) site: Option<PathBuf>,
    /// The site's registry with an optional path (host[:port][/path]), instead of a site file.
    #[arg(long, value_name = "REGISTRY")]
    to: Option<RegistryPrefix>,
    /// How images are named at the registry: path (ghcr.io/a/b:1 becomes SITE/a/b:1), host-path
    /// (SITE/ghcr.io/a/b:1) or name (SITE/b:1).
    #[arg(long, value_name = "NAMING", conflicts_with = "site")]
    naming: Option<NamingRule>,
    /// The file to write the overlay or the moved manifests to; - for standard output [default:
    /// overlay.yaml, for manifests moved.yaml].
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(super) overlay: Option<PathBuf>,
    /// Write the overlay in the form of a GitOps controller, for your object to be patched with: the helm
    /// block of an Application of Argo CD, or a HelmRelease of Flux with values, and with the changes of
    /// --offline that no value can make as post-renderers.
    #[arg(long = "for", value_name = "CONTROLLER")]
    pub(super) controller: Option<ControllerOption>,
    /// Write a report for a reviewer, as FILE.html, FILE.md or FILE.json; may be given several times.
    #[arg(long, value_name = "FILE", value_parser = parse_report_path)]
    report: Vec<PathBuf>,
    /// Configure the chart for offline use as well: let it load models from the site, give it the site's
    /// CA and issuer, and turn off features that connect to the internet, where that is safe.
    #[arg(long)]
    pub(super) offline: bool,
    /// Write the changes of --offline that no value can make as patches, for gantry post-render
    /// --patches.
    #[arg(long, value_name = "FILE", requires = "offline")]
    pub(super) patches: Option<PathBuf>,
    /// Set this pull policy for every image, where a value controls it: Always, IfNotPresent or Never.
    #[arg(long, value_name = "POLICY")]
    pub(super) pull_policy: Option<PullPolicy>,
    /// Write configuration files for the nodes into this folder, which make them pull leftovers from the
    /// site's registry.
    #[arg(long, value_name = "DIR")]
    mirrors: Option<PathBuf>,
    /// Write the digests that the site has into the overlay, where a value takes one, so that a tag with new
    /// content is a change: auto, digest or none [default: pin: of site.yaml, else none]. It needs a lock.
    #[arg(long, value_name = "PIN")]
    pub(super) pin: Option<ImagePin>,
    #[command(flatten)]
    pub(super) receipts: SiteReceiptArgs,
    /// Exit with code 0 even if there are leftovers or digests that are not confirmed, for those who use
    /// one of the workarounds.
    #[arg(long)]
    pub(super) allow_leftovers: bool,
    /// Print the result without writing any files.
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    overwrite: OverwriteArgs,
}

/// A controller that installs charts from Git, as on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ControllerOption {
    /// Argo CD.
    Argocd,
    /// Flux.
    Flux,
}

impl From<ControllerOption> for GitOpsController {
    fn from(option: ControllerOption) -> Self {
        match option {
            ControllerOption::Argocd => Self::ArgoCd,
            ControllerOption::Flux => Self::Flux,
        }
    }
}

fn parse_report_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "md" | "json") => Ok(path),
        _ => Err("write FILE.html, FILE.md or FILE.json, such as review.html".into()),
    }
}

/// The result, as printed and as written to the JSON report.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RelocateSummary {
    #[serde(flatten)]
    pub(super) report: RelocationReport,
    /// The path of the overlay, or of the moved manifests; absent if none was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) overlay: Option<String>,
    /// The features that `--offline` turned off.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) turned_off: Vec<offline::OfflineSwitch>,
    /// The settings that still make the release connect to the outside by itself.
    pub(super) phone_home: Vec<PhoneHomeFinding>,
    /// How runtimes were configured for offline use; absent without `--offline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wiring: Option<OfflineWiring>,
    /// The values that name the digest of an image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) pinned: Vec<PinnedValue>,
}

/// Writes the digests that the site has into the overlay, as `--pin` says. Returns the values that have one.
fn pin_overlay_digests(
    context: &CommandContext,
    args: &RelocateArgs,
    release: &OpenedChart,
    moved: &mut Relocation,
    known: Option<&mut KnownSite>,
) -> Result<Vec<PinnedValue>> {
    let pin = read_pin(args)?;
    if pin == ImagePin::None {
        return Ok(vec![]);
    }
    let Some(known) = known else {
        return Err(missing_lock_error());
    };
    // A tag that the site has in another index than the source: which one is asked for each image.
    let of_chart: Vec<_> = moved.proof.moved.iter().map(|one| one.from.clone()).collect();
    let is_used = |root: &SiteRoot| {
        let mut own = of_chart.iter().filter(|image| image.name() == root.source().name());
        own.any(|image| root.is_meant_by(image))
    };
    known.ask_registry(context, is_used)?;
    let render = |overlay: Option<&str>| release.render_variant(overlay);
    let with = image_pins::pin_overlay(
        release.chart(),
        release.values(),
        &moved.overlay,
        known.content(),
        pin,
        &render,
    )
    .map_err(|error| release.to_remote_error(error))?;
    moved.overlay = with.overlay;
    Ok(with.values)
}

/// Refuses an overlay of which `--set` would override a value. Helm itself is asked.
fn refuse_overridden_overlay(release: &OpenedChart, overlay: &str) -> Result<()> {
    let values = chart::values::read_values("the overlay", overlay)?;
    let Some(value) = release.find_value_overridden_by_set(&values)? else { return Ok(()) };
    Err(CommandError::usage_error(format!(
        "{value} is given with --set or one of its siblings, which in helm override every values file, \
         the overlay too"
    ))
    .with_hint("write it to a values file and give that with -f"))
}

/// Relocates a chart.
pub(super) fn relocate_chart(context: &CommandContext, args: &RelocateArgs) -> Result<()> {
    let file = args.overlay.clone().unwrap_or_else(|| PathBuf::from("overlay.yaml"));
    let registry = read_registry(args)?;
    let target = RelocationTarget::from_registry(&registry)?;
    let source = match charts::parse_chart_sources(&args.chart)?.as_slice() {
        [source] => source.clone(),
        _ => return Err(CommandError::usage_error("give exactly one chart")),
    };
    check_output_paths(args, &file)?;
    let input = environment::read_optional_input(context)?;
    let inside = OfflineRules::new(input.as_ref(), &target);
    let lock = environment::read_optional_lock(context)?;
    if let (Some(input), Some(lock)) = (&input, &lock) {
        environment::require_current_lock(context, input, lock, FileComparison::Nothing)?;
    }
    let mut known = lock
        .map(|lock| KnownSite::new(lock, &registry, args.site.as_deref(), &args.receipts))
        .transpose()?;
    let values = args.render.values.read_values()?;
    let chart = args.render.to_input_chart(source, &values, &[])?;
    let mut release = charts::open_chart(context, &chart, &[])?;

    // Offline settings are added to the release's values first, so that the proof below covers the chart
    // as it will be installed.
    let kept = match args.offline {
        true => Some(inside.configure_release(&mut release, &read_site_services(args, &target)?)?),
        false => None,
    };
    let settings = kept.as_ref().map(OfflineChanges::settings).unwrap_or_default();
    let render = |overlay: Option<&str>| release.render_variant(overlay);
    let relocate = |locked: Option<&SiteContent>| {
        let (rules, pull_policy, settings) = (inside.rules(), args.pull_policy, &settings[..]);
        let options = relocate::RelocationOptions { rules, locked, pull_policy, settings };
        relocate::relocate(release.chart(), release.values(), &target, &options, &render)
            .map_err(|error| release.to_remote_error(error))
    };
    let mut moved = relocate(known.as_ref().map(KnownSite::content))?;
    // The registry is asked only where the chart pins an index that it may not have taken.
    if let Some(known) = &mut known
        && known.ask_about_unconfirmed(context, &moved.proof)?
    {
        moved = relocate(Some(known.content()))?;
    }
    let pinned = pin_overlay_digests(context, args, &release, &mut moved, known.as_mut())?;
    refuse_overridden_overlay(&release, &moved.overlay)?;
    let scheme = if registry.plain_http { RegistryScheme::Http } else { RegistryScheme::Https };
    let report = RelocationReport::new(release.chart(), &target, scheme, &moved)?;
    // The render of the proof is reused, since a helm run takes a while on large charts.
    let rendered = std::mem::take(&mut moved.rendered);
    let inspection = chart::inspect::inspect_render(release.chart(), release.values(), rendered);
    let left = inside.find_phone_home(&inspection);

    let verdict = report.verdict;
    let is_written = !args.dry_run && verdict != ProofVerdict::Refuted;
    if let Some(controller) = args.controller.filter(|_| is_written) {
        let wiring = kept.as_ref().map(|kept| kept.wiring.patches());
        moved.overlay = gitops::write_gitops_object(
            controller.into(),
            &GitOpsRelease {
                name: &release.helm_release().name,
                namespace: args.render.namespace(),
                overlay: &moved.overlay,
                patches: &wiring.unwrap_or_else(|| PatchFile::new(vec![])),
                manifests: &inspection.manifests,
            },
        )
        .map_err(|error| CommandError::new(ErrorKind::Integrity, error.to_string()))?;
    }
    let outcome = RelocateSummary {
        report,
        overlay: is_written.then(|| file.display().to_string()),
        turned_off: kept.as_ref().map(|kept| kept.offline.off.clone()).unwrap_or_default(),
        phone_home: left,
        wiring: kept.as_ref().map(|kept| kept.wiring.clone()),
        pinned,
    };
    if !args.dry_run {
        let page = RelocationPage {
            report: &outcome.report,
            rendered: &inspection.manifests,
            offline: kept.as_ref().map(|kept| &kept.offline),
            wiring: outcome.wiring.as_ref(),
            phone_home: &outcome.phone_home,
        };
        write_reports(args, &outcome, &page)?;
        write_files(context, args, &outcome, &file, is_written.then_some(moved.overlay.as_str()))?;
    }
    // With `-o -` standard output carries the overlay alone, so that it can be piped.
    if file != Path::new("-") || !is_written {
        context.ui.print_result(&outcome, format_summary)?;
    }
    require_proven(args, &outcome)
}

/// The site's registry, from the site file or the command line.
pub(super) fn read_registry(args: &RelocateArgs) -> Result<RegistryTarget> {
    match (&args.site, &args.to) {
        (Some(path), _) => Ok(environment::read_site(path)?.registry),
        (None, Some(prefix)) => {
            Ok(RegistryTarget::from_prefix(prefix, args.naming.unwrap_or_default()))
        }
        (None, None) => {
            Err(CommandError::usage_error("name the site: --site FILE or --to REGISTRY"))
        }
    }
}

/// How the overlay names images; none where there is no lock that digests could be from.
pub(super) fn read_pin(args: &RelocateArgs) -> Result<ImagePin> {
    let of_site = match (&args.pin, &args.site) {
        (None, Some(path)) => environment::read_site(path)?.pin,
        _ => None,
    };
    Ok(args.pin.or(of_site).unwrap_or(ImagePin::None))
}

/// What the site offers to runtimes (models, CA, services). With `--to`, only the registry's host is
/// known.
pub(super) fn read_site_services(
    args: &RelocateArgs,
    target: &RelocationTarget,
) -> Result<wiring::SiteServices> {
    let namespace = args.render.namespace();
    Ok(match &args.site {
        Some(path) => wiring::SiteServices::from_site(&environment::read_site(path)?, namespace),
        None => wiring::SiteServices {
            hosts: vec![target.prefix.registry().to_owned()],
            ..wiring::SiteServices::default()
        },
    })
}

/// Checks the output paths before any work is done, since rendering takes a while.
pub(super) fn check_output_paths(args: &RelocateArgs, file: &Path) -> Result<()> {
    let outputs = std::iter::once((file, OutputKind::Overlay))
        .chain(args.report.iter().map(|path| (path.as_path(), OutputKind::RelocationReport)))
        .chain(args.patches.iter().map(|path| (path.as_path(), OutputKind::Patches)));
    for (path, kind) in outputs {
        // An overlay that is written over a values file would destroy what a person wrote. It is also not
        // an input: with the images moved already, nothing could be learnt from the renders.
        let own = path.canonicalize().ok();
        if own.is_some()
            && args.render.values.paths().iter().any(|file| file.canonicalize().ok() == own)
        {
            return Err(CommandError::usage_error(format!(
                "{} is one of the values files (-f) and would be overwritten",
                path.display()
            ))
            .with_hint(
                "name another file with -o, and give with -f only your own values, not an old overlay",
            ));
        }
        if !args.dry_run {
            args.overwrite.check_file(path, kind)?;
        }
    }
    Ok(())
}

/// Writes the reports, each in the form that its ending asks for.
pub(super) fn write_reports(
    args: &RelocateArgs,
    outcome: &RelocateSummary,
    page: &RelocationPage<'_>,
) -> Result<()> {
    for path in &args.report {
        let text = match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => environment::format_report_json(path, outcome)?,
            Some("html") => page.to_html(own_image::VERSION)?,
            _ => {
                let wiring = page.wiring.map(OfflineWiring::to_markdown).unwrap_or_default();
                let offline = offline::format_markdown(page.offline, page.phone_home);
                page.report.to_markdown() + &wiring + &offline
            }
        };
        environment::write_file(path, &(text.trim_end().to_owned() + "\n"))?;
    }
    Ok(())
}

/// Writes the overlay or the moved manifests to `file`, the patches and the files for the nodes, each atomically.
pub(super) fn write_files(
    context: &CommandContext,
    args: &RelocateArgs,
    outcome: &RelocateSummary,
    file: &Path,
    overlay: Option<&str>,
) -> Result<()> {
    match overlay {
        Some(text) if file == Path::new("-") => context.ui.print_document(text)?,
        Some(text) => environment::write_file(file, text)?,
        None => {}
    }
    if let (Some(path), Some(wiring)) = (&args.patches, &outcome.wiring) {
        environment::write_file(path, &wiring.patches().write()?)?;
    }
    if let Some(folder) = &args.mirrors {
        for remedy in &outcome.report.remedies {
            let path = folder.join(&remedy.file);
            args.overwrite.check_file_in_new_folder(&path, OutputKind::NodeConfiguration)?;
            environment::write_file_with_folders(&path, &remedy.text)?;
        }
    }
    Ok(())
}

pub(super) fn format_summary(outcome: &RelocateSummary) -> String {
    let report = &outcome.report;
    let rows = report.moved.iter().map(|image| {
        let by: Vec<String> = image.by.iter().map(ToString::to_string).collect();
        [image.from.to_string(), image.to.to_string(), image.places.to_string(), by.join(", ")]
    });
    let mut text =
        ui::format_table(["image", "image at the site", "locations", "set by"], rows.collect());
    for leftover in &report.leftovers {
        let _ = writeln!(
            text,
            "leftover: {} in {}: {}",
            leftover.image, leftover.place, leftover.reason
        );
    }
    for field in &report.broken {
        let _ =
            writeln!(text, "not an image: {:?} in {}: {}", field.text, field.place, field.reason);
    }
    for registry in &report.registries {
        let _ = writeln!(text, "registry outside: {} in {}", registry.text, registry.place);
    }
    for unconfirmed in &report.unconfirmed {
        let (image, place) = (&unconfirmed.image, &unconfirmed.place);
        let _ = writeln!(text, "not confirmed: {image} in {place}: {}", unconfirmed.reason());
    }
    for possible in &report.possible {
        let (image, remark) = (&possible.image, possible.lock_remark());
        let _ = writeln!(text, "possible: {image}{remark}: {}", possible.reason());
    }
    for pin in &outcome.pinned {
        let _ = writeln!(text, "pinned: {} by {}", pin.image, pin.path);
    }
    for place in &report.without_secret {
        let _ = writeln!(text, "no pull secret: {place}: add the secret to its service account");
    }
    for note in &report.notes {
        let _ = writeln!(text, "not changed: {note}");
    }
    for switch in &outcome.turned_off {
        let _ = writeln!(text, "turned off: {}: {} ({})", switch.path, switch.off, switch.why);
    }
    if let Some(wiring) = &outcome.wiring {
        append_wiring(wiring, &mut text);
    }
    for finding in &outcome.phone_home {
        let _ = writeln!(text, "connects to the outside: {finding}");
    }
    let written = match &outcome.overlay {
        Some(path) => format!("; {path} written"),
        None => String::new(),
    };
    let _ = writeln!(text, "{}", report.summary());
    let _ = writeln!(text, "{}{written}", report.verdict_text());
    text
}

/// Appends lines on how runtimes were configured for offline use.
fn append_wiring(wiring: &OfflineWiring, text: &mut String) {
    for row in wiring.to_rows() {
        let by = row.by.map_or("a patch".to_owned(), ToString::to_string);
        let _ = writeln!(text, "configured: {}: {}, set by {by}", row.place, row.what.join(", "));
    }
    for note in &wiring.notes {
        let _ = writeln!(text, "kept: {note}");
    }
    for left in &wiring.leftovers {
        let _ =
            writeln!(text, "not configured: {}: {}; next: {}", left.place, left.what, left.next);
    }
}

/// Fails if something could not be configured for offline use, unless leftovers are allowed.
pub(super) fn refuse_unwired(args: &RelocateArgs, wiring: Option<&OfflineWiring>) -> Result<()> {
    let Some(wiring) = wiring.filter(|_| !args.allow_leftovers) else { return Ok(()) };
    if let Some(left) = wiring.leftovers.first() {
        let number = wiring.leftovers.len();
        let message =
            format!("not configured for offline use ({number}): {}: {}", left.place, left.what);
        let error = CommandError::new(ErrorKind::Integrity, message).with_hint(left.next.clone());
        return Err(error.with_hint("or accept this with --allow-leftovers"));
    }
    Ok(())
}

/// Fails as [`refuse_unwired`], and if there are patches that are not written.
fn require_wired(args: &RelocateArgs, wiring: Option<&OfflineWiring>) -> Result<()> {
    refuse_unwired(args, wiring)?;
    let Some(wiring) = wiring.filter(|_| !args.allow_leftovers) else { return Ok(()) };
    let is_patched = args.patches.is_some() || args.controller == Some(ControllerOption::Flux);
    if !wiring.patches.is_empty() && !is_patched {
        let number = wiring.patches.len();
        let message =
            format!("no chart value can configure these objects for offline use: {number}");
        return Err(CommandError::new(ErrorKind::Integrity, message).with_hint(
            "write patches with --patches FILE, and install with gantry post-render --patches FILE",
        ));
    }
    Ok(())
}

/// The error where it is not known that the site has all digests.
pub(super) fn unconfirmed_error(report: &RelocationReport) -> CommandError {
    let number = report.unconfirmed.len();
    let message =
        format!("{number} digests are not confirmed: it is not known that the site has them");
    CommandError::new(ErrorKind::Integrity, message)
        .with_hint(CONFIRM_HINT)
        .with_hint(KEEP_HINT)
        .with_hint("or accept this with --allow-leftovers")
}

/// Turns the verdict into an error, which decides the exit code and says what to do next.
fn require_proven(args: &RelocateArgs, outcome: &RelocateSummary) -> Result<()> {
    let report = &outcome.report;
    match report.verdict {
        ProofVerdict::Proven => require_wired(args, outcome.wiring.as_ref()),
        // The user has chosen a workaround; the leftovers are still in the report.
        ProofVerdict::Leftovers | ProofVerdict::Unconfirmed if args.allow_leftovers => Ok(()),
        ProofVerdict::Unconfirmed => Err(unconfirmed_error(report)),
        ProofVerdict::Leftovers => {
            // The same as in `gantry deploy`.
            let open = report.open_leftovers(|_| false);
            let mut message = match open.images.len() {
                0 => String::new(),
                1 => "1 image reference still points outside, and no chart value can change it"
                    .into(),
                number => format!(
                    "{number} image references still point outside, and no chart value can change them"
                ),
            };
            for registry in &open.registries {
                let separator = if message.is_empty() { "" } else { "; " };
                let _ = write!(
                    message,
                    "{separator}the registry {} in {} points outside, and no chart value changes it",
                    registry.text, registry.place
                );
            }
            for field in &open.broken {
                let separator = if message.is_empty() { "" } else { "; " };
                let _ = write!(
                    message,
                    "{separator}{:?} in {} is not an image reference: {}",
                    field.text, field.place, field.reason
                );
            }
            let error = CommandError::new(ErrorKind::Integrity, message);
            if open.images.is_empty() {
                let hint = "correct the value or the template, or accept it with --allow-leftovers";
                return Err(error.with_hint(hint));
            }
            let post_render = "install with helm's post-renderer: gantry post-render --help";
            let error =
                match (open.has_kind(LeftoverKind::Rendered), open.has_kind(LeftoverKind::Hook)) {
                    (true, false) => error.with_hint(post_render),
                    (_, true) => {
                        error.with_hint(format!("{post_render} (hooks: with helm 4 only)"))
                    }
                    (false, false) => error,
                };
            let nodes = "or let the nodes pull them from the site: gantry relocate … --mirrors DIR";
            Err(error
                .with_hint(nodes)
                .with_hint("then accept the leftovers with --allow-leftovers"))
        }
        ProofVerdict::Refuted => Err(CommandError::new(
            ErrorKind::Integrity,
            format!(
                "the proof failed, so no overlay was written:\n{}",
                report.refutation_markdown()
            ),
        )
        .with_hint("read the report: gantry relocate … --report review.md")),
    }
}
