//! `gantry relocate`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chart::mirrors::Scheme;
use chart::offline;
use chart::phone_home::Finding;
use chart::relocate::{self, Locked, PullPolicy, Target, Verdict};
use chart::report::{LeftoverKind, Report};
use chart::wiring::{self, Wiring};
use serde::Serialize;
use types::naming::{Naming, Prefix};
use types::site::Registry;

use crate::charts::{self, RenderArgs};
use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::offline::{Inside, Kept};
use crate::{ui, world};

/// Write the values that move all of a chart's images to the site, and prove that they do.
///
/// Values are marked and rendered to learn which of them make up which image; the smallest overlay
/// that moves all of them is written; then the chart is rendered again with it: every image must be
/// the site's name of the same tag or digest, and nothing but references may have changed. Where
/// there is a gantry.lock, every image must be in it.
///
/// What no value reaches is a leftover: it is named with its place, its reason and the ways out.
/// Exit code 0: proven. 3: leftovers (the overlay is written; see --mirrors and `gantry
/// post-render`), or refuted (nothing is written).
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry relocate ./my-chart -f values.yaml --site site.yaml -o overlay.yaml
  gantry relocate oci://registry.internal:5000/ai/charts/app --to registry.internal:5000/ai
  gantry relocate ./my-chart --site site.yaml --offline --patches patches.yaml --report review.md
  gantry relocate ./my-chart --site site.yaml --mirrors ./for-the-nodes
  helm upgrade --install app ./my-chart -f values.yaml -f overlay.yaml")]
pub(crate) struct Args {
    /// The chart: oci://…, a folder, a .tgz, or an https repository followed by the chart's name.
    #[arg(required = true, num_args = 1..=2, value_name = "CHART")]
    chart: Vec<String>,
    #[command(flatten)]
    render: RenderArgs,
    /// The site's description: its registry, naming and pull secret.
    #[arg(long, value_name = "FILE", required_unless_present = "to", conflicts_with = "to")]
    site: Option<PathBuf>,
    /// The site's registry with an optional path (host[:port][/path]).
    #[arg(long, value_name = "REGISTRY")]
    to: Option<Prefix>,
    /// How names at the registry are made: path, host-path or name.
    #[arg(long, value_name = "NAMING", conflicts_with = "site")]
    naming: Option<Naming>,
    /// Where the overlay is written; - for standard output.
    #[arg(short = 'o', long, value_name = "FILE", default_value = "overlay.yaml")]
    overlay: PathBuf,
    /// Write the report for a reviewer: FILE.md or FILE.json (may be given twice).
    #[arg(long, value_name = "FILE", value_parser = report_path)]
    report: Vec<PathBuf>,
    /// Keep the release inside: wire what loads models to the site's, put the site's CA and issuer
    /// where they are read, and turn off what reaches outside by itself, where that is safe.
    #[arg(long)]
    offline: bool,
    /// Write what --offline needs and no value reaches, for gantry post-render --patches.
    #[arg(long, value_name = "FILE", requires = "offline")]
    patches: Option<PathBuf>,
    /// Give every image this pull policy, wherever a value reaches it: Always, IfNotPresent or Never.
    #[arg(long, value_name = "POLICY")]
    pull_policy: Option<PullPolicy>,
    /// Write the files that make nodes pull leftovers from the site into this folder.
    #[arg(long, value_name = "DIR")]
    mirrors: Option<PathBuf>,
    /// Exit 0 also when there are leftovers, for those who take one of the ways out.
    #[arg(long)]
    allow_leftovers: bool,
    /// Only tell; write nothing.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

fn report_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("md" | "json") => Ok(path),
        _ => Err("a report is FILE.md or FILE.json".into()),
    }
}

