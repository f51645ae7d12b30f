//! Finds http and https addresses in the rendered manifests that a program may read, without those
//! inside the cluster or the site and those in texts for people.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;
use types::input::rules::PhoneHome;

use super::finding::PhoneHomeFinding;
use crate::edit::embedded::{decode_base64, parse_embedded};
use crate::find::ManifestLocation;
use crate::inspect::Inspection;
use crate::manifest::{ManifestDocument, Manifests};
use crate::path::{DocumentPath, TextEncoding};
use crate::values;

/// Keys whose texts are for people, so that no program connects to an address in them.
const READING: &[&str] =
    &["description", "documentation", "runbook_url", "links", "annotations", "summary", "message"];

/// Finds the addresses outside the site, one result for each document and host.
pub(super) fn find_outside_addresses(
    table: &PhoneHome,
    inspection: &Inspection,
    is_inside: &dyn Fn(&str) -> bool,
    findings: &mut Vec<PhoneHomeFinding>,
) {
    let own = ClusterHosts::new(&inspection.manifests);
    let is_ours = |host: &str| table.inside.iter().any(|known| is_in_domain(host, known));
    for (index, document) in inspection.manifests.documents.iter().enumerate() {
        let mut hosts: BTreeMap<String, (DocumentPath, BTreeSet<String>)> = BTreeMap::new();
        visit_addresses(document, &mut |path, url, host| {
            if !is_local_host(host) && !own.has_host(host) && !is_ours(host) && !is_inside(host) {
                let known = hosts.entry(host.to_owned());
                let (_, urls) = known.or_insert_with(|| (path.clone(), BTreeSet::new()));
                urls.insert(url.to_owned());
            }
        });
        for (host, (path, urls)) in hosts {
            let place = ManifestLocation::new(index, document, path);
            let known = table.hosts.iter().find(|known| is_in_domain(&host, &known.host));
            let why = known.map(|known| known.why.clone());
            let values = find_values_with_host(&host, inspection);
            findings.push(PhoneHomeFinding::Address {
                host,
                urls: urls.into_iter().collect(),
                place,
                values,
                why,
            });
        }
    }
}

/// Whether a host is the domain `known` or below it.
pub(super) fn is_in_domain(host: &str, known: &str) -> bool {
    host.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The paths of the values whose text contains a host.
fn find_values_with_host(host: &str, inspection: &Inspection) -> Vec<DocumentPath> {
    let mut found = Vec::new();
    values::visit_leaves(&inspection.effective, &DocumentPath::default(), &mut |path, leaf| {
        if leaf.as_str().is_some_and(|text| text.contains(host)) && !inspection.is_inactive(path) {
            found.push(path.clone());
        }
    });
    found
}

/// The names of services and namespaces in the render, by which `service.namespace` is recognised
/// as an address in the cluster.
struct ClusterHosts<'a> {
    services: BTreeSet<&'a str>,
    namespaces: BTreeSet<&'a str>,
}

impl<'a> ClusterHosts<'a> {
    fn new(manifests: &'a Manifests) -> Self {
        let services = manifests.documents.iter().filter(|d| d.kind() == "Service");
        let namespaces = manifests.documents.iter().map(ManifestDocument::namespace);
        Self {
            services: services.map(ManifestDocument::name).collect(),
            namespaces: namespaces.chain(["default"]).collect(),
        }
    }

    /// Whether a host is a service of this render, or a name in one of its namespaces.
    fn has_host(&self, host: &str) -> bool {
        // A namespace may be called `ai` or `dev`; a name that ends in a top-level domain is taken
        // for one on the internet all the same.
        const PUBLIC: &[&str] = &[
            "ai", "app", "co", "com", "cloud", "de", "dev", "eu", "io", "it", "me", "net", "org",
            "run", "sh", "so", "tech", "uk", "us",
        ];
        // `service.namespace`, and `pod.service` of a headless one, with or without its namespace.
        const LONGEST: usize = 3;
        let labels: Vec<&str> = host.split('.').collect();
        let last = labels.last().copied().unwrap_or_default();
        labels.len() <= LONGEST
            && !PUBLIC.contains(&last)
            && (self.namespaces.contains(last)
                || labels.iter().any(|label| self.services.contains(label)))
    }
}

