//! `gantry images`: lists the images of charts and manifests. It shares the search with `gantry lock`,
//! and needs no lock and no store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use chart::OperatorRules;
use chart::find::{self, BrokenImageField, Confidence, FoundImage, ImageScan, LocationKind};
use chart::manifest::Manifests;
use clap::ValueEnum;
use serde::Serialize;
use types::Reference;
use types::input::{self, ChartSource};

use crate::chart_values::ChartValues;
use crate::charts::{self, HelmRenderArgs};
use crate::context::CommandContext;
use crate::error::{CommandError, Result};
use crate::manifests::{is_manifest_argument, read_manifest_stream};
use crate::{environment, ui};

/// How manifests come from standard input.
const EXAMPLE: &str = "kubectl kustomize ./overlay | gantry images -";

/// List every image that charts or manifests use, and where each is referenced.
///
/// Charts are rendered by helm with their values, including hooks and tests. Gantry looks for images in
/// pods, custom resources, arguments, environment variables, ConfigMaps, Secrets and annotations, and
/// knows images that some operators have compiled in. Each image is certain (the kubelet will pull
/// it), likely (an operator or a program will), or possible (named in a value that was not rendered, or
/// in Chart.yaml).
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry images ./my-chart -f values.yaml
  gantry images oci://ghcr.io/org/charts/app --version 1.2.3 --set gpu.enabled=true
  gantry images https://charts.example/stable postgresql
  gantry images ./my-chart --variant gpu.yaml --variant cpu.yaml,small.yaml
  gantry images                                # the charts and manifests of gantry.yaml
  gantry images ./my-chart --explain curlimages/curl
  gantry images ./my-chart --at-least certain --list > images.txt
  gantry images ./overlays/prod                # a kustomization
  helm template ./my-chart | gantry images -
  gantry images manifests/*.yaml --output json

List images that your own operators have compiled in under `rules:` in gantry.yaml
(docs/formats/rules.md).")]
pub(crate) struct ImagesArgs {
    /// Charts (oci://…, a folder, a .tgz, or the URL of a repository followed by the chart's name), plain
    /// manifests (files or folders of YAML, or the folder of a kustomization), or - for standard input
    /// [default: the charts and manifests of gantry.yaml].
    #[arg(value_name = "CHART")]
    charts: Vec<String>,
    #[command(flatten)]
    render: HelmRenderArgs,
    /// Render the chart once more with these values files on top (separated by commas); may be given
    /// several times. The images of all renders are listed.
    #[arg(long, value_name = "FILES")]
    variant: Vec<String>,
    /// Explain why this reference counts as an image and where it comes from; a part of the name is
    /// enough.
    #[arg(long, value_name = "REFERENCE", conflicts_with = "list")]
    explain: Option<String>,
    /// List only images of at least this confidence.
    #[arg(long, value_name = "CONFIDENCE", default_value = "possible")]
    at_least: MinimumConfidence,
    /// Print only the references, one per line.
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum MinimumConfidence {
    /// All images.
    Possible,
    /// Images that an operator or a program starts, and those the kubelet pulls.
    Likely,
    /// Images that the kubelet pulls.
    Certain,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct ImageList {
    images: Vec<ListedImage>,
    #[serde(rename = "invalidFields", skip_serializing_if = "Vec::is_empty")]
    broken: Vec<BrokenImageField>,
}

#[derive(Clone, Serialize, schemars::JsonSchema)]
struct ListedImage {
    reference: Reference,
    /// The highest confidence among its places.
    confidence: Confidence,
    #[serde(rename = "mentions")]
    places: Vec<FoundImage>,
}

pub(crate) fn run(context: &CommandContext, args: &ImagesArgs) -> Result<()> {
    environment::exit_when_stopped()?;
    let rules = match environment::read_optional_input(context)? {
        Some(input) => OperatorRules::from_input(&input),
        None => OperatorRules::builtin().clone(),
    };
    let mut findings = ImageScan::default();
    if args.charts.is_empty() && !args.render.values.is_empty() {
        return Err(CommandError::usage_error(
            "values (-f, --set and its siblings) are for a chart on the command line",
        )
        .with_hint("name the chart, or write them into gantry.yaml: values:, set:"));
    }
    if args.charts.iter().any(|chart| chart == "-") && args.render.values.reads_stdin() {
        return Err(CommandError::usage_error("standard input can only be read once")
            .with_hint("give the manifests or the values in a file"));
    }
    let values = args.render.values.read_values()?;
    for subject in read_search_inputs(context, args, &values)? {
        // Charts need helm; manifests are searched as they are.
        let found = match subject {
            ImageSearchInput::Manifests { name, text } => {
                find_images_in_manifests(&name, &text, &rules)?
            }
            ImageSearchInput::Chart(chart) => find_images_in_chart(context, &chart, &rules)?,
        };
        findings.images.extend(found.images);
        findings.broken.extend(found.broken);
    }
    let images = group_by_image(findings, args.at_least);
    for broken in &images.broken {
        let BrokenImageField { place, text, reason } = broken;
        context.ui.print_warning(&format!("{place}: {text:?} is not an image reference: {reason}"));
    }
    if let Some(wanted) = &args.explain {
        return explain_images(context, &images, wanted);
    }
    if args.list {
        let list: Vec<String> = images.images.iter().map(|i| i.reference.to_string()).collect();
        return context.ui.print_text(&list.join("\n"));
    }
    context.ui.print_result(&images, format_table)
}

enum ImageSearchInput {
    Chart(Box<input::InputChart>),
    Manifests { name: String, text: String },
}

/// The charts and manifests to search. Manifests are read here, charts are rendered later.
fn read_search_inputs(
    context: &CommandContext,
    args: &ImagesArgs,
    values: &ChartValues,
) -> Result<Vec<ImageSearchInput>> {
    let variants: Vec<Vec<PathBuf>> =
        args.variant.iter().map(|files| files.split(',').map(PathBuf::from).collect()).collect();
    if args.charts.is_empty() {
        let input = environment::read_input(context)?;
        if input.charts.is_empty() && input.manifests.is_empty() {
            return Err(CommandError::usage_error("gantry.yaml has no charts and no manifests")
                .with_hint("name a chart or manifests: gantry images CHART"));
        }
        let charts =
            input.charts.into_iter().map(|chart| Ok(ImageSearchInput::Chart(Box::new(chart))));
        let sets = input.manifests.iter().map(|set| read_manifest_set(context, set));
        return charts.chain(sets).collect();
    }
    charts::parse_chart_sources(&args.charts)?
        .into_iter()
        .map(|source| match &source {
            ChartSource::Local(path) if is_manifest_argument(&path.to_string_lossy()) => {
                read_manifests(&path.to_string_lossy())
            }
            _ => Ok(ImageSearchInput::Chart(Box::new(
                args.render.to_input_chart(source, values, &variants)?,
            ))),
        })
        .collect()
}

/// Reads all manifests that an argument names.
fn read_manifests(argument: &str) -> Result<ImageSearchInput> {
    let text = read_manifest_stream(std::slice::from_ref(&argument.to_owned()), EXAMPLE)?;
    let name = if argument == "-" { "standard input" } else { argument };
    Ok(ImageSearchInput::Manifests { name: name.to_owned(), text })
}

/// The manifests of a set of gantry.yaml, with what is at URLs.
fn read_manifest_set(
    context: &CommandContext,
    set: &input::InputManifestSet,
) -> Result<ImageSearchInput> {
    let meter = context.ui.start_progress("manifests");
    let read = environment::run_online(context, meter.clone(), async |world| {
        Ok(resolve::read_manifest_set(world, set).await?)
    });
    meter.clear();
    let name = format!("release {}", set.release);
    Ok(ImageSearchInput::Manifests { name, text: read?.stream().to_owned() })
}

fn find_images_in_manifests(name: &str, text: &str, rules: &OperatorRules) -> Result<ImageScan> {
    let findings = find::find_images_with_rules(text, rules);
    require_valid_yaml(name, &findings)?;
    // An empty list would look like a result, when the file is a values file, or the command at the
    // other end of the pipe has failed.
    if Manifests::read(text).documents.iter().all(|document| document.kind().is_empty()) {
        return Err(CommandError::usage_error(format!("{name} contains no Kubernetes manifests")).with_hint(
            "give manifests (with kind: …), a chart, or `-` to read manifests from standard input",
        ));
    }
    Ok(findings)
}

/// The images of all renders of a chart: one with its values, and one for each variant.
fn find_images_in_chart(
    context: &CommandContext,
    chart: &input::InputChart,
    rules: &OperatorRules,
) -> Result<ImageScan> {
    let mut all = ImageScan::default();
    let variants = std::iter::once(&[][..]).chain(chart.variants.iter().map(Vec::as_slice));
    for variant in variants {
        let release = charts::open_chart(context, chart, variant)?;
        let found = release.inspect(rules)?.findings;
        require_valid_yaml(release.chart().name(), &found)?;
        all.images.extend(found.images);
        all.broken.extend(found.broken);
    }
    Ok(all)
}

/// Refuses documents that are not valid YAML: skipping them would silently leave images out.
fn require_valid_yaml(name: &str, findings: &ImageScan) -> Result<()> {
    match findings.unread.first() {
        Some(unread) => {
            let template =
                unread.template.as_deref().map(|t| format!(" ({t})")).unwrap_or_default();
            Err(CommandError::usage_error(format!(
                "{name}: the document at line {}{template} is not valid YAML: {}",
                unread.line, unread.reason
            )))
        }
        None => Ok(()),
    }
}

/// Groups findings by image. The same place in two renders is listed once.
fn group_by_image(findings: ImageScan, at_least: MinimumConfidence) -> ImageList {
    let least = match at_least {
        MinimumConfidence::Possible => Confidence::Possible,
        MinimumConfidence::Likely => Confidence::Likely,
        MinimumConfidence::Certain => Confidence::Certain,
    };
    let mut images: BTreeMap<Reference, Vec<FoundImage>> = BTreeMap::new();
    for found in findings.images {
        let places = images.entry(found.reference.clone()).or_default();
        let is_same = |other: &FoundImage| {
            let (a, b) = (&other.place, &found.place);
            (&a.template, &a.kind, &a.name, &a.path) == (&b.template, &b.kind, &b.name, &b.path)
        };
        if !places.iter().any(is_same) {
            places.push(found);
        }
    }
    // The first place is the most certain one; it decides the confidence of the image.
    let images = images.into_iter().filter_map(|(reference, mut places)| {
        places.sort_by_key(|found| std::cmp::Reverse(found.confidence));
        let confidence = places.first()?.confidence;
        Some(ListedImage { reference, confidence, places })
    });
    let mut images: Vec<ListedImage> = images.filter(|image| image.confidence >= least).collect();
    images.sort_by(|a, b| (b.confidence, &a.reference).cmp(&(a.confidence, &b.reference)));
    ImageList { images, broken: findings.broken }
}

fn format_table(images: &ImageList) -> String {
    let rows = images.images.iter().map(|image| {
        let first = &image.places[0];
        let place = format!("{} {}", first.place.kind, first.place.name);
        let place = match image.places.len() - 1 {
            0 => place,
            more => format!("{place} and {more} more"),
        };
        let values: Vec<String> = first.values.iter().map(ToString::to_string).collect();
        // The note of a value is more useful than the value's path: it names the switch that would turn
        // the image on.
        let by = match &first.note {
            Some(note) if values.is_empty() || first.pattern == LocationKind::Value => note.clone(),
            _ => values.join(", "),
        };
        [
            image.reference.to_string(),
            image.confidence.as_str().to_owned(),
            first.pattern.as_str().to_owned(),
            place,
            by,
        ]
    });
    ui::format_table(["image", "confidence", "found in", "location", "set by"], rows.collect())
}

fn explain_images(context: &CommandContext, images: &ImageList, wanted: &str) -> Result<()> {
    let whole = wanted.parse::<Reference>().ok();
    let is_wanted = |image: &&ListedImage| {
        whole.as_ref() == Some(&image.reference) || image.reference.to_string().contains(wanted)
    };
    let found: Vec<ListedImage> = images.images.iter().filter(is_wanted).cloned().collect();
    if found.is_empty() {
        return Err(CommandError::usage_error(format!("no image that matches {wanted} was found"))
            .with_hint("leave out --explain to list all images; other values (-f, --variant) may turn more of them on"));
    }
    let found = ImageList { images: found, broken: vec![] };
    context.ui.print_result(&found, |found| {
        let places = found.images.iter().flat_map(|image| &image.places);
        places.fold(String::new(), |mut text, found| {
            let _ = writeln!(text, "{}", found.explain());
            text
        })
    })
}
