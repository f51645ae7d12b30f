//! The audit's helper pods: the DNS sink, and a watcher on each node. They run Gantry's own image with
//! the least rights that they need, in a namespace of their own that is deleted with them.

use std::net::SocketAddr;
use std::time::Duration;

use cluster::objects::api::core::v1::{Namespace, Pod};
use cluster::objects::serde_json::{Value, from_value, json};
use cluster::{AwaitedPodState, Cluster, ObjectScope, mark_as_own};
use tokio::time::{Instant, sleep};

use crate::helper_namespace::{NAMESPACE, PART};
use crate::perimeter::Perimeter;
use crate::pull_secret_loan::PullSecretLoan;
use crate::sink::PORT;
use crate::{Error, Result};

/// The name of the sink's pod.
pub(crate) const SINK: &str = "sink";
/// How long a helper may take to run, with the pull of its image.
const START: Duration = Duration::from_secs(180);
/// How long the cluster may take to make the service account of a new namespace.
const ACCOUNT: Duration = Duration::from_secs(15);
/// How long the namespace may take to be deleted.
const GONE: Duration = Duration::from_secs(90);
/// Seconds after the planned end of an audit when the kubelet ends its helpers, should the audit be dead.
const GRACE: u64 = 900;
/// How often a condition is checked that is waited for.
const PERIOD: Duration = Duration::from_millis(300);

/// What all helpers of an audit have in common.
#[derive(Debug, Clone)]
pub(crate) struct AuditHelpers {
    /// Gantry's own image.
    pub(crate) image: String,
    /// The pull secret for the image: its namespace and its name.
    pub(crate) pull_secret: Option<(String, String)>,
    /// How long the audit will take.
    pub(crate) length: Duration,
}

impl AuditHelpers {
    /// Makes the namespace. `security` is its Pod Security Standard:
    /// watchers need `privileged` (host network), the sink alone is content with `restricted`.
    pub(crate) async fn create_namespace(&self, cluster: &Cluster, security: &str) -> Result<()> {
        // One that an earlier audit left. A namespace of this name that is not Gantry's is an error.
        remove_helpers(cluster).await?;
        let mut namespace: Namespace =
            typed_object(json!({"metadata": {"name": NAMESPACE, "labels": {
            "pod-security.kubernetes.io/enforce": security}}}))?;
        mark_as_own(&mut namespace.metadata, PART);
        cluster.apply_object(ObjectScope::Cluster, &namespace).await?;
        Ok(())
    }

