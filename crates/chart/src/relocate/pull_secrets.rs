//! Gives every pod that pulls from the site the site's pull secret, through the values that the
//! chart has for pull secrets. As with images, a marked render shows which pods each value reaches,
//! and which of the two usual forms the chart takes: `[{name: x}]` or `[x]`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::scopes::Scopes;
use super::site::{Rendered, Site};
use crate::find::{Pattern, names};
use crate::path::{Path, Step};
use crate::values;

/// The values of a chart that take pull secrets, and those that the overlay sets.
#[derive(Clone)]
pub(super) struct Secrets {
    /// The name of the secret to set; `None` leaves everything as it is.
    secret: Option<String>,
    /// The values that take a marker. Their index is the number in it.
    holders: Vec<Holder>,
    /// The values that the overlay sets.
    chosen: Vec<Holder>,
    /// The documents that pull from the site, with the indexes of the `holders` that reach each.
    reached: BTreeMap<usize, BTreeSet<usize>>,
}

/// A value that takes pull secrets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    path: Path,
    form: Form,
}

/// How a value takes a pull secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// `[{name: x}]`, as in the spec of a pod.
    Objects,
    /// `[x]`; the template makes objects of the names.
    Names,
    /// `x`, for a single secret.
    Text,
}

impl Form {
    /// The value with this secret.
    fn value(self, secret: &str) -> Value {
        match self {
            Self::Objects => json!([{"name": secret}]),
            Self::Names => json!([secret]),
            Self::Text => json!(secret),
        }
    }
}

impl Secrets {
    /// Finds the values that take pull secrets and are empty. Those that a user filled stay as they
    /// are. Without a secret to set, none is looked for.
    pub(super) fn new(scopes: &Scopes, effective: &Value, secret: Option<&str>) -> Self {
        let secret = secret.map(str::to_owned);
        let (chosen, reached) = (vec![], BTreeMap::new());
        if secret.is_none() {
            return Self { secret, holders: vec![], chosen, reached };
        }
        let mut holders = BTreeSet::new();
        values::leaves(effective, &Path::default(), &mut |path, leaf| {
            let Some(named) = named(path) else { return };
            let form = match leaf {
                Value::Array(items) if items.is_empty() => Form::Objects,
                Value::Null => named,
                Value::String(text) if text.is_empty() && named == Form::Text => Form::Text,
                _ => return,
            };
            let path = scopes.own_path(path);
            // An empty list does not show what its items are; a schema may.
            let item = path.index(0);
            let takes_names =
                scopes.said_of(&item).any(|said| said.get("type") == Some(&json!("string")));
            let form = if form == Form::Objects && takes_names { Form::Names } else { form };
            holders.insert(Holder { path, form });
        });
        Self { secret, holders: holders.into_iter().collect(), chosen, reached }
    }

    /// Puts a secret with a marker as its name into each value.
    pub(super) fn mark(&self, overlay: &mut Value, effective: &Value) {
        for (index, holder) in self.holders.iter().enumerate() {
            values::set(overlay, &holder.path, holder.form.value(&mark(index)), effective);
        }
    }

    /// Learns from a marked render which values reach which documents that pull from the site, by
    /// the pod itself or by its service account, and chooses the fewest values that reach all of
    /// them.
    pub(super) fn learn(&mut self, sites: &[Site], before: &Rendered, marked: &Rendered) {
        if self.secret.is_none() {
            return;
        }
        let mut accounts: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        let mut mangled = BTreeSet::new();
        for document in &marked.manifests.documents {
            if document.kind() == "ServiceAccount" {
                // Kubernetes adds an account's pull secrets to every pod that uses the account.
                let own = secrets(&document.value, self.holders.len(), &mut mangled);
                accounts.insert(document.name().to_owned(), own);
            }
        }
        for site in sites {
            let own = site.found.place.document;
            if self.reached.contains_key(&own) {
                continue;
            }
            let Some(document) = marked.same_document(before, own) else { continue };
            let document = &marked.manifests.documents[document].value;
            let mut all = secrets(document, self.holders.len(), &mut mangled);
            all.extend(account_names(document).filter_map(|name| accounts.get(name)).flatten());
            self.reached.insert(own, all);
        }
        for index in mangled {
            self.holders[index].form = Form::Names;
        }
        self.chosen = cover(&self.holders, &self.reached);
    }

    /// Sets no pull secrets, where helm refused every marked render and nothing is known of them.
    pub(super) fn unmarked(&mut self) {
        self.holders.clear();
    }

    /// Sets the site's secret in an overlay.
    pub(super) fn set(&self, overlay: &mut Value, effective: &Value) {
        for (path, value) in self.values() {
            values::set(overlay, path, value, effective);
        }
    }

    /// The paths that the overlay sets, with their values.
    pub(super) fn values(&self) -> impl Iterator<Item = (&Path, Value)> {
        let all =
            self.secret.iter().flat_map(|secret| self.chosen.iter().map(move |h| (h, secret)));
        all.map(|(holder, secret)| (&holder.path, holder.form.value(secret)))
    }

