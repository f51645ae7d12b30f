//! The HTML page of a relocation, pinned. `dev/report-pictures` takes the book's picture from the
//! snapshot.

#![allow(clippy::unwrap_used)]

use gantry_chart::find::ManifestLocation;
use gantry_chart::manifest::Manifests;
use gantry_chart::mirrors::MirrorFile;
use gantry_chart::phone_home::PhoneHomeFinding;
use gantry_chart::relocate::{ProofVerdict, UnlockedImage};
use gantry_chart::report::{ImageLeftover, LeftoverKind, RelocatedImage, RelocationReport};
use gantry_chart::wiring::{OfflineWiring, WiringAction};
use gantry_chart::{DocumentPath, RelocationPage};
use types::Reference;

const RENDERED: &str = "\
# Source: rag/templates/llm.yaml
kind: Deployment
metadata: {name: llm}
spec: {template: {spec: {containers: [{name: vllm, image: 'vllm/vllm-openai:v0.9.1', env: [{name: HF_ENDPOINT, value: 'https://hub.maker.com'}]}]}}}
---
# Source: rag/templates/hook.yaml
kind: Job
metadata: {name: migrate, annotations: {helm.sh/hook: pre-install}}
spec: {template: {spec: {initContainers: [{name: wait, image: 'busybox:1.36'}], containers: [{name: migrate, image: 'ghcr.io/maker/migrate:3'}]}}}
";

fn image(name: &str) -> Reference {
    name.parse().unwrap()
}

fn values(path: &str) -> DocumentPath {
    path.split('.').fold(DocumentPath::default(), |path, key| path.key(key))
}

fn place(document: usize, list: &str, rest: &[&str]) -> ManifestLocation {
    let (kind, name) = [("Deployment", "llm"), ("Job", "migrate")][document];
    let path = values("spec.template.spec").key(list).index(0);
    ManifestLocation {
        template: Some(format!("rag/templates/{name}.yaml")),
        document,
        kind: kind.into(),
        name: name.into(),
        path: rest.iter().fold(path, |path, key| match key.parse() {
            Ok(index) => path.index(index),
            Err(_) => path.key(*key),
        }),
    }
}

fn moved(from: &str, by: &[&str], places: usize) -> RelocatedImage {
    let to = from.split_once('/').map_or(from, |(_, path)| path);
    RelocatedImage {
        from: image(from),
        to: image(&format!("registry.internal:5000/ai/{to}")),
        by: by.iter().map(|path| values(path)).collect(),
        places,
    }
}

fn leftover(
    name: &str,
    place: ManifestLocation,
    kind: LeftoverKind,
    reason: &str,
) -> ImageLeftover {
    let to = image(&format!("registry.internal:5000/ai/{name}"));
    ImageLeftover { image: image(name), to, place, kind, reason: reason.into() }
}

/// A chart of which a hook's images are fixed in the template.
fn sample() -> RelocationReport {
    let fixed = "the image is fixed in the template: no value sets it";
    RelocationReport {
        chart: "rag".into(),
        version: "2.4.0".into(),
        site: "registry.internal:5000/ai".into(),
        verdict: ProofVerdict::Leftovers,
        moved: vec![
            moved("docker.io/library/postgres:16.4", &["postgres.image.registry"], 1),
            moved("docker.io/vllm/vllm-openai:v0.9.1", &["llm.image.repository"], 1),
            moved(
                "ghcr.io/huggingface/text-embeddings-inference:cpu-1.7",
                &["global.registry", "embed.image.repository"],
                3,
            ),
            moved("ghcr.io/maker/rag-api:2.4.0", &["global.registry"], 5),
        ],
        leftovers: vec![
            leftover(
                "busybox:1.36",
                place(1, "initContainers", &["image"]),
                LeftoverKind::Hook,
                fixed,
            ),
            leftover(
                "ghcr.io/maker/migrate:3",
                place(1, "containers", &["image"]),
                LeftoverKind::Hook,
                fixed,
            ),
        ],
        broken: vec![],
        possible: vec![],
        not_locked: vec![],
        registries: vec![],
        unconfirmed: vec![],
        without_secret: vec![ManifestLocation {
            path: DocumentPath::default(),
            ..place(1, "containers", &[])
        }],
        notes: vec![],
        remedies: vec![MirrorFile {
            reader: "containerd",
            path: "/etc/containerd/certs.d/ghcr.io/hosts.toml".into(),
            file: "containerd/certs.d/ghcr.io/hosts.toml".into(),
            text: "server = \"https://ghcr.io\"\n\n[host.\"https://registry.internal:5000/v2/ai\"]\n  \
                   capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n"
                .into(),
        }],
        changes: vec![],
        foreign: vec![],
    }
}

fn render(report: &RelocationReport) -> String {
    let rendered = Manifests::read(RENDERED);
    let action = |name: &str| WiringAction {
        what: "HF_HUB_OFFLINE=1".into(),
        place: format!("Deployment {name}, container {name}"),
        by: Some(values("global.extraEnv")),
        why: "loads models from huggingface.co".into(),
    };
    let names = ["api", "chat", "embed", "ingest", "llm", "rerank", "search", "worker"];
    let wiring = OfflineWiring { lines: names.map(action).into(), ..OfflineWiring::default() };
    let phone_home = [
        PhoneHomeFinding::Value {
            path: values("telemetry.enabled"),
            off: Some(false.into()),
            safe: false,
            why: "reports usage to stats.maker.com".into(),
        },
        PhoneHomeFinding::Address {
            host: "hub.maker.com".into(),
            urls: vec!["https://hub.maker.com".into()],
            place: place(0, "containers", &["env", "0", "value"]),
            values: vec![values("llm.hub")],
            why: None,
        },
    ];
    let page = RelocationPage {
        report,
        rendered: &rendered,
        offline: None,
        wiring: Some(&wiring),
        phone_home: &phone_home,
    };
    page.to_html("0.1.0").unwrap()
}

#[test]
fn the_page_has_a_row_for_each_cause() {
    let page = render(&sample());

    assert!(page.contains("8 containers") && page.contains("variable HF_ENDPOINT"), "{page}");
    insta::assert_snapshot!("relocate", page);
}

#[test]
fn the_page_of_a_refuted_proof_says_why_first() {
    let mut report = sample();
    report.verdict = ProofVerdict::Refuted;
    report.leftovers = vec![];
    report.not_locked = vec![UnlockedImage {
        image: image("ghcr.io/maker/rag-api:2.4.0"),
        place: place(0, "containers", &["image"]),
        nearest: None,
    }];

    let page = render(&report);

    let (before, after) = page.split_once("Not in the lock").unwrap();
    assert!(before.contains("Refuted") && after.contains("Images moved"), "{page}");
}
