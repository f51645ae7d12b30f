//! What the subcommands share that take plain manifests on the command line: files, folders,
//! kustomizations, and standard input.

use std::path::Path;

use chart::manifest_set::{ManifestSet, ManifestText};
use types::input::ManifestSource;

use crate::environment;
use crate::error::{CommandError, Result};

/// How standard input is written as an argument.
const STDIN: &str = "-";

/// Whether an argument names manifests and not a chart.
pub(crate) fn is_manifest_argument(argument: &str) -> bool {
    argument == STDIN || resolve::is_manifest_path(Path::new(argument))
}

/// Reads the manifests that an argument names, each file on its own; a kustomization is built. `example`
/// shows how to use standard input.
pub(crate) fn read_manifest_texts(argument: &str, example: &str) -> Result<Vec<ManifestText>> {
    if argument == STDIN {
        let text = environment::read_manifests_from_stdin(example)?;
        return Ok(vec![ManifestText { name: "standard input".to_owned(), text }]);
    }
    // Paths on the command line are relative to the current folder, not to `-C`.
    let source = ManifestSource::Path(argument.to_owned());
    Ok(resolve::read_local_manifests(Path::new("."), &source)?)
}

/// Reads the manifests that arguments name as one stream, document by document as they were written.
pub(crate) fn read_manifest_stream(arguments: &[String], example: &str) -> Result<String> {
    let mut stream = String::new();
    for argument in arguments {
        for text in read_manifest_texts(argument, example)? {
            stream.push_str("---\n");
            stream.push_str(&text.text);
            stream.push('\n');
        }
    }
    Ok(stream)
}

/// Reads the manifests that arguments name as a checked and ordered set, as `gantry lock` does.
pub(crate) fn read_manifest_set(arguments: &[String], example: &str) -> Result<ManifestSet> {
    let mut texts = Vec::new();
    for argument in arguments {
        texts.extend(read_manifest_texts(argument, example)?);
    }
    ManifestSet::build(&texts).map_err(|fault| CommandError::usage_error(fault.to_string()))
}
