//! Measures the charts, one after the other.

use std::path::{Path, PathBuf};

use chart::HelmChart;

use super::examine::examine_chart;
use super::ground::{ChartUnderTest, MeasuredChartKind, read_user_values};
use super::row::Row;
use super::scan::Scan;
use super::{generated, ground, table};

/// Charts that are also measured as the parts of one: their pull secrets have side effects of two
/// kinds.
const UMBRELLA: &[&str] = &["jupyterhub", "trino"];
/// Charts with most of the mechanisms, as the parts of one. Not all charts fit together: named
/// templates are shared, and several have one of the same name.
const LARGE_UMBRELLA: &[&str] = &[
    "argo-workflows",
    "gpu-operator",
    "jupyterhub",
    "keycloakx",
    "kube-prometheus-stack",
    "mlflow",
    "qdrant",
    "superset",
    "trino",
];

/// Its name.
const LARGE_UMBRELLA_NAME: &str = "umbrella-of-many";

/// Measures all charts of the folders in `GANTRY_CHARTS` (with colons between them; default
/// `../shared/charts` and `../shared/cases/charts`), and generated ones. With `names`, only those whose
/// file names begin so, and without the document. The largest umbrella takes many minutes, since each of
/// its thousands of values is tried by hand: it is measured only by name.
pub(crate) fn measure(names: &[String]) -> Result<(), String> {
    let root = workspace()?;
    let generated = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut charts = list_charts(&root)?;
    charts.extend(generate_charts(&root, generated.path(), &charts)?);
    charts.retain(|chart| {
        let file = chart.path.file_name().unwrap_or_default().to_string_lossy();
        match names {
            [] => file != LARGE_UMBRELLA_NAME,
            names => names.iter().any(|name| file.starts_with(name.as_str())),
        }
    });
    let scan = Scan::new()?;
    let before = load();
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for chart in &charts {
        match examine_chart(chart, &scan) {
            Ok(row) => {
                print_row(&row);
                rows.push(row);
            }
            Err(error) => {
                println!("{}: FAILED: {error}", chart.path.display());
                failed.push(chart.path.display().to_string());
            }
        }
    }
    let load = format!("{before} before, {} after", load());
    println!("{} Load average: {load}.", table::limits(&rows));
    if names.is_empty() {
        let document = root.join("docs/explanation/charts.md");
        std::fs::write(&document, table::document(&rows, &load))
            .map_err(|error| format!("{} cannot be written: {error}", document.display()))?;
    }
    let mut wrong = failed;
    wrong.extend(rows.iter().filter(|row| !row.faults().is_empty()).map(|row| row.name.clone()));
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("not as Gantry says (see above): {}", wrong.join(", ")))
    }
}

fn print_row(row: &Row) {
    println!(
        "{:<24} moved {:>3} of {:<3} {:<10} find {:.1}x cpu {:.1}x ({:.0} ms own) move {:.1}x cpu {:.1}x, {} renders, \
         reasons {} of {}, secret {} of {}",
        row.name,
        row.moved,
        row.places,
        row.verdict.as_str(),
        row.find.clock,
        row.find.cpu,
        row.own * 1e3,
        row.relocate.clock,
        row.relocate.cpu,
        row.renders,
        row.reasons.checked - row.reasons.refuted.len(),
        row.reasons.checked,
        row.secrets.with,
        row.secrets.pods,
    );
    println!("{:<24} {}", "", row.summary);
    for stayed in &row.stayed {
        println!("{:<24} left: {stayed}", "");
    }
    for fault in row.faults() {
        println!("{:<24} FAULT: {fault}", "");
    }
}

/// The load averages of the machine over 1, 5 and 15 minutes.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let numbers: Vec<&str> = text.split_whitespace().take(3).collect();
    if numbers.is_empty() { "unknown".to_owned() } else { numbers.join(" ") }
}

fn workspace() -> Result<PathBuf, String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).map(Path::to_path_buf).ok_or_else(|| "no workspace above".to_owned())
}

/// The charts of the folders, archives first.
fn list_charts(root: &Path) -> Result<Vec<ChartUnderTest>, String> {
    let folders: Vec<PathBuf> = match std::env::var_os("GANTRY_CHARTS") {
        Some(folders) => std::env::split_paths(&folders).collect(),
        None => ["../shared/charts", "../shared/cases/charts"].map(|f| root.join(f)).to_vec(),
    };
    let mut charts = Vec::new();
    for folder in &folders {
        let entries = std::fs::read_dir(folder)
            .map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let origin = if path.extension().is_some_and(|extension| extension == "tgz") {
                MeasuredChartKind::Archive
            } else if path.join("Chart.yaml").is_file() {
                MeasuredChartKind::Folder
            } else {
                continue;
            };
            // A small chart has a name that a real one may have too.
            let values = match origin {
                MeasuredChartKind::Archive => values_file(root, ground::read_chart(&path)?.name()),
                MeasuredChartKind::Folder | MeasuredChartKind::Generated => PathBuf::new(),
            };
            charts.push(ChartUnderTest { origin, path, values });
        }
    }
    if charts.is_empty() {
        let folders: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
        let folders = folders.join(" and ");
        return Err(format!("no charts in {folders}; set GANTRY_CHARTS to folders of charts"));
    }
    Ok(charts)
}

/// Values of our own for a chart.
fn values_file(root: &Path, chart: &str) -> PathBuf {
    root.join("crates/xtask/charts").join(format!("{chart}.yaml"))
}

/// The charts that are made for the measurement: those whose parts are all there.
fn generate_charts(
    root: &Path,
    folder: &Path,
    charts: &[ChartUnderTest],
) -> Result<Vec<ChartUnderTest>, String> {
    let failed = |error: std::io::Error| format!("a chart cannot be generated: {error}");
    let mut paths = vec![
        generated::write_many_sub_charts(folder).map_err(failed)?,
        generated::write_large_definitions(folder).map_err(failed)?,
    ];
    let archives = charts.iter().filter(|chart| chart.origin == MeasuredChartKind::Archive);
    let read: Vec<(HelmChart, &Path)> = archives
        .map(|chart| Ok((ground::read_chart(&chart.path)?, chart.path.as_path())))
        .collect::<Result<_, String>>()?;
    for (name, parts) in [("umbrella-of-two", UMBRELLA), (LARGE_UMBRELLA_NAME, LARGE_UMBRELLA)] {
        let mut found = Vec::new();
        for (chart, path) in read.iter().filter(|(chart, _)| parts.contains(&chart.name())) {
            found.push((
                chart.name().to_owned(),
                *path,
                read_user_values(&values_file(root, chart.name()))?,
            ));
        }
        if found.len() == parts.len() {
            paths.push(generated::write_umbrella(folder, name, &found).map_err(failed)?);
        }
    }
    let new = |path| ChartUnderTest {
        origin: MeasuredChartKind::Generated,
        path,
        values: PathBuf::new(),
    };
    Ok(paths.into_iter().map(new).collect())
}
