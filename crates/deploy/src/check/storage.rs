//! Check `storage`: the storage classes and access modes exist that the charts' claims need.

use cluster::ObjectScope;
use cluster::objects::api::core::v1::PersistentVolumeClaim;
use cluster::objects::api::storage::v1::StorageClass;
use serde_json::Value;
use types::destination::{ClaimFolder, ModelDestination};
use types::pod_kinds::{find_pod_spec, list_claims};
use types::site::{AccessMode, ModelTarget};

use super::{CheckFinding, CheckName, CheckSubject, CheckedRelease, FindingState};

/// Provisioners whose volumes can be mounted by one node only, as their documentation says.
const ONE_NODE: [&str; 12] = [
    "rancher.io/local-path",
    "kubernetes.io/no-provisioner",
    "k8s.io/minikube-hostpath",
    "microk8s.io/hostpath",
    "openebs.io/local",
    "topolvm.io",
    "topolvm.cybozu.com",
    "ebs.csi.aws.com",
    "disk.csi.azure.com",
    "pd.csi.storage.gke.io",
    "cinder.csi.openstack.org",
    "csi.vsphere.vmware.com",
];

/// A claim that a chart creates.
struct RequestedClaim {
    name: String,
    /// The storage class. Empty and absent differ: see `judge_claim`.
    class: Option<String>,
    modes: Vec<String>,
    storage: String,
}

/// Checks the storage class of the site and the claims of all releases.
pub(super) async fn check_storage(subject: &CheckSubject) -> Vec<CheckFinding> {
    let classes = match subject.cluster.list_objects::<StorageClass>(ObjectScope::Cluster, "").await
    {
        Ok(classes) => classes,
        Err(error) => {
            let what = "storage classes";
            return vec![CheckFinding::from_cluster_error(
                CheckName::Storage,
                "cluster",
                what,
                &error,
                FindingState::Warning,
            )];
        }
    };
    let mut findings = Vec::new();
    if let Some(wanted) = &subject.storage_class {
        let what = format!("StorageClass {wanted} of site.yaml");
        findings.push(match classes.iter().find(|class| class_name(class) == wanted) {
            Some(class) => {
                CheckFinding::ok(CheckName::Storage, "cluster", what, class.provisioner.clone())
            }
            None => CheckFinding::failed(CheckName::Storage, "cluster", what)
                .with_reason(describe_classes(&classes), "correct storageClass: in site.yaml"),
        });
    }
    for target in &subject.models {
        findings.extend(check_claim_to_create(subject, &target.target, &classes).await);
    }
    for release in &subject.releases {
        match &release.manifests {
            Ok(_) => findings.extend(check_release_claims(subject, release, &classes).await),
            Err(why) => {
                let what = format!("claims of {}", release.name);
                findings.push(CheckFinding::skipped(
                    CheckName::Storage,
                    &release.namespace,
                    what,
                    why,
                ));
            }
        }
    }
    if findings.is_empty() {
        let default = classes.iter().find(|class| cluster::is_default_storage_class(class));
        let why = match default {
            Some(class) => format!("the default class is {}", class_name(class)),
            None => "there is no default class, but no claim needs one".to_owned(),
        };
        findings.push(CheckFinding::ok(CheckName::Storage, "cluster", "storage classes", why));
    }
    findings
}

/// Checks the claim that Gantry creates for a model target of the site, where it does not exist yet: its
/// class and its access mode. `None` for a target that creates none.
async fn check_claim_to_create(
    subject: &CheckSubject,
    target: &ModelTarget,
    classes: &[StorageClass],
) -> Option<CheckFinding> {
    let (Some(new), ModelDestination::Claim(path)) = (&target.create, &target.to) else {
        return None;
    };
    let scope = ObjectScope::Namespace(&path.namespace);
    let found = subject.cluster.get_object::<PersistentVolumeClaim>(scope, &path.name).await;
    // The check of models says what is wrong with a claim that exists, or cannot be read.
    if !matches!(found, Ok(None)) {
        return None;
    }
    let class = new.storage_class.as_ref().or(subject.storage_class.as_ref());
    Some(judge_claim_to_create(path, new.access_mode, class.map(String::as_str), classes))
}

