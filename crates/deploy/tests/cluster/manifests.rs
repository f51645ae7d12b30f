//! Deploying plain manifests to a real cluster: install, no change, what people change by hand, prune,
//! refusals, rollback, killed runs and removal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chart::OperatorRules;
use chart::relocate::RelocationTarget;
use cluster::objects::api::core::v1::Secret;
use cluster::objects::serde_json::{Value, json};
use cluster::{Cluster, DiscoveredKinds, FieldConflicts, ObjectId, ObjectScope};
use gantry_deploy::Error;
use gantry_deploy::release::{
    ClaimRetention, DeployOptions, DeployedRelease, DriftOutcome, DriftPolicy, ForeignReleases,
    ImageProof, InstalledRelease, ManifestDeployer, NamespaceRetention, ObjectChange, OnFailure,
    PlannedManifests, ProgressWatcher, ReleaseAction, ReleaseKind, ReleaseProgress, ReleaseRepair,
    SiteObjects, find_releases, undeploy_releases,
};
use remote::helm::HookPolicy;
use testkit::TestCluster;
use types::Reference;
use types::lock::Lock;
use types::site::Site;
use types::site_content::SiteContent;

/// The longest wait for a release, on a machine that other programs use as well.
const TIMEOUT: Duration = Duration::from_mins(5);

/// A release of manifests, and where it is deployed.
struct Stage {
    here: TestCluster,
    cluster: Cluster,
    kinds: DiscoveredKinds,
    namespace: String,
    target: RelocationTarget,
    locked: SiteContent,
    elsewhere: BTreeSet<Reference>,
    site: SiteObjects,
}

/// Keeps the notes of a deploy.
#[derive(Default, Clone)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl ProgressWatcher for Notes {
    fn show(&self, _: &ReleaseProgress) {}
    fn note(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

fn options() -> DeployOptions {
    DeployOptions {
        timeout: TIMEOUT,
        on_failure: OnFailure::Leave,
        foreign: ForeignReleases::Refuse,
        drift: DriftPolicy::PutBack,
        conflicts: FieldConflicts::Refuse,
    }
}

impl Stage {
    async fn new(namespace: &str) -> Self {
        let here = TestCluster::from_environment();
        let cluster = here.connect().await;
        let site = "version: 1\nregistry: {url: 'registry.site.test:5000/ai', plainHttp: true}\n";
        let site = Site::parse("site.yaml", site).unwrap();
        let lock = "version: 1\nname: stage\nplatforms: [linux/amd64]\n";
        let lock = Lock::parse("gantry.lock", lock).unwrap();
        // The images that the nodes have are not of the site.
        let elsewhere = BTreeSet::from([here.image_name("busybox").parse().unwrap()]);
        Self {
            kinds: cluster.discover_kinds().await.unwrap(),
            namespace: namespace.to_owned(),
            target: RelocationTarget::from_registry(&site.registry).unwrap(),
            locked: SiteContent::new(&[lock], &[], &site.registry).unwrap(),
            site: SiteObjects::default(),
            elsewhere,
            here,
            cluster,
        }
    }

    fn planned(&self, stream: &str) -> PlannedManifests {
        let proof = ImageProof {
            target: &self.target,
            rules: OperatorRules::builtin(),
            locked: &self.locked,
            elsewhere: &self.elsewhere,
        };
        PlannedManifests::prove("web", &self.namespace, "manifests", stream.to_owned(), &proof)
            .unwrap()
    }

    fn deployer(&self, options: DeployOptions) -> ManifestDeployer<'_> {
        ManifestDeployer {
            cluster: &self.cluster,
            kinds: &self.kinds,
            target: &self.target,
            site: &self.site,
            options,
        }
    }

    async fn try_deploy(
        &self,
        stream: &str,
        options: DeployOptions,
    ) -> gantry_deploy::Result<DeployedRelease> {
        let planned = self.planned(stream);
        let deployer = self.deployer(options);
        deployer.require_rights(std::slice::from_ref(&planned)).await.unwrap();
        deployer.deploy(&planned, &Notes::default()).await
    }

    async fn deploy(&self, stream: &str) -> DeployedRelease {
        self.try_deploy(stream, options()).await.unwrap()
    }

    /// Runs kubectl in the namespace.
    fn kubectl(&self, arguments: &[&str]) {
        let done = testkit::tools::tool_command("kubectl")
            .arg("--kubeconfig")
            .arg(self.here.kubeconfig())
            .args(["--namespace", &self.namespace])
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    async fn read(&self, version: &str, kind: &str, name: &str) -> Option<Value> {
        let id = ObjectId {
            api_version: version.to_owned(),
            kind: kind.to_owned(),
            namespace: Some(self.namespace.clone()),
            name: name.to_owned(),
        };
        self.cluster.read_manifest(&id).await.unwrap()
    }

    /// The states of the records, oldest first.
    async fn records(&self) -> Vec<String> {
        let scope = ObjectScope::Namespace(&self.namespace);
        let mut all: Vec<Secret> =
            self.cluster.list_objects(scope, "owner=gantry,name=web").await.unwrap();
        let label =
            |secret: &Secret, key: &str| secret.metadata.labels.as_ref().unwrap()[key].clone();
        all.sort_by_key(|secret| label(secret, "version").parse::<u32>().unwrap());
        all.iter().map(|secret| label(secret, "status")).collect()
    }

    async fn undeploy(&self, claims: ClaimRetention) -> Vec<String> {
        let release = InstalledRelease {
            namespace: self.namespace.clone(),
            release: "web".to_owned(),
            kind: ReleaseKind::Manifests,
        };
        assert_eq!(
            find_releases(&self.cluster, Some(&self.namespace)).await.unwrap(),
            std::slice::from_ref(&release)
        );
        let hooks = HookPolicy::Run(TIMEOUT);
        let whole = NamespaceRetention::Kept;
        let releases = [release];
        let removed = undeploy_releases(
            &self.cluster,
            None,
            &self.namespace,
            &releases,
            claims,
            whole,
            hooks,
        );
        removed.await.unwrap().kept
    }

    /// A server with a variable, which runs this script.
    fn server(&self, script: &str, mode: &str) -> String {
        let server = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "Recreate"},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 1000,
                        "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{"name": "server", "image": self.here.image_name("busybox"),
                        "imagePullPolicy": "Never", "command": ["sh", "-c", script],
                        "env": [{"name": "MODE", "value": mode}],
                        "securityContext": {"allowPrivilegeEscalation": false,
                            "capabilities": {"drop": ["ALL"]}}}]}}}});
        format!("---\n{server}\n")
    }
}

