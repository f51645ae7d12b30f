//! Pull secrets: every pod that pulls from the site gets the site's secret, through the values that
//! the chart has for it. As with images, marked values show where each of them comes out, and in
//! which of its two usual forms a chart takes them: `[{name: x}]` or `[x]`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::scopes::Scopes;
use super::site::{Rendered, Site};
use crate::find::{Pattern, names};
use crate::path::{Path, Step};
use crate::values;

/// The values of a chart that take pull secrets, and those of them that get the site's.
#[derive(Clone)]
pub(super) struct Secrets {
    secret: Option<String>,
    holders: Vec<Holder>,
    chosen: Vec<Holder>,
    /// The documents that pull from the site, with the holders that reach each.
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
    /// `[{name: x}]`
    Objects,
    /// `[x]`
    Names,
    /// `x`
    Text,
}

impl Form {
    fn value(self, secret: &str) -> Value {
        match self {
            Self::Objects => json!([{"name": secret}]),
            Self::Names => json!([secret]),
            Self::Text => json!(secret),
        }
    }
}

impl Secrets {
    /// The values that take pull secrets and have none. Where a user gave some, they stay.
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
            let item = path.index(0);
            let takes_names =
                scopes.said_of(&item).any(|said| said.get("type") == Some(&json!("string")));
            let form = if form == Form::Objects && takes_names { Form::Names } else { form };
            holders.insert(Holder { path, form });
        });
        Self { secret, holders: holders.into_iter().collect(), chosen, reached }
    }

    /// Puts a marked secret into each holder.
    pub(super) fn mark(&self, overlay: &mut Value, effective: &Value) {
        for (index, holder) in self.holders.iter().enumerate() {
            values::set(overlay, &holder.path, holder.form.value(&mark(index)), effective);
        }
    }

    /// Learns from a marked render which holders reach which documents that pull from the site, and
    /// chooses the fewest that reach all that any does.
    pub(super) fn learn(&mut self, sites: &[Site], before: &Rendered, marked: &Rendered) {
        if self.secret.is_none() {
            return;
        }
        let mut accounts: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        let mut mangled = BTreeSet::new();
        for document in &marked.manifests.documents {
            if document.kind() == "ServiceAccount" {
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

    /// No marked render could be made: nothing is known of where secrets come out.
    pub(super) fn unmarked(&mut self) {
        self.holders.clear();
    }

    /// Puts the site's secret into the chosen holders.
    pub(super) fn set(&self, overlay: &mut Value, effective: &Value) {
        for (path, value) in self.values() {
            values::set(overlay, path, value, effective);
        }
    }

    /// The chosen holders and what they get.
    pub(super) fn values(&self) -> impl Iterator<Item = (&Path, Value)> {
        let all =
            self.secret.iter().flat_map(|secret| self.chosen.iter().map(move |h| (h, secret)));
        all.map(|(holder, secret)| (&holder.path, holder.form.value(secret)))
    }

    /// The pods' documents that no value gives the secret.
    pub(super) fn unreached(&self, sites: &[Site]) -> BTreeSet<usize> {
        if self.secret.is_none() {
            return BTreeSet::new();
        }
        let holders: Vec<&Path> = self.chosen.iter().map(|holder| &holder.path).collect();
        let is_reached = |document: &usize| {
            let by = self.reached.get(document).into_iter().flatten();
            by.filter_map(|index| self.holders.get(*index)).any(|h| holders.contains(&&h.path))
        };
        // What is no pod gives its images to something that has secrets of its own.
        let pods = sites.iter().filter(|site| site.found.pattern == Pattern::Pod);
        let documents = pods.map(|site| site.found.place.document);
        documents.filter(|document| !is_reached(document)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// The same with none chosen.
    pub(super) fn without(&self) -> Self {
        Self { chosen: vec![], ..self.clone() }
    }

    pub(super) fn clear(&mut self) {
        self.chosen.clear();
    }

    /// Leaves alone the holders that helm's message is about; one whose items it wants otherwise is
    /// tried in the other form.
    pub(super) fn leave(&mut self, about: impl Fn(&Path) -> Option<String>) -> bool {
        let before = self.chosen.len();
        self.chosen.retain(|holder| about(&holder.path).is_none());
        // Once it is learned which holder reaches what, their numbers stay.
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

/// How a value takes pull secrets if its key says that it does: `imagePullSecrets` a list,
/// `imagePullSecret`, `pullSecretName` and the `secretName` of a `registry` one name.
fn named(path: &Path) -> Option<Form> {
    let words = names::words(path.last_key().unwrap_or_default());
    let ends = |end: &[&str]| {
        words.len() >= end.len() && words[words.len() - end.len()..].iter().eq(end.iter())
    };
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

/// Not the marker of a slot, so that a secret is never taken for a part of an image.
fn mark(index: usize) -> String {
    format!("zqs{index}qz")
}

/// The service accounts that a document names.
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

/// The holders whose secret stands in an `imagePullSecrets` of a document. Those that come out as
/// Go prints a map are `mangled`: the chart takes names.
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

/// The fewest holders that reach all documents that any reaches.
fn cover(holders: &[Holder], reached: &BTreeMap<usize, BTreeSet<usize>>) -> Vec<Holder> {
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
