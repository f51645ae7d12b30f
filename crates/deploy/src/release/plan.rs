//! The dry run: compares what a release would install with what the cluster has, and asks the API
//! server whether it would accept the changed objects. Nothing is written. `install` uses the same
//! comparison to skip a release that is already up to date.

use cluster::{ApplyMode, Error as Cause, ObjectId};
use futures::{StreamExt as _, TryStreamExt as _};
use remote::helm::record::ReleaseRevision;
use serde::Serialize;

use super::change::{ReleaseAction, UpcomingChange};
use super::drift::{DriftedObject, FieldDrift};
use super::namespace::{self, SupportObject, SupportObjectStatus};
use super::objects::{self, RenderedObject};
use super::records::ReleaseHistory;
use super::workloads::AwaitedObjects;
use super::{
    Deployer, ForeignReleases, ObjectDifference, PlannedRelease, ProgressWatcher, accounts,
    compare, definitions, helm, prove,
};
use crate::prepare::ReleaseRefusal;
use crate::{Error, Result};

/// Concurrent requests to the API server: enough to hide latency, few enough for its rate limits.
const AT_ONCE: usize = 8;
/// The note of a dry run whose release has kinds that the cluster does not have yet.
const UNPROVEN: &str = "the cluster does not have all kinds of the release's objects yet, so helm could not render it against the cluster; a deploy creates the chart's own definitions and proves that render before it installs anything else";
/// What helm reports while the chart's own custom resource definitions are not installed yet.
const NO_KIND: [&str; 2] = ["no matches for kind", "resource mapping not found"];

/// The result of a dry run for one release.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeployPlan {
    /// The release.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// The chart and its version, such as `nginx 15.1.0`.
    pub chart: String,
    /// What a deploy would do.
    pub action: ReleaseAction,
    /// Objects outside the chart that a deploy manages: namespace, pull secret, CA, accounts.
    #[serde(rename = "supportObjects")]
    pub beside: Vec<SupportObject>,
    /// The objects of the chart that would change.
    pub changes: Vec<ObjectDifference>,
    /// What others changed in its objects since it was deployed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<FieldDrift>,
    /// What could not be checked, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A render against the cluster.
enum ClusterRender {
    /// What helm would install.
    Done(ReleaseRevision),
    /// The cluster lacks kinds of the release's objects, and helm renders nothing without them.
    KindsMissing {
        /// What helm says.
        message: String,
        /// The same as an error.
        cause: Error,
    },
}

/// The objects of a revision as the cluster has them.
struct ClusterState {
    /// Those that do not exist.
    missing: Vec<RenderedObject>,
    /// Those that somebody else changed.
    drifted: Vec<DriftedObject>,
}

/// Whether a field manager is helm, which is called as its binary, or Gantry.
fn is_helm(manager: &str) -> bool {
    manager.to_ascii_lowercase().starts_with("helm") || manager.starts_with(cluster::MANAGER)
}

