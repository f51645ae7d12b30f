//! Relocates small charts, each with one pattern that real charts have: values that are not set,
//! globals with side effects, one fact in two places, names that only look like images.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::support::Written;
use gantry_chart::find::find_images;
use gantry_chart::post_render::post_render;
use gantry_chart::relocate::{
    ProofVerdict, Relocation, RelocationOptions, RelocationTarget, relocate,
};
use serde_json::json;
use types::lock::Lock;
use types::naming::NamingRule;
use types::site::RegistryTarget;
use types::site_content::SiteContent;

const SITE: &str = "site.internal:5000/ai";

fn target(pull_secret: Option<&str>) -> RelocationTarget {
    RelocationTarget {
        prefix: SITE.parse().unwrap(),
        naming: NamingRule::Path,
        pull_secret: pull_secret.map(str::to_owned),
    }
}

/// A chart of these values and one template.
fn write_chart(values: &str, template: &str) -> Written {
    Written::new(&[
        ("Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n"),
        ("values.yaml", values),
        ("templates/a.yaml", template),
    ])
}

/// Relocates a chart; also returns what helm renders with the overlay.
fn relocate_chart(
    chart: &Written,
    target: &RelocationTarget,
    options: &RelocationOptions,
) -> (Relocation, String) {
    let render = |overlay: Option<&str>| chart.render(overlay);
    let moved = relocate(&chart.chart(), &json!({}), target, options, &render).unwrap();
    let after = render(Some(&moved.overlay)).unwrap();
    (moved, after)
}

fn relocate_values(values: &str, template: &str) -> (Relocation, String) {
    relocate_chart(&write_chart(values, template), &target(None), &RelocationOptions::default())
}

/// A pod with one container, whose fields are `body`.
fn pod(name: &str, body: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - name: c\n    {body}\n"
    )
}

fn lines(relocation: &Relocation) -> Vec<String> {
    relocation.lines.iter().map(|line| format!("{}={}", line.path, line.text)).collect()
}

#[test]
fn names_of_labels_taints_and_resources_are_found_nowhere_and_stay_as_they_are() {
    let stream = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, labels: {app.kubernetes.io/component: web}}
