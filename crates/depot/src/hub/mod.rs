//! The Hugging Face endpoint: ten routes of the Hub, without redirects and never compressed, tested
//! with huggingface_hub 0.23 to 2.4, hf-hub and llama.cpp (`tests/hub.rs`).
//!
//! A repository's id has one or two segments (`gpt2`, `BAAI/bge-m3`), so a path is split at its
//! literal parts (`/resolve/`, `/tree/`…). It is split first and percent-decoded after that, since
//! a `/` in a revision is written `%2F`.

mod files;
mod info;
mod llama;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;
use types::Commit;

pub(crate) use llama::llama_manifest;

use crate::Depot;
use crate::models::Model;
use crate::respond::Hub as Problem;
use types::snapshot::Snapshot;

/// Everything below `/api/`.
pub(crate) async fn api(
    State(depot): State<Arc<Depot>>,
    RawQuery(query): RawQuery,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().strip_prefix("/api/").unwrap_or_default();
    let query = query.unwrap_or_default();
    let answer = || {
        if path == "whoami-v2" {
            return info::whoami(&headers);
        }
        let (kind, rest) = path.split_once('/').ok_or(Problem::NoSuchRoute)?;
        if !matches!(kind, "models" | "datasets" | "spaces" | "kernels") {
            return Err(Problem::NoSuchRoute);
        }
        // The depot carries models only; `RepoNotFound` is what clients show best.
        if kind != "models" {
            return Err(Problem::RepoNotFound(decode(rest)));
        }
        let parts = split(rest, ["/paths-info/", "/revision/", "/tree/"]);
        if let Some((id, "/paths-info/", rest)) = parts {
            if method != Method::POST {
                return Err(Problem::PostOnly);
            }
            return info::paths(&lookup(&depot, id, rest)?, &headers, &body);
        }
        if !matches!(method, Method::GET | Method::HEAD) {
            return Err(Problem::ReadOnly);
        }
        match parts {
            Some((id, "/revision/", rest)) => {
                return Ok(info::info(&lookup(&depot, id, rest)?, &query));
            }
            Some((id, _, rest)) => {
                let (revision, path) = rest.split_once('/').unwrap_or((rest, ""));
                return info::tree(&lookup(&depot, id, revision)?, &decode(path), &query);
            }
            None => {}
        }
        if let Some(id) = rest.strip_suffix("/refs") {
            return Ok(info::refs(model(&depot, id)?));
        }
        let model = model(&depot, rest)?;
        let revision = model.default_revision().to_owned();
        Ok(info::info(&at(model, &revision)?, &query))
    };
    answer().unwrap_or_else(IntoResponse::into_response)
}

/// Everything else: `/{id}/resolve/{rev}/{path}` and `/{id}/raw/{rev}/{path}`.
pub(crate) async fn files(
    State(depot): State<Arc<Depot>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let path = uri.path().trim_start_matches('/');
    let answer = async {
        if !matches!(method, Method::GET | Method::HEAD) {
            return Err(Problem::ReadOnly);
        }
        for prefix in ["datasets/", "spaces/", "kernels/"] {
            if let Some(rest) = path.strip_prefix(prefix) {
                let id = split(rest, BYTES).map_or(rest, |(id, _, _)| id);
                return Err(Problem::RepoNotFound(decode(id)));
            }
        }
        let (id, part, rest) = split(path, BYTES).ok_or(Problem::NoSuchRoute)?;
        let (revision, file) = rest.split_once('/').ok_or(Problem::NoSuchRoute)?;
        let found = lookup(&depot, id, revision)?;
        let file = decode(file);
        match part {
            "/raw/" => files::raw(&depot, &found, &file, &method, &headers).await,
            _ => files::resolve(&depot, &found, &file, &method, &headers).await,
        }
    };
    answer.await.unwrap_or_else(IntoResponse::into_response)
}

/// The parts of a path that request the content of a file.
const BYTES: [&str; 2] = ["/resolve/", "/raw/"];

/// A model at a commit.
struct Found<'a> {
    model: &'a Model,
    commit: &'a Commit,
    snapshot: &'a Snapshot,
}

/// Splits a path at the first of the parts: what is before it, the part, and what is after it. A
/// later one belongs to the path of a file.
fn split<'a, const N: usize>(
    path: &'a str,
    parts: [&'static str; N],
) -> Option<(&'a str, &'static str, &'a str)> {
    let found = parts.iter().filter_map(|part| Some((path.find(part)?, *part)));
    let (start, part) = found.min()?;
    Some((&path[..start], part, &path[start + part.len()..]))
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn model<'a>(depot: &'a Depot, id: &str) -> Result<&'a Model, Problem> {
    let id = decode(id);
    depot.models.get(&id).ok_or(Problem::RepoNotFound(id))
}

fn lookup<'a>(depot: &'a Depot, id: &str, revision: &str) -> Result<Found<'a>, Problem> {
    at(model(depot, id)?, &decode(revision))
}

fn at<'a>(model: &'a Model, revision: &str) -> Result<Found<'a>, Problem> {
    match model.at(revision) {
        Some((commit, snapshot)) => Ok(Found { model, commit, snapshot }),
        None => Err(Problem::RevisionNotFound {
            id: model.id.clone(),
            revision: revision.to_owned(),
            known: model.names(),
        }),
    }
}