/// Calls `visit` with each http(s) address that a program may read, and its host.
fn visit_addresses(document: &ManifestDocument, visit: &mut impl FnMut(&DocumentPath, &str, &str)) {
    let is_secret = document.kind() == "Secret";
    // Addresses in a schema are documentation. Secrets are encoded, so their text shows none.
    let is_schema = document.kind() == "CustomResourceDefinition";
    if !is_schema && (is_secret || document.text.contains("://")) {
        visit_addresses_in_value(&document.value, &DocumentPath::default(), is_secret, visit);
    }
}

/// Visits the addresses in a value, decoding the documents in its texts.
fn visit_addresses_in_value(
    value: &Value,
    path: &DocumentPath,
    is_secret: bool,
    visit: &mut impl FnMut(&DocumentPath, &str, &str),
) {
    let is_python = path.last_key().is_some_and(|key| key.ends_with(".py"));
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter().filter(|(key, _)| !READING.contains(&key.as_str())) {
                visit_addresses_in_value(value, &path.key(key), is_secret, visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                visit_addresses_in_value(item, &path.index(index), is_secret, visit);
            }
        }
        Value::String(string) => {
            let decoded =
                if is_secret && path.steps().len() == 2 { decode_base64(string) } else { None };
            let string = decoded.as_deref().unwrap_or(string);
            if !string.contains("://") {
                return;
            }
            match parse_embedded(string) {
                Some((encoding, inner)) => {
                    visit_addresses_in_value(&inner, &path.inside(encoding), is_secret, visit);
                }
                None if is_python => {
                    visit_addresses_in_text(&strip_docstrings(string), path, visit);
                }
                None => visit_addresses_in_text(string, path, visit),
            }
        }
        _ => {}
    }
}

/// Visits the addresses in the lines of a text, except in comments.
fn visit_addresses_in_text(
    string: &str,
    path: &DocumentPath,
    visit: &mut impl FnMut(&DocumentPath, &str, &str),
) {
    let is_long = string.contains('\n');
    for line in string.lines().filter(|line| !is_comment_line(line)) {
        // Comments at the end of a line, as in YAML and shell scripts.
        let line = line.split(" # ").next().unwrap_or_default();
        for scheme in ["https://", "http://"] {
            for (start, _) in line.match_indices(scheme) {
                let url =
                    line[start..].split(|c: char| c.is_whitespace() || "\"'`<>)],;|".contains(c));
                let url = url.into_iter().next().unwrap_or_default().trim_end_matches(['.', ':']);
                let Some(behind) = url.get(scheme.len()..) else { continue };
                let host = behind.split(['/', '?', '#']).next().unwrap_or_default();
                // `user:password@host:port`
                let host = host.rsplit('@').next().unwrap_or_default();
                let host = host.split(':').next().unwrap_or_default();
                let path = if is_long { path.inside(TextEncoding::Text) } else { path.clone() };
                visit(&path, url, host);
            }
        }
    }
}

/// A Python program without its docstrings, in which addresses are documentation.
fn strip_docstrings(program: &str) -> String {
    let mut is_inside = false;
    let mut code = String::new();
    for line in program.lines() {
        let marks = line.matches("\"\"\"").count();
        if !is_inside && marks == 0 {
            code.push_str(line);
            code.push('\n');
        }
        is_inside ^= marks % 2 == 1;
    }
    code
}

/// Whether a line is a comment in one of the usual languages.
fn is_comment_line(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with(['#', ';', '*']) || line.starts_with("//") || line.starts_with("/*")
}

/// Whether a host is in the cluster, in a private network or on the machine itself, or is no host
/// at all (a template, a variable, an example of RFC 2606).
fn is_local_host(host: &str) -> bool {
    const INSIDE: &[&str] = &[
        ".svc",
        ".local",
        ".internal",
        ".cluster",
        ".localhost",
        ".lan",
        ".corp",
        ".test",
        ".invalid",
    ];
    if let Ok(address) = host.parse::<IpAddr>() {
        return is_private_address(address);
    }
    let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    let is_example = host.split('.').any(|label| label == "example");
    !is_name
        || !host.contains('.')
        || is_example
        || INSIDE.iter().any(|suffix| host.ends_with(suffix))
        || host.contains(".svc.")
}

/// Whether an IP address is not routed on the internet.
fn is_private_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified()
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_unspecified()
        }
    }
}
