//! Findings that need knowledge of a kind, and are no URL in a pod: ExternalName services, webhooks that
//! the API server calls, hosts that a mesh lets pods reach, hosts in environment variables, annotations
//! that an ingress controller acts on.

use chart::FieldLabel;
use serde_json::Value;
use types::pod_kinds::{find_pod_spec_in_any_kind, list_containers};

use super::finding::{FindingOrigin, StaticFinding};
use crate::pods::Workload;

/// A variable whose name is one of these, or ends with `_` and one of these, has a host as its value.
const HOST_NAMES: &[&str] =
    &["HOST", "HOSTNAME", "URL", "URI", "ENDPOINT", "SERVER", "ADDR", "ADDRESS", "DOMAIN", "DSN"];

/// The settings of one object that lead outside.
pub(super) fn find_in_object(
    object: &Value,
    namespace: &str,
    is_inside: &dyn Fn(&str) -> bool,
    seen: FindingOrigin,
) -> Vec<StaticFinding> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let own = text("/metadata/namespace");
    let subject = Workload {
        kind: text("/kind").to_owned(),
        namespace: if own.is_empty() { namespace } else { own }.to_owned(),
        name: text("/metadata/name").to_owned(),
    };
    let finding = |place: String, host: &str, why: &str, stop: &str| StaticFinding {
        subject: subject.clone(),
        setting: FieldLabel { container: None, name: place.clone() },
        place,
        what: host.to_owned(),
        why: why.to_owned(),
        stop: stop.to_owned(),
        hosts: [host.to_owned()].into(),
        seen: [seen].into(),
    };
    let mut found = Vec::new();
    match text("/kind") {
        "Service" => {
            let name = text("/spec/externalName").trim_end_matches('.');
            if !name.is_empty() && !is_inside(name) {
                found.push(finding(
                    "spec.externalName".into(),
                    name,
                    "the service is an alias of a host outside",
                    "set spec.externalName to a host of the site, or delete the service",
                ));
            }
        }
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => {
            let webhooks = object.get("webhooks").and_then(Value::as_array).into_iter().flatten();
            for (index, webhook) in webhooks.enumerate() {
                let url = webhook.pointer("/clientConfig/url").and_then(Value::as_str);
                if let Some(host) = url.and_then(url_host).filter(|host| !is_inside(host)) {
                    found.push(finding(
                        format!("webhooks[{index}].clientConfig.url"),
                        host,
                        "the API server sends it every object that its rules select",
                        "use a service of the cluster (clientConfig.service), or delete the webhook",
                    ));
                }
            }
        }
        "CustomResourceDefinition" => {
            let url = text("/spec/conversion/webhook/clientConfig/url");
            if let Some(host) = url_host(url).filter(|host| !is_inside(host)) {
                found.push(finding(
                    "spec.conversion.webhook.clientConfig.url".into(),
                    host,
                    "the API server sends it objects for conversion",
                    "use a service of the cluster (clientConfig.service)",
                ));
            }
        }
        "ServiceEntry" => {
            // MESH_INTERNAL entries are services of the mesh itself (Istio's default is external).
            let is_outside = text("/spec/location") != "MESH_INTERNAL";
            let hosts = object.pointer("/spec/hosts").and_then(Value::as_array);
            let hosts = hosts.into_iter().flatten().filter_map(Value::as_str);
            for host in hosts.filter(|host| is_outside && !is_inside(host)) {
                found.push(finding(
                    "spec.hosts".into(),
                    host,
                    "the mesh lets its pods reach it",
                    "delete the ServiceEntry, or set it to a host of the site",
                ));
            }
        }
        "Ingress" => {
            let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
            for (key, value) in annotations.into_iter().flatten() {
                let host = value.as_str().and_then(url_host).filter(|host| !is_inside(host));
                // kubectl's copy of the object, which no controller reads.
                if let Some(host) = host.filter(|_| !key.starts_with("kubectl.kubernetes.io/")) {
                    found.push(finding(
                        format!("metadata.annotations[{key:?}]"),
                        host,
                        "the ingress controller, or its clients, go there",
                        "set it to an address of the site, or remove the annotation",
                    ));
                }
            }
        }
        _ => {}
    }
    visit_host_variables(object, &mut |container, name, host| {
        if !is_inside(host) {
            let stop = format!("set {name} to a host of the site, or remove it");
            found.push(StaticFinding {
                setting: FieldLabel {
                    container: Some(container.to_owned()),
                    name: format!("variable {name}"),
                },
                ..finding(format!("container {container}: env {name}"), host, "", &stop)
            });
        }
    });
    found
}

