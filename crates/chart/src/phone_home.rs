//! What a chart reaches outside for by itself: telemetry, update checks, hubs, addresses in its
//! configuration. Known switches are in data (`rules/phone-home.yaml`); addresses are found by form.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::find::{Confidence, Place, in_manifests, text};
use crate::manifest::{Document, Manifests};
use crate::path::{Encoding, Path};
use crate::{Error, Result, values};

/// A table of switches and hosts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switches {
    #[serde(default)]
    values: Vec<Switch>,
    #[serde(default)]
    environment: Vec<Variable>,
    #[serde(default)]
    hosts: Vec<Host>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    name: String,
    path: String,
    off: bool,
    #[serde(default)]
    safe: bool,
    why: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    off: String,
    images: Vec<String>,
    why: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    host: String,
    why: String,
}

/// One thing that reaches outside.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Finding {
    /// A value of the chart that turns it off.
    Value {
        /// The value.
        path: Path,
        /// What turns it off.
        off: Value,
        /// Whether `relocate --offline` sets it.
        safe: bool,
        /// What it does.
        why: String,
    },
    /// A container lacks a variable that would keep it inside.
    Environment {
        /// The variable.
        name: String,
        /// The value that keeps it inside.
        off: String,
        /// The container.
        place: Place,
        /// What it does without.
        why: String,
    },
    /// An address outside.
    Address {
        /// The address.
        url: String,
        /// Where it stands.
        place: Place,
        /// What it is for, where a rule knows.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
}

impl Switches {
    /// The table that comes with Gantry.
    pub fn builtin() -> &'static Self {
        static TABLE: OnceLock<Switches> = OnceLock::new();
        TABLE.get_or_init(|| {
            let text = include_str!("../../../rules/phone-home.yaml");
            // A test reads the table; a broken one cannot be built.
            Self::read("rules/phone-home.yaml", text).unwrap_or_default()
        })
    }

    /// Reads a table of the same form as `rules/phone-home.yaml`.
    pub fn read(name: &str, text: &str) -> Result<Self> {
        types::yaml::read(name, text)
            .map_err(|error| Error::File { file: name.to_owned(), reason: error.to_string() })
    }

    /// These switches with `own` on top: an entry of the same name is replaced.
    #[must_use]
    pub fn with(&self, own: &Self) -> Self {
        let mut all = self.clone();
        all.values.retain(|switch| own.values.iter().all(|other| other.name != switch.name));
        all.values.extend(own.values.iter().cloned());
        all.environment.retain(|known| own.environment.iter().all(|o| o.name != known.name));
        all.environment.extend(own.environment.iter().cloned());
        all.hosts.retain(|known| own.hosts.iter().all(|other| other.host != known.host));
        all.hosts.extend(own.hosts.iter().cloned());
        all
    }

    /// What a rendered chart reaches outside for. `effective` are the values that it was rendered
    /// with ([`crate::Chart::effective`]); `is_inside` says that a host is the site's own.
    pub fn find(
        &self,
        effective: &Value,
        rendered: &str,
        is_inside: &dyn Fn(&str) -> bool,
    ) -> Vec<Finding> {
        let manifests = Manifests::read(rendered);
        let mut findings = self.in_values(effective);
        self.in_environment(&manifests, &mut findings);
        let own = own_names(&manifests);
        let is_inside = |host: &str| {
            let labels: Vec<&str> = host.split('.').collect();
            let first = labels.first().copied().unwrap_or_default();
            let last = labels.last().copied().unwrap_or_default();
            is_inside(host) || labels.len() == 2 && (own.contains(first) || own.contains(last))
        };
        for (index, document) in manifests.documents.iter().enumerate() {
            self.in_addresses(index, document, &is_inside, &mut findings);
        }
        findings
    }

    fn in_values(&self, effective: &Value) -> Vec<Finding> {
        let mut findings = Vec::new();
        values::leaves(effective, &Path::default(), &mut |path, leaf| {
            let Value::Bool(now) = leaf else { return };
            let path_text = path.to_string();
            let switch = self.values.iter().find(|switch| {
                path_text == switch.path || path_text.ends_with(&format!(".{}", switch.path))
            });
            if let Some(switch) = switch.filter(|switch| switch.off != *now) {
                findings.push(Finding::Value {
                    path: path.clone(),
                    off: Value::Bool(switch.off),
                    safe: switch.safe,
                    why: switch.why.clone(),
                });
            }
        });
        findings
    }

    fn in_environment(&self, manifests: &Manifests, findings: &mut Vec<Finding>) {
        for found in in_manifests(manifests).images {
            if found.confidence != Confidence::Certain
                || found.place.path.last_key() != Some("image")
            {
                continue;
            }
            let container = found.place.path.parent();
            let Some(document) = manifests.documents.get(found.place.document) else { continue };
            let set = variables(container.find(&document.value));
            for variable in &self.environment {
                let is_meant = variable
                    .images
                    .iter()
                    .any(|image| format!("{}:", found.reference.name()).contains(image.as_str()));
                if is_meant && !set.contains(variable.name.as_str()) {
                    findings.push(Finding::Environment {
                        name: variable.name.clone(),
                        off: variable.off.clone(),
                        place: Place { path: container.clone(), ..found.place.clone() },
                        why: variable.why.clone(),
                    });
                }
            }
        }
    }

    fn in_addresses(
        &self,
        index: usize,
        document: &Document,
        is_inside: &dyn Fn(&str) -> bool,
        findings: &mut Vec<Finding>,
    ) {
        let mut seen = BTreeMap::new();
        addresses(document, &mut |path, url, host| {
            if !is_local(host) && !is_inside(host) {
                seen.entry(url.to_owned()).or_insert((path.clone(), host.to_owned()));
            }
        });
        for (url, (path, host)) in seen {
            let is_it =
                |known: &&Host| host == known.host || host.ends_with(&format!(".{}", known.host));
            let place = Place {
                template: document.template.clone(),
                document: index,
                kind: document.kind().to_owned(),
                name: document.name().to_owned(),
                path,
            };
            let why = self.hosts.iter().find(is_it).map(|known| known.why.clone());
            findings.push(Finding::Address { url, place, why });
        }
    }
}