spec:
  selector: {matchLabels: {example.org/part: web}}
  template:
    metadata: {labels: {example.org/part: web}, annotations: {example.org/owner: \"ghcr.io/org/team:1\"}}
    spec:
      nodeSelector: {example.org/pool: a}
      tolerations: [{key: nvidia.com/gpu, operator: Exists}, {key: quay.io/org/app, value: x}]
      affinity: {nodeAffinity: {x: [{key: quay.io/org/app, values: [web]}]}}
      containers:
      - name: app
        image: quay.io/org/app:1
        resources: {limits: {example.net/fpga: 1}}
        args: [--selector=example.org/part:web, --node-labels, 'ghcr.io/org/label:1', --gpu=nvidia.com/gpu:1]
        env:
        - {name: SELECTOR, value: 'app.kubernetes.io/component:web'}
        - {name: TAINT, value: 'example.org/dedicated:NoSchedule'}
        - {name: PART, value: 'example.org/part:web'}
        - {name: FPGA, value: 'example.net/fpga:1'}
        - {name: POD_LABELS, value: 'ghcr.io/org/label:1'}
---
apiVersion: x.example/v1
kind: App
spec:
  podLabels: {team: 'ghcr.io/org/label:1'}
  nodeSelector: {image: 'ghcr.io/org/label:1'}
  resources: {requests: {image: 'ghcr.io/org/label:1'}}
";
    let found: Vec<String> =
        find_images(stream).images.iter().map(|found| found.reference.to_string()).collect();
    assert_eq!(found, ["quay.io/org/app:1", "ghcr.io/org/team:1"]);
    let moved = post_render(stream, &target(None)).unwrap();
    assert_eq!(moved.proof.verdict(), ProofVerdict::Proven, "{:?}", moved.proof);
    let expected = stream
        .replace("quay.io/org/app:1", &format!("{SITE}/org/app:1"))
        .replace("ghcr.io/org/team", &format!("{SITE}/org/team"));
    assert_eq!(moved.stream, expected);
}

#[test]
fn a_map_of_images_names_one_under_each_key_and_a_version_belongs_to_the_image_beside_it() {
    let stream = "\
kind: ConfigMap
data:
  system.yaml: |
    servers:
      images: {default: 'org/server:1', gpu: 'ghcr.io/org/server:2', pullPolicy: Always}
    prometheus: {baseImage: quay.io/prometheus/prometheus, version: v2}
  values.yaml: |
    {hub: '', tag: '', image: pilot, resources: {}, env: {}}
  system.yaml.example: |
    image: ghcr.io/org/example:1
  README.md: |
    docker run ghcr.io/org/readme:1
";
    let mut found: Vec<String> =
        find_images(stream).images.iter().map(|found| found.reference.to_string()).collect();
    found.sort();
    assert_eq!(
        found,
        ["docker.io/org/server:1", "ghcr.io/org/server:2", "quay.io/prometheus/prometheus:v2"]
    );
}

#[test]
fn what_only_helm_s_parser_reads_is_read_and_edited_in_place() {
    let stream = "\
kind: ConfigMap
data:
  app.yaml:
  |
    worker:
      image: ghcr.io/org/worker:1   # keep
---
kind: Pod
spec: {containers: [{image: 'ghcr.io/org/app:1'}]}
";
    let moved = post_render(stream, &target(None)).unwrap();
    assert_eq!(moved.proof.verdict(), ProofVerdict::Proven, "{:?}", moved.proof);
    assert_eq!(moved.stream, stream.replace("ghcr.io", SITE));
}

#[test]
fn values_that_are_absent_empty_or_below_null_are_tried() {
    for (values, image, line) in [
        (
            "persistence: {enabled: true}\n",
            "\"{{ .Values.persistence.image | default \"busybox\" }}:1.36\"",
            format!("persistence.image={SITE}/library/busybox"),
        ),
        (
            "version: '16'\nimageName: ''\n",
            "{{ .Values.imageName | default (printf \"ghcr.io/org/db:%s\" .Values.version) }}",
            format!("imageName={SITE}/org/db:16"),
        ),
        (
            "a: {b: null}\n",
            "{{ ((.Values.a).b).image | default \"ghcr.io/org/x:1\" }}",
            format!("a.b.image={SITE}/org/x:1"),
        ),
        (
            "image: {tag: '2', pullPolicy: Always}\n",
            "{{ with .Values.image }}{{ .repository | default \"ghcr.io/org/y\" }}:{{ .tag }}{{ end }}",
            format!("image.repository={SITE}/org/y"),
        ),
    ] {
        let template = pod("app", &format!("image: {image}"));
        let (relocation, _) = relocate_values(values, &template);
        assert_eq!(
            relocation.proof.verdict(),
            ProofVerdict::Proven,
            "{values}: {:?}",
            relocation.reasons
        );
        assert_eq!(lines(&relocation), [line]);
    }
}

#[test]
fn a_global_registry_with_a_side_effect_gives_way_to_the_images_own() {
    let template = "{{- define \"img\" }}{{ $r := .own | default .root.Values.global.registry }}{{ if $r }}{{ $r }}/{{ end }}{{ .name }}{{ end }}"
        .to_owned()
        + &pod(
            "app",
            "image: {{ include \"img\" (dict \"root\" . \"own\" .Values.image.registry \"name\" .Values.image.repository) }}:1\n    \
             env:\n    - {name: A, value: '1'}\n    {{- with .Values.global.registry }}\n    - {name: OPERANDS, value: {{ . }}}\n    {{- end }}",
        )
        + &pod("other", "image: {{ .Values.other.registry }}/org/other:2");
    let values = "global: {registry: ''}\nimage: {registry: '', repository: org/app}\nother: {registry: quay.io}\n";
    let (relocation, _) = relocate_values(values, &template);
    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.reasons);
    assert_eq!(
        lines(&relocation),
        [format!("image.registry={SITE}"), format!("other.registry={SITE}")]
    );
}

#[test]
fn one_value_is_written_where_one_moves_everything() {
    let image = "{{ .Values.image.registry }}/{{ .Values.image.repository }}:7";
    let template = pod(
        "redis",
        "image: {{ .Values.global.imageRegistry | default .Values.image.registry }}/{{ .Values.image.repository }}:7",
    ) + &pod("test", &format!("image: {image}"));
    let values =
        "global: {imageRegistry: ''}\nimage: {registry: docker.io, repository: org/redis}\n";
    let (relocation, _) = relocate_values(values, &template);
    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.proof);
    assert_eq!(lines(&relocation), [format!("image.registry={SITE}")]);
}

