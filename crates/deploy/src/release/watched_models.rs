//! The model targets of a site whose readers are restarted when their models changed.

use std::collections::{BTreeMap, BTreeSet};

use land::models::find_expected_name;
use serde_json::Value;
use types::destination::ModelDestination;
use types::lock::Lock;
use types::pod_kinds;
use types::site::{ModelTarget, Site};

/// A target whose readers are restarted when its models changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedModels {
    /// The target.
    target: ModelTarget,
    /// The URL of the site's depot, if it has one.
    depot: Option<String>,
    /// The locked models that belong there, each with its digest.
    models: BTreeSet<String>,
}

impl WatchedModels {
    /// The targets of a site that ask for a restart.
    pub fn list_of_site(site: &Site, lock: &Lock) -> Vec<Self> {
        let digests: BTreeMap<_, _> =
            lock.roots().into_iter().map(|root| (root.name, root.descriptor.digest)).collect();
        let asking = site.models.iter().filter(|target| target.restart);
        asking
            .map(|target| {
                let own =
                    lock.models.iter().filter(|model| find_expected_name(target, model).is_some());
                let models = own.map(|model| {
                    let name = model.reference();
                    match digests.get(name) {
                        Some(digest) => format!("{name}@{digest}"),
                        None => name.to_string(),
                    }
                });
                Self {
                    target: target.clone(),
                    depot: site.depot.as_ref().map(|depot| depot.url.clone()),
                    models: models.collect(),
                }
            })
            .collect()
    }

    /// The target's address, as in site.yaml.
    pub(super) fn address(&self) -> String {
        self.target.to.to_string()
    }

    /// The locked models that belong there, each with its digest.
    pub(super) fn models(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(String::as_str)
    }

    /// Whether pods with this spec read from the target: they mount its claim, or name its bucket or the
    /// depot in an argument or a variable.
    pub(super) fn is_read_by(&self, spec: &Value, namespace: &str) -> bool {
        let is_named = |address: &str| {
            pod_kinds::list_containers(spec).any(|(_, container)| {
                ["command", "args", "env"]
                    .iter()
                    .any(|key| container.get(*key).is_some_and(|value| has_text(value, address)))
            })
        };
        match &self.target.to {
            ModelDestination::Claim(claim) => {
                claim.namespace == namespace
                    && pod_kinds::list_claims(spec).any(|name| name == claim.name)
            }
            ModelDestination::Bucket(bucket) => is_named(&bucket.to_string()),
            ModelDestination::Depot => {
                self.depot.as_ref().is_some_and(|url| is_named(url.trim_end_matches('/')))
            }
            ModelDestination::Folder(_) => false,
        }
    }
}

/// Whether a text is in a value or in anything below it.
fn has_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(own) => own.contains(text),
        Value::Array(items) => items.iter().any(|item| has_text(item, text)),
        Value::Object(map) => map.values().any(|item| has_text(item, text)),
        _ => false,
    }
}