/// What is printed, and written as a report.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    #[serde(flatten)]
    report: Report,
    /// Where the overlay was written; absent where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlay: Option<String>,
    /// What `--offline` turned off.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    turned_off: Vec<offline::Switch>,
    /// What reaches outside by itself and is left.
    phone_home: Vec<Finding>,
    /// What keeps the runtimes inside; absent without `--offline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    wiring: Option<Wiring>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<()> {
    world::end_when_stopped()?;
    let registry = registry(args)?;
    let target = target(&registry)?;
    let source = match charts::sources(&args.chart)?.as_slice() {
        [source] => source.clone(),
        _ => return Err(CommandError::usage("one chart at a time: give one CHART")),
    };
    check_folders(args)?;
    let inside = Inside::new(world::optional_input(context)?.as_ref(), &target);
    let locked = world::optional_lock(context)?.map(|lock| Locked::from(&lock));
    let chart = args.render.chart(source, &[])?;
    let mut release = charts::open(context, &chart, &[])?;

    let kept = match args.offline {
        true => Some(inside.keep(&mut release, &offline(args, &target)?)?),
        false => None,
    };
    let settings = kept.as_ref().map(Kept::settings).unwrap_or_default();
    let options = relocate::Options {
        rules: inside.rules(),
        locked: locked.as_ref(),
        pull_policy: args.pull_policy,
        settings: &settings,
    };
    let render = |overlay: Option<&str>| release.render(overlay);
    let mut moved =
        relocate::relocate(release.chart(), release.values(), &target, &options, &render)
            .map_err(|error| release.refused(error))?;
    let values = chart::values::read("the overlay", &moved.overlay)?;
    if let Some(value) = release.set_wins_over(&values)? {
        return Err(CommandError::usage(format!(
            "{value} is given by --set, which helm lets win over every values file, the overlay too"
        ))
        .hint("put it into a values file and give that with -f"));
    }
    let scheme = if registry.plain_http { Scheme::Http } else { Scheme::Https };
    let report = Report::new(release.chart(), &target, scheme, &moved)?;
    let rendered = std::mem::take(&mut moved.rendered);
    let inspection = chart::inspect::rendered(release.chart(), release.values(), rendered);
    let left = inside.find(&inspection);

    let verdict = report.verdict;
    let is_written = !args.dry_run && verdict != Verdict::Refuted;
    let outcome = Outcome {
        report,
        overlay: is_written.then(|| args.overlay.display().to_string()),
        turned_off: kept.as_ref().map(|kept| kept.offline.off.clone()).unwrap_or_default(),
        phone_home: left,
        wiring: kept.as_ref().map(|kept| kept.wiring.clone()),
    };
    let offline = kept.as_ref().map(|kept| &kept.offline);
    let mut markdown = outcome.report.markdown();
    markdown += &kept.as_ref().map(|kept| kept.wiring.markdown()).unwrap_or_default();
    markdown += &offline::markdown(offline, &outcome.phone_home);
    if !args.dry_run {
        write(context, args, &outcome, &markdown, is_written.then_some(moved.overlay.as_str()))?;
    }
    if args.overlay != Path::new("-") || !is_written {
        context.ui.result(&outcome, summary)?;
    }
    judged(args, &outcome)
}

/// The site's registry, from its description or the command line.
fn registry(args: &Args) -> Result<Registry> {
    match (&args.site, &args.to) {
        (Some(path), _) => Ok(world::site(path)?.registry),
        (None, Some(prefix)) => Ok(Registry {
            url: prefix.to_string(),
            naming: args.naming.unwrap_or_default(),
            ca: None,
            plain_http: false,
            pull_secret: None,
        }),
        (None, None) => Err(CommandError::usage("give --site or --to")),
    }
}

fn target(registry: &Registry) -> Result<Target> {
    Ok(Target {
        prefix: registry.prefix()?,
        naming: registry.naming,
        pull_secret: registry.pull_secret.clone(),
    })
}

/// What the site has for runtimes; of a registry alone nothing is known but its host.
fn offline(args: &Args, target: &Target) -> Result<wiring::Offline> {
    let namespace = args.render.namespace();
    Ok(match &args.site {
        Some(path) => wiring::Offline::of_site(&world::site(path)?, namespace),
        None => wiring::Offline {
            hosts: vec![target.prefix.registry().to_owned()],
            ..wiring::Offline::default()
        },
    })
}

/// Bad paths are told before any work is done.
fn check_folders(args: &Args) -> Result<()> {
    for path in args.report.iter().chain([&args.overlay]).chain(&args.patches) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(CommandError::usage(format!(
                "{}: there is no folder {}",
                path.display(),
                folder.display()
            )));
        }
        if path.is_dir() {
            return Err(
                CommandError::usage(format!("{} is a folder", path.display())).hint("name a file")
            );
        }
        // What was written would take the place of what a person wrote, or of what it builds on.
        let own = path.canonicalize().ok();
        if own.is_some() && args.render.values().iter().any(|file| file.canonicalize().ok() == own)
        {
            return Err(CommandError::usage(format!(
                "{} is one of the values files (-f) and would be written over",
                path.display()
            ))
            .hint(
                "name another file with -o, and give -f only your own values, no older overlay",
            ));
        }
    }
    Ok(())
}

/// Writes the overlay, the reports and the files for the nodes, each whole or not at all.
fn write(
    context: &Context,
    args: &Args,
    outcome: &Outcome,
    markdown: &str,
    overlay: Option<&str>,
) -> Result<()> {
    for path in &args.report {
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let text = match is_json {
            true => serde_json::to_string_pretty(outcome).map_err(|cause| {
                CommandError::failed(format!("cannot write {}: {cause}", path.display()))
            })?,
            false => markdown.to_owned(),
        };
        world::write(path, &(text.trim_end().to_owned() + "\n"))?;
    }
    match overlay {
        Some(text) if args.overlay == Path::new("-") => context.ui.print(text.trim_end())?,
        Some(text) => world::write(&args.overlay, text)?,
        None => {}
    }
    if let (Some(path), Some(wiring)) = (&args.patches, &outcome.wiring) {
        world::write(path, &wiring.patches().write()?)?;
    }
    if let Some(folder) = &args.mirrors {
        for remedy in &outcome.report.remedies {
            world::write_deep(&folder.join(&remedy.file), &remedy.text)?;
        }
    }
    Ok(())
}

