//! Reads helm's release records (Secrets with the label `owner=helm`), which are the only state of
//! a deploy, and repairs a release whose last helm command was interrupted, so that the next one
//! runs.

use std::time::Duration;

use cluster::objects::api::core::v1::Secret;
use cluster::{Cluster, ObjectScope};
use remote::helm::record::{self, ReleaseRevision, ReleaseStatus};
use remote::helm::{HelmClient, HelmStop, HookPolicy};
use serde::Serialize;

use super::helm;
use super::labels::LABEL;
use crate::{Error, Result};

/// The label that helm puts on all of its records (helm, `pkg/storage/driver/secrets.go`).
const RECORDS: &str = "owner=helm";
/// How long another helm that may still be running gets to finish. One that was just stopped needs
/// a second or two to write its final status; a longer wait would delay every repair.
const SETTLE: Duration = Duration::from_secs(5);
/// The interval at which the records are read meanwhile.
const PERIOD: Duration = Duration::from_millis(500);

/// One of helm's records: a revision of a release, and the Secret that holds it.
#[derive(Debug, Clone)]
pub(super) struct HelmRecord {
    pub(super) secret: String,
    pub(super) is_own: bool,
    pub(super) revision: ReleaseRevision,
}

/// All records of a release, oldest revision first.
#[derive(Debug, Clone, Default)]
pub(super) struct ReleaseHistory {
    pub(super) revisions: Vec<HelmRecord>,
}

/// How an interrupted release was repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseRepair {
    /// The records of a first install that never succeeded were deleted; the install that follows
    /// adopts the objects that it created.
    #[serde(rename = "reinstalled")]
    Forgotten,
    /// It was rolled back to the last revision that ran.
    RolledBack,
    /// An interrupted uninstall was completed.
    Uninstalled,
    /// The objects of an interrupted deploy of manifests were applied again.
    Continued,
}

impl ReleaseHistory {
    /// Reads all records of a release.
    ///
    /// # Errors
    /// What the API server answers, and a record that cannot be decoded.
    pub(super) async fn read(cluster: &Cluster, namespace: &str, name: &str) -> Result<Self> {
        let selector = format!("{RECORDS},name={name}");
        let secrets =
            cluster.list_objects::<Secret>(ObjectScope::Namespace(namespace), &selector).await?;
        let mut revisions = Vec::new();
        for secret in secrets {
            let what =
                format!("Secret {namespace}/{}", secret.metadata.name.as_deref().unwrap_or("?"));
            let data = secret.data.as_ref().and_then(|data| data.get(record::KEY));
            let Some(data) = data else { continue };
            let (key, value) = LABEL;
            let labels = secret.metadata.labels.as_ref();
            revisions.push(HelmRecord {
                is_own: labels.and_then(|labels| labels.get(key)).is_some_and(|own| own == value),
                secret: secret.metadata.name.clone().unwrap_or_default(),
                revision: ReleaseRevision::decode(&what, &data.0)?,
            });
        }
        revisions.sort_by_key(|kept| kept.revision.number);
        Ok(Self { revisions })
    }

    /// The record of the newest revision.
    pub(super) fn newest(&self) -> Option<&HelmRecord> {
        self.revisions.last()
    }

    /// The newest revision that was deployed at some time.
    pub(super) fn deployed_revision(&self) -> Option<&ReleaseRevision> {
        // During an upgrade the running revision keeps the status `deployed` until the new one is
        // done; only when no record has it, the newest `superseded` one is the last that worked.
        let all = self.revisions.iter().rev().map(|kept| &kept.revision);
        let ran = |revision: &&ReleaseRevision| {
            matches!(revision.status, ReleaseStatus::Deployed | ReleaseStatus::Superseded)
        };
        let deployed = all.clone().find(|revision| revision.status == ReleaseStatus::Deployed);
        deployed.or_else(|| all.clone().find(ran))
    }

    /// The repair that has to happen before helm accepts another command, if any.
    pub(super) fn needed_repair(&self) -> Option<ReleaseRepair> {
        let last = &self.newest()?.revision;
        match (last.status, self.deployed_revision()) {
            (ReleaseStatus::Uninstalling, _) => Some(ReleaseRepair::Uninstalled),
            (status, Some(_)) if status.is_unfinished() => Some(ReleaseRepair::RolledBack),
            // `helm upgrade --install` treats a failed first install as an upgrade and would never
            // run its pre-install and post-install hooks. Without its record it is a first install
            // again.
            (status, None) if status.is_unfinished() || status == ReleaseStatus::Failed => {
                Some(ReleaseRepair::Forgotten)
            }
            _ => None,
        }
    }
}

/// Repairs a release whose last helm command was interrupted. Returns its records afterwards.
///
/// # Errors
/// [`Error::NotOurs`] if any of its revisions was installed by somebody else.
pub(super) async fn repair_release(
    cluster: &Cluster,
    with: &HelmClient,
    namespace: &str,
    name: &str,
) -> Result<(ReleaseHistory, Option<ReleaseRepair>)> {
    let mut state = ReleaseHistory::read(cluster, namespace, name).await?;
    // A pending status may also mean that another helm is working right now. Wait a moment before
    // taking it for an interrupted one.
    let is_at_work = |state: &ReleaseHistory| {
        state.newest().is_some_and(|last| last.revision.status.is_unfinished())
    };
    let deadline = tokio::time::Instant::now() + SETTLE;
    while is_at_work(&state) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(PERIOD).await;
        state = ReleaseHistory::read(cluster, namespace, name).await?;
    }
    let Some(how) = state.needed_repair() else { return Ok((state, None)) };
    if let Some(foreign) = state.revisions.iter().find(|kept| !kept.is_own) {
        return Err(Error::NotOurs {
            release: name.to_owned(),
            namespace: namespace.to_owned(),
            chart: foreign.revision.chart.clone(),
        });
    }
    let (namespace_, name_) = (namespace.to_owned(), name.to_owned());
    match how {
        // An upgrade does that; helm refuses to begin one before its records are repaired.
        ReleaseRepair::Continued => {}
        ReleaseRepair::Forgotten => {
            for kept in &state.revisions {
                cluster
                    .delete_object::<Secret>(ObjectScope::Namespace(namespace), &kept.secret)
                    .await?;
            }
        }
        ReleaseRepair::RolledBack => {
            let number = state.deployed_revision().map_or(0, |revision| revision.number);
            // Hooks are skipped: those of the interrupted upgrade may wait for pods that never
            // came.
            helm::run_helm(with, move |with, stop: &HelmStop| {
                with.roll_back_release(&namespace_, &name_, number, HookPolicy::Skip, stop)
            })
            .await?;
        }
        ReleaseRepair::Uninstalled => {
            helm::run_helm(with, move |with, stop: &HelmStop| {
                with.uninstall_release(&namespace_, &name_, HookPolicy::Skip, stop)
            })
            .await?;
        }
    }
    Ok((ReleaseHistory::read(cluster, namespace, name).await?, Some(how)))
}
