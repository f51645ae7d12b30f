//! The Hugging Face Hub, asked as huggingface_hub asks it (`spec/huggingface-hub.md`): what a
//! revision is, and where each of its files comes from.

mod filter;
mod refusal;
mod revision;
mod token;

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use http::{HeaderValue, header};
use net::{Client, Mirrors, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use store::Store;
use store::progress::Progress;
use types::lock::{Blob, ModelFile};
use types::{Commit, GitId, ModelId};

pub use self::filter::Filter;
pub use self::revision::{File, Revision};
use crate::model::Snapshot;
use crate::receive::receive;
use crate::{Error, Result};

/// Where the Hub is when neither `mirrors: {hf: …}` nor `HF_ENDPOINT` says otherwise.
const ENDPOINT: &str = "https://huggingface.co";
/// Small files that are asked for at once while a lock is made.
const SMALL_FILES: usize = 4;
/// What stands in a URL as it is (Python's `quote(…, safe="")`, which huggingface_hub uses).
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The Hub, or a mirror of it.
#[derive(Clone)]
pub struct Hub {
    client: Client,
    base: String,
    token: Option<HeaderValue>,
}

impl Hub {
    /// The Hub that the configuration or `HF_ENDPOINT` names, with the token of `HF_TOKEN` or of
    /// `hf auth login`. Reads a small file.
    pub fn new(client: &Client, mirrors: &Mirrors) -> Result<Self> {
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|text| !text.is_empty());
        let endpoint = mirrors
            .service("hf", endpoint.as_deref().unwrap_or(ENDPOINT))
            .map_err(Error::net("the Hugging Face Hub"))?;
        Self::at(client, &endpoint.base, token::find().as_deref())
    }

    /// The Hub at an address, with a token or without.
    pub fn at(client: &Client, base: &str, token: Option<&str>) -> Result<Self> {
        let token = match token {
            None => None,
            Some(token) => Some(bearer(token).ok_or_else(|| Error::Refused {
                place: base.to_owned(),
                what: "all models".into(),
                reason: "the token has characters that no header may have".into(),
                next: "check HF_TOKEN, or log in again with: hf auth login".into(),
            })?),
        };
        Ok(Self { client: client.clone(), base: base.trim_end_matches('/').to_owned(), token })
    }

    /// The Hub's address.
    pub fn address(&self) -> &str {
        &self.base
    }

    /// What a branch, tag or commit is: its commit and its files.
    pub async fn revision(&self, id: &ModelId, revision: &str) -> Result<Revision> {
        revision::find(self, id, revision).await
    }

    /// A revision as a lock has it. Files outside of LFS come into the store meanwhile, since the
    /// Hub does not tell their sha256, unless `known` has it already (from an earlier lock).
    pub async fn snapshot(
        &self,
        id: &ModelId,
        revision: &str,
        filter: &Filter,
        known: &HashMap<GitId, Blob>,
        store: &Store,
        progress: &Arc<dyn Progress>,
    ) -> Result<Snapshot> {
        let found = self.revision(id, revision).await?;
        let commit = &found.commit;
        let files = stream::iter(found.files.into_iter().filter(|file| filter.takes(&file.path)))
            .map(|file| async move {
                match (file.lfs, known.get(&file.git)) {
                    (Some(digest), _) => Ok(locked(file, digest, true)),
                    (None, Some(blob)) if blob.size == file.size => {
                        Ok(locked(file, blob.digest, false))
                    }
                    (None, _) => self.small_file(id, commit, file, store, progress).await,
                }
            })
            .buffered(SMALL_FILES)
            .try_collect()
            .await?;
        let snapshot = Snapshot {
            id: id.clone(),
            commit: found.commit.clone(),
            revision: revision.to_owned(),
            files,
        };
        snapshot.put(store)?;
        Ok(snapshot)
    }

    /// The request whose answer is a file. The Hub may send it on to its CDN; the token stays
    /// behind then.
    pub fn file_request(&self, id: &ModelId, commit: &Commit, path: &str) -> Result<Request> {
        let path: Vec<String> = path.split('/').map(quoted).collect();
        self.request(&format!("{id}/resolve/{commit}/{}", path.join("/")))
    }

    async fn small_file(
        &self,
        id: &ModelId,
        commit: &Commit,
        file: File,
        store: &Store,
        progress: &Arc<dyn Progress>,
    ) -> Result<ModelFile> {
        progress.expect(file.size);
        let what = format!("{} of {id}", file.path);
        let request = self.file_request(id, commit, &file.path)?;
        let received =
            receive(&self.client, &what, request, Some(file.size), store, progress).await;
        let received = received.map_err(|error| refusal::of_file(id, error))?;
        match received.git {
            Some(actual) if actual == file.git => Ok(locked(file, received.blob.digest, false)),
            actual => Err(Error::Lie {
                server: self.base.clone(),
                what,
                expected: format!("git id {}", file.git),
                actual: actual.map_or_else(String::new, |id| id.to_string()),
            }),
        }
    }

    /// A GET below the Hub's address.
    fn request(&self, path: &str) -> Result<Request> {
        let url = format!("{}/{path}", self.base);
        let request = Request::get(&url).map_err(Error::net(&self.base))?;
        Ok(match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, token.clone()),
            None => request,
        })
    }
}

fn locked(file: File, digest: types::Digest, lfs: bool) -> ModelFile {
    ModelFile { path: file.path, size: file.size, digest, git: file.git, lfs }
}

/// One segment of a URL.
fn quoted(segment: &str) -> String {
    utf8_percent_encode(segment, KEPT).to_string()
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
