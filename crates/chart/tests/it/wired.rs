//! Configures small charts for offline use, with helm: cases that the real charts do not have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::support::{Written, containers, variable};
use chart::phone_home::PhoneHomeRules;
use chart::values;
use chart::wiring::{
    OfflineWiring, PatchFile, SiteServices, WiringRequest, WiringTable, wire_release,
};
use gantry_chart as chart;
use serde_json::{Value, json};
use types::site::Site;

const CHART: (&str, &str) = ("Chart.yaml", "apiVersion: v2\nname: own\nversion: 1.0.0\n");
const REGISTRY: &str = "version: 1\nregistry: {url: 'registry.internal:5000/ai'}\n";

/// A chart, a site, and the user's values and rules.
struct Case {
    written: Written,
    /// The user's values, on top of the chart's defaults.
    own: Value,
    offline: SiteServices,
    table: WiringTable,
}

impl Case {
    fn new(files: &[(&str, &str)], site: &str) -> Self {
        let all: Vec<(&str, &str)> = [CHART].iter().chain(files).copied().collect();
        let site = Site::parse("site.yaml", &format!("{REGISTRY}{site}")).unwrap();
        Self {
            written: Written::new(&all),
            own: json!({}),
            offline: SiteServices::from_site(&site, Some("ai")),
            table: WiringTable::builtin().clone(),
        }
    }

    fn render(&self, overlay: Option<&str>) -> Result<String, chart::RenderError> {
        let mut all = self.own.clone();
        if let Some(overlay) = overlay {
            values::merge_values(&mut all, &values::read_values("overlay", overlay).unwrap());
        }
        self.written.render(Some(&all.to_string()))
    }

    fn wire(&self) -> OfflineWiring {
        let chart = self.written.chart();
        let render = |overlay: Option<&str>| self.render(overlay);
        let request = WiringRequest {
            chart: &chart,
            user: &self.own,
            own: &self.own,
            offline: &self.offline,
            table: &self.table,
            switches: PhoneHomeRules::builtin(),
        };
        wire_release(&request, &render).unwrap()
    }

    /// The render with the overlay and the patches.
    fn after(&self, wiring: &OfflineWiring) -> String {
        let overlay = wiring.overlay(&self.written.chart().effective_values(&self.own)).to_string();
        wiring.patches().apply(&self.render(Some(&overlay)).unwrap()).unwrap()
    }
}

fn paths(wiring: &OfflineWiring) -> Vec<String> {
    wiring.settings.iter().map(|own| format!("{}: {}", own.path, own.value)).collect()
}

/// An Ollama as sub-chart of a larger chart: a claim of its own, and a Job that pulls models.
const OLLAMA: [(&str, &str); 3] = [
    ("values.yaml", "unused: 1\n"),
    (
        "charts/akko-ollama/values.yaml",
        "image: ollama/ollama:0.6.2\nextraEnv: []\nmodelPull: {enabled: true}\n\
         persistence: {existingClaim: ''}\n",
    ),
    (
        "charts/akko-ollama/templates/a.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: ollama}\nspec:\n  template:\n    spec:\n      \
         containers:\n      - name: ollama\n        image: {{ .Values.image }}\n        env:\n        \
         - {name: OLLAMA_HOST, value: 0.0.0.0}\n        {{- with .Values.extraEnv }}\n        \
         {{- toYaml . | nindent 8 }}\n        {{- end }}\n        volumeMounts:\n        \
         - {name: data, mountPath: /root/.ollama}\n      volumes:\n      - name: data\n        \
         persistentVolumeClaim: {claimName: {{ .Values.persistence.existingClaim | default \"own\" }}}\n\
         {{- if .Values.modelPull.enabled }}\n---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: pull}\n\
         spec: {template: {spec: {containers: [{name: pull, image: 'curlimages/curl:8'}]}}}\n{{- end }}\n",
    ),
];

