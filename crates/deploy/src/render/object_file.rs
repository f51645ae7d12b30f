//! One object as a file: where it stands in the folder, and its text.

use std::path::{Path, PathBuf};

use cluster::ObjectId;
use serde_json::Value;
use types::object_scope;

use super::file_head::FileHead;
use crate::release::{RenderedObject, is_render_noise};
use crate::{Error, Result};

/// The longest file name that common file systems take, less the ending and a margin.
const LONGEST_NAME: usize = 200;
/// The ending of the files.
const ENDING: &str = ".yaml";

/// An object of a release as a file.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectFile {
    /// Its path in the folder: `NAMESPACE/RELEASE/KIND_NAME.yaml`.
    pub path: PathBuf,
    /// The object.
    pub object: ObjectId,
    value: Value,
    /// The same object of another render of the same values.
    again: Value,
}

impl ObjectFile {
    /// The file of an object of the release `release` in `namespace`. `again` is the object as another
    /// render has it.
    pub(super) fn new(
        (release, namespace): (&str, &str),
        object: RenderedObject,
        again: Value,
    ) -> Self {
        let RenderedObject { id, value } = object;
        let mut path = Path::new(namespace).join(release);
        path.extend(choose_folder(&id, &value));
        path.push(name_file(&id, namespace));
        Self { path, object: id, value, again }
    }

    /// Whether it is a Secret: what should not stand in plain text in a repository.
    pub fn is_secret(&self) -> bool {
        self.object.kind == "Secret" && self.object.api_version == "v1"
    }

    /// Whether helm runs it as a hook.
    pub fn is_hook(&self) -> bool {
        is_hook(&self.value)
    }

    /// Whether the chart makes up a part of it anew in each render.
    pub fn is_generated(&self) -> bool {
        self.value != self.again
    }

    /// The text of the file. Where `former`, the text of a former run, differs by nothing but what the
    /// chart makes up anew, it stays.
    ///
    /// # Errors
    /// The text does not read as the object again.
    pub(super) fn write_text(&self, head: &FileHead, former: Option<&str>) -> Result<String> {
        let text = format!("{head}\n{}", types::yaml::write_manifest(&self.value)?);
        let read = |text: &str| types::yaml::read_manifest(text).ok();
        if read(&text).as_ref() != Some(&self.value) {
            return Err(Error::NotWritable { object: self.object.to_string() });
        }
        match former {
            Some(former) if self.is_generated() && former.lines().next() == text.lines().next() => {
                let is_same = read(former).is_some_and(|former| self.is_noise(former));
                Ok(if is_same { former.to_owned() } else { text })
            }
            _ => Ok(text),
        }
    }

    fn is_noise(&self, former: Value) -> bool {
        let object = |value: Value| [RenderedObject { id: self.object.clone(), value }];
        let (after, again) = (object(self.value.clone()), object(self.again.clone()));
        is_render_noise(&object(former), &after, &again)
    }
}

/// Whether helm runs an object as a hook.
pub(super) fn is_hook(value: &Value) -> bool {
    value.pointer("/metadata/annotations/helm.sh~1hook").is_some()
}

/// The folder below that of the release: definitions have to be applied before the objects of their kinds,
/// and hooks are not for everyone.
fn choose_folder(id: &ObjectId, value: &Value) -> Option<&'static str> {
    match () {
        () if id.kind == "CustomResourceDefinition" => Some("crds"),
        () if is_hook(value) => Some("hooks"),
        () => None,
    }
}

/// The name of an object's file. It follows from the object alone, so that it stays whatever else the
/// release has: `deployment_web.yaml`, with the group where it is not one of Kubernetes, and with the
/// namespace where it is not the release's.
fn name_file(id: &ObjectId, own: &str) -> String {
    let mut name = id.kind.to_lowercase();
    let group = id.api_version.split_once('/').map_or("", |(group, _)| group);
    if group.contains('.') && !group.ends_with(".k8s.io") {
        name = format!("{name}.{group}");
    }
    match &id.namespace {
        Some(namespace) if namespace != own => name = format!("{name}_{namespace}"),
        _ => {}
    }
    let name = encode_name(&format!("{name}_{}", id.name));
    if name.len() <= LONGEST_NAME {
        return name + ENDING;
    }
    let digest = store::hash::sha256(name.as_bytes());
    // Encoded names are ASCII, so that every index is between two characters.
    format!("{}-{}{ENDING}", &name[..LONGEST_NAME], digest.short_hex())
}

