//! What deploying a release of manifests would change, and the dry run that reports it. Nothing is
//! written.

use std::collections::BTreeMap;

use cluster::{Error as Cause, ObjectId};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::super::change::ReleaseAction;
use super::super::compare::{ObjectChange, ObjectDifference};
use super::super::drift::{DriftedObject, FieldDrift};
use super::super::namespace;
use super::super::objects::RenderedObject;
use super::super::plan::DeployPlan;
use super::deployer::ManifestDeployer;
use super::desired;
use super::judge::{BroughtDefinitions, JudgedChange, JudgedObject, ObjectJudge, Objection};
use super::marks::{ObjectOwner, find_owner, find_reason_to_keep};
use super::planned::PlannedManifests;
use super::record::{ManifestHistory, RevisionState};
use crate::{Error, Result};

/// Concurrent requests to the API server: enough to hide latency, few enough for its rate limits.
const AT_ONCE: usize = 8;

/// What a deploy does to a release of manifests.
pub(super) struct ManifestChange {
    pub(super) action: ReleaseAction,
    /// Its objects, in the order of application.
    pub(super) judged: Vec<JudgedObject>,
    /// What an earlier revision had and this one has not.
    pub(super) dropped: Vec<DroppedObject>,
}

/// An object that an earlier revision had and this one has not.
#[derive(Debug, Clone)]
pub(super) struct DroppedObject {
    pub(super) id: ObjectId,
    /// Why it stays, if it does.
    pub(super) kept: Option<&'static str>,
}

impl ManifestChange {
    /// The objects that change, with their differences.
    pub(super) fn list_differences(&self) -> Vec<ObjectDifference> {
        let of_object = |one: &JudgedObject| {
            let (change, diff) = match &one.change {
                JudgedChange::Created | JudgedChange::Unknown(_) => {
                    (ObjectChange::Created, String::new())
                }
                JudgedChange::Changed(diff) => (ObjectChange::Changed, diff.clone()),
                JudgedChange::Same => {
                    return one.drifted.as_ref().and_then(DriftedObject::difference);
                }
            };
            Some(ObjectDifference { object: one.id.clone(), change, diff })
        };
        let removed = self.dropped.iter().filter(|one| one.kept.is_none()).map(|one| {
            let change = ObjectChange::Removed;
            ObjectDifference { object: one.id.clone(), change, diff: String::new() }
        });
        self.judged.iter().filter_map(of_object).chain(removed).collect()
    }

    /// Who changed what since the release applied it, and what is left to controllers.
    pub(super) fn list_drift(&self) -> Vec<FieldDrift> {
        let mut all: Vec<FieldDrift> = Vec::new();
        for one in &self.judged {
            all.extend(one.drifted.iter().flat_map(|drifted| drifted.drift.clone()));
            // A field may be known as drift already.
            all.extend(
                one.left
                    .iter()
                    .filter(|left| {
                        let is_known = |known: &FieldDrift| {
                            known.object == left.object && known.fields.contains(&left.fields[0])
                        };
                        !one.drifted.iter().flat_map(|drifted| &drifted.drift).any(is_known)
                    })
                    .cloned(),
            );
        }
        all
    }

    /// Sentences about objects that stay although the release has them no more.
    pub(super) fn describe_kept(&self) -> Vec<String> {
        let kept = self.dropped.iter().filter_map(|one| Some((&one.id, one.kept?)));
        kept.map(|(id, why)| format!("{id} is not in the release any more and stays: {why}"))
            .collect()
    }
}

