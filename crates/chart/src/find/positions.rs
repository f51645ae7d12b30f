//! Positions of a document where Kubernetes has names, labels, taints and quantities, and never an
//! image: whatever form a text has there, it is none. The finders, the post-renderer and the proof
//! ask this module, so that none of them takes `nvidia.com/gpu` in a toleration for an image.

use std::collections::BTreeSet;

use serde_json::Value;
use types::pod_kinds::{CONTAINER_LISTS, PodKind, VOLUME_IMAGE, VOLUMES};

use super::{api_groups, names};
use crate::manifest::api_group;
use crate::path::{DocumentPath, PathStep};

/// Keys of Kubernetes' own types (core/v1, apps/v1, meta/v1) below which there is no image.
const KEYS: &[&str] = &[
    "affinity",
    "apiGroup",
    "apiGroups",
    "apiVersion",
    "finalizers",
    "ingressClassName",
    "labelSelector",
    "labels",
    "limits",
    "managedFields",
    "matchExpressions",
    "matchFields",
    "matchLabels",
    "matchLabelKeys",
    "namespace",
    "namespaceSelector",
    "nodeAffinity",
    "nodeSelector",
    "nodeSelectorTerms",
    "ownerReferences",
    "podAffinity",
    "podAntiAffinity",
    "podSelector",
    "priorityClassName",
    "requests",
    "resourceNames",
    "runtimeClassName",
    "schedulerName",
    "selector",
    "serviceAccountName",
    "storageClassName",
    "taints",
    "tolerations",
    "topologyKey",
    "topologySpreadConstraints",
];

/// Words of other keys, variables and flags that say the same: `podLabels`, `NODE_SELECTOR`,
/// `--default-tolerations`.
const WORDS: &[&str] = &[
    "affinity",
    "annotation",
    "finalizer",
    "finalizers",
    "label",
    "labels",
    "selector",
    "selectors",
    "taint",
    "taints",
    "toleration",
    "tolerations",
];

/// Custom resources whose `spec.image` is the name of a model in a registry of models, by group and
/// kind (nekomeowww/ollama-operator, pkg/model/pod.go of ece3188).
const MODEL_KINDS: &[(&str, &str)] = &[("ollama.ayaka.io", "Model")];

/// Whether the `spec.image` of an object is a model.
pub(crate) fn is_image_a_model(object: &Value) -> bool {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    MODEL_KINDS.contains(&(api_group(object), kind))
}

/// Whether nothing below this key is an image.
pub(crate) fn is_without_images(key: &str) -> bool {
    // Keys with a domain are names of annotations, which programs give any meaning.
    if KEYS.contains(&key) {
        return true;
    }
    if key.contains('/') || names::is_image_key(key) {
        return false;
    }
    let words = names::split_words(key);
    words.last().is_some_and(|word| WORDS.contains(&word.as_str()))
}

/// Whether no text at a path of a document is an image or the mention of one: below a key without
/// images, in a file of examples, or in a field of Kubernetes' own kinds that holds something else.
pub(crate) fn is_place_without_images(document: &Value, path: &DocumentPath) -> bool {
    let is_other = |step: &PathStep| match step {
        PathStep::Key(key) => is_without_images(key) || names::is_example_key(key),
        PathStep::Index(_) | PathStep::Inside(_) => false,
    };
    path.steps().iter().any(is_other) || is_other_field(document, path.steps())
}

