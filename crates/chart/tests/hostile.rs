//! Whatever stands in a stream, the finders end and never panic; the same the post-renderer, which
//! leaves alone what it cannot prove.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use gantry_chart::relocate::Target;
use gantry_chart::{find, post_render};
use proptest::prelude::*;

/// Pieces that steer a generated stream into the finders' branches.
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
        for found in find::images(&stream).images {
            prop_assert!(!found.explain().is_empty());
        }
        let prefix = "site.internal:5000/ai".parse().unwrap();
        let naming = types::naming::Naming::HostPath;
        let target = Target { prefix, naming, pull_secret: None };
        if let Ok(post) = post_render::post_render(&stream, &target) {
            // What was moved is not moved again.
            let again = post_render::post_render(&post.stream, &target).unwrap();
            prop_assert_eq!(again.proof.moved.len(), 0, "{}", post.stream);
        }
    }
}
