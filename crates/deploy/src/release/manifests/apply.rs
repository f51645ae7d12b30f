//! Deploys one release of manifests: applies its objects in order, removes what the revision before had,
//! and waits until everything is ready. Running it again with the same manifests changes nothing; after a
//! killed run it goes on.

use std::time::Duration;

use cluster::{ApplyMode, Error as Cause, FieldConflicts, ManifestApply, ObjectId};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::super::change::ReleaseAction;
use super::super::claim_retention::ClaimRetention;
use super::super::definitions::wait_until_established;
use super::super::deployer::OnFailure;
use super::super::install::DeployedRelease;
use super::super::namespace;
use super::super::objects::RenderedObject;
use super::super::progress::{ProgressWatcher, ReleaseProgress};
use super::super::records::ReleaseRepair;
use super::super::wait;
use super::super::workloads::AwaitedObjects;
use super::deployer::ManifestDeployer;
use super::judge::{BroughtDefinitions, JudgedChange, JudgedObject, ObjectJudge};
use super::marks::{FIELD_MANAGER, ObjectOwner, find_owner, find_reason_to_keep};
use super::order::is_definition;
use super::plan::{ManifestChange, is_same_object, report_objections};
use super::planned::PlannedManifests;
use super::record::{self, ManifestHistory, RevisionContent, RevisionState};
use super::{desired, remove};
use crate::{Error, Result};

/// How long the API server may take to serve a new kind, or to know a new namespace.
const SERVED: Duration = Duration::from_secs(60);
/// The interval at which it is asked.
const PERIOD: Duration = Duration::from_millis(250);

