//! Runs everything over one chart: find, move, prove, the post-renderer, the plain scan, the reasons
//! of leftovers and the pull secret.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use chart::find::{Confidence, ImageScan};
use chart::relocate::{ProofVerdict, Relocation, RelocationOptions, RelocationTarget, relocate};
use chart::report::RelocationReport;
use chart::{HelmChart, OperatorRules, RenderError, inspect, mirrors, post_render};
use serde_json::Value;
use types::Reference;

use super::cpu::read_cpu_seconds;
use super::ground::{self, Caller, ChartUnderTest, read_user_values};
use super::pods::{PodSecrets, SECRET, find_reachable_pods};
use super::reasons::{check_reasons, check_registries};
use super::row::{Cost, RUNS, Row, SecretRow};
use super::scan::Scan;
use super::set_by_hand::ChartByHand;

type Render<'a> = dyn Fn(Option<&str>) -> Result<String, RenderError> + Sync + 'a;

/// Examines one chart.
pub(super) fn examine_chart(under_test: &ChartUnderTest, scan: &Scan) -> Result<Row, String> {
    let archive = &under_test.path;
    let own = &under_test.values;
    let chart = ground::read_chart(archive)?;
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let user = read_user_values(own)?;
    let render = |overlay: Option<&str>| {
        ground::render_chart(Caller::Gantry, archive, own, scratch.path(), overlay)
    };
    let typed = || ground::render_chart(Caller::Person, archive, own, scratch.path(), None);
    let target = RelocationTarget {
        prefix: "registry.internal:5000/ai".parse().map_err(|e: types::Error| e.to_string())?,
        naming: types::naming::NamingRule::Path,
        pull_secret: None,
    };
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let stream = render(None).map_err(|error| failed(&error))?;
    let measured = measure_times(&chart, &user, &target, &render, &typed)?;
    let Measured { findings, relocation, .. } = &measured;
    let report = RelocationReport::new(&chart, &target, mirrors::RegistryScheme::Https, relocation)
        .map_err(|error| failed(&error))?;
    let post = post_render::post_render(&stream, &target).map_err(|error| failed(&error))?;
    let after = render(Some(&relocation.overlay)).map_err(|error| failed(&error))?;
    let hand = ChartByHand::new(&chart, &user, &relocation.overlay, &render)?;
    let mut reasons = check_reasons(&hand, &report.leftovers, &target.prefix)?;
    let registries = check_registries(&hand, &report.registries, &target.prefix)?;
    reasons.checked += registries.checked;
    reasons.refuted.extend(registries.refuted);
    let named = Named::new(findings, &report);
    let refuted = list_refuted(scan, &target, &chart, &named, [&stream, &after, &post.stream]);
    let count = |sure| findings.references_at_least(sure).len();
    let (certain, likely, all) =
        (count(Confidence::Certain), count(Confidence::Likely), count(Confidence::Possible));
    Ok(Row {
        origin: under_test.origin,
        name: format!("{} {}", chart.name(), chart.version()),
        summary: report.summary(),
        found: [certain, likely - certain, all - likely],
        places: report.leftovers.len() + relocation.proof.moved.len(),
        moved: relocation.proof.moved.len(),
        stayed: list_leftovers(&report),
        reasons,
        secrets: examine_secrets(&chart, &user, &target, relocation, &render)?,
        lines: relocation.lines.len(),
        verdict: report.verdict,
        post_rendered: post.proof.verdict(),
        refuted,
        helm: measured.helm,
        find: measured.find,
        own: measured.own,
        relocate: measured.relocate,
        renders: relocation.renders,
    })
}

/// The leftovers with their reasons, and what else is not proven.
fn list_leftovers(report: &RelocationReport) -> Vec<String> {
    let images = report.leftovers.iter().map(|leftover| {
        let template = leftover.place.template.as_deref().unwrap_or_default();
        format!("`{}` ({template}): {}", leftover.image, leftover.reason)
    });
    let registries = report.registries.iter().map(|registry| {
        format!(
            "`{}` ({}): a program puts names of images behind it",
            registry.text, registry.place
        )
    });
    let broken = report
        .broken
        .iter()
        .map(|broken| format!("`{}` ({}): {}", broken.text, broken.place, broken.reason));
    let foreign = report.foreign.iter().map(|f| format!("refuted: `{}` ({})", f.text, f.place));
    let changes = report.changes.iter().map(|c| format!("refuted: {} changes", c.place));
    images.chain(registries).chain(broken).chain(foreign).chain(changes).collect()
}

