//! Ephemeral containers: adding a container to a running pod, as `kubectl debug` does.

use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};
use kube::api::Api;

use crate::object::post_params;
use crate::{Cluster, Error, Result};

impl Cluster {
    /// Adds an ephemeral container to a running pod. Kubernetes cannot remove it again; it stays
    /// until the pod is deleted.
    pub async fn add_ephemeral_container(
        &self,
        namespace: &str,
        pod: &str,
        container: EphemeralContainer,
    ) -> Result<Pod> {
        let doing = || format!("adding a container to the pod {namespace}/{pod}");
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut found = api.get(pod).await.map_err(|error| Error::from_kube(doing(), error))?;
        let spec = found.spec.get_or_insert_default();
        spec.ephemeral_containers.get_or_insert_default().push(container);
        let put = api.replace_ephemeral_containers(pod, &post_params(), &found).await;
        put.map_err(|error| Error::from_kube(doing(), error))
    }
}
