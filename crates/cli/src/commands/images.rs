//! `gantry images`: lists the images of charts and manifests. It shares the search with `gantry lock`,
//! and needs no lock and no store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chart::Rules;
use chart::find::{self, Broken, Confidence, Findings, Found, Pattern};
use chart::manifest::Manifests;
use clap::ValueEnum;
use serde::Serialize;
use types::Reference;
use types::input::{self, ChartSource};

use crate::charts::{self, RenderArgs};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::{ui, world};

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
  gantry images                                # the charts of gantry.yaml
  gantry images ./my-chart --explain curlimages/curl
  gantry images ./my-chart --at-least certain --list > images.txt
  kubectl kustomize ./overlay | gantry images -
  gantry images manifests/*.yaml --output json

List images that your own operators have compiled in under `rules:` in gantry.yaml
(docs/formats/rules.md).")]
pub(crate) struct Args {
    /// Charts (oci://…, a folder, a .tgz, or the URL of a repository followed by the chart's name), plain
    /// manifests (files or folders of YAML), or - for standard input [default: the charts of
    /// gantry.yaml].
    #[arg(value_name = "CHART")]
    charts: Vec<String>,
    #[command(flatten)]
    render: RenderArgs,
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
    at_least: AtLeast,
    /// Print only the references, one per line.
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum AtLeast {
    /// All images.
    Possible,
    /// Images that an operator or a program starts, and those the kubelet pulls.
    Likely,
    /// Images that the kubelet pulls.
    Certain,
}

#[derive(Serialize)]
struct Images {
    images: Vec<Image>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    broken: Vec<Broken>,
}

#[derive(Serialize)]
struct Image {
    reference: Reference,
    /// The highest confidence among its places.
    confidence: Confidence,
    places: Vec<Found>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<()> {
    world::end_when_stopped()?;
    let rules = match world::optional_input(context)? {
        Some(input) => Rules::of_input(&input),
        None => Rules::builtin().clone(),
    };
    let mut findings = Findings::default();
    for subject in subjects(context, args)? {
        // Charts need helm; manifests are searched as they are.
        let found = match subject {
            Subject::Manifests { name, text } => in_manifests(&name, &text, &rules)?,
            Subject::Chart(chart) => in_chart(context, &chart, &rules)?,
        };
        findings.images.extend(found.images);
        findings.broken.extend(found.broken);
    }
    let images = gathered(findings, args.at_least);
    for broken in &images.broken {
        let Broken { place, text, reason } = broken;
        context.ui.warn(&format!("{place}: {text:?} is not an image reference: {reason}"));
    }
    if let Some(wanted) = &args.explain {
        return explain(context, &images, wanted);
    }
    if args.list {
        let list: Vec<String> = images.images.iter().map(|i| i.reference.to_string()).collect();
        return context.ui.print(&list.join("\n"));
    }
    context.ui.result(&images, table)
}

enum Subject {
    Chart(Box<input::Chart>),
    Manifests { name: String, text: String },
}

/// The charts and manifests to search. Manifests are read here, charts are rendered later.
fn subjects(context: &Context, args: &Args) -> Result<Vec<Subject>> {
    let variants: Vec<Vec<PathBuf>> =
        args.variant.iter().map(|files| files.split(',').map(PathBuf::from).collect()).collect();
    if args.charts.is_empty() {
        let input = world::input(context)?;
        if input.charts.is_empty() {
            return Err(CommandError::usage("gantry.yaml has no charts")
                .hint("name a chart: gantry images CHART"));
        }
        return Ok(input.charts.into_iter().map(|chart| Subject::Chart(Box::new(chart))).collect());
    }
    charts::sources(&args.charts)?
        .into_iter()
        .map(|source| match &source {
            ChartSource::Local(path) if is_manifests(path) => manifests(path),
            _ => Ok(Subject::Chart(Box::new(args.render.chart(source, &variants)?))),
        })
        .collect()
}

fn is_manifests(path: &Path) -> bool {
    // A folder of templates is a chart's, even where its Chart.yaml is missing.
    let is_chart = ["Chart.yaml", "templates"].iter().any(|name| path.join(name).exists());
    path == Path::new("-")
        || is_yaml(path)
        || path.is_dir() && !is_chart && !yaml_files(path).is_empty()
}

fn is_yaml(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// The manifest files of a folder, sorted. Folders inside it are not searched, as in `kubectl apply -f`.
fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(folder).into_iter().flatten().filter_map(std::result::Result::ok);
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.is_file() && is_yaml(path)).collect();
    files.sort();
    files
}

fn manifests(path: &Path) -> Result<Subject> {
    if path == Path::new("-") {
        let text = world::manifests("kubectl kustomize ./overlay | gantry images -")?;
        return Ok(Subject::Manifests { name: "standard input".into(), text });
    }
    if path.is_dir()
        && ["kustomization.yaml", "kustomization.yml"].iter().any(|f| path.join(f).exists())
    {
        let shown = path.display();
        return Err(CommandError::usage(format!(
            "{shown} is a kustomization, which has to be built first"
        ))
        .hint(format!("kubectl kustomize {shown} | gantry images -")));
    }
    let files = if path.is_dir() { yaml_files(path) } else { vec![path.to_owned()] };
    let mut text = String::new();
    for file in files {
        let own = std::fs::read_to_string(&file).map_err(|cause| {
            CommandError::usage(format!("cannot read {}: {cause}", file.display()))
        })?;
        text.push_str("---\n");
        text.push_str(&own);
        text.push('\n');
    }
    Ok(Subject::Manifests { name: path.display().to_string(), text })
}

fn in_manifests(name: &str, text: &str, rules: &Rules) -> Result<Findings> {
    let findings = find::images_with(text, rules);
    readable(name, &findings)?;
    // An empty list would look like a result, when the file is a values file, or the command at the
    // other end of the pipe has failed.
    if Manifests::read(text).documents.iter().all(|document| document.kind().is_empty()) {
        return Err(CommandError::usage(format!("{name} contains no Kubernetes manifests")).hint(
            "give manifests (with kind: …), a chart, or `-` to read manifests from standard input",
        ));
    }
    Ok(findings)
}

/// The images of all renders of a chart: one with its values, and one for each variant.
fn in_chart(context: &Context, chart: &input::Chart, rules: &Rules) -> Result<Findings> {
    let mut all = Findings::default();
    let variants = std::iter::once(&[][..]).chain(chart.variants.iter().map(Vec::as_slice));
    for variant in variants {
        let release = charts::open(context, chart, variant)?;
        let found = release.inspect(rules)?.findings;
        readable(release.chart().name(), &found)?;
        all.images.extend(found.images);
        all.broken.extend(found.broken);
    }
    Ok(all)
}

/// Refuses documents that are not valid YAML: skipping them would silently leave images out.
fn readable(name: &str, findings: &Findings) -> Result<()> {
    match findings.unread.first() {
        Some(unread) => {
            let template =
                unread.template.as_deref().map(|t| format!(" ({t})")).unwrap_or_default();
            Err(CommandError::usage(format!(
                "{name}: the document at line {}{template} is not valid YAML: {}",
                unread.line, unread.reason
            )))
        }
        None => Ok(()),
    }
}

/// Groups findings by image. The same place in two renders is listed once.
fn gathered(findings: Findings, at_least: AtLeast) -> Images {
    let least = match at_least {
        AtLeast::Possible => Confidence::Possible,
        AtLeast::Likely => Confidence::Likely,
        AtLeast::Certain => Confidence::Certain,
    };
    let mut images: BTreeMap<Reference, Vec<Found>> = BTreeMap::new();
    for found in findings.images {
        let places = images.entry(found.reference.clone()).or_default();
        let is_same = |other: &Found| {
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
        Some(Image { reference, confidence, places })
    });
    let mut images: Vec<Image> = images.filter(|image| image.confidence >= least).collect();
    images.sort_by(|a, b| (b.confidence, &a.reference).cmp(&(a.confidence, &b.reference)));
    Images { images, broken: findings.broken }
}

fn table(images: &Images) -> String {
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
            Some(note) if values.is_empty() || first.pattern == Pattern::Value => note.clone(),
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
    ui::table(["image", "confidence", "found in", "location", "set by"], rows.collect())
}

fn explain(context: &Context, images: &Images, wanted: &str) -> Result<()> {
    let whole = wanted.parse::<Reference>().ok();
    let is_wanted = |image: &&Image| {
        whole.as_ref() == Some(&image.reference) || image.reference.to_string().contains(wanted)
    };
    let found: Vec<&Image> = images.images.iter().filter(is_wanted).collect();
    if found.is_empty() {
        return Err(CommandError::usage(format!("no image that matches {wanted} was found"))
            .hint("leave out --explain to list all images; other values (-f, --variant) may turn more of them on"));
    }
    context.ui.result(&found, |found| {
        let places = found.iter().flat_map(|image| &image.places);
        places.fold(String::new(), |mut text, found| {
            let _ = writeln!(text, "{}", found.explain());
            text
        })
    })
}
