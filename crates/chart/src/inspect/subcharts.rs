//! Subcharts that are switched off.

use std::collections::BTreeSet;

use crate::chart::HelmChart;
use crate::manifest::Manifests;
use crate::path::{DocumentPath, PathStep};

/// Finds the subcharts of which nothing was rendered and returns the paths of their values. Helm
/// names templates by the key of the subchart: `top/charts/KEY/templates/x.yaml`.
pub(crate) fn find_silent_subcharts(chart: &HelmChart, manifests: &Manifests) -> Vec<DocumentPath> {
    let templates: BTreeSet<&str> =
        manifests.documents.iter().filter_map(|d| d.template.as_deref()).collect();
    let mut silent = Vec::new();
    chart.visit_charts(&DocumentPath::default(), &mut |_, scope| {
        let mut folder = format!("{}/", chart.name());
        for step in scope.steps() {
            if let PathStep::Key(key) = step {
                folder = format!("{folder}charts/{key}/");
            }
        }
        if !templates.iter().any(|template| template.starts_with(&folder)) {
            silent.push(scope.clone());
        }
    });
    silent
}
