//! The admission rule that comes with the right to write the webhook's configuration. RBAC can narrow
//! that right to one object, not to one field: without the rule, whoever takes over a pod of the
//! webhook could extend it to every namespace and every kind. With it, the API server refuses every
//! change of the pods' service account but that of `caBundle`, which renewing the certificate needs.

use serde_json::{Value, json};

use super::labels::object_labels;

/// The fields of a webhook that stay as they were: all but `clientConfig.caBundle`. The name says
/// which one is compared.
const FIELDS: [&str; 10] = [
    "admissionReviewVersions",
    "failurePolicy",
    "matchConditions",
    "matchPolicy",
    "namespaceSelector",
    "objectSelector",
    "reinvocationPolicy",
    "rules",
    "sideEffects",
    "timeoutSeconds",
];
/// The fields of its address that stay.
const ADDRESS: [&str; 2] = ["service", "url"];
/// The metadata that stays. An owner that does not exist would make the cluster delete the
/// configuration.
const METADATA: [&str; 4] = ["annotations", "finalizers", "labels", "ownerReferences"];

/// A `ValidatingAdmissionPolicy` and its binding, both called `name`, for the configuration `name` and
/// the service account `name` in `namespace`.
pub(super) fn build_guard_manifests(name: &str, namespace: &str) -> [Value; 2] {
    let version = "admissionregistration.k8s.io/v1";
    let metadata = json!({"name": name, "labels": object_labels(name)});
    let policy = json!({
        "apiVersion": version,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": metadata,
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["admissionregistration.k8s.io"],
                "apiVersions": ["*"],
                "operations": ["UPDATE"],
                "resources": ["mutatingwebhookconfigurations"],
                "resourceNames": [name],
            }]},
            "matchConditions": [{
                "name": "by-the-webhook-itself",
                "expression": format!(
                    "request.userInfo.username == \"system:serviceaccount:{namespace}:{name}\""
                ),
            }],
            "validations": [
                {
                    "expression": compare_fields("object.metadata", "oldObject.metadata", &METADATA),
                    "message": "the webhook may not change the metadata of its configuration",
                },
                {
                    "expression": compare_webhooks(),
                    "message": "the webhook may change nothing in its configuration but caBundle",
                },
            ],
        },
    });
    let binding = json!({
        "apiVersion": version,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": metadata,
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    [policy, binding]
}

/// CEL: the same webhooks as before, each with the same fields. Names are unique in a configuration.
fn compare_webhooks() -> String {
    let fields = compare_fields("w", "o", &FIELDS);
    let address = compare_fields("w.clientConfig", "o.clientConfig", &ADDRESS);
    format!(
        "size(object.webhooks) == size(oldObject.webhooks) && object.webhooks.all(w, \
         oldObject.webhooks.exists(o, o.name == w.name && {fields} && {address}))"
    )
}

/// CEL: two objects have the same values in these fields, or none.
fn compare_fields(new: &str, old: &str, fields: &[&str]) -> String {
    let same = fields.iter().map(|field| format!("{new}.?{field} == {old}.?{field}"));
    same.collect::<Vec<_>>().join(" && ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use cluster::objects::ByteString;
    use cluster::objects::api::admissionregistration::v1::{
        MatchCondition, MutatingWebhook, RuleWithOperations, ServiceReference, WebhookClientConfig,
    };
    use cluster::objects::apimachinery::pkg::apis::meta::v1::LabelSelector;

    use super::*;

    #[test]
    fn no_field_but_the_authority_is_left_out() {
        // Without `..`: a field of a newer Kubernetes does not compile until it is here.
        let webhook = MutatingWebhook {
            admission_review_versions: vec!["v1".into()],
            client_config: WebhookClientConfig {
                ca_bundle: Some(ByteString(vec![1])),
                service: Some(ServiceReference::default()),
                url: Some("https://x".into()),
            },
            failure_policy: Some("Fail".into()),
            match_conditions: Some(vec![MatchCondition::default()]),
            match_policy: Some("Exact".into()),
            name: "x".into(),
            namespace_selector: Some(LabelSelector::default()),
            object_selector: Some(LabelSelector::default()),
            reinvocation_policy: Some("Never".into()),
            rules: Some(vec![RuleWithOperations::default()]),
            side_effects: "None".into(),
            timeout_seconds: Some(5),
        };
        let keys = |value: &Value| -> BTreeSet<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        let webhook = serde_json::to_value(webhook).unwrap();
        let with = |fields: &[&str], more: &[&str]| -> BTreeSet<String> {
            fields.iter().chain(more).map(|&field| field.to_owned()).collect()
        };
        assert_eq!(keys(&webhook), with(&FIELDS, &["name", "clientConfig"]));
        assert_eq!(keys(&webhook["clientConfig"]), with(&ADDRESS, &["caBundle"]));
    }
}
