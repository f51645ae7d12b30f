//! Check `quota`: the resources that the charts request fit into the ResourceQuotas of their
//! namespaces.

use std::collections::BTreeMap;

use cluster::objects::api::core::v1::{LimitRange, ResourceQuota};
use cluster::{ObjectId, ObjectScope};
use serde_json::Value;
use types::pod_kinds::PodKind;

use super::quantity::{format_quantity, parse_milli_quantity};
use super::{CheckFinding, CheckName, CheckSubject, CheckedRelease, FindingState};

/// The most rendered objects that are looked up in the cluster, one request each; a chart has some
/// tens.
const MOST_WORKLOADS: usize = 500;

/// What a release requests: amounts in thousandths, by the resource names of quotas
/// (`requests.cpu`).
type QuotaDemand = BTreeMap<String, i128>;

/// Checks the quotas for all releases.
pub(super) async fn check_quota(subject: &CheckSubject) -> Vec<CheckFinding> {
    let mut findings = Vec::new();
    for release in &subject.releases {
        let place = &release.namespace;
        let what = format!("quota for {}", release.name);
        let scope = ObjectScope::Namespace(place);
        let quotas = match subject.cluster.list_objects::<ResourceQuota>(scope, "").await {
            Ok(quotas) if quotas.is_empty() => {
                findings.push(CheckFinding::ok(
                    CheckName::Quota,
                    place,
                    what,
                    "the namespace has no quota",
                ));
                continue;
            }
            Ok(quotas) => quotas,
            Err(error) => {
                findings.push(CheckFinding::from_cluster_error(
                    CheckName::Quota,
                    place,
                    what,
                    &error,
                    FindingState::Warning,
                ));
                continue;
            }
        };
        if let Err(why) = &release.manifests {
            findings.push(CheckFinding::skipped(CheckName::Quota, place, what, why));
            continue;
        }
        let new = find_new_objects(subject, release).await;
        let demand = sum_demand(&new);
        // A LimitRange fills in requests and limits that pods leave out.
        let has_defaults = subject
            .cluster
            .list_objects::<LimitRange>(scope, "")
            .await
            .is_ok_and(|all| !all.is_empty());
        for quota in &quotas {
            findings.extend(judge_quota(release, quota, &demand, &new, has_defaults));
        }
    }
    findings
}

/// Finds the rendered objects that are not in the cluster yet. Those that are count in the quota's
/// `used` already.
async fn find_new_objects<'a>(
    subject: &CheckSubject,
    release: &'a CheckedRelease,
) -> Vec<&'a Value> {
    let mut new = Vec::new();
    let manifests = release.manifests.as_deref().unwrap_or_default();
    let is_counted = |document: &&Value| {
        find_counted_pod_spec(document).is_some() || document["kind"] == "PersistentVolumeClaim"
    };
    let wanted = manifests.iter().filter(is_counted);
    for document in wanted.take(MOST_WORKLOADS) {
        // One that cannot be looked up counts as new: better a false alarm than a pod that is
        // refused.
        let Ok(id) = ObjectId::from_manifest(document, &release.namespace) else { continue };
        if !matches!(subject.cluster.read_manifest(&id).await, Ok(Some(_))) {
            new.push(document);
        }
    }
    new
}

/// Compares a quota with what a release requests.
fn judge_quota(
    release: &CheckedRelease,
    quota: &ResourceQuota,
    demand: &QuotaDemand,
    new: &[&Value],
    has_defaults: bool,
) -> Vec<CheckFinding> {
    let place = &release.namespace;
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    let status = quota.status.as_ref();
    let hard = status.and_then(|status| status.hard.clone()).unwrap_or_default();
    let used = status.and_then(|status| status.used.clone()).unwrap_or_default();
    let mut findings = Vec::new();
    for (resource, hard) in &hard {
        let what = format!("{resource} of ResourceQuota {name} for {}", release.name);
        let Some(hard) = parse_milli_quantity(&hard.0) else { continue };
        let used =
            used.get(resource).and_then(|used| parse_milli_quantity(&used.0)).unwrap_or_default();
        let asked = demand.get(qualify_resource_name(resource)).copied().unwrap_or_default();
        if !has_defaults && let Some(silent) = find_container_without_resource(new, resource) {
            findings.push(CheckFinding::failed(CheckName::Quota, place, what).with_reason(
                format!("{silent} sets no {resource}, and under this quota the pods of such containers are rejected"),
                "set its resources in the values, or create a LimitRange with defaults in the namespace",
            ));
            continue;
        }
        if asked > hard - used {
            let why = format!(
                "{} requests {}, but of {} only {} is left",
                release.name,
                format_quantity(resource, asked),
                format_quantity(resource, hard),
                format_quantity(resource, (hard - used).max(0))
            );
            let next = "have the quota raised, or request less in the values";
            findings
                .push(CheckFinding::failed(CheckName::Quota, place, what).with_reason(why, next));
        }
    }
    if findings.is_empty() {
        let what = format!("ResourceQuota {name} for {}", release.name);
        findings.push(CheckFinding::ok(CheckName::Quota, place, what, "what it requests fits"));
    }
    findings
}

