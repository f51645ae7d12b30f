//! What llama.cpp's `-hf org/name:tag` asks at the registry's address: which GGUF file the tag
//! means (`spec/huggingface-hub.md`, the `/v2/` route).

use std::path::Path;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde_json::json;

use crate::Depot;
use types::snapshot::SnapshotFile;

/// llama.cpp's own default, where no tag is given.
const DEFAULT_QUANTISATION: &str = "q4_k_m";

/// The answer for llama.cpp, or `None` for any other client and for what has no GGUF file.
pub(crate) fn llama_manifest(
    depot: &Depot,
    id: &str,
    tag: &str,
    headers: &HeaderMap,
) -> Option<Response> {
    let agent = headers.get(header::USER_AGENT)?.to_str().ok()?;
    if !agent.starts_with("llama-cpp") {
        return None;
    }
    let model = depot.models.get(id)?;
    let (_, snapshot) = model.at(model.default_revision())?;
    let lower = |path: &str| path.to_ascii_lowercase();
    let is_projector =
        |path: &str| lower(path).rsplit('/').next().is_some_and(|n| n.contains("mmproj"));
    let is_gguf = |path: &str| {
        Path::new(path).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
    };
    let files = || snapshot.files.iter().filter(|(path, _)| is_gguf(path));
    let models = || files().filter(|(path, _)| !is_projector(path));
    let tag = lower(tag);
    let wanted = if tag == "latest" { DEFAULT_QUANTISATION } else { &tag };
    let chosen = models()
        .find(|(path, _)| lower(path).contains(wanted))
        .or_else(|| models().next().filter(|_| tag == "latest"))?;
    let shown =
        |(path, file): (&String, &SnapshotFile)| json!({ "rfilename": path, "size": file.size });
    let mut answer = json!({ "schemaVersion": 2, "ggufFile": shown(chosen) });
    if let Some(projector) = files().find(|(path, _)| is_projector(path)) {
        answer["mmprojFile"] = shown(projector);
    }
    Some(Json(answer).into_response())
}