/// Judges whether the claim of a model target can be created and bound.
fn judge_claim_to_create(
    path: &ClaimFolder,
    mode: AccessMode,
    class: Option<&str>,
    classes: &[StorageClass],
) -> CheckFinding {
    let claim = RequestedClaim {
        name: path.name.clone(),
        class: class.map(str::to_owned),
        modes: vec![mode.as_str().to_owned()],
        storage: "a volume".to_owned(),
    };
    let judged = judge_claim(&path.namespace, &claim, classes);
    match judged.state {
        FindingState::Failed => {
            let next = format!(
                "correct create: of the target {path} (or storageClass:) in site.yaml: {}",
                judged.next
            );
            CheckFinding { next, ..judged }
        }
        _ => judged,
    }
}

/// Checks the claims that a release creates, and those that it only mounts.
async fn check_release_claims(
    subject: &CheckSubject,
    release: &CheckedRelease,
    classes: &[StorageClass],
) -> Vec<CheckFinding> {
    let claims = list_requested_claims(release);
    let mut findings: Vec<CheckFinding> =
        claims.iter().map(|claim| judge_claim(&release.namespace, claim, classes)).collect();
    for wanted in list_mounted_claims(release) {
        if claims.iter().any(|claim| claim.name == wanted) {
            continue;
        }
        let what = format!("claim {wanted}");
        let scope = ObjectScope::Namespace(&release.namespace);
        let found = subject.cluster.get_object::<PersistentVolumeClaim>(scope, &wanted).await;
        findings.push(match found {
            Ok(Some(_)) => CheckFinding::ok(CheckName::Storage, &release.namespace, what, "it exists"),
            Ok(None) => CheckFinding::failed(CheckName::Storage, &release.namespace, what).with_reason(
                format!("{} mounts it without creating it, and it does not exist", release.name),
                format!(
                    "create and fill it: gantry models push BUNDLE_FILE… --to pvc://{}/{wanted}",
                    release.namespace
                ),
            ),
            Err(error) => {
                CheckFinding::from_cluster_error(CheckName::Storage, &release.namespace, what, &error, FindingState::Warning)
            }
        });
    }
    findings
}

/// Judges whether a claim that is to be created in a namespace can be bound.
fn judge_claim(place: &str, claim: &RequestedClaim, classes: &[StorageClass]) -> CheckFinding {
    let what = format!("claim {}", claim.name);
    let class = match &claim.class {
        // `storageClassName: ""` turns dynamic provisioning off and also the default class
        // (kubernetes.io, "Persistent Volumes", "Class").
        Some(class) if class.is_empty() => {
            return CheckFinding::warning(CheckName::Storage, place, what).with_reason(
                "its storage class is empty, so an administrator has to create its volume",
                "create a PersistentVolume for it, or set the chart's storage class",
            );
        }
        Some(wanted) => match classes.iter().find(|class| class_name(class) == wanted) {
            Some(class) => class,
            None => {
                return CheckFinding::failed(CheckName::Storage, place, what).with_reason(
                    format!("it needs the storage class {wanted}; {}", describe_classes(classes)),
                    "name a storage class that exists",
                );
            }
        },
        None => match classes.iter().find(|class| cluster::is_default_storage_class(class)) {
            Some(class) => class,
            None => {
                return CheckFinding::failed(CheckName::Storage, place, what).with_reason(
                    format!(
                        "it names no storage class, and none is the default; {}",
                        describe_classes(classes)
                    ),
                    "name a storage class, or mark one as the default",
                );
            }
        },
    };
    // Some of these provisioners bind such a claim all the same; then the second node that mounts
    // it fails, long after the deploy.
    let shared = claim.modes.iter().find(|mode| mode.as_str() == "ReadWriteMany");
    if let Some(mode) = shared
        && ONE_NODE.contains(&class.provisioner.as_str())
    {
        let why = format!(
            "it needs {mode}, but volumes of the class {} ({}) can be mounted by one node only",
            class_name(class),
            class.provisioner
        );
        let next = "choose a class with shared volumes (NFS, CephFS), or give each consumer a ReadWriteOnce claim of its own";
        return CheckFinding::failed(CheckName::Storage, place, what).with_reason(why, next);
    }
    let why = format!("{} of {}, {}", claim.storage, class_name(class), claim.modes.join(", "));
    CheckFinding::ok(CheckName::Storage, place, what, why)
}