#[test]
fn an_ollama_reads_the_site_s_claim_and_pulls_nothing() {
    let chart =
        ("charts/akko-ollama/Chart.yaml", "apiVersion: v2\nname: akko-ollama\nversion: 1.0.0\n");
    let files: Vec<_> = OLLAMA.iter().chain([&chart]).copied().collect();
    let case = Case::new(&files, "models: [{to: 'pvc://ai/llms', layout: ollama}]\n");

    let wiring = case.wire();

    let after = case.after(&wiring);
    assert!(!after.contains("kind: Job"), "{after}");
    let ollama = &containers(&after)["Deployment/ollama/ollama"];
    // The site's claim is mounted at the path where the chart mounts its own.
    assert_eq!(variable(ollama, "OLLAMA_MODELS"), Some("/root/.ollama"));
    assert_eq!(variable(ollama, "OLLAMA_NOPRUNE"), Some("1"));
    assert!(ollama["volumes"].to_string().contains("\"claimName\":\"llms\""), "{ollama}");
    assert_eq!(variable(ollama, "HF_HUB_OFFLINE"), None);
    assert_eq!((wiring.patches.len(), wiring.leftovers.len()), (0, 0), "{:?}", wiring.leftovers);
}

/// A server whose template takes no extra entries at all, with a sidecar.
const RIGID: (&str, &str) = (
    "templates/a.yaml",
    "apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: tei # by hand\nspec:\n  template:\n    spec:\n      \
     containers:\n      - name: tei\n        image: ghcr.io/huggingface/text-embeddings-inference:cpu-1.7\n        \
     args: [--model-id, BAAI/bge-m3]\n        env:\n        - name: PORT\n          value: \"0080\"\n        \
     securityContext: {runAsUser: 0o17}\n      - {name: proxy, image: 'nginx:1'}\n",
);

#[test]
fn what_no_value_reaches_is_patched_in_place_and_everything_else_keeps_its_bytes() {
    let case =
        Case::new(&[RIGID, ("values.yaml", "env: []\n")], "models: [{to: 'pvc://ai/m/hub'}]\n");

    let wiring = case.wire();

    assert_eq!(paths(&wiring), [""; 0], "a value that reaches nothing is not set");
    let patches = wiring.patches();
    let text = patches.write().unwrap();
    let read = PatchFile::read("patches.yaml", &text).unwrap();
    assert_eq!(read, patches, "{text}");
    let before = case.render(None).unwrap();
    let after = read.apply(&before).unwrap();
    let tei = &containers(&after)["StatefulSet/tei/tei"];
    assert_eq!(variable(tei, "HUGGINGFACE_HUB_CACHE"), Some("/gantry/models"));
    assert_eq!(tei["volumeMounts"][0]["subPath"], "hub");
    assert_eq!(tei["volumes"][0]["persistentVolumeClaim"]["claimName"], "m");
    assert_eq!(containers(&after)["StatefulSet/tei/proxy"].get("env"), None);
    for line in before.lines() {
        assert!(after.contains(line.trim_start().trim_start_matches("- ")), "{line}: {after}");
    }
    assert_eq!(read.apply(&after).unwrap(), after, "once is enough");
    let other = before.replace("name: tei #", "name: other #");
    let error = read.apply(&other).unwrap_err().to_string();
    assert!(error.contains("StatefulSet tei") && error.contains("gantry relocate"), "{error}");
}

#[test]
fn a_mistake_in_a_file_of_patches_names_its_place() {
    let error =
        PatchFile::read("p.yaml", "version: 1\npatches:\n- {kind: Pod, nam: x}\n").unwrap_err();
    assert!(error.to_string().starts_with("p.yaml:3:"), "{error}");
    let error = PatchFile::read("p.yaml", "version: 2\npatches: []\n").unwrap_err().to_string();
    assert!(error.contains("version 2 is not supported"), "{error}");
}

/// A server that takes variables from a map in the values, through a ConfigMap.
const MAPPED: [(&str, &str); 2] = [
    ("values.yaml", "env: {PORT: '80'}\nhub: {args: [serve]}\n"),
    (
        "templates/a.yaml",
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: env}\ndata:\n  {{- range $k, $v := .Values.env }}\n  \
         {{ $k }}: {{ $v | quote }}\n  {{- end }}\n---\nkind: Deployment\napiVersion: apps/v1\n\
         metadata: {name: srv}\nspec:\n  template:\n    metadata:\n      annotations:\n        checksum/env: \
         {{ .Values.env | toJson | sha256sum }}\n    spec:\n      containers:\n      - name: srv\n        \
         image: org/own-server:1\n        command: [python, -m, vllm.entrypoints.openai.api_server]\n        \
         envFrom: [{configMapRef: {name: env}}]\n",
    ),
];

