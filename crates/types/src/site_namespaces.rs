//! `namespaces:` and `caObjects:` of site.yaml: which namespaces get the pull secret, the CA and policies
//! of the site beside those of releases, and under which names the CA stands there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The account of pods that name none (kubernetes.io, "Service Accounts").
const DEFAULT_ACCOUNT: &str = "default";
/// The key under which programs expect a CA certificate (as in `kube-root-ca.crt`).
const CA_KEY: &str = "ca.crt";
/// The namespaces of Kubernetes itself, which are never prepared: a new pull secret of their service
/// accounts, or a policy, could break the cluster.
pub const SYSTEM_NAMESPACES: [&str; 3] = ["kube-node-lease", "kube-public", "kube-system"];
/// The most characters of an object's name (RFC 1123, "DNS subdomain"), and of a namespace's.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// The namespaces that get what a release's namespace gets, and policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SiteNamespaces {
    /// Namespaces by name. `gantry deploy` creates those that do not exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Namespaces by their labels, also those that are made later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
    /// The service accounts that get the pull secret.
    #[serde(default = "default_accounts")]
    pub service_accounts: Vec<String>,
    /// Network policies that block connections to the outside; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<NamespaceEgress>,
}

/// A label selector of namespaces, as Kubernetes writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// The labels that a namespace has to have, all of them.
    pub match_labels: BTreeMap<String, String>,
}

/// What the pods of these namespaces may reach beside DNS, their own namespace and the site's registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NamespaceEgress {
    /// Addresses: `CIDR[:PORT][/udp]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Other namespaces: `NAMESPACE[:PORT]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_namespaces: Vec<String>,
}

/// One more object with the CA of the site's registry, under the name that a chart or an operator wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SiteCaObject {
    /// The name of a ConfigMap; either this or `secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
    /// The name of a Secret; either this or `configMap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The key in it.
    #[serde(default = "default_key")]
    pub key: String,
}

fn default_accounts() -> Vec<String> {
    vec![DEFAULT_ACCOUNT.to_owned()]
}

fn default_key() -> String {
    CA_KEY.to_owned()
}

impl Default for SiteNamespaces {
    /// No namespaces, with what each would get if nothing else is said.
    fn default() -> Self {
        let service_accounts = default_accounts();
        Self { names: vec![], selector: None, service_accounts, egress: None }
    }
}

impl SiteCaObject {
    /// A ConfigMap of this name, with the usual key.
    pub fn of_config_map(name: &str) -> Self {
        Self { config_map: Some(name.to_owned()), secret: None, key: default_key() }
    }

    /// A Secret of this name, with the usual key.
    pub fn of_secret(name: &str) -> Self {
        Self { config_map: None, secret: Some(name.to_owned()), key: default_key() }
    }

    /// Refuses an object without exactly one valid name. The error names the key.
    pub(crate) fn check_keys(&self) -> Result<(), String> {
        let ((Some(name), None) | (None, Some(name))) = (&self.config_map, &self.secret) else {
            return Err("write either configMap: NAME or secret: NAME".to_owned());
        };
        require_name(name, LONGEST_NAME)?;
        let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.key.is_empty() || !self.key.chars().all(is_key) {
            return Err(format!("key {:?}: use letters, digits, - _ .", self.key));
        }
        Ok(())
    }
}

impl NamespaceSelector {
    /// Whether an object with these labels is selected.
    pub fn is_match(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let has = |(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value));
        self.match_labels.iter().all(has)
    }

    /// The selector as a list request takes it: `team=ml,tier=gold`.
    pub fn to_query(&self) -> String {
        let all = self.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
        all.collect::<Vec<_>>().join(",")
    }
}

impl SiteNamespaces {
    /// Whether a namespace gets the objects. Those of Kubernetes itself never do.
    pub fn is_selected(&self, name: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        let is_named = self.names.iter().any(|own| own == name);
        let is_labelled = self.selector.as_ref().is_some_and(|selector| selector.is_match(labels));
        !SYSTEM_NAMESPACES.contains(&name) && (is_named || is_labelled)
    }