/// Lists the claims that a release creates, those of its StatefulSets included.
fn list_requested_claims(release: &CheckedRelease) -> Vec<RequestedClaim> {
    let mut claims: Vec<RequestedClaim> = release
        .documents_of_kind("PersistentVolumeClaim")
        .filter_map(|document| parse_requested_claim(document, ""))
        .collect();
    for set in release.documents_of_kind("StatefulSet") {
        let owner = set.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let templates = set.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
        claims.extend(
            templates
                .into_iter()
                .flatten()
                .filter_map(|document| parse_requested_claim(document, owner)),
        );
    }
    claims
}

/// Reads a claim, or with an `owner` the claim template of that StatefulSet.
fn parse_requested_claim(document: &Value, owner: &str) -> Option<RequestedClaim> {
    let name = document.pointer("/metadata/name")?.as_str()?;
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let modes = document.pointer("/spec/accessModes").and_then(Value::as_array);
    Some(RequestedClaim {
        // Without the number of the replica, which is not known here.
        name: if owner.is_empty() { name.to_owned() } else { format!("{name}-{owner}") },
        class: text("/spec/storageClassName"),
        modes: modes.into_iter().flatten().filter_map(|m| m.as_str().map(str::to_owned)).collect(),
        storage: text("/spec/resources/requests/storage").unwrap_or_else(|| "a volume".to_owned()),
    })
}

/// Lists the claims that the pods of a release mount, each once.
fn list_mounted_claims(release: &CheckedRelease) -> Vec<String> {
    let mut names: Vec<String> = release
        .manifests
        .as_deref()
        .unwrap_or_default()
        .iter()
        .filter_map(find_pod_spec)
        .flat_map(list_claims)
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The name of a class.
fn class_name(class: &StorageClass) -> &str {
    class.metadata.name.as_deref().unwrap_or_default()
}

/// Describes which classes the cluster has.
fn describe_classes(classes: &[StorageClass]) -> String {
    let names: Vec<&str> = classes.iter().map(class_name).collect();
    match names.is_empty() {
        true => "the cluster has no storage classes".to_owned(),
        false => format!("the cluster has {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{from_value, json};

    use super::*;

    fn sample_classes() -> Vec<StorageClass> {
        from_value(json!([
            {"metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "rancher.io/local-path"},
            {"metadata": {"name": "nfs"}, "provisioner": "nfs.csi.k8s.io"}
        ]))
        .unwrap()
    }

    fn judge_claim_template(spec: &Value) -> CheckFinding {
        let release = CheckedRelease {
            name: "r".into(),
            namespace: "n".into(),
            kube_version: None,
            manifests: Ok(vec![
                json!({"kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": spec}]}}),
            ]),
        };
        let claims = list_requested_claims(&release);
        assert_eq!(claims[0].name, "data-db");
        judge_claim(&release.namespace, &claims[0], &sample_classes())
    }

    #[test]
    fn a_claim_is_judged_by_its_class_and_its_mode() {
        let ok = judge_claim_template(
            &json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}),
        );
        assert_eq!(ok.state, FindingState::Ok, "{}", ok.why);
        let shared = judge_claim_template(
            &json!({"accessModes": ["ReadWriteMany"], "storageClassName": "nfs"}),
        );
        assert_eq!(shared.state, FindingState::Ok, "{}", shared.why);
        let one_node = judge_claim_template(&json!({"accessModes": ["ReadWriteMany"]}));
        assert!(one_node.why.contains("mounted by one node only"), "{}", one_node.why);
        let unknown = judge_claim_template(
            &json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "fast"}),
        );
        assert!(
            unknown.why.contains("needs the storage class fast; the cluster has local, nfs"),
            "{}",
            unknown.why
        );
    }

    #[test]
    fn a_claim_of_a_model_target_is_judged_before_it_is_created() {
        let path =
            || ClaimFolder { namespace: "ai".into(), name: "m".into(), folder: String::new() };
        let judge = |mode, class| judge_claim_to_create(&path(), mode, class, &sample_classes());
        let unknown = judge(AccessMode::ReadWriteOnce, Some("fast"));
        assert_eq!(unknown.state, FindingState::Failed);
        assert!(unknown.why.contains("fast; the cluster has local, nfs"), "{}", unknown.why);
        assert!(unknown.next.contains("pvc://ai/m") && unknown.next.contains("site.yaml"));
        let shared = judge(AccessMode::ReadWriteMany, None);
        assert!(shared.why.contains("one node only"), "{}", shared.why);
        assert_eq!(judge(AccessMode::ReadWriteMany, Some("nfs")).state, FindingState::Ok);
    }
}
