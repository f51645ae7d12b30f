//! The seeder: a pod of Gantry's own image that mounts a claim and waits to be told what to do.
//! Restricted pod security; any user (OpenShift's arbitrary ids included); a read-only root.

use cluster::objects::api::core::v1::{Namespace, Pod};
use cluster::objects::serde_json::{from_value, json};
use cluster::{Cluster, Scope, own};
use serde_json::Value;
use store::hash::sha256;

use super::error::{Error, Result};
use super::order::MOUNT;
use super::volume::Volume;

/// The container's name.
pub(super) const CONTAINER: &str = "seeder";
/// The part of Gantry that made the pod.
const PART: &str = "seeder";
/// User and group of the image, and the group of volumes that it writes.
const GROUP: i64 = 65532;
/// What OpenShift writes on a namespace: the user ids that its pods get.
const OPENSHIFT: &str = "openshift.io/sa.scc.uid-range";

/// What a seeder runs from.
#[derive(Debug, Clone)]
pub struct Image {
    /// Gantry's own image at the site.
    pub reference: String,
    /// The secret that pulls it, and that the pod's registry client reads.
    pub pull_secret: Option<String>,
    /// `key=value` of nodes that may run it.
    pub node_selector: Vec<(String, String)>,
}

/// Whether a pod writes to the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It puts models there.
    Write,
    /// It only reads; the mount is read-only.
    Read,
}

/// The pod's name: one a claim and use, so that a second push meets the first one's.
pub(super) fn name(claim: &str, usage: Use) -> String {
    let verb = match usage {
        Use::Write => "seed",
        Use::Read => "verify",
    };
    let plain = format!("gantry-{verb}-{claim}");
    if plain.len() <= 63 && !plain.contains('.') {
        return plain;
    }
    format!("gantry-{verb}-{}", sha256(claim.as_bytes()).short())
}

/// The pod for a volume.
pub(super) async fn pod(
    cluster: &Cluster,
    volume: &Volume,
    image: &Image,
    usage: Use,
) -> Result<Pod> {
    let path = &volume.path;
    let is_openshift = gives_users(cluster, &path.namespace).await?;
    let claim = json!({"claimName": path.name, "readOnly": usage == Use::Read});
    let mut pod = base(image, &json!({"persistentVolumeClaim": claim}), usage);
    pod["metadata"] = json!({
        "name": name(&path.name, usage),
        "namespace": path.namespace,
        "annotations": {"gantry.dev/claim": path.name, "sidecar.istio.io/inject": "false"},
        "labels": {"sidecar.istio.io/inject": "false"},
    });
    if !is_openshift {
        pod["spec"]["securityContext"]["fsGroup"] = json!(GROUP);
        pod["spec"]["securityContext"]["fsGroupChangePolicy"] = json!("OnRootMismatch");
    }
    place(&mut pod, volume, image);
    built(pod, &path.to_string())
}

/// A pod of Gantry's own that has this volume at [`MOUNT`].
pub(super) fn base(image: &Image, volume: &Value, usage: Use) -> Value {
    let mut volume = volume.clone();
    volume["name"] = json!("models");
    let mut volumes = vec![volume, json!({"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}})];
    let mut mounts = vec![
        json!({"name": "models", "mountPath": MOUNT, "readOnly": usage == Use::Read}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    let mut environment = vec![json!({"name": "HOME", "value": "/tmp"})];
    if let Some(secret) = &image.pull_secret {
        // The registry's credential stays in the cluster's secret: no copy of ours.
        volumes.push(json!({"name": "pull", "secret": {
            "secretName": secret, "optional": true,
            "items": [{"key": ".dockerconfigjson", "path": "config.json"}]}}));
        mounts.push(json!({"name": "pull", "mountPath": "/run/gantry", "readOnly": true}));
        environment.push(json!({"name": "DOCKER_CONFIG", "value": "/run/gantry"}));
    }
    let pull_secrets: Vec<Value> =
        image.pull_secret.iter().map(|name| json!({"name": name})).collect();
    json!({
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "imagePullSecrets": pull_secrets,
            "securityContext": {
                "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": CONTAINER,
                "image": image.reference,
                "imagePullPolicy": "IfNotPresent",
                "args": ["models", "hold"],
                "env": environment,
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        }
    })
}

/// Where it may run: at the side of who uses the claim.
fn place(pod: &mut Value, volume: &Volume, image: &Image) {
    let spec = &mut pod["spec"];
    let consumer = volume.consumer.as_ref().and_then(|pod| pod.spec.as_ref());
    if let Some(consumer) = consumer {
        spec["tolerations"] = json!(consumer.tolerations);
    }
    if let Some(node) = &volume.node {
        // By the scheduler, not by nodeName: it knows what the volume allows.
        spec["affinity"] = json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{
                "matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}}});
    } else if let Some(selector) = consumer.and_then(|spec| spec.node_selector.as_ref()) {
        spec["nodeSelector"] = json!(selector);
    }
    for (key, value) in &image.node_selector {
        spec["nodeSelector"][key] = json!(value);
    }
}

/// The typed pod, marked as Gantry's.
pub(super) fn built(pod: Value, what: &str) -> Result<Pod> {
    let mut pod: Pod = from_value(pod).map_err(|error| {
        Error::input(what, error.to_string(), "this is a fault of Gantry, please report it")
    })?;
    own(&mut pod.metadata, PART);
    Ok(pod)
}

/// Whether the namespace gives its pods user ids of its own, as OpenShift does. Who may not read it is
/// taken for another cluster's user: there the image's own user serves.
async fn gives_users(cluster: &Cluster, namespace: &str) -> Result<bool> {
    let found = match cluster.get::<Namespace>(Scope::Cluster, namespace).await {
        Ok(found) => found,
        Err(cluster::Error::Forbidden { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let annotations = found.and_then(|namespace| namespace.metadata.annotations);
    Ok(annotations.is_some_and(|annotations| annotations.contains_key(OPENSHIFT)))
}
