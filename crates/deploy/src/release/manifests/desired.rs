//! Makes the objects that a release applies of its manifests: each with its identity in this cluster,
//! marked as the release's, in the order of application.

use cluster::{Cluster, ObjectId};
use serde_json::{Value, json};

use super::super::accounts::PullAccount;
use super::super::drift::encode_string_data;
use super::super::objects::{self, RenderedObject};
use super::marks::{is_shared, mark_object};
use super::order::is_definition;
use super::planned::PlannedManifests;
use crate::Result;

/// What only the API server sets. Manifests that were read from a cluster have it, and an apply of it
/// is refused.
const OF_SERVER: [&str; 7] = [
    "managedFields",
    "resourceVersion",
    "uid",
    "creationTimestamp",
    "generation",
    "selfLink",
    "deletionTimestamp",
];

/// Lists the objects of a release, as they are to be applied.
pub(super) async fn list_desired_objects(
    cluster: &Cluster,
    planned: &PlannedManifests,
) -> Result<Vec<RenderedObject>> {
    let mut all = objects::read_objects(planned.stream(), planned.namespace())?;
    for object in &mut all {
        object.id = identify_object(cluster, &object.value, planned.namespace()).await?;
        object.value = clean_object(&object.value);
        if !is_shared(&object.id) {
            mark_object(&mut object.value, planned.name(), planned.namespace());
        }
    }
    // A stable sort: the manifests have an order already.
    all.sort_by_key(|object| !is_definition(&object.id));
    Ok(all)
}

/// The identity of an object; one of a kind that the cluster does not have yet is taken for one in a
/// namespace.
pub(super) async fn identify_object(
    cluster: &Cluster,
    object: &Value,
    namespace: &str,
) -> Result<ObjectId> {
    match cluster.identify_manifest(object, namespace).await {
        Err(cluster::Error::NoKind { .. }) => Ok(ObjectId::from_manifest(object, namespace)?),
        id => Ok(id?),
    }
}

/// Adds the pull secret to service accounts of the release that need it. Their pods get it as they are
/// created, since accounts are applied before pods.
pub(super) fn add_pull_secret(
    objects: &mut [RenderedObject],
    accounts: &[&PullAccount],
    secret: &str,
) {
    for object in objects.iter_mut().filter(|object| object.id.kind == "ServiceAccount") {
        let is_it = |account: &&&PullAccount| {
            account.name == object.id.name
                && Some(&account.namespace) == object.id.namespace.as_ref()
        };
        if accounts.iter().any(|account| is_it(&account))
            && let Some(fields) = object.value.as_object_mut()
        {
            let secrets = fields.entry("imagePullSecrets").or_insert(Value::Null);
            if !secrets.is_array() {
                *secrets = json!([]);
            }
            if let Some(secrets) = secrets.as_array_mut()
                && !secrets.iter().any(|one| one["name"].as_str() == Some(secret))
            {
                secrets.push(json!({"name": secret}));
            }
        }
    }
}

fn clean_object(object: &Value) -> Value {
    let mut object = encode_string_data(object);
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in OF_SERVER {
            metadata.remove(key);
        }
    }
    object
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_object_that_was_read_from_a_cluster_can_be_applied() {
        let exported = json!({"kind": "Service", "metadata": {"name": "a", "uid": "1", "resourceVersion": "2",
            "creationTimestamp": null}, "spec": {}, "status": {"loadBalancer": {}}});
        let clean = json!({"kind": "Service", "metadata": {"name": "a"}, "spec": {}});
        assert_eq!(clean_object(&exported), clean);
    }

    #[test]
    fn an_account_of_the_release_gets_the_pull_secret_once() {
        let account =
            json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "web"}});
        let id = ObjectId::from_manifest(&account, "shop").unwrap();
        let mut objects = [RenderedObject { id, value: account }];
        let needed = PullAccount { namespace: "shop".to_owned(), name: "web".to_owned() };
        for _ in 0..2 {
            add_pull_secret(&mut objects, &[&needed], "site-pull");
            assert_eq!(objects[0].value["imagePullSecrets"], json!([{"name": "site-pull"}]));
        }
    }
}
