//! Gathers evidence about models: the licences that they declare, and for each file whether loading
//! it can run code.

use serde_json::Value;
use types::lock::{Blob, HubModel, OllamaModel, UrlModel};
use types::{Digest, Manifest, yaml};

use super::Result;
use super::form::{self, Form, Looked};
use super::gather::Gathering;
use super::images::shortened;
use super::index::{File, Model, Weight};
use super::part::PartKind;
use super::pickle::Danger;

/// The media type of Ollama's layer with the text of a licence.
const OLLAMA_LICENCE: &str = "application/vnd.ollama.image.license";

/// Gathers what is known about a Hugging Face snapshot.
pub(super) fn hub(gathering: &mut Gathering<'_>, locked: &HubModel) -> Result<Model> {
    let name = format!("{} at {}", locked.hf, locked.commit);
    let mut model = empty(name.clone(), locked.reference.to_string());
    for file in &locked.files {
        if file.path.eq_ignore_ascii_case("readme.md")
            && let Some(bytes) = gathering.blob(&file.digest, &name)?
        {
            model.licences = front_matter(&String::from_utf8_lossy(&bytes));
        }
        if is_licence(&file.path)
            && let Some(bytes) = gathering.blob(&file.digest, &name)?
        {
            let title = format!("{}-{}", locked.hf.as_str().replace('/', "-"), file.path);
            let path = gathering.parts.add("licences", &title, PartKind::Licence, &name, bytes)?;
            model.texts.push(path);
        }
        let blob = Blob { digest: file.digest, size: file.size };
        model.files.push(looked(gathering, &name, &file.path, blob)?);
    }
    Ok(licensed(gathering, model))
}

/// Gathers what is known about an Ollama model.
pub(super) fn ollama(gathering: &mut Gathering<'_>, locked: &OllamaModel) -> Result<Model> {
    let name = locked.ollama.clone();
    let mut model = empty(name.clone(), locked.reference.to_string());
    let Some(bytes) = gathering.blob(&locked.manifest.digest, &name)? else { return Ok(model) };
    let manifest = Manifest::parse(&name, &bytes)?;
    for layer in &manifest.layers {
        let word = layer.media_type.rsplit('.').next().unwrap_or("layer");
        if layer.media_type == OLLAMA_LICENCE {
            if let Some(bytes) = gathering.blob(&layer.digest, &name)? {
                let first = String::from_utf8_lossy(&bytes);
                let first = first.lines().map(str::trim).find(|line| !line.is_empty());
                model.licences.extend(first.map(shortened));
                let title = format!("{name}-{}.txt", layer.digest.short());
                let path =
                    gathering.parts.add("licences", &title, PartKind::Licence, &name, bytes)?;
                model.texts.push(path);
            }
            continue;
        }
        // Layers have no file names; their media types end in `model`, `template`, `params` and so
        // on.
        let path = format!("{word}-{}", layer.digest.short());
        model.files.push(looked(gathering, &name, &path, Blob::from(layer))?);
    }
    Ok(licensed(gathering, model))
}

/// Gathers what is known about a model file from a URL.
pub(super) fn url(gathering: &mut Gathering<'_>, locked: &UrlModel) -> Result<Model> {
    let name = locked.url.clone();
    let mut model = empty(name.clone(), locked.reference.to_string());
    model.files.push(looked(gathering, &name, &locked.title, locked.content)?);
    Ok(licensed(gathering, model))
}

/// Whether a file contains a licence, by its name.
pub(super) fn is_licence(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    ["license", "licence", "copying", "notice", "use_policy", "acceptable_use"]
        .iter()
        .any(|word| name.starts_with(word))
}

fn empty(name: String, reference: String) -> Model {
    Model { name, reference, licences: vec![], texts: vec![], files: vec![] }
}

/// Adds a finding if neither a licence nor the text of one was found.
fn licensed(gathering: &mut Gathering<'_>, model: Model) -> Model {
    if gathering.source.is_some() && model.licences.is_empty() && model.texts.is_empty() {
        let next = "ask its author, and record the answer";
        gathering.finding(Weight::Medium, &model.name, "it declares no licence", next);
    }
    model
}

