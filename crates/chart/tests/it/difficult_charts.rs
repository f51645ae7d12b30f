//! Relocates small charts, each with one difficulty, and renders them with helm: a strict schema, a
//! text that depends on the image, an operator with an image compiled in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::support::Written;
use gantry_chart::relocate::{
    ProofVerdict, PullPolicy, Relocation, RelocationOptions, RelocationTarget, relocate,
};
use gantry_chart::{OperatorRules, values};
use serde_json::json;
use types::lock::Lock;
use types::site::RegistryTarget;
use types::site_content::SiteContent;

fn target(pull_secret: Option<&str>) -> RelocationTarget {
    RelocationTarget {
        prefix: "site.internal:5000/ai".parse().unwrap(),
        naming: types::naming::NamingRule::Path,
        pull_secret: pull_secret.map(str::to_owned),
    }
}

/// What the site holds when these images are locked.
fn content(images: &[&str]) -> SiteContent {
    let mut text = "version: 1\nname: l\nplatforms: []\nimages:\n".to_owned();
    for image in images {
        let digest = "ab".repeat(32);
        text.push_str(&format!(
            "- {{reference: '{image}', digest: 'sha256:{digest}', mediaType: m, size: 1, platforms: [], \
             manifests: [], seen: []}}\n"
        ));
    }
    let lock = Lock::parse("gantry.lock", &text).unwrap();
    let target = target(None);
    let registry = RegistryTarget::from_prefix(&target.prefix, target.naming);
    SiteContent::new(&[lock], &[], &registry).unwrap()
}

/// Relocates a chart made of these files; also returns what helm renders with the overlay.
fn moved(
    files: &[(&str, &str)],
    target: &RelocationTarget,
    options: &RelocationOptions,
) -> (Relocation, String) {
    let written = Written::new(files);
    let chart = written.chart();
    let render = |overlay: Option<&str>| written.render(overlay);
    let relocation = relocate(&chart, &json!({}), target, options, &render).unwrap();
    let after = render(Some(&relocation.overlay)).unwrap();
    (relocation, after)
}

const CHART: (&str, &str) = ("Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n");
const POD: (&str, &str) = (
    "templates/pod.yaml",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: app}\nspec:\n  containers:\n  - name: one\n    image: \
     \"{{ .Values.one.repository }}:1\"\n  - name: two\n    image: {{ .Values.two }}\n",
);
const VALUES: (&str, &str) =
    ("values.yaml", "one: {repository: ghcr.io/org/one}\ntwo: ghcr.io/org/two:2\n");

#[test]
fn what_a_strict_schema_refuses_stays_with_its_reason_and_the_rest_is_moved() {
    let schema = json!({
        "additionalProperties": false,
        "properties": {
            "global": {},
            "one": {
                "additionalProperties": false,
                "properties": {"repository": {"type": "string", "pattern": "^ghcr\\.io/"}},
            },
            "two": {"type": "string"},
        },
    });
    let schema = schema.to_string();
    let files = [CHART, VALUES, POD, ("values.schema.json", schema.as_str())];

    let (relocation, _) = moved(&files, &target(None), &RelocationOptions::default());

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Leftovers, "{:?}", relocation.proof);
    assert_eq!(relocation.proof.moved[0].from.to_string(), "ghcr.io/org/two:2");
    let [reason] = &relocation.reasons[..] else { panic!("{:?}", relocation.reasons) };
    assert!(reason.starts_with("helm fails if one.repository is changed: "), "{reason}");
    assert!(reason.contains("does not match") || reason.contains("Does not match"), "{reason}");
}

#[test]
fn an_image_in_the_crds_folder_stays_with_the_reason_that_helm_does_not_render_it() {
    let written = Written::new(&[CHART, VALUES, POD]);
    let definition = "---\n# Source: app/crds/pod.yaml\napiVersion: v1\nkind: Pod\nmetadata: {name: \
        kind}\nspec: {containers: [{name: a, image: 'ghcr.io/org/two:2'}]}\n";
    // helm prints the folder as it is, with whatever values.
    let render = |overlay: Option<&str>| written.render(overlay).map(|all| all + definition);
    let options = RelocationOptions::default();

    let relocation =
        relocate(&written.chart(), &json!({}), &target(None), &options, &render).unwrap();

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Leftovers, "{:?}", relocation.proof);
    let expected = "the chart's crds/ folder is installed as it is: no value reaches it";
    assert_eq!(relocation.reasons, [expected]);
}