impl ManifestDeployer<'_> {
    /// Reports what deploying a release would change, and fails if the API server would reject one
    /// of the objects.
    pub async fn plan(&self, planned: &PlannedManifests) -> Result<DeployPlan> {
        let (name, namespace) = (planned.name(), planned.namespace());
        let mut beside = namespace::plan_namespace(self.cluster, namespace, self.site).await?;
        let history = ManifestHistory::read(self.cluster, namespace, name).await?;
        let mut objects = desired::list_desired_objects(self.cluster, planned).await?;
        let others = self.add_pull_secret(&mut objects);
        beside.extend(Self::preview_pull_secret(&others));
        let mut brought = BroughtDefinitions::list(&objects);
        brought.add_namespace(namespace);
        let coming = self.judge_release(planned, &objects, &history, brought).await?;
        let mut notes = coming.describe_kept();
        for one in &coming.judged {
            if let JudgedChange::Unknown(why) = &one.change {
                notes.push(format!("{} was not tried by the API server: {why}", one.id));
            }
        }
        Ok(DeployPlan {
            release: name.to_owned(),
            namespace: namespace.to_owned(),
            chart: planned.source().to_owned(),
            action: match history.newest().map(|newest| newest.state) {
                Some(RevisionState::Pending | RevisionState::Uninstalling) => ReleaseAction::Mend,
                _ => coming.action,
            },
            beside,
            changes: coming.list_differences(),
            drift: coming.list_drift(),
            notes,
        })
    }

    /// Compares a release with the cluster.
    ///
    /// # Errors
    /// [`Error::ObjectsOfOthers`], [`Error::FieldsOfOthers`] or [`Error::Refused`], with all objects
    /// that cannot be applied.
    pub(super) async fn judge_release(
        &self,
        planned: &PlannedManifests,
        objects: &[RenderedObject],
        history: &ManifestHistory,
        brought: BroughtDefinitions,
    ) -> Result<ManifestChange> {
        let (name, namespace) = (planned.name(), planned.namespace());
        let judge = ObjectJudge {
            cluster: self.cluster,
            release: name,
            namespace,
            options: self.options,
            brought,
        };
        let applied = self.index_applied(history, namespace).await?;
        let answers = futures::stream::iter(objects)
            .map(|object| judge.judge_object(object, applied.get(&object.id)));
        let answers: Vec<_> = answers.buffered(AT_ONCE).try_collect().await?;
        let (mut judged, mut objections) = (Vec::new(), Vec::new());
        for answer in answers {
            match answer {
                Ok(one) => judged.push(one),
                Err(objection) => objections.push(objection),
            }
        }
        report_objections(name, objections)?;
        let dropped = self.find_dropped_objects(planned, objects, history).await?;
        let action = decide_action(objects, &judged, &dropped, history);
        Ok(ManifestChange { action, judged, dropped })
    }

    /// The objects of the newest revision, by identity: what the release applied last.
    async fn index_applied(
        &self,
        history: &ManifestHistory,
        namespace: &str,
    ) -> Result<BTreeMap<ObjectId, Value>> {
        let mut all = BTreeMap::new();
        for object in history.newest().iter().flat_map(|newest| &newest.content.objects) {
            let id = desired::identify_object(self.cluster, object, namespace).await?;
            all.insert(id, object.clone());
        }
        Ok(all)
    }

    /// Finds what earlier revisions had and this one has not, and the cluster still has.
    async fn find_dropped_objects(
        &self,
        planned: &PlannedManifests,
        objects: &[RenderedObject],
        history: &ManifestHistory,
    ) -> Result<Vec<DroppedObject>> {
        let mut dropped: Vec<DroppedObject> = Vec::new();
        for object in history.list_possible_objects() {
            let id = desired::identify_object(self.cluster, object, planned.namespace()).await?;
            let is_same = |other: &ObjectId| is_same_object(other, &id);
            let is_in_release = objects.iter().any(|object| is_same(&object.id));
            if is_in_release || dropped.iter().any(|one| is_same(&one.id)) {
                continue;
            }
            let live = match self.cluster.read_manifest(&id).await {
                Ok(Some(live)) => live,
                // It, or its kind, is gone.
                Ok(None) | Err(Cause::NoKind { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            // Somebody took it over, or it was never the release's own.
            if find_owner(&live, planned.name(), planned.namespace()) == ObjectOwner::ThisRelease {
                dropped.push(DroppedObject { kept: find_reason_to_keep(&id, &live), id });
            }
        }
        // What is needed by others goes last.
        dropped.reverse();
        Ok(dropped)
    }
}

/// Whether two identities are of one object: the same one is served in several versions.
pub(super) fn is_same_object(a: &ObjectId, b: &ObjectId) -> bool {
    let group = |id: &ObjectId| id.api_version.split_once('/').map(|(group, _)| group.to_owned());
    (&a.kind, &a.namespace, &a.name) == (&b.kind, &b.namespace, &b.name) && group(a) == group(b)
}

fn decide_action(
    objects: &[RenderedObject],
    judged: &[JudgedObject],
    dropped: &[DroppedObject],
    history: &ManifestHistory,
) -> ReleaseAction {
    let Some(newest) = history.newest() else { return ReleaseAction::Install };
    if history.deployed().is_none() {
        return ReleaseAction::Install;
    }
    let is_recorded = newest.state == RevisionState::Deployed
        && objects.iter().map(|object| &object.value).eq(&newest.content.objects);
    let is_removing = dropped.iter().any(|one| one.kept.is_none());
    if !is_recorded || is_removing || judged.iter().any(|one| one.change != JudgedChange::Same) {
        return ReleaseAction::Upgrade;
    }
    let is_restoring =
        |one: &JudgedObject| one.drifted.as_ref().is_some_and(DriftedObject::is_to_restore);
    match judged.iter().any(is_restoring) {
        true => ReleaseAction::Restore,
        false => ReleaseAction::None,
    }
}

/// Fails with all objections of one kind: the most serious first.
pub(super) fn report_objections(release: &str, objections: Vec<Objection>) -> Result<()> {
    let (mut foreign, mut fields, mut reasons) = (vec![], vec![], vec![]);
    for objection in objections {
        match objection {
            Objection::Foreign(text) => foreign.push(text),
            Objection::OwnedField(text) => fields.push(text),
            Objection::Refused(text) => reasons.push(text),
        }
    }
    let release = release.to_owned();
    if !foreign.is_empty() {
        return Err(Error::ObjectsOfOthers { release, objects: foreign });
    }
    if !reasons.is_empty() {
        return Err(Error::Refused { release, reasons });
    }
    if !fields.is_empty() {
        return Err(Error::FieldsOfOthers { release, fields });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::super::objects::read_objects;
    use super::super::record::{ManifestRevision, RevisionContent};
    use super::*;

    fn judged(object: &RenderedObject, change: JudgedChange) -> JudgedObject {
        JudgedObject {
            id: object.id.clone(),
            manifest: object.value.clone(),
            change,
            drifted: None,
            left: vec![],
            version: None,
        }
    }

    fn history(state: RevisionState, objects: &[RenderedObject]) -> ManifestHistory {
        let objects = objects.iter().map(|object| object.value.clone()).collect();
        let content = RevisionContent { source: String::new(), objects };
        ManifestHistory { revisions: vec![ManifestRevision { number: 1, state, content }] }
    }

    #[test]
    fn the_same_objects_are_no_revision_and_anything_else_is_one() {
        let stream = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: '1'}}\n";
        let objects = read_objects(stream, "n").unwrap();
        let same = [judged(&objects[0], JudgedChange::Same)];
        let deployed = history(RevisionState::Deployed, &objects);
        let decide =
            |judged: &[JudgedObject], dropped: &[DroppedObject], history: &ManifestHistory| {
                decide_action(&objects, judged, dropped, history)
            };

        assert_eq!(decide(&same, &[], &deployed), ReleaseAction::None);
        assert_eq!(decide(&same, &[], &ManifestHistory::default()), ReleaseAction::Install);
        assert_eq!(
            decide(&same, &[], &history(RevisionState::Pending, &objects)),
            ReleaseAction::Install,
            "nothing worked yet"
        );
        let made = [judged(&objects[0], JudgedChange::Created)];
        assert_eq!(decide(&made, &[], &deployed), ReleaseAction::Upgrade, "it was deleted");
        let dropped = |kept| [DroppedObject { id: objects[0].id.clone(), kept }];
        assert_eq!(decide(&same, &dropped(None), &deployed), ReleaseAction::Upgrade);
        assert_eq!(decide(&same, &dropped(Some("data")), &deployed), ReleaseAction::None);
        assert_eq!(
            decide(&same, &[], &history(RevisionState::Deployed, &[])),
            ReleaseAction::Upgrade,
            "the record has other objects"
        );
    }

    #[test]
    fn an_object_is_the_same_in_another_version_of_its_group() {
        let id = |version: &str, name: &str| ObjectId {
            api_version: version.to_owned(),
            kind: "HorizontalPodAutoscaler".to_owned(),
            namespace: Some("n".to_owned()),
            name: name.to_owned(),
        };
        assert!(is_same_object(&id("autoscaling/v1", "a"), &id("autoscaling/v2", "a")));
        assert!(!is_same_object(&id("autoscaling/v1", "a"), &id("autoscaling/v1", "b")));
        assert!(!is_same_object(&id("autoscaling/v1", "a"), &id("v1", "a")));
    }
}
