//! Images that a chart names in its values and does not render, with the values that would enable
//! them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::support;
use std::path::Path;

use gantry_chart::find::{Confidence, FoundImage, LocationKind};
use gantry_chart::{HelmChart, OperatorRules, inspect, values};

const VALUES: &str = "
image: {repository: org/app, tag: ''}
exporter: {enabled: false, image: {registry: quay.io, repository: org/exporter, tag: '2'}}
source: {type: none}
gitImage: {repository: org/git, tag: '3'}
job: {create: false, image: {registry: registry.k8s.io, repository: kubectl, tag: ''}}
pools: []
poolImage: org/pool:4
dead: {image: {repository: org/dead, tag: '5'}}
notes: {image: {repository: org/notes, tag: '6'}}
store: {enabled: false}
worker: {enabled: false, image: {repository: org/worker, tag: null}}
";

const DEPLOYMENT: &str = r#"
kind: Deployment
spec:
  template:
    spec:
      initContainers:
      {{- if eq .Values.source.type "git" }}
      - {{- include "top.git" . | nindent 8 }}
      {{- end }}
      containers:
      - image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "v%s" .Chart.AppVersion) }}"
      {{- if .Values.exporter.enabled }}
      - {{- with .Values.exporter.image }}
        image: "{{ .registry }}/{{ .repository }}:{{ .tag }}"
        {{- end }}
      {{- end }}
      {{- range $pool := .Values.pools }}
      {{- if $pool.big }}
      - image: {{ $.Values.poolImage }}
      {{- end }}
      {{- end }}
      {{- if and .Values.worker.enabled (not .Values.source.type) }}
      - image: "{{ .Values.worker.image.repository }}:{{ .Values.worker.image.tag | default (printf "v%s" .Chart.AppVersion) }}"
      {{- end }}
---
{{- if .Values.job.create }}
kind: Job
spec: {template: {spec: {containers: [{image: "{{ include "top.kubectl" (dict "of" .Values.job.image "version" .Capabilities.KubeVersion.Version) }}"}]}}}
{{- end }}
"#;

const HELPERS: &str = r#"
{{- define "top.git" }}
image: "{{ .Values.gitImage.repository }}:{{ .Values.gitImage.tag }}"
{{- end }}
{{- define "top.kubectl" }}{{ .of.registry }}/{{ .of.repository }}:{{ .version }}{{ end }}
"#;

/// A chart with a subchart that is disabled.
fn chart(folder: &Path) -> HelmChart {
    let files = [
        (
            "Chart.yaml",
            "apiVersion: v2\nname: top\nversion: 1.0.0\nappVersion: 7.1.0\ndependencies:\n- {name: store, \
             version: 1.0.0, condition: store.enabled}\nannotations:\n  images: |\n    - {name: other, image: \
             mirror.example/org/git:3}\n    - {name: tool, image: quay.io/org/tool:9}\n",
        ),
        ("values.yaml", VALUES),
        ("templates/deployment.yaml", DEPLOYMENT),
        ("templates/_helpers.tpl", HELPERS),
        ("templates/NOTES.txt", "Try {{ .Values.notes.image.repository }}\n"),
        ("charts/store/Chart.yaml", "apiVersion: v2\nname: store\nversion: 1.0.0\n"),
        ("charts/store/values.yaml", "image: {repository: org/store, tag: '8'}\nsize: 0\n"),
        (
            "charts/store/templates/pod.yaml",
            "{{ if .Values.size }}{kind: Pod, spec: {containers: [{image: '{{ .Values.image.repository }}:{{ \
             .Values.image.tag }}'}]}}{{ end }}\n",
        ),
    ];
    for (path, text) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    HelmChart::read(files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))).unwrap()
}

fn inspected() -> Vec<FoundImage> {
    let folder = tempfile::tempdir().unwrap();
    let chart = chart(folder.path());
    let render = |overlay: Option<&str>| support::helm(folder.path(), Path::new("none"), overlay);
    let user = values::read_values("none", "").unwrap();
    inspect::inspect_chart(&chart, &user, &render, OperatorRules::builtin())
        .unwrap()
        .findings
        .images
}

#[test]
fn a_value_that_is_not_rendered_is_told_with_what_keeps_it_from_being_rendered() {
    let found = inspected();
    let told: Vec<String> = found
        .iter()
        .filter(|found| found.pattern == LocationKind::Value)
        .map(|found| format!("{} {}", found.reference, found.note.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(
        told,
        [
            "quay.io/org/exporter:2 not rendered while exporter.enabled is off",
            "docker.io/org/git:3 not rendered while source.type is not git",
            "registry.k8s.io/kubectl:latest not rendered while job.create is off; its template chooses the tag by \
             the version of Kubernetes",
            "docker.io/org/pool:4 not rendered while pools is not set",
            "docker.io/org/store:8 not rendered while store.enabled is off and store.size is not set",
            "docker.io/org/worker:v7.1.0 not rendered while worker.enabled is off and source.type is on; the tag \
             is a guess from the chart's appVersion",
        ]
    );
}

#[test]
fn what_is_rendered_has_the_values_behind_it_and_hints_come_last() {
    let found = inspected();
    assert_eq!(found[0].reference.to_string(), "docker.io/org/app:v7.1.0");
    assert_eq!(found[0].confidence, Confidence::Certain);
    assert_eq!(found[0].values[0].to_string(), "image.repository");
    // The values name git too, with a registry of their own.
    let hints: Vec<String> = found
        .iter()
        .filter(|found| found.pattern == LocationKind::Hint)
        .map(|found| found.reference.to_string())
        .collect();
    assert_eq!(hints, ["quay.io/org/tool:9"]);
}
