//! What models say of their licences, and what their files are.

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

/// Ollama's layer with a licence's text.
const OLLAMA_LICENCE: &str = "application/vnd.ollama.image.license";

/// A Hugging Face snapshot.
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

/// An Ollama model.
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
        let path = format!("{word}-{}", layer.digest.short());
        model.files.push(looked(gathering, &name, &path, Blob::from(layer))?);
    }
    Ok(licensed(gathering, model))
}

/// A file from a URL.
pub(super) fn url(gathering: &mut Gathering<'_>, locked: &UrlModel) -> Result<Model> {
    let name = locked.url.clone();
    let mut model = empty(name.clone(), locked.reference.to_string());
    model.files.push(looked(gathering, &name, &locked.title, locked.content)?);
    Ok(licensed(gathering, model))
}

/// Whether a file holds a licence, by its name.
pub(super) fn is_licence(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    ["license", "licence", "copying", "notice", "use_policy", "acceptable_use"]
        .iter()
        .any(|word| name.starts_with(word))
}

fn empty(name: String, reference: String) -> Model {
    Model { name, reference, licences: vec![], texts: vec![], files: vec![] }
}

fn licensed(gathering: &mut Gathering<'_>, model: Model) -> Model {
    if gathering.source.is_some() && model.licences.is_empty() && model.texts.is_empty() {
        let next = "ask who made it, and write it down";
        gathering.finding(Weight::Medium, &model.name, "it names no licence", next);
    }
    model
}

/// What a model's card says of its licence (huggingface.co/docs/hub/model-cards, "license").
fn front_matter(card: &str) -> Vec<String> {
    let Some(rest) = card.trim_start_matches('\u{feff}').strip_prefix("---") else { return vec![] };
    let Some((head, _)) = rest.split_once("\n---") else { return vec![] };
    let Ok(fields) = yaml::read::<Value>("README.md", head) else { return vec![] };
    let mut said = Vec::new();
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

/// Looks at a file, and tells what loading it may do.
fn looked(gathering: &mut Gathering<'_>, model: &str, path: &str, blob: Blob) -> Result<File> {
    let file =
        |looked| File { path: path.to_owned(), sha256: blob.digest, size: blob.size, looked };
    let Some(size) = size(gathering, &blob.digest)? else {
        if gathering.source.is_some() {
            let why = format!("{path} is not in what was looked through");
            gathering.finding(Weight::Medium, model, &why, "gather where everything is: --from");
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

fn tell(gathering: &mut Gathering<'_>, model: &str, path: &str, looked: &Looked) {
    const NAMED: usize = 8;
    let Some(danger) = looked.danger() else { return };
    let all = looked.pickles.iter().flat_map(|member| &member.found.imports);
    let worst = all.filter(|import| import.danger > Danger::Usual);
    let mut names: Vec<&str> = worst.map(|import| import.name.as_str()).collect();
    names.truncate(NAMED);
    let names =
        if names.is_empty() { String::new() } else { format!(": it imports {}", names.join(", ")) };
    let broken = looked.pickles.iter().find_map(|member| member.found.broken.as_deref());
    let broken = broken.or(looked.note.as_deref());
    let broken = broken.map(|why| format!(" ({why})")).unwrap_or_default();
    let what = match looked.form {
        Form::Pickle => "is a pickle",
        Form::PickleArchive => "holds pickles",
        _ => "could not be looked into",
    };
    let (weight, why) = match danger {
        Danger::Dangerous => (Weight::High, "loading it runs commands or code from outside"),
        Danger::Unknown => (Weight::Medium, "loading it may run code that is not known"),
        Danger::Usual => (Weight::Low, "what it imports is what weights need"),
    };
    let next = match danger {
        Danger::Usual => {
            "prefer the safetensors file where there is one, or load with weights_only=True"
        }
        _ => "do not load it; take safetensors, or ask who made it",
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
