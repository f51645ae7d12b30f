//! Looks up a revision of a model on the Hub: its commit, and its files with their git ids and, for
//! LFS files, their sha256. Used when a lock is made.

use net::{HttpResponse, RepeatPolicy};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use types::{CommitId, Digest, GitId, ModelId};

use super::client::{HubClient, quote_segment};
use super::refusal;
use crate::paging::PageReader;
use crate::{Error, Result, similar_names};
use types::snapshot::check_model_path;

/// Limit for one response: the list of thirty thousand files needs about 10 MB.
const MAX_ANSWER: u64 = 64 << 20;
/// From this number of files on the Hub may cut the list of a revision (huggingface_hub 2.4,
/// `VERY_LARGE_REPO_THRESHOLD`).
const MAX_SIBLINGS: usize = 50_000;
/// Limit for the files that are listed. Include and exclude globs are applied afterwards, so it is
/// higher than what fits into a manifest (see [`crate::look_up_model`]).
const MAX_FILES: usize = 100_000;

/// A revision of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRevision {
    /// The commit that the revision currently points to.
    pub commit: CommitId,
    /// All files, sorted by path.
    pub files: Vec<ModelRevisionFile>,
}

/// A file of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRevisionFile {
    /// Its path in the repository.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// Git's blob id: of the file, or for an LFS file of its pointer.
    pub git: GitId,
    /// The sha256 of an LFS file.
    pub lfs: Option<Digest>,
}

/// The response of `/api/models/<id>/revision/<revision>?blobs=true`.
#[derive(Deserialize)]
struct RevisionInfo {
    sha: CommitId,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

/// A file in that response; size and ids are missing on some mirrors.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<GitId>,
    lfs: Option<LfsInfo>,
}

#[derive(Deserialize)]
struct LfsInfo {
    /// The name of the field in the response for a revision.
    sha256: Option<String>,
    /// The name of the same field in a tree listing.
    oid: Option<String>,
    size: u64,
}

/// An entry in a response of `/api/models/<id>/tree/<commit>`.
#[derive(Deserialize)]
struct HubTreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    oid: GitId,
    size: u64,
    lfs: Option<LfsInfo>,
}

/// The response of `/api/models/<id>/refs`.
#[derive(Deserialize)]
struct RepositoryRefs {
    #[serde(default)]
    branches: Vec<RepositoryRef>,
    #[serde(default)]
    tags: Vec<RepositoryRef>,
}

#[derive(Deserialize)]
struct RepositoryRef {
    name: String,
}

impl HubClient {
    /// Looks up a branch, tag or commit: its commit id and its files.
    pub async fn find_revision(&self, id: &ModelId, revision: &str) -> Result<ModelRevision> {
        find_revision(self, id, revision).await
    }
}

/// Requests the revision's info. Mirrors that give no git ids there are asked for the tree as well.
async fn find_revision(hub: &HubClient, id: &ModelId, revision: &str) -> Result<ModelRevision> {
    let path = format!("api/models/{id}/revision/{}?blobs=true", quote_segment(revision));
    let response = get_path(hub, id, &path).await?;
    if response.status().as_u16() == 404
        && response.header(refusal::CODE) == Some("RevisionNotFound")
    {
        // Only this one is worth more requests: the branches and tags help to find the right name.
        return Err(revision_not_found_error(hub, id, revision).await);
    }
    let response = refusal::check_response(&hub.base, id, response).await?;
    let info: RevisionInfo = parse_response(hub, id, response).await?;
    // huggingface_hub as well takes no such list for the whole repository (`snapshot_download`).
    let is_whole = (1..=MAX_SIBLINGS).contains(&info.siblings.len());
    // `None` as soon as one file lacks its id: then the whole list comes from the tree.
    let files: Option<Result<Vec<ModelRevisionFile>>> = info
        .siblings
        .into_iter()
        .map(|sibling| ModelRevisionFile::from_sibling(id, sibling))
        .collect();
    let mut files = match files {
        Some(files) if is_whole => files?,
        _ => list_tree(hub, id, &info.sha).await?,
    };
    // The order of the response is not specified.
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(ModelRevision { commit: info.sha, files })
}

