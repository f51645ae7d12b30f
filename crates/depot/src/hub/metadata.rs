//! The metadata of the Hugging Face endpoint: model info, tree, paths-info, refs, whoami.

use std::collections::BTreeSet;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::model_at_commit::ModelAtCommit;
use crate::error_response::HubError as Problem;
use crate::served_models::ServedModel;
use types::snapshot::{HubStorage, SnapshotFile};

/// The time of everything: a depot knows none, and clients fail without one that they can parse.
const NO_TIME: &str = "1970-01-01T00:00:00.000Z";
/// The most paths in one request. (huggingface_hub sends batches of some hundred.)
const MOST_PATHS: usize = 20_000;

/// The answer to a paths-info request whose body cannot be read.
const NOT_PATHS: &str = r#"the body must be JSON like {"paths": ["config.json"]}"#;

/// `GET /api/models/{id}[/revision/{rev}]?blobs=`: what clients ask first, with the list of files.
pub(super) fn answer_model_info(found: &ModelAtCommit<'_>, query: &str) -> Response {
    let with_blobs = is_query_flag_set(query, "blobs");
    let siblings: Vec<Value> = found
        .snapshot
        .files
        .iter()
        .map(|(path, file)| {
            let mut sibling = json!({ "rfilename": path });
            if with_blobs {
                sibling["size"] = json!(file.size);
                sibling["blobId"] = json!(file.git);
                if file.storage == HubStorage::Lfs {
                    sibling["lfs"] = json!({
                        "sha256": file.digest.hex(),
                        "size": file.size,
                        "pointerSize": file.lfs_pointer().len(),
                    });
                }
            }
            sibling
        })
        .collect();
    let id = &found.model.id;
    let mut answer = json!({
        // The Hub has a 24-digit database id here; any stable one of this form does.
        "_id": &found.commit.as_str()[..24],
        "id": id,
        "modelId": id,
        "sha": found.commit,
        "lastModified": NO_TIME,
        "createdAt": NO_TIME,
        "private": false,
        "gated": false,
        "disabled": false,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": siblings,
        "spaces": [],
    });
    if let Some((author, _)) = id.split_once('/') {
        answer["author"] = json!(author);
    }
    Json(answer).into_response()
}

/// `GET /api/models/{id}/tree/{rev}[/path]?recursive=`. Everything is on one page, since llama.cpp
/// does not follow links to further pages.
pub(super) fn answer_tree(
    found: &ModelAtCommit<'_>,
    path: &str,
    query: &str,
) -> Result<Response, Problem> {
    let path = path.trim_matches('/');
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let mut folders = BTreeSet::new();
    let mut entries = Vec::new();
    let is_recursive = is_query_flag_set(query, "recursive");
    for (name, file) in &found.snapshot.files {
        let Some(rest) = name.strip_prefix(&prefix) else { continue };
        // Without its last part, the path of a file names the folders that it is in.
        let mut parts: Vec<&str> = rest.split('/').collect();
        parts.pop();
        let depth = if is_recursive { parts.len() } else { parts.len().min(1) };
        for end in 1..=depth {
            folders.insert(format!("{prefix}{}", parts[..end].join("/")));
        }
        if is_recursive || parts.is_empty() {
            entries.push(file_entry(name, file));
        }
    }
    // Nothing is below the path: it may be a file itself.
    if entries.is_empty() && folders.is_empty() && !path.is_empty() {
        return match found.snapshot.files.get(path) {
            Some(file) => Ok(Json(vec![file_entry(path, file)]).into_response()),
            None => Err(Problem::EntryNotFound {
                id: found.model.id.clone(),
                path: path.to_owned(),
                commit: found.commit.to_string(),
            }),
        };
    }
    let mut all: Vec<Value> = folders.iter().map(|folder| folder_entry(folder)).collect();
    all.extend(entries);
    Ok(Json(all).into_response())
}

/// `POST /api/models/{id}/paths-info/{rev}`: the body is a form (huggingface_hub) or JSON (hf-hub).
pub(super) fn answer_paths_info(
    found: &ModelAtCommit<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct PathsInfoRequest {
        paths: Vec<String>,
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let asked = if content_type.is_some_and(|text| text.starts_with("application/json")) {
        let asked: PathsInfoRequest =
            serde_json::from_slice(body).map_err(|_| Problem::BadRequest(NOT_PATHS.to_owned()))?;
        asked.paths
    } else {
        let form = url::form_urlencoded::parse(body);
        form.filter(|(key, _)| key == "paths").map(|(_, value)| value.into_owned()).collect()
    };
    if asked.len() > MOST_PATHS {
        return Err(Problem::BadRequest(format!("more than {MOST_PATHS} paths")));
    }
    let files = &found.snapshot.files;
    let entries: Vec<Value> = asked
        .iter()
        .filter_map(|path| {
            let path = path.trim_matches('/');
            let prefix = format!("{path}/");
            match files.get(path) {
                Some(file) => Some(file_entry(path, file)),
                // The files are sorted: if any is below the folder, it is the next one.
                None if files.range(prefix.clone()..).next()?.0.starts_with(&prefix) => {
                    Some(folder_entry(path))
                }
                None => None,
            }
        })
        .collect();
    Ok(Json(entries).into_response())
}

/// `GET /api/models/{id}/refs`: all locked branches and tags are answered as branches.
pub(super) fn answer_refs(model: &ServedModel) -> Response {
    let branches: Vec<Value> = model
        .revisions
        .iter()
        .map(|(name, commit)| {
            json!({ "name": name, "ref": format!("refs/heads/{name}"), "targetCommit": commit })
        })
        .collect();
    Json(json!({ "branches": branches, "tags": [], "converts": [] })).into_response()
}

/// `GET /api/whoami-v2`: the check of `hf auth login`. The depot needs no token and accepts any.
pub(super) fn answer_whoami(headers: &HeaderMap) -> Result<Response, Problem> {
    if !headers.contains_key(header::AUTHORIZATION) {
        return Err(Problem::NotLoggedIn);
    }
    let answer = json!({
        "type": "user",
        "id": "depot",
        "name": "depot",
        "fullname": "Gantry depot",
        "isPro": false,
        "orgs": [],
        "auth": { "type": "access_token", "accessToken": { "displayName": "depot", "role": "read" } },
    });
    Ok(Json(answer).into_response())
}

/// A file, in the form of the Hub's tree listings.
fn file_entry(path: &str, file: &SnapshotFile) -> Value {
    let mut entry = json!({ "type": "file", "oid": file.git, "size": file.size, "path": path });
    if file.storage == HubStorage::Lfs {
        entry["lfs"] = json!({
            "oid": file.digest.hex(),
            "size": file.size,
            "pointerSize": file.lfs_pointer().len(),
        });
    }
    entry
}

/// A folder. The git id of its tree is not known here; clients only need something of the same
/// form.
fn folder_entry(path: &str) -> Value {
    let oid = &store::hash::sha256(path.as_bytes()).hex()[..40];
    json!({ "type": "directory", "oid": oid, "size": 0, "path": path })
}

/// Whether a query parameter is set. Clients write booleans as `True` (Python), `true` or `1`.
fn is_query_flag_set(query: &str, name: &str) -> bool {
    url::form_urlencoded::parse(query.as_bytes())
        .any(|(key, value)| key == name && matches!(&*value, "True" | "true" | "1"))
}
