//! Names of Kubernetes objects as the user writes them, and which namespaces a policy applies to.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};
use types::site_namespaces::SYSTEM_NAMESPACES;

use crate::{Error, Result};

/// The label that the API server gives every namespace: its name (Kubernetes 1.22 and newer).
pub(crate) const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The namespace of Gantry's own pods.
const OWN: &str = "gantry-system";
/// The most characters of a label (RFC 1123).
const LONGEST_LABEL: usize = 63;
/// The most characters of the prefix of a label's key, which is a DNS name.
const LONGEST_PREFIX: usize = 253;

/// A namespace's name: an RFC 1123 label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace(String);

impl Namespace {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one of Kubernetes itself, such as `kube-system`.
    pub fn is_system(&self) -> bool {
        SYSTEM_NAMESPACES.contains(&self.as_str())
    }
}

impl FromStr for Namespace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if is_label(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid(
            "namespace name",
            text,
            "use a-z, 0-9 and, not at the ends, -; at most 63 characters, no wildcards",
        ))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A label of a namespace, `key=value`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamespaceLabel {
    key: String,
    value: String,
}

impl FromStr for NamespaceLabel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason: &str| Error::invalid("label", text, reason);
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| invalid("write KEY=VALUE, such as gantry=guarded"))?;
        let name = match key.split_once('/') {
            Some((prefix, name)) => {
                let is_dns = prefix.len() <= LONGEST_PREFIX && prefix.split('.').all(is_label);
                if !is_dns {
                    return Err(invalid("before the / must be a DNS name, such as example.com"));
                }
                name
            }
            None => key,
        };
        if !is_qualified_name(name) || !(value.is_empty() || is_qualified_name(value)) {
            return Err(invalid(
                "use letters, digits and, not at the ends, - _ . in key and value, 63 at most",
            ));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Which namespaces a policy applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceScope {
    /// Only these.
    Only(BTreeSet<Namespace>),
    /// All except these, Gantry's own and those of Kubernetes.
    AllBut(BTreeSet<Namespace>),
    /// Those with a label, except Gantry's own and those of Kubernetes.
    Labelled(NamespaceLabel),
}

impl NamespaceScope {
    /// The namespaces that are excluded, sorted. Empty for `Only`: named namespaces are not
    /// second-guessed.
    pub fn excluded_namespaces(&self) -> Vec<String> {
        let more = match self {
            Self::Only(_) => return vec![],
            Self::AllBut(more) => more.iter().map(Namespace::to_string).collect(),
            Self::Labelled(_) => BTreeSet::new(),
        };
        // The images of Kubernetes itself are in no lock, and refusing them would break the cluster.
        let own = SYSTEM_NAMESPACES.iter().chain([&OWN]).map(|name| (*name).to_owned());
        own.chain(more).collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// The label selector of these namespaces.
    pub(crate) fn to_selector(&self) -> Value {
        let name = |operator: &str, values: Vec<String>| json!({"key": NAME_LABEL, "operator": operator, "values": values});
        match self {
            Self::Only(names) => {
                let names = names.iter().map(Namespace::to_string).collect();
                json!({"matchExpressions": [name("In", names)]})
            }
            Self::AllBut(_) => {
                json!({"matchExpressions": [name("NotIn", self.excluded_namespaces())]})
            }
            Self::Labelled(label) => json!({
                "matchLabels": {label.key.as_str(): label.value},
                "matchExpressions": [name("NotIn", self.excluded_namespaces())],
            }),
        }
    }
}

/// Makes an object name from any text: characters that are not allowed become a dash.
pub(crate) fn build_object_name(prefix: &str, text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let name: String = format!("{prefix}-{text}").chars().take(LONGEST_LABEL).collect();
    // Cutting may leave a dash at the end, where names must not have one.
    name.trim_end_matches('-').to_owned()
}

/// Whether a text is an RFC 1123 label.
fn is_label(text: &str) -> bool {
    let is_end = |byte: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= LONGEST_LABEL
        && is_end(text.bytes().next())
        && is_end(text.bytes().next_back())
        && text.bytes().all(is_inner)
}

/// Whether a text can be the name part of a label's key, or a label's value.
fn is_qualified_name(text: &str) -> bool {
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= LONGEST_LABEL
        && is_end(text.bytes().next())
        && is_end(text.bytes().next_back())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_namespace_is_an_rfc_1123_label() {
        let long = "a".repeat(64);
        for wrong in ["", "Shop", "shop_", "-a", "a-", "shop.x", "openshift-*", "a b", &long] {
            let error = wrong.parse::<Namespace>().unwrap_err().to_string();
            assert!(error.contains("63 characters"), "{error}");
        }
        assert_eq!("shop-1".parse::<Namespace>().unwrap().as_str(), "shop-1");
    }

    #[test]
    fn a_label_has_a_key_and_a_value() {
        for wrong in ["gantry", "=x", "a/b/c=x", "A_/b=x", "a=b c", "a=-"] {
            assert!(wrong.parse::<NamespaceLabel>().is_err(), "{wrong}");
        }
        for right in ["gantry=guarded", "example.com/guard=Yes_1", "guard="] {
            assert!(right.parse::<NamespaceLabel>().is_ok(), "{right}");
        }
    }

    #[test]
    fn the_cluster_and_gantry_itself_are_left_out_unless_they_are_named() {
        let label = "gantry=guarded".parse().unwrap();
        for scope in [NamespaceScope::AllBut(BTreeSet::new()), NamespaceScope::Labelled(label)] {
            let selector = scope.to_selector().to_string();
            assert!(selector.contains("kube-system") && selector.contains("gantry-system"));
        }
        let only = NamespaceScope::Only(["kube-system".parse().unwrap()].into());
        assert_eq!(only.to_selector()["matchExpressions"][0]["operator"], "In");
    }

    #[test]
    fn any_text_becomes_a_name() {
        assert_eq!(build_object_name("gantry-images", "My Site.1_"), "gantry-images-my-site-1");
        assert_eq!(build_object_name("gantry-images", &"x".repeat(99)).len(), 63);
    }
}
