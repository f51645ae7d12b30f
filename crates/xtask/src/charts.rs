//! `cargo xtask charts`: runs the real charts through find, move and prove, each with a few
//! realistic values of our own (`crates/xtask/charts/*.yaml`), and writes `docs/charts.md`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use chart::find::{Confidence, Findings};
use chart::relocate::{Options, Target, Verdict, relocate};
use chart::report::Report;
use chart::{Chart, RenderError, Rules, inspect, mirrors, post_render, values};

/// The version of Kubernetes that the charts are rendered for; helm built from Go modules believes
/// in an old one that many charts refuse.
const KUBE_VERSION: &str = "1.33.0";
/// Runs of each measurement; the median is shown.
const RUNS: usize = 5;
/// Sub-charts of the generated umbrella.
const SUB_CHARTS: usize = 100;
/// No file of a chart is longer; what is longer is no chart.
const LONGEST_FILE: u64 = 32 << 20;

/// What was measured of one chart.
struct Row {
    name: String,
    found: [usize; 3],
    places: usize,
    moved: usize,
    stayed: Vec<String>,
    lines: usize,
    verdict: Verdict,
    post_rendered: Verdict,
    helm: f64,
    find: f64,
    relocate: f64,
    renders: usize,
}

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
    archives.push(umbrella(generated.path()).map_err(|error| error.to_string())?);
    let mut rows = Vec::new();
    for archive in archives {
        let row = one(&root, &archive)?;
        println!(
            "{:<24} moved {:>3} of {:<3} {:<10} find {:.1}x move {:.1}x",
            row.name,
            row.moved,
            row.places,
            row.verdict.as_str(),
            row.find / row.helm,
            row.relocate / row.helm
        );
        rows.push(row);
    }
    let document = root.join("docs/charts.md");
    std::fs::create_dir_all(root.join("docs")).map_err(|error| error.to_string())?;
    std::fs::write(&document, table(&rows))
        .map_err(|error| format!("{} cannot be written: {error}", document.display()))?;
    match rows.iter().find(|row| row.verdict == Verdict::Refuted) {
        Some(row) => Err(format!("{} is refuted; see docs/charts.md", row.name)),
        None => Ok(()),
    }
}

fn one(root: &Path, archive: &Path) -> Result<Row, String> {
    let chart = read(archive)?;
    let name = format!("{} {}", chart.name(), chart.version());
    let own = root.join("crates/xtask/charts").join(format!("{}.yaml", chart.name()));
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let user = match std::fs::read_to_string(&own) {
        Ok(text) => values::read(&own.display().to_string(), &text).map_err(|e| e.to_string())?,
        Err(_) => values::read("no values", "").map_err(|error| error.to_string())?,
    };
    let render = |overlay: Option<&str>| helm(archive, &own, scratch.path(), overlay);
    let target = Target {
        prefix: "registry.internal:5000/ai".parse().map_err(|e: types::Error| e.to_string())?,
        naming: types::naming::Naming::Path,
        pull_secret: None,
    };
    let stream = render(None).map_err(|error| format!("{name}: {error}"))?;
    let helm_seconds = median(|| render(None).is_ok());
    let rules = Rules::builtin();
    let mut findings = Findings::default();
    let mut failure = None;
    let find = median(|| match inspect::chart(&chart, &user, &render, rules) {
        Ok(found) => findings = found.findings,
        Err(error) => failure = Some(error.to_string()),
    });
    let mut relocation = None;
    let move_seconds =
        median(|| match relocate(&chart, &user, &target, &Options::default(), &render) {
            Ok(found) => relocation = Some(found),
            Err(error) => failure = Some(error.to_string()),
        });
    let relocation = match (failure, relocation) {
        (None, Some(relocation)) => relocation,
        (failure, _) => return Err(format!("{name}: {}", failure.unwrap_or_default())),
    };
    let report = Report::new(&chart, &target, mirrors::Scheme::Https, &relocation)
        .map_err(|error| error.to_string())?;
    let post = post_render::post_render(&stream, &target).map_err(|error| error.to_string())?;
    let count = |sure| findings.references(sure).len();
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
        helm: helm_seconds,
        find,
        relocate: move_seconds,
        renders: relocation.renders,
    })
}

/// The median of some runs, in seconds.
fn median<T>(mut run: impl FnMut() -> T) -> f64 {
    let mut all: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all[RUNS / 2]
}

fn helm(
    archive: &Path,
    own: &Path,
    scratch: &Path,
    overlay: Option<&str>,
) -> Result<String, RenderError> {
    let failed = |message: String| RenderError { message };
    let mut command = Command::new(helm_binary());
    command.arg("template").arg("rel").arg(archive).args(["--kube-version", KUBE_VERSION]);
    if own.exists() {
        command.arg("-f").arg(own);
    }
    let file;
    if let Some(overlay) = overlay {
        file = tempfile::NamedTempFile::new_in(scratch).map_err(|e| failed(e.to_string()))?;
        std::fs::write(file.path(), overlay).map_err(|error| failed(error.to_string()))?;
        command.arg("-f").arg(file.path());
    }
    let output = command
        .output()
        .map_err(|error| failed(format!("helm cannot be run ({error}); run dev/setup")))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    String::from_utf8(output.stdout).map_err(|error| failed(error.to_string()))
}