/// Lists the files of a commit by the tree API, all pages of them.
async fn list_tree(
    hub: &HubClient,
    id: &ModelId,
    commit: &CommitId,
) -> Result<Vec<ModelRevisionFile>> {
    let request = hub.build_request(&format!("api/models/{id}/tree/{commit}?recursive=true"))?;
    let mut pages = PageReader::new(&hub.client, request, &format!("the list of files of {id}"));
    let mut files = Vec::new();
    while let Some(response) = pages.request_page().await? {
        let response = refusal::check_response(&hub.base, id, response).await?;
        let entries: Vec<HubTreeEntry> = parse_response(hub, id, response).await?;
        // Entries of type `directory` are listed as well; `recursive` lists their content.
        for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
            files.push(ModelRevisionFile::new(id, entry.path, entry.size, entry.oid, entry.lfs)?);
        }
        pages.check_length(files.len(), MAX_FILES)?;
    }
    Ok(files)
}

/// The error for a revision that does not exist, with similar branches and tags.
async fn revision_not_found_error(hub: &HubClient, id: &ModelId, revision: &str) -> Error {
    let what = format!("revision {revision:?} of {id} on {}", hub.base);
    let refs = match get_path(hub, id, &format!("api/models/{id}/refs")).await {
        Ok(response) if response.status().is_success() => {
            parse_response::<RepositoryRefs>(hub, id, response).await.ok()
        }
        _ => None,
    };
    let names: Vec<String> = refs
        .into_iter()
        .flat_map(|refs| refs.branches.into_iter().chain(refs.tags))
        .map(|one| one.name)
        .collect();
    match similar_names::find_similar_names(revision, names.iter().map(String::as_str)) {
        near if near.is_empty() => Error::not_found_among(what, &names),
        near => Error::NotFound { what, hint: format!("similar names: {}", near.join(", ")) },
    }
}

async fn get_path(hub: &HubClient, id: &ModelId, path: &str) -> Result<HttpResponse> {
    let request = hub.build_request(path)?;
    hub.client.send(&request, RepeatPolicy::Safe).await.map_err(Error::from_net(id.as_str()))
}

async fn parse_response<T: DeserializeOwned>(
    hub: &HubClient,
    id: &ModelId,
    response: HttpResponse,
) -> Result<T> {
    let bytes = response.read_bytes(MAX_ANSWER).await.map_err(Error::from_net(id.as_str()))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::invalid_document(format!("the response of {} for {id}", hub.base), error)
    })
}

impl ModelRevisionFile {
    /// `None` when the response has no git id or no size.
    fn from_sibling(id: &ModelId, sibling: Sibling) -> Option<Result<Self>> {
        let (size, git) = (sibling.size?, sibling.blob_id?);
        Some(Self::new(id, sibling.rfilename, size, git, sibling.lfs))
    }

    fn new(
        id: &ModelId,
        path: String,
        size: u64,
        git: GitId,
        lfs: Option<LfsInfo>,
    ) -> Result<Self> {
        check_model_path(&path).map_err(|reason| Error::Model {
            id: id.to_string(),
            reason: format!("the Hub lists a file {path:?}, and this path {reason}"),
        })?;
        let (size, lfs) = match lfs {
            None => (size, None),
            // The Hub's own `size` is the file's length as well, but older mirrors give there the
            // length of the pointer.
            Some(lfs) => {
                let oid = lfs.sha256.or(lfs.oid).unwrap_or_default();
                (lfs.size, Some(Digest::from_sha256_hex(&oid)?))
            }
        };
        Ok(Self { path, size, git, lfs })
    }
}
