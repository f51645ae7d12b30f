//! The commented `gantry.yaml` that `gantry init` writes.

use std::fmt::Write;

use types::Result;
use types::input::{ChartSource, Input};

/// A chart to write into the new `gantry.yaml`.
#[derive(Debug, Clone)]
pub struct InitChart {
    /// Where the chart comes from.
    pub source: ChartSource,
    /// Its version, if one was given.
    pub version: Option<String>,
    /// Its values files, if any were given.
    pub values: Vec<String>,
}

/// The text of a new `gantry.yaml` for the given charts. It is a valid input.
pub fn render_input(name: &str, charts: &[InitChart]) -> Result<String> {
    let mut text = format!(
        "\
# What is carried into the air-gapped site. `gantry lock` resolves it to digests in gantry.lock;
# review and commit both files.
version: 1
name: {name}

# The platforms that are carried. An image index is not changed, so its digest and its signatures
# stay valid; only the content of the other platforms is left out.
platforms: [linux/amd64]

"
    );
    text.push_str("# Helm charts: rendered with your values to find their images, hooks and tests included.\n");
    text.push_str(if charts.is_empty() { "charts: []\n" } else { "charts:\n" });
    for chart in charts {
        // Writing to a string does not fail.
        let _ = write!(text, "{}", render_chart_entry(chart));
    }
    text.push_str(
        "
# Images beyond those of the charts: by tag or digest, or built locally and never pushed.
images: []
# images:
#   - docker.io/library/busybox:1.36
#   - {image: \"registry.example/own:1\", platforms: [linux/amd64, linux/arm64]}
#   - {image: \"own:1\", archive: own.tar}          # `docker save` or an OCI archive
#   - {archive: vendor.tar.gz}                      # all images in it; `images: [vendor/*]` chooses
#   - {image: \"own:1\", layout: ./own-layout}      # an OCI layout
#   - {image: \"own:1\", docker: /var/run/docker.sock}

# Models. Every file is verified by its sha256 and carried once.
models: []
# models:
#   - hf: BAAI/bge-m3                 # the Hugging Face Hub; revision: main
#     exclude: [\"*.onnx\", \"onnx/*\"]
#   - hf: org/own-model
#     folder: ./own-model             # or cache: ~/.cache/huggingface
#   - ollama: qwen2.5:3b              # folder: ~/.ollama/models
#   - url: https://models.example/llama.gguf
#   - image: registry.example/model-server:1
#     path: /app/.cache/huggingface   # models inside an image's file system

# Other files to carry.
files: []
# files: [./docs/runbook.pdf]

# Gantry's own image, for the pods that it runs inside the cluster.
tools: []
# tools: [gantry]
# tools:
#   - gantry: [gantry-linux-amd64, gantry-linux-arm64]   # default: the running gantry, if it is statically linked
",
    );
    Input::parse("the new gantry.yaml", &text)?;
    Ok(text)
}

/// The lines of one chart, with comments for the fields that it does not set.
fn render_chart_entry(chart: &InitChart) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = match &chart.source {
        ChartSource::Oci { repository } => {
            format!("  - chart: {}\n", quoted(&format!("oci://{repository}")))
        }
        ChartSource::Repository { url, name } => {
            format!("  - chart: {}\n    name: {}\n", quoted(url.expose_secrets()), quoted(name))
        }
        ChartSource::Local(path) => format!("  - chart: {}\n", quoted(&path.display().to_string())),
    };
    if !matches!(chart.source, ChartSource::Local(_)) {
        match &chart.version {
            Some(version) => text.push_str(&format!("    version: {}\n", quoted(version))),
            None => text.push_str(
                "    # version: 1.2.3          # default: the newest; gantry.lock pins it\n",
            ),
        }
    }
    if chart.values.is_empty() {
        text.push_str("    # values: [values.yaml]   # give your values, or images that they enable are missed\n");
    } else {
        let values: Vec<_> = chart.values.iter().map(|path| quoted(path)).collect();
        text.push_str(&format!("    values: [{}]\n", values.join(", ")));
    }
    text.push_str(
        "    # release: app
    # namespace: app
    # kubeVersion: \"1.33\"
    # variants: [[values-gpu.yaml]]   # further renders; the images of all are carried
    # include: possible               # images that an operator may pull, or of features that are off
",
    );
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_new_file_reads_back_with_its_charts() {
        let charts = [
            InitChart {
                source: ChartSource::parse("oci://ghcr.io/org/charts/app", None).unwrap(),
                version: Some("1.2.3".into()),
                values: vec!["values.yaml".into()],
            },
            InitChart {
                source: ChartSource::parse("./umbrella", None).unwrap(),
                version: None,
                values: vec![],
            },
        ];
        let text = render_input("site", &charts).unwrap();
        let input = Input::parse("gantry.yaml", &text).unwrap();
        assert_eq!(input.charts.len(), 2);
        assert_eq!(input.charts[0].version.as_deref(), Some("1.2.3"));
        assert!(render_input("site", &[]).is_ok());
    }

    #[test]
    fn names_with_special_characters_read_back_as_they_were() {
        let source = ChartSource::parse("https://charts.example/stable", Some("a: b # c")).unwrap();
        let values = vec!["my values.yaml".to_owned(), "a\"b,c].yaml".to_owned()];
        let chart = InitChart { source: source.clone(), version: Some(">=1.0 <2".into()), values };
        let input = Input::parse("gantry.yaml", &render_input("site", &[chart]).unwrap()).unwrap();
        let read = &input.charts[0];
        assert_eq!(read.source, source);
        assert_eq!(read.version.as_deref(), Some(">=1.0 <2"));
        let values: Vec<_> = read.values.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(values, ["my values.yaml", "a\"b,c].yaml"]);
    }

    #[test]
    fn a_local_chart_has_no_version_to_choose() {
        let source = ChartSource::parse("./umbrella", None).unwrap();
        let chart = InitChart { source, version: Some("1.0.0".into()), values: vec![] };
        assert!(!render_chart_entry(&chart).contains("version:"));
    }
}
