//! Objects that Kubernetes deletes by itself after a while, even if Gantry is killed before it can:
//! Secrets cannot expire, but their owner can. A Job without pods (`parallelism: 0`) fails at its
//! `activeDeadlineSeconds`, is deleted at once for its `ttlSecondsAfterFinished: 0`, and the garbage
//! collector deletes what it owns (kubernetes.io, "Automatic Cleanup for Finished Jobs", "Garbage
//! Collection").

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::serde_json::{from_value, json};

use crate::{Cluster, Error, ObjectScope, Permission, Result, mark_as_own};

impl Cluster {
    /// The rights that [`Self::create_expiring_owner`] needs, and deleting what it makes.
    pub fn expiring_owner_permissions(namespace: &str) -> Vec<Permission> {
        let right = |verb| Permission::new(verb, "batch", "jobs").in_namespace(namespace);
        ["get", "create", "delete"].map(right).into()
    }

    /// Makes an owner that Kubernetes deletes after `lifetime`, with all objects that name it as their
    /// owner. One of the same name is replaced. `part` is the component of Gantry, for its label.
    pub async fn create_expiring_owner(
        &self,
        namespace: &str,
        name: &str,
        part: &str,
        lifetime: Duration,
    ) -> Result<OwnerReference> {
        let doing = || format!("creating Job {namespace}/{name}");
        let job = json!({
            "metadata": {"name": name},
            "spec": {
                "parallelism": 0,
                "completions": 1,
                "activeDeadlineSeconds": lifetime.as_secs().max(1),
                "ttlSecondsAfterFinished": 0,
                // Required, and never used.
                "template": {"spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "none", "image": "none"}],
                }},
            },
        });
        let mut job: Job =
            from_value(job).map_err(|source| Error::Encoding { doing: doing(), source })?;
        mark_as_own(&mut job.metadata, part);
        let scope = ObjectScope::Namespace(namespace);
        self.delete_own_object::<Job>(scope, name).await?;
        let made = self.create_object(scope, &job).await?;
        Ok(OwnerReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            name: name.to_owned(),
            uid: made.metadata.uid.unwrap_or_default(),
            ..OwnerReference::default()
        })
    }
}