    /// The documents with pods that pull from the site and get the secret by no value.
    pub(super) fn unreached(&self, sites: &[Site]) -> BTreeSet<usize> {
        if self.secret.is_none() {
            return BTreeSet::new();
        }
        let holders: Vec<&Path> = self.chosen.iter().map(|holder| &holder.path).collect();
        let is_reached = |document: &usize| {
            let by = self.reached.get(document).into_iter().flatten();
            by.filter_map(|index| self.holders.get(*index)).any(|h| holders.contains(&&h.path))
        };
        // Images of other objects are passed to an operator, whose pods have their own pull
        // secrets.
        let pods = sites.iter().filter(|site| site.found.pattern == Pattern::Pod);
        let documents = pods.map(|site| site.found.place.document);
        documents.filter(|document| !is_reached(document)).collect()
    }

    /// Whether the overlay sets no pull secret.
    pub(super) fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// A copy in which no value is chosen.
    pub(super) fn without(&self) -> Self {
        Self { chosen: vec![], ..self.clone() }
    }

    /// Stops setting pull secrets.
    pub(super) fn clear(&mut self) {
        self.chosen.clear();
    }

    /// Handles a message of helm's about some of the values (`about` finds its line): they are left
    /// alone, or tried in the other form if the message is about their items. Returns whether the
    /// message was about any.
    pub(super) fn leave(&mut self, about: impl Fn(&Path) -> Option<String>) -> bool {
        let before = self.chosen.len();
        self.chosen.retain(|holder| about(&holder.path).is_none());
        // `reached` has the indexes of the values, so from then on none may be removed.
        if !self.reached.is_empty() {
            return before != self.chosen.len();
        }
        let mut is_named = false;
        for holder in &mut self.holders {
            let item = holder.path.index(0);
            if holder.form == Form::Objects && about(&item).is_some() {
                holder.form = Form::Names;
                is_named = true;
            }
        }
        let before = self.holders.len();
        self.holders.retain(|holder| about(&holder.path).is_none());
        is_named || before != self.holders.len()
    }
}

/// The form in which a value takes pull secrets, by its key: `imagePullSecrets` is a list;
/// `imagePullSecret`, `pullSecretName`, and `secretName` below `registry` are one name. `None` for
/// other keys.
fn named(path: &Path) -> Option<Form> {
    let words = names::words(path.last_key().unwrap_or_default());
    let ends = |end: &[&str]| {
        words.len() >= end.len() && words[words.len() - end.len()..].iter().eq(end.iter())
    };
    // `secretName` alone is any secret; below `registry` it is the one for pulling.
    let is_registry_s = || {
        matches!(path.steps(), [.., Step::Key(above), Step::Key(_)]
            if names::words(above).last().is_some_and(|word| word == "registry"))
    };
    if ends(&["pull", "secrets"]) {
        return Some(Form::Objects);
    }
    let is_one = ends(&["pull", "secret"])
        || ends(&["pull", "secret", "name"])
        || words == ["secret", "name"] && is_registry_s();
    is_one.then_some(Form::Text)
}

/// The marker of a pull secret; unlike that of a slot, so that it is never read as part of an
/// image.
fn mark(index: usize) -> String {
    format!("zqs{index}qz")
}

/// The service accounts that a document names, at any depth.
fn account_names(document: &Value) -> impl Iterator<Item = &str> {
    let mut open = vec![document];
    let mut names = Vec::new();
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                names.extend(map.get("serviceAccountName").and_then(Value::as_str));
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    names.into_iter()
}

/// The indexes of the values whose markers are in an `imagePullSecrets` of a document. A marker
/// with other text around it goes to `mangled`: the template printed `map[name:zqs0qz]`, as Go
/// prints a map, because it expects plain names.
fn secrets(value: &Value, holders: usize, mangled: &mut BTreeSet<usize>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if key != "imagePullSecrets" {
                    found.extend(secrets(value, holders, mangled));
                    continue;
                }
                for entry in value.as_array().into_iter().flatten() {
                    let name = entry.get("name").and_then(Value::as_str).or(entry.as_str());
                    let Some(name) = name.filter(|name| name.contains("zqs")) else { continue };
                    for index in (0..holders).filter(|index| name.contains(&mark(*index))) {
                        found.insert(index);
                        if name != mark(index) {
                            mangled.insert(index);
                        }
                    }
                }
            }
        }
        Value::Array(items) => {
            found.extend(items.iter().flat_map(|item| secrets(item, holders, mangled)));
        }
        _ => {}
    }
    found
}

/// The fewest values that reach all documents that any value reaches, by a greedy search: the value
/// that reaches most first, then the one nearest to the top, then the first.
fn cover(holders: &[Holder], reached: &BTreeMap<usize, BTreeSet<usize>>) -> Vec<Holder> {
    let mut open: BTreeMap<usize, &BTreeSet<usize>> =
        reached.iter().filter(|(_, by)| !by.is_empty()).map(|(d, by)| (*d, by)).collect();
    let mut chosen = Vec::new();
    while !open.is_empty() {
        // `max_by_key` takes the last of equals, so indexes are reversed to get the first.
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
