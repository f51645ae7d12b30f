//! Explains why a claim has no volume: from its storage class, and from what its provisioner and the
//! cluster's volume controller say in its events.

use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::pod_spec::list_claims;
use crate::{Cluster, NotReadyReason, ObjectScope};

/// The annotation that makes a class the cluster's default (kubernetes.io, "Storage Classes").
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// Words in a provisioner's warning that say that it may succeed later: the gRPC codes with which a
/// driver asks to be called again (container-storage-interface `spec.md`, "Error Scheme"), and
/// connections that failed.
const PASSING: [&str; 9] = [
    "deadlineexceeded",
    "deadline exceeded",
    "unavailable",
    "aborted",
    "resourceexhausted",
    "timeout",
    "timed out",
    "connection refused",
    "connection reset",
];

impl Cluster {
    /// Explains why a claim has no volume; `None` when it has one, or when it cannot be read.
    pub async fn explain_claim(&self, namespace: &str, name: &str) -> Option<NotReadyReason> {
        let scope = ObjectScope::Namespace(namespace);
        let found = self.get_object::<PersistentVolumeClaim>(scope, name).await.ok()?;
        let Some(claim) = found else {
            let next = format!(
                "create and fill it: gantry models push BUNDLE_FILE… --to pvc://{namespace}/{name} --create"
            );
            return Some(NotReadyReason::temporary("it does not exist", next));
        };
        if phase_of_claim(&claim) == Some("Bound") {
            return None;
        }
        // Without the right to list classes, the events still say what is wrong.
        let classes = self.list_objects::<StorageClass>(ObjectScope::Cluster, "").await.ok();
        let events = self.list_objects::<Event>(scope, "").await.unwrap_or_default();
        let is_about_claim = |event: &&Event| {
            event.involved_object.name.as_deref() == Some(name)
                && event.involved_object.kind.as_deref() == Some("PersistentVolumeClaim")
                // A claim of this name that was deleted may have left events.
                && (event.involved_object.uid.is_none()
                    || event.involved_object.uid == claim.metadata.uid)
        };
        let events: Vec<&Event> = events.iter().filter(is_about_claim).collect();
        Some(explain_unbound(&claim, classes.as_deref(), &events))
    }

    /// The first claim of a pod that has no volume, and why. A pod that has a node waits for no claim:
    /// the scheduler places it only after all of them are bound or can be.
    pub async fn explain_claims_of_pod(
        &self,
        namespace: &str,
        pod: &Pod,
    ) -> Option<(String, NotReadyReason)> {
        if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
            return None;
        }
        for name in list_claims(pod) {
            if let Some(reason) = self.explain_claim(namespace, name).await {
                return Some((name.to_owned(), reason));
            }
        }
        None
    }
}

/// Explains a claim that is not bound. `classes` are those of the cluster, where they can be listed;
/// `events` are the claim's own.
fn explain_unbound(
    claim: &PersistentVolumeClaim,
    classes: Option<&[StorageClass]>,
    events: &[&Event],
) -> NotReadyReason {
    if claim.metadata.deletion_timestamp.is_some() {
        let next = "wait until it is gone; it is as soon as no pod uses it any more";
        return NotReadyReason::temporary("it is being deleted", next);
    }
    if phase_of_claim(claim) == Some("Lost") {
        let next =
            "restore the volume, or delete the claim and fill a new one with: gantry models push";
        return NotReadyReason::permanent("its volume no longer exists (phase Lost)", next);
    }
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    let names: Vec<&str> =
        classes.unwrap_or_default().iter().filter_map(|one| one.metadata.name.as_deref()).collect();
    let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let has_default = classes.is_none_or(|all| all.iter().any(is_default_storage_class));
    // A volume that exists already may be bound whatever the class says, so this is about those that
    // name none.
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    if volume.is_none_or(str::is_empty) {
        match class {
            None if !has_default => {
                return NotReadyReason::permanent(
                    "it names no storage class, and no class is the default",
                    format!(
                        "name a storage class (the cluster has: {has}), or mark one as the default"
                    ),
                );
            }
            Some(class) if !class.is_empty() && classes.is_some() && !names.contains(&class) => {
                return NotReadyReason::permanent(
                    format!("the cluster has no storage class {class}"),
                    format!("name another storage class (the cluster has: {has})"),
                );
            }
            _ => {}
        }
    }
    let warning = newest_event(events.iter().filter(|event| is_warning(event)).copied());
    if let Some(warning) = warning {
        let lower = warning.to_lowercase();
        let next =
            "do what the provisioner's message names, or name another storage class or access mode";
        return match PASSING.iter().any(|word| lower.contains(word)) {
            true => NotReadyReason::temporary(warning, next),
            false => NotReadyReason::permanent(warning, next),
        };
    }
    let event = newest_event(events.iter().copied());
    if class == Some("") {
        let why = event.unwrap_or_else(|| "its storage class is empty".to_owned());
        return NotReadyReason::permanent(
            why,
            "create a PersistentVolume that fits it, or name a storage class",
        );
    }
    match event {
        Some(words) if words.to_lowercase().contains("external provisioner") => {
            NotReadyReason::temporary(
                words,
                "check that the pods of the storage class's provisioner run",
            )
        }
        Some(words) => NotReadyReason::temporary(words, "wait"),
        None => NotReadyReason::temporary("no volume is bound to it yet", "wait"),
    }
}

