//! Takes a snapshot of a model: its files as a lock describes them.

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use store::Store;
use store::progress::Progress;
use types::lock::{Blob, LockedModelFile};
use types::{CommitId, GitId, ModelId};

use super::client::HubClient;
use super::filter::ModelFileFilter;
use super::refusal;
use super::revision::ModelRevisionFile;
use crate::model::LockedSnapshot;
use crate::receive::receive_blob;
use crate::{Error, Result};

/// Small files that are downloaded at the same time while a lock is made.
const SMALL_FILES: usize = 4;

impl HubClient {
    /// Looks up a revision as a lock describes it. The Hub gives the sha256 of LFS files only;
    /// other files, which are small, are downloaded into the store to compute it, unless `known`
    /// has it from an earlier lock, or an earlier lookup has left the file in the store. Writes the snapshot's manifest to the store as well.
    pub async fn take_snapshot(
        &self,
        id: &ModelId,
        revision: &str,
        filter: &ModelFileFilter,
        known: &HashMap<GitId, Blob>,
        store: &Store,
        progress: &Arc<dyn Progress>,
    ) -> Result<LockedSnapshot> {
        let found = self.find_revision(id, revision).await?;
        let commit = &found.commit;
        let files = stream::iter(found.files.into_iter().filter(|file| filter.accepts(&file.path)))
            .map(|file| async move {
                match (file.lfs, known.get(&file.git)) {
                    (Some(digest), _) => Ok(to_model_file(file, digest, true)),
                    // The git id covers the content, so the earlier lock's sha256 is still right.
                    (None, Some(blob)) if blob.size == file.size => {
                        Ok(to_model_file(file, blob.digest, false))
                    }
                    (None, _) => self.receive_small_file(id, commit, file, store, progress).await,
                }
            })
            // In order: the files stay sorted by path.
            .buffered(SMALL_FILES)
            .try_collect()
            .await?;
        let snapshot = LockedSnapshot {
            id: id.clone(),
            commit: found.commit.clone(),
            revision: revision.to_owned(),
            files,
        };
        snapshot.write_to_store(store)?;
        Ok(snapshot)
    }

    /// Downloads a file outside of LFS, and checks it against the git id that the Hub gave.
    async fn receive_small_file(
        &self,
        id: &ModelId,
        commit: &CommitId,
        file: ModelRevisionFile,
        store: &Store,
        progress: &Arc<dyn Progress>,
    ) -> Result<LockedModelFile> {
        // A git id covers the content, whichever model and revision it is found in.
        let lookup = format!("git {}", file.git);
        if let Some((digest, size)) = store.find_lookup(&lookup)
            && size == file.size
        {
            return Ok(to_model_file(file, digest, false));
        }
        progress.expect_bytes(file.size);
        let what = format!("{} of {id}", file.path);
        let request = self.file_request(id, commit, &file.path)?;
        let received =
            receive_blob(&self.client, &what, request, Some(file.size), store, progress).await;
        let received = received.map_err(|error| refusal::explain_file_refusal(id, error))?;
        match received.git {
            Some(actual) if actual == file.git => {
                store.remember_lookup(&lookup, &received.blob.digest, received.blob.size);
                Ok(to_model_file(file, received.blob.digest, false))
            }
            actual => Err(Error::DigestMismatch {
                server: self.base.clone(),
                what,
                expected: format!("git id {}", file.git),
                actual: actual.map_or_else(String::new, |id| id.to_string()),
            }),
        }
    }
}

fn to_model_file(file: ModelRevisionFile, digest: types::Digest, lfs: bool) -> LockedModelFile {
    LockedModelFile { path: file.path, size: file.size, digest, git: file.git, lfs }
}