#[test]
fn a_repository_in_another_variable_moves_with_its_image() {
    let template = pod(
        "operator",
        "image: {{ .Values.operator }}\n    env:\n    - {name: AGENT_IMAGE, value: '{{ .Values.registry }}/agent:1'}\n    \
         - {name: ALLOWED, value: 'x,{{ .Values.registry }}/agent'}",
    );
    let values = "operator: ghcr.io/org/operator:1\nregistry: quay.io/org\n";
    let (relocation, after) = relocate_values(values, &template);
    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.proof);
    assert!(after.contains(&format!("value: 'x,{SITE}/org/agent'")), "{after}");
}

#[test]
fn a_mention_that_nothing_reaches_is_left_over_and_the_rest_is_moved() {
    let template =
        pod("app", "image: {{ .Values.image }}\n    env: [{name: SEE, value: 'ghcr.io/org/app'}]");
    let (relocation, after) = relocate_values("image: ghcr.io/org/app:1\n", &template);
    assert_eq!(relocation.proof.verdict(), ProofVerdict::Leftovers, "{:?}", relocation.proof);
    assert!(after.contains(&format!("image: {SITE}/org/app:1")), "{after}");
    assert!(relocation.reasons[0].contains("mentions the image"), "{:?}", relocation.reasons);
}

#[test]
fn hashes_under_any_key_change_with_the_images() {
    let template = pod("app", "image: {{ .Values.image }}")
        + "---\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  revision: {{ .Values | toJson | sha1sum }}\n  \
           config-hash: {{ .Values | toJson | sha256sum | trunc 10 }}\n";
    let (relocation, _) = relocate_values("image: ghcr.io/org/app:1\n", &template);
    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.proof);
}

#[test]
fn pull_secrets_reach_values_that_are_not_set_and_never_cost_an_image() {
    let template = pod("app", "image: {{ .Values.image.name }}").replace(
        "spec:\n",
        "spec:\n  {{- with .Values.image.pullSecrets }}\n  imagePullSecrets:\n  {{- range . }}\n  - name: {{ . }}\n  {{- end }}\n  {{- end }}\n",
    ) + "---\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  router: |-\n    {\"image\": \"{{ .Values.router.image }}:1\", \"secrets\": {{ .Values.router.imagePullSecrets }}}\n  \
         all: {{ .Values | toJson | quote }}\n";
    let values =
        "image: {name: 'ghcr.io/org/app:1'}\nrouter: {image: org/router, imagePullSecrets: []}\n";
    let chart = write_chart(values, &template);
    let (relocation, after) =
        relocate_chart(&chart, &target(Some("regcred")), &RelocationOptions::default());
    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.proof);
    assert!(after.contains("imagePullSecrets:\n  - name: regcred"), "{after}");
    assert!(after.contains(&format!("\"image\": \"{SITE}/org/router:1\"")), "{after}");
    assert!(relocation.without_secret.is_empty(), "{:?}", relocation.without_secret);
}

#[test]
fn pull_secrets_reach_items_of_lists_and_each_list_of_resources_and_texts() {
    let template = "\
{{- range $index, $model := .Values.models }}
---
apiVersion: v1
kind: Pod
metadata: {name: model-{{ $index }}}
spec:
  {{- if $model.imagePullSecret }}
  imagePullSecrets: [{name: {{ $model.imagePullSecret }}}]
  {{- end }}
  containers: [{name: c, image: {{ $model.image }}}]
{{- end }}
---
apiVersion: x.example/v1
kind: App
metadata: {name: app}
spec:
  driver: {image: {{ .Values.driver.image }}, imagePullSecrets: {{ .Values.driver.imagePullSecrets | toJson }}}
  toolkit: {image: {{ .Values.toolkit.image }}, imagePullSecrets: {{ .Values.toolkit.imagePullSecrets | toJson }}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: spawner}
data:
  config.yaml: |
    pods: {image: {{ .Values.spawner.image }}, image_pull_secrets: {{ .Values.spawner.pullSecrets | toJson }}}
";
    let values = "\
models: [{image: 'ghcr.io/org/one:1'}, {image: 'ghcr.io/org/two:1'}]
driver: {image: 'ghcr.io/org/driver:1', imagePullSecrets: []}
toolkit: {image: 'ghcr.io/org/toolkit:1', imagePullSecrets: []}
spawner: {image: 'ghcr.io/org/pod:1', pullSecrets: []}
";
    let chart = write_chart(values, template);
    let (relocation, after) =
        relocate_chart(&chart, &target(Some("regcred")), &RelocationOptions::default());
    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.proof);
    assert_eq!(after.matches("regcred").count(), 5, "{after}");
    assert!(relocation.without_secret.is_empty(), "{:?}", relocation.without_secret);
}

