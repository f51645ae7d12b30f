//! The spec of a seeder pod: Gantry's own image, with the claim mounted, waiting for an exec
//! (`gantry models hold`). It satisfies the `restricted` Pod Security Standard, runs as any user
//! (OpenShift assigns ids of its own) and has a read-only root file system.

use cluster::objects::api::core::v1::{Namespace, Pod};
use cluster::objects::serde_json::{from_value, json};
use cluster::{Cluster, ObjectScope, mark_as_own};
use serde_json::Value;
use store::hash::sha256;
use types::site::Site;

use super::error::{Error, Result};
use super::order::MOUNT;
use super::volume::ClaimVolume;

/// The container's name.
pub(super) const CONTAINER: &str = "seeder";
/// The component of Gantry that made the pod, for its labels.
const PART: &str = "seeder";
/// The user and group of Gantry's image. As `fsGroup` it makes a claim's volume writable for the pod.
const GROUP: i64 = 65532;
/// The annotation with which OpenShift notes the user ids of a namespace's pods.
const OPENSHIFT: &str = "openshift.io/sa.scc.uid-range";

/// The image of seeder pods, and what nodes need to run it.
#[derive(Debug, Clone)]
pub struct SeederImage {
    /// The reference of Gantry's own image in the site's registry.
    pub reference: String,
    /// The pull secret for it; the pod's own registry client uses it as well.
    pub pull_secret: Option<String>,
    /// Labels (key, value) that a node has to have.
    pub node_selector: Vec<(String, String)>,
}

impl SeederImage {
    /// Gantry's own image, under its name in the site's registry.
    pub fn at_site(site: &Site) -> types::Result<Self> {
        let registry = &site.registry;
        Ok(Self {
            reference: registry.own_image()?.to_string(),
            pull_secret: registry.pull_secret.clone(),
            node_selector: Vec::new(),
        })
    }
}

/// Whether a seeder writes to its volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeUse {
    /// It writes models there.
    Write,
    /// It only reads; the mount is read-only.
    Read,
}

/// The pod's name: one for each claim and use, so that a second push finds the pod of the first and
/// waits instead of writing beside it.
pub(super) fn seeder_pod_name(claim: &str, usage: VolumeUse) -> String {
    let verb = match usage {
        VolumeUse::Write => "seed",
        VolumeUse::Read => "verify",
    };
    let plain = format!("gantry-{verb}-{claim}");
    // A pod's name is also its host name: a DNS label of at most 63 characters without dots.
    if plain.len() <= 63 && !plain.contains('.') {
        return plain;
    }
    format!("gantry-{verb}-{}", sha256(claim.as_bytes()).short_hex())
}

/// The pod that mounts a claim.
pub(super) async fn build_claim_pod(
    cluster: &Cluster,
    volume: &ClaimVolume,
    image: &SeederImage,
    usage: VolumeUse,
) -> Result<Pod> {
    let path = &volume.path;
    let is_openshift = assigns_user_ids(cluster, &path.namespace).await?;
    let claim = json!({"claimName": path.name, "readOnly": usage == VolumeUse::Read});
    let mut pod = build_base_pod(image, &json!({"persistentVolumeClaim": claim}), usage);
    pod["metadata"] = json!({
        "name": seeder_pod_name(&path.name, usage),
        "namespace": path.namespace,
        // A mesh's sidecar would need rights that the pod has not, and would keep it from ending. Istio
        // reads the label, older releases of it the annotation.
        "annotations": {"gantry.dev/claim": path.name, "sidecar.istio.io/inject": "false"},
        "labels": {"sidecar.istio.io/inject": "false"},
    });
    // On OpenShift the namespace's own ids apply; a pod that asks for another group is refused.
    if !is_openshift {
        pod["spec"]["securityContext"]["fsGroup"] = json!(GROUP);
        pod["spec"]["securityContext"]["fsGroupChangePolicy"] = json!("OnRootMismatch"); // no walk over all files at each start
    }
    set_placement(&mut pod, volume, image);
    into_typed_pod(pod, &path.to_string())
}