fn map(name: &str, value: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{key: '{value}'}}\n"
    )
}

const CLAIM: &str = "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n\
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}\n";
/// An object before the definition of its kind.
const CRATES: &str = "---\napiVersion: apply.gantry.test/v1\nkind: Crate\nmetadata: {name: first}\n\
    ---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
    metadata: {name: crates.apply.gantry.test}\n\
    spec: {group: apply.gantry.test, scope: Namespaced, names: {kind: Crate, plural: crates},\n\
    \x20 versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}\n";
const SERVE: &str = "exec sleep 3600";

fn image(object: &Value) -> &Value {
    &object["spec"]["template"]["spec"]["containers"][0]["image"]
}

fn variables(object: &Value) -> &Value {
    &object["spec"]["template"]["spec"]["containers"][0]["env"]
}

#[tokio::test]
async fn manifests_are_applied_pruned_put_back_and_removed() {
    let space = TestCluster::from_environment().create_namespace("apply-life");
    let stage = Stage::new(space.name()).await;
    let definition = "customresourcedefinition/crates.apply.gantry.test";
    stage.kubectl(&["delete", "--ignore-not-found", definition]);
    let stream = map("settings", "1") + CRATES + CLAIM + &stage.server(SERVE, "prod");

    let planned = stage.deployer(options()).plan(&stage.planned(&stream)).await.unwrap();
    assert_eq!(planned.action, ReleaseAction::Install);
    assert_eq!(planned.changes.len(), 5, "{planned:#?}");
    assert!(stage.read("v1", "ConfigMap", "settings").await.is_none(), "a dry run makes nothing");

    let done = stage.deploy(&stream).await;
    assert_eq!((done.action, done.revision, done.changed), (ReleaseAction::Install, 1, 5));
    let settings = stage.read("v1", "ConfigMap", "settings").await.unwrap();
    assert_eq!(settings["metadata"]["labels"]["gantry.dev/release"], "web");
    assert!(stage.read("apply.gantry.test/v1", "Crate", "first").await.is_some());
    assert_eq!(stage.records().await, ["deployed"]);
    let again = stage.deploy(&stream).await;
    assert_eq!((again.action, again.revision), (ReleaseAction::None, 1), "{again:#?}");

    // What people do by hand.
    stage.kubectl(&["set", "image", "deployment/web", "server=elsewhere.test/web:2"]);
    stage.kubectl(&["set", "env", "deployment/web", "DEBUG=1"]);
    let plan = stage.deployer(options()).plan(&stage.planned(&stream)).await.unwrap();
    assert_eq!(plan.action, ReleaseAction::Restore, "{plan:#?}");
    assert!(plan.changes[0].diff.contains("-        image: elsewhere.test/web:2"), "{plan:#?}");
    let managers: BTreeSet<&str> = plan.drift.iter().map(|one| one.manager.as_str()).collect();
    assert_eq!(managers, BTreeSet::from(["kubectl-set"]));
    let adopt = DeployOptions { drift: DriftPolicy::Adopt, ..options() };
    let plan = stage.deployer(adopt).plan(&stage.planned(&stream)).await.unwrap();
    assert_eq!(plan.action, ReleaseAction::None, "{plan:#?}");
    assert!(plan.drift.iter().all(|one| one.outcome == DriftOutcome::Adopted), "{plan:#?}");
    let restored = stage.deploy(&stream).await;
    assert_eq!((restored.action, restored.revision), (ReleaseAction::Restore, 1), "{restored:#?}");
    let server = stage.read("apps/v1", "Deployment", "web").await.unwrap();
    assert_eq!(image(&server), &json!(stage.here.image_name("busybox")));
    assert_eq!(variables(&server), &json!([{"name": "MODE", "value": "prod"}]));
    assert_eq!(server["spec"]["replicas"], 1);
    assert_eq!(stage.deploy(&stream).await.action, ReleaseAction::None);

    // Kept by hand, and changed in the next revision.
    stage.kubectl(&["set", "env", "deployment/web", "DEBUG=2"]);
    let kept = stage.try_deploy(&stream, adopt).await.unwrap();
    assert_eq!(kept.action, ReleaseAction::None, "{kept:#?}");
    let next = CRATES.to_owned() + &stage.server(SERVE, "test");
    let plan = stage.deployer(options()).plan(&stage.planned(&next)).await.unwrap();
    let removed: Vec<String> = plan
        .changes
        .iter()
        .filter(|one| one.change == ObjectChange::Removed)
        .map(|one| one.object.name.clone())
        .collect();
    assert_eq!(removed, ["settings"]);
    assert!(plan.notes.iter().any(|note| note.contains("data is kept")), "{plan:#?}");
    let upgraded = stage.deploy(&next).await;
    assert_eq!((upgraded.action, upgraded.revision), (ReleaseAction::Upgrade, 2));
    assert!(stage.read("v1", "ConfigMap", "settings").await.is_none(), "pruned");
    assert!(stage.read("v1", "PersistentVolumeClaim", "data").await.is_some(), "data stays");
    let server = stage.read("apps/v1", "Deployment", "web").await.unwrap();
    assert_eq!(variables(&server), &json!([{"name": "MODE", "value": "test"}]));
    assert_eq!(stage.records().await, ["superseded", "deployed"]);

    stage.kubectl(&["delete", "deployment/web"]);
    assert_eq!(stage.deploy(&next).await.action, ReleaseAction::Upgrade, "it comes back");

    let kept = stage.undeploy(ClaimRetention::Kept).await;
    assert!(kept.iter().any(|one| one.contains("crates.apply.gantry.test")), "{kept:?}");
    assert!(stage.read("apply.gantry.test/v1", "Crate", "first").await.is_none());
    assert_eq!(stage.records().await, [""; 0]);
    // The claim of an earlier revision is not the release's any more, and the definition is known.
    assert_eq!(stage.deploy(&next).await.action, ReleaseAction::Install);
    stage.undeploy(ClaimRetention::Deleted).await;
    stage.kubectl(&["delete", definition]);
}