    /// Refuses what selects nothing or everything, and what is no name. The error names the key.
    pub(crate) fn check_keys(&self) -> Result<(), String> {
        if self.names.is_empty() && self.selector.is_none() {
            return Err("write names: or selector:, or leave namespaces: out".to_owned());
        }
        for name in &self.names {
            require_name(name, LONGEST_LABEL).map_err(|why| format!("names: {why}"))?;
            if name.contains('.') {
                return Err(format!("names: {name:?} is not a valid name: it has a dot"));
            }
            if SYSTEM_NAMESPACES.contains(&name.as_str()) {
                return Err(format!("names: {name} is a namespace of Kubernetes itself"));
            }
        }
        if self.selector.as_ref().is_some_and(|selector| selector.match_labels.is_empty()) {
            return Err(
                "selector.matchLabels is empty, which would select every namespace; name a label"
                    .to_owned(),
            );
        }
        for name in &self.service_accounts {
            require_name(name, LONGEST_NAME).map_err(|why| format!("serviceAccounts: {why}"))?;
        }
        Ok(())
    }
}

/// Requires a name as Kubernetes takes it for most objects.
fn require_name(name: &str, longest: usize) -> Result<(), String> {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_inner = |c: char| is_end(c) || matches!(c, '-' | '.');
    let is_valid = name.len() <= longest
        && name.starts_with(is_end)
        && name.ends_with(is_end)
        && name.chars().all(is_inner);
    match is_valid {
        true => Ok(()),
        false => Err(format!(
            "{name:?} is not a valid name: use a-z, 0-9 and, not at the ends, -; at most {longest} characters"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::site::Site;

    fn read(more: &str) -> crate::Result<Site> {
        Site::parse(
            "site.yaml",
            &format!("version: 1\nregistry: {{url: 'r:5000', ca: ca.pem}}\n{more}\n"),
        )
    }

    #[test]
    fn namespaces_are_selected_by_name_or_by_all_of_their_labels() {
        let site = read(
            "namespaces: {names: [jobs], selector: {matchLabels: {site: 'true', tier: gold}}}",
        )
        .unwrap();
        let namespaces = site.namespaces.unwrap();
        assert_eq!(namespaces.service_accounts, ["default"]);
        let labels = |all: &[(&str, &str)]| {
            all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let gold = labels(&[("site", "true"), ("tier", "gold"), ("a", "b")]);
        assert!(namespaces.is_selected("jobs", None));
        assert!(namespaces.is_selected("any", Some(&gold)));
        assert!(!namespaces.is_selected("any", Some(&labels(&[("site", "true")]))));
        assert!(!namespaces.is_selected("kube-system", Some(&gold)));
        assert_eq!(namespaces.selector.unwrap().to_query(), "site=true,tier=gold");
    }

    #[test]
    fn each_mistake_names_its_key_and_what_to_write() {
        for (more, expected) in [
            ("namespaces: {}", "namespaces: write names: or selector:"),
            ("namespaces: {names: [Jobs]}", "namespaces: names: \"Jobs\" is not a valid name"),
            ("namespaces: {names: [kube-system]}", "kube-system is a namespace of Kubernetes"),
            ("namespaces: {selector: {matchLabels: {}}}", "would select every namespace"),
            ("namespaces: {names: [a], serviceAccounts: ['*']}", "serviceAccounts: \"*\""),
            ("namespaces: {names: [a], selector: {matchExpressions: []}}", "matchLabels"),
            ("caObjects: [{key: ca.pem}]", "caObjects[0]: write either configMap"),
            ("caObjects: [{configMap: a, secret: a}]", "caObjects[0]: write either configMap"),
            ("caObjects: [{secret: a, key: a/b}]", "caObjects[0]: key \"a/b\""),
            ("caObjects: [{secret: a}, {secret: a, key: b}]", "caObjects[1]: a second entry"),
        ] {
            let error = read(more).unwrap_err().to_string();
            assert!(error.contains(expected), "{more}: {error}");
        }
    }
}
