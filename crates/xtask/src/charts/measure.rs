//! Measures the charts, one after the other.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use chart::find::{Confidence, ImageScan};
use chart::relocate::{ProofVerdict, Relocation, RelocationOptions, RelocationTarget, relocate};
use chart::report::RelocationReport;
use chart::{HelmChart, OperatorRules, RenderError, inspect, mirrors, post_render, values};
use serde_json::Value;

use super::ground::Caller;
use super::row::{RUNS, Row};
use super::scan::Scan;
use super::{ground, table};

/// Measures all charts of the folder `GANTRY_CHARTS` (default `../shared/charts`).
pub(crate) fn measure() -> Result<(), String> {
    let root = workspace()?;
    let folder = std::env::var("GANTRY_CHARTS")
        .map_or_else(|_| root.join("../shared/charts"), PathBuf::from);
    let mut archives = list(&folder)?;
    archives.retain(|path| path.extension().is_some_and(|extension| extension == "tgz"));
    if archives.is_empty() {
        return Err(format!(
            "no charts in {}; set GANTRY_CHARTS to a folder of *.tgz",
            folder.display()
        ));
    }
    let generated = tempfile::tempdir().map_err(|error| error.to_string())?;
    archives.push(ground::umbrella(generated.path()).map_err(|error| error.to_string())?);
    let scan = Scan::new()?;
    let before = load();
    let mut rows = Vec::new();
    for archive in archives {
        let row = one(&root, &archive, &scan)?;
        println!(
            "{:<24} moved {:>3} of {:<3} {:<10} find {:.1}x ({:.0} ms own) move {:.1}x",
            row.name,
            row.moved,
            row.places,
            row.verdict.as_str(),
            row.find,
            row.own * 1e3,
            row.relocate
        );
        for refuted in &row.refuted {
            println!("{:<24} the plain scan sees {refuted}", "");
        }
        rows.push(row);
    }
    let load = format!("{before} before, {} after", load());
    println!("{} Load average: {load}.", table::limits(&rows));
    let document = root.join("docs/explanation/charts.md");
    std::fs::create_dir_all(root.join("docs")).map_err(|error| error.to_string())?;
    std::fs::write(&document, table::document(&rows, &load))
        .map_err(|error| format!("{} cannot be written: {error}", document.display()))?;
    let is_wrong = |row: &&Row| row.verdict == ProofVerdict::Refuted || !row.refuted.is_empty();
    match rows.iter().find(is_wrong) {
        Some(row) => {
            Err(format!("{} is refuted; see above and docs/explanation/charts.md", row.name))
        }
        None => Ok(()),
    }
}

/// The load averages of the machine over 1, 5 and 15 minutes.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let numbers: Vec<&str> = text.split_whitespace().take(3).collect();
    if numbers.is_empty() { "unknown".to_owned() } else { numbers.join(" ") }
}

fn one(root: &Path, archive: &Path, scan: &Scan) -> Result<Row, String> {
    let chart = ground::read(archive)?;
    let name = format!("{} {}", chart.name(), chart.version());
    let own = root.join("crates/xtask/charts").join(format!("{}.yaml", chart.name()));
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let user = match std::fs::read_to_string(&own) {
        Ok(text) => {
            values::read_values(&own.display().to_string(), &text).map_err(|e| e.to_string())?
        }
        Err(_) => values::read_values("no values", "").map_err(|error| error.to_string())?,
    };
    let render = |overlay: Option<&str>| {
        ground::helm(Caller::Gantry, archive, &own, scratch.path(), overlay)
    };
    let typed = || ground::helm(Caller::Person, archive, &own, scratch.path(), None);
    let target = RelocationTarget {
        prefix: "registry.internal:5000/ai".parse().map_err(|e: types::Error| e.to_string())?,
        naming: types::naming::NamingRule::Path,
        pull_secret: None,
    };
    let stream = render(None).map_err(|error| format!("{name}: {error}"))?;
    let measured = measured(&chart, &user, &target, &render, &typed)
        .map_err(|error| format!("{name}: {error}"))?;
    let Measured { findings, relocation, .. } = &measured;
    let report = RelocationReport::new(&chart, &target, mirrors::RegistryScheme::Https, relocation)
        .map_err(|error| error.to_string())?;
    let post = post_render::post_render(&stream, &target).map_err(|error| error.to_string())?;
    let after = render(Some(&relocation.overlay)).map_err(|error| format!("{name}: {error}"))?;
    let count = |sure| findings.references_at_least(sure).len();
    let (certain, likely, all) =
        (count(Confidence::Certain), count(Confidence::Likely), count(Confidence::Possible));
    Ok(Row {
        name,
        found: [certain, likely - certain, all - likely],
        places: relocation.proof.moved.len() + relocation.proof.stayed.len(),
        moved: relocation.proof.moved.len(),
        stayed: report
            .leftovers
            .iter()
            .map(|leftover| {
                let template = leftover.place.template.as_deref().unwrap_or_default();
                format!("`{}` ({template}): {}", leftover.image, leftover.reason)
            })
            .collect(),
        lines: relocation.lines.len(),
        verdict: report.verdict,
        post_rendered: post.proof.verdict(),
        refuted: refuted(scan, &target, &measured, [&stream, &after, &post.stream]),
        helm: measured.helm,
        find: measured.find,
        own: measured.own,
        relocate: measured.relocate,
        renders: relocation.renders,
    })
}