#[tokio::test]
async fn what_is_not_ours_or_refused_is_told_before_anything_is_written() {
    let space = TestCluster::from_environment().create_namespace("apply-refused");
    let stage = Stage::new(space.name()).await;
    stage.kubectl(&["create", "configmap", "settings", "--from-literal=key=theirs"]);
    let stream = map("other", "1") + &map("settings", "ours");

    let error = stage.try_deploy(&stream, options()).await.unwrap_err();
    assert!(matches!(error, Error::ObjectsOfOthers { .. }), "{error}");
    assert!(error.to_string().contains("was made by kubectl-create"), "{error}");
    let invalid = map("other", "1")
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 70000}]}\n";
    let error = stage.try_deploy(&invalid, options()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(
        error.to_string().contains("Service ") && error.to_string().contains("70000"),
        "{error}"
    );
    let unknown = map("other", "1")
        + "---\napiVersion: nowhere.gantry.test/v1\nkind: Wonder\nmetadata: {name: x}\n";
    let error = stage.try_deploy(&unknown, options()).await.unwrap_err();
    assert!(error.to_string().contains("no kind Wonder"), "{error}");
    assert!(stage.read("v1", "ConfigMap", "other").await.is_none(), "nothing was written");
    assert_eq!(stage.records().await, [""; 0]);

    let taking = DeployOptions { foreign: ForeignReleases::TakeOver, ..options() };
    stage.try_deploy(&stream, taking).await.unwrap();
    let settings = stage.read("v1", "ConfigMap", "settings").await.unwrap();
    assert_eq!(settings["data"]["key"], "ours");

    // A controller takes a field over.
    let mut changed = settings.clone();
    changed["data"]["key"] = json!("controlled");
    stage.cluster.write_differences(&settings, &changed, "some-controller").await.unwrap();
    let left = stage.deploy(&stream).await;
    assert_eq!(left.action, ReleaseAction::None, "{left:#?}");
    assert_eq!(left.drift[0].manager, "some-controller");
    assert_eq!(left.drift[0].outcome, DriftOutcome::Left);
    let wanting = map("other", "1") + &map("settings", "new");
    let error = stage.try_deploy(&wanting, options()).await.unwrap_err();
    assert!(matches!(error, Error::FieldsOfOthers { .. }), "{error}");
    assert!(error.to_string().contains(".data.key is owned by some-controller"), "{error}");
    let forcing = DeployOptions { conflicts: FieldConflicts::TakeOver, ..options() };
    stage.try_deploy(&wanting, forcing).await.unwrap();
    let settings = stage.read("v1", "ConfigMap", "settings").await.unwrap();
    assert_eq!(settings["data"]["key"], "new");
    stage.undeploy(ClaimRetention::Kept).await;
}