/// Whether a path leads to a field of Kubernetes' own kinds in which no image can be. The API
/// reference has images, or texts that a program may read for one, only in annotations, in the data
/// of ConfigMaps and Secrets, in the fields of pods that [`may_pod_hold_image`] lists, and in what the
/// groups of [`FREE_GROUPS`] leave to programs and expressions.
fn is_other_field(document: &Value, steps: &[PathStep]) -> bool {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    // A stream of several documents in a text.
    if let ([PathStep::Index(index), rest @ ..], Value::Array(documents)) = (steps, document) {
        return documents.get(*index).is_some_and(|object| is_other_field(object, rest));
    }
    // `List` and its like hold objects of any kind.
    if let [PathStep::Key(items), PathStep::Index(index), rest @ ..] = steps
        && items == "items"
        && kind.ends_with("List")
    {
        return document
            .get(items)
            .and_then(|items| items.get(index))
            .is_some_and(|object| is_other_field(object, rest));
    }
    if let [PathStep::Key(spec), PathStep::Key(image)] = steps
        && (spec.as_str(), image.as_str()) == ("spec", "image")
        && is_image_a_model(document)
    {
        return true;
    }
    let pod_kind = PodKind::find_by_name(kind);
    let group = api_group(document);
    let has_version = document.get("apiVersion").is_some_and(Value::is_string);
    // Without a version it is a document of no known kind, such as a file of values.
    if api_groups::is_custom_group(group)
        || FREE_GROUPS.contains(&group)
        || !has_version && pod_kind.is_none()
    {
        return false;
    }
    if is_annotation(steps) || matches!(kind, "ConfigMap" | "Secret") && is_entry(steps) {
        return false;
    }
    let Some(pod_kind) = pod_kind else { return true };
    let is_key = |(step, key): (&PathStep, &&str)| matches!(step, PathStep::Key(own) if own == key);
    let template = pod_kind.template_path;
    if steps.len() < template.len() || !steps.iter().zip(template).all(is_key) {
        return true;
    }
    match &steps[template.len()..] {
        [PathStep::Key(spec), rest @ ..] if spec == "spec" => !may_pod_hold_image(rest),
        rest => !is_annotation(rest),
    }
}

/// Groups of Kubernetes whose objects hold texts for programs: expressions of admission policies may
/// name registries, and so may the parameters of devices.
const FREE_GROUPS: &[&str] = &["admissionregistration.k8s.io", "resource.k8s.io"];

fn is_annotation(steps: &[PathStep]) -> bool {
    matches!(steps, [PathStep::Key(metadata), PathStep::Key(annotations), ..]
        if metadata == "metadata" && annotations == "annotations")
}

/// Whether steps lead to an entry of a ConfigMap or Secret.
fn is_entry(steps: &[PathStep]) -> bool {
    matches!(steps, [PathStep::Key(data), PathStep::Key(_), ..]
        if matches!(data.as_str(), "data" | "stringData" | "binaryData"))
}

/// Whether a field of a pod's spec may hold an image: of a container its image, its command and
/// arguments, the values of its environment and the commands of its probes and hooks; of a volume an
/// image, or the attributes that a driver reads.
fn may_pod_hold_image(steps: &[PathStep]) -> bool {
    let [PathStep::Key(list), PathStep::Index(_), PathStep::Key(field), rest @ ..] = steps else {
        return false;
    };
    let leads_through = |keys: &[&str]| {
        rest.iter().zip(keys).all(|(step, key)| matches!(step, PathStep::Key(own) if own == key))
            && rest.len() >= keys.len()
    };
    if list == VOLUMES {
        return match field.as_str() {
            "csi" => leads_through(&["volumeAttributes"]),
            "flexVolume" => leads_through(&["options"]),
            _ => field == VOLUME_IMAGE[0] && leads_through(&VOLUME_IMAGE[1..]),
        };
    }
    CONTAINER_LISTS.contains(&list.as_str())
        && match field.as_str() {
            "image" | "command" | "args" => true,
            "env" => {
                matches!(rest, [PathStep::Index(_), PathStep::Key(value), ..] if value == "value")
            }
            "lifecycle" => {
                matches!(rest, [_, PathStep::Key(exec), PathStep::Key(command), ..]
                    if exec == "exec" && command == "command")
            }
            "livenessProbe" | "readinessProbe" | "startupProbe" => {
                leads_through(&["exec", "command"])
            }
            _ => false,
        }
}

