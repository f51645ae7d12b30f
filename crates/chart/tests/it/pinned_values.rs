//! Digests in the overlay: which values take one, seen with the real helm, and which do not.

use std::collections::BTreeMap;

use chart::image_pins::{PinnedOverlay, pin_images, pin_overlay};
use chart::relocate::{self, RelocationOptions, RelocationTarget};
use gantry_chart as chart;
use serde_json::json;
use types::ImagePin;
use types::lock::Lock;
use types::naming::NamingRule;
use types::site::RegistryTarget;
use types::site_content::SiteContent;

use crate::support::{Written, containers};

/// One image for each way to name one; `old` is a rebuilt tag's digest letters.
const VALUES: &str = "\
whole: docker.io/org/whole:1
own: {registry: docker.io, repository: org/own, tag: '1', digest: ''}
unread: {repository: docker.io/org/unread, tag: '1', digest: ''}
plain: {repository: docker.io/org/plain, tag: '1'}
labelled: {repository: docker.io/org/labelled, tag: '1'}
shared: {repository: docker.io/org/shared, tag: '1'}
untagged: {repository: docker.io/org/untagged}
";

const TEMPLATE: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: made}
stringData: {password: {{ randAlphaNum 12 | quote }}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {version: {{ .Values.labelled.tag | quote }}}}
spec:
  template:
    spec:
      containers:
      - {name: whole, image: {{ .Values.whole }}}
      - {name: own, image: '{{ .Values.own.registry }}/{{ .Values.own.repository }}{{ with .Values.own.digest }}@{{ . }}{{ else }}:{{ $.Values.own.tag }}{{ end }}'}
      - {name: unread, image: '{{ .Values.unread.repository }}:{{ .Values.unread.tag }}'}
      - {name: plain, image: '{{ .Values.plain.repository }}:{{ .Values.plain.tag }}'}
      - {name: labelled, image: '{{ .Values.labelled.repository }}:{{ .Values.labelled.tag }}'}
      - {name: shared, image: '{{ .Values.shared.repository }}:{{ .Values.shared.tag }}'}
      - {name: untagged, image: '{{ .Values.untagged.repository }}:{{ .Chart.AppVersion }}'}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      containers: [{name: once, image: '{{ .Values.shared.repository }}:{{ .Values.shared.tag }}'}]
";

const IMAGES: [&str; 7] = ["whole", "own", "unread", "plain", "labelled", "shared", "untagged"];

fn digest(index: usize) -> String {
    format!("sha256:{}", format!("{index:x}a").repeat(32))
}

fn site_content() -> SiteContent {
    let images: Vec<String> = IMAGES
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let digest = digest(index);
            format!(
                "- {{reference: 'docker.io/org/{name}:1', digest: '{digest}', mediaType: m, size: 1, platforms: \
                 [linux/amd64], manifests: [{{digest: '{digest}', size: 1, mediaType: m, platform: linux/amd64}}], \
                 seen: [{{by: gantry.yaml}}]}}\n"
            )
        })
        .collect();
    let lock =
        format!("version: 1\nname: l\nplatforms: [linux/amd64]\nimages:\n{}", images.concat());
    let lock = Lock::parse("gantry.lock", &lock).unwrap();
    SiteContent::new(&[lock], &[], &registry()).unwrap()
}

fn registry() -> RegistryTarget {
    RegistryTarget::from_prefix(&"site:5000/ai".parse().unwrap(), NamingRule::Path)
}

/// The images that a chart's pods have with its pinned overlay, by container.
fn pin(chart: &Written) -> (PinnedOverlay, BTreeMap<String, String>) {
    let content = site_content();
    let render = |overlay: Option<&str>| chart.render(overlay);
    let target = RelocationTarget::from_registry(&registry()).unwrap();
    let options = RelocationOptions { locked: Some(&content), ..RelocationOptions::default() };
    let moved = relocate::relocate(&chart.chart(), &json!({}), &target, &options, &render).unwrap();
    let auto = ImagePin::Auto;
    let pinned =
        pin_overlay(&chart.chart(), &json!({}), &moved.overlay, &content, auto, &render).unwrap();
    let stream = chart.render(Some(&pinned.overlay)).unwrap();
    let name = |key: &String| key.rsplit('/').next().unwrap().to_owned();
    let all = containers(&stream).into_iter();
    let all = all.map(|(key, value)| (name(&key), value["image"].as_str().unwrap().to_owned()));
    let all: BTreeMap<String, String> = all.collect();
    // What no value pins, the post-renderer does.
    let rest = pin_images(&stream, &content, auto).unwrap();
    for (key, container) in containers(&rest.stream) {
        let image = container["image"].as_str().unwrap();
        assert_eq!(image.contains('@'), name(&key) != "once", "{key}: {image}");
    }
    (pinned, all)
}

#[test]
fn a_digest_is_written_where_a_value_takes_one_and_changes_nothing_else() {
    let chart = Written::new(&[
        ("Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\nappVersion: '1'\n"),
        ("values.yaml", VALUES),
        ("templates/all.yaml", TEMPLATE),
    ]);

    let (pinned, images) = pin(&chart);

    let site = "site:5000/ai/org";
    let tagged = |name: &str| format!("{site}/{name}:1");
    let with_digest = |name: &str| {
        let index = IMAGES.iter().position(|known| *known == name).unwrap();
        format!("{}@{}", tagged(name), digest(index))
    };
    assert_eq!(images["whole"], with_digest("whole"));
    assert_eq!(images["own"], with_digest("own").replace("own:1@", "own@"));
    assert_eq!(images["unread"], with_digest("unread"), "the template reads no digest, but a tag");
    assert_eq!(images["plain"], with_digest("plain"));
    // A label with `@` is refused by the API server; the pods of a job cannot change; no value has the tag.
    for name in ["labelled", "shared", "untagged"] {
        assert_eq!(images[name], tagged(name), "{}", pinned.overlay);
    }
    let paths: Vec<String> = pinned.values.iter().map(|value| value.path.to_string()).collect();
    assert_eq!(paths, ["own.digest", "plain.tag", "unread.tag", "whole"]);
}
