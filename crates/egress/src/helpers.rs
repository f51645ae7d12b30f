//! What of the audit runs in the cluster, in a namespace of its own that goes with it: the sink,
//! and a watcher on each node. Pods of Gantry's own image with the least that they need.

use std::net::SocketAddr;
use std::time::Duration;

use cluster::objects::api::core::v1::{Namespace, Pod, Secret};
use cluster::objects::serde_json::{Value, from_value, json};
use cluster::{Cluster, Scope, Until, own};
use tokio::time::{Instant, sleep};

use crate::inside::Inside;
use crate::sink::PORT;
use crate::{Error, Result};

/// The namespace.
pub const NAMESPACE: &str = "gantry-audit";
/// The sink's pod.
pub(crate) const SINK: &str = "sink";
/// The part of Gantry that made all this.
const PART: &str = "audit";
/// How long an image may take to be pulled.
const START: Duration = Duration::from_secs(180);
/// How long the cluster may take to make a namespace's account.
const ACCOUNT: Duration = Duration::from_secs(15);
/// How long the namespace may take to go.
const GONE: Duration = Duration::from_secs(90);
/// Ends what an audit that died has left, some time after its end.
const GRACE: u64 = 900;
const PERIOD: Duration = Duration::from_millis(300);

/// How helpers are made.
#[derive(Debug, Clone)]
pub(crate) struct Helpers {
    /// The image.
    pub(crate) image: String,
    /// A pull secret to be copied: its namespace and name.
    pub(crate) pull_secret: Option<(String, String)>,
    /// How long they are needed.
    pub(crate) length: Duration,
}

impl Helpers {
    /// Makes the namespace, with the pull secret in it. `privileged` is the pod security that
    /// watchers need; the sink is content with `restricted`.
    pub(crate) async fn namespace(&self, cluster: &Cluster, security: &str) -> Result<()> {
        // What an audit has left whose record is gone; somebody else's is refused.
        remove(cluster).await?;
        let mut namespace: Namespace = object(json!({"metadata": {"name": NAMESPACE, "labels": {
            "pod-security.kubernetes.io/enforce": security}}}))?;
        own(&mut namespace.metadata, PART);
        cluster.apply(Scope::Cluster, &namespace).await?;
        if let Some((from, name)) = &self.pull_secret
            && let Some(secret) = cluster.get::<Secret>(Scope::Namespace(from), name).await?
        {
            let mut copy = Secret { data: secret.data, type_: secret.type_, ..Secret::default() };
            copy.metadata.name = Some(name.clone());
            own(&mut copy.metadata, PART);
            cluster.apply(Scope::Namespace(NAMESPACE), &copy).await?;
        }
        Ok(())
    }

    /// Starts the sink and says where it listens. `probe` are the name servers that it asks.
    pub(crate) async fn sink(&self, cluster: &Cluster, probe: &[SocketAddr]) -> Result<SocketAddr> {
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
        Box::pin(self.start(cluster, SINK, spec)).await?;
        let pod = cluster.wait_pod(NAMESPACE, SINK, Until::Running, START).await?;
        let address = pod.status.and_then(|status| status.pod_ip?.parse().ok());
        let address = address.ok_or_else(|| Error::Record {
            what: format!("Pod {NAMESPACE}/{SINK}"),
            reason: "it has no address".to_owned(),
        })?;
        Ok(SocketAddr::new(address, PORT))
    }

    /// Starts a watcher on a node; its pod's name.
    pub(crate) async fn watcher(
        &self,
        cluster: &Cluster,
        node: &str,
        inside: &Inside,
    ) -> Result<String> {
        // Names of nodes are DNS names; names of pods may be as long.
        let name = format!("watch-{node}");
        let mut args = vec!["audit".to_owned(), "watch-node".to_owned()];
        for network in inside.networks() {
            args.extend(["--inside".to_owned(), network.to_string()]);
        }
        let spec = json!({
            "nodeName": node,
            "hostNetwork": true,
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}},
            // NET_RAW for packets; root alone may read the table of connections.
            "containers": [{"name": "watch", "args": args, "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]}}}],
        });
        Box::pin(self.start(cluster, &name, spec)).await?;
        Ok(name)
    }

    async fn start(&self, cluster: &Cluster, name: &str, mut spec: Value) -> Result<()> {
        spec["automountServiceAccountToken"] = false.into();
        spec["enableServiceLinks"] = false.into();
        spec["restartPolicy"] = "Never".into();
        spec["terminationGracePeriodSeconds"] = 1.into();
        spec["activeDeadlineSeconds"] = (self.length.as_secs() + GRACE).into();
        spec["containers"][0]["image"] = self.image.as_str().into();
        spec["containers"][0]["imagePullPolicy"] = "IfNotPresent".into();
        spec["containers"][0]["resources"] =
            json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}});
        if let Some((_, secret)) = &self.pull_secret {
            spec["imagePullSecrets"] = json!([{"name": secret}]);
        }
        let mut pod: Pod = object(json!({"metadata": {"name": name}, "spec": spec}))?;
        own(&mut pod.metadata, PART);
        let deadline = Instant::now() + ACCOUNT;
        loop {
            match cluster.start_pod(NAMESPACE, &pod).await {
                // A new namespace has no account for its pods in its first moments.
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

/// Waits until a watcher runs.
pub(crate) async fn is_running(cluster: &Cluster, name: &str) -> Result<()> {
    cluster.wait_pod(NAMESPACE, name, Until::Running, START).await?;
    Ok(())
}

/// Takes all helpers away; `false` when there were none. Waits until they are gone.
pub(crate) async fn remove(cluster: &Cluster) -> Result<bool> {
    if !cluster.delete_own::<Namespace>(Scope::Cluster, NAMESPACE).await? {
        return Ok(false);
    }
    let deadline = Instant::now() + GONE;
    while cluster.get::<Namespace>(Scope::Cluster, NAMESPACE).await?.is_some() {
        if Instant::now() > deadline {
            return Err(cluster::Error::NotReady {
                what: format!("Namespace {NAMESPACE}"),
                why: format!("it was deleted and is still there after {} s", GONE.as_secs()),
                next: "it goes by itself when its nodes answer; look again later".to_owned(),
            }
            .into());
        }
        sleep(PERIOD).await;
    }
    Ok(true)
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    from_value(value).map_err(|cause| Error::Report { cause: cause.to_string() })
}