/// Finds the first container that does not set a resource which a quota counts. The API server
/// rejects its pods then (kubernetes.io, "Resource Quotas").
fn find_container_without_resource(new: &[&Value], resource: &str) -> Option<String> {
    let (section, of) = split_resource_name(resource)?;
    new.iter().find_map(|document| {
        let pod = find_counted_pod_spec(document)?;
        let containers = pod["containers"].as_array().into_iter().flatten();
        let is_silent = |container: &Value| {
            let resources = &container["resources"];
            // A limit without a request is the request as well.
            resources[section].get(of).is_none()
                && (section == "limits" || resources["limits"].get(of).is_none())
        };
        let container = containers.into_iter().find(|container| is_silent(container))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some(format!(
            "container {} of {} {}",
            text(&container["name"]),
            text(&document["kind"]),
            text(&document["metadata"]["name"])
        ))
    })
}

/// Adds up what objects request.
fn sum_demand(objects: &[&Value]) -> QuotaDemand {
    let mut demand = QuotaDemand::new();
    let mut add = |resource: &str, amount: i128| {
        *demand.entry(resource.to_owned()).or_default() += amount;
    };
    for document in objects {
        if document["kind"] == "PersistentVolumeClaim" {
            // One, in thousandths.
            add("persistentvolumeclaims", 1000);
            add("requests.storage", read_requested_storage(document));
        }
        let Some(pod) = find_counted_pod_spec(document) else { continue };
        let replicas = i128::from(count_replicas(document));
        add("pods", replicas * 1000);
        // Init containers are left out: they run before the others, and rarely need more than
        // those.
        for container in pod["containers"].as_array().into_iter().flatten() {
            for (section, of) in [
                ("requests", "cpu"),
                ("requests", "memory"),
                ("limits", "cpu"),
                ("limits", "memory"),
            ] {
                let own = parse_amount(&container["resources"][section][of]);
                let amount = own.or_else(|| parse_amount(&container["resources"]["limits"][of]));
                add(&format!("{section}.{of}"), amount.unwrap_or_default() * replicas);
            }
        }
        for template in document
            .pointer("/spec/volumeClaimTemplates")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            add("persistentvolumeclaims", 1000 * replicas);
            add("requests.storage", read_requested_storage(template) * replicas);
        }
    }
    demand
}

/// The storage that a claim requests, in thousandths of a byte.
fn read_requested_storage(claim: &Value) -> i128 {
    claim.pointer("/spec/resources/requests/storage").and_then(parse_amount).unwrap_or_default()
}

/// Parses an amount, which YAML may have as a number or as a string.
fn parse_amount(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => parse_milli_quantity(text),
        Value::Number(number) => parse_milli_quantity(&number.to_string()),
        _ => None,
    }
}

/// The number of pods of a workload; of a Job those that run at the same time.
fn count_replicas(document: &Value) -> i64 {
    let spec = &document["spec"];
    let told = spec["replicas"].as_i64().or_else(|| spec["parallelism"].as_i64());
    told.unwrap_or(1).max(0)
}

/// Expands the short names of quotas: `cpu` is `requests.cpu`, `memory` is `requests.memory`.
fn qualify_resource_name(resource: &str) -> &str {
    match resource {
        "cpu" => "requests.cpu",
        "memory" => "requests.memory",
        other => other,
    }
}

/// Splits a resource name into the section of a container and the key there. `None` for resources
/// that a container need not set.
fn split_resource_name(resource: &str) -> Option<(&'static str, &'static str)> {
    match qualify_resource_name(resource) {
        "requests.cpu" => Some(("requests", "cpu")),
        "requests.memory" => Some(("requests", "memory")),
        "limits.cpu" => Some(("limits", "cpu")),
        "limits.memory" => Some(("limits", "memory")),
        _ => None,
    }
}

/// The specification of the pods that a rendered object creates. A PodTemplate creates none by
/// itself, so it asks nothing of a quota.
fn find_counted_pod_spec(document: &Value) -> Option<&Value> {
    PodKind::of_object(document).filter(|kind| kind.creates_pods())?.spec_of(document)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{from_value, json};
    use types::pod_kinds::{POD_KINDS, sample};

    use super::*;

    #[test]
    fn what_a_release_asks_for_is_compared_with_what_is_left() {
        let deployment = json!({"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 3, "template": {
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}}}]}}}});
        let release = CheckedRelease {
            name: "r".into(),
            namespace: "n".into(),
            kube_version: None,
            manifests: Ok(vec![]),
        };
        let new = [&deployment];
        let judged = |hard: Value, used: Value| {
            let quota: ResourceQuota = from_value(
                json!({"metadata": {"name": "q"}, "status": {"hard": hard, "used": used}}),
            )
            .unwrap();
            judge_quota(&release, &quota, &sum_demand(&new), &new, false)
        };
        let fits =
            judged(json!({"requests.cpu": "2", "memory": "4Gi"}), json!({"requests.cpu": "500m"}));
        assert_eq!(fits[0].state, FindingState::Ok, "{fits:?}");
        let tight = judged(json!({"cpu": "2"}), json!({"cpu": "1"}));
        assert!(
            tight[0].why.contains("requests 1500m, but of 2 only 1 is left"),
            "{}",
            tight[0].why
        );
        let silent = judged(json!({"limits.cpu": "9"}), json!({}));
        assert!(
            silent[0].why.contains("container c of Deployment a sets no limits.cpu"),
            "{}",
            silent[0].why
        );
    }

    #[test]
    fn a_pod_of_every_kind_counts() {
        let template = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}});
        for kind in POD_KINDS {
            let demand = sum_demand(&[&sample::object_of_kind(kind, &template)]);
            let expected = kind.creates_pods().then_some(&1000);
            assert_eq!(demand.get("requests.cpu"), expected, "{}", kind.kind);
        }
    }
}