impl ManifestDeployer<'_> {
    /// Deploys a release and waits until it is ready. After a failure it is left as it is or rolled
    /// back, as [`super::super::DeployOptions::on_failure`] says; the error is that of the deploy
    /// either way.
    ///
    /// # Errors
    /// [`Error::HalfApplied`] with what was applied before an object failed.
    pub async fn deploy(
        &self,
        planned: &PlannedManifests,
        watch: &dyn ProgressWatcher,
    ) -> Result<DeployedRelease> {
        let (name, namespace) = (planned.name(), planned.namespace());
        let mut history = ManifestHistory::read(self.cluster, namespace, name).await?;
        let mut beside = namespace::prepare_namespace(self.cluster, namespace, self.site).await?;
        let repair = self.repair(planned, &mut history, watch).await?;
        let mut objects = desired::list_desired_objects(self.cluster, planned).await?;
        let others = self.add_pull_secret(&mut objects);
        let brought = BroughtDefinitions::list(&objects);
        let coming = self.judge_release(planned, &objects, &history, brought).await?;
        // Before any pod: it takes the pull secrets of its service account when it is admitted.
        beside.extend(self.give_pull_secret(planned, &others).await?);
        let before = history.newest().map_or(0, |newest| newest.number);
        let revision = match coming.action {
            ReleaseAction::None | ReleaseAction::Restore => {
                for drifted in coming.judged.iter().filter_map(|one| one.drifted.as_ref()) {
                    if drifted.is_to_restore() {
                        drifted.restore(self.cluster).await?;
                    }
                }
                self.wait_for(planned, &objects, watch).await?;
                before
            }
            _ => self.install_revision(planned, &objects, &coming, &history, watch).await?,
        };
        for kept in coming.describe_kept() {
            watch.note(&format!("{name}: {kept}"));
        }
        Ok(DeployedRelease {
            release: name.to_owned(),
            namespace: namespace.to_owned(),
            chart: planned.source().to_owned(),
            action: coming.action,
            mended: repair,
            revision,
            changed: coming.list_differences().len(),
            drift: coming.list_drift(),
            restarted: vec![],
            beside,
        })
    }

    /// Finishes a removal that was interrupted, and says whether a deploy was.
    async fn repair(
        &self,
        planned: &PlannedManifests,
        history: &mut ManifestHistory,
        watch: &dyn ProgressWatcher,
    ) -> Result<Option<ReleaseRepair>> {
        let (name, namespace) = (planned.name(), planned.namespace());
        let (repair, text) = match history.newest().map(|newest| newest.state) {
            Some(RevisionState::Uninstalling) => {
                let claims = ClaimRetention::Kept;
                remove::undeploy_manifests(self.cluster, namespace, name, claims).await?;
                *history = ManifestHistory::default();
                (
                    ReleaseRepair::Uninstalled,
                    "an earlier removal was interrupted; it was completed first",
                )
            }
            Some(RevisionState::Pending) => {
                (ReleaseRepair::Continued, "an earlier deploy was interrupted; it is continued")
            }
            _ => return Ok(None),
        };
        watch.note(&format!("{name}: {text}"));
        Ok(Some(repair))
    }

    /// Applies a new revision, waits for it and records what became of it. Returns its number.
    async fn install_revision(
        &self,
        planned: &PlannedManifests,
        objects: &[RenderedObject],
        coming: &ManifestChange,
        history: &ManifestHistory,
        watch: &dyn ProgressWatcher,
    ) -> Result<u32> {
        let release = (planned.name(), planned.namespace());
        let number = history.newest().map_or(0, |newest| newest.number) + 1;
        let content = RevisionContent {
            source: planned.source().to_owned(),
            objects: objects.iter().map(|object| object.value.clone()).collect(),
        };
        // Before the first object: a killed run has to be known by its record.
        record::write_pending(self.cluster, release, number, &content).await?;
        let done = match self.apply_change(planned, objects, coming, history, watch).await {
            Ok(()) => self.wait_for(planned, objects, watch).await,
            Err(error) => Err(error),
        };
        let Err(failure) = done else {
            record::note_deployed(self.cluster, release, number, history).await?;
            return Ok(number);
        };
        record::note_state(self.cluster, release, number, RevisionState::Failed).await?;
        if self.options.on_failure == OnFailure::RollBack {
            self.roll_back(planned, objects, history, number, watch).await?;
        }
        Err(failure)
    }

    async fn wait_for(
        &self,
        planned: &PlannedManifests,
        objects: &[RenderedObject],
        watch: &dyn ProgressWatcher,
    ) -> Result<()> {
        let release = (planned.name(), planned.namespace());
        let workloads = AwaitedObjects::from_objects(objects);
        let timeout = self.options.timeout;
        wait::wait_until_ready(self.cluster, &workloads, release, timeout, watch).await
    }

    /// Applies the objects of a change in order, and removes those that it drops.
    async fn apply_change(
        &self,
        planned: &PlannedManifests,
        objects: &[RenderedObject],
        coming: &ManifestChange,
        history: &ManifestHistory,
        watch: &dyn ProgressWatcher,
    ) -> Result<()> {
        let recorded = history.newest().map(|newest| newest.content.objects.as_slice());
        // An object that looks the same may still have fields that the release gives up.
        let is_new =
            |object: &RenderedObject| !recorded.unwrap_or_default().contains(&object.value);
        let pairs = objects.iter().zip(&coming.judged);
        let pending: Vec<_> = pairs
            .filter(|(object, judged)| {
                judged.change != JudgedChange::Same || judged.drifted.is_some() || is_new(object)
            })
            .collect();
        let mut definitions: Vec<ObjectId> = Vec::new();
        for (index, (object, judged)) in pending.iter().enumerate() {
            watch.show(&ReleaseProgress {
                release: planned.name().to_owned(),
                doing: format!("applying {}", object.id),
                ready: index,
                of: pending.len(),
                pending: vec![],
            });
            if is_definition(&object.id) {
                definitions.push(object.id.clone());
            } else if !definitions.is_empty() {
                wait_until_established(self.cluster, &definitions).await?;
                definitions.clear();
            }
            if let Err(error) = self.apply_object(planned, object, judged).await {
                let name = |(object, _): &(&RenderedObject, &JudgedObject)| object.id.to_string();
                return Err(Error::HalfApplied {
                    release: planned.name().to_owned(),
                    applied: pending[..index].iter().map(name).collect(),
                    missing: pending[index..].iter().map(name).collect(),
                    source: Box::new(error),
                });
            }
        }
        wait_until_established(self.cluster, &definitions).await?;
        for one in coming.dropped.iter().filter(|one| one.kept.is_none()) {
            self.cluster.delete_manifest(&one.id).await?;
        }
        Ok(())
    }

    async fn apply_object(
        &self,
        planned: &PlannedManifests,
        object: &RenderedObject,
        judged: &JudgedObject,
    ) -> Result<()> {
        if let Some(drifted) = judged.drifted.as_ref().filter(|one| one.is_to_restore()) {
            drifted.restore(self.cluster).await?;
        }
        let JudgedChange::Unknown(_) = &judged.change else {
            // Every field that is not the release's own was decided upon.
            return self.send(planned, &judged.manifest, FieldConflicts::TakeOver).await;
        };
        // What was missing is there by now, or comes at any moment.
        let judge = ObjectJudge {
            cluster: self.cluster,
            release: planned.name(),
            namespace: planned.namespace(),
            options: self.options,
            brought: BroughtDefinitions::list(std::slice::from_ref(object)),
        };
        let deadline = Instant::now() + SERVED;
        loop {
            match judge.judge_object(object, None).await? {
                Ok(JudgedObject { change: JudgedChange::Unknown(_), .. })
                    if self.is_being_deleted(&object.id).await? && Instant::now() < deadline => {}
                // A webhook that cannot judge a dry run judges the real one.
                Ok(JudgedObject { change: JudgedChange::Unknown(_), manifest, .. }) => {
                    return self.send(planned, &manifest, FieldConflicts::Refuse).await;
                }
                Ok(JudgedObject { manifest, .. }) => {
                    return self.send(planned, &manifest, FieldConflicts::TakeOver).await;
                }
                Err(objection) if Instant::now() >= deadline || !is_temporary(&objection) => {
                    return report_objections(planned.name(), vec![objection]);
                }
                Err(_) => {}
            }
            sleep(PERIOD).await;
        }
    }

    async fn is_being_deleted(&self, id: &ObjectId) -> Result<bool> {
        match self.cluster.read_manifest(id).await {
            Ok(live) => {
                Ok(live.is_some_and(|live| live.pointer("/metadata/deletionTimestamp").is_some()))
            }
            Err(Cause::NoKind { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn send(
        &self,
        planned: &PlannedManifests,
        manifest: &Value,
        conflicts: FieldConflicts,
    ) -> Result<()> {
        let apply = ManifestApply {
            manifest,
            namespace: planned.namespace(),
            manager: FIELD_MANAGER,
            mode: ApplyMode::Apply,
            conflicts,
        };
        self.cluster.send_apply(&apply).await?;
        Ok(())
    }

    /// Applies the revision that worked last again and removes what the failed one brought; a first
    /// install is removed, but for its claims.
    async fn roll_back(
        &self,
        planned: &PlannedManifests,
        objects: &[RenderedObject],
        history: &ManifestHistory,
        failed: u32,
        watch: &dyn ProgressWatcher,
    ) -> Result<()> {
        let release = (planned.name(), planned.namespace());
        let Some(before) = history.deployed() else {
            watch.note(&format!("{}: the first install failed and is removed", release.0));
            let claims = ClaimRetention::Kept;
            remove::undeploy_manifests(self.cluster, release.1, release.0, claims).await?;
            return Ok(());
        };
        watch.note(&format!("{}: rolling back to revision {}", release.0, before.number));
        let number = failed + 1;
        record::write_pending(self.cluster, release, number, &before.content).await?;
        let mut kept = Vec::new();
        for object in &before.content.objects {
            self.send(planned, object, FieldConflicts::TakeOver).await?;
            kept.push(desired::identify_object(self.cluster, object, release.1).await?);
        }
        for object in objects.iter().rev() {
            if kept.iter().any(|id| is_same_object(id, &object.id)) {
                continue;
            }
            let live = match self.cluster.read_manifest(&object.id).await {
                Ok(Some(live)) => live,
                Ok(None) | Err(Cause::NoKind { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let is_own = find_owner(&live, release.0, release.1) == ObjectOwner::ThisRelease;
            if is_own && find_reason_to_keep(&object.id, &live).is_none() {
                self.cluster.delete_manifest(&object.id).await?;
            }
        }
        record::note_deployed(self.cluster, release, number, history).await
    }
}

/// Whether an objection may pass: a kind that was just defined is not served everywhere yet.
fn is_temporary(objection: &super::judge::Objection) -> bool {
    matches!(objection, super::judge::Objection::Refused(text)
        if text.contains("the cluster has no kind") || text.contains("not found"))
}
