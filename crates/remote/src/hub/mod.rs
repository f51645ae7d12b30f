//! A client of the Hugging Face Hub. It sends the requests that the Python library huggingface_hub
//! (2.4) sends, so it also works with mirrors that are made for that library: which commit a
//! revision is, which files it has, and where each of them is downloaded from.

mod filter;
mod refusal;
mod revision;
mod token;

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use http::{HeaderValue, header};
use net::{Client, HttpRequest, Mirrors};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use store::Store;
use store::progress::Progress;
use types::lock::{Blob, LockedModelFile};
use types::{CommitId, GitId, ModelId};

pub use self::filter::ModelFileFilter;
pub use self::revision::{ModelRevision, ModelRevisionFile};
use crate::model::LockedSnapshot;
use crate::receive::receive_blob;
use crate::{Error, Result};

/// The Hub's address, unless `mirrors: {hf: …}` or `HF_ENDPOINT` give another one.
const ENDPOINT: &str = "https://huggingface.co";
/// Small files that are downloaded at the same time while a lock is made.
const SMALL_FILES: usize = 4;
/// Characters that are not escaped in a URL (Python's `quote(…, safe="")`, which huggingface_hub
/// uses).
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A client of the Hub or of a mirror.
#[derive(Clone)]
pub struct HubClient {
    client: Client,
    base: String,
    token: Option<HeaderValue>,
}

impl HubClient {
    /// A client for the address that the configuration or `HF_ENDPOINT` gives, with the token from
    /// `HF_TOKEN` or from the file that `hf auth login` wrote.
    pub fn new(client: &Client, mirrors: &Mirrors) -> Result<Self> {
        // An empty variable counts as unset.
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|text| !text.is_empty());
        let endpoint = mirrors
            .service_endpoint("hf", endpoint.as_deref().unwrap_or(ENDPOINT))
            .map_err(Error::from_net("the Hugging Face Hub"))?;
        Self::at_address(client, &endpoint.base, token::find_token().as_deref())
    }

    /// A client for the Hub at this address. Fails when the token cannot be sent in a header.
    pub fn at_address(client: &Client, base: &str, token: Option<&str>) -> Result<Self> {
        let token = match token {
            None => None,
            Some(token) => Some(bearer_header(token).ok_or_else(|| Error::AccessRefused {
                place: base.to_owned(),
                what: "all models".into(),
                reason:
                    "the token contains characters that are not allowed in an HTTP header".into(),
                next: "check HF_TOKEN, or log in again with: hf auth login".into(),
            })?),
        };
        Ok(Self { client: client.clone(), base: base.trim_end_matches('/').to_owned(), token })
    }

    /// The Hub's address.
    pub fn address(&self) -> &str {
        &self.base
    }

    /// Looks up a branch, tag or commit: its commit id and its files.
    pub async fn find_revision(&self, id: &ModelId, revision: &str) -> Result<ModelRevision> {
        revision::find_revision(self, id, revision).await
    }

    /// Looks up a revision as a lock describes it. The Hub gives the sha256 of LFS files only;
    /// other files, which are small, are downloaded into the store to compute it, unless `known`
    /// has it from an earlier lock. Writes the snapshot's manifest to the store as well.
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

    /// The GET request for a file. The Hub may redirect it to its CDN; the client does not send the
    /// token there.
    pub fn file_request(&self, id: &ModelId, commit: &CommitId, path: &str) -> Result<HttpRequest> {
        let path: Vec<String> = path.split('/').map(quote_segment).collect();
        self.build_request(&format!("{id}/resolve/{commit}/{}", path.join("/")))
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
        progress.expect_bytes(file.size);
        let what = format!("{} of {id}", file.path);
        let request = self.file_request(id, commit, &file.path)?;
        let received =
            receive_blob(&self.client, &what, request, Some(file.size), store, progress).await;
        let received = received.map_err(|error| refusal::explain_file_refusal(id, error))?;
        match received.git {
            Some(actual) if actual == file.git => {
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

    /// A GET request for a path below the Hub's address, with the token.
    fn build_request(&self, path: &str) -> Result<HttpRequest> {
        let url = format!("{}/{path}", self.base);
        let request = HttpRequest::get(&url).map_err(Error::from_net(&self.base))?;
        Ok(match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, token.clone()),
            None => request,
        })
    }
}

fn to_model_file(file: ModelRevisionFile, digest: types::Digest, lfs: bool) -> LockedModelFile {
    LockedModelFile { path: file.path, size: file.size, digest, git: file.git, lfs }
}

/// Escapes one segment of a URL's path.
fn quote_segment(segment: &str) -> String {
    utf8_percent_encode(segment, KEPT).to_string()
}

fn bearer_header(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    // Keeps the token out of debug output of requests.
    value.set_sensitive(true);
    Some(value)
}
