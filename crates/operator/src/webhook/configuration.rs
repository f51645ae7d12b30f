//! The `MutatingWebhookConfiguration`: what the API server asks the webhook about, and what it does
//! when nobody answers. It fails closed for the namespaces that are labelled, and touches no other.

use serde_json::{Value, json};

use super::router;

/// The label of a namespace that is guarded.
pub const LABEL: &str = "gantry.dev/guard";
/// Its value where what is not locked is refused.
pub const ENFORCE: &str = "enforce";
/// Its value where leftovers are moved, and nothing is refused.
pub const MOVE: &str = "move";

/// The label that the API server gives every namespace: its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// What keeps the cluster alive is in none of Gantry's locks.
const SYSTEM: [&str; 3] = ["kube-node-lease", "kube-public", "kube-system"];
/// Seconds that the API server waits for an answer, which takes milliseconds.
const TIMEOUT: u32 = 5;

/// Where the API server finds the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Behind a Service of the webhook's name in its namespace.
    Service,
    /// Outside of the cluster: `https://HOST:PORT`.
    Url(String),
}

/// What a configuration says.
#[derive(Debug, Clone)]
pub(super) struct Configuration<'a> {
    pub(super) name: &'a str,
    /// The webhook's own namespace, which it never judges.
    pub(super) namespace: &'a str,
    pub(super) address: &'a Address,
    /// The authority of its certificate, PEM in base64; absent where the webhook writes its own.
    pub(super) ca_bundle: Option<Value>,
    /// The only namespaces, by name, that may be guarded; all when empty.
    pub(super) only: &'a [String],
}

impl Configuration<'_> {
    pub(super) fn manifest(&self) -> Value {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": self.name, "labels": super::manifests::labels(self.name)},
            "webhooks": [
                self.webhook(ENFORCE, router::ENFORCE, "Fail"),
                self.webhook(MOVE, router::MOVE, "Ignore"),
            ],
        })
    }

    fn webhook(&self, guard: &str, path: &str, failure_policy: &str) -> Value {
        json!({
            "name": format!("{guard}.webhook.gantry.dev"),
            "clientConfig": self.client(path),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": TIMEOUT,
            "failurePolicy": failure_policy,
            "matchPolicy": "Equivalent",
            // A sidecar that another webhook adds after us is judged as well.
            "reinvocationPolicy": "IfNeeded",
            "namespaceSelector": self.namespaces(guard),
            "matchConditions": self.conditions(),
            "rules": [
                rule("pods", &["CREATE", "UPDATE"]),
                // `kubectl debug`.
                rule("pods/ephemeralcontainers", &["UPDATE"]),
            ],
        })
    }

    fn client(&self, path: &str) -> Value {
        let mut client = match self.address {
            Address::Service => json!({"service": {
                "name": self.name, "namespace": self.namespace, "path": path, "port": 443,
            }}),
            Address::Url(url) => json!({"url": format!("{}{path}", url.trim_end_matches('/'))}),
        };
        if let Some(bundle) = &self.ca_bundle {
            client["caBundle"] = bundle.clone();
        }
        client
    }

    fn namespaces(&self, guard: &str) -> Value {
        let mut left_out: Vec<&str> = SYSTEM.to_vec();
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

    /// What is not even asked. Most updates of pods bring no image: finalizers have to go while the
    /// webhook is down, or a namespace could never be deleted.
    fn conditions(&self) -> Value {
        let images = |object: &str, list: &str| {
            let all = format!("{object}.spec.{list}");
            format!("(has({all}) ? {all}.map(c, has(c.image) ? c.image : \"\") : [])")
        };
        let changed = ["containers", "initContainers", "ephemeralContainers"]
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

fn rule(resource: &str, operations: &[&str]) -> Value {
    json!({
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": operations,
        "resources": [resource],
        "scope": "Namespaced",
    })
}
