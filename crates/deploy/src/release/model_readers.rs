//! Restarts what reads models that changed, where the site asks for that (`restart: true` of a model
//! target): one workload after the other, each ready before the next, so that not all servers of a model
//! are down at once. Which models the pods of a workload read is noted in an annotation of it; the first
//! deploy only notes it.

use std::collections::BTreeSet;

use cluster::{ApplyMode, ObjectId};
use serde_json::{Value, json};
use types::pod_kinds::PodKind;

use super::watched_models::WatchedModels;
use super::workloads::{AwaitedObjects, NamespacePods};
use super::{Deployer, PlannedRelease, ProgressWatcher, wait};
use crate::Result;

/// The annotation of a workload, and of its pod template once it was restarted, that lists the models.
const MODELS: &str = "gantry.dev/models";

/// A workload that reads models.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ModelReader {
    id: ObjectId,
    /// What it reads now, as the annotation has it.
    models: String,
    /// What its annotation says; `None` if it has none.
    noted: Option<String>,
    /// What the annotation of its pod template says, since a restart.
    restarted: Option<String>,
    /// The targets that it reads, for messages.
    targets: Vec<String>,
}

impl ModelReader {
    fn is_changed(&self) -> bool {
        self.noted.as_ref().is_some_and(|noted| *noted != self.models)
    }

    /// The manifest that notes the models; with another text in the pod template its pods restart.
    fn build_manifest(&self, restarted: Option<&str>) -> Value {
        let ObjectId { api_version, kind, namespace, name } = &self.id;
        let mut manifest = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace, "annotations": {MODELS: self.models}},
        });
        if let Some(restarted) = restarted {
            manifest["spec"] =
                json!({"template": {"metadata": {"annotations": {MODELS: restarted}}}});
        }
        manifest
    }
}

/// The pods of workloads before helm runs, by the uid of each pod.
pub(super) type EarlierPods = BTreeSet<String>;

impl Deployer<'_> {
    /// The pods in a release's namespace, if anything may have to be restarted.
    pub(super) async fn list_earlier_pods(&self, planned: &PlannedRelease) -> Result<EarlierPods> {
        if self.models.is_empty() {
            return Ok(EarlierPods::new());
        }
        let pods = NamespacePods::list(self.cluster, planned.namespace()).await?;
        Ok(pods.pods.into_iter().filter_map(|pod| pod.metadata.uid).collect())
    }

    /// The workloads that a deploy would restart, in words.
    pub(super) async fn describe_restarts(
        &self,
        workloads: &AwaitedObjects,
    ) -> Result<Vec<String>> {
        let readers = self.find_model_readers(workloads).await?;
        let changed = readers.iter().filter(|reader| reader.is_changed());
        let text = |reader: &ModelReader| {
            format!(
                "{} is restarted: the models at {} changed",
                reader.id,
                reader.targets.join(", ")
            )
        };
        Ok(changed.map(text).collect())
    }

    /// Restarts the workloads of a release whose models changed, one after the other, each ready before
    /// the next. One whose pods are all new since `earlier` has read the new models already. Returns the
    /// restarted ones.
    pub(super) async fn restart_model_readers(
        &self,
        planned: &PlannedRelease,
        workloads: &AwaitedObjects,
        earlier: &EarlierPods,
        watch: &dyn ProgressWatcher,
    ) -> Result<Vec<String>> {
        let (name, namespace) = (planned.name(), planned.namespace());
        let mut all = Vec::new();
        for reader in self.find_model_readers(workloads).await? {
            if reader.noted.as_ref() == Some(&reader.models) {
                continue;
            }
            let is_due = reader.is_changed() && self.has_earlier_pods(&reader.id, earlier).await?;
            let restarted = match is_due {
                true => Some(reader.models.as_str()),
                // Applied without it, it would be removed, and that restarts the pods.
                false => reader.restarted.as_deref(),
            };
            let manifest = reader.build_manifest(restarted);
            self.cluster.apply_manifest(&manifest, namespace, ApplyMode::Apply).await?;
            if is_due {
                let targets = reader.targets.join(", ");
                watch.note(&format!(
                    "{name}: {} restarts: the models at {targets} changed",
                    reader.id
                ));
                let own = AwaitedObjects { ids: BTreeSet::from([reader.id.clone()]) };
                let timeout = self.options.timeout;
                wait::wait_until_ready(self.cluster, &own, (name, namespace), timeout, watch)
                    .await?;
                all.push(reader.id.to_string());
            }
        }
        Ok(all)
    }

    /// Whether a workload has pods that ran before.
    async fn has_earlier_pods(&self, id: &ObjectId, earlier: &EarlierPods) -> Result<bool> {
        let namespace = id.namespace.as_deref().unwrap_or_default();
        let pods = NamespacePods::list(self.cluster, namespace).await?;
        let mut own = pods.pods_of(id);
        Ok(own.any(|pod| pod.metadata.uid.as_ref().is_some_and(|uid| earlier.contains(uid))))
    }

    /// The workloads that read models of targets that ask for a restart, as the cluster has them.
    async fn find_model_readers(&self, workloads: &AwaitedObjects) -> Result<Vec<ModelReader>> {
        let mut readers = Vec::new();
        if self.models.is_empty() {
            return Ok(readers);
        }
        // What controllers roll out; a pod or a job that is done is not started again.
        let is_rolled =
            |id: &&ObjectId| matches!(id.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet");
        for id in workloads.ids.iter().filter(is_rolled) {
            if let Some(object) = self.cluster.read_manifest(id).await? {
                readers.extend(read_model_reader(id, &object, self.models));
            }
        }
        Ok(readers)
    }
}

