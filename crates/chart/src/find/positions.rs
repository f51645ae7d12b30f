//! Positions of a document where Kubernetes has names, labels, taints and quantities, and never an
//! image: whatever form a text has there, it is none. The finders, the post-renderer and the proof
//! ask this module, so that none of them takes `nvidia.com/gpu` in a toleration for an image.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names;
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

/// Whether a path leads below a key without images, or into a file of examples.
pub(crate) fn is_path_without_images(path: &DocumentPath) -> bool {
    path.steps().iter().any(|step| match step {
        PathStep::Key(key) => is_without_images(key) || names::is_example_key(key),
        PathStep::Index(_) | PathStep::Inside(_) => false,
    })
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
                        // The `key` of a toleration, a taint or an expression.
                        Value::String(name) if key == "key" || key == "topologyKey" => {
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
    fn the_names_of_a_document_are_listed_wherever_it_has_them() {
        let document = serde_json::json!({"spec": {
            "nodeSelector": {"a.io/x": "1", "plain": "2"},
            "tolerations": [{"key": "b.io/y", "effect": "NoSchedule"}],
            "containers": [{"resources": {"limits": {"c.io/gpu": 1}}, "image": "d.io/z:1"}],
        }});
        let found: Vec<_> = list_qualified_names(&document).into_iter().collect();
        assert_eq!(found, ["a.io/x", "b.io/y", "c.io/gpu"]);
    }
}
