//! What a revision of a model is: its commit, and its files with their ids.

use net::{Repeat, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use types::{Commit, Digest, GitId, ModelId};

use super::{Hub, quoted, refusal};
use crate::{Error, Result, near};
use types::snapshot::check_path;

/// Largest answer: thirty thousand files need about 10 MB.
const MAX_ANSWER: u64 = 64 << 20;
/// Pages of a tree; the Hub gives a thousand files a page.
const MAX_PAGES: usize = 200;
/// Files of one model; see [`crate::model`] for what a manifest takes.
const MAX_FILES: usize = 100_000;

/// A revision of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The commit that the revision stands for now.
    pub commit: Commit,
    /// All files, sorted by path.
    pub files: Vec<File>,
}

/// A file of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path in the repository.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Git's id: of the file, or of the pointer of an LFS file.
    pub git: GitId,
    /// The sha256 of an LFS file.
    pub lfs: Option<Digest>,
}

#[derive(Deserialize)]
struct Info {
    sha: Commit,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

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
    /// In an info.
    sha256: Option<String>,
    /// In a tree.
    oid: Option<String>,
    size: u64,
}

#[derive(Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    oid: GitId,
    size: u64,
    lfs: Option<Lfs>,
}

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

/// Asks for the revision's info; where a mirror gives no ids in it, for the tree as well.
pub(super) async fn find(hub: &Hub, id: &ModelId, revision: &str) -> Result<Revision> {
    let path = format!("api/models/{id}/revision/{}?blobs=true", quoted(revision));
    let response = get(hub, id, &path).await?;
    if response.status().as_u16() == 404
        && response.header(refusal::CODE) == Some("RevisionNotFound")
    {
        return Err(no_revision(hub, id, revision).await);
    }
    let response = refusal::check(&hub.base, id, response).await?;
    let info: Info = document(hub, id, response).await?;
    let files: Option<Result<Vec<File>>> =
        info.siblings.into_iter().map(|sibling| File::of_sibling(id, sibling)).collect();
    let mut files = match files {
        Some(files) => files?,
        None => tree(hub, id, &info.sha).await?,
    };
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Revision { commit: info.sha, files })
}

async fn tree(hub: &Hub, id: &ModelId, commit: &Commit) -> Result<Vec<File>> {
    let mut request = hub.request(&format!("api/models/{id}/tree/{commit}?recursive=true"))?;
    let mut files = Vec::new();
    for _ in 0..MAX_PAGES {
        let response =
            hub.client.send(&request, Repeat::Safe).await.map_err(Error::net(id.as_str()))?;
        let response = refusal::check(&hub.base, id, response).await?;
        let next = next_page(&response);
        let entries: Vec<TreeEntry> = document(hub, id, response).await?;
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
        near => Error::NotFound { what, hint: format!("near it are {}", near.join(", ")) },
    }
}

async fn get(hub: &Hub, id: &ModelId, path: &str) -> Result<Response> {
    let request = hub.request(path)?;
    hub.client.send(&request, Repeat::Safe).await.map_err(Error::net(id.as_str()))
}

async fn document<T: DeserializeOwned>(hub: &Hub, id: &ModelId, response: Response) -> Result<T> {
    let bytes = response.bytes(MAX_ANSWER).await.map_err(Error::net(id.as_str()))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::document(format!("{id} as {} tells it", hub.base), error))
}

/// `Link: <…>; rel="next"` (RFC 8288).
fn next_page(response: &Response) -> Option<String> {
    let link = response.header("link")?;
    let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
    rest.contains("rel=\"next\"").then(|| target.to_owned())
}

impl File {
    /// `None` when the answer gives no ids.
    fn of_sibling(id: &ModelId, sibling: Sibling) -> Option<Result<Self>> {
        let (size, git) = (sibling.size?, sibling.blob_id?);
        Some(Self::new(id, sibling.rfilename, size, git, sibling.lfs))
    }

    fn new(id: &ModelId, path: String, size: u64, git: GitId, lfs: Option<Lfs>) -> Result<Self> {
        check_path(&path).map_err(|reason| Error::Model {
            id: id.to_string(),
            reason: format!("the Hub gives it the file {path:?}, which {reason}"),
        })?;
        let (size, lfs) = match lfs {
            None => (size, None),
            // The entry's own size is the file's too, but older mirrors give the pointer's.
            Some(lfs) => {
                let oid = lfs.sha256.or(lfs.oid).unwrap_or_default();
                (lfs.size, Some(Digest::from_hex(&oid)?))
            }
        };
        Ok(Self { path, size, git, lfs })
    }
}