/// The names with a domain (`nvidia.com/gpu`, `app.kubernetes.io/component`) that a document has as
/// labels, annotations, resources, tolerations and the like.
pub(crate) fn list_qualified_names(document: &Value) -> BTreeSet<String> {
    const MAPS: &[&str] =
        &["labels", "annotations", "matchLabels", "nodeSelector", "limits", "requests", "selector"];
    let mut found = BTreeSet::new();
    let mut open = vec![document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::Object(names) if MAPS.contains(&key.as_str()) => {
                            found.extend(names.keys().filter(|name| name.contains('/')).cloned());
                        }
                        // The `key` of a toleration, a taint or an expression; not that of an entry of
                        // a ConfigMap, which has the ConfigMap's name or a path beside it.
                        Value::String(name)
                            if key == "topologyKey"
                                || key == "key"
                                    && !map.contains_key("name")
                                    && !map.contains_key("path") =>
                        {
                            found.extend(Some(name.clone()).filter(|name| name.contains('/')));
                        }
                        _ => {}
                    }
                    open.push(value);
                }
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_names_have_no_images_and_keys_of_images_do() {
        for key in ["labels", "podLabels", "NODE_SELECTOR", "default-tolerations", "topologyKey"] {
            assert!(is_without_images(key), "{key}");
        }
        for key in ["image", "selectorImage", "sidecar.istio.io/proxyImage", "annotations", "name"]
        {
            assert!(!is_without_images(key), "{key}");
        }
    }

    #[test]
    fn fields_of_kubernetes_kinds_hold_images_only_where_its_api_has_them() {
        let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod"});
        let job = serde_json::json!({"apiVersion": "batch/v1", "kind": "Job"});
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [pod]});
        let map = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap"});
        let service = serde_json::json!({"apiVersion": "v1", "kind": "Service"});
        let custom = serde_json::json!({"apiVersion": "x.example/v1", "kind": "App"});
        let values = serde_json::json!({"spec": {}});
        let root = DocumentPath::default();
        let spec = root.key("spec");
        let container = spec.key("containers").index(0);
        let template = spec.key("template");
        for (document, path, is_without) in [
            (&pod, container.key("image"), false),
            (&pod, container.key("args").index(1).inside(crate::TextEncoding::Text), false),
            (&pod, container.key("env").index(0).key("value"), false),
            (&pod, container.key("env").index(0).key("name"), true),
            (&pod, container.key("name"), true),
            (&pod, container.key("livenessProbe").key("exec").key("command").index(0), false),
            (&pod, container.key("livenessProbe").key("httpGet").key("path"), true),
            (&pod, container.key("lifecycle").key("preStop").key("exec").key("command"), false),
            (&pod, spec.key("volumes").index(0).key("image").key("reference"), false),
            (&pod, spec.key("volumes").index(0).key("csi").key("volumeAttributes"), false),
            (&pod, spec.key("volumes").index(0).key("name"), true),
            (&pod, spec.key("hostname"), true),
            (&pod, root.key("metadata").key("annotations").key("a"), false),
            (&job, template.key("metadata").key("annotations").key("a"), false),
            (&job, template.key("spec").key("containers").index(0).key("image"), false),
            (&job, spec.key("containers").index(0).key("image"), true),
            (&list, root.key("items").index(0).join(&container.key("image")), false),
            (&list, root.key("items").index(0).join(&container.key("name")), true),
            (&map, root.key("data").key("a"), false),
            (&map, root.key("metadata").key("name"), true),
            (&service, spec.key("externalName"), true),
            (&custom, spec.key("any"), false),
            (&values, spec.key("any"), false),
        ] {
            assert_eq!(is_place_without_images(document, &path), is_without, "{document} {path}");
        }
    }

    #[test]
    fn the_names_of_a_document_are_listed_wherever_it_has_them() {
        let document = serde_json::json!({"spec": {
            "nodeSelector": {"a.io/x": "1", "plain": "2"},
            "tolerations": [{"key": "b.io/y", "effect": "NoSchedule"}],
            "env": [{"valueFrom": {"configMapKeyRef": {"name": "x", "key": "e.io/entry"}}}],
            "containers": [{"resources": {"limits": {"c.io/gpu": 1}}, "image": "d.io/z:1"}],
        }});
        let found: Vec<_> = list_qualified_names(&document).into_iter().collect();
        assert_eq!(found, ["a.io/x", "b.io/y", "c.io/gpu"]);
    }
}
