//! Gathers evidence about models: the licences that they declare, and for each file whether loading
//! it can run code.

use serde_json::Value;
use types::lock::{Blob, LockedHubModel, LockedOllamaModel, LockedUrlModel};
use types::{Digest, Manifest, yaml};

use crate::Result;
use crate::file_format::{self, FileInspection, ModelFileFormat};
use crate::gatherer::Gatherer;
use crate::images::truncate_text;
use crate::index::{ModelEvidence, ModelFileEvidence, Severity};
use crate::part::EvidencePartKind;
use crate::pickle::ImportDanger;

/// The media type of Ollama's layer with the text of a licence.
const OLLAMA_LICENCE: &str = "application/vnd.ollama.image.license";

/// Gathers what is known about a Hugging Face snapshot.
pub(crate) fn gather_hub_model(
    gathering: &mut Gatherer<'_>,
    locked: &LockedHubModel,
) -> Result<ModelEvidence> {
    let name = format!("{} at {}", locked.hf, locked.commit);
    let mut model = new_model_evidence(name.clone(), locked.reference.to_string());
    for file in &locked.files {
        if file.path.eq_ignore_ascii_case("readme.md")
            && let Some(bytes) = gathering.read_blob(&file.digest, &name)?
        {
            model.licences = read_card_licences(&String::from_utf8_lossy(&bytes));
        }
        if is_licence_file(&file.path)
            && let Some(bytes) = gathering.read_blob(&file.digest, &name)?
        {
            let title = format!("{}-{}", locked.hf.as_str().replace('/', "-"), file.path);
            let path =
                gathering.parts.add("licences", &title, EvidencePartKind::Licence, &name, bytes)?;
            model.texts.push(path);
        }
        let blob = Blob { digest: file.digest, size: file.size };
        model.files.push(inspect_model_file(gathering, &name, &file.path, blob)?);
    }
    Ok(report_missing_licence(gathering, model))
}

/// Gathers what is known about an Ollama model.
pub(crate) fn gather_ollama_model(
    gathering: &mut Gatherer<'_>,
    locked: &LockedOllamaModel,
) -> Result<ModelEvidence> {
    let name = locked.ollama.clone();
    let mut model = new_model_evidence(name.clone(), locked.reference.to_string());
    let Some(bytes) = gathering.read_blob(&locked.manifest.digest, &name)? else {
        return Ok(model);
    };
    let manifest = Manifest::parse(&name, &bytes)?;
    for layer in &manifest.layers {
        let word = layer.media_type.rsplit('.').next().unwrap_or("layer");
        if layer.media_type == OLLAMA_LICENCE {
            if let Some(bytes) = gathering.read_blob(&layer.digest, &name)? {
                let first = String::from_utf8_lossy(&bytes);
                let first = first.lines().map(str::trim).find(|line| !line.is_empty());
                model.licences.extend(first.map(truncate_text));
                let title = format!("{name}-{}.txt", layer.digest.short_hex());
                let path = gathering.parts.add(
                    "licences",
                    &title,
                    EvidencePartKind::Licence,
                    &name,
                    bytes,
                )?;
                model.texts.push(path);
            }
            continue;
        }
        // Layers have no file names; their media types end in `model`, `template`, `params` and so
        // on.
        let path = format!("{word}-{}", layer.digest.short_hex());
        model.files.push(inspect_model_file(gathering, &name, &path, Blob::from(layer))?);
    }
    Ok(report_missing_licence(gathering, model))
}

/// Gathers what is known about a model file from a URL.
pub(crate) fn gather_url_model(
    gathering: &mut Gatherer<'_>,
    locked: &LockedUrlModel,
) -> Result<ModelEvidence> {
    let name = locked.url.clone();
    let mut model = new_model_evidence(name.clone(), locked.reference.to_string());
    model.files.push(inspect_model_file(gathering, &name, &locked.title, locked.content)?);
    Ok(report_missing_licence(gathering, model))
}

/// Whether a file contains a licence, by its name.
pub(crate) fn is_licence_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    ["license", "licence", "copying", "notice", "use_policy", "acceptable_use"]
        .iter()
        .any(|word| name.starts_with(word))
}

fn new_model_evidence(name: String, reference: String) -> ModelEvidence {
    ModelEvidence { name, reference, licences: vec![], texts: vec![], files: vec![] }
}

/// Adds a finding if neither a licence nor the text of one was found.
fn report_missing_licence(gathering: &mut Gatherer<'_>, model: ModelEvidence) -> ModelEvidence {
    if gathering.source.is_some() && model.licences.is_empty() && model.texts.is_empty() {
        let next = "ask its author, and record the answer";
        gathering.add_finding(Severity::Medium, &model.name, "it declares no licence", next);
    }
    model
}

