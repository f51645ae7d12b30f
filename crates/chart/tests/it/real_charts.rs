//! Relocates real charts with helm, and checks each proof with a plain text scan that shares no
//! code with the crate, for what a false proof would have hidden.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::support;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use base64::Engine as _;
use gantry_chart::relocate::{
    ProofVerdict, Relocation, RelocationOptions, RelocationTarget, relocate,
};
use gantry_chart::{find, post_render, values};
use regex::Regex;
use types::naming::NamingRule;

const SITE: &str = "registry.internal:5000/ai";

fn target(naming: NamingRule) -> RelocationTarget {
    RelocationTarget {
        prefix: SITE.parse().unwrap(),
        naming,
        pull_secret: Some("site-pull".into()),
    }
}

/// Every word of a stream that looks like `host/path:tag` or `host/path@digest`, or comes after
/// `image:`, and is not the site's. Secrets are decoded; URLs and comments are skipped.
fn plain_scan(stream: &str) -> BTreeSet<String> {
    let base64_word =
        Regex::new(r"(?m)^\s+[\w.-]+: \x22?([A-Za-z0-9+/]{24,}={0,2})\x22?$").unwrap();
    let mut text = stream.to_owned();
    for captures in base64_word.captures_iter(stream) {
        let decoded = base64::engine::general_purpose::STANDARD.decode(&captures[1]);
        if let Some(decoded) = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
            text.push('\n');
            text.push_str(&decoded);
        }
    }
    let full = Regex::new(concat!(
        r"(?:^|[\s\x22'=,\[])",
        r"((?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?/[a-z0-9._/-]+(?::[A-Za-z0-9_][\w.-]*|@sha256:[0-9a-f]{64}))"
    ))
    .unwrap();
    let field = Regex::new(
        r#"(?m)^\s*(?:- )?image: ["']?([A-Za-z0-9][^\s"'{}]*/?[^\s"'{}]*:[^\s"'{}]+)["']?\s*$"#,
    )
    .unwrap();
    // Schemas of CRDs are documentation.
    let documents = text.split("\n---").filter(|d| !d.contains("kind: CustomResourceDefinition"));
    let mut outside = BTreeSet::new();
    for document in documents {
        for line in document.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let found = full.captures_iter(line).chain(field.captures_iter(line));
            outside.extend(found.map(|c| c[1].to_owned()).filter(|word| !word.starts_with(SITE)));
        }
    }
    outside
}

/// A chart that was relocated.
struct Run {
    archive: PathBuf,
    naming: NamingRule,
    name: String,
    before: String,
    relocation: Relocation,
    after: String,
}

