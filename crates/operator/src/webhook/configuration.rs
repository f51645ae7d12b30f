//! The `MutatingWebhookConfiguration`: which requests the API server sends to the webhook, and what
//! it does when the webhook does not answer. For namespaces with the label `gantry.dev/guard:
//! enforce` it denies then (fails closed); namespaces without the label are never affected.

use serde_json::{Value, json};
use types::pod_kinds::CONTAINER_LISTS;
use types::site_namespaces::SYSTEM_NAMESPACES;

use super::labels::object_labels;
use super::router;

/// The label of a guarded namespace.
pub const LABEL: &str = "gantry.dev/guard";
/// The label's value for namespaces where images that are not locked are refused.
pub const ENFORCE: &str = "enforce";
/// The label's value for namespaces where locked images are changed to their names at the site, and
/// nothing is refused.
pub const MOVE: &str = "move";

/// The label with its name that the API server puts on every namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// How many seconds the API server waits for an answer. One takes milliseconds; every second of a
/// webhook that is down delays each pod.
const TIMEOUT: u32 = 5;

/// Where the API server finds the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookAddress {
    /// Behind a Service of the webhook's name in its namespace.
    Service,
    /// Outside the cluster: `https://HOST:PORT`.
    Url(String),
}

/// The values of a `MutatingWebhookConfiguration`.
#[derive(Debug, Clone)]
pub(super) struct WebhookConfiguration<'a> {
    pub(super) name: &'a str,
    /// The webhook's own namespace, which it never guards: it could not start again otherwise.
    pub(super) namespace: &'a str,
    pub(super) address: &'a WebhookAddress,
    /// The authority of its certificate, as PEM in base64; absent if the webhook writes it itself.
    pub(super) ca_bundle: Option<Value>,
    /// The names of the only namespaces that may be guarded; all when empty.
    pub(super) only: &'a [String],
}

impl WebhookConfiguration<'_> {
    pub(super) fn to_manifest(&self) -> Value {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": self.name, "labels": object_labels(self.name)},
            "webhooks": [
                self.webhook_entry(ENFORCE, router::ENFORCE, "Fail"),
                self.webhook_entry(MOVE, router::MOVE, "Ignore"),
            ],
        })
    }

    fn webhook_entry(&self, guard: &str, path: &str, failure_policy: &str) -> Value {
        json!({
            "name": format!("{guard}.webhook.gantry.dev"),
            "clientConfig": self.client_config(path),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": TIMEOUT,
            "failurePolicy": failure_policy,
            "matchPolicy": "Equivalent",
            // Call again after other webhooks changed the pod: a sidecar that one of them adds is
            // checked too.
            "reinvocationPolicy": "IfNeeded",
            "namespaceSelector": self.namespace_selector(guard),
            "matchConditions": self.match_conditions(),
            "rules": [
                admission_rule("pods", &["CREATE", "UPDATE"]),
                // `kubectl debug` adds containers through this subresource.
                admission_rule("pods/ephemeralcontainers", &["UPDATE"]),
            ],
        })
    }

    fn client_config(&self, path: &str) -> Value {
        let mut client = match self.address {
            WebhookAddress::Service => json!({"service": {
                "name": self.name, "namespace": self.namespace, "path": path, "port": 443,
            }}),
            WebhookAddress::Url(url) => {
                json!({"url": format!("{}{path}", url.trim_end_matches('/'))})
            }
        };
        if let Some(bundle) = &self.ca_bundle {
            client["caBundle"] = bundle.clone();
        }
        client
    }

    fn namespace_selector(&self, guard: &str) -> Value {
        // The images of the cluster's own components are in no lock.
        let mut left_out: Vec<&str> = SYSTEM_NAMESPACES.to_vec();
        left_out.push(self.namespace);
        left_out.sort_unstable();
        left_out.dedup();
        let mut expressions =
            vec![json!({"key": NAME_LABEL, "operator": "NotIn", "values": left_out})];
        if !self.only.is_empty() {
            expressions.push(json!({"key": NAME_LABEL, "operator": "In", "values": self.only}));
        }
        json!({"matchLabels": {LABEL: guard}, "matchExpressions": expressions})
    }

    /// Expressions (CEL) for the requests that are sent to the webhook at all. Most updates of a
    /// pod change no image; for example, finalizers must be removable while the webhook is down, or
    /// a namespace could never be deleted.
    fn match_conditions(&self) -> Value {
        let images = |object: &str, list: &str| {
            let all = format!("{object}.spec.{list}");
            format!("(has({all}) ? {all}.map(c, has(c.image) ? c.image : \"\") : [])")
        };
        // Image volumes are not compared: the API server refuses to change a pod's volumes.
        let changed = CONTAINER_LISTS
            .map(|list| format!("{} != {}", images("object", list), images("oldObject", list)));
        json!([
            {
                "name": "not-its-own-pods",
                "expression": format!("request.namespace != \"{}\"", self.namespace),
            },
            {
                "name": "brings-an-image",
                "expression": format!("request.operation != \"UPDATE\" || {}", changed.join(" || ")),
            },
        ])
    }
}

fn admission_rule(resource: &str, operations: &[&str]) -> Value {
    json!({
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": operations,
        "resources": [resource],
        "scope": "Namespaced",
    })
}
