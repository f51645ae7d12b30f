//! The endpoint of plain files: entries of `files:` and models from a URL, each under its own name.
//!
//! | path | answer |
//! |---|---|
//! | `/files/` | the list, as JSON |
//! | `/files/<name>` | the file of this name |
//! | `/files/<first 12 hex of the sha256>/<name>` | the file of this name and content, where two have one name |

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use types::Digest;
use types::carried_file::CarriedFile;

use crate::Depot;
use crate::blob_response::{self, BlobFailure};

/// One file in the list.
#[derive(Serialize)]
struct ListedFile<'a> {
    name: &'a str,
    digest: Digest,
    bytes: u64,
    /// Its path at this server.
    path: String,
}

/// The list.
#[derive(Serialize)]
struct FileList<'a> {
    files: Vec<ListedFile<'a>>,
}

/// `/files/`
pub(crate) async fn handle_list(State(depot): State<Arc<Depot>>, method: Method) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return refuse_method();
    }
    let files = depot.files.iter().map(|file| ListedFile {
        name: &file.title,
        digest: file.digest,
        bytes: file.size,
        path: exact_path(file),
    });
    Json(FileList { files: files.collect() }).into_response()
}

/// `/files/<name>`
pub(crate) async fn handle_name(
    State(depot): State<Arc<Depot>>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    match depot.files.list_named(&name) {
        [] => answer_missing(&name),
        [file] => serve_file(&depot, file, &method, &headers).await,
        several => {
            let paths: Vec<String> = several.iter().map(exact_path).collect();
            let text = format!("several files are called {name}: ask for {}\n", paths.join(" or "));
            (StatusCode::CONFLICT, text).into_response()
        }
    }
}

/// `/files/<first 12 hex of the sha256>/<name>`
pub(crate) async fn handle_exact_name(
    State(depot): State<Arc<Depot>>,
    Path((short, name)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let mut named = depot.files.list_named(&name).iter();
    match named.find(|file| file.digest.short_hex() == short) {
        Some(file) => serve_file(&depot, file, &method, &headers).await,
        None => answer_missing(&name),
    }
}

async fn serve_file(
    depot: &Depot,
    file: &CarriedFile,
    method: &Method,
    request: &HeaderMap,
) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return refuse_method();
    }
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, octets);
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", file.digest)) {
        headers.insert(header::ETAG, etag);
    }
    let answer = blob_response::respond_with_blob(
        &depot.checks,
        file.digest,
        file.size,
        method,
        request,
        response,
    );
    answer.await.unwrap_or_else(|failure| {
        let reason = match failure {
            BlobFailure::Missing => format!("{} is missing", file.digest),
            BlobFailure::Damaged(reason) => reason,
        };
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {reason}\n", file.title)).into_response()
    })
}

/// The path by which a file can be asked for also where others have its name.
fn exact_path(file: &CarriedFile) -> String {
    let name =
        percent_encoding::utf8_percent_encode(&file.title, percent_encoding::NON_ALPHANUMERIC);
    format!("/files/{}/{name}", file.digest.short_hex())
}

fn answer_missing(name: &str) -> Response {
    let text = format!("no file is called {name}; /files/ lists those that there are\n");
    (StatusCode::NOT_FOUND, text).into_response()
}

fn refuse_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, "files can only be read\n").into_response()
}
