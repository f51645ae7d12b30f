//! Adds the pull secret to service accounts, for pods whose chart has no value for it. Accounts
//! that belong to the chart are created before helm runs, with the labels by which helm recognises
//! its own objects: the pods get the secret when they are created, and helm adopts the accounts.

use std::collections::{BTreeMap, BTreeSet};

use cluster::objects::api::core::v1::{LocalObjectReference, ServiceAccount};
use cluster::objects::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use cluster::{Cluster, ObjectScope};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use types::pod_kinds::list_images;

use super::namespace::{SupportObject, SupportObjectStatus};
use super::objects::{RenderedObject, find_pod_specs};
use crate::Result;

/// The annotation that records which pull secret Gantry added to an account, so that it can be
/// removed.
pub(super) const GIVEN: &str = "gantry.dev/pull-secret";
/// The account of pods that name none (kubernetes.io, "Service Accounts").
pub(crate) const DEFAULT_ACCOUNT: &str = "default";

/// A service account that needs the pull secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PullAccount {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Finds the accounts of the pods that pull from `registry` and do not name `secret` themselves.
pub(crate) fn find_accounts_without_secret(
    objects: &[RenderedObject],
    registry: &str,
    secret: &str,
) -> BTreeSet<PullAccount> {
    let mut accounts = BTreeSet::new();
    for object in objects {
        let Some(namespace) = &object.id.namespace else { continue };
        for spec in find_pod_specs(&object.value) {
            if is_pulling_from(spec, registry) && !has_pull_secret(spec, secret) {
                // `serviceAccount` is the deprecated alias, which old charts still set.
                let named = spec.get("serviceAccountName").or_else(|| spec.get("serviceAccount"));
                let name = named.and_then(Value::as_str).filter(|name| !name.is_empty());
                accounts.insert(PullAccount {
                    namespace: namespace.clone(),
                    name: name.unwrap_or(DEFAULT_ACCOUNT).to_owned(),
                });
            }
        }
    }
    accounts
}

fn is_pulling_from(spec: &Value, registry: &str) -> bool {
    list_images(spec)
        .map(|(_, image)| image)
        // With the slash: `site:5000` must not match `site:50001`.
        .any(|image| image.strip_prefix(registry).is_some_and(|rest| rest.starts_with('/')))
}

fn has_pull_secret(spec: &Value, secret: &str) -> bool {
    let given = spec.get("imagePullSecrets").and_then(Value::as_array);
    given.is_some_and(|all| {
        all.iter().any(|one| one.get("name").and_then(Value::as_str) == Some(secret))
    })
}

/// Adds the secret to accounts. `release` is the name and the namespace of the release, which owns
/// the accounts that are among its `objects`.
pub(super) async fn give_pull_secret(
    cluster: &Cluster,
    accounts: &BTreeSet<PullAccount>,
    secret: &str,
    objects: &[RenderedObject],
    release: (&str, &str),
) -> Result<Vec<SupportObject>> {
    let mut beside = Vec::new();
    for account in accounts {
        let scope = ObjectScope::Namespace(&account.namespace);
        let found = cluster.get_object::<ServiceAccount>(scope, &account.name).await?;
        let outcome = match found {
            Some(found) if is_giving_secret(&found, secret) => SupportObjectStatus::Same,
            Some(mut found) => {
                // A replace, not an apply: `imagePullSecrets` may have entries of others, and the
                // resource version in `found` refuses the write if it changed meanwhile.
                add_secret(&mut found, secret);
                cluster.replace_object(scope, &found).await?;
                SupportObjectStatus::Changed
            }
            None => {
                let is_of_chart = objects.iter().any(|object| {
                    object.id.kind == "ServiceAccount"
                        && object.id.name == account.name
                        && object.id.namespace.as_deref() == Some(&account.namespace)
                });
                let mut made = ServiceAccount {
                    metadata: ObjectMeta {
                        name: Some(account.name.clone()),
                        ..ObjectMeta::default()
                    },
                    ..ServiceAccount::default()
                };
                if is_of_chart {
                    mark_as_helm_owned(&mut made.metadata, release);
                } else if account.name != DEFAULT_ACCOUNT {
                    // Not of the chart: somebody else has to create it. Until then its pods report
                    // that.
                    continue;
                }
                add_secret(&mut made, secret);
                cluster.create_object(scope, &made).await?;
                SupportObjectStatus::Created
            }
        };
        let place = format!("{}/{}", account.namespace, account.name);
        beside.push(SupportObject::new("ServiceAccount", &place, outcome));
    }
    Ok(beside)
}