/// The values that turn off what is safe to turn off.
pub fn offline_values(findings: &[Finding], effective: &Value) -> Value {
    let mut overlay = Value::Object(Map::new());
    for finding in findings {
        if let Finding::Value { path, off, safe: true, .. } = finding {
            values::set(&mut overlay, path, off.clone(), effective);
        }
    }
    overlay
}

/// The names of services and namespaces: `service.namespace` is an address in the cluster.
fn own_names(manifests: &Manifests) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = ["default".to_owned()].into();
    for document in &manifests.documents {
        names.insert(document.namespace().to_owned());
        if document.kind() == "Service" {
            names.insert(document.name().to_owned());
        }
    }
    names
}

fn variables(container: Option<&Value>) -> BTreeSet<&str> {
    let list = container.and_then(|c| c.get("env")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|v| v.get("name").and_then(Value::as_str)).collect()
}

/// Texts for people, in which an address is reading matter.
const READING: &[&str] =
    &["description", "documentation", "runbook_url", "links", "annotations", "summary", "message"];

/// Calls `visit` with each http(s) address that a program may read, and its host.
fn addresses(document: &Document, visit: &mut impl FnMut(&Path, &str, &str)) {
    if document.kind() == "CustomResourceDefinition" {
        return;
    }
    let is_secret = document.kind() == "Secret";
    walk(&document.value, &Path::default(), is_secret, visit);
}

fn walk(value: &Value, path: &Path, is_secret: bool, visit: &mut impl FnMut(&Path, &str, &str)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter().filter(|(key, _)| !READING.contains(&key.as_str())) {
                walk(value, &path.key(key), is_secret, visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &path.index(index), is_secret, visit);
            }
        }
        Value::String(string) => {
            let decoded = text::decode(string).filter(|_| is_secret && path.steps().len() == 2);
            let string = decoded.as_deref().unwrap_or(string);
            if let Some((encoding, inner)) = text::opened(string) {
                walk(&inner, &path.inside(encoding), is_secret, visit);
            } else {
                in_text(string, path, visit);
            }
        }
        _ => {}
    }
}

fn in_text(string: &str, path: &Path, visit: &mut impl FnMut(&Path, &str, &str)) {
    let is_long = string.contains('\n');
    for line in string.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
        let line = line.split(" # ").next().unwrap_or_default();
        for scheme in ["https://", "http://"] {
            for (start, _) in line.match_indices(scheme) {
                let url =
                    line[start..].split(|c: char| c.is_whitespace() || "\"'`<>)],;|".contains(c));
                let url = url.into_iter().next().unwrap_or_default().trim_end_matches(['.', ':']);
                let host = url[scheme.len()..].split(['/', ':', '?']).next().unwrap_or_default();
                let host = host.rsplit('@').next().unwrap_or_default();
                let path = if is_long { path.inside(Encoding::Text) } else { path.clone() };
                visit(&path, url, host);
            }
        }
    }
}

/// Whether a host is in the cluster or on the machine, or is none at all (a template, a variable).
fn is_local(host: &str) -> bool {
    const INSIDE: &[&str] =
        &[".svc", ".local", ".internal", ".cluster", ".localhost", ".lan", ".corp"];
    let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    let is_example = host.split('.').any(|label| label == "example");
    !is_name
        || !host.contains('.')
        || is_example
        || INSIDE.iter().any(|suffix| host.ends_with(suffix))
        || host.contains(".svc.")
        || host.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_built_in_table_is_read_whole() {
        let text = include_str!("../../../rules/phone-home.yaml");
        assert!(!Switches::read("rules/phone-home.yaml", text).unwrap().values.is_empty());
    }

    #[test]
    fn switches_variables_and_addresses_are_found_and_inside_is_none() {
        let values = json!({"grafana": {"grafana.ini": {"x": 1}}, "loki": {"analytics": {"reporting_enabled": true}},
            "telemetry": {"enabled": true}, "q": {"telemetry_disabled": true}});
        let rendered = "kind: Pod\nmetadata: {name: p, annotations: {docs: 'https://docs.example.com'}}\n\
            spec:\n  containers:\n  - image: vllm/vllm-openai:1\n    env:\n    - {name: VLLM_NO_USAGE_STATS, value: '1'}\n\
            \x20   - {name: A, value: 'https://api.maker.com/v1'}\n    - {name: B, value: 'http://db.ns.svc:80'}\n\
            \x20   - {name: C, value: 'https://login.site.test'}\n";
        let is_inside = |host: &str| host.ends_with("site.test");
        let found = Switches::builtin().find(&values, rendered, &is_inside);
        let names: Vec<String> = found
            .iter()
            .map(|finding| match finding {
                Finding::Value { path, .. } => path.to_string(),
                Finding::Environment { name, .. } => name.clone(),
                Finding::Address { url, .. } => url.clone(),
            })
            .collect();
        assert_eq!(
            names,
            [
                "loki.analytics.reporting_enabled",
                "telemetry.enabled",
                "HF_HUB_OFFLINE",
                "DO_NOT_TRACK",
                "https://api.maker.com/v1"
            ]
        );
        let offline = offline_values(&found, &values);
        assert_eq!(offline, json!({"loki": {"analytics": {"reporting_enabled": false}}}));
    }
}
