//! Counts the pods of a render that pull from the site, and those that get its pull secret: by
//! themselves or by their service account, also in the templates of pods that a ConfigMap holds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::set_by_hand::{ChartByHand, ValuePath, format_path};

/// The name of the pull secret that the measurement asks for.
pub(super) const SECRET: &str = "site-pull";
/// The name that values get by hand.
const PROBE: &str = "probe-pull";

/// The pods with images of the site.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct PodSecrets {
    /// All of them.
    pub(super) pods: BTreeSet<String>,
    /// Those that have the secret.
    pub(super) with: BTreeSet<String>,
    /// The places in custom resources and in texts that have it, for pods that a program starts.
    pub(super) places: BTreeSet<String>,
}

impl PodSecrets {
    /// Counts in a render. `secret` is the secret's name.
    pub(super) fn count(stream: &str, secret: &str) -> Self {
        let documents: Vec<Value> = stream
            .split("\n---")
            .filter_map(|text| types::yaml::read_manifest(text.trim_start_matches('-')).ok())
            .collect();
        let accounts: BTreeMap<&str, bool> = documents
            .iter()
            .filter(|document| text_at(document, "/kind") == "ServiceAccount")
            .map(|document| (text_at(document, "/metadata/name"), has_secret(document, secret)))
            .collect();
        let mut count = Self::default();
        for document in &documents {
            let kind = text_at(document, "/kind");
            let name = format!("{kind} {}", text_at(document, "/metadata/name"));
            let Some(pod) = find_pod(kind, document) else {
                if !matches!(kind, "ServiceAccount" | "Secret") {
                    add_places(document, secret, &name, &mut count.places);
                }
                continue;
            };
            let account = match text_at(pod, "/serviceAccountName") {
                "" => "default",
                account => account,
            };
            if has_secret(pod, secret) || accounts.get(account) == Some(&true) {
                count.with.insert(name.clone());
            }
            count.pods.insert(name);
        }
        count
    }
}

/// The pods and other places without the secret that a value of the chart would give it to, found by
/// setting all values that may be one by hand; each with the value. `known` is what has it.
pub(super) fn find_reachable_pods(hand: &ChartByHand, known: &PodSecrets) -> Vec<String> {
    let is_secret = |path: &ValuePath| {
        path.iter().any(|key| {
            let key = key.to_lowercase();
            key.contains("secret") || key.contains("regcred") || key.contains("dockerconfig")
        })
    };
    let paths = hand.paths().iter().filter(|path| is_secret(path) && hand.is_empty(path));
    let paths: Vec<&ValuePath> = paths.collect();
    let mut found = BTreeMap::new();
    for value in [json!([{"name": PROBE}]), json!([PROBE]), json!(PROBE)] {
        let gained = |stream: &str| -> BTreeSet<String> {
            let now = PodSecrets::count(stream, PROBE);
            let pods = now.with.difference(&known.with).filter(|pod| known.pods.contains(*pod));
            pods.chain(now.places.difference(&known.places)).cloned().collect()
        };
        let shows = |stream: &str| !gained(stream).is_empty();
        for (path, stream) in hand.find_values(&paths, &value, &shows) {
            for pod in gained(&stream) {
                found.entry(pod).or_insert_with(|| format!("{}={value}", format_path(path)));
            }
        }
    }
    found.into_iter().map(|(pod, value)| format!("{pod} by {value}")).collect()
}

/// Adds the places below a value that have the secret under the key of a pull secret.
fn add_places(value: &Value, secret: &str, path: &str, places: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            // Elsewhere the secret is only a part of a list that is printed as it is.
            let is_pod = map.keys().any(|key| {
                let key = key.to_lowercase();
                key.contains("container")
                    || key.contains("image") && !key.contains("secret")
                    || key == "repository"
            });
            for (key, value) in map {
                let path = format!("{path}/{key}");
                let words = key.to_lowercase().replace('_', "");
                if words.contains("pullsecret") {
                    if is_pod && value.to_string().contains(secret) {
                        places.insert(path);
                    }
                } else {
                    add_places(value, secret, &path, places);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                add_places(item, secret, &format!("{path}/{index}"), places);
            }
        }
        Value::String(text) if text.contains(secret) => {
            let is_json = text.trim_start().starts_with('{');
            let inner = match is_json {
                true => serde_json::from_str(text).ok(),
                false => types::yaml::read_manifest(text).ok(),
            };
            if let Some(inner @ (Value::Object(_) | Value::Array(_))) = inner {
                add_places(&inner, secret, path, places);
            }
        }
        _ => {}
    }
}

/// The specification of the pods of an object.
fn find_pod<'d>(kind: &str, document: &'d Value) -> Option<&'d Value> {
    let path = match kind {
        "Pod" => "/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        "PodTemplate" => "/template/spec",
        "DaemonSet"
        | "Deployment"
        | "Job"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet" => "/spec/template/spec",
        _ => return None,
    };
    document.pointer(path)
}

fn text_at<'d>(document: &'d Value, path: &str) -> &'d str {
    document.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn has_secret(holder: &Value, secret: &str) -> bool {
    let entries = holder.get("imagePullSecrets").and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(|entry| entry.get("name")?.as_str()).any(|name| name == secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_get_the_secret_by_themselves_or_by_their_account() {
        let stream = "kind: ServiceAccount\nmetadata: {name: sa}\nimagePullSecrets: [{name: s}]\n---\n\
            kind: Pod\nmetadata: {name: a}\nspec: {serviceAccountName: sa}\n---\n\
            kind: Job\nmetadata: {name: b}\nspec: {template: {spec: {imagePullSecrets: [{name: s}]}}}\n---\n\
            kind: Pod\nmetadata: {name: c}\nspec: {imagePullSecrets: [{name: other}]}\n";
        let count = PodSecrets::count(stream, "s");
        assert_eq!(count.pods.len(), 3);
        let with: Vec<&str> = count.with.iter().map(String::as_str).collect();
        assert_eq!(with, ["Job b", "Pod a"]);
    }
}