#[test]
fn variables_go_through_a_config_map_where_the_chart_has_one_for_its_runtime() {
    let case = Case::new(&MAPPED, "depot: {url: 'http://depot.ai'}\n");

    let wiring = case.wire();

    let expected = r#"env: {"PORT":"80","DO_NOT_TRACK":"1","HF_ENDPOINT":"http://depot.ai","HF_HUB_DISABLE_TELEMETRY":"1"}"#;
    assert_eq!(paths(&wiring), [expected]);
    assert_eq!((wiring.patches.len(), &wiring.notes), (0, &vec![]), "{wiring:?}");
}

#[test]
fn what_a_person_set_stays_and_is_told() {
    let mut case = Case::new(&MAPPED, "models: [{to: 'pvc://ai/m'}]\nclusterIssuer: internal\n");
    case.own = json!({"env": {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "true"}, "clusterIssuer": "mine"});

    let wiring = case.wire();

    let left: Vec<&str> = wiring.leftovers.iter().map(|left| left.what.as_str()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left[0].contains("\"mine\"") && left[0].contains("is kept"), "{left:?}");
    assert!(left[1].contains("HF_HUB_OFFLINE is \"0\""), "{left:?}");
    let shown = wiring.patches().write().unwrap() + &paths(&wiring).join("\n");
    assert!(!shown.contains("TRANSFORMERS_OFFLINE=") && !shown.contains("mine"), "{shown}");
}

#[test]
fn rules_of_one_s_own_name_runtimes_claims_and_trust() {
    let files = [
        (
            "templates/a.yaml",
            "{{- range $s := .Values.servers }}\n---\nkind: Deployment\napiVersion: apps/v1\nmetadata: {name: {{ $s.name }}}\n\
         spec: {template: {spec: {containers: [{name: {{ $s.name }}, image: 'org/x:1', env: {{ $s.env | toJson }}, \
         volumeMounts: {{ $s.mounts | toJson }}}], volumes: {{ $s.volumes | toJson }}}}}\n{{- end }}\n",
        ),
        (
            "values.yaml",
            "servers:\n- {name: one, env: [], mounts: [], volumes: []}\n\
         - {name: two, env: [{name: A, value: b}], mounts: [], volumes: []}\n",
        ),
    ];
    let mut case = Case::new(&files, "models: [{to: 'pvc://ai/m1'}, {to: 'pvc://ai/m2'}]\n");
    let own = "runtimes:\n- {name: x, images: ['org/x:'], claim: {set: {MODELS: '{mount}', HF_HUB_OFFLINE: '1'}}, why: w}\n\
        claims: [{claim: m1, containers: [one]}, {claim: m2, containers: [two]}]\n\
        trust: [{name: x, containers: [two], set: {MY_CA: '{ca}'}, why: w}]\n";
    let own: types::input::wiring::WiringRules = types::yaml::read_document("own", own).unwrap();
    case.table = WiringTable::builtin().with_own_rules(&own);
    case.offline.ca = Some(chart::wiring::SiteCa {
        from: chart::wiring::CaObjectKind::Secret,
        name: "site-ca".into(),
        key: "tls.crt".into(),
    });

    let wiring = case.wire();

    let all = containers(&case.after(&wiring));
    let (one, two) = (&all["Deployment/one/one"], &all["Deployment/two/two"]);
    assert_eq!(variable(one, "MODELS"), Some("/gantry/models"));
    assert!(
        one["volumes"].to_string().contains("\"m1\"")
            && two["volumes"].to_string().contains("\"m2\"")
    );
    assert_eq!(variable(two, "MY_CA"), Some("/gantry/ca/tls.crt"));
    assert_eq!(variable(one, "MY_CA"), None);
    assert_eq!(variable(two, "A"), Some("b"));
    assert!(two["volumes"].to_string().contains("{\"secretName\":\"site-ca\"}"), "{two}");
    let by_values = wiring.settings.iter().filter(|own| own.path.to_string().ends_with(".env"));
    assert_eq!(by_values.count(), 2, "{:?}", paths(&wiring));
}

