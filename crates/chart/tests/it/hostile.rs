//! Generated streams, charts and templates, most of them broken: the finders, the relocation and
//! the post-renderer end, never panic, and never claim a proof that does not hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};

use gantry_chart::relocate::{ProofVerdict, RelocationOptions, RelocationTarget, relocate};
use gantry_chart::{HelmChart, RenderError, find, post_render, values};
use proptest::prelude::*;

/// Fragments that lead a generated stream into the branches of the finders.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "kind: Pod\nspec:\n  containers:\n  - image: ",
            "kind: Secret\ndata:\n  a: ",
            "\n---\n",
            "kind: ConfigMap\ndata:\n  a.ini: |\n    [s]\n    image = ",
            "nginx:1",
            "ghcr.io/a/b@sha256:",
            "args: [--x-image=",
            "]\n",
            "{\"image\":",
            "}\n",
            "zq1qz",
            "zqqz",
            "zq999qz",
            "zqs0qz",
            "zqr0qzghcr.io/a/b:1",
            "imagePullSecrets: [{name: zqs0qz}]\n",
            "a/b:c/d@",
            "é",
            "image: &a x\n",
            "*a",
            "apiVersion: x.y/v1\nkind: X\nspec: {hub: h, tag: 1, image: p}\n",
            ": ",
            "\n  ",
            "|\n",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_stream_brings_the_finders_down(pieces in prop::collection::vec(piece(), 0..12)) {
        let stream = pieces.concat();
        for found in find::find_images(&stream).images {
            prop_assert!(!found.explain().is_empty());
        }
        let prefix = "site.internal:5000/ai".parse().unwrap();
        let naming = types::naming::NamingRule::HostPath;
        let target = RelocationTarget { prefix, naming, pull_secret: None };
        if let Ok(post) = post_render::post_render(&stream, &target) {
            // What was moved is not moved again.
            let again = post_render::post_render(&post.stream, &target).unwrap();
            prop_assert_eq!(again.proof.moved.len(), 0, "{}", post.stream);
        }
    }

    #[test]
    fn no_chart_and_no_renderer_bring_a_move_down(
        values_file in prop::collection::vec(piece(), 0..6),
        template in piece(),
        streams in prop::collection::vec(prop::collection::vec(piece(), 0..8), 1..5),
        refusals in prop::collection::vec(any::<bool>(), 1..5),
    ) {
        let user = values::read_values("values", &values_file.concat()).unwrap_or_default();
        let files = [
            ("Chart.yaml".to_owned(), b"name: c\nversion: 1.0.0\n".to_vec()),
            ("values.yaml".to_owned(), b"image: {registry: '', repository: a/b}\n".to_vec()),
            ("templates/x.yaml".to_owned(), template.into_bytes()),
        ];
        let chart = HelmChart::read(files).unwrap();
        let count = AtomicUsize::new(0);
        let render = |_: Option<&str>| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            if number > 0 && refusals[number % refusals.len()] {
                return Err(RenderError { message: format!("c:\n- at '/image/{number}': no") });
            }
            Ok(streams[number % streams.len()].concat())
        };
        let prefix = "site.internal:5000/ai".parse().unwrap();
        let naming = types::naming::NamingRule::Path;
        let target = RelocationTarget { prefix, naming, pull_secret: Some("s".into()) };
        if let Ok(relocation) = relocate(&chart, &user, &target, &RelocationOptions::default(), &render) {
            let is_proven = relocation.proof.verdict() == ProofVerdict::Proven;
            prop_assert!(!is_proven || relocation.proof.stayed.is_empty());
            prop_assert!(relocation.renders < 200, "{} renders", relocation.renders);
        }
    }
}

/// Fragments that lead a generated template into the branches of its reader.
fn template() -> impl Strategy<Value = String> {
    let pieces = vec![
        "{{ if ",
        "{{- with ",
        "{{ range $k, $v := ",
        "{{ else if ",
        "{{ else }}",
        "{{ end }}",
        " }}",
        "{{ define \"a\" }}",
        "{{ include \"a\" . }}",
        "{{/* ",
        " */}}",
        ".Values.a.image",
        "(",
        ")",
        "and ",
        "not ",
        "eq ",
        "\"",
        "`",
        "|",
        "$.Values",
        "index .Values \"a\" ",
        "\n",
    ];
    prop_oneof![prop::sample::select(pieces).prop_map(str::to_owned), any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_template_brings_the_inspection_down(pieces in prop::collection::vec(template(), 0..24)) {
        let files = [
            ("Chart.yaml", "name: c\nversion: 1.0.0\n".to_owned()),
            ("values.yaml", "a: {image: 'org/app:1'}\n".to_owned()),
            ("templates/a.yaml", pieces.concat()),
        ];
        let files = files.map(|(path, text)| (path.to_owned(), text.into_bytes()));
        let chart = gantry_chart::HelmChart::read(files).unwrap();
        let user = gantry_chart::values::read_values("none", "").unwrap();
        let render = |_: Option<&str>| Ok(String::new());
        let rules = gantry_chart::OperatorRules::builtin();
        let inspected = gantry_chart::inspect::inspect_chart(&chart, &user, &render, rules).unwrap();
        prop_assert!(inspected.findings.images.len() <= 1);
    }
}
