//! Gives every pod that pulls from the site the site's pull secret, through the values that the
//! chart has for pull secrets. As with images, a marked render shows which pods each value reaches,
//! and which of the two usual forms the chart takes: `[{name: x}]` or `[x]`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::HelmChart;
use crate::edit::embedded::parse_embedded;
use crate::find::pods::pod_spec_path;
use crate::find::{LocationKind, names};
use crate::path::{DocumentPath, PathStep};
use crate::set_cover::{CoverOverlap, CoverSet, choose_covering_sets};
use crate::taint::image_move::ImageMove;
use crate::taint::indexed_render::IndexedRender;
use crate::taint::markers::MarkerKind;
use crate::taint::scopes::ChartScopes;
use crate::values;

/// The values of a chart that take pull secrets, and those that the overlay sets.
#[derive(Clone)]
pub(super) struct PullSecretValues {
    /// The name of the secret to set; `None` leaves everything as it is.
    secret: Option<String>,
    /// The values that take a marker. Their index is the number in it.
    holders: Vec<PullSecretValue>,
    /// The values that the overlay sets.
    chosen: Vec<PullSecretValue>,
    /// The places that name pull secrets, with the indexes of the `holders` that reach each.
    reached: BTreeMap<SecretPlace, BTreeSet<usize>>,
}

/// A place that names pull secrets: the number of a document and a path in it. The pods of a document
/// are one place, with the empty path, however they get their secrets; a custom resource or a text
/// has one for each list, as its operator starts pods of several kinds.
type SecretPlace = (usize, DocumentPath);

/// A value that takes pull secrets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PullSecretValue {
    path: DocumentPath,
    form: PullSecretShape,
}

/// How a value takes a pull secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PullSecretShape {
    /// `[{name: x}]`, as in the spec of a pod.
    Objects,
    /// `[x]`; the template makes objects of the names.
    Names,
    /// `x`, for a single secret.
    Text,
}

impl PullSecretShape {
    /// The value with this secret.
    fn to_value(self, secret: &str) -> Value {
        match self {
            Self::Objects => json!([{"name": secret}]),
            Self::Names => json!([secret]),
            Self::Text => json!(secret),
        }
    }
}

impl PullSecretValues {
    /// Finds the values that take pull secrets and are empty or not set. Those that a user filled stay as they
    /// are. Without a secret to set, none is looked for.
    pub(super) fn new(
        chart: &HelmChart,
        scopes: &ChartScopes,
        effective: &Value,
        secret: Option<&str>,
    ) -> Self {
        let secret = secret.map(str::to_owned);
        let (chosen, reached) = (vec![], BTreeMap::new());
        if secret.is_none() {
            return Self { secret, holders: vec![], chosen, reached };
        }
        let mut holders = BTreeSet::new();
        values::visit_leaves(effective, &DocumentPath::default(), &mut |path, leaf| {
            let Some(named) = shape_from_key(path) else { return };
            let form = match leaf {
                Value::Array(items) if items.is_empty() => PullSecretShape::Objects,
                Value::Null => named,
                Value::String(text) if text.is_empty() && named == PullSecretShape::Text => {
                    PullSecretShape::Text
                }
                _ => return,
            };
            let path = scopes.path_to_set(path);
            // An empty list does not show what its items are; a schema may.
            let item = path.index(0);
            let takes_names =
                scopes.schemas_of(&item).any(|said| said.get("type") == Some(&json!("string")));
            let form = if form == PullSecretShape::Objects && takes_names {
                PullSecretShape::Names
            } else {
                form
            };
            holders.insert(PullSecretValue { path, form });
        });
        // Those that only the templates know of, and that values.yaml has as a comment or not at all.
        let wanted = names::is_pull_secret_key;
        let items = scopes.find_unset_item_fields(chart, effective, wanted);
        for path in scopes.find_unset_values(chart, effective, wanted).into_iter().chain(items) {
            if let Some(form) = shape_from_key(&path) {
                holders.insert(PullSecretValue { path, form });
            }
        }
        Self { secret, holders: holders.into_iter().collect(), chosen, reached }
    }

    /// Puts a secret with a marker as its name into each value.
    pub(super) fn set_markers(&self, overlay: &mut Value, effective: &Value) {
        for (index, holder) in self.holders.iter().enumerate() {
            let marker = MarkerKind::PullSecret.marker(index).to_string();
            values::set_value(overlay, &holder.path, holder.form.to_value(&marker), effective);
        }
    }

