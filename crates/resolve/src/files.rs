//! Resolves plain files (`files:`): each is copied into the store as an OCI artifact of one layer.

use types::input::Input;
use types::lock;

use crate::{Problem, World, blocking};

/// Locks all files of the input.
pub(crate) async fn resolve(
    world: &World,
    input: &Input,
    problems: &mut Vec<Problem>,
) -> Vec<lock::File> {
    let mut files = Vec::new();
    for path in &input.files {
        let (full, store) = (world.path(path), world.store.clone());
        let shown = path.display().to_string();
        match blocking(move || remote::artifact::from_path(&full, &store)).await {
            Ok(documents) => files.push(lock::File {
                file: shown,
                reference: documents.reference,
                title: documents.title,
                content: documents.content,
                manifest: documents.manifest_blob,
            }),
            Err(cause) => problems.push(Problem { thing: shown, cause }),
        }
    }
    files
}
