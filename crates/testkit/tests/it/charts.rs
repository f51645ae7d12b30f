//! The small charts: helm takes them, and all that they run is in the set of images.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use gantry_testkit::{charts, tools, workloads};
use regex::Regex;

/// The images of a chart as helm renders it with these values.
fn images(chart: &str, values: &[&str]) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let archive = charts::package_chart(chart, folder.path());
    let mut helm = tools::tool_command("helm");
    helm.args(["template", "test"]).arg(archive);
    for value in values {
        helm.args(["--set", value]);
    }
    let rendered = tools::run_command(&mut helm);
    let image = Regex::new(r#"(?m)^\s*image: "?([^"\n]+)"?$"#).unwrap();
    image.captures_iter(&rendered).map(|found| found[1].to_owned()).collect()
}

#[test]
fn a_small_chart_runs_images_of_the_set_under_foreign_names() {
    let found: Vec<(&str, BTreeSet<String>)> =
        charts::NAMES.iter().map(|name| (*name, images(name, &[]))).collect();

    let expected = [
        ("cache", workloads::REDIS_CACHE),
        ("llm", workloads::LLAMA_SERVER),
        ("ollama", workloads::OLLAMA),
        ("sie-like", workloads::SIE_SERVER),
        ("two-model-servers", workloads::EMBED_SERVER),
        ("phones-home", workloads::CURIOUS),
        ("quiet", workloads::QUIET),
    ];
    for (name, image) in expected {
        let (_, images) = found.iter().find(|(found, _)| *found == name).unwrap();
        assert_eq!(images.iter().collect::<Vec<_>>(), [image], "{name}");
    }
}

#[test]
fn an_umbrella_has_the_sub_charts_that_its_conditions_name() {
    let all = images("umbrella", &["sie-like.enabled=true"]);
    let one = images(
        "umbrella",
        &["llm.enabled=false", "ollama.enabled=false", "two-model-servers.enabled=false"],
    );

    assert_eq!(all.len(), 5, "{all:?}");
    assert_eq!(one.into_iter().collect::<Vec<_>>(), [workloads::REDIS_CACHE]);
}