    /// Starts the sink. `probe` are the name servers that it tests.
    pub(crate) async fn start_sink(&self, cluster: &Cluster, probe: &[SocketAddr]) -> Result<()> {
        let listen = format!("0.0.0.0:{PORT}");
        let mut args = vec!["audit".to_owned(), "sink".to_owned(), "--listen".to_owned(), listen];
        for server in probe {
            args.extend(["--probe".to_owned(), server.to_string()]);
        }
        let security = json!({"runAsNonRoot": true, "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"}});
        let ports = json!([{"name": "dns", "containerPort": PORT, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": PORT, "protocol": "TCP"}]);
        let spec = json!({
            "securityContext": security,
            "containers": [{"name": "sink", "args": args, "ports": ports, "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}}}],
        });
        Box::pin(self.start_pod(cluster, SINK, spec)).await
    }

    /// Starts a watcher on a node and returns the name of its pod.
    pub(crate) async fn start_watcher(
        &self,
        cluster: &Cluster,
        node: &str,
        inside: &Perimeter,
    ) -> Result<String> {
        // A node's name is a valid pod name: both are DNS subdomains of at most 253 characters.
        let name = format!("watch-{node}");
        let mut args = vec!["audit".to_owned(), "watch-node".to_owned()];
        for network in inside.networks() {
            args.extend(["--inside".to_owned(), network.to_string()]);
        }
        let spec = json!({
            // Past the scheduler: also on nodes that are cordoned or full, which may have leaks, too.
            "nodeName": node,
            "hostNetwork": true,
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}},
            // NET_RAW for a packet socket; the connection table can be read by root alone.
            "containers": [{"name": "watch", "args": args, "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]}}}],
        });
        Box::pin(self.start_pod(cluster, &name, spec)).await?;
        Ok(name)
    }

    /// Waits until these helpers run. The pull secret is lent to their namespace if their image needs
    /// it, until all of them have it.
    pub(crate) async fn wait_until_running(&self, cluster: &Cluster, pods: &[&str]) -> Result<()> {
        if let Some((namespace, name)) = &self.pull_secret {
            let secret = PullSecretLoan { namespace, name, image: &self.image };
            secret.lend_until_pulled(cluster, pods, START).await?;
        }
        for pod in pods {
            cluster.wait_for_pod(NAMESPACE, pod, AwaitedPodState::Running, START).await?;
        }
        Ok(())
    }

    /// Starts a helper: what all of them have in common is added to its spec.
    async fn start_pod(&self, cluster: &Cluster, name: &str, mut spec: Value) -> Result<()> {
        spec["automountServiceAccountToken"] = false.into();
        spec["enableServiceLinks"] = false.into();
        spec["restartPolicy"] = "Never".into();
        spec["terminationGracePeriodSeconds"] = 1.into();
        // The kubelet ends the pod then, even if the audit was killed and nobody runs another.
        spec["activeDeadlineSeconds"] = (self.length.as_secs() + GRACE).into();
        spec["containers"][0]["image"] = self.image.as_str().into();
        spec["containers"][0]["imagePullPolicy"] = "IfNotPresent".into();
        // The limit bounds what a flood of different names could make a helper use.
        spec["containers"][0]["resources"] =
            json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}});
        // It is not in this namespace, unless the image needs it: see `pull_secret`.
        if let Some((_, secret)) = &self.pull_secret {
            spec["imagePullSecrets"] = json!([{"name": secret}]);
        }
        let mut pod: Pod = typed_object(json!({"metadata": {"name": name}, "spec": spec}))?;
        mark_as_own(&mut pod.metadata, PART);
        let deadline = Instant::now() + ACCOUNT;
        loop {
            match cluster.start_pod(NAMESPACE, &pod).await {
                // A new namespace has no service account in its first moments (a controller makes it), and
                // the API server refuses pods without one.
                Err(cluster::Error::Forbidden { reason, .. })
                    if reason.contains("serviceaccount") && Instant::now() < deadline =>
                {
                    sleep(PERIOD).await;
                }
                done => return Ok(done?),
            }
        }
    }
}

/// The address that the sink listens on, once it runs.
pub(crate) async fn read_sink_address(cluster: &Cluster) -> Result<SocketAddr> {
    let pod = cluster.get_object::<Pod>(ObjectScope::Namespace(NAMESPACE), SINK).await?;
    let status = pod.and_then(|pod| pod.status);
    let address = status.and_then(|status| status.pod_ip?.parse().ok());
    let address = address.ok_or_else(|| Error::Record {
        what: format!("Pod {NAMESPACE}/{SINK}"),
        source: "it runs and has no IP address".into(),
    })?;
    Ok(SocketAddr::new(address, PORT))
}

/// Removes the namespace with all helpers and waits until it is gone; `false` when there was none.
pub(crate) async fn remove_helpers(cluster: &Cluster) -> Result<bool> {
    if !cluster.delete_own_object::<Namespace>(ObjectScope::Cluster, NAMESPACE).await? {
        return Ok(false);
    }
    let deadline = Instant::now() + GONE;
    while cluster.get_object::<Namespace>(ObjectScope::Cluster, NAMESPACE).await?.is_some() {
        if Instant::now() > deadline {
            return Err(cluster::Error::NotReady {
                what: format!("Namespace {NAMESPACE}"),
                why: format!("it was deleted, but is still there after {} s", GONE.as_secs()),
                next: "it disappears when the nodes of its pods are Ready again; check later with: kubectl get ns"
                    .to_owned(),
            }
            .into());
        }
        sleep(PERIOD).await;
    }
    Ok(true)
}

/// A typed object from JSON; an error would be a bug.
fn typed_object<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    from_value(value).map_err(|error| Error::Report { source: error.into() })
}