/// Moves the chart with a pull secret: which pods get it, which could, and what it costs.
fn examine_secrets(
    chart: &HelmChart,
    user: &Value,
    target: &RelocationTarget,
    without: &Relocation,
    render: &Render,
) -> Result<SecretRow, String> {
    let target = RelocationTarget { pull_secret: Some(SECRET.into()), ..target.clone() };
    let with = relocate(chart, user, &target, &RelocationOptions::default(), render)
        .map_err(|error| error.to_string())?;
    let stream = render(Some(&with.overlay)).map_err(|error| error.to_string())?;
    let count = PodSecrets::count(&stream, SECRET);
    let hand = ChartByHand::new(chart, user, &with.overlay, render)?;
    let mut lost = Vec::new();
    if with.proof.moved.len() < without.proof.moved.len() {
        lost.push(format!(
            "with a pull secret {} of {} locations are moved",
            with.proof.moved.len(),
            without.proof.moved.len()
        ));
    }
    if with.proof.verdict() == ProofVerdict::Refuted
        && without.proof.verdict() != ProofVerdict::Refuted
    {
        let changes = with.proof.changes.iter().map(|change| change.place.to_string());
        let changes: Vec<String> = changes.collect();
        lost.push(format!("with a pull secret the proof is refuted: {}", changes.join(", ")));
    }
    // A value that has a side effect is left out, and said to be.
    let is_said = |pod: &String| {
        let value = pod.split(" by ").nth(1).and_then(|value| value.split('=').next());
        value.is_some_and(|value| with.notes.iter().any(|note| note.contains(value)))
    };
    let mut missed = find_reachable_pods(&hand, &count);
    missed.retain(|pod| !is_said(pod));
    Ok(SecretRow { pods: count.pods.len(), with: count.with.len(), missed, lost })
}

/// What Gantry says of a chart, by name.
struct Named {
    found: BTreeSet<String>,
    /// The kinds and names of the objects that something was found in.
    objects: BTreeSet<(String, String)>,
    /// The texts that it says stay outside.
    outside: Vec<String>,
    stayed: BTreeSet<String>,
}

impl Named {
    fn new(findings: &ImageScan, report: &RelocationReport) -> Self {
        let stayed: BTreeSet<String> =
            report.leftovers.iter().map(|leftover| leftover.image.to_string()).collect();
        let possible = report.possible.iter().map(|possible| possible.image.to_string());
        let registries = report.registries.iter().map(|registry| registry.text.clone());
        let outside = stayed.iter().cloned().chain(possible).chain(registries).collect();
        let objects =
            findings.images.iter().map(|f| (f.place.kind.clone(), f.place.name.clone())).collect();
        let found = findings.images.iter().map(|found| found.reference.to_string()).collect();
        Self { found, objects, outside, stayed }
    }
}

/// What the plain scan sees and Gantry does not say: in the render, with the overlay, and behind
/// the post-renderer.
fn list_refuted(
    scan: &Scan,
    target: &RelocationTarget,
    chart: &HelmChart,
    named: &Named,
    streams: [&str; 3],
) -> Vec<String> {
    let [plain, after, post] = streams.map(|stream| scan.references(stream));
    let is_outside = |word: &&String| {
        word.parse().is_ok_and(|reference: Reference| !target.is_site_image(&reference))
    };
    let missed = plain.difference(&named.found);
    let missed = missed.map(|word| format!("{word} in the render; not found"));
    let left = after.difference(&named.stayed).filter(is_outside);
    let left = left.map(|word| format!("{word} with the overlay; said to be moved"));
    let hidden = post.iter().filter(is_outside);
    let hidden = hidden.map(|word| format!("{word} behind the post-renderer"));
    let is_named = |prefix: &String| {
        let prefix = prefix.strip_prefix("docker.io/").unwrap_or(prefix);
        named.outside.iter().any(|text| text.contains(prefix))
    };
    let own = target.prefix.registry();
    let prefixes = scan.prefixes(streams[1]).into_iter();
    let prefixes = prefixes.filter(|prefix| !prefix.starts_with(own) && !is_named(prefix));
    let prefixes =
        prefixes.map(|prefix| format!("the registry or repository {prefix} outside; not named"));
    let partial = Scan::partial_images(streams[0]).into_iter();
    let partial = partial.filter(|object| !named.objects.contains(object));
    let partial = partial
        .map(|(kind, name)| format!("a part of an image in {kind} {name}; nothing is said of it"));
    let mut listed = BTreeSet::new();
    add_listed_images(chart, &mut listed);
    let tails: BTreeSet<&str> = named.found.iter().map(|image| without_registry(image)).collect();
    let listed = listed.into_iter().filter(|image| !tails.contains(without_registry(image)));
    let listed = listed.map(|image| format!("{image} in an annotation of a Chart.yaml; not found"));
    missed.chain(left).chain(hidden).chain(prefixes).chain(partial).chain(listed).collect()
}