/// The helm of dev/setup, else the one on the path.
fn helm_binary() -> PathBuf {
    let home = std::env::var("HOME").unwrap_or_default();
    let own = Path::new(&home).join(".cache/gantry-dev/bin/helm");
    if own.exists() { own } else { PathBuf::from("helm") }
}

/// A generated chart of many sub-charts, every third of which knows the global registry.
fn umbrella(folder: &Path) -> std::io::Result<PathBuf> {
    let chart = folder.join("umbrella");
    std::fs::create_dir_all(&chart)?;
    std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: umbrella\nversion: 1.0.0\n")?;
    std::fs::write(chart.join("values.yaml"), "global: {imageRegistry: ''}\n")?;
    for number in 0..SUB_CHARTS {
        let own = chart.join(format!("charts/sub{number}"));
        std::fs::create_dir_all(own.join("templates"))?;
        let head = format!("apiVersion: v2\nname: sub{number}\nversion: 1.0.0\n");
        std::fs::write(own.join("Chart.yaml"), head)?;
        let values =
            format!("image: {{registry: quay.io, repository: org/app{number}, tag: '1'}}\n");
        std::fs::write(own.join("values.yaml"), values)?;
        let registry = match number % 3 {
            0 => "{{ .Values.global.imageRegistry | default .Values.image.registry }}",
            _ => "{{ .Values.image.registry }}",
        };
        let template = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: sub{number}}}\nspec: {{template: \
             {{spec: {{containers: [{{name: c, image: \"{registry}/{{{{ .Values.image.repository }}}}:{{{{ \
             .Values.image.tag }}}}\"}}]}}}}}}\n"
        );
        std::fs::write(own.join("templates/deployment.yaml"), template)?;
    }
    Ok(chart)
}

fn read(archive: &Path) -> Result<Chart, String> {
    if archive.is_dir() {
        let mut files = Vec::new();
        folder_files(archive, archive, &mut files).map_err(|error| error.to_string())?;
        return Chart::read(files).map_err(|error| format!("{}: {error}", archive.display()));
    }
    let named = |error: std::io::Error| format!("{}: {error}", archive.display());
    let mut tar =
        tar::Archive::new(flate2::read::GzDecoder::new(File::open(archive).map_err(named)?));
    let mut files = Vec::new();
    for entry in tar.entries().map_err(named)? {
        let entry = entry.map_err(named)?;
        let path = entry.path().map_err(named)?.display().to_string();
        let mut bytes = Vec::new();
        entry.take(LONGEST_FILE).read_to_end(&mut bytes).map_err(named)?;
        files.push((path, bytes));
    }
    Chart::read(files).map_err(|error| format!("{}: {error}", archive.display()))
}

fn folder_files(
    root: &Path,
    folder: &Path,
    files: &mut Vec<(String, Vec<u8>)>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            folder_files(root, &path, files)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            files.push((name.display().to_string(), std::fs::read(&path)?));
        }
    }
    Ok(())
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

fn table(rows: &[Row]) -> String {
    let mut text = "# Real charts\n\nWritten by `cargo xtask charts` (release build) from the charts \
        of `GANTRY_CHARTS`, each with the values in `crates/xtask/charts/`. Images are counted once, \
        by their surest find; places are everywhere that a render names an image. Times are medians \
        of five runs, as multiples of one `helm template` of the same chart; on a machine that is busy \
        with other work the renders side by side have no second core, so read them with the column \
        of renders.\n\n\
        | chart | certain | likely | possible | places | moved by overlay | values set | overlay | \
        post-renderer | helm, s | find | move and prove | renders |\n\
        |---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        let [certain, likely, possible] = row.found;
        let _ = writeln!(
            text,
            "| {} | {certain} | {likely} | {possible} | {} | {} | {} | {} | {} | {:.2} | {:.1} × | {:.1} × | {} |",
            row.name,
            row.places,
            row.moved,
            row.lines,
            row.verdict.as_str(),
            row.post_rendered.as_str(),
            row.helm,
            row.find / row.helm,
            row.relocate / row.helm,
            row.renders,
        );
    }
    let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
    let _ = writeln!(
        text,
        "\nTogether {} places, {} moved by overlay alone with {} values.\n\n## Leftovers\n",
        sum(|row| row.places),
        sum(|row| row.moved),
        sum(|row| row.lines)
    );
    for row in rows.iter().filter(|row| !row.stayed.is_empty()) {
        let _ = writeln!(text, "{}:\n", row.name);
        for stayed in &row.stayed {
            let _ = writeln!(text, "- {stayed}");
        }
        text.push('\n');
    }
    text
}