#[test]
fn a_schema_that_lets_markers_through_and_the_site_s_name_not_is_bowed_to() {
    // The marker has no colon in it; the site's port has.
    let schema = json!({"properties": {"one": {"properties": {
        "repository": {"pattern": "^[a-z0-9./]+$"}}}}});
    let schema = schema.to_string();
    let files = [CHART, VALUES, POD, ("values.schema.json", schema.as_str())];

    let (relocation, after) = moved(&files, &target(None), &RelocationOptions::default());

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Leftovers, "{:?}", relocation.proof);
    assert!(relocation.reasons[0].contains("one.repository"), "{:?}", relocation.reasons);
    assert!(after.contains("site.internal:5000/ai/org/two:2"), "{after}");
}

#[test]
fn a_template_that_fails_for_another_image_keeps_only_that_image() {
    let guard = "{{ if not (hasPrefix \"ghcr.io/\" .Values.one.repository) }}{{ fail \"only ours\" }}{{ end }}";
    let pod = format!("{}{guard}", POD.1);
    let files = [CHART, VALUES, (POD.0, pod.as_str())];

    let (relocation, _) = moved(&files, &target(None), &RelocationOptions::default());

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Leftovers, "{:?}", relocation.proof);
    assert_eq!(relocation.proof.moved.len(), 1);
    assert!(relocation.reasons[0].contains("only ours"), "{:?}", relocation.reasons);
}

const TUNED: (&str, &str) = (
    "templates/config.yaml",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndata:\n  run.conf: |\n    -first\n    {{- if eq \
     .Values.one.repository \"ghcr.io/org/one\" }}\n    -tuned\n    {{- end }}\n    {{- range .Values.more }}\n    \
     {{ . }}\n    {{- end }}\n    -last\n",
);

#[test]
fn lines_that_a_text_loses_with_another_image_are_brought_back_by_a_list_of_the_values() {
    let values = format!("{}more: [-mine]\n", VALUES.1);
    let files = [CHART, ("values.yaml", values.as_str()), POD, TUNED];

    let (relocation, after) = moved(&files, &target(None), &RelocationOptions::default());

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.proof);
    assert!(after.contains("    -first\n    -tuned\n    -mine\n    -last\n"), "{after}");
    assert!(
        relocation.overlay.contains("# restores what the chart omits"),
        "{}",
        relocation.overlay
    );
}

#[test]
fn an_image_that_changes_what_no_list_brings_back_stays_with_that_reason() {
    let config = TUNED.1.replace("range .Values.more", "range list");
    let files = [CHART, VALUES, POD, (TUNED.0, config.as_str())];

    let (relocation, _) = moved(&files, &target(None), &RelocationOptions::default());

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Leftovers, "{:?}", relocation.proof);
    let [reason] = &relocation.reasons[..] else { panic!("{:?}", relocation.reasons) };
    assert!(reason.starts_with("setting one.repository also changes app/templates/config.yaml"));
    assert_eq!(relocation.proof.moved.len(), 1);
}

#[test]
fn a_side_effect_of_one_image_leaves_alone_another_that_needs_two_values() {
    let pod = POD
        .1
        .replace("{{ .Values.two }}", "{{ .Values.two.registry }}/{{ .Values.two.repository }}:2");
    let values =
        "one: {repository: ghcr.io/org/one}\ntwo: {registry: docker.io, repository: redis}\n";
    let config = TUNED.1.replace("range .Values.more", "range list");
    let files = [CHART, ("values.yaml", values), (POD.0, &pod), (TUNED.0, &config)];

    let (relocation, after) = moved(&files, &target(None), &RelocationOptions::default());

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Leftovers, "{:?}", relocation.proof);
    assert!(after.contains("site.internal:5000/ai/library/redis:2"), "{after}");
    assert!(after.contains("image: \"ghcr.io/org/one:1\""), "{after}");
}

#[test]
fn where_one_value_changes_more_than_the_image_another_way_is_taken() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: app}\nspec:\n  containers:\n  - name: one\n    image: \
        \"{{ with .Values.one.registry }}{{ . }}/{{ end }}{{ .Values.one.repository }}:1\"\n    args: \
        [{{ .Values.one.repository | replace \"/\" \"-\" }}]\n";
    let values = "one: {registry: '', repository: org/one}\n";

    let files = [CHART, ("values.yaml", values), (POD.0, pod)];
    let (relocation, _) = moved(&files, &target(None), &RelocationOptions::default());

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.proof);
    assert!(relocation.overlay.contains("  registry: site.internal:5000/ai\n"));
    assert!(!relocation.overlay.contains("repository"), "{}", relocation.overlay);
}

const OPERATED: (&str, &str) = (
    "templates/db.yaml",
    "apiVersion: db.example/v1\nkind: Database\nmetadata: {name: app}\nspec:\n  size: 1\n{{- with \
     .Values.db.image }}\n  image: {{ . }}\n{{- end }}\n",
);
const RULE: &str = "operators:\n- name: db\n  when: {group: db.example, kind: Database, unset: [spec.image]}\n  \
    images: ['ghcr.io/db/server:9']\n  values: [db.image]\n  why: The operator has it compiled in.\n";