/// Reads the licences from the YAML header of a model card (huggingface.co/docs/hub/model-cards,
/// "license"). A card without a valid header has none.
fn read_card_licences(card: &str) -> Vec<String> {
    let Some(rest) = card.trim_start_matches('\u{feff}').strip_prefix("---") else { return vec![] };
    let Some((head, _)) = rest.split_once("\n---") else { return vec![] };
    let Ok(fields) = yaml::read_document::<Value>("README.md", head) else { return vec![] };
    let mut said = Vec::new();
    // With `license: other` the name and the link say which one.
    for key in ["license", "license_name", "license_link"] {
        match &fields[key] {
            Value::String(text) => said.push(truncate_text(text)),
            Value::Array(all) => {
                said.extend(all.iter().filter_map(Value::as_str).map(truncate_text));
            }
            _ => {}
        }
    }
    said
}

/// Inspects a file of a model, and adds a finding if loading it may run code.
fn inspect_model_file(
    gathering: &mut Gatherer<'_>,
    model: &str,
    path: &str,
    blob: Blob,
) -> Result<ModelFileEvidence> {
    let file = |looked| ModelFileEvidence {
        path: path.to_owned(),
        sha256: blob.digest,
        size: blob.size,
        looked,
    };
    let Some(size) = find_blob_size(gathering, &blob.digest)? else {
        if gathering.source.is_some() {
            let why = format!("{path} is not in the content that was searched");
            gathering.add_finding(
                Severity::Medium,
                model,
                &why,
                "name a store or bundle that has everything: --from",
            );
        }
        return Ok(file(None));
    };
    let Some(source) = gathering.source else { return Ok(file(None)) };
    let looked = file_format::inspect_file(source, &blob.digest, size, path)?;
    report_danger(gathering, model, path, &looked);
    Ok(file(Some(looked)))
}

fn find_blob_size(gathering: &Gatherer<'_>, digest: &Digest) -> Result<Option<u64>> {
    Ok(match gathering.source {
        Some(source) => source.blob_size(digest)?,
        None => None,
    })
}

/// Adds the finding for a file with pickles, or with a part that could not be inspected.
fn report_danger(gathering: &mut Gatherer<'_>, model: &str, path: &str, looked: &FileInspection) {
    // A finding is one sentence; the page lists all imports.
    const NAMED: usize = 8;
    let Some(danger) = looked.worst_danger() else { return };
    let all = looked.pickles.iter().flat_map(|member| &member.found.imports);
    let worst = all.filter(|import| import.danger > ImportDanger::Usual);
    let mut names: Vec<&str> = worst.map(|import| import.name.as_str()).collect();
    names.truncate(NAMED);
    let names =
        if names.is_empty() { String::new() } else { format!(": it imports {}", names.join(", ")) };
    let broken = looked.pickles.iter().find_map(|member| member.found.broken.as_deref());
    // The reason is part of the finding: breaking a pickle after its payload is a known way to
    // evade scanners, as Python runs everything before the defect.
    let broken = broken.or(looked.note.as_deref());
    let broken = broken.map(|why| format!(" ({why})")).unwrap_or_default();
    let what = match looked.form {
        ModelFileFormat::Pickle => "is a pickle",
        ModelFileFormat::PickleArchive => "contains pickles",
        _ => "could not be inspected",
    };
    let (weight, why) = match danger {
        ImportDanger::Dangerous => {
            (Severity::High, "loading it can run commands or any other code")
        }
        ImportDanger::Unknown => (Severity::Medium, "loading it may run unknown code"),
        ImportDanger::Usual => (Severity::Low, "it imports only what model weights usually need"),
    };
    let next = match danger {
        ImportDanger::Usual => {
            "prefer a safetensors file if there is one, or load it with weights_only=True"
        }
        _ => "do not load it; use a safetensors file, or ask its author",
    };
    gathering.add_finding(weight, model, &format!("{path} {what}{broken}{names}; {why}"), next);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_tells_its_licence_in_whichever_form() {
        assert_eq!(read_card_licences("---\nlicense: mit\ntags: [x]\n---\n# A\n"), ["mit"]);
        assert_eq!(read_card_licences("---\r\nlicense:\r\n- a\r\n- b\r\n---\r\n"), ["a", "b"]);
        let other = "---\nlicense: other\nlicense_name: gemma\nlicense_link: https://x/y\n---";
        assert_eq!(read_card_licences(other), ["other", "gemma", "https://x/y"]);
        for none in ["", "# A", "---\nlicense: mit", "---\n: [\n---\n"] {
            assert!(read_card_licences(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn licences_are_known_by_their_names() {
        for name in ["LICENSE", "a/LICENCE.md", "COPYING", "Notice.txt", "USE_POLICY.md"] {
            assert!(is_licence_file(name), "{name}");
        }
        assert!(!is_licence_file("config.json") && !is_licence_file("unlicensed.md"));
    }
}
