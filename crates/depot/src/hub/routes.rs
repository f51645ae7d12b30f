//! The routes of the Hub: takes a path apart, and finds the model and the revision that it names.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;

use super::model_at_commit::ModelAtCommit;
use super::{files, metadata};
use crate::Depot;
use crate::error_response::HubError as Problem;
use crate::served_models::ServedModel;

/// Everything below `/api/`.
pub(crate) async fn handle_api(
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
            return metadata::answer_whoami(&headers);
        }
        let (kind, rest) = path.split_once('/').ok_or(Problem::NoSuchRoute)?;
        if !matches!(kind, "models" | "datasets" | "spaces" | "kernels") {
            return Err(Problem::NoSuchRoute);
        }
        // The depot carries models only; `RepoNotFound` is what clients show best.
        if kind != "models" {
            return Err(Problem::RepoNotFound(decode_percent(rest)));
        }
        let parts = split_path(rest, ["/paths-info/", "/revision/", "/tree/"]);
        if let Some((id, "/paths-info/", rest)) = parts {
            if method != Method::POST {
                return Err(Problem::PostOnly);
            }
            return metadata::answer_paths_info(
                &find_model_at_revision(&depot, id, rest)?,
                &headers,
                &body,
            );
        }
        if !matches!(method, Method::GET | Method::HEAD) {
            return Err(Problem::ReadOnly);
        }
        match parts {
            Some((id, "/revision/", rest)) => {
                return Ok(metadata::answer_model_info(
                    &find_model_at_revision(&depot, id, rest)?,
                    &query,
                ));
            }
            Some((id, _, rest)) => {
                let (revision, path) = rest.split_once('/').unwrap_or((rest, ""));
                return metadata::answer_tree(
                    &find_model_at_revision(&depot, id, revision)?,
                    &decode_percent(path),
                    &query,
                );
            }
            None => {}
        }
        if let Some(id) = rest.strip_suffix("/refs") {
            return Ok(metadata::answer_refs(find_model(&depot, id)?));
        }
        let model = find_model(&depot, rest)?;
        let revision = model.default_revision().to_owned();
        Ok(metadata::answer_model_info(&resolve_revision(&depot, model, &revision)?, &query))
    };
    answer().unwrap_or_else(IntoResponse::into_response)
}

/// Everything else: `/{id}/resolve/{rev}/{path}` and `/{id}/raw/{rev}/{path}`.
pub(crate) async fn handle_files(
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
                let id = split_path(rest, BYTES).map_or(rest, |(id, _, _)| id);
                return Err(Problem::RepoNotFound(decode_percent(id)));
            }
        }
        let (id, part, rest) = split_path(path, BYTES).ok_or(Problem::NoSuchRoute)?;
        let (revision, file) = rest.split_once('/').ok_or(Problem::NoSuchRoute)?;
        let found = find_model_at_revision(&depot, id, revision)?;
        let file = decode_percent(file);
        match part {
            "/raw/" => files::serve_git_file(&depot, &found, &file, &method, &headers).await,
            _ => files::serve_file(&depot, &found, &file, &method, &headers).await,
        }
    };
    answer.await.unwrap_or_else(IntoResponse::into_response)
}

/// The parts of a path that request the content of a file.
const BYTES: [&str; 2] = ["/resolve/", "/raw/"];

/// Splits a path at the first of the parts: what is before it, the part, and what is after it. A
/// later one belongs to the path of a file.
fn split_path<'a, const N: usize>(
    path: &'a str,
    parts: [&'static str; N],
) -> Option<(&'a str, &'static str, &'a str)> {
    let found = parts.iter().filter_map(|part| Some((path.find(part)?, *part)));
    let (start, part) = found.min()?;
    Some((&path[..start], part, &path[start + part.len()..]))
}

fn decode_percent(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn find_model<'a>(depot: &'a Depot, id: &str) -> Result<&'a ServedModel, Problem> {
    let id = decode_percent(id);
    match (depot.models.get(&id), depot.models.find_damage(&id)) {
        (Some(model), _) => Ok(model),
        (None, Some(reason)) => Err(Problem::Broken(reason.to_owned())),
        (None, None) => Err(Problem::RepoNotFound(id)),
    }
}

fn find_model_at_revision<'a>(
    depot: &'a Depot,
    id: &str,
    revision: &str,
) -> Result<ModelAtCommit<'a>, Problem> {
    resolve_revision(depot, find_model(depot, id)?, &decode_percent(revision))
}

fn resolve_revision<'a>(
    depot: &Depot,
    model: &'a ServedModel,
    revision: &str,
) -> Result<ModelAtCommit<'a>, Problem> {
    if let Some((commit, snapshot)) = model.resolve_revision(revision) {
        return Ok(ModelAtCommit { model, commit, snapshot });
    }
    // It may be the snapshot that is damaged.
    if let Some(reason) = depot.models.find_damage(&model.id) {
        return Err(Problem::Broken(reason.to_owned()));
    }
    Err(Problem::RevisionNotFound {
        id: model.id.clone(),
        revision: revision.to_owned(),
        known: model.revision_names(),
    })
}
