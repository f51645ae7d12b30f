//! A copy of a chart without what helm reads and a render with other values does not need: the files of
//! `crds/`, which are the same in all renders, and the schemas of the values. helm spends up to four
//! fifths of its time on these (`kube-prometheus-stack` has 10 MB of definitions, `loki` a schema that
//! takes as long as the templates).

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::read_chart_files;
use crate::{Error, Result};

/// The folder of definitions in a chart, and in each of its dependencies.
const DEFINITIONS: &str = "crds";
/// The schema of the values of a chart.
const SCHEMA: &str = "values.schema.json";
/// Names files of a chart's folder that helm is not to read. An archive has only those that it reads.
const IGNORED: &str = ".helmignore";

/// Writes a lean copy of a chart's archive or folder below `folder`, and returns its path. It is for
/// finding out where values come out, not for what is installed: it renders with values that the chart's
/// schema refuses. `None` when the chart's templates read one of the files that it lacks, or when a name
/// in the archive is none that can be written.
///
/// # Errors
/// The chart cannot be read, or the folder not be written.
pub fn write_lean_chart(chart: &Path, folder: &Path) -> Result<Option<PathBuf>> {
    let files = read_chart_files(chart)?;
    let reads_left_out = |(path, bytes): &(String, Vec<u8>)| {
        let text = String::from_utf8_lossy(bytes);
        path.contains("/templates/")
            && text.contains(".Files")
            && (text.contains(DEFINITIONS) || text.contains(SCHEMA))
    };
    let is_plain =
        |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if files.iter().any(reads_left_out) || !files.iter().all(|(path, _)| is_plain(path)) {
        return Ok(None);
    }
    let Some(name) = files.first().and_then(|(path, _)| path.split('/').next()) else {
        return Ok(None);
    };
    for (path, bytes) in files.iter().filter(|(path, _)| !is_left_out(path)) {
        let target = folder.join(path);
        let unwritten = |cause| Error::Write { what: target.display().to_string(), cause };
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(unwritten)?;
        }
        fs::write(&target, bytes).map_err(unwritten)?;
    }
    Ok(Some(folder.join(name)))
}

/// Whether a lean copy lacks a file. `path` begins with the chart's folder.
fn is_left_out(path: &str) -> bool {
    // What is behind the last chart: `app/charts/db/crds/x.yaml` → `crds/x.yaml`.
    let mut own = path.split_once('/').map_or("", |(_, own)| own);
    while let Some((_, own_of_dependency)) =
        own.strip_prefix("charts/").and_then(|rest| rest.split_once('/'))
    {
        own = own_of_dependency;
    }
    own == SCHEMA || own == IGNORED || own.split('/').next() == Some(DEFINITIONS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write_chart(home: &Path, template: &str) -> PathBuf {
        let chart = home.join("app");
        for (path, text) in [
            ("Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n"),
            ("values.schema.json", "{}"),
            ("crds/app.yaml", "kind: CustomResourceDefinition\n"),
            ("templates/app.yaml", template),
            ("templates/crds/own.yaml", "kind: ConfigMap\n"),
            ("charts/db/Chart.yaml", "apiVersion: v2\nname: db\nversion: 1.0.0\n"),
            ("charts/db/crds/db.yaml", "kind: CustomResourceDefinition\n"),
            ("charts/db/values.schema.json", "{}"),
            ("charts/db/templates/db.yaml", "kind: Service\n"),
        ] {
            let path = chart.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        chart
    }

    #[test]
    fn definitions_and_schemas_are_left_out_of_a_chart_and_its_dependencies() {
        let (home, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let chart = write_chart(home.path(), "kind: Deployment\n");
        let lean = write_lean_chart(&chart, target.path()).unwrap().unwrap();
        for there in ["Chart.yaml", "templates/crds/own.yaml", "charts/db/templates/db.yaml"] {
            assert!(lean.join(there).is_file(), "{there}");
        }
        for absent in
            ["values.schema.json", "crds", "charts/db/crds", "charts/db/values.schema.json"]
        {
            assert!(!lean.join(absent).exists(), "{absent}");
        }
    }

    #[test]
    fn a_chart_that_reads_its_definitions_itself_has_no_lean_copy() {
        let (home, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let chart = write_chart(home.path(), "{{ .Files.Glob \"crds/*.yaml\" }}\n");
        assert_eq!(write_lean_chart(&chart, target.path()).unwrap(), None);
    }
}
