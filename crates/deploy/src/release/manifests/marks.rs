//! The labels by which objects of a release of manifests are recognised. Nothing without them is
//! changed or deleted, unless the user takes it over.

use cluster::ObjectId;
use serde_json::{Map, Value, json};

/// The field manager of everything that a release of manifests applies. Not the manager of Gantry's
/// other objects: a namespace may be one of both, and each keeps its own fields.
pub(super) const FIELD_MANAGER: &str = "gantry-deploy";
/// The label with the name of the release.
pub(crate) const RELEASE: &str = "gantry.dev/release";
/// The label with the namespace of the release.
const RELEASE_NAMESPACE: &str = "gantry.dev/release-namespace";
/// The annotations of helm's objects (helm, `pkg/action/validate.go`).
const HELM_RELEASE: &str = "/metadata/annotations/meta.helm.sh~1release-name";
const HELM_NAMESPACE: &str = "/metadata/annotations/meta.helm.sh~1release-namespace";
/// The annotation that keeps an object when its release goes (helm.sh, "Tell Helm Not To Uninstall a
/// Resource"), in the form of a JSON pointer.
const KEEP: &str = "/metadata/annotations/helm.sh~1resource-policy";

/// Whose an object of the cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ObjectOwner {
    /// The release that is asked about.
    ThisRelease,
    /// Another release: what it is called in messages.
    Other(String),
    /// No release that Gantry or helm knows of.
    Nobody,
}

/// Marks an object as one of a release.
pub(super) fn mark_object(object: &mut Value, release: &str, namespace: &str) {
    let Some(fields) = object.as_object_mut() else { return };
    let Some(metadata) = entry_as_map(fields, "metadata") else { return };
    let Some(labels) = entry_as_map(metadata, "labels") else { return };
    labels.insert(RELEASE.to_owned(), release.into());
    labels.insert(RELEASE_NAMESPACE.to_owned(), namespace.into());
}

/// The map under a key, which is made when there is none.
fn entry_as_map<'a>(
    fields: &'a mut Map<String, Value>,
    key: &str,
) -> Option<&'a mut Map<String, Value>> {
    let value = fields.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

/// Whose an object is, by its labels and annotations.
pub(super) fn find_owner(live: &Value, release: &str, namespace: &str) -> ObjectOwner {
    let text = |pointer: &str| live.pointer(pointer).and_then(Value::as_str);
    let label = |key: &str| live.pointer("/metadata/labels")?.get(key)?.as_str();
    if let Some(name) = label(RELEASE) {
        let place = label(RELEASE_NAMESPACE).unwrap_or_default();
        return match (name, place) == (release, namespace) {
            true => ObjectOwner::ThisRelease,
            false => ObjectOwner::Other(format!("the release {name} in {place}")),
        };
    }
    match text(HELM_RELEASE) {
        Some(name) => {
            let place = text(HELM_NAMESPACE).unwrap_or_default();
            ObjectOwner::Other(format!("helm's release {name} in {place}"))
        }
        None => ObjectOwner::Nobody,
    }
}

/// Whether an object exists beside its release, whoever mentions it: namespaces are usually made
/// before, and Kubernetes makes a service account in each. Such objects are extended, and never owned.
pub(super) fn is_shared(id: &ObjectId) -> bool {
    matches!(
        (id.kind.as_str(), id.name.as_str()),
        ("Namespace", _) | ("ServiceAccount", "default") | ("ConfigMap", "kube-root-ca.crt")
    )
}

/// Why an object stays when its release, or the newest revision of it, does not have it any more;
/// `None` when it does not.
pub(super) fn find_reason_to_keep(id: &ObjectId, live: &Value) -> Option<&'static str> {
    if live.pointer(KEEP).and_then(Value::as_str) == Some("keep") {
        return Some("its annotation helm.sh/resource-policy says keep");
    }
    match id.kind.as_str() {
        "Namespace" => Some("everything in it would go with it"),
        "CustomResourceDefinition" => Some("all objects of its kind would go with it"),
        "PersistentVolumeClaim" => Some("its data is kept"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(kind: &str, name: &str) -> ObjectId {
        ObjectId {
            api_version: "v1".to_owned(),
            kind: kind.to_owned(),
            namespace: None,
            name: name.to_owned(),
        }
    }

    #[test]
    fn an_object_is_of_the_release_that_marked_it() {
        let mut object = json!({"metadata": {"name": "a", "labels": null}});
        assert_eq!(find_owner(&object, "web", "shop"), ObjectOwner::Nobody);
        mark_object(&mut object, "web", "shop");
        assert_eq!(find_owner(&object, "web", "shop"), ObjectOwner::ThisRelease);
        let other = ObjectOwner::Other("the release web in shop".to_owned());
        assert_eq!(find_owner(&object, "web", "test"), other);
        let helm = json!({"metadata": {"annotations": {
            "meta.helm.sh/release-name": "db", "meta.helm.sh/release-namespace": "shop"}}});
        let other = ObjectOwner::Other("helm's release db in shop".to_owned());
        assert_eq!(find_owner(&helm, "db", "shop"), other);
    }

    #[test]
    fn data_namespaces_and_what_is_annotated_stay() {
        let keep = json!({"metadata": {"annotations": {"helm.sh/resource-policy": "keep"}}});
        assert!(find_reason_to_keep(&id("ConfigMap", "a"), &keep).is_some());
        for kind in ["PersistentVolumeClaim", "Namespace", "CustomResourceDefinition"] {
            assert!(find_reason_to_keep(&id(kind, "a"), &json!({})).is_some(), "{kind}");
        }
        assert_eq!(find_reason_to_keep(&id("Deployment", "a"), &json!({})), None);
        assert!(is_shared(&id("ServiceAccount", "default")));
        assert!(!is_shared(&id("ServiceAccount", "web")));
    }
}
