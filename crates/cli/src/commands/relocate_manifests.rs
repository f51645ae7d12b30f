//! `gantry relocate` of plain manifests: they are moved by edits in place, proven as by
//! `gantry post-render`, and written as one stream. `gantry deploy` does the same for each set of
//! manifests of gantry.yaml.

use std::path::{Path, PathBuf};

use chart::image_pins;
use chart::mirrors::RegistryScheme;
use chart::post_render;
use chart::relocate::{ProofVerdict, RelocationTarget};
use chart::report::RelocationReport;
use chart::{OperatorRules, RelocationPage, inspect};
use deploy::prepare::OfflineRules;
use resolve::FileComparison;
use types::ImagePin;
use types::site_content::SiteContent;

use super::relocate::{
    RelocateArgs, RelocateSummary, check_output_paths, format_summary, read_pin, read_registry,
    read_site_services, refuse_unwired, relocate_chart, unconfirmed_error, write_files,
    write_reports,
};
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, ErrorKind, Result};
use crate::manifests::{is_manifest_argument, read_manifest_set};
use crate::site_digests::{KnownSite, missing_lock_error};

/// How manifests come from standard input.
const EXAMPLE: &str = "kustomize build ./overlay | gantry relocate - --site site.yaml";
/// Where the moved manifests are written unless `-o` says otherwise.
const DEFAULT_FILE: &str = "moved.yaml";

/// Runs `gantry relocate`, for a chart or for manifests.
pub(super) fn run(context: &CommandContext, args: &RelocateArgs) -> Result<()> {
    environment::exit_when_stopped()?;
    match args.chart.iter().filter(|one| is_manifest_argument(one)).count() {
        0 => relocate_chart(context, args),
        count if count == args.chart.len() => relocate_manifests(context, args),
        _ => Err(CommandError::usage_error("give either one chart or plain manifests")
            .with_hint("run gantry relocate once for each")),
    }
}

fn relocate_manifests(context: &CommandContext, args: &RelocateArgs) -> Result<()> {
    refuse_chart_options(args)?;
    let file = args.overlay.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let registry = read_registry(args)?;
    let target = RelocationTarget::from_registry(&registry)?;
    check_output_paths(args, &file)?;
    let input = environment::read_optional_input(context)?;
    let rules = OfflineRules::new(input.as_ref(), &target);
    let lock = environment::read_optional_lock(context)?;
    if let (Some(input), Some(lock)) = (&input, &lock) {
        environment::require_current_lock(context, input, lock, FileComparison::Nothing)?;
    }
    let mut known = lock
        .map(|lock| KnownSite::new(lock, &registry, args.site.as_deref(), &args.receipts))
        .transpose()?;
    let set = read_manifest_set(&args.chart, EXAMPLE)?;

    let wiring = match args.offline {
        true => Some(rules.wire_manifests(set.stream(), &read_site_services(args, &target)?)?),
        false => None,
    };
    let wired = match &wiring {
        Some(wiring) => wiring.patches().apply(set.stream())?,
        None => set.stream().to_owned(),
    };
    let relocate = |locked: Option<&SiteContent>| {
        post_render::post_render_with_rules(&wired, &target, rules.rules(), locked)
    };
    let mut moved = relocate(known.as_ref().map(KnownSite::content))?;
    // The registry is asked only where the manifests pin an index that it may not have taken.
    if let Some(known) = &mut known
        && known.ask_about_unconfirmed(context, &moved.proof)?
    {
        moved = relocate(Some(known.content()))?;
    }
    let pin = read_pin(args)?;
    if pin != ImagePin::None {
        let Some(known) = &known else {
            return Err(missing_lock_error());
        };
        moved.stream = image_pins::pin_images(&moved.stream, known.content(), pin)?.stream;
    }
    let scheme = if registry.plain_http { RegistryScheme::Http } else { RegistryScheme::Https };
    let name = args.chart.join(", ");
    let report = RelocationReport::for_manifests(&name, &target, scheme, &moved.proof)?;
    let inspection = inspect::inspect_stream(&moved.stream, &OperatorRules::default());
    let phone_home = rules.find_phone_home(&inspection);

    let is_written = !args.dry_run && report.verdict != ProofVerdict::Refuted;
    let outcome = RelocateSummary {
        report,
        overlay: is_written.then(|| file.display().to_string()),
        turned_off: Vec::new(),
        phone_home,
        wiring,
        pinned: Vec::new(),
    };
    if !args.dry_run {
        let page = RelocationPage {
            report: &outcome.report,
            rendered: &inspection.manifests,
            offline: None,
            wiring: outcome.wiring.as_ref(),
            phone_home: &outcome.phone_home,
        };
        write_reports(args, &outcome, &page)?;
        write_files(context, args, &outcome, &file, is_written.then_some(moved.stream.as_str()))?;
    }
    // With `-o -` standard output carries the manifests alone, so that they can be piped.
    if file != Path::new("-") || !is_written {
        context.ui.print_result(&outcome, format_summary)?;
    }
    require_moved(args, &outcome)
}

/// Refuses options that say how a chart is rendered or which of its values are set.
fn refuse_chart_options(args: &RelocateArgs) -> Result<()> {
    let option = match args {
        _ if !args.render.values.is_empty() => "values (-f, --set and its siblings)",
        _ if args.render.is_for_chart() => {
            "--version, --release, --kube-version and --api-versions"
        }
        _ if args.pull_policy.is_some() => "--pull-policy",
        _ if args.patches.is_some() => "--patches",
        _ if args.controller.is_some() => "--for",
        _ => return Ok(()),
    };
    Err(CommandError::usage_error(format!(
        "{option} are for charts, and these are plain manifests"
    ))
    .with_hint("leave them out: manifests are moved and configured by edits in place"))
}

/// Turns the verdict into an error, which decides the exit code and says what to do next.
fn require_moved(args: &RelocateArgs, outcome: &RelocateSummary) -> Result<()> {
    let report = &outcome.report;
    match report.verdict {
        ProofVerdict::Proven => refuse_unwired(args, outcome.wiring.as_ref()),
        ProofVerdict::Leftovers | ProofVerdict::Unconfirmed if args.allow_leftovers => Ok(()),
        ProofVerdict::Unconfirmed => Err(unconfirmed_error(report)),
        ProofVerdict::Leftovers => {
            let message = format!(
                "something still points outside: {}",
                report.summary().split_once(": ").map_or("", |(_, counts)| counts)
            );
            Err(CommandError::new(ErrorKind::Integrity, message)
                .with_hint("correct what is listed above in the manifests")
                .with_hint("or let the nodes pull it from the site: gantry relocate … --mirrors DIR")
                .with_hint("then accept the leftovers with --allow-leftovers"))
        }
        ProofVerdict::Refuted => Err(CommandError::new(
            ErrorKind::Integrity,
            format!(
                "the proof failed, so no manifests were written:\n{}",
                report.refutation_markdown()
            ),
        )
        .with_hint("add images that are not in the lock to gantry.yaml, then run gantry lock, fetch, pack and load")),
    }
}
