//! Checks the documents of a set and joins them to one stream.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::fault::{DocumentPlace, ManifestFault};
use super::identity::{ObjectKey, PlacedObject};
use super::order::rank_kind;
use crate::find::find_images_in_manifests;
use crate::manifest::{ManifestDocument, Manifests, split_documents};

/// The API group of kustomizations.
const KUSTOMIZE_GROUP: &str = "kustomize.config.k8s.io";
/// The names of kustomizations, which need neither apiVersion nor kind.
const KUSTOMIZATIONS: &[&str] = &["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// What begins a template or a placeholder: of helm and Go, of a shell and envsubst.
const TEMPLATES: &[&str] = &["{{", "${", "$("];
/// The longest piece of a template in an error, in characters.
const MAX_SHOWN: usize = 60;

/// The text of a file with manifests, or what a kustomization was built to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestText {
    /// The file or the kustomization, as the user named it. It stands in the stream, so it must not
    /// depend on the machine.
    pub name: String,
    /// The text.
    pub text: String,
}

/// A checked set of manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSet {
    stream: String,
    objects: Vec<PlacedObject>,
}

/// An object with the text that stands for it in the stream.
struct SetDocument {
    object: PlacedObject,
    text: String,
}

impl ManifestSet {
    /// Checks all documents, puts them in order, and joins them.
    ///
    /// # Errors
    /// The first document that cannot be used.
    pub fn build(texts: &[ManifestText]) -> Result<Self, ManifestFault> {
        let mut documents = Vec::new();
        for text in texts {
            read_text(text, &mut documents)?;
        }
        if documents.is_empty() {
            let names: Vec<&str> = texts.iter().map(|text| text.name.as_str()).collect();
            return Err(ManifestFault::Empty { files: names.join(", ") });
        }
        refuse_repeated(&documents)?;
        documents.sort_by_key(|document| rank_kind(&document.object.key.kind));
        let mut stream = String::new();
        for SetDocument { object, text } in &documents {
            let text = text.trim_matches('\n');
            let _ = writeln!(stream, "---\n# Source: {}\n{text}", object.place.file);
        }
        let objects = documents.into_iter().map(|document| document.object).collect();
        Ok(Self { stream, objects })
    }

    /// One stream of YAML documents in the order in which they are applied. Each says in a comment
    /// which file it is from, as `helm template` does.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The objects, in the order of the stream.
    pub fn objects(&self) -> &[PlacedObject] {
        &self.objects
    }
}

/// Reads the documents of one file.
fn read_text(file: &ManifestText, documents: &mut Vec<SetDocument>) -> Result<(), ManifestFault> {
    // Windows' editors begin files with it; it is no part of the YAML.
    let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
    let manifests = Manifests::read(text);
    let starts: Vec<usize> = manifests
        .document_ranges(text)
        .into_iter()
        .map(|range| text[..range.start].matches('\n').count() + 1)
        .collect();
    let place =
        |number: usize, line: usize| DocumentPlace { file: file.name.clone(), number, line };
    if let Some(unread) = manifests.unread.first() {
        let number = starts.iter().filter(|start| **start < unread.line).count() + 1;
        let place = place(number, unread.line);
        let own = split_documents(text).find(|(line, _)| *line == unread.line);
        return Err(match own.and_then(|(_, text)| find_template(text)) {
            Some(text) => ManifestFault::Template { place, text },
            None => ManifestFault::InvalidYaml { place, fault: unread.reason.clone() },
        });
    }
    refuse_templates(&manifests, &|index| {
        place(index + 1, starts.get(index).copied().unwrap_or(1))
    })?;
    for (index, document) in manifests.documents.iter().enumerate() {
        read_document(
            document,
            place(index + 1, starts.get(index).copied().unwrap_or(1)),
            documents,
        )?;
    }
    Ok(())
}

