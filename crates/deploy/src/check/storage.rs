//! Check `storage`: the storage classes and access modes exist that the charts' claims need.

use cluster::Scope;
use cluster::objects::api::core::v1::PersistentVolumeClaim;
use cluster::objects::api::storage::v1::StorageClass;
use serde_json::Value;

use super::{Finding, Name, Release, State, Subject};

/// The annotation of the default class, which claims without a class get.
const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
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
struct Claim {
    name: String,
    /// The storage class. Empty and absent differ: see `judge_claim`.
    class: Option<String>,
    modes: Vec<String>,
    storage: String,
}

/// Checks the storage class of the site and the claims of all releases.
pub(super) async fn check(subject: &Subject) -> Vec<Finding> {
    let classes = match subject.cluster.list::<StorageClass>(Scope::Cluster, "").await {
        Ok(classes) => classes,
        Err(error) => {
            let what = "storage classes";
            return vec![Finding::refused(Name::Storage, "cluster", what, &error, State::Warning)];
        }
    };
    let mut findings = Vec::new();
    if let Some(wanted) = &subject.storage_class {
        let what = format!("StorageClass {wanted} of site.yaml");
        findings.push(match classes.iter().find(|class| name(class) == wanted) {
            Some(class) => Finding::ok(Name::Storage, "cluster", what, class.provisioner.clone()),
            None => Finding::failed(Name::Storage, "cluster", what)
                .because(no_class(&classes), "correct storageClass: in site.yaml"),
        });
    }
    for release in &subject.releases {
        match &release.manifests {
            Ok(_) => findings.extend(of_release(subject, release, &classes).await),
            Err(why) => {
                let what = format!("claims of {}", release.name);
                findings.push(Finding::skipped(Name::Storage, &release.namespace, what, why));
            }
        }
    }
    if findings.is_empty() {
        let default = classes.iter().find(|class| is_default(class));
        let why = match default {
            Some(class) => format!("the default class is {}", name(class)),
            None => "there is no default class, but no claim needs one".to_owned(),
        };
        findings.push(Finding::ok(Name::Storage, "cluster", "storage classes", why));
    }
    findings
}

/// Checks the claims that a release creates, and those that it only mounts.
async fn of_release(
    subject: &Subject,
    release: &Release,
    classes: &[StorageClass],
) -> Vec<Finding> {
    let claims = claims(release);
    let mut findings: Vec<Finding> =
        claims.iter().map(|claim| satisfiable(release, claim, classes)).collect();
    for wanted in mounted(release) {
        if claims.iter().any(|claim| claim.name == wanted) {
            continue;
        }
        let what = format!("claim {wanted}");
        let scope = Scope::Namespace(&release.namespace);
        let found = subject.cluster.get::<PersistentVolumeClaim>(scope, &wanted).await;
        findings.push(match found {
            Ok(Some(_)) => Finding::ok(Name::Storage, &release.namespace, what, "it exists"),
            Ok(None) => Finding::failed(Name::Storage, &release.namespace, what).because(
                format!("{} mounts it without creating it, and it does not exist", release.name),
                format!(
                    "create and fill it: gantry models push BUNDLE_FILE… --to pvc://{}/{wanted}",
                    release.namespace
                ),
            ),
            Err(error) => {
                Finding::refused(Name::Storage, &release.namespace, what, &error, State::Warning)
            }
        });
    }
    findings
}