/// Images in the annotations of a chart and its sub-charts.
fn add_listed_images(chart: &HelmChart, listed: &mut BTreeSet<String>) {
    for key in ["artifacthub.io/images", "helm.sh/images"] {
        let annotation = chart.metadata.get("annotations").and_then(|all| all.get(key));
        let annotation = annotation.and_then(Value::as_str).unwrap_or_default();
        listed.extend(Scan::listed_images(annotation));
    }
    for dependency in &chart.dependencies {
        add_listed_images(&dependency.chart, listed);
    }
}

/// A reference without its registry: what a chart uses may be in another one than its author listed.
fn without_registry(image: &str) -> &str {
    image.split_once('/').map_or(image, |(_, rest)| rest)
}

/// What came out of the runs, and how long they took.
struct Measured {
    findings: ImageScan,
    relocation: Relocation,
    helm: f64,
    find: Cost,
    own: f64,
    relocate: Cost,
}

/// Runs everything [`RUNS`] times. Each multiple by the clock is of a render right before, so that
/// it says little of what else the machine does; CPU times are added up, since they are counted in
/// steps of 10 milliseconds.
fn measure_times(
    chart: &HelmChart,
    user: &Value,
    target: &RelocationTarget,
    render: &Render,
    typed: &dyn Fn() -> Result<String, RenderError>,
) -> Result<Measured, String> {
    let rules = OperatorRules::builtin();
    let known = Mutex::new(HashMap::new());
    let recorded = |overlay: Option<&str>| {
        let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = overlay.map(str::to_owned);
        if let Some(stream) = lock().get(&key) {
            return Ok(String::clone(stream));
        }
        let stream = render(overlay)?;
        lock().insert(key, stream.clone());
        Ok(stream)
    };
    let found = || inspect::inspect_chart(chart, user, render, rules).map_err(|e| e.to_string());
    let moved = || {
        relocate(chart, user, target, &RelocationOptions::default(), render)
            .map_err(|e| e.to_string())
    };
    let find_own =
        || inspect::inspect_chart(chart, user, &recorded, rules).map_err(|e| e.to_string());
    let findings = found()?;
    let relocation = moved()?;
    find_own()?;
    let (mut helm, mut find, mut own, mut relocate) = (vec![], vec![], vec![], vec![]);
    let (mut helm_cpu, mut find_cpu, mut relocate_cpu) = (0.0, 0.0, 0.0);
    for _ in 0..RUNS {
        let one = run_timed(|| typed().map_err(|error| error.to_string()))?;
        helm.push(one.clock);
        helm_cpu += one.cpu;
        let time = run_timed(found)?;
        find.push(time.clock / one.clock);
        find_cpu += time.cpu;
        own.push(run_timed(find_own)?.clock);
        let one = run_timed(|| typed().map_err(|error| error.to_string()))?;
        let time = run_timed(moved)?;
        relocate.push(time.clock / one.clock);
        relocate_cpu += time.cpu;
    }
    Ok(Measured {
        findings: findings.findings,
        relocation,
        helm: median(helm),
        find: Cost { clock: median(find), cpu: find_cpu / helm_cpu },
        own: median(own),
        relocate: Cost { clock: median(relocate), cpu: relocate_cpu / helm_cpu },
    })
}

/// How long something takes, in seconds.
fn run_timed<T>(run: impl FnOnce() -> Result<T, String>) -> Result<Cost, String> {
    let (start, cpu) = (Instant::now(), read_cpu_seconds()?);
    run()?;
    Ok(Cost { clock: start.elapsed().as_secs_f64(), cpu: read_cpu_seconds()? - cpu })
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}