/// Reads one document: an object, or a list of them.
fn read_document(
    document: &ManifestDocument,
    place: DocumentPlace,
    documents: &mut Vec<SetDocument>,
) -> Result<(), ManifestFault> {
    let name = place.file.rsplit('/').next().unwrap_or_default();
    if KUSTOMIZATIONS.contains(&name) || document.group() == KUSTOMIZE_GROUP {
        return Err(ManifestFault::Kustomization { place });
    }
    let Some(items) = list_items(&document.value) else {
        let key = read_key(&document.value, &place)?;
        let object = PlacedObject { key, place };
        documents.push(SetDocument { object, text: document.text.clone() });
        return Ok(());
    };
    for (index, item) in items.iter().enumerate() {
        if list_items(item).is_some() {
            return Err(ManifestFault::NestedList { place, index });
        }
        let object = PlacedObject { key: read_key(item, &place)?, place: place.clone() };
        // What was parsed from YAML can be written as YAML; JSON is YAML too.
        let text = types::yaml::write_manifest(item).unwrap_or_else(|_| item.to_string());
        documents.push(SetDocument { object, text });
    }
    Ok(())
}

/// The items of a `List`, of whatever kind (`ConfigMapList`); `None` for other objects.
fn list_items(object: &Value) -> Option<&Vec<Value>> {
    let kind = object.get("kind").and_then(Value::as_str)?;
    // A custom resource may be called `AllowList`; such an object has a name.
    let has_name = object.pointer("/metadata/name").is_some();
    (kind.ends_with("List") && !has_name).then(|| object.get("items")?.as_array())?
}

fn read_key(object: &Value, place: &DocumentPlace) -> Result<ObjectKey, ManifestFault> {
    let lacks = |missing, hint| ManifestFault::NotAnObject { place: place.clone(), missing, hint };
    let has = |pointer: &str| {
        object.pointer(pointer).and_then(Value::as_str).is_some_and(|text| !text.is_empty())
    };
    if !has("/kind") {
        return Err(lacks("kind", "; a values file or a configuration is not a manifest"));
    }
    if !has("/apiVersion") {
        return Err(lacks("apiVersion", ""));
    }
    if !has("/metadata/name") && has("/metadata/generateName") {
        return Err(lacks(
            "metadata.name",
            "; generateName makes a new object each time, give it a name",
        ));
    }
    ObjectKey::from_manifest(object).ok_or_else(|| lacks("metadata.name", ""))
}

/// Refuses templates where a plain text must be: in what identifies an object, and in images. Other
/// texts may hold templates of other programs, such as those of Argo Workflows or Prometheus.
fn refuse_templates(
    manifests: &Manifests,
    place: &dyn Fn(usize) -> DocumentPlace,
) -> Result<(), ManifestFault> {
    for (index, document) in manifests.documents.iter().enumerate() {
        let identity = ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"];
        let mut texts = identity.iter().filter_map(|at| document.value.pointer(at)?.as_str());
        if let Some(text) = texts.find_map(find_template) {
            return Err(ManifestFault::Template { place: place(index), text });
        }
    }
    for broken in find_images_in_manifests(manifests).broken {
        if let Some(text) = find_template(&broken.text) {
            return Err(ManifestFault::Template { place: place(broken.place.document), text });
        }
    }
    Ok(())
}

/// The first template of a text, shortened; comments do not count.
fn find_template(text: &str) -> Option<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut found = lines.filter_map(|line| {
        let start = TEMPLATES.iter().filter_map(|template| line.find(template)).min()?;
        Some(&line[start..])
    });
    let text = found.next()?.trim_end();
    Some(match text.chars().count() > MAX_SHOWN {
        true => text.chars().take(MAX_SHOWN).chain(['…']).collect(),
        false => text.to_owned(),
    })
}