/// Judges whether a claim that a release creates can be bound.
fn satisfiable(release: &Release, claim: &Claim, classes: &[StorageClass]) -> Finding {
    let what = format!("claim {}", claim.name);
    let place = &release.namespace;
    let class = match &claim.class {
        // `storageClassName: ""` turns dynamic provisioning off and also the default class
        // (kubernetes.io, "Persistent Volumes", "Class").
        Some(class) if class.is_empty() => {
            return Finding::warning(Name::Storage, place, what).because(
                "its storage class is empty, so an administrator has to create its volume",
                "create a PersistentVolume for it, or set the chart's storage class",
            );
        }
        Some(wanted) => match classes.iter().find(|class| name(class) == wanted) {
            Some(class) => class,
            None => {
                return Finding::failed(Name::Storage, place, what).because(
                    format!("it needs the storage class {wanted}; {}", no_class(classes)),
                    "set the chart's storage class to one that exists",
                );
            }
        },
        None => match classes.iter().find(|class| is_default(class)) {
            Some(class) => class,
            None => {
                return Finding::failed(Name::Storage, place, what).because(
                    format!(
                        "it names no storage class, and none is the default; {}",
                        no_class(classes)
                    ),
                    "set the chart's storage class, or mark one as the default",
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
            name(class),
            class.provisioner
        );
        let next = "choose a class with shared volumes (NFS, CephFS), or give each consumer a ReadWriteOnce claim of its own";
        return Finding::failed(Name::Storage, place, what).because(why, next);
    }
    let why = format!("{} of {}, {}", claim.storage, name(class), claim.modes.join(", "));
    Finding::ok(Name::Storage, place, what, why)
}

/// Lists the claims that a release creates, those of its StatefulSets included.
fn claims(release: &Release) -> Vec<Claim> {
    let mut claims: Vec<Claim> = release
        .of_kind("PersistentVolumeClaim")
        .filter_map(|document| claim(document, ""))
        .collect();
    for set in release.of_kind("StatefulSet") {
        let owner = set.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let templates = set.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
        claims
            .extend(templates.into_iter().flatten().filter_map(|document| claim(document, owner)));
    }
    claims
}

/// Reads a claim, or with an `owner` the claim template of that StatefulSet.
fn claim(document: &Value, owner: &str) -> Option<Claim> {
    let name = document.pointer("/metadata/name")?.as_str()?;
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let modes = document.pointer("/spec/accessModes").and_then(Value::as_array);
    Some(Claim {
        // Without the number of the replica, which is not known here.
        name: if owner.is_empty() { name.to_owned() } else { format!("{name}-{owner}") },
        class: text("/spec/storageClassName"),
        modes: modes.into_iter().flatten().filter_map(|m| m.as_str().map(str::to_owned)).collect(),
        storage: text("/spec/resources/requests/storage").unwrap_or_else(|| "a volume".to_owned()),
    })
}

/// Lists the claims that the pods of a release mount, each once.
fn mounted(release: &Release) -> Vec<String> {
    let mut names: Vec<String> = release
        .manifests
        .as_deref()
        .unwrap_or_default()
        .iter()
        .filter_map(super::quota::pod_spec)
        .flat_map(|pod| pod["volumes"].as_array().into_iter().flatten())
        .filter_map(|volume| volume.pointer("/persistentVolumeClaim/claimName")?.as_str())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The name of a class.
fn name(class: &StorageClass) -> &str {
    class.metadata.name.as_deref().unwrap_or_default()
}

/// Whether a class is marked as the default.
fn is_default(class: &StorageClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(DEFAULT)).is_some_and(|value| value == "true")
}

/// Describes which classes the cluster has.
fn no_class(classes: &[StorageClass]) -> String {
    let names: Vec<&str> = classes.iter().map(name).collect();
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

    fn classes() -> Vec<StorageClass> {
        from_value(json!([
            {"metadata": {"name": "local", "annotations": {DEFAULT: "true"}}, "provisioner": "rancher.io/local-path"},
            {"metadata": {"name": "nfs"}, "provisioner": "nfs.csi.k8s.io"}
        ]))
        .unwrap()
    }

    fn judged(spec: &Value) -> Finding {
        let release = Release {
            name: "r".into(),
            namespace: "n".into(),
            kube_version: None,
            manifests: Ok(vec![
                json!({"kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": spec}]}}),
            ]),
        };
        let claims = claims(&release);
        assert_eq!(claims[0].name, "data-db");
        satisfiable(&release, &claims[0], &classes())
    }

    #[test]
    fn a_claim_is_judged_by_its_class_and_its_mode() {
        let ok = judged(
            &json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}),
        );
        assert_eq!(ok.state, State::Ok, "{}", ok.why);
        let shared = judged(&json!({"accessModes": ["ReadWriteMany"], "storageClassName": "nfs"}));
        assert_eq!(shared.state, State::Ok, "{}", shared.why);
        let one_node = judged(&json!({"accessModes": ["ReadWriteMany"]}));
        assert!(one_node.why.contains("mounted by one node only"), "{}", one_node.why);
        let unknown =
            judged(&json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "fast"}));
        assert!(
            unknown.why.contains("needs the storage class fast; the cluster has local, nfs"),
            "{}",
            unknown.why
        );
    }
}
