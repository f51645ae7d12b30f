//! Port forwarding: a local port that leads to a port of a pod, a Service or a workload, as
//! `kubectl port-forward` does, for as long as the value exists.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::Api;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::{Cluster, Error, ObjectScope, Result, explain_pod, is_being_deleted};

/// The object whose port is forwarded, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardTarget {
    /// A pod.
    Pod(String),
    /// A Service, by its own port, which may lead to another port of a pod.
    Service(String),
    /// A Deployment: one of its ready pods.
    Deployment(String),
    /// A StatefulSet: one of its ready pods.
    StatefulSet(String),
}

impl fmt::Display for ForwardTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => write!(f, "Pod {name}"),
            Self::Service(name) => write!(f, "Service {name}"),
            Self::Deployment(name) => write!(f, "Deployment {name}"),
            Self::StatefulSet(name) => write!(f, "StatefulSet {name}"),
        }
    }
}

/// A local port that leads to a pod. Forwarding ends when this is dropped.
#[derive(Debug)]
pub struct PortForward {
    /// The local address, on 127.0.0.1.
    pub address: SocketAddr,
    /// The name of the pod that it leads to.
    pub pod: String,
    task: JoinHandle<()>,
}

impl Drop for PortForward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Cluster {
    /// Forwards a port to this machine. The pod is chosen at once, a ready one, and stays the same.
    pub async fn forward_port(
        &self,
        namespace: &str,
        target: &ForwardTarget,
        port: u16,
    ) -> Result<PortForward> {
        let (pod, port) = self.find_pod_and_port(namespace, target, port).await?;
        let what = format!("port {port} of Pod {namespace}/{pod}");
        let local = |source| Error::Stream { doing: format!("forwarding {what}"), source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(local)?;
        let address = listener.local_addr().map_err(local)?;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let name = pod.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (api, name) = (api.clone(), name.clone());
                connections.spawn(async move {
                    if let Err(error) = relay_connection(&api, &name, port, connection).await {
                        let cause = types::error_chain(error.as_ref());
                        tracing::debug!(pod = name, port, cause, "a forwarded connection ended");
                    }
                });
                // Forget the connections that have ended; the set would grow without end.
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(PortForward { address, pod, task })
    }

    /// A ready pod behind a target, and the pod's port.
    async fn find_pod_and_port(
        &self,
        namespace: &str,
        target: &ForwardTarget,
        port: u16,
    ) -> Result<(String, u16)> {
        let scope = ObjectScope::Namespace(namespace);
        let missing = || Error::Missing {
            what: format!("{target} in {namespace}"),
            next: "deploy it, or name the namespace that it is in".to_owned(),
        };
        let selector = match target {
            ForwardTarget::Pod(name) => return Ok((name.clone(), port)),
            ForwardTarget::Service(name) => {
                let service = self.get_object::<Service>(scope, name).await?.ok_or_else(missing)?;
                return self.find_service_pod_and_port(namespace, target, &service, port).await;
            }
            ForwardTarget::Deployment(name) => {
                let found =
                    self.get_object::<Deployment>(scope, name).await?.ok_or_else(missing)?;
                found.spec.map(|spec| spec.selector)
            }
            ForwardTarget::StatefulSet(name) => {
                let found =
                    self.get_object::<StatefulSet>(scope, name).await?.ok_or_else(missing)?;
                found.spec.map(|spec| spec.selector)
            }
        };
        let selector = selector.as_ref().map(format_selector).unwrap_or_default();
        let pod = self.find_ready_pod(namespace, target, &selector).await?;
        Ok((pod.metadata.name.unwrap_or_default(), port))
    }

    /// A ready pod behind a Service, and the pod's port for the Service's port.
    async fn find_service_pod_and_port(
        &self,
        namespace: &str,
        target: &ForwardTarget,
        service: &Service,
        port: u16,
    ) -> Result<(String, u16)> {
        let spec = service.spec.as_ref();
        let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        let Some(found) = ports.iter().find(|one| one.port == i32::from(port)) else {
            let known: Vec<String> = ports.iter().map(|one| one.port.to_string()).collect();
            return Err(Error::Missing {
                what: format!("port {port} of {target} in {namespace}"),
                next: format!("it has the ports {}", known.join(", ")),
            });
        };
        let selector = spec.and_then(|spec| spec.selector.clone()).unwrap_or_default();
        let selector = LabelSelector { match_labels: Some(selector), ..LabelSelector::default() };
        let pod = self.find_ready_pod(namespace, target, &format_selector(&selector)).await?;
        // `targetPort` is a number, the name of a container port, or by default the Service's port.
        let port = match &found.target_port {
            Some(IntOrString::Int(number)) if *number > 0 => u16::try_from(*number).unwrap_or(port),
            Some(IntOrString::String(name)) => {
                find_named_port(&pod, name).ok_or_else(|| Error::Missing {
                    what: format!("port {name:?} of the pods of {target} in {namespace}"),
                    next: "the Service's targetPort names a port that its pods do not have; correct one of them".to_owned(),
                })?
            }
            _ => port,
        };
        Ok((pod.metadata.name.unwrap_or_default(), port))
    }

    /// A ready pod of the selector that is not being deleted.
    async fn find_ready_pod(
        &self,
        namespace: &str,
        target: &ForwardTarget,
        selector: &str,
    ) -> Result<Pod> {
        // An empty selector would list every pod of the namespace.
        let pods = if selector.is_empty() {
            Vec::new()
        } else {
            self.list_objects::<Pod>(ObjectScope::Namespace(namespace), selector).await?
        };
        let is_ready = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            phase == Some("Running") && explain_pod(pod).is_none() && !is_being_deleted(pod)
        };
        let reason = pods.iter().find_map(explain_pod);
        pods.into_iter().find(is_ready).ok_or_else(|| {
            let (why, next) = match reason {
                Some(reason) => (reason.why, reason.next),
                None => (
                    "it has no pods".to_owned(),
                    "check its selector, and whether it is scaled to zero".to_owned(),
                ),
            };
            Error::NotReady { what: format!("{target} in {namespace}"), why, next }
        })
    }
}

/// Copies one connection to the pod and back until either side closes it.
async fn relay_connection(
    api: &Api<Pod>,
    pod: &str,
    port: u16,
    mut connection: TcpStream,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut forwarder = api.portforward(pod, &[port]).await?;
    let mut stream = forwarder.take_stream(port).ok_or("the pod gave no stream")?;
    tokio::io::copy_bidirectional(&mut connection, &mut stream).await?;
    drop(stream);
    Ok(forwarder.join().await?)
}

/// A label selector in the form that the API takes in a query: `app=web,tier in (a,b)`.
fn format_selector(selector: &LabelSelector) -> String {
    let mut terms: Vec<String> = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    for one in selector.match_expressions.iter().flatten() {
        let values = one.values.clone().unwrap_or_default().join(",");
        terms.push(match one.operator.as_str() {
            "In" => format!("{} in ({values})", one.key),
            "NotIn" => format!("{} notin ({values})", one.key),
            "DoesNotExist" => format!("!{}", one.key),
            _ => one.key.clone(),
        });
    }
    terms.join(",")
}

/// The number of a container port by its name.
fn find_named_port(pod: &Pod, name: &str) -> Option<u16> {
    let spec = pod.spec.as_ref()?;
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let found = ports.find(|port| port.name.as_deref() == Some(name))?;
    u16::try_from(found.container_port).ok()
}