/// Calls `visit` with container, variable and host for each variable whose name says that it has a host
/// and whose value is one without a scheme.
fn visit_host_variables(object: &Value, visit: &mut impl FnMut(&str, &str, &str)) {
    let Some(spec) = find_pod_spec_in_any_kind(object) else { return };
    for (_, container) in list_containers(spec) {
        let called = container.get("name").and_then(Value::as_str).unwrap_or_default();
        for variable in container.get("env").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| variable.get(key).and_then(Value::as_str).unwrap_or_default();
            let (name, value) = (text("name"), text("value"));
            let upper = name.to_ascii_uppercase();
            let is_host = HOST_NAMES.iter().any(|end| {
                upper.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
            });
            if is_host && let Some(host) = parse_bare_host(value) {
                visit(called, name, host);
            }
        }
    }
}

/// The host of `host.zone` or `host.zone:port`. URLs are found by the rules of the chart crate.
fn parse_bare_host(value: &str) -> Option<&str> {
    let host = match value.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) => return None,
        None => value,
    };
    let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    (is_name && host.contains('.') && !host.starts_with('.') && !host.ends_with('.'))
        .then_some(host)
}

/// The host of an http or https URL, without user and port.
fn url_host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let host = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    (!host.is_empty() && is_name).then_some(host)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use types::pod_kinds::{CONTAINER_LISTS, POD_KINDS, sample};

    use super::*;

    fn outside_hosts(object: &Value) -> Vec<String> {
        let is_inside = |host: &str| !host.contains('.') || host.ends_with(".svc");
        find_in_object(object, "shop", &is_inside, FindingOrigin::Live)
            .into_iter()
            .map(|found| found.what)
            .collect()
    }

    #[test]
    fn what_leads_outside_is_found_in_every_kind_that_can() {
        let service = |name: &str| json!({"kind": "Service", "spec": {"externalName": name}});
        assert_eq!(outside_hosts(&service("db.maker.com.")), ["db.maker.com"]);
        assert_eq!(outside_hosts(&service("db.other.svc")), [""; 0]);
        let webhook = json!({"kind": "ValidatingWebhookConfiguration", "webhooks": [
            {"clientConfig": {"service": {"name": "x"}}}, {"clientConfig": {"url": "https://judge.maker.com:8443/v1"}}]});
        assert_eq!(outside_hosts(&webhook), ["judge.maker.com"]);
        let entry =
            json!({"kind": "ServiceEntry", "spec": {"hosts": ["api.maker.com", "db.x.svc"]}});
        assert_eq!(outside_hosts(&entry), ["api.maker.com"]);
        let ingress = json!({"kind": "Ingress", "metadata": {"annotations": {
            "nginx.ingress.kubernetes.io/auth-url": "https://accounts.maker.com/oauth2",
            "kubectl.kubernetes.io/last-applied-configuration": "https://old.maker.com"}}});
        assert_eq!(outside_hosts(&ingress), ["accounts.maker.com"]);
    }

    #[test]
    fn a_variable_is_found_in_every_container_of_every_kind() {
        let env = json!([{"name": "DB_HOST", "value": "db.maker.com"}]);
        for kind in POD_KINDS {
            for list in CONTAINER_LISTS {
                // Each pod has `containers`; the API server refuses one without.
                let mut spec = json!({"containers": []});
                spec[list] = json!([{"name": "c", "env": env}]);
                let object = sample::object_of_kind(kind, &json!({"spec": spec}));
                assert_eq!(outside_hosts(&object), ["db.maker.com"], "{} {list}", kind.kind);
            }
        }
    }

    #[test]
    fn a_variable_holds_a_host_where_its_name_says_so() {
        let pod = |name: &str, value: &str| {
            outside_hosts(&json!({"kind": "Pod", "spec": {"containers": [
                {"name": "c", "env": [{"name": name, "value": value}]}]}}))
        };
        assert_eq!(pod("TELEMETRY_HOST", "t.maker.com:443"), ["t.maker.com"]);
        assert_eq!(pod("smtp_server", "203.0.113.9"), ["203.0.113.9"]);
        for (name, value) in [
            ("CONFIG", "app.yaml"),
            ("GHOST", "x.y"),
            ("DB_HOST", "db"),
            ("DB_HOST", "db.x.svc:5432"),
            ("API_URL", "https://a.maker.com"),
            ("HOST", "a b.c"),
        ] {
            assert_eq!(pod(name, value), [""; 0], "{name}={value}");
        }
    }
}
