//! `cargo lint layers`: a crate depends on lower layers only, and inside a crate no files need each
//! other, so that a change is looked for above, never below (docs/ARCHITECTURE.md).

mod crates;
mod modules;

use std::error::Error;
use std::fs;
use std::path::Path;

/// Files that need each other on purpose, since what they walk nests without an end: the crate, and
/// the files as `find_cycles` names them.
const RECURSIONS: &[(&str, &[&str])] = &[
    // A custom resource has containers, whose arguments are texts, which hold documents.
    ("chart", &["find::containers", "find::custom", "find::text"]),
];

/// Checks crates and modules; the error lists all that is wrong.
pub(crate) fn check() -> Result<(), Box<dyn Error>> {
    let folder = Path::new("crates");
    let (count, mut wrong) = crates::check(folder)?;
    let mut names: Vec<_> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, std::io::Error>>()?;
    names.sort();
    for name in names {
        for ring in modules::find_cycles(&folder.join(&name).join("src"))? {
            if !RECURSIONS.iter().any(|(of, files)| *of == name && ring == *files) {
                wrong.push(format!("{name}: these files need each other: {}", ring.join(", ")));
            }
        }
    }
    if wrong.is_empty() {
        println!("layers: {count} crates, each on lower layers only, without module cycles");
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}