fn summary(outcome: &Outcome) -> String {
    let report = &outcome.report;
    let rows = report.moved.iter().map(|image| {
        let by: Vec<String> = image.by.iter().map(ToString::to_string).collect();
        [image.from.to_string(), image.to.to_string(), image.places.to_string(), by.join(", ")]
    });
    let mut text = ui::table(["image", "at the site", "places", "by"], rows.collect());
    for leftover in &report.leftovers {
        let _ = writeln!(
            text,
            "leftover: {} in {}: {}",
            leftover.image, leftover.place, leftover.reason
        );
    }
    for possible in &report.possible {
        let _ = writeln!(text, "not proven: {}: {}", possible.image, possible.reason());
    }
    for place in &report.without_secret {
        let _ = writeln!(text, "without the pull secret: {place}: give it to its service account");
    }
    for note in &report.notes {
        let _ = writeln!(text, "not set: {note}");
    }
    for switch in &outcome.turned_off {
        let _ = writeln!(text, "turned off: {}: {} ({})", switch.path, switch.off, switch.why);
    }
    if let Some(wiring) = &outcome.wiring {
        summarize(wiring, &mut text);
    }
    for finding in &outcome.phone_home {
        let _ = writeln!(text, "reaches outside: {finding}");
    }
    let written = match &outcome.overlay {
        Some(path) => format!("; {path} written"),
        None => String::new(),
    };
    let _ = writeln!(text, "{}{written}", report.verdict.as_str());
    text
}

/// What keeps runtimes inside, in lines.
fn summarize(wiring: &Wiring, text: &mut String) {
    for row in wiring.rows() {
        let by = row.by.map_or("a patch".to_owned(), ToString::to_string);
        let _ = writeln!(text, "wired: {}: {} by {by}", row.place, row.what.join(", "));
    }
    for note in &wiring.notes {
        let _ = writeln!(text, "wired otherwise: {note}");
    }
    for left in &wiring.leftovers {
        let _ = writeln!(text, "not wired: {}: {}; next: {}", left.place, left.what, left.next);
    }
}

/// What is not wired, with what to do next.
fn unwired(args: &Args, wiring: Option<&Wiring>) -> Result<()> {
    let Some(wiring) = wiring.filter(|_| !args.allow_leftovers) else { return Ok(()) };
    if let Some(left) = wiring.leftovers.first() {
        let number = wiring.leftovers.len();
        let message =
            format!("{number} places are not wired to stay inside: {}: {}", left.place, left.what);
        let error = CommandError::new(Kind::Integrity, message).hint(left.next.clone());
        return Err(error.hint("or accept it with --allow-leftovers"));
    }
    if !wiring.patches.is_empty() && args.patches.is_none() {
        let number = wiring.patches.len();
        let message = format!("no value reaches what {number} objects need to stay inside");
        return Err(CommandError::new(Kind::Integrity, message).hint(
            "write the patches with --patches FILE, and install with gantry post-render --patches FILE",
        ));
    }
    Ok(())
}

/// The exit code, with what to do next.
fn judged(args: &Args, outcome: &Outcome) -> Result<()> {
    let report = &outcome.report;
    match report.verdict {
        Verdict::Proven => unwired(args, outcome.wiring.as_ref()),
        Verdict::Leftovers if args.allow_leftovers => Ok(()),
        Verdict::Leftovers => {
            let number = report.leftovers.len();
            let message = format!("{number} places still point outside: no value reaches them");
            let error = CommandError::new(Kind::Integrity, message);
            let has = |kind| report.leftovers.iter().any(|leftover| leftover.kind == kind);
            let post_render = "install with the post-renderer: gantry post-render --help";
            let error = match (has(LeftoverKind::Rendered), has(LeftoverKind::Hook)) {
                (true, false) => error.hint(post_render),
                (_, true) => error.hint(format!("{post_render} (hooks: with helm 4 only)")),
                (false, false) => error,
            };
            let nodes = "let the nodes pull them from the site: gantry relocate … --mirrors DIR";
            Err(error.hint(nodes).hint("then accept it with --allow-leftovers"))
        }
        Verdict::Refuted => Err(CommandError::new(
            Kind::Integrity,
            format!("the proof failed, no overlay is written:\n{}", report.refutation()),
        )
        .hint("look at the report: gantry relocate … --report review.md")),
    }
}