/// What a workload reads of the targets; `None` if nothing.
fn read_model_reader(
    id: &ObjectId,
    object: &Value,
    targets: &[WatchedModels],
) -> Option<ModelReader> {
    let kind = PodKind::find_by_name(&id.kind)?;
    let (template, spec) = (kind.template_of(object)?, kind.spec_of(object)?);
    let namespace = id.namespace.as_deref().unwrap_or_default();
    let read: Vec<&WatchedModels> =
        targets.iter().filter(|target| target.is_read_by(spec, namespace)).collect();
    if read.is_empty() {
        return None;
    }
    let models: BTreeSet<&str> = read.iter().flat_map(|target| target.models()).collect();
    let noted_in = |value: &Value| {
        let noted = value.get("metadata")?.get("annotations")?.get(MODELS)?.as_str();
        noted.map(str::to_owned)
    };
    Some(ModelReader {
        id: id.clone(),
        models: models.into_iter().collect::<Vec<_>>().join(" "),
        noted: noted_in(object),
        restarted: noted_in(template),
        targets: read.iter().map(|target| target.address()).collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use types::lock::Lock;
    use types::site::Site;

    use super::*;

    fn list_targets(commit: char) -> Vec<WatchedModels> {
        let site = Site::parse(
            "site.yaml",
            "version: 1\nregistry: {url: 'r:5000'}\ndepot: {url: 'http://depot:8080/'}\nmodels:\n\
             - {to: 'pvc://ai/models', restart: true}\n- {to: 's3://m/w', restart: true}\n- {to: depot, restart: true}\n\
             - {to: 'pvc://ai/quiet'}\n",
        )
        .unwrap();
        let commit = commit.to_string().repeat(40);
        let lock = format!(
            "version: 1\nname: l\nplatforms: []\nmodels:\n- hf: BAAI/bge-m3\n  revision: main\n  commit: {commit}\n  \
             reference: huggingface.co/baai/bge-m3:{commit}\n  manifest: {{digest: 'sha256:{digest}', size: 1}}\n  config: {{digest: 'sha256:{digest}', size: 1}}\n  files: []\n",
            digest = "ab".repeat(32)
        );
        WatchedModels::list_of_site(&site, &Lock::parse("gantry.lock", &lock).unwrap())
    }

    fn workload(spec: &Value, noted: Option<&str>) -> (ObjectId, Value) {
        let mut object = json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "a"},
            "spec": {"template": {"spec": spec}}});
        if let Some(noted) = noted {
            object["metadata"]["annotations"] = json!({MODELS: noted});
        }
        (ObjectId::from_manifest(&object, "ai").unwrap(), object)
    }

    #[test]
    fn a_workload_reads_what_it_mounts_or_names() {
        let targets = list_targets('a');
        let reads = |spec: Value| {
            let (id, object) = workload(&spec, None);
            read_model_reader(&id, &object, &targets).map(|reader| reader.targets)
        };
        let mount = |claim: &str| json!({"containers": [], "volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": claim}}]});
        assert_eq!(reads(mount("models")).unwrap(), ["pvc://ai/models"]);
        assert_eq!(reads(mount("quiet")), None, "it did not ask for restarts");
        let args = json!({"containers": [{"args": ["--cache=s3://m/w/x"]}]});
        assert_eq!(reads(args).unwrap(), ["s3://m/w"]);
        let env = json!({"initContainers": [{"env": [{"name": "HF_ENDPOINT", "value": "http://depot:8080"}]}]});
        assert_eq!(reads(env).unwrap(), ["depot"]);
    }

    #[test]
    fn only_another_revision_than_the_noted_one_is_a_change() {
        let spec = json!({"containers": [{"args": ["s3://m/w"]}]});
        let read = |commit: char, noted: Option<&str>| {
            let (id, object) = workload(&spec, noted);
            read_model_reader(&id, &object, &list_targets(commit)).unwrap()
        };
        let first = read('a', None);
        assert!(!first.is_changed(), "the first deploy only notes it");
        assert!(first.models.contains("baai/bge-m3"), "{first:?}");
        assert!(!read('a', Some(&first.models)).is_changed());
        assert!(read('b', Some(&first.models)).is_changed());
        assert_eq!(first.build_manifest(None).get("spec"), None);
        let restart = first.build_manifest(Some("x"));
        assert_eq!(
            restart.pointer("/spec/template/metadata/annotations/gantry.dev~1models").unwrap(),
            "x"
        );
    }
}