/// All charts, relocated once for all tests of this file, as many at a time as the machine has
/// cores.
fn runs() -> &'static [Run] {
    static RUNS: OnceLock<Vec<Run>> = OnceLock::new();
    RUNS.get_or_init(|| {
        let archives = support::archives();
        let next = AtomicUsize::new(0);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut runs: Vec<Run> = std::thread::scope(|scope| {
            let work = || {
                let mut own = Vec::new();
                while let Some(archive) = archives.get(next.fetch_add(1, Ordering::Relaxed)) {
                    own.push(moved(archive, NamingRule::Path));
                }
                own
            };
            let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        runs.sort_by(|a, b| a.archive.cmp(&b.archive));
        runs
    })
}

fn moved(archive: &Path, naming: NamingRule) -> Run {
    let chart = support::read(archive);
    let own = support::values_file(&chart);
    let user = std::fs::read_to_string(&own).unwrap_or_default();
    let user = values::read_values("values", &user).unwrap();
    let first = Mutex::new(None);
    let render = |overlay: Option<&str>| {
        let stream = support::helm(archive, &own, overlay)?;
        if overlay.is_none() {
            first.lock().unwrap().get_or_insert_with(|| stream.clone());
        }
        Ok(stream)
    };
    let relocation =
        relocate(&chart, &user, &target(naming), &RelocationOptions::default(), &render).unwrap();
    let after = render(Some(&relocation.overlay)).unwrap();
    let before = first.lock().unwrap().take().unwrap();
    let (archive, name) = (archive.to_path_buf(), chart.name().to_owned());
    Run { archive, naming, name, before, relocation, after }
}

/// Fails if a plain scan of the render with the overlay finds an image that the proof does not
/// report.
fn assert_not_hidden(Run { name, relocation, after, .. }: &Run) {
    assert_ne!(relocation.proof.verdict(), ProofVerdict::Refuted, "{name}: {:?}", relocation.proof);
    let known: BTreeSet<String> =
        relocation.proof.stayed.iter().map(|stayed| stayed.from.to_string()).collect();
    let hidden: Vec<String> = plain_scan(after)
        .into_iter()
        .filter(|word| {
            word.parse::<types::Reference>().is_ok_and(|r| !known.contains(&r.to_string()))
        })
        .collect();
    assert!(hidden.is_empty(), "{name}: said to be moved and is not: {hidden:?}");
}

#[test]
fn no_proof_is_refuted_by_a_plain_scan_of_what_is_rendered_with_the_overlay() {
    runs().iter().for_each(assert_not_hidden);
}

#[test]
fn nor_is_one_where_each_registry_has_a_folder_or_names_are_cut_to_their_last_word() {
    // Charts with images of several registries below one global, in texts, and in Secrets.
    for name in ["kube-prometheus-stack", "jupyterhub", "redis"] {
        let run = runs().iter().find(|run| run.name == name).expect("the chart is there");
        for naming in [NamingRule::HostPath, NamingRule::Name] {
            let other = moved(&run.archive, naming);
            assert_not_hidden(&other);
            let (all, same) = (&other.relocation.proof.moved, &run.relocation.proof.moved);
            assert_eq!(all.len(), same.len(), "{name} {naming:?}");
        }
    }
}

#[test]
fn every_image_that_a_plain_scan_sees_is_found() {
    for Run { name, before, .. } in runs() {
        let found: BTreeSet<String> = find::find_images(before)
            .images
            .iter()
            .map(|found| found.reference.to_string())
            .collect();
        let seen = plain_scan(before);
        assert!(!seen.is_empty(), "{name}: the scan is blind");
        for word in seen {
            let Ok(reference) = word.parse::<types::Reference>() else { continue };
            assert!(found.contains(&reference.to_string()), "{name}: {word} was missed");
        }
    }
}

#[test]
fn what_only_the_templates_say_is_left_over_and_everything_else_moves() {
    for Run { name, relocation, .. } in runs() {
        let stayed: BTreeSet<&str> =
            relocation.proof.stayed.iter().map(|stayed| stayed.from.repository()).collect();
        let expected: &[&str] = match name.as_str() {
            "onyx" => &["bitnami/kubectl", "curlimages/curl"],
            "sie-cluster" => &["library/alpine", "pause"],
            _ => &[],
        };
        assert_eq!(stayed, expected.iter().copied().collect(), "{name}: {:?}", relocation.reasons);
    }
}

#[test]
fn few_renders_are_enough() {
    // The chart as it is and marked, then the overlay, and once more as it is if something differs
    // with each render; values for images that are still open are looked for in up to three more.
    for Run { name, relocation, .. } in runs() {
        let most = if relocation.proof.stayed.is_empty() { 4 } else { 6 };
        assert!(relocation.renders <= most, "{name}: {} renders", relocation.renders);
    }
}

#[test]
fn the_post_renderer_moves_all_that_is_left() {
    for Run { name, after, .. } in runs() {
        let post = post_render::post_render(after, &target(NamingRule::Path)).unwrap();
        assert_eq!(post.proof.verdict(), ProofVerdict::Proven, "{name}: {:?}", post.proof);
        assert!(plain_scan(&post.stream).is_empty(), "{name}: {:?}", plain_scan(&post.stream));
    }
}

#[test]
fn the_same_chart_and_values_give_the_same_overlay() {
    for name in ["onyx", "redis"] {
        let run = runs().iter().find(|run| run.name == name).expect("the chart is there");
        assert_eq!(moved(&run.archive, run.naming).relocation.overlay, run.relocation.overlay);
    }
}