#[test]
fn a_value_that_does_more_than_it_should_is_not_used() {
    let files = [
        ("values.yaml", "extraEnv: []\n"),
        (
            "templates/a.yaml",
            "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: srv}\nspec:\n  replicas: {{ len .Values.extraEnv | add 1 }}\n  \
             template:\n    spec:\n      containers:\n      - {name: srv, image: 'vllm/vllm-openai:v1', \
             env: {{ .Values.extraEnv | toJson }}}\n",
        ),
    ];
    let case = Case::new(&files, "depot: {url: 'http://depot.ai'}\n");

    let wiring = case.wire();

    assert!(wiring.notes[0].contains("spec.replicas also changes"), "{:?}", wiring.notes);
    assert_eq!((paths(&wiring).len(), wiring.patches.len()), (0, 1));
    let after = case.after(&wiring);
    assert!(after.contains("replicas: 1"), "{after}");
    assert_eq!(
        variable(&containers(&after)["Deployment/srv/srv"], "HF_ENDPOINT"),
        Some("http://depot.ai")
    );
}

#[test]
fn issuers_become_the_site_s_by_their_value_or_by_a_patch_and_acme_is_told() {
    let files = [
        (
            "values.yaml",
            "certManager: {clusterIssuer: letsencrypt-prod}\nidle: {clusterIssuer: ''}\n",
        ),
        (
            "templates/a.yaml",
            "kind: Ingress\napiVersion: networking.k8s.io/v1\nmetadata:\n  name: a\n  annotations:\n    \
             cert-manager.io/cluster-issuer: {{ .Values.certManager.clusterIssuer }}\n---\nkind: Ingress\n\
             apiVersion: networking.k8s.io/v1\nmetadata: {name: b, annotations: {cert-manager.io/cluster-issuer: le}}\n\
             ---\nkind: ClusterIssuer\napiVersion: cert-manager.io/v1\nmetadata: {name: le}\n\
             spec: {acme: {server: 'https://acme.example/directory'}}\n",
        ),
    ];
    let case = Case::new(&files, "clusterIssuer: internal-ca\n");

    let wiring = case.wire();

    assert_eq!(paths(&wiring), ["certManager.clusterIssuer: \"internal-ca\""]);
    let after = case.after(&wiring);
    assert_eq!(after.matches("cluster-issuer: internal-ca").count(), 1, "{after}");
    assert!(after.contains("cert-manager.io/cluster-issuer: \"internal-ca\""), "{after}");
    assert!(wiring.leftovers[0].what.contains("acme.example"), "{:?}", wiring.leftovers);
}

#[test]
fn a_claim_of_another_namespace_cannot_be_mounted_and_is_told() {
    let case = Case::new(&[RIGID], "models: [{to: 'pvc://elsewhere/m'}]\n");

    let wiring = case.wire();

    let left = &wiring.leftovers[0];
    assert!(left.what.contains("in the namespace elsewhere"), "{left:?}");
    assert!(left.next.contains("pvc://NAMESPACE/CLAIM"), "{left:?}");
}

#[test]
fn what_talks_to_the_site_trusts_it_and_what_may_be_a_runtime_is_told() {
    let files = [(
        "templates/a.yaml",
        "kind: Pod\napiVersion: v1\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: sync, image: 'org/sync:1', \
         args: ['--to=https://registry.internal:5000/v2']}\n  - {name: lab, image: 'jupyter/base-notebook:1'}\n  \
         - {name: other, image: 'org/o:1', args: ['--to=https://registry.internal:50001']}\n",
    )];
    let case = Case::new(&files, "");
    let mut with_ca = case;
    with_ca.offline.ca = Some(chart::wiring::SiteCa {
        from: chart::wiring::CaObjectKind::ConfigMap,
        name: chart::wiring::CA_NAME.into(),
        key: chart::wiring::CA_KEY.into(),
    });

    let wiring = with_ca.wire();

    let names: Vec<&str> =
        wiring.patches[0].containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["sync"]);
    assert!(wiring.leftovers[0].what.contains("may be a model runtime"), "{:?}", wiring.leftovers);
    assert!(wiring.leftovers[0].next.contains("containers: [lab]"), "{:?}", wiring.leftovers);
}
