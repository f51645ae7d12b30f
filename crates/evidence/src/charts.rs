//! Gathers evidence about charts: the licences that they declare in the annotations of
//! `Chart.yaml`, and their licence files.

use serde_json::Value;
use types::Manifest;
use types::json::{MAX_JSON_NODES, parse_json};
use types::lock;
use types::media_type::HELM_CONTENT;

use crate::Result;
use crate::gatherer::Gatherer;
use crate::images::truncate_text;
use crate::index::{ChartEvidence, Severity};
use crate::models::is_licence_file;
use crate::part::EvidencePartKind;

/// Gathers what is known about a chart of a lock.
pub(crate) fn gather_chart(
    gathering: &mut Gatherer<'_>,
    locked: &lock::LockedChart,
) -> Result<ChartEvidence> {
    let name = locked.reference.to_string();
    let mut chart = ChartEvidence {
        reference: name.clone(),
        digest: locked.manifest.digest,
        licences: vec![],
        texts: vec![],
    };
    if let Some(config) = locked.manifest.config
        && let Some(bytes) = gathering.read_blob(&config.digest, &name)?
        && let Ok(metadata) =
            parse_json::<Value>(&name, "a chart's metadata", &bytes, MAX_JSON_NODES)
    {
        // `artifacthub.io/license` is Artifact Hub's annotation, `licenses` is Bitnami's.
        let said = ["artifacthub.io/license", "licenses", "license"];
        let said = said.iter().filter_map(|key| metadata["annotations"][*key].as_str());
        chart.licences = said.map(truncate_text).collect();
    }
    let Some(bytes) = gathering.read_blob(&locked.manifest.digest, &name)? else {
        return Ok(chart);
    };
    let manifest = Manifest::parse(&name, &bytes)?;
    for layer in manifest.layers.iter().filter(|layer| layer.media_type == HELM_CONTENT) {
        let Some(bytes) = gathering.read_blob(&layer.digest, &name)? else { continue };
        let files = match remote::helm::read_archive_files(&name, &bytes) {
            Ok(files) => files,
            Err(cause) => {
                let why = format!("the archive of the chart cannot be read: {cause}");
                gathering.add_finding(Severity::Medium, &name, &why, "inspect the chart");
                continue;
            }
        };
        for (path, bytes) in files {
            // The chart's own file, `<chart>/LICENSE`; those of sub-charts are deeper.
            let is_own = path.matches('/').count() == 1;
            if is_own && is_licence_file(&path) {
                let file = path.replace('/', "-");
                let path = gathering.parts.add(
                    "licences",
                    &file,
                    EvidencePartKind::Licence,
                    &name,
                    bytes,
                )?;
                chart.texts.push(path);
            }
        }
    }
    if gathering.source.is_some() && chart.licences.is_empty() && chart.texts.is_empty() {
        gathering.add_finding(Severity::Low, &name, "it declares no licence", "ask its author");
    }
    Ok(chart)
}
