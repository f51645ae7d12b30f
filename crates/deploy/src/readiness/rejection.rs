//! What to do about pods that the API server rejects. Its message is in a condition or an event of their
//! controller.

/// The next step for a message of an admission plugin or a quota (kubernetes/apiserver, `pkg/admission`);
/// `None` if it is something else.
pub(crate) fn advise_on_rejection(message: &str) -> Option<&'static str> {
    let lower = message.to_lowercase();
    let next = if lower.contains("exceeded quota") {
        "raise the namespace's quota, or request less in the values"
    } else if lower.contains("podsecurity") || lower.contains("violates") {
        "set the security context in the values, or another --pod-security level"
    } else if lower.contains("serviceaccount") && lower.contains("not found") {
        "create the service account that it names"
    } else if lower.contains("admission webhook") {
        "change the values so that the policy of the webhook accepts the pods"
    } else if lower.contains("forbidden") || lower.contains("denied") {
        "its pods are rejected by an admission policy, a quota or pod security: change what the message names"
    } else {
        return None;
    };
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_rejection_has_its_next_step() {
        for (message, expected) in [
            ("pods \"a\" is forbidden: exceeded quota: q, requested: pods=1", "quota"),
            (
                "pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\"",
                "--pod-security",
            ),
            (
                "error looking up service account n/a: serviceaccount \"a\" not found",
                "service account",
            ),
            ("admission webhook \"w\" denied the request: no", "webhook accepts"),
            ("pods \"a\" is forbidden: ValidatingAdmissionPolicy 'p' denied", "message names"),
        ] {
            let next = advise_on_rejection(message).unwrap_or_default();
            assert!(next.contains(expected), "{message}: {next}");
        }
        assert_eq!(advise_on_rejection("Readiness probe failed: 404"), None);
    }
}
