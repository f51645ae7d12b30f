//! The small charts of the cluster tests (`charts/` beside `src/`): each is a pattern of a real
//! platform, its images under foreign names, its pods within pod security `restricted`. The real
//! charts of others are found by [`tools::chart_archive`].

use std::fs;
use std::path::{Path, PathBuf};

use crate::{folder_files, tools};

/// Their names. `umbrella` has all but the last two as sub-charts.
pub const NAMES: [&str; 8] =
    ["cache", "llm", "ollama", "sie-like", "two-model-servers", "umbrella", "phones-home", "quiet"];

/// The archive `NAME-1.0.0.tgz` of a chart, made in this folder; sub-charts are in it.
///
/// # Panics
/// When there is no such chart.
pub fn package_chart(name: &str, folder: &Path) -> PathBuf {
    assert!(NAMES.contains(&name), "there is no chart {name}, only {}", NAMES.join(", "));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts");
    // A copy: helm writes sub-charts and a lock beside what it packages.
    let copy = tempfile::tempdir().expect("a temporary folder can be made");
    for path in folder_files::list_files(&source) {
        let to = copy.path().join(&path);
        fs::create_dir_all(to.parent().expect("a file has a folder")).expect("a chart is copied");
        fs::copy(source.join(&path), to).expect("a chart is copied");
    }
    let mut helm = tools::tool_command("helm");
    helm.args(["package", "--dependency-update", "--destination"]).arg(folder);
    tools::run_command(helm.arg(copy.path().join(name)));
    folder.join(format!("{name}-1.0.0.tgz"))
}
