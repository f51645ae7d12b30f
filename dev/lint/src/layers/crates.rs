//! The layers of the crates: which may depend on which.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

/// Every crate of the workspace and its layer. `None`: a tool of the developers, which may use all
/// and is used only in tests.
const LAYERS: &[(&str, Option<u8>)] = &[
    ("types", Some(0)),
    ("html", Some(0)),
    ("store", Some(1)),
    ("net", Some(1)),
    ("remote", Some(2)),
    ("chart", Some(2)),
    ("policy", Some(2)),
    ("bundle", Some(2)),
    ("depot", Some(2)),
    ("cluster", Some(2)),
    ("resolve", Some(3)),
    ("land", Some(3)),
    ("evidence", Some(3)),
    ("deploy", Some(4)),
    ("egress", Some(5)),
    ("operator", Some(5)),
    ("cli", Some(6)),
    ("testkit", None),
    ("xtask", None),
];

const PREFIX: &str = "gantry-";

/// Checks every manifest in `folder`: the number of crates, and what is wrong.
pub(super) fn check(folder: &Path) -> Result<(usize, Vec<String>), Box<dyn Error>> {
    let layers: BTreeMap<&str, Option<u8>> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path().join("Cargo.toml");
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let manifest: toml::Table = text.parse()?;
        let name = manifest
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(|name| name.as_str())
            .and_then(|name| name.strip_prefix(PREFIX))
            .ok_or_else(|| format!("{}: the package is not called {PREFIX}…", path.display()))?;
        seen += 1;
        let Some(own) = layers.get(name) else {
            wrong
                .push(format!("{name} has no layer: give it one in dev/lint/src/layers/crates.rs"));
            continue;
        };
        let dependencies = manifest.get("dependencies").and_then(|value| value.as_table());
        for dependency in dependencies.into_iter().flat_map(toml::Table::keys) {
            let Some(theirs) = layers.get(dependency.as_str()) else { continue };
            match (own, theirs) {
                (Some(own), Some(theirs)) if theirs >= own => wrong.push(format!(
                    "{name} (layer {own}) depends on {dependency} (layer {theirs}): only lower layers"
                )),
                (Some(_), None) => wrong.push(format!(
                    "{name} depends on {dependency}, which is for tests: make it a dev-dependency"
                )),
                _ => {}
            }
        }
    }
    if seen != LAYERS.len() {
        wrong.push(format!("{seen} crates found, {} have a layer", LAYERS.len()));
    }
    Ok((seen, wrong))
}