fn phase_of_claim(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref().and_then(|status| status.phase.as_deref())
}

/// Whether a storage class is the one of claims that name none.
pub fn is_default_storage_class(class: &StorageClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(DEFAULT_CLASS)).is_some_and(|value| value == "true")
}

fn is_warning(event: &Event) -> bool {
    event.type_.as_deref() == Some("Warning")
}

/// The message of the newest of these events, in one line.
fn newest_event<'a>(events: impl Iterator<Item = &'a Event>) -> Option<String> {
    let newest = events.max_by_key(|event| event_time(event))?;
    let message = newest.message.as_deref()?;
    Some(message.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// When an event occurred last.
pub(crate) fn event_time(event: &Event) -> Option<k8s_openapi::jiff::Timestamp> {
    let last = event.last_timestamp.as_ref().or(event.first_timestamp.as_ref());
    last.or(event.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    /// Explains a claim of this spec in a cluster with the classes `local` and `nfs`. Each event is its
    /// type, its time and its message.
    fn explain(spec: Value, events: &[(&str, &str, &str)]) -> NotReadyReason {
        let classes: Vec<StorageClass> = from_value(json!([
            {"metadata": {"name": "local"}, "provisioner": "rancher.io/local-path"},
            {"metadata": {"name": "nfs"}, "provisioner": "nfs.csi.k8s.io"},
        ]))
        .unwrap();
        let claim: PersistentVolumeClaim =
            from_value(json!({"metadata": {}, "spec": spec, "status": {"phase": "Pending"}}))
                .unwrap();
        let events: Vec<Event> = events
            .iter()
            .map(|(kind, time, message)| {
                from_value(json!({"metadata": {}, "involvedObject": {}, "type": kind,
                    "lastTimestamp": time, "message": message}))
                .unwrap()
            })
            .collect();
        let events: Vec<&Event> = events.iter().collect();
        explain_unbound(&claim, Some(&classes), &events)
    }

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-01T00:00:09Z";

    #[test]
    fn a_claim_that_nobody_can_bind_is_final_with_its_reason() {
        let unknown = explain(json!({"storageClassName": "fast"}), &[]);
        assert!(unknown.is_final && unknown.why.contains("no storage class fast"), "{unknown}");
        assert!(unknown.next.contains("local, nfs"), "{unknown}");
        let none = explain(json!({}), &[]);
        assert!(none.is_final && none.why.contains("no class is the default"), "{none}");
        let refused = explain(
            json!({"storageClassName": "local"}),
            &[
                ("Normal", LATE, "External provisioner is provisioning volume for claim"),
                (
                    "Warning",
                    EARLY,
                    "failed to provision volume: NodePath only supports\n ReadWriteOnce",
                ),
            ],
        );
        assert!(refused.is_final && refused.why.ends_with("supports ReadWriteOnce"), "{refused}");
        let by_hand = explain(
            json!({"storageClassName": ""}),
            &[("Normal", EARLY, "no persistent volumes available for this claim")],
        );
        assert!(by_hand.is_final && by_hand.why.contains("no persistent volumes"), "{by_hand}");
    }

    #[test]
    fn a_claim_that_may_still_be_bound_is_waited_for_with_what_its_events_say() {
        let local = || json!({"storageClassName": "local"});
        let waiting = "Waiting for a volume to be created either by the external provisioner 'x'";
        let absent = explain(local(), &[("Normal", EARLY, waiting)]);
        assert!(!absent.is_final && absent.next.contains("provisioner run"), "{absent}");
        let busy = "failed to provision volume: rpc error: code = DeadlineExceeded";
        assert!(!explain(local(), &[("Warning", EARLY, busy)]).is_final);
        assert!(!explain(local(), &[]).is_final);
        // A volume that an administrator made for it has no class in the cluster.
        let made = explain(json!({"storageClassName": "manual", "volumeName": "v"}), &[]);
        assert!(!made.is_final, "{made}");
    }

    #[test]
    fn only_the_annotation_with_the_value_true_makes_a_class_the_default() {
        let class = |annotations| {
            let class = json!({"metadata": {"annotations": annotations}, "provisioner": "p"});
            is_default_storage_class(&from_value(class).unwrap())
        };
        assert!(class(json!({DEFAULT_CLASS: "true"})));
        assert!(!class(json!({DEFAULT_CLASS: "false"})));
        assert!(!class(json!({"other": "true"})));
        assert!(!class(json!(null)));
    }
}
