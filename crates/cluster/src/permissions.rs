//! The user's permissions, checked before anything is written (`SelfSubjectAccessReview` of
//! `authorization.k8s.io/v1`).

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::api::{Api, PostParams};

use crate::{Cluster, Error, Permission, Result};

/// How many reviews are sent at once.
const AT_ONCE: usize = 8;

impl Cluster {
    /// The permissions that the user lacks.
    pub async fn find_missing_permissions(&self, rights: &[Permission]) -> Result<Vec<Permission>> {
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let answers = futures::stream::iter(rights.iter().cloned().map(|right| {
            let api = api.clone();
            async move {
                let answer = api.create(&PostParams::default(), &right.to_access_review()).await;
                let answer =
                    answer.map_err(|error| Error::from_kube("checking permissions", error))?;
                // No status means no decision, which must not count as permission.
                let is_allowed = answer.status.is_some_and(|status| status.allowed);
                Ok::<_, Error>((!is_allowed).then_some(right))
            }
        }));
        let answers: Vec<Option<Permission>> = answers.buffered(AT_ONCE).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Fails with [`Error::MissingRights`] unless the user has all these permissions.
    pub async fn require_permissions(&self, doing: &str, rights: &[Permission]) -> Result<()> {
        let missing = self.find_missing_permissions(rights).await?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::MissingRights { doing: doing.to_owned(), missing })
    }
}