#[test]
fn an_image_that_an_operator_has_compiled_in_is_chosen_by_the_value_that_the_rule_names() {
    let files = [CHART, ("values.yaml", "db: {image: ''}\n"), OPERATED];
    let rules = OperatorRules::read("rules", RULE).unwrap();

    let options = RelocationOptions { rules: &rules, ..RelocationOptions::default() };
    let (relocation, after) = moved(&files, &target(None), &options);

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.proof);
    assert_eq!(relocation.proof.moved.len(), 1);
    assert!(after.contains("image: site.internal:5000/ai/db/server:9"), "{after}");
}

#[test]
fn an_image_that_an_operator_has_compiled_in_is_never_proven_where_no_value_chooses_it() {
    let files = [CHART, VALUES, POD, (OPERATED.0, "apiVersion: db.example/v1\nkind: Database\n")];
    let rules = OperatorRules::read("rules", RULE).unwrap();

    let options = RelocationOptions { rules: &rules, ..RelocationOptions::default() };
    let (relocation, _) = moved(&files, &target(None), &options);

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Leftovers, "{:?}", relocation.proof);
    let [compiled] = &relocation.proof.compiled_in[..] else { panic!("{:?}", relocation.proof) };
    assert_eq!(compiled.to.to_string(), "site.internal:5000/ai/db/server:9");
    assert!(compiled.reason().contains("db.image"), "{}", compiled.reason());
    let only_possible = OperatorRules::read("rules", &format!("{RULE}  sure: possible\n")).unwrap();
    let options = RelocationOptions { rules: &only_possible, ..RelocationOptions::default() };
    let (relocation, _) = moved(&files, &target(None), &options);
    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.proof);
    assert_eq!(relocation.proof.possible.len(), 1);
}

#[test]
fn an_image_field_that_holds_no_image_is_neither_proven_nor_in_the_way() {
    let pod = POD.1.replace("{{ .Values.two }}", "'app:%!s(<nil>)'");
    let files = [CHART, VALUES, (POD.0, pod.as_str())];

    let (relocation, _) = moved(&files, &target(None), &RelocationOptions::default());

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Leftovers, "{:?}", relocation.proof);
    assert_eq!(relocation.proof.broken[0].text, "app:%!s(<nil>)");
    assert_eq!(relocation.proof.moved.len(), 1);
}

#[test]
fn images_that_an_operator_might_start_are_chosen_where_the_lock_has_them() {
    let operator = "apiVersion: v1\nkind: Pod\nmetadata: {name: app}\nspec:\n  containers:\n  - name: one\n    \
        image: \"{{ .Values.one.repository }}:1\"\n    args:\n    - --port=1\n    {{- $pairs := list }}\n    \
        {{- range $k, $v := .Values.runtimes }}{{ $pairs = append $pairs (printf \"%s=%s\" $k $v) }}{{ end }}\n    \
        {{- if $pairs }}\n    - --runtimes={{ join \",\" $pairs }}\n    {{- end }}\n    - --more\n";
    let values = "one: {repository: ghcr.io/org/one}\nruntimes: {}\n";
    let rule = "operators:\n- name: runtimes\n  when: {container: org/one}\n  images: ['ghcr.io/ai/llama.cpp:s', \
        'vllm/vllm-openai:v1']\n  values: [runtimes.llamacpp, runtimes.vllm]\n  sure: possible\n  why: Built in.\n";
    let rules = OperatorRules::read("rules", rule).unwrap();
    let images = ["ghcr.io/org/one:1", "ghcr.io/ai/llama.cpp:s", "docker.io/vllm/vllm-openai:v1"];
    let locked = content(&images);
    let files = [CHART, ("values.yaml", values), (POD.0, operator)];

    let options =
        RelocationOptions { rules: &rules, locked: Some(&locked), ..RelocationOptions::default() };
    let (relocation, after) = moved(&files, &target(None), &options);

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.proof);
    assert_eq!(relocation.proof.moved.len(), 3);
    let site = "site.internal:5000/ai";
    let arg = format!("--runtimes=llamacpp={site}/ai/llama.cpp:s,vllm={site}/vllm/vllm-openai:v1");
    assert!(after.contains(&arg), "{after}");
}

