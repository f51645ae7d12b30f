//! Sets one pull policy for all images, if the user asks for it (`--pull-policy`): every value of
//! the chart whose key is a pull policy gets it. The first marked render shows which of these
//! values the templates use; the others stay out of the overlay.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::find::names;
use crate::path::DocumentPath;
use crate::taint::indexed_render::IndexedRender;
use crate::taint::markers::MarkerKind;
use crate::taint::scopes::ChartScopes;
use crate::values;

/// When a node asks the registry for an image, as in `imagePullPolicy` of a container
/// (kubernetes.io/docs/concepts/containers/images, "Image pull policy").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum PullPolicy {
    /// Each time a container starts.
    Always,
    /// Only if the node does not have the image.
    IfNotPresent,
    /// Never; somebody copies the images to the nodes.
    Never,
}

impl PullPolicy {
    /// The policy as manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

impl fmt::Display for PullPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PullPolicy {
    type Err = types::Error;

    fn from_str(text: &str) -> types::Result<Self> {
        let all = [Self::Always, Self::IfNotPresent, Self::Never];
        let found = all.into_iter().find(|policy| policy.as_str() == text);
        found.ok_or_else(|| {
            let reason = "expected Always, IfNotPresent or Never".into();
            types::Error::Invalid {
                what: "pull policy",
                // Cut, so that a wrong argument cannot flood the terminal.
                text: text.chars().take(64).collect(),
                reason,
            }
        })
    }
}

/// The values of a chart that are pull policies, and those that the overlay sets.
#[derive(Clone)]
pub(super) struct PullPolicyValues {
    /// The policy to set; `None` leaves everything as it is.
    policy: Option<PullPolicy>,
    /// The values that take a marker. Their index is the number in it.
    holders: Vec<PullPolicyValue>,
    /// The values that the overlay sets.
    chosen: Vec<PullPolicyValue>,
}

/// A value that is a pull policy, and its text in the chart; empty if it is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PullPolicyValue {
    path: DocumentPath,
    was: String,
}

impl PullPolicyValues {
    /// Finds the values that are pull policies. Without a policy to set, none is looked for.
    pub(super) fn new(scopes: &ChartScopes, effective: &Value, policy: Option<PullPolicy>) -> Self {
        let mut holders: Vec<PullPolicyValue> = Vec::new();
        if policy.is_some() {
            values::visit_leaves(effective, &DocumentPath::default(), &mut |path, leaf| {
                let was = match leaf {
                    Value::String(text) => text.clone(),
                    Value::Null => String::new(),
                    _ => return,
                };
                // Every sub-chart has its own copy of a global: they are one value to set.
                let path = scopes.path_to_set(path);
                let is_known = was.is_empty() || was.parse::<PullPolicy>().is_ok();
                if is_known && is_pull_policy_key(&path) && holders.iter().all(|h| h.path != path) {
                    holders.push(PullPolicyValue { path, was });
                }
            });
        }
        // A schema with an `enum` accepts the three policies and no marker. Such values cannot be
        // tried; they are set wherever the chart sets them to another policy.
        let is_strict = |holder: &PullPolicyValue| {
            scopes.schemas_of(&holder.path).any(|said| said.get("enum").is_some())
        };
        let (strict, holders): (Vec<_>, Vec<_>) = holders.into_iter().partition(is_strict);
        let is_other = |holder: &PullPolicyValue| {
            !holder.was.is_empty() && Some(holder.was.as_str()) != policy.map(PullPolicy::as_str)
        };
        let chosen = strict.into_iter().filter(is_other).collect();
        Self { policy, holders, chosen }
    }

    /// Puts a marker into each value that takes one.
    pub(super) fn set_markers(&self, overlay: &mut Value, effective: &Value) {
        for (index, holder) in self.holders.iter().enumerate() {
            let marker = MarkerKind::PullPolicy.marker(index).to_string();
            values::set_value(overlay, &holder.path, Value::from(marker), effective);
        }
    }

    /// Chooses the values whose markers a render shows and that are not the wanted policy already.
    pub(super) fn choose_rendered_values(&mut self, marked: &IndexedRender) {
        let Some(policy) = self.policy else { return };
        // The raw text is enough: it does not matter where a policy comes out, only whether it
        // does.
        let texts = marked.manifests.documents.iter().map(|document| document.text.as_str());
        let out: BTreeSet<usize> =
            texts.flat_map(|text| MarkerKind::PullPolicy.find_numbers(text)).collect();
        let holders = std::mem::take(&mut self.holders).into_iter().enumerate();
        let holders = holders.filter(|(index, _)| out.contains(index)).map(|(_, holder)| holder);
        self.chosen.extend(holders.filter(|holder| holder.was != policy.as_str()));
    }

    /// Chooses without a marked render, where helm refused all of them: values that the chart sets
    /// are assumed to be used.
    pub(super) fn choose_set_values(&mut self) {
        let Some(policy) = self.policy else { return };
        let is_other =
            |holder: &&PullPolicyValue| !holder.was.is_empty() && holder.was != policy.as_str();
        self.chosen = self.holders.iter().filter(is_other).cloned().collect();
        self.holders.clear();
    }

    /// Sets the chosen values in an overlay.
    pub(super) fn set_policy(&self, overlay: &mut Value, effective: &Value) {
        for path in self.chosen_paths() {
            let policy = self.policy.map(PullPolicy::as_str);
            values::set_value(overlay, path, Value::from(policy), effective);
        }
    }

    /// The paths of the values that the overlay sets.
    pub(super) fn chosen_paths(&self) -> impl Iterator<Item = &DocumentPath> {
        self.chosen.iter().map(|holder| &holder.path)
    }

    /// The texts before and after that the proof has to expect in the render.
    pub(super) fn expected_echoes(&self) -> impl Iterator<Item = (String, String)> {
        let new = self.policy.map(PullPolicy::as_str).unwrap_or_default();
        self.chosen.iter().map(move |holder| (holder.was.clone(), new.to_owned()))
    }

    /// Whether the overlay sets no pull policy.
    pub(super) fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// A copy in which no value is chosen.
    pub(super) fn without_chosen(&self) -> Self {
        Self { chosen: vec![], ..self.clone() }
    }

    /// Stops setting pull policies.
    pub(super) fn clear_chosen(&mut self) {
        self.chosen.clear();
    }

    /// Handles a message of helm's about some of the values (`about` finds its line). They get no
    /// marker any more; those that the chart sets are set without one, since a schema that refuses
    /// a marker accepts a policy. Those that were set already are dropped. Returns whether the
    /// message was about any.
    pub(super) fn skip_refused(&mut self, about: impl Fn(&DocumentPath) -> Option<String>) -> bool {
        let Some(policy) = self.policy else { return false };
        let (named, rest): (Vec<PullPolicyValue>, Vec<PullPolicyValue>) =
            std::mem::take(&mut self.holders).into_iter().partition(|h| about(&h.path).is_some());
        self.holders = rest;
        let before = self.chosen.len();
        self.chosen.retain(|holder| about(&holder.path).is_none());
        let is_named = !named.is_empty() || before != self.chosen.len();
        let is_other =
            |holder: &PullPolicyValue| !holder.was.is_empty() && holder.was != policy.as_str();
        self.chosen.extend(named.into_iter().filter(is_other));
        is_named
    }
}

/// Whether a key is one of a pull policy: `pullPolicy`, `imagePullPolicy`.
fn is_pull_policy_key(path: &DocumentPath) -> bool {
    let words = names::split_words(path.last_key().unwrap_or_default());
    words.len() >= 2 && words[words.len() - 2..] == ["pull", "policy"]
}