/// Adds the secret to accounts of a namespace that exist. Nothing is created: Kubernetes makes `default` a
/// moment after its namespace, which is waited for, and the others are somebody's own.
pub(super) async fn extend_accounts(
    cluster: &Cluster,
    namespace: &str,
    names: &[String],
    secret: &str,
) -> Result<Vec<SupportObject>> {
    /// How long Kubernetes may take to make the account `default`.
    const APPEARS: Duration = Duration::from_secs(10);
    const PERIOD: Duration = Duration::from_millis(200);
    let scope = ObjectScope::Namespace(namespace);
    let started = Instant::now();
    let mut beside = Vec::new();
    for name in names {
        let outcome = loop {
            let found = cluster.get_object::<ServiceAccount>(scope, name).await?;
            let Some(mut found) = found else {
                if name != DEFAULT_ACCOUNT || started.elapsed() > APPEARS {
                    break None;
                }
                sleep(PERIOD).await;
                continue;
            };
            if is_giving_secret(&found, secret) {
                break Some(SupportObjectStatus::Same);
            }
            add_secret(&mut found, secret);
            match cluster.replace_object(scope, &found).await {
                Ok(_) => break Some(SupportObjectStatus::Changed),
                // Somebody else changed the account between our look and our write.
                Err(cluster::Error::Conflict { .. }) if started.elapsed() < APPEARS => {
                    sleep(PERIOD).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let place = format!("{namespace}/{name}");
        beside.extend(outcome.map(|one| SupportObject::new("ServiceAccount", &place, one)));
    }
    Ok(beside)
}

/// Removes the secret from all accounts of a namespace that Gantry added it to.
pub(super) async fn take_back_pull_secret(
    cluster: &Cluster,
    namespace: &str,
) -> Result<Vec<String>> {
    let scope = ObjectScope::Namespace(namespace);
    let mut taken = Vec::new();
    for mut account in cluster.list_objects::<ServiceAccount>(scope, "").await? {
        let given = account.metadata.annotations.as_mut().and_then(|all| all.remove(GIVEN));
        let Some(secret) = given else { continue };
        if let Some(secrets) = &mut account.image_pull_secrets {
            secrets.retain(|one| one.name != secret);
        }
        let name = account.metadata.name.clone().unwrap_or_default();
        cluster.replace_object(scope, &account).await?;
        taken.push(format!("ServiceAccount {namespace}/{name}"));
    }
    Ok(taken)
}

/// Whether an account gives this secret to its pods.
pub(super) fn is_giving_secret(account: &ServiceAccount, secret: &str) -> bool {
    account.image_pull_secrets.iter().flatten().any(|one| one.name == secret)
}

fn add_secret(account: &mut ServiceAccount, secret: &str) {
    let secrets = account.image_pull_secrets.get_or_insert_with(Vec::new);
    secrets.push(LocalObjectReference { name: secret.to_owned() });
    let annotations = account.metadata.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(GIVEN.to_owned(), secret.to_owned());
}

/// Sets the label and annotations by which helm recognises its own objects (helm,
/// `pkg/action/validate.go`).
fn mark_as_helm_owned(metadata: &mut ObjectMeta, (release, namespace): (&str, &str)) {
    let labels = metadata.labels.get_or_insert_with(BTreeMap::new);
    labels.insert("app.kubernetes.io/managed-by".to_owned(), "Helm".to_owned());
    let annotations = metadata.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert("meta.helm.sh/release-name".to_owned(), release.to_owned());
    annotations.insert("meta.helm.sh/release-namespace".to_owned(), namespace.to_owned());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::objects::read_objects;
    use super::*;

    #[test]
    fn pods_that_pull_from_the_site_without_the_secret_name_their_accounts() {
        let pod = |name: &str, image: &str, more: &str| {
            format!(
                "kind: Pod\napiVersion: v1\nmetadata: {{name: {name}}}\nspec: {{containers: [{{image: '{image}'}}]{more}}}\n---\n"
            )
        };
        let stream = pod("a", "site:5000/x:1", "")
            + &pod("b", "site:5000/x:1", ", serviceAccountName: own")
            + &pod(
                "c",
                "site:5000/x:1",
                ", serviceAccountName: has, imagePullSecrets: [{name: s}]",
            )
            + &pod("d", "site:50001/x:1", ", serviceAccountName: foreign");
        let objects = read_objects(&stream, "n").unwrap();

        let accounts = find_accounts_without_secret(&objects, "site:5000", "s");

        let names: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
        assert_eq!(names, ["default", "own"]);
    }
}
