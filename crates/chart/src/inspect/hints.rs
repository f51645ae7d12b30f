//! Images that the author of a chart lists in annotations of Chart.yaml.

use serde_json::Value;
use types::Reference;

use crate::chart::HelmChart;
use crate::find::{
    Confidence, FoundImage, ImageScan, LocationKind, ManifestLocation, PartRole, ReferencePart,
};
use crate::manifest;
use crate::path::DocumentPath;
use crate::reference_shape;

/// Adds the images that annotations of Chart.yaml list (`artifacthub.io/images`, `helm.sh/images`). The lists are often
/// outdated or incomplete, so these are only `Possible`.
pub(super) fn add_chart_hints(chart: &HelmChart, findings: &mut ImageScan) {
    chart.visit_charts(&DocumentPath::default(), &mut |chart, _| {
        for key in ["artifacthub.io/images", "helm.sh/images", "images"] {
            let list = chart.metadata.get("annotations").and_then(|all| all.get(key));
            let Some(list) = list.and_then(Value::as_str) else { continue };
            let Ok(list) = manifest::parse_yaml(list) else { continue };
            for (index, entry) in list.as_array().into_iter().flatten().enumerate() {
                let image = entry.get("image").unwrap_or(entry).as_str();
                let Some((reference, _)) = image.and_then(reference_shape::parse_image) else {
                    continue;
                };
                // The values may name the same image in another registry. What the chart uses is
                // more reliable than what its author listed.
                let is_it = |found: &FoundImage| {
                    found.reference.repository() == reference.repository()
                        && found.reference.digest_or_tag() == reference.digest_or_tag()
                };
                if findings.images.iter().any(is_it) {
                    continue;
                }
                let path =
                    DocumentPath::default().key("annotations").key(key).index(index).key("image");
                let hint = build_chart_hint(chart, reference, path, image.unwrap_or_default());
                findings.images.push(hint);
            }
        }
    });
}

/// The image at a path of Chart.yaml.
fn build_chart_hint(
    chart: &HelmChart,
    reference: Reference,
    path: DocumentPath,
    text: &str,
) -> FoundImage {
    let place = ManifestLocation {
        template: Some(format!("{}/Chart.yaml", chart.name())),
        document: 0,
        kind: "Chart".into(),
        name: chart.name().to_owned(),
        path: path.clone(),
    };
    let part = ReferencePart { path, text: text.to_owned(), role: PartRole::Whole };
    FoundImage::new(reference, vec![part], place, LocationKind::Hint, Confidence::Possible)
}