    /// Learns from a marked render which values reach which places that name pull secrets: pods, by
    /// themselves or by their service account, custom resources, and texts that a program reads. Chooses
    /// the fewest values that reach all of them.
    pub(super) fn choose_reaching_values(
        &mut self,
        before: &IndexedRender,
        marked: &IndexedRender,
    ) {
        if self.secret.is_none() {
            return;
        }
        let mut search = MarkedSecrets::new(&self.holders);
        let mut accounts: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for document in &marked.manifests.documents {
            if document.kind() == "ServiceAccount" {
                // Kubernetes adds an account's pull secrets to every pod that uses the account.
                let own = search.find_places(&document.value).into_values().flatten().collect();
                accounts.insert(document.name().to_owned(), own);
            }
        }
        for (own, document) in before.manifests.documents.iter().enumerate() {
            let kind = document.kind();
            let Some(same) = marked.find_same_document(before, own) else { continue };
            let document = &marked.manifests.documents[same].value;
            if kind == "ServiceAccount" {
                continue;
            }
            let places = search.find_places(document);
            if pod_spec_path(kind).is_none() {
                let places = places.into_iter().map(|(path, by)| ((own, path), by));
                self.reached.extend(places);
                continue;
            }
            let mut all: BTreeSet<usize> = places.into_values().flatten().collect();
            let names = find_service_account_names(document);
            all.extend(names.filter_map(|name| accounts.get(name)).flatten());
            self.reached.insert((own, DocumentPath::default()), all);
        }
        for index in search.mangled {
            self.holders[index].form = PullSecretShape::Names;
        }
        self.chosen = choose_covering_values(&self.holders, &self.reached);
    }

    /// Sets no pull secrets, where helm refused every marked render and nothing is known of them.
    pub(super) fn forget_values(&mut self) {
        self.holders.clear();
    }

    /// Sets the site's secret in an overlay.
    pub(super) fn set_secret(&self, overlay: &mut Value, effective: &Value) {
        for (path, value) in self.chosen_values() {
            values::set_value(overlay, path, value, effective);
        }
    }

    /// The paths that the overlay sets, with their values.
    pub(super) fn chosen_values(&self) -> impl Iterator<Item = (&DocumentPath, Value)> {
        let all =
            self.secret.iter().flat_map(|secret| self.chosen.iter().map(move |h| (h, secret)));
        all.map(|(holder, secret)| (&holder.path, holder.form.to_value(secret)))
    }

    /// The documents with pods that pull from the site and get the secret by no value.
    pub(super) fn find_unreached_documents(&self, sites: &[ImageMove]) -> BTreeSet<usize> {
        if self.secret.is_none() {
            return BTreeSet::new();
        }
        let holders: Vec<&DocumentPath> = self.chosen.iter().map(|holder| &holder.path).collect();
        let is_reached = |document: &usize| {
            let by = self.reached.get(&(*document, DocumentPath::default())).into_iter().flatten();
            by.filter_map(|index| self.holders.get(*index)).any(|h| holders.contains(&&h.path))
        };
        // Images of other objects are passed to an operator, whose pods have their own pull
        // secrets.
        let pods = sites.iter().filter(|site| site.found.pattern == LocationKind::Pod);
        let documents = pods.map(|site| site.found.place.document);
        documents.filter(|document| !is_reached(document)).collect()
    }

    /// Whether the chart has no value for a pull secret, or none is to be set.
    pub(super) fn is_unused(&self) -> bool {
        self.holders.is_empty()
    }

    /// Whether the overlay sets no pull secret.
    pub(super) fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// A copy in which no value is chosen.
    pub(super) fn without_chosen(&self) -> Self {
        Self { chosen: vec![], ..self.clone() }
    }

    /// A copy in which the value at a path is not chosen.
    pub(super) fn without_value(&self, path: &DocumentPath) -> Self {
        let mut other = self.clone();
        other.chosen.retain(|holder| holder.path != *path);
        other
    }

    /// Stops setting pull secrets.
    pub(super) fn clear_chosen(&mut self) {
        self.chosen.clear();
    }

