//! The CustomResourceDefinitions in a chart's `crds/` folder. helm installs them before it renders the
//! chart for good, so a render without them is not what will be installed: templates may ask for their
//! API versions, and helm cannot map objects of their kinds. Gantry creates them first, as helm would,
//! and then proves the render that has them.

use std::time::Duration;

use chart::manifest::{ManifestDocument, Manifests};
use cluster::{Cluster, ObjectId};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::PlannedRelease;
use crate::Result;

/// How long the API server may take to serve a new kind; it takes a second or two.
const SERVED: Duration = Duration::from_secs(60);
/// The interval at which it is asked.
const PERIOD: Duration = Duration::from_millis(250);

/// Creates the definitions in the chart's `crds/` folder that the cluster lacks, and waits until their
/// kinds are served. Returns the created ones. Existing ones stay as they are, as with helm.
pub(super) async fn create_missing_definitions(
    cluster: &Cluster,
    planned: &PlannedRelease,
) -> Result<Vec<ObjectId>> {
    let mut created = Vec::new();
    for manifest in list_bundled_definitions(&planned.rendered) {
        let id = ObjectId::from_manifest(&manifest, planned.namespace())?;
        if cluster.read_manifest(&id).await?.is_none() {
            cluster.create_manifest(&manifest).await?;
            created.push(id);
        }
    }
    wait_until_established(cluster, &created).await?;
    Ok(created)
}

/// Waits until the API server serves the kinds of these definitions; other objects among them are left
/// out. If it takes too long, whoever uses such a kind is told that it is missing.
pub(super) async fn wait_until_established(cluster: &Cluster, ids: &[ObjectId]) -> Result<()> {
    let deadline = Instant::now() + SERVED;
    for id in ids.iter().filter(|id| id.kind == "CustomResourceDefinition") {
        while !cluster.read_manifest(id).await?.is_some_and(|found| is_established(&found))
            && Instant::now() < deadline
        {
            sleep(PERIOD).await;
        }
    }
    Ok(())
}

/// The definitions that come from `crds/`, of the chart or of its dependencies. helm does not render
/// them, so these texts are exactly what it installs.
fn list_bundled_definitions(rendered: &str) -> Vec<Value> {
    let is_bundled = |document: &ManifestDocument| {
        document.kind() == "CustomResourceDefinition" && document.is_definition_file()
    };
    let documents = Manifests::read(rendered).documents.into_iter();
    documents.filter(is_bundled).map(|document| document.value).collect()
}

/// Whether the API server serves the kind (apiextensions, the condition `Established`).
fn is_established(definition: &Value) -> bool {
    let conditions = definition.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| {
        one["type"].as_str() == Some("Established") && one["status"].as_str() == Some("True")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_definitions_of_the_crds_folder_are_created_before_the_proof() {
        let definition = |source: &str, name: &str| {
            format!(
                "---\n# Source: {source}\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {name}}}\n"
            )
        };
        let rendered = definition("shop/crds/a.yaml", "a")
            + &definition("shop/charts/sub/crds/b.yaml", "b")
            + &definition("shop/templates/crds.yaml", "c")
            + "---\n# Source: shop/crds/notes.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: d}\n";

        let found = list_bundled_definitions(&rendered);

        let names: Vec<_> = found.iter().map(|one| one["metadata"]["name"].as_str()).collect();
        assert_eq!(names, [Some("a"), Some("b")]);
    }

    #[test]
    fn a_definition_is_served_when_the_api_server_says_so() {
        let with = |status: &str| {
            json!({"status": {"conditions": [{"type": "NamesAccepted", "status": "True"},
                {"type": "Established", "status": status}]}})
        };
        assert!(is_established(&with("True")));
        assert!(!is_established(&with("False")));
        assert!(!is_established(&json!({})));
    }
}