#[test]
fn several_side_effects_are_mended_together_and_only_what_carries_one_is_left_out() {
    let template = pod("one", "image: {{ .Values.one }}").replace(
        "spec:\n",
        "spec:\n  imagePullSecrets: {{ .Values.a.imagePullSecrets | toJson }}\n",
    ) + &pod("two", "image: {{ .Values.two }}").replace(
        "spec:\n",
        "spec:\n  imagePullSecrets: {{ .Values.b.imagePullSecrets | toJson }}\n",
    ) + "---\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  secrets: 'n{{ len .Values.b.imagePullSecrets }}'\n  \
         run.conf: |\n    -first\n    {{- if eq .Values.one \"ghcr.io/org/one:1\" }}\n    -tuned\n    {{- end }}\n    \
         {{- range .Values.more }}\n    {{ . }}\n    {{- end }}\n  three: '{{ hasPrefix \"ghcr.io\" .Values.three }}'\n"
        + &pod("three", "image: {{ .Values.three }}");
    let values = "one: ghcr.io/org/one:1\ntwo: ghcr.io/org/two:2\nthree: ghcr.io/org/three:3\nmore: [-mine]\n\
        a: {imagePullSecrets: []}\nb: {imagePullSecrets: []}\n";
    let chart = write_chart(values, &template);
    let (relocation, after) =
        relocate_chart(&chart, &target(Some("regcred")), &RelocationOptions::default());
    assert_eq!(relocation.proof.verdict(), ProofVerdict::Leftovers, "{:?}", relocation.proof);
    let stayed: Vec<String> =
        relocation.proof.stayed.iter().map(|stayed| stayed.from.to_string()).collect();
    assert_eq!(stayed, ["ghcr.io/org/three:3"], "{:?}", relocation.reasons);
    assert!(relocation.reasons[0].starts_with("setting three also changes"));
    assert!(after.contains("-first\n    -tuned\n    -mine\n"), "{after}");
    assert!(after.contains("imagePullSecrets: [{\"name\":\"regcred\"}]"), "{after}");
    let [note] = &relocation.notes[..] else { panic!("{:?}", relocation.notes) };
    assert!(note.starts_with("the pull secret in b.imagePullSecrets is not set"), "{note}");
}

#[test]
fn what_the_user_points_at_the_site_must_be_a_name_of_the_lock() {
    let digest = "ab".repeat(32);
    let lock = format!(
        "version: 1\nname: l\nplatforms: []\nimages:\n- {{reference: 'ghcr.io/org/web:1', digest: 'sha256:{digest}', \
         mediaType: m, size: 1, platforms: [], manifests: [], seen: []}}\n"
    );
    let lock = Lock::parse("gantry.lock", &lock).unwrap();
    let target = target(None);
    let registry = RegistryTarget::from_prefix(&target.prefix, target.naming);
    let content = SiteContent::new(&[lock], &[], &registry).unwrap();
    let options = RelocationOptions { locked: Some(&content), ..RelocationOptions::default() };
    for (image, expected) in [
        (format!("{SITE}/org/web:1"), ProofVerdict::Proven),
        (format!("{SITE}/web:1"), ProofVerdict::Refuted),
    ] {
        let values = format!("image: {image}\n");
        let chart = write_chart(&values, &pod("app", "image: {{ .Values.image }}"));
        let (relocation, _) = relocate_chart(&chart, &target, &options);
        assert_eq!(relocation.proof.verdict(), expected, "{:?}", relocation.proof);
        for unlocked in &relocation.proof.not_locked {
            assert_eq!(unlocked.remark(), format!(" (locked is {SITE}/org/web:1)"));
        }
    }
}

