//! Charts that are made for the measurement: an umbrella of many small sub-charts, umbrellas of real
//! charts, and a chart with large custom resource definitions.

use std::fmt::Write as _;
use std::io::Result;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// Sub-charts of the generated umbrella.
const SUB_CHARTS: usize = 100;
/// Custom resource definitions of the generated chart, and the fields of each: together 10 MB.
const DEFINITIONS: usize = 20;
const FIELDS: usize = 1500;

/// A chart of many sub-charts, every third of which knows the global registry.
pub(super) fn write_many_sub_charts(folder: &Path) -> Result<PathBuf> {
    let chart = folder.join("umbrella");
    write_chart_file(&chart, "umbrella", &json!({"global": {"imageRegistry": ""}}))?;
    for number in 0..SUB_CHARTS {
        let own = chart.join(format!("charts/sub{number}"));
        let image =
            json!({"registry": "quay.io", "repository": format!("org/app{number}"), "tag": "1"});
        write_chart_file(&own, &format!("sub{number}"), &json!({"image": image}))?;
        let registry = match number % 3 {
            0 => "{{ .Values.global.imageRegistry | default .Values.image.registry }}",
            _ => "{{ .Values.image.registry }}",
        };
        let image =
            format!("{registry}/{{{{ .Values.image.repository }}}}:{{{{ .Values.image.tag }}}}");
        write_deployment(&own, &format!("sub{number}"), &image)?;
    }
    Ok(chart)
}

/// An umbrella of real charts: each archive with its values under its name, and the global values
/// that several of them share.
pub(super) fn write_umbrella(
    folder: &Path,
    name: &str,
    parts: &[(String, &Path, Value)],
) -> Result<PathBuf> {
    let chart = folder.join(name);
    let mut values = Map::new();
    values.insert("global".into(), json!({"image": {"pullSecrets": []}}));
    for (part, _, own) in parts {
        values.insert(part.clone(), own.clone());
    }
    write_chart_file(&chart, name, &Value::Object(values))?;
    std::fs::create_dir_all(chart.join("charts"))?;
    for (part, archive, _) in parts {
        std::fs::copy(archive, chart.join(format!("charts/{part}.tgz")))?;
    }
    Ok(chart)
}

/// A chart with 10 MB of custom resource definitions in `crds/`, as operators have them: deep
/// schemas with long descriptions, and the fields of containers.
pub(super) fn write_large_definitions(folder: &Path) -> Result<PathBuf> {
    let chart = folder.join("definitions");
    let image = json!({"repository": "quay.io/org/operator", "tag": "1"});
    write_chart_file(&chart, "definitions", &json!({"image": image}))?;
    let image = "{{ .Values.image.repository }}:{{ .Values.image.tag }}";
    write_deployment(&chart, "operator", image)?;
    std::fs::create_dir_all(chart.join("crds"))?;
    for number in 0..DEFINITIONS {
        let mut text = format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: \
             apps{number}.example.org\nspec:\n  group: example.org\n  names: {{kind: App{number}, plural: \
             apps{number}}}\n  scope: Namespaced\n  versions:\n  - name: v1\n    served: true\n    storage: \
             true\n    schema:\n      openAPIV3Schema:\n        type: object\n        properties:\n          \
             spec:\n            type: object\n            properties:\n"
        );
        for field in 0..FIELDS {
            let _ = write!(
                text,
                "              container{field}:\n                description: |-\n                  A container \
                 that runs beside the application. Its image is pulled as the policy says.\n                  More \
                 info: https://kubernetes.io/docs/concepts/containers/images\n                properties:\n                  \
                 image:\n                    type: string\n                  imagePullPolicy:\n                    \
                 default: IfNotPresent\n                    type: string\n                type: object\n"
            );
        }
        std::fs::write(chart.join(format!("crds/apps{number}.yaml")), text)?;
    }
    Ok(chart)
}

fn write_chart_file(chart: &Path, name: &str, values: &Value) -> Result<()> {
    std::fs::create_dir_all(chart)?;
    let head = format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n");
    std::fs::write(chart.join("Chart.yaml"), head)?;
    // YAML of version 1.2 includes JSON.
    std::fs::write(chart.join("values.yaml"), values.to_string())
}

fn write_deployment(chart: &Path, name: &str, image: &str) -> Result<()> {
    std::fs::create_dir_all(chart.join("templates"))?;
    let template = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec: {{template: {{spec: \
         {{containers: [{{name: c, image: \"{image}\"}}]}}}}}}\n"
    );
    std::fs::write(chart.join("templates/deployment.yaml"), template)
}