#[test]
fn an_image_with_another_tag_than_the_lock_s_is_not_proven() {
    let all = content(&["ghcr.io/org/one:1", "ghcr.io/org/two:2"]);
    let older = content(&["ghcr.io/org/one:1", "ghcr.io/org/two:1"]);
    let files = [CHART, VALUES, POD];

    let with = |locked| RelocationOptions { locked: Some(locked), ..RelocationOptions::default() };
    let (relocation, _) = moved(&files, &target(None), &with(&all));
    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven);

    let (relocation, _) = moved(&files, &target(None), &with(&older));
    assert_eq!(relocation.proof.verdict(), ProofVerdict::Refuted);
    let missing: Vec<String> =
        relocation.proof.not_locked.iter().map(|missing| missing.image.to_string()).collect();
    assert_eq!(missing, ["ghcr.io/org/two:2"]);
}

#[test]
fn pull_secrets_and_policies_are_set_wherever_the_chart_has_values_for_them() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: {{ .Values.name }}}\nspec:\n  imagePullSecrets:\n  \
        {{- range .Values.pullSecrets }}\n  - name: {{ . }}\n  {{- end }}\n  containers:\n  - name: one\n    image: \
        \"{{ .Values.one.repository }}:1\"\n    imagePullPolicy: {{ .Values.one.pullPolicy }}\n";
    let values = "name: app\npullSecrets: []\none: {repository: ghcr.io/org/one, pullPolicy: Always}\n\
        unused: {image: {pullPolicy: Always}}\n";
    let files = [CHART, ("values.yaml", values), (POD.0, pod)];

    let options = RelocationOptions {
        pull_policy: Some(PullPolicy::IfNotPresent),
        ..RelocationOptions::default()
    };
    let (relocation, after) = moved(&files, &target(Some("site-pull")), &options);

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.proof);
    assert!(relocation.without_secret.is_empty());
    assert!(after.contains("- name: site-pull\n"), "{after}");
    assert!(after.contains("imagePullPolicy: IfNotPresent"), "{after}");
    assert!(!relocation.overlay.contains("unused"), "{}", relocation.overlay);
    let read = values::read_values("overlay", &relocation.overlay).unwrap();
    assert_eq!(read["pullSecrets"], json!(["site-pull"]));
}

#[test]
fn a_schema_that_takes_policies_only_is_no_hindrance() {
    let pod = format!("{}    imagePullPolicy: {{{{ .Values.pullPolicy }}}}\n", POD.1);
    let values = format!("{}pullPolicy: Always\nimagePullSecrets: []\n", VALUES.1);
    let schema = json!({"properties": {
        "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
        "imagePullSecrets": {"items": {"type": "string"}},
    }});
    let schema = schema.to_string();
    let files = [CHART, ("values.yaml", &values), (POD.0, &pod), ("values.schema.json", &schema)];

    let options =
        RelocationOptions { pull_policy: Some(PullPolicy::Never), ..RelocationOptions::default() };
    let (relocation, after) = moved(&files, &target(Some("site-pull")), &options);

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.proof);
    assert!(after.contains("imagePullPolicy: Never"), "{after}");
}

#[test]
fn a_chart_of_a_hundred_sub_charts_takes_no_more_renders_than_one() {
    const SUB_CHARTS: usize = 100;
    let mut files = vec![
        (CHART.0.to_owned(), CHART.1.to_owned()),
        ("values.yaml".to_owned(), "global: {imageRegistry: ''}\n".to_owned()),
    ];
    for number in 0..SUB_CHARTS {
        let registry = match number % 2 {
            0 => "{{ .Values.global.imageRegistry | default .Values.image.registry }}",
            _ => "{{ .Values.image.registry }}",
        };
        let pod = format!(
            "kind: Pod\nspec: {{containers: [{{name: c, image: \"{registry}/{{{{ .Values.image.repository }}}}:1\"}}]}}\n"
        );
        let values = format!("image: {{registry: quay.io, repository: org/app{number}}}\n");
        let folder = format!("charts/sub{number}");
        let head = format!("apiVersion: v2\nname: sub{number}\nversion: 1.0.0\n");
        files.push((format!("{folder}/Chart.yaml"), head));
        files.push((format!("{folder}/values.yaml"), values));
        files.push((format!("{folder}/templates/pod.yaml"), pod));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();

    let (relocation, _) = moved(&files, &target(None), &RelocationOptions::default());

    assert_eq!(relocation.proof.verdict(), ProofVerdict::Proven, "{:?}", relocation.proof);
    assert_eq!(relocation.proof.moved.len(), SUB_CHARTS);
    // One global registry for one half, one line each for the other.
    assert_eq!(relocation.lines.len(), 1 + SUB_CHARTS / 2);
    assert_eq!(relocation.lines[0].moves.len(), SUB_CHARTS / 2);
    assert!(relocation.renders <= 3, "{} renders", relocation.renders);
}