    /// Handles a message of helm's about some of the values (`about` finds its line): they are left
    /// alone, or tried in the other form if the message is about their items. Returns whether the
    /// message was about any.
    pub(super) fn skip_refused(&mut self, about: impl Fn(&DocumentPath) -> Option<String>) -> bool {
        let before = self.chosen.len();
        self.chosen.retain(|holder| about(&holder.path).is_none());
        // `reached` has the indexes of the values, so from then on none may be removed.
        if !self.reached.is_empty() {
            return before != self.chosen.len();
        }
        let mut is_named = false;
        for holder in &mut self.holders {
            let item = holder.path.index(0);
            if holder.form == PullSecretShape::Objects && about(&item).is_some() {
                holder.form = PullSecretShape::Names;
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
fn shape_from_key(path: &DocumentPath) -> Option<PullSecretShape> {
    let words = names::split_words(path.last_key().unwrap_or_default());
    let ends = |end: &[&str]| {
        words.len() >= end.len() && words[words.len() - end.len()..].iter().eq(end.iter())
    };
    // `secretName` alone is any secret; below `registry` it is the one for pulling.
    let is_registry_s = || {
        matches!(path.steps(), [.., PathStep::Key(above), PathStep::Key(_)]
            if names::split_words(above).last().is_some_and(|word| word == "registry"))
    };
    if ends(&["pull", "secrets"]) {
        return Some(PullSecretShape::Objects);
    }
    let is_one = ends(&["pull", "secret"])
        || ends(&["pull", "secret", "name"])
        || words == ["secret", "name"] && is_registry_s();
    is_one.then_some(PullSecretShape::Text)
}

/// The service accounts that a document names, at any depth.
fn find_service_account_names(document: &Value) -> impl Iterator<Item = &str> {
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

/// The search for the markers of pull secrets in documents.
struct MarkedSecrets<'a> {
    holders: &'a [PullSecretValue],
    /// The values whose marker has other text around it: the template printed `map[name:zqs0qz]`, as
    /// Go prints a map, because it expects plain names.
    mangled: BTreeSet<usize>,
}

impl<'a> MarkedSecrets<'a> {
    fn new(holders: &'a [PullSecretValue]) -> Self {
        Self { holders, mangled: BTreeSet::new() }
    }

    /// The paths of the pull secrets in a document, with the indexes of the values whose markers are
    /// there.
    fn find_places(&mut self, document: &Value) -> BTreeMap<DocumentPath, BTreeSet<usize>> {
        let mut found = BTreeMap::new();
        let path = DocumentPath::default();
        self.search_value(document, &path, &path, &mut found);
        found
    }

    /// `inner` is the path in the innermost document: a text may be one.
    fn search_value(
        &mut self,
        value: &Value,
        path: &DocumentPath,
        inner: &DocumentPath,
        found: &mut BTreeMap<DocumentPath, BTreeSet<usize>>,
    ) {
        match value {
            Value::Object(map) => {
                // A variable has its name beside its value.
                let variable = map.get("name").and_then(Value::as_str);
                for (key, value) in map {
                    let name = variable.filter(|_| key == "value").unwrap_or(key);
                    let (path, inner) = (path.key(key), inner.key(key));
                    if names::is_pull_secret_key(name) {
                        let own = self.list_markers(value, &inner);
                        if !own.is_empty() {
                            found.entry(path).or_default().extend(own);
                        }
                    } else {
                        self.search_value(value, &path, &inner, found);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.search_value(item, &path.index(index), &inner.index(index), found);
                }
            }
            // A ConfigMap may hold the template of a pod, or the configuration of a program that
            // starts pods.
            Value::String(text) if MarkerKind::PullSecret.may_be_in(text) => {
                if let Some((encoding, value)) = parse_embedded(text) {
                    let inner = DocumentPath::default();
                    self.search_value(&value, &path.inside(encoding), &inner, found);
                }
            }
            _ => {}
        }
    }

    /// The indexes of the values whose markers are in a value for pull secrets: a list of objects or
    /// names, or one name. `inner` is its path in its document.
    fn list_markers(&mut self, value: &Value, inner: &DocumentPath) -> BTreeSet<usize> {
        let entries = match value {
            Value::Array(items) => items.iter().collect(),
            one => vec![one],
        };
        let mut found = BTreeSet::new();
        for entry in entries {
            let name = entry.get("name").and_then(Value::as_str).or(entry.as_str());
            let name = name.unwrap_or_default();
            for index in MarkerKind::PullSecret.find_numbers(name) {
                let Some(holder) = self.holders.get(index) else { continue };
                if is_value_shown(&holder.path, inner) {
                    continue;
                }
                found.insert(index);
                if name != MarkerKind::PullSecret.marker(index).to_string() {
                    self.mangled.insert(index);
                }
            }
        }
        found
    }
}

/// Whether a text that has a pull secret at `inner` shows the chart's values as they are: it names
/// the secret under the path of the value. Nothing is known to read it there.
fn is_value_shown(value: &DocumentPath, inner: &DocumentPath) -> bool {
    inner.steps().len() > 1 && value.steps().ends_with(inner.steps())
}

/// The fewest values that reach all places that any value reaches; of two that reach as many, the
/// one nearest to the top.
fn choose_covering_values(
    holders: &[PullSecretValue],
    reached: &BTreeMap<SecretPlace, BTreeSet<usize>>,
) -> Vec<PullSecretValue> {
    let mut places: Vec<BTreeSet<&SecretPlace>> = vec![BTreeSet::new(); holders.len()];
    for (place, by) in reached {
        for holder in by {
            places[*holder].insert(place);
        }
    }
    let sets: Vec<_> = holders
        .iter()
        .zip(&places)
        .enumerate()
        .map(|(number, (holder, covers))| CoverSet {
            number,
            covers,
            preference: Reverse(holder.path.steps().len()),
        })
        .collect();
    let wanted = reached.keys().collect();
    let (chosen, _) = choose_covering_sets(&sets, wanted, CoverOverlap::Allowed);
    chosen.into_iter().map(|number| holders[number].clone()).collect()
}