/// What the plain scan sees and Gantry does not say, in the render, with the overlay, and behind
/// the post-renderer.
fn refuted(
    scan: &Scan,
    target: &RelocationTarget,
    measured: &Measured,
    streams: [&str; 3],
) -> Vec<String> {
    let [plain, after, post] = streams.map(|stream| scan.references(stream));
    let found: BTreeSet<String> =
        measured.findings.images.iter().map(|found| found.reference.to_string()).collect();
    let stayed: BTreeSet<String> =
        measured.relocation.proof.stayed.iter().map(|stayed| stayed.from.to_string()).collect();
    let is_outside = |word: &&String| {
        word.parse().is_ok_and(|reference: types::Reference| !target.is_site_image(&reference))
    };
    let missed = plain.difference(&found).map(|word| format!("{word} in the render; not found"));
    let left = after.difference(&stayed).filter(is_outside);
    let left = left.map(|word| format!("{word} with the overlay; said to be moved"));
    let hidden = post.iter().filter(is_outside);
    let hidden = hidden.map(|word| format!("{word} behind the post-renderer"));
    missed.chain(left).chain(hidden).collect()
}

/// What came out of the runs, and how long they took.
struct Measured {
    findings: ImageScan,
    relocation: Relocation,
    helm: f64,
    find: f64,
    own: f64,
    relocate: f64,
}

/// Runs everything [`RUNS`] times. Each multiple is of a render right before, so that it says little
/// of what else the machine does.
fn measured(
    chart: &HelmChart,
    user: &Value,
    target: &RelocationTarget,
    render: &(dyn Fn(Option<&str>) -> Result<String, RenderError> + Sync),
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
    let (_, findings) = timed(found)?;
    let (_, relocation) = timed(moved)?;
    inspect::inspect_chart(chart, user, &recorded, rules).map_err(|error| error.to_string())?;
    let (mut helm, mut find, mut own, mut relocate) = (vec![], vec![], vec![], vec![]);
    for _ in 0..RUNS {
        let (one, _) = timed(|| typed().map_err(|error| error.to_string()))?;
        helm.push(one);
        find.push(timed(found)?.0 / one);
        own.push(
            timed(|| {
                inspect::inspect_chart(chart, user, &recorded, rules).map_err(|e| e.to_string())
            })?
            .0,
        );
        let (one, _) = timed(|| render(None).map_err(|error| error.to_string()))?;
        relocate.push(timed(moved)?.0 / one);
    }
    Ok(Measured {
        findings: findings.findings,
        relocation,
        helm: median(helm),
        find: median(find),
        own: median(own),
        relocate: median(relocate),
    })
}

/// How long something took, in seconds, and what it gave.
fn timed<T>(run: impl FnOnce() -> Result<T, String>) -> Result<(f64, T), String> {
    let start = Instant::now();
    let done = run()?;
    Ok((start.elapsed().as_secs_f64(), done))
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn workspace() -> Result<PathBuf, String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).map(Path::to_path_buf).ok_or_else(|| "no workspace above".to_owned())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder)
        .map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}
