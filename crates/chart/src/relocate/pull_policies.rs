//! Pull policies: where a site wants one policy for all images, every value that the chart has for
//! one gets it. Markers show which of these values come out anywhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scopes::Scopes;
use super::site::Rendered;
use crate::find::names;
use crate::path::Path;
use crate::values;

/// When a node asks the registry for an image that it has already
/// (Kubernetes, Images: image pull policy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Each time a container starts.
    Always,
    /// Only for what is not there.
    IfNotPresent,
    /// Not even then: images are brought to the nodes.
    Never,
}

impl PullPolicy {
    /// The word in manifests.
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
            let reason = "it is Always, IfNotPresent or Never".to_owned();
            types::Error::Invalid {
                what: "pull policy",
                text: text.chars().take(64).collect(),
                reason,
            }
        })
    }
}

/// The values of a chart that are pull policies, and those of them that are set.
#[derive(Clone)]
pub(super) struct Policies {
    policy: Option<PullPolicy>,
    holders: Vec<Holder>,
    chosen: Vec<Holder>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    path: Path,
    was: String,
}

impl Policies {
    pub(super) fn new(scopes: &Scopes, effective: &Value, policy: Option<PullPolicy>) -> Self {
        let mut holders: Vec<Holder> = Vec::new();
        if policy.is_some() {
            values::leaves(effective, &Path::default(), &mut |path, leaf| {
                let was = match leaf {
                    Value::String(text) => text.clone(),
                    Value::Null => String::new(),
                    _ => return,
                };
                let path = scopes.own_path(path);
                let is_known = was.is_empty() || was.parse::<PullPolicy>().is_ok();
                if is_known && says_policy(&path) && holders.iter().all(|h| h.path != path) {
                    holders.push(Holder { path, was });
                }
            });
        }
        // A schema that takes policies only takes no marker.
        let is_strict =
            |holder: &Holder| scopes.said_of(&holder.path).any(|said| said.get("enum").is_some());
        let (strict, holders): (Vec<_>, Vec<_>) = holders.into_iter().partition(is_strict);
        let is_other = |holder: &Holder| {
            !holder.was.is_empty() && Some(holder.was.as_str()) != policy.map(PullPolicy::as_str)
        };
        let chosen = strict.into_iter().filter(is_other).collect();
        Self { policy, holders, chosen }
    }

    /// Puts a marker into each of them.
    pub(super) fn mark(&self, overlay: &mut Value, effective: &Value) {
        for (index, holder) in self.holders.iter().enumerate() {
            values::set(overlay, &holder.path, Value::from(mark(index)), effective);
        }
    }

    /// Learns from a marked render which of them come out anywhere.
    pub(super) fn learn(&mut self, marked: &Rendered) {
        let Some(policy) = self.policy else { return };
        let texts: Vec<&str> = marked.manifests.documents.iter().map(|d| d.text.as_str()).collect();
        let is_out = |index: &usize| texts.iter().any(|text| text.contains(&mark(*index)));
        let out: Vec<usize> = (0..self.holders.len()).filter(is_out).collect();
        let holders = std::mem::take(&mut self.holders).into_iter().enumerate();
        let holders = holders.filter(|(index, _)| out.contains(index)).map(|(_, holder)| holder);
        self.chosen.extend(holders.filter(|holder| holder.was != policy.as_str()));
    }

    /// No marked render could be made: those that the chart has set are taken to be used.
    pub(super) fn unmarked(&mut self) {
        let Some(policy) = self.policy else { return };
        let is_other = |holder: &&Holder| !holder.was.is_empty() && holder.was != policy.as_str();
        self.chosen = self.holders.iter().filter(is_other).cloned().collect();
        self.holders.clear();
    }

    /// Sets the chosen ones.
    pub(super) fn set(&self, overlay: &mut Value, effective: &Value) {
        for path in self.paths() {
            let policy = self.policy.map(PullPolicy::as_str);
            values::set(overlay, path, Value::from(policy), effective);
        }
    }

    /// The values that are set.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.chosen.iter().map(|holder| &holder.path)
    }

    /// What the render may have different because of them.
    pub(super) fn echoes(&self) -> impl Iterator<Item = (String, String)> {
        let new = self.policy.map(PullPolicy::as_str).unwrap_or_default();
        self.chosen.iter().map(move |holder| (holder.was.clone(), new.to_owned()))
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

    /// Marks no longer those that helm's message is about: a schema takes policies only. What the
    /// chart has set it lets be set.
    pub(super) fn leave(&mut self, about: impl Fn(&Path) -> Option<String>) -> bool {
        let Some(policy) = self.policy else { return false };
        let (named, rest): (Vec<Holder>, Vec<Holder>) =
            std::mem::take(&mut self.holders).into_iter().partition(|h| about(&h.path).is_some());
        self.holders = rest;
        let before = self.chosen.len();
        self.chosen.retain(|holder| about(&holder.path).is_none());
        let is_named = !named.is_empty() || before != self.chosen.len();
        let is_other = |holder: &Holder| !holder.was.is_empty() && holder.was != policy.as_str();
        self.chosen.extend(named.into_iter().filter(is_other));
        is_named
    }
}

/// Not the marker of a slot, and no secret's.
fn mark(index: usize) -> String {
    format!("zqp{index}qz")
}

fn says_policy(path: &Path) -> bool {
    let words = names::words(path.last_key().unwrap_or_default());
    words.len() >= 2 && words[words.len() - 2..] == ["pull", "policy"]
}
