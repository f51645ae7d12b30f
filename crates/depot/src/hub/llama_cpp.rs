//! The one Hub route below `/v2/`: for `-hf org/name:tag`, llama.cpp sends
//! `GET /v2/org/name/manifests/tag` and expects a manifest with the key `ggufFile`, which names the
//! file that the tag means (llama.cpp, `common_get_hf_file`).

use std::path::Path;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde_json::json;

use crate::Depot;
use types::snapshot::SnapshotFile;

/// The quantisation that llama.cpp prefers where no tag is given.
const DEFAULT_QUANTISATION: &str = "q4_k_m";

/// The answer for llama.cpp; `None` for any other client, and for a model without a matching GGUF
/// file.
pub(crate) fn answer_llama_manifest(
    depot: &Depot,
    id: &str,
    tag: &str,
    headers: &HeaderMap,
) -> Option<Response> {
    // The path is also a valid one of the OCI endpoint: only the client tells them apart.
    let agent = headers.get(header::USER_AGENT)?.to_str().ok()?;
    if !agent.starts_with("llama-cpp") {
        return None;
    }
    let model = depot.models.get(id)?;
    let (_, snapshot) = model.resolve_revision(model.default_revision())?;
    let lower = |path: &str| path.to_ascii_lowercase();
    // A multimodal projector is a GGUF file too, but not the model.
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