impl Deployer<'_> {
    /// Reports what deploying a release would change, and fails if the API server would reject one
    /// of the changed objects.
    pub async fn plan(&self, planned: &PlannedRelease) -> Result<DeployPlan> {
        let (name, namespace) = (planned.name(), planned.namespace());
        let state = ReleaseHistory::read(self.cluster, namespace, name).await?;
        self.require_ownership(planned, &state)?;
        let mut beside = namespace::plan_namespace(self.cluster, namespace, self.site).await?;
        let mut notes = Vec::new();
        let coming = match state.needed_repair() {
            // The repair comes first and may roll back or uninstall, so a comparison with today's
            // objects would describe a state that no longer exists by then.
            Some(_) => UpcomingChange::new(ReleaseAction::Mend, vec![], vec![]),
            None => match self.render_with_cluster(planned).await? {
                ClusterRender::Done(after) => self.plan_changes(planned, &state, after).await?,
                // helm creates the definitions in crds/ before the objects of a first install. A dry
                // run does not, so the proven render without a cluster has to do.
                ClusterRender::KindsMissing { .. } if state.newest().is_none() => {
                    notes.push(UNPROVEN.to_owned());
                    let objects = objects::read_objects(&planned.rendered, namespace)?;
                    let changes = compare::find_differences(&[], &objects);
                    UpcomingChange::new(ReleaseAction::Install, changes, objects)
                }
                ClusterRender::KindsMissing { cause, .. } => return Err(cause),
            },
        };
        let is_new =
            beside.first().is_some_and(|first| first.outcome == SupportObjectStatus::Created);
        if is_new {
            notes.push(format!(
                "the namespace {namespace} does not exist yet, so the API server was not asked about objects in it"
            ));
        }
        self.dry_run_objects(planned, &coming, is_new, &mut notes).await?;
        if !is_new {
            let workloads = AwaitedObjects::from_objects(&coming.objects);
            notes.extend(self.describe_restarts(&workloads).await?);
        }
        // Only reported here; `deploy` edits the accounts after the namespace has been prepared.
        if let Some(pull) = &self.site.pull_secret {
            let registry = self.target.prefix.registry();
            let needed =
                accounts::find_accounts_without_secret(&coming.objects, registry, &pull.name);
            beside.extend(needed.iter().map(|account| {
                let place = format!("{}/{}", account.namespace, account.name);
                SupportObject::new("ServiceAccount", &place, SupportObjectStatus::Changed)
            }));
        }
        Ok(DeployPlan {
            release: name.to_owned(),
            namespace: namespace.to_owned(),
            chart: format!("{} {}", planned.chart, planned.version),
            action: coming.action,
            beside,
            drift: coming.list_drift(),
            changes: coming.changes,
            notes,
        })
    }

    /// Fails with [`Error::NotOurs`] if Gantry did not install the release and may not take it
    /// over.
    pub(super) fn require_ownership(
        &self,
        planned: &PlannedRelease,
        state: &ReleaseHistory,
    ) -> Result<()> {
        match state.newest() {
            Some(last) if !last.is_own && self.options.foreign == ForeignReleases::Refuse => {
                Err(Error::NotOurs {
                    release: planned.name().to_owned(),
                    namespace: planned.namespace().to_owned(),
                    chart: last.revision.chart.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Determines what a deploy has to do for a release that needs no repair and renders to `after`,
    /// and proves that it pulls no image from outside the site.
    pub(super) async fn plan_changes(
        &self,
        planned: &PlannedRelease,
        state: &ReleaseHistory,
        after: ReleaseRevision,
    ) -> Result<UpcomingChange> {
        prove::prove_images_at_site(self, planned, &after)?;
        let objects = compare::list_revision_objects(&after)?;
        let Some(before) = state.deployed_revision() else {
            let changes = compare::find_differences(&[], &objects);
            return Ok(UpcomingChange::new(ReleaseAction::Install, changes, objects));
        };
        let old = compare::list_revision_objects(before)?;
        let changes = compare::find_differences(&old, &objects);
        // A failed newest revision has the same input as the next attempt; it must not pass as
        // "unchanged", so the newest revision has to be the deployed one and Gantry's own.
        let is_same_input = before.values == after.values
            && (&before.chart, &before.version) == (&after.chart, &after.version)
            && state
                .newest()
                .is_some_and(|last| last.is_own && last.revision.number == before.number);
        let is_same = is_same_input
            && (changes.is_empty() || {
                // Charts that generate passwords differ on every render: a second render shows
                // which fields those are.
                let again = compare::list_revision_objects(&self.render_release(planned).await?)?;
                compare::is_render_noise(&old, &objects, &again)
            });
        let state = self.compare_with_cluster(before).await?;
        if !is_same {
            let action = ReleaseAction::Upgrade;
            return Ok(UpcomingChange { action, changes, objects, drifted: state.drifted });
        }
        // Same input, but somebody may have deleted objects by hand: an upgrade restores them.
        let mut changes = compare::find_differences(&[], &state.missing);
        let restored: Vec<_> = state.drifted.iter().filter_map(DriftedObject::difference).collect();
        let action = match (state.missing.is_empty(), restored.is_empty()) {
            (true, true) => ReleaseAction::None,
            (true, false) => ReleaseAction::Restore,
            (false, _) => ReleaseAction::Upgrade,
        };
        changes.extend(restored);
        Ok(UpcomingChange { action, changes, objects, drifted: state.drifted })
    }

    /// Renders the release for an install: proven is what has the chart's own custom resource
    /// definitions, as helm will have them. On a first install they are created for it.
    ///
    /// # Errors
    /// [`ReleaseRefusal::NotRendered`] if kinds are missing that the chart's `crds/` folder does not
    /// define.
    pub(super) async fn render_for_install(
        &self,
        planned: &PlannedRelease,
        state: &ReleaseHistory,
        watch: &dyn ProgressWatcher,
    ) -> Result<ReleaseRevision> {
        let (message, cause) = match self.render_with_cluster(planned).await? {
            ClusterRender::Done(after) => return Ok(after),
            ClusterRender::KindsMissing { message, cause } => (message, cause),
        };
        // helm installs crds/ with the first revision only (helm.sh, "Custom Resource Definitions").
        if state.newest().is_some() {
            return Err(cause);
        }
        let created = definitions::create_missing_definitions(self.cluster, planned).await?;
        let release = planned.name().to_owned();
        if created.is_empty() {
            return Err(ReleaseRefusal::NotRendered { release, cause: message }.into());
        }
        for id in &created {
            watch.note(&format!("{release}: {} {} created", id.kind, id.name));
        }
        match self.render_with_cluster(planned).await? {
            ClusterRender::Done(after) => Ok(after),
            ClusterRender::KindsMissing { message, .. } => {
                Err(ReleaseRefusal::NotRendered { release, cause: message }.into())
            }
        }
    }

    /// Renders the release against the cluster as it is now.
    async fn render_with_cluster(&self, planned: &PlannedRelease) -> Result<ClusterRender> {
        match self.render_release(planned).await {
            Ok(revision) => Ok(ClusterRender::Done(revision)),
            Err(Error::Helm(remote::Error::Helm { release, message }))
                if NO_KIND.iter().any(|text| message.as_str().contains(text)) =>
            {
                let cause = Error::Helm(remote::Error::Helm { release, message: message.clone() });
                Ok(ClusterRender::KindsMissing { message: message.to_string(), cause })
            }
            Err(error) => Err(error),
        }
    }

    async fn render_release(&self, planned: &PlannedRelease) -> Result<ReleaseRevision> {
        let install = planned.install.clone();
        helm::run_helm(self.helm, move |with, stop| with.render_release(&install, stop)).await
    }

    /// Compares the objects of a revision with the cluster: which no longer exist, and which somebody
    /// else changed.
    async fn compare_with_cluster(&self, revision: &ReleaseRevision) -> Result<ClusterState> {
        let objects = objects::read_objects(&revision.manifest, &revision.namespace)?;
        let policy = self.options.drift;
        let asked = futures::stream::iter(objects).map(|object| async move {
            match self.cluster.read_manifest(&object.id).await {
                Ok(Some(live)) => {
                    let (id, applied) = (&object.id, &object.value);
                    let drifted = DriftedObject::find(id, &live, applied, &is_helm, policy);
                    Ok((None, drifted))
                }
                Ok(None) | Err(Cause::NoKind { .. }) => Ok((Some(object), None)),
                // Without the right to read it there is no telling; assume that it exists.
                Err(Cause::Forbidden { .. }) => Ok((None, None)),
                Err(error) => Err(Error::from(error)),
            }
        });
        let answers: Vec<_> = asked.buffered(AT_ONCE).try_collect().await?;
        let (missing, drifted): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        Ok(ClusterState {
            missing: missing.into_iter().flatten().collect(),
            drifted: drifted.into_iter().flatten().collect(),
        })
    }

    /// Sends the changed objects to the API server as a dry run, so that admission and quotas judge
    /// them.
    async fn dry_run_objects(
        &self,
        planned: &PlannedRelease,
        coming: &UpcomingChange,
        is_new: bool,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let namespace = planned.namespace();
        let is_changing = |id: &ObjectId| coming.changes.iter().any(|change| change.object == *id);
        let mut reasons = Vec::new();
        for object in coming.objects.iter().filter(|object| is_changing(&object.id)) {
            let resource = self.kinds.find_resource(&object.id.api_version, &object.id.kind);
            let Some(resource) = resource else {
                notes.push(format!(
                    "{}: the cluster does not know this kind yet, so the API server was not asked about it",
                    object.id
                ));
                continue;
            };
            // The API server answers 404 for anything in a namespace that does not exist.
            if resource.is_namespaced && is_new {
                continue;
            }
            match self.cluster.apply_manifest(&object.value, namespace, ApplyMode::DryRun).await {
                // Another manager, usually helm, owns some fields. That only concerns server-side
                // apply, which this dry run uses, and not what helm may do with its own object.
                Ok(_) | Err(Cause::Conflict { .. }) => {}
                Err(Cause::Refused { reason, .. } | Cause::Forbidden { reason, .. }) => {
                    reasons.push(format!("{}: {reason}", object.id));
                }
                Err(error) => return Err(error.into()),
            }
        }
        if reasons.is_empty() {
            return Ok(());
        }
        Err(Error::Refused { release: planned.name().to_owned(), reasons })
    }
}