fn refuse_repeated(documents: &[SetDocument]) -> Result<(), ManifestFault> {
    let mut seen: HashMap<ObjectKey, &DocumentPlace> = HashMap::new();
    for SetDocument { object, .. } in documents {
        let key = object.key.in_namespace(None);
        if let Some(first) = seen.insert(key, &object.place) {
            return Err(ManifestFault::Repeated {
                object: object.key.to_string(),
                first: first.clone(),
                second: object.place.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn build(files: &[(&str, &str)]) -> Result<ManifestSet, ManifestFault> {
        let texts: Vec<ManifestText> = files
            .iter()
            .map(|(name, text)| ManifestText { name: (*name).into(), text: (*text).into() })
            .collect();
        ManifestSet::build(&texts)
    }

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n";
    const TENANT: &str = "# ours\napiVersion: x.example/v1\nkind: Tenant\nmetadata: {name: a}\n";
    const CRD: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: t}\n";

    #[test]
    fn a_set_is_ordered_and_each_document_stays_as_it_was_written() {
        let set =
            build(&[("a.yaml", &format!("{TENANT}---\n\n{CRD}")), ("b.yaml", SERVICE)]).unwrap();
        let expected = format!(
            "---\n# Source: a.yaml\n{CRD}---\n# Source: b.yaml\n{SERVICE}---\n# Source: a.yaml\n{TENANT}"
        );
        assert_eq!(set.stream(), expected);
        let kinds: Vec<&str> = set.objects().iter().map(|one| one.key.kind.as_str()).collect();
        assert_eq!(kinds, ["CustomResourceDefinition", "Service", "Tenant"]);
        assert_eq!(set.objects()[0].place.to_string(), "a.yaml, document 2 (line 6)");
        let read = Manifests::read(set.stream());
        assert_eq!(read.documents[0].template.as_deref(), Some("a.yaml"));
    }

    #[test]
    fn a_list_is_taken_apart_and_so_is_json() {
        let json = r#"{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "s"}, "data": {"n": "MQ=="}}, {"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "c"}, "data": {"port": "080", "text": "a\nb: {c}\n"}}]}"#;
        let set = build(&[("all.json", json)]).unwrap();
        let read = Manifests::read(set.stream());
        assert_eq!(read.documents[0].value["data"]["port"], "080");
        assert_eq!(read.documents[0].value["data"]["text"], "a\nb: {c}\n");
        assert_eq!(read.documents[1].value["data"]["n"], "MQ==");
        // An object of its own that is only called so.
        let own = "apiVersion: x.example/v1\nkind: AllowList\nmetadata: {name: a}\nitems: [b]\n";
        assert_eq!(build(&[("a.yaml", own)]).unwrap().objects()[0].key.kind, "AllowList");
    }

    #[test]
    fn a_document_that_cannot_be_used_is_named_with_its_place_and_the_next_step() {
        let list = "apiVersion: v1\nkind: List\nitems: [{kind: List, items: []}]\n";
        for (text, expected) in [
            ("kind: A\n---\na: b: c\n".to_owned(), "f.yaml, document 2 (line 3) is not valid YAML"),
            (
                format!("{SERVICE}---\n{list}"),
                "f.yaml, document 2 (line 5) has a List inside a List (items[0])",
            ),
            ("replicas: 2\n".to_owned(), "it has no kind; a values file"),
            ("kind: Pod\nmetadata: {name: a}\n".to_owned(), "it has no apiVersion"),
            ("apiVersion: v1\nkind: Pod\n".to_owned(), "it has no metadata.name"),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n".to_owned(),
                "give it a name",
            ),
            (
                format!("{SERVICE}---\n{SERVICE}"),
                "Service web is in two documents: f.yaml, document 1",
            ),
            ("# nothing\n".to_owned(), "no Kubernetes object in f.yaml"),
            (
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n".to_owned(),
                "is a kustomization; name its folder instead: {kustomize: FOLDER}",
            ),
        ] {
            let error = build(&[("f.yaml", &text)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn templates_are_refused_where_a_plain_text_must_be() {
        let pod = |image: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - image: {image}\n"
            )
        };
        for text in [
            pod("{{ .Values.image }}"),
            pod("\"{{ .Values.image }}:1\""),
            pod("${IMAGE}"),
            SERVICE.replace("web", "'{{ .Release.Name }}'"),
            format!("{{{{- if .Values.web }}}}\n{SERVICE}{{{{- end }}}}\n"),
        ] {
            let error = build(&[("f.yaml", &text)]).unwrap_err();
            assert!(matches!(error, ManifestFault::Template { .. }), "{text}: {error}");
        }
        // Templates of other programs, in texts.
        let own = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {t: '{{ .Values.x }}', s: '${HOME}'}\n";
        assert!(build(&[("f.yaml", own)]).is_ok());
    }
}
