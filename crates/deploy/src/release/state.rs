//! What the cluster has of a release: helm's records of it, and whether Gantry made them. A release
//! that a killed helm left half done is mended here, so that the next run goes on.

use std::time::Duration;

use cluster::objects::api::core::v1::Secret;
use cluster::{Cluster, Scope};
use remote::helm::record::{self, Revision, Status};
use remote::helm::{Hooks, InCluster, Stop};
use serde::Serialize;

use super::error::{Error, Result};
use super::{LABEL, helm};

/// The label of helm's record with the release's name, and those that helm gives all of its records.
const RECORDS: &str = "owner=helm";
/// How long a helm that may still be at work is given to end.
const SETTLE: Duration = Duration::from_secs(5);
/// How often it is looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// One of helm's records.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) secret: String,
    pub(super) is_own: bool,
    pub(super) revision: Revision,
}

/// What the cluster has of a release, oldest revision first.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) revisions: Vec<Kept>,
}

/// How a half release was mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mended {
    /// The record of a first install that never got through was removed; what it made is adopted by
    /// the install that follows.
    Forgotten,
    /// The last revision that ran was put back.
    RolledBack,
    /// What was being taken away is gone now.
    Uninstalled,
}

impl State {
    /// What the cluster has of a release.
    pub(super) async fn of(cluster: &Cluster, namespace: &str, name: &str) -> Result<Self> {
        let selector = format!("{RECORDS},name={name}");
        let secrets = cluster.list::<Secret>(Scope::Namespace(namespace), &selector).await?;
        let mut revisions = Vec::new();
        for secret in secrets {
            let what =
                format!("Secret {namespace}/{}", secret.metadata.name.as_deref().unwrap_or("?"));
            let data = secret.data.as_ref().and_then(|data| data.get(record::KEY));
            let Some(data) = data else { continue };
            let (key, value) = LABEL;
            let labels = secret.metadata.labels.as_ref();
            revisions.push(Kept {
                is_own: labels.and_then(|labels| labels.get(key)).is_some_and(|own| own == value),
                secret: secret.metadata.name.clone().unwrap_or_default(),
                revision: Revision::decode(&what, &data.0)?,
            });
        }
        revisions.sort_by_key(|kept| kept.revision.number);
        Ok(Self { revisions })
    }

    /// The newest revision.
    pub(super) fn last(&self) -> Option<&Kept> {
        self.revisions.last()
    }

    /// The newest revision that ran.
    pub(super) fn deployed(&self) -> Option<&Revision> {
        let all = self.revisions.iter().rev().map(|kept| &kept.revision);
        let ran =
            |revision: &&Revision| matches!(revision.status, Status::Deployed | Status::Superseded);
        let deployed = all.clone().find(|revision| revision.status == Status::Deployed);
        deployed.or_else(|| all.clone().find(ran))
    }

    /// What is to be mended before helm takes another step.
    pub(super) fn half(&self) -> Option<Mended> {
        let last = &self.last()?.revision;
        match (last.status, self.deployed()) {
            (Status::Uninstalling, _) => Some(Mended::Uninstalled),
            (status, Some(_)) if status.is_half() => Some(Mended::RolledBack),
            // Of a first install that failed, the hooks of an install would never run again.
            (status, None) if status.is_half() || status == Status::Failed => {
                Some(Mended::Forgotten)
            }
            _ => None,
        }
    }
}

/// Mends what a killed helm left, where it is Gantry's.
pub(super) async fn mend(
    cluster: &Cluster,
    with: &InCluster,
    namespace: &str,
    name: &str,
) -> Result<(State, Option<Mended>)> {
    let mut state = State::of(cluster, namespace, name).await?;
    let is_at_work =
        |state: &State| state.last().is_some_and(|last| last.revision.status.is_half());
    let deadline = tokio::time::Instant::now() + SETTLE;
    while is_at_work(&state) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(PERIOD).await;
        state = State::of(cluster, namespace, name).await?;
    }
    let Some(how) = state.half() else { return Ok((state, None)) };
    if let Some(foreign) = state.revisions.iter().find(|kept| !kept.is_own) {
        return Err(Error::NotOurs {
            release: name.to_owned(),
            namespace: namespace.to_owned(),
            chart: foreign.revision.chart.clone(),
        });
    }
    let (namespace_, name_) = (namespace.to_owned(), name.to_owned());
    match how {
        Mended::Forgotten => {
            for kept in &state.revisions {
                cluster.delete::<Secret>(Scope::Namespace(namespace), &kept.secret).await?;
            }
        }
        Mended::RolledBack => {
            let number = state.deployed().map_or(0, |revision| revision.number);
            helm::run(with, move |with, stop: &Stop| {
                with.rollback(&namespace_, &name_, number, Hooks::Skip, stop)
            })
            .await?;
        }
        Mended::Uninstalled => {
            helm::run(with, move |with, stop: &Stop| {
                with.uninstall(&namespace_, &name_, Hooks::Skip, stop)
            })
            .await?;
        }
    }
    Ok((State::of(cluster, namespace, name).await?, Some(how)))
}
