//! Looks up a revision of a model on the Hub: its commit, and its files with their git ids and, for
//! LFS files, their sha256. Used when a lock is made.

use net::{Repeat, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use types::{Commit, Digest, GitId, ModelId};

use super::{Hub, quoted, refusal};
use crate::{Error, Result, near};
use types::snapshot::check_path;

/// Limit for one response: the list of thirty thousand files needs about 10 MB.
const MAX_ANSWER: u64 = 64 << 20;
/// Limit for the pages of a tree listing; the Hub returns a thousand files on each.
const MAX_PAGES: usize = 200;
/// Limit for the files that are listed. Include and exclude globs are applied afterwards, so it is
/// higher than what fits into a manifest (see [`crate::model`]).
const MAX_FILES: usize = 100_000;

/// A revision of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The commit that the revision currently points to.
    pub commit: Commit,
    /// All files, sorted by path.
    pub files: Vec<File>,
}

/// A file of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
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
struct Info {
    sha: Commit,
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
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    /// The name of the field in the response for a revision.
    sha256: Option<String>,
    /// The name of the same field in a tree listing.
    oid: Option<String>,
    size: u64,
}

/// An entry in a response of `/api/models/<id>/tree/<commit>`.
#[derive(Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    oid: GitId,
    size: u64,
    lfs: Option<Lfs>,
}

/// The response of `/api/models/<id>/refs`.
#[derive(Deserialize)]
struct Refs {
    #[serde(default)]
    branches: Vec<Ref>,
    #[serde(default)]
    tags: Vec<Ref>,
}

#[derive(Deserialize)]
struct Ref {
    name: String,
}

/// Requests the revision's info. Mirrors that give no git ids there are asked for the tree as well.
pub(super) async fn find(hub: &Hub, id: &ModelId, revision: &str) -> Result<Revision> {
    let path = format!("api/models/{id}/revision/{}?blobs=true", quoted(revision));
    let response = get(hub, id, &path).await?;
    if response.status().as_u16() == 404
        && response.header(refusal::CODE) == Some("RevisionNotFound")
    {
        // Only this one is worth more requests: the branches and tags help to find the right name.
        return Err(no_revision(hub, id, revision).await);
    }
    let response = refusal::check(&hub.base, id, response).await?;
    let info: Info = document(hub, id, response).await?;
    // `None` as soon as one file lacks its id: then the whole list comes from the tree.
    let files: Option<Result<Vec<File>>> =
        info.siblings.into_iter().map(|sibling| File::of_sibling(id, sibling)).collect();
    let mut files = match files {
        Some(files) => files?,
        None => tree(hub, id, &info.sha).await?,
    };
    // The order of the response is not specified.
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Revision { commit: info.sha, files })
}

/// Lists the files of a commit by the tree API, page by page. Stops quietly at [`MAX_PAGES`].
async fn tree(hub: &Hub, id: &ModelId, commit: &Commit) -> Result<Vec<File>> {
    let mut request = hub.request(&format!("api/models/{id}/tree/{commit}?recursive=true"))?;
    let mut files = Vec::new();
    for _ in 0..MAX_PAGES {
        let response =
            hub.client.send(&request, Repeat::Safe).await.map_err(Error::net(id.as_str()))?;
        let response = refusal::check(&hub.base, id, response).await?;
        let next = next_page(&response);
        let entries: Vec<TreeEntry> = document(hub, id, response).await?;
        // Entries of type `directory` are listed as well; `recursive` lists their content.
        for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
            files.push(File::new(id, entry.path, entry.size, entry.oid, entry.lfs)?);
        }
        match next {
            Some(next) if files.len() <= MAX_FILES => {
                request.set_path_and_query(&next).map_err(Error::net(id.as_str()))?;
            }
            _ => return Ok(files),
        }
    }
    Ok(files)
}

/// The error for a revision that does not exist, with similar branches and tags.
async fn no_revision(hub: &Hub, id: &ModelId, revision: &str) -> Error {
    let what = format!("revision {revision:?} of {id} on {}", hub.base);
    let refs = match get(hub, id, &format!("api/models/{id}/refs")).await {
        Ok(response) if response.status().is_success() => {
            document::<Refs>(hub, id, response).await.ok()
        }
        _ => None,
    };
    let names: Vec<String> = refs
        .into_iter()
        .flat_map(|refs| refs.branches.into_iter().chain(refs.tags))
        .map(|one| one.name)
        .collect();
    match near::nearest(revision, names.iter().map(String::as_str)) {
        near if near.is_empty() => Error::absent(what, &names),
        near => Error::NotFound { what, hint: format!("similar names: {}", near.join(", ")) },
    }
}

async fn get(hub: &Hub, id: &ModelId, path: &str) -> Result<Response> {
    let request = hub.request(path)?;
    hub.client.send(&request, Repeat::Safe).await.map_err(Error::net(id.as_str()))
}

async fn document<T: DeserializeOwned>(hub: &Hub, id: &ModelId, response: Response) -> Result<T> {
    let bytes = response.bytes(MAX_ANSWER).await.map_err(Error::net(id.as_str()))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::document(format!("the response of {} for {id}", hub.base), error))
}

/// The next page's address, from `Link: <…>; rel="next"` (RFC 8288).
fn next_page(response: &Response) -> Option<String> {
    let link = response.header("link")?;
    let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
    rest.contains("rel=\"next\"").then(|| target.to_owned())
}

impl File {
    /// `None` when the response has no git id or no size.
    fn of_sibling(id: &ModelId, sibling: Sibling) -> Option<Result<Self>> {
        let (size, git) = (sibling.size?, sibling.blob_id?);
        Some(Self::new(id, sibling.rfilename, size, git, sibling.lfs))
    }

    fn new(id: &ModelId, path: String, size: u64, git: GitId, lfs: Option<Lfs>) -> Result<Self> {
        check_path(&path).map_err(|reason| Error::Model {
            id: id.to_string(),
            reason: format!("the Hub lists a file {path:?}, and this path {reason}"),
        })?;
        let (size, lfs) = match lfs {
            None => (size, None),
            // The Hub's own `size` is the file's length as well, but older mirrors give there the
            // length of the pointer.
            Some(lfs) => {
                let oid = lfs.sha256.or(lfs.oid).unwrap_or_default();
                (lfs.size, Some(Digest::from_hex(&oid)?))
            }
        };
        Ok(Self { path, size, git, lfs })
    }
}