#[test]
fn the_reason_of_a_leftover_is_what_a_render_with_that_value_shows() {
    let template = pod(
        "app",
        "image: {{ .Values.global.imageRegistry | default .Values.registry }}/org/app:1",
    ) + &pod(
        "probe",
        "image: {{ .Values.global.imageRegistry | default \"docker.io\" }}/busybox:1.35",
    ) + &pod("fixed", "image: ghcr.io/{{ .Values.name }}:1");
    let values = "global: {imageRegistry: ''}\nregistry: docker.io\nname: org/fixed\n";
    let chart = write_chart(values, &template);
    let (relocation, _) = relocate_chart(&chart, &target(None), &RelocationOptions::default());
    let reason = |image: &str| {
        let mut all = relocation.proof.stayed.iter().zip(&relocation.reasons);
        all.find(|(stayed, _)| stayed.from.to_string() == image).unwrap().1.clone()
    };
    // By hand: the value that the reason names, with the text that it names.
    let by_hand = chart
        .render(Some(&format!("global: {{imageRegistry: '{SITE}'}}\nname: '{SITE}/org/fixed'\n")))
        .unwrap();
    assert_eq!(
        reason("docker.io/library/busybox:1.35"),
        format!(
            "with {SITE} in global.imageRegistry it would be {SITE}/busybox:1.35, and at the site it is {SITE}/library/busybox:1.35"
        )
    );
    assert!(by_hand.contains(&format!("image: {SITE}/busybox:1.35")), "{by_hand}");
    assert_eq!(
        reason("ghcr.io/org/fixed:1"),
        "the template has \"ghcr.io/\" in front of what name sets"
    );
    assert!(by_hand.contains(&format!("image: ghcr.io/{SITE}/org/fixed:1")), "{by_hand}");
}

#[test]
fn registries_and_repositories_that_a_program_completes_are_moved_or_left_over_by_name() {
    let template = pod(
        "operator",
        "image: {{ .Values.image }}\n    env:\n    - {name: OPERAND_IMAGE_REPOSITORY, value: {{ .Values.operand }}}\n    \
         - {name: SCANNER_DB_REPOSITORY, value: '{{ .Values.db }}'}\n    - {name: FIXED_IMAGE_REPOSITORY, value: quay.io/org/fixed}",
    ) + "---\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  operator.yaml: |\n    container-registry: {{ .Values.registry }}\n    fallback-registry: ghcr.io\n";
    let values = "image: ghcr.io/org/operator:1\nregistry: quay.io\noperand: quay.io/org/operand\n\
        db: 'mirror.gcr.io/org/db,ghcr.io/org/db'\n";
    let (relocation, after) = relocate_values(values, &template);
    assert_eq!(relocation.proof.verdict(), ProofVerdict::Leftovers, "{:?}", relocation.proof);
    for moved in [
        format!("value: {SITE}/org/operand}}"),
        format!("value: '{SITE}/org/db,{SITE}/org/db'"),
        format!("container-registry: {SITE}\n"),
    ] {
        assert!(after.contains(&moved), "{moved} in {after}");
    }
    let stayed: Vec<String> =
        relocation.proof.stayed.iter().map(|stayed| stayed.from.name()).collect();
    assert_eq!(stayed, ["quay.io/org/fixed"], "{:?}", relocation.reasons);
    let outside: Vec<&str> =
        relocation.proof.registries.iter().map(|registry| registry.text.as_str()).collect();
    assert_eq!(outside, ["ghcr.io"]);
}

#[test]
fn parts_of_an_image_in_a_custom_resource_are_completed_as_its_operator_does() {
    let agent = |spec: &str| {
        format!(
            "apiVersion: operator.victoriametrics.com/v1beta1\nkind: VMAgent\nmetadata: {{name: a}}\nspec: {{{spec}}}\n"
        )
    };
    let operator = pod(
        "operator",
        "image: ghcr.io/org/operator:1\n    env: [{name: VM_VMAGENTDEFAULT_VERSION, value: v9}]",
    );
    let beat = "apiVersion: beat.k8s.elastic.co/v1beta1\nkind: Beat\nmetadata: {name: b}\nspec: {type: filebeat, version: 8.1.0}\n";
    for (stream, image) in [
        (agent("image: {tag: v8}"), "docker.io/victoriametrics/vmagent:v8"),
        (agent("") + &operator, "docker.io/victoriametrics/vmagent:v9"),
        (beat.to_owned(), "docker.elastic.co/beats/filebeat:8.1.0"),
    ] {
        let found = find_images(&stream).images;
        let own = found.iter().find(|found| found.reference.to_string() == image);
        let own = own.unwrap_or_else(|| panic!("{image} is not in {found:?}"));
        assert_eq!(own.confidence, gantry_chart::find::Confidence::Likely);
        assert!(own.note.is_some());
    }
    assert!(find_images(&agent("image: {repository: site/vmagent, tag: v8}")).images.len() == 1);
}