#[tokio::test]
async fn a_revision_that_fails_is_rolled_back_and_a_killed_one_is_continued() {
    let space = TestCluster::from_environment().create_namespace("apply-failed");
    let stage = Stage::new(space.name()).await;
    let good = map("settings", "1") + &stage.server(SERVE, "prod");
    let bad = map("new", "1") + &stage.server("exit 7", "prod");
    let timeout = Duration::from_secs(25);
    let undoing = DeployOptions { on_failure: OnFailure::RollBack, timeout, ..options() };

    let error = stage.try_deploy(&bad, undoing).await.unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }), "{error}");
    assert!(stage.read("v1", "ConfigMap", "new").await.is_none(), "the first install is undone");
    assert_eq!(stage.records().await, [""; 0]);
    stage.deploy(&good).await;

    let error = stage.try_deploy(&bad, undoing).await.unwrap_err();
    assert!(error.to_string().contains("ended with code 7"), "{error}");
    assert!(stage.read("v1", "ConfigMap", "new").await.is_none());
    assert!(stage.read("v1", "ConfigMap", "settings").await.is_some(), "pruned, and back");
    assert_eq!(stage.records().await, ["superseded", "failed", "deployed"]);
    assert_eq!(stage.deploy(&good).await.action, ReleaseAction::None);

    // A run that is killed as soon as it has begun.
    let next = map("settings", "2") + &map("more", "1") + &stage.server(SERVE, "test");
    let begun =
        async { while stage.records().await.last().is_none_or(|state| state != "pending") {} };
    tokio::select! {
        done = stage.try_deploy(&next, options()) => { done.unwrap(); }
        () = begun => {}
    }
    let continued = stage.deploy(&next).await;
    if stage.records().await.contains(&"pending".to_owned()) {
        assert_eq!(continued.mended, Some(ReleaseRepair::Continued));
    }
    assert!(stage.read("v1", "ConfigMap", "more").await.is_some());
    assert_eq!(stage.deploy(&next).await.action, ReleaseAction::None);
    stage.undeploy(ClaimRetention::Kept).await;
    assert!(stage.read("v1", "ConfigMap", "more").await.is_none());
}
