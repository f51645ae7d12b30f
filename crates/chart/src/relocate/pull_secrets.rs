//! Pull secrets: every pod that pulls from the site gets the site's secret, through the values that
//! the chart has for it. As with images, marked values show where each of them comes out, and in
//! which of its two usual forms a chart takes them: `[{name: x}]` or `[x]`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::site::{Rendered, Site};
use super::slot::Scopes;
use crate::find::names;
use crate::path::Path;
use crate::values;

/// A value that takes pull secrets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder {
    pub(crate) path: Path,
    pub(crate) form: Form,
}

/// How a value takes a pull secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// `[{name: x}]`
    Objects,
    /// `[x]`
    Names,
    /// `x`
    Text,
}

impl Form {
    pub(crate) fn value(self, secret: &str) -> Value {
        match self {
            Self::Objects => json!([{"name": secret}]),
            Self::Names => json!([secret]),
            Self::Text => json!(secret),
        }
    }
}

/// The values of a chart that take pull secrets and have none. Where a user gave some, they stay.
pub(crate) fn holders(scopes: &Scopes, effective: &Value) -> BTreeSet<Path> {
    let mut paths = BTreeSet::new();
    values::leaves(effective, &Path::default(), &mut |path, leaf| {
        let words = names::words(path.last_key().unwrap_or_default());
        let ends = |end: &[&str]| {
            words.len() >= end.len() && words[words.len() - end.len()..].iter().eq(end.iter())
        };
        let is_empty = match leaf {
            Value::Array(items) => items.is_empty(),
            Value::Null => true,
            Value::String(text) => text.is_empty() && ends(&["image", "pull", "secret"]),
            _ => false,
        };
        if is_empty && (ends(&["pull", "secrets"]) || ends(&["image", "pull", "secret"])) {
            paths.insert(scopes.own_path(path));
        }
    });
    paths
}

/// The holders with a marked secret each, in one form for all lists.
pub(crate) fn marked(
    paths: &BTreeSet<Path>,
    form: Form,
    effective: &Value,
) -> (Vec<Holder>, Value) {
    let mut overlay = json!({});
    let mut holders = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let form = match path.find(effective) {
            Some(Value::String(_)) => Form::Text,
            _ => form,
        };
        values::set(&mut overlay, path, form.value(&mark(index)), effective);
        holders.push(Holder { path: path.clone(), form });
    }
    (holders, overlay)
}

fn mark(index: usize) -> String {
    format!("zq{index}qz")
}

/// Which holders give their secret to each document that pulls from the site.
pub(crate) fn reached(
    sites: &[Site],
    before: &Rendered,
    after: &Rendered,
    holders: &[Holder],
) -> BTreeMap<usize, BTreeSet<usize>> {
    let mut accounts: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for document in &after.manifests.documents {
        if document.kind() == "ServiceAccount" {
            accounts.insert(document.name().to_owned(), secrets(&document.value, holders));
        }
    }
    let mut reached = BTreeMap::new();
    for site in sites {
        let own = site.found.place.document;
        let Some(document) = after.same_document(before, own) else { continue };
        let document = &after.manifests.documents[document].value;
        let mut all = secrets(document, holders);
        let text = document.to_string();
        for (account, secrets) in &accounts {
            if text.contains(&format!("\"serviceAccountName\":{}", json!(account))) {
                all.extend(secrets);
            }
        }
        reached.insert(own, all);
    }
    reached
}

/// The holders whose secret stands properly in an `imagePullSecrets` of a document.
fn secrets(value: &Value, holders: &[Holder]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "imagePullSecrets" {
                    let names = value.as_array().into_iter().flatten();
                    let names: Vec<&str> = names
                        .filter_map(|entry| {
                            entry.get("name").and_then(Value::as_str).or_else(|| entry.as_str())
                        })
                        .collect();
                    found.extend((0..holders.len()).filter(|i| names.contains(&mark(*i).as_str())));
                } else {
                    found.extend(secrets(value, holders));
                }
            }
        }
        Value::Array(items) => {
            found.extend(items.iter().flat_map(|item| secrets(item, holders)));
        }
        _ => {}
    }
    found
}

/// The fewest holders that reach all documents that any reaches.
pub(crate) fn cover(holders: &[Holder], reached: &BTreeMap<usize, BTreeSet<usize>>) -> Vec<Holder> {
    let mut open: BTreeMap<usize, &BTreeSet<usize>> =
        reached.iter().filter(|(_, by)| !by.is_empty()).map(|(d, by)| (*d, by)).collect();
    let mut chosen = Vec::new();
    while !open.is_empty() {
        let best = (0..holders.len()).max_by_key(|index| {
            let covered = open.values().filter(|by| by.contains(index)).count();
            (
                covered,
                std::cmp::Reverse(holders[*index].path.steps().len()),
                std::cmp::Reverse(*index),
            )
        });
        let Some(best) = best else { break };
        open.retain(|_, by| !by.contains(&best));
        chosen.push(holders[best].clone());
    }
    chosen
}
