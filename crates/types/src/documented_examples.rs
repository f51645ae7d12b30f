//! The examples in the documentation are valid: every YAML block in `docs/` that is a gantry.yaml, a
//! site.yaml or a config.yaml is read by the parser of that file. Blocks that show a part of a file get
//! the required keys that they lack.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::config::UserConfig;
use crate::input::Input;
use crate::site::Site;

/// The least number of examples that have to be found, so that a change of how pages are written does
/// not switch the test off.
const FEWEST_EXAMPLES: usize = 25;

/// A file of which the documentation shows examples.
#[derive(Clone, Copy)]
enum DocumentedFile {
    Input,
    Site,
    Config,
}

/// All of them, with the comment that an example begins with and the page of whose blocks none does.
const FILES: [(DocumentedFile, &str, &str); 3] = [
    (DocumentedFile::Input, "# gantry.yaml", "reference/gantry-yaml.md"),
    (DocumentedFile::Site, "# site.yaml", "formats/site.md"),
    (DocumentedFile::Config, "# config.yaml", "reference/config.md"),
];

#[test]
fn every_example_in_the_documentation_is_valid() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut pages = Vec::new();
    list_pages(&docs, &mut pages);
    let mut count = 0;
    let mut wrong = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for (line, example) in list_yaml_blocks(&text) {
            let Some(file) = recognise_file(&page, &example) else { continue };
            count += 1;
            if let Err(error) = read_example(file, &example) {
                wrong.push(format!("{}, block at line {line}: {error}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= FEWEST_EXAMPLES, "only {count} examples were found");
}

fn list_pages(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list_pages(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// The blocks of YAML of a page, each with the number of its first line.
fn list_yaml_blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        // A block in a list is indented as far as its fence.
        let Some(indent) = line.find("```yaml").filter(|at| line[..*at].trim().is_empty()) else {
            continue;
        };
        let block: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| line.trim() != "```")
            .map(|line| line.get(indent..).unwrap_or_default())
            .collect();
        blocks.push((number + 1, block.join("\n") + "\n"));
    }
    blocks
}

/// Which file a block is an example of, if it is one.
fn recognise_file(page: &Path, example: &str) -> Option<DocumentedFile> {
    let file = FILES
        .iter()
        .find(|(_, comment, reference)| page.ends_with(reference) || example.starts_with(comment));
    if let Some((file, ..)) = file {
        return Some(*file);
    }
    let is_whole = example.starts_with("version: 1\n");
    is_whole.then(|| match has_key(example, "registry") {
        true => DocumentedFile::Site,
        false => DocumentedFile::Input,
    })
}

fn read_example(file: DocumentedFile, example: &str) -> Result<()> {
    let complete = |required: &[(&str, &str)]| {
        let missing = required.iter().filter(|(key, _)| !has_key(example, key));
        let lines = missing.map(|(key, value)| format!("{key}: {value}\n"));
        lines.fold(example.to_owned(), |text, line| text + &line)
    };
    match file {
        DocumentedFile::Input => {
            let text = complete(&[("version", "1"), ("name", "example")]);
            Input::parse("gantry.yaml", &text).map(drop)
        }
        DocumentedFile::Site => {
            let text = complete(&[("version", "1"), ("registry", "{url: registry.internal:5000}")]);
            Site::parse("site.yaml", &text).map(drop)
        }
        DocumentedFile::Config => UserConfig::parse("config.yaml", example).map(drop),
    }
}

/// Whether an example has this key at its top level.
fn has_key(example: &str, key: &str) -> bool {
    example.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))
}
