//! `cargo xtask floors`: a crate depends on lower floors only, so that there are no circles and a
//! change is looked for above, never below. The floors are those of the design, section 3.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

/// Every crate of the workspace and its floor. `None`: a tool of the developers, which may use all
/// and is used only in tests.
const FLOORS: &[(&str, Option<u8>)] = &[
    ("types", Some(0)),
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
    ("deploy", Some(3)),
    ("egress", Some(3)),
    ("operator", Some(3)),
    ("cli", Some(4)),
    ("testkit", None),
    ("xtask", None),
];

const PREFIX: &str = "gantry-";

/// Checks every manifest under `crates/`; the error lists all that is wrong.
pub(crate) fn check() -> Result<(), Box<dyn Error>> {
    let floors: BTreeMap<&str, Option<u8>> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(Path::new("crates"))? {
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
        let Some(own) = floors.get(name) else {
            wrong.push(format!("{name} has no floor: give it one in crates/xtask/src/floors.rs"));
            continue;
        };
        let dependencies = manifest.get("dependencies").and_then(|value| value.as_table());
        for dependency in dependencies.into_iter().flat_map(toml::Table::keys) {
            let Some(theirs) = floors.get(dependency.as_str()) else { continue };
            match (own, theirs) {
                (Some(own), Some(theirs)) if theirs >= own => wrong.push(format!(
                    "{name} (floor {own}) depends on {dependency} (floor {theirs}): only lower floors"
                )),
                (Some(_), None) => wrong.push(format!(
                    "{name} depends on {dependency}, which is for tests: make it a dev-dependency"
                )),
                _ => {}
            }
        }
    }
    if seen != FLOORS.len() {
        wrong.push(format!("{seen} crates found, {} have a floor", FLOORS.len()));
    }
    if wrong.is_empty() {
        println!("floors: {seen} crates, each on lower floors only");
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}