/// A name with everything encoded that is not a plain letter, digit, `.`, `_` or `-`: the names of roles may
/// have colons, which Windows refuses in a checkout.
fn encode_name(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Gives each object its place: a namespace to those that have one and name none, so that a file is
/// complete, and none to those that belong to no namespace. `own` is the release's namespace.
pub(super) fn complete_namespaces(objects: &mut [RenderedObject], own: &str) {
    let definitions = objects.iter().map(|object| &object.value);
    let defined = object_scope::list_cluster_scoped_kinds(definitions);
    for object in objects {
        let group = object.id.api_version.split_once('/').map_or("", |(group, _)| group);
        let is_defined = defined.iter().any(|(g, kind)| *g == group && *kind == object.id.kind);
        let is_cluster_scoped =
            is_defined || object_scope::is_cluster_scoped(&object.id.api_version, &object.id.kind);
        let Some(metadata) = object.value.get_mut("metadata").and_then(Value::as_object_mut) else {
            continue;
        };
        if is_cluster_scoped {
            object.id.namespace = None;
            metadata.remove("namespace");
        } else if metadata.get("namespace").is_none_or(|named| named.as_str() == Some("")) {
            metadata.insert("namespace".to_owned(), own.into());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::release::read_objects;

    fn make_file(text: &str, again: &str) -> ObjectFile {
        let mut object = read_objects(text, "shop").unwrap();
        complete_namespaces(&mut object, "shop");
        let mut again = read_objects(again, "shop").unwrap();
        complete_namespaces(&mut again, "shop");
        ObjectFile::new(("web", "shop"), object.remove(0), again.remove(0).value)
    }

    fn head() -> FileHead {
        FileHead { release: "web".into(), namespace: "shop".into(), bundle: "all".into() }
    }

    #[test]
    fn the_path_follows_from_the_object_alone() {
        let path = |text: &str| make_file(text, text).path.display().to_string();
        let object = |version: &str, kind: &str, name: &str, more: &str| {
            format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: '{name}'{more}}}\n")
        };
        assert_eq!(path(&object("apps/v1", "Deployment", "a", "")), "shop/web/deployment_a.yaml");
        assert_eq!(
            path(&object("cert-manager.io/v1", "Issuer", "a", "")),
            "shop/web/issuer.cert-manager.io_a.yaml"
        );
        let role = "rbac.authorization.k8s.io/v1";
        assert_eq!(
            path(&object(role, "ClusterRole", "system:a", ", namespace: x")),
            "shop/web/clusterrole_system%3Aa.yaml"
        );
        assert_eq!(
            path(&object(role, "RoleBinding", "a", ", namespace: kube-system")),
            "shop/web/rolebinding_kube-system_a.yaml"
        );
        let hook = ", annotations: {helm.sh/hook: pre-install}";
        assert_eq!(path(&object("batch/v1", "Job", "a", hook)), "shop/web/hooks/job_a.yaml");
        let long = path(&object("v1", "ConfigMap", &"x".repeat(253), ""));
        assert!(long.len() < 240 && long.ends_with(ENDING), "{long}");
    }

    #[test]
    fn a_file_is_complete_and_reads_as_its_object() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {n: '010', y: 'yes', \
            t: \"a\\n b \\n\", e: '', q: '# no comment', l: \"x\\ty\"}\n";
        let file = make_file(text, text);
        let text = file.write_text(&head(), None).unwrap();
        assert!(text.contains("namespace: shop"), "{text}");
        assert!(text.starts_with("# Written by `gantry render`: release web in shop of all."));
    }

    #[test]
    fn what_a_chart_makes_up_stays_as_it_was_until_something_else_changes() {
        let secret = |password: &str, key: &str| {
            format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData: {{{key}: {password}}}\n"
            )
        };
        let former = make_file(&secret("one", "p"), &secret("two", "p"));
        assert!(former.is_secret() && former.is_generated());
        let text = former.write_text(&head(), None).unwrap();
        let next = make_file(&secret("three", "p"), &secret("four", "p"));
        assert_eq!(next.write_text(&head(), Some(&text)).unwrap(), text);
        let other = make_file(&secret("three", "q"), &secret("four", "q"));
        assert_ne!(other.write_text(&head(), Some(&text)).unwrap(), text);
    }
}
