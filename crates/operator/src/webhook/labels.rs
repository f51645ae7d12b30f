//! The labels of the webhook's objects.

use serde_json::{Value, json};

/// The labels of all objects of the webhook.
pub(super) fn object_labels(name: &str) -> Value {
    json!({
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/managed-by": "gantry",
        "gantry.dev/part": "webhook",
    })
}
