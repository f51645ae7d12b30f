//! Lends the pull secret to the namespace of the audit's helpers. That namespace is privileged (watchers
//! are in their nodes' networks), so whoever may create pods in it could read what is there. So the
//! secret is copied only when a node cannot pull the image without it, with the login for that one
//! registry, and only until every node has the image. Should the audit be killed meanwhile, Kubernetes
//! deletes the copy.

use std::time::Duration;

use cluster::objects::api::batch::v1::Job;
use cluster::objects::api::core::v1::{Pod, Secret};
use cluster::objects::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use cluster::{Cluster, NotReadyCause, ObjectScope, Permission, explain_pod, mark_as_own};
use deploy::release::PullSecret;
use tokio::time::{Instant, sleep};
use types::Reference;

use crate::helper_namespace::{NAMESPACE, PART};
use crate::{Error, Result};

/// The Job that owns the copy.
const OWNER: &str = "pull-secret";
/// How long the copy may be there, should the audit be killed: the pulls of the slowest nodes.
const LIFETIME: Duration = Duration::from_secs(240);
/// How often the pods are looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// A pull secret in another namespace.
pub(crate) struct PullSecretLoan<'a> {
    /// Its namespace.
    pub(crate) namespace: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
    /// The image that needs it.
    pub(crate) image: &'a str,
}

impl PullSecretLoan<'_> {
    /// The rights that lending needs.
    pub(crate) fn required_rights(namespace: &str) -> Vec<Permission> {
        let own = |verb| Permission::new(verb, "", "secrets").in_namespace(NAMESPACE);
        let mut rights = vec![Permission::new("get", "", "secrets").in_namespace(namespace)];
        rights.extend(["get", "create", "delete"].map(own));
        rights.extend(Cluster::expiring_owner_permissions(NAMESPACE));
        rights
    }

    /// Waits until these pods of the helpers have their image, for at most `most`; a later wait says
    /// what is wrong with one that has not. Lends the secret meanwhile if one of them cannot pull.
    pub(crate) async fn lend_until_pulled(
        &self,
        cluster: &Cluster,
        pods: &[&str],
        most: Duration,
    ) -> Result<()> {
        let deadline = Instant::now() + most;
        let mut is_lent = false;
        loop {
            let found: Vec<Pod> =
                cluster.list_objects(ObjectScope::Namespace(NAMESPACE), "").await?;
            let is_awaited =
                |pod: &&Pod| pod.metadata.name.as_deref().is_some_and(|name| pods.contains(&name));
            let awaited: Vec<&Pod> = found.iter().filter(is_awaited).collect();
            let has_all = awaited.len() == pods.len() && awaited.iter().all(|pod| has_image(pod));
            if has_all || Instant::now() > deadline {
                break;
            }
            let is_refused = |pod: &&Pod| {
                explain_pod(pod).is_some_and(|it| matches!(it.cause, NotReadyCause::Pull(_)))
            };
            // The kubelet tries again after 10 s, and reads the secret anew.
            if !is_lent && awaited.iter().any(is_refused) {
                self.create_copy(cluster).await?;
                is_lent = true;
            }
            sleep(PERIOD).await;
        }
        if is_lent {
            let scope = ObjectScope::Namespace(NAMESPACE);
            cluster.delete_own_object::<Secret>(scope, self.name).await?;
            cluster.delete_own_object::<Job>(scope, OWNER).await?;
        }
        Ok(())
    }

    /// Copies the login for the image's registry. Without one there is nothing to lend.
    async fn create_copy(&self, cluster: &Cluster) -> Result<()> {
        let scope = ObjectScope::Namespace(self.namespace);
        let secret = cluster.get_object::<Secret>(scope, self.name).await?;
        let image: Reference =
            self.image.parse().map_err(|error: types::Error| self.wrong_secret(error))?;
        let chosen = secret.map(|secret| PullSecret::select_credential(&secret, image.registry()));
        let chosen = chosen.transpose().map_err(|error| self.wrong_secret(error))?;
        let Some(secret) = chosen.flatten() else { return Ok(()) };
        let owner = cluster.create_expiring_owner(NAMESPACE, OWNER, PART, LIFETIME).await?;
        let mut metadata =
            ObjectMeta { owner_references: Some(vec![owner]), ..ObjectMeta::default() };
        mark_as_own(&mut metadata, PART);
        if let Some(copy) = secret.to_secret(metadata) {
            cluster.create_object(ObjectScope::Namespace(NAMESPACE), &copy).await?;
        }
        Ok(())
    }

    fn wrong_secret(&self, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::PullSecret {
            secret: format!("{}/{}", self.namespace, self.name),
            source: Box::new(error),
        }
    }
}

/// Whether the kubelet has the pod's image: it says which one the container has.
fn has_image(pod: &Pod) -> bool {
    let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    status.and_then(|all| all.first()).is_some_and(|status| !status.image_id.is_empty())
}
