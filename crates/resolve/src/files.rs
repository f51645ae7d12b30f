//! Resolves plain files (`files:`): each is copied into the store as an OCI artifact of one layer.

use types::input::Input;
use types::lock;

use crate::ResolveProblem;
use crate::context::{ResolveContext, run_blocking};

/// Locks all files of the input.
pub(crate) async fn resolve_files(
    world: &ResolveContext,
    input: &Input,
    problems: &mut Vec<ResolveProblem>,
) -> Vec<lock::LockedFile> {
    let mut files = Vec::new();
    for path in &input.files {
        let (full, store) = (world.resolve_path(path), world.store.clone());
        let shown = path.display().to_string();
        match run_blocking(move || remote::artifact::import_file(&full, &store)).await {
            Ok(documents) => files.push(lock::LockedFile {
                file: shown,
                reference: documents.reference,
                title: documents.title,
                content: documents.content,
                manifest: documents.manifest_blob,
            }),
            Err(cause) => problems.push(ResolveProblem { thing: shown, cause }),
        }
    }
    files
}