/// Reads the licences from the YAML header of a model card (huggingface.co/docs/hub/model-cards,
/// "license"). A card without a valid header has none.
fn front_matter(card: &str) -> Vec<String> {
    let Some(rest) = card.trim_start_matches('\u{feff}').strip_prefix("---") else { return vec![] };
    let Some((head, _)) = rest.split_once("\n---") else { return vec![] };
    let Ok(fields) = yaml::read::<Value>("README.md", head) else { return vec![] };
    let mut said = Vec::new();
    // With `license: other` the name and the link say which one.
    for key in ["license", "license_name", "license_link"] {
        match &fields[key] {
            Value::String(text) => said.push(shortened(text)),
            Value::Array(all) => {
                said.extend(all.iter().filter_map(Value::as_str).map(shortened));
            }
            _ => {}
        }
    }
    said
}

/// Inspects a file of a model, and adds a finding if loading it may run code.
fn looked(gathering: &mut Gathering<'_>, model: &str, path: &str, blob: Blob) -> Result<File> {
    let file =
        |looked| File { path: path.to_owned(), sha256: blob.digest, size: blob.size, looked };
    let Some(size) = size(gathering, &blob.digest)? else {
        if gathering.source.is_some() {
            let why = format!("{path} is not in the content that was searched");
            gathering.finding(
                Weight::Medium,
                model,
                &why,
                "name a store or bundle that has everything: --from",
            );
        }
        return Ok(file(None));
    };
    let Some(source) = gathering.source else { return Ok(file(None)) };
    let looked = form::look(source, &blob.digest, size, path)?;
    tell(gathering, model, path, &looked);
    Ok(file(Some(looked)))
}

fn size(gathering: &Gathering<'_>, digest: &Digest) -> Result<Option<u64>> {
    Ok(match gathering.source {
        Some(source) => source.size(digest)?,
        None => None,
    })
}

/// Adds the finding for a file with pickles, or with a part that could not be inspected.
fn tell(gathering: &mut Gathering<'_>, model: &str, path: &str, looked: &Looked) {
    // A finding is one sentence; the page lists all imports.
    const NAMED: usize = 8;
    let Some(danger) = looked.danger() else { return };
    let all = looked.pickles.iter().flat_map(|member| &member.found.imports);
    let worst = all.filter(|import| import.danger > Danger::Usual);
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
        Form::Pickle => "is a pickle",
        Form::PickleArchive => "contains pickles",
        _ => "could not be inspected",
    };
    let (weight, why) = match danger {
        Danger::Dangerous => (Weight::High, "loading it can run commands or any other code"),
        Danger::Unknown => (Weight::Medium, "loading it may run unknown code"),
        Danger::Usual => (Weight::Low, "it imports only what model weights usually need"),
    };
    let next = match danger {
        Danger::Usual => {
            "prefer a safetensors file if there is one, or load it with weights_only=True"
        }
        _ => "do not load it; use a safetensors file, or ask its author",
    };
    gathering.finding(weight, model, &format!("{path} {what}{broken}{names}; {why}"), next);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_tells_its_licence_in_whichever_form() {
        assert_eq!(front_matter("---\nlicense: mit\ntags: [x]\n---\n# A\n"), ["mit"]);
        assert_eq!(front_matter("---\r\nlicense:\r\n- a\r\n- b\r\n---\r\n"), ["a", "b"]);
        let other = "---\nlicense: other\nlicense_name: gemma\nlicense_link: https://x/y\n---";
        assert_eq!(front_matter(other), ["other", "gemma", "https://x/y"]);
        for none in ["", "# A", "---\nlicense: mit", "---\n: [\n---\n"] {
            assert!(front_matter(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn licences_are_known_by_their_names() {
        for name in ["LICENSE", "a/LICENCE.md", "COPYING", "Notice.txt", "USE_POLICY.md"] {
            assert!(is_licence(name), "{name}");
        }
        assert!(!is_licence("config.json") && !is_licence("unlicensed.md"));
    }
}