/// What the seeder pods of claims and of nodes have in common: a pod that has this volume at [`MOUNT`].
pub(super) fn build_base_pod(image: &SeederImage, volume: &Value, usage: VolumeUse) -> Value {
    let mut volume = volume.clone();
    volume["name"] = json!("models");
    // The root file system is read-only: `/tmp` has the lock and the registry's CA file.
    let mut volumes = vec![volume, json!({"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}})];
    let mut mounts = vec![
        json!({"name": "models", "mountPath": MOUNT, "readOnly": usage == VolumeUse::Read}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    let mut environment = vec![json!({"name": "HOME", "value": "/tmp"})];
    if let Some(secret) = &image.pull_secret {
        // The registry's credential is mounted from the cluster's secret; Gantry makes no copy of it.
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
            // `gantry models hold` only waits, so there is nothing to end gracefully.
            "terminationGracePeriodSeconds": 1,
            // The pod never asks the API server for anything.
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

/// Puts the pod where the claim can be mounted: with the tolerations and node selector of the pod that
/// uses it, and on the same node where only one node may have it mounted.
fn set_placement(pod: &mut Value, volume: &ClaimVolume, image: &SeederImage) {
    let spec = &mut pod["spec"];
    let consumer = volume.consumer.as_ref().and_then(|pod| pod.spec.as_ref());
    if let Some(consumer) = consumer {
        spec["tolerations"] = json!(consumer.tolerations);
    }
    if let Some(node) = &volume.node {
        // An affinity and no `nodeName`: `nodeName` skips the scheduler, and only the scheduler binds a
        // claim whose class waits for the first consumer (WaitForFirstConsumer).
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

/// The pod as a typed object, marked as Gantry's own.
pub(super) fn into_typed_pod(pod: Value, what: &str) -> Result<Pod> {
    let mut pod: Pod = from_value(pod).map_err(|error| {
        Error::invalid_input(what, error, "this is a bug in Gantry, please report it")
    })?;
    mark_as_own(&mut pod.metadata, PART);
    Ok(pod)
}

/// Whether the namespace assigns user ids to its pods, as OpenShift does. A user who may not read the
/// namespace gets `false`: on OpenShift, users may read the namespaces that they work in.
async fn assigns_user_ids(cluster: &Cluster, namespace: &str) -> Result<bool> {
    let found = match cluster.get_object::<Namespace>(ObjectScope::Cluster, namespace).await {
        Ok(found) => found,
        Err(cluster::Error::Forbidden { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let annotations = found.and_then(|namespace| namespace.metadata.annotations);
    Ok(annotations.is_some_and(|annotations| annotations.contains_key(OPENSHIFT)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use types::destination::ClaimFolder;

    use super::*;

    fn make_image() -> SeederImage {
        SeederImage {
            reference: "registry.site/gantry:1".into(),
            pull_secret: Some("pull".into()),
            node_selector: vec![("disk".into(), "ssd".into())],
        }
    }

    fn make_volume(node: Option<&str>, consumer: Option<Value>) -> ClaimVolume {
        ClaimVolume {
            path: ClaimFolder { namespace: "ai".into(), name: "m".into(), folder: String::new() },
            to_make: None,
            node: node.map(str::to_owned),
            consumer: consumer
                .map(|spec| from_value(json!({"metadata": {}, "spec": spec})).unwrap()),
        }
    }

    #[test]
    fn a_seeders_name_is_a_host_name_and_tells_the_claim_and_the_use() {
        assert_eq!(seeder_pod_name("models", VolumeUse::Write), "gantry-seed-models");
        assert_eq!(seeder_pod_name("models", VolumeUse::Read), "gantry-verify-models");
        let long = "x".repeat(52);
        let names = ["a.b", "a.c", &long, &"x".repeat(51)]
            .map(|claim| seeder_pod_name(claim, VolumeUse::Write));
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        assert!(names.iter().all(|name| name.len() <= 63 && !name.contains('.')), "{names:?}");
        // The longest that fits as it is.
        assert_eq!(names[3], format!("gantry-seed-{}", "x".repeat(51)));
    }

    #[test]
    fn a_seeder_that_verifies_cannot_write_and_none_has_a_token_or_more_rights() {
        for (usage, is_read_only) in [(VolumeUse::Read, true), (VolumeUse::Write, false)] {
            let pod = build_base_pod(&make_image(), &json!({"emptyDir": {}}), usage);
            let spec = &pod["spec"];
            let container = &spec["containers"][0];
            assert_eq!(container["volumeMounts"][0]["readOnly"], is_read_only);
            assert_eq!(spec["automountServiceAccountToken"], false);
            assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        }
    }

    #[test]
    fn the_pull_secret_is_mounted_only_where_there_is_one() {
        let names = |image: &SeederImage| {
            let pod = build_base_pod(image, &json!({"emptyDir": {}}), VolumeUse::Write);
            let volumes = pod["spec"]["volumes"].as_array().unwrap();
            let names: Vec<_> =
                volumes.iter().map(|v| v["name"].as_str().unwrap().to_owned()).collect();
            (names.join(" "), pod["spec"]["imagePullSecrets"].clone())
        };
        let with = make_image();
        assert_eq!(names(&with), ("models tmp pull".to_owned(), json!([{"name": "pull"}])));
        let without = SeederImage { pull_secret: None, ..with };
        assert_eq!(names(&without), ("models tmp".to_owned(), json!([])));
    }

    #[test]
    fn a_seeder_goes_to_the_node_of_the_pod_that_has_the_claim_else_where_its_selector_says() {
        let toleration = json!([{"key": "gpu", "operator": "Exists"}]);
        let consumer =
            json!({"containers": [], "nodeSelector": {"zone": "a"}, "tolerations": toleration});
        let place = |node| {
            let mut pod = json!({"spec": {}});
            set_placement(&mut pod, &make_volume(node, Some(consumer.clone())), &make_image());
            pod["spec"].take()
        };
        let bound = place(Some("node7"));
        let terms = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
        let field = bound.pointer(&format!("{terms}/0/matchFields/0")).unwrap();
        assert_eq!(field, &json!({"key": "metadata.name", "operator": "In", "values": ["node7"]}));
        assert_eq!(bound["nodeSelector"], json!({"disk": "ssd"}));
        let free = place(None);
        assert_eq!(free["affinity"], Value::Null);
        assert_eq!(free["nodeSelector"], json!({"zone": "a", "disk": "ssd"}));
        assert_eq!((&bound["tolerations"], &free["tolerations"]), (&toleration, &toleration));
    }
}
