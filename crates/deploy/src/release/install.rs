//! Deploys one release: prepares its namespace, repairs what an interrupted run left, runs
//! `helm upgrade --install`, and waits until the release is ready. Running it again with the same
//! input changes nothing.

use remote::helm::HookPolicy;
use serde::Serialize;

use super::change::{ReleaseAction, UpcomingChange};
use super::drift::FieldDrift;
use super::namespace::{self, SupportObject};
use super::records::{self, ReleaseHistory, ReleaseRepair};
use super::wait;
use super::workloads::AwaitedObjects;
use super::{Deployer, OnFailure, PlannedRelease, ProgressWatcher, accounts, helm};
use crate::{Error, Result};

/// The result of deploying one release that became ready.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeployedRelease {
    /// The release.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// The chart and its version, such as `nginx 15.1.0`.
    pub chart: String,
    /// What was done to it.
    pub action: ReleaseAction,
    /// How it was repaired first, if an earlier run was interrupted.
    #[serde(rename = "repair", skip_serializing_if = "Option::is_none")]
    pub mended: Option<ReleaseRepair>,
    /// The number of helm's revision that runs now.
    pub revision: u32,
    /// The workloads that were restarted since models that they read changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub restarted: Vec<String>,
    /// How many objects of the chart changed.
    #[serde(rename = "changedCount")]
    pub changed: usize,
    /// What others had changed in its objects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<FieldDrift>,
    /// Objects outside the chart that were created, changed or kept.
    #[serde(rename = "supportObjects")]
    pub beside: Vec<SupportObject>,
}

impl Deployer<'_> {
    /// Deploys a release and waits until it is ready. After a failure it is left as it is or rolled
    /// back, as [`super::DeployOptions::on_failure`] says; the error is that of the deploy either
    /// way.
    pub async fn deploy(
        &self,
        planned: &PlannedRelease,
        watch: &dyn ProgressWatcher,
    ) -> Result<DeployedRelease> {
        let (name, namespace) = (planned.name(), planned.namespace());
        // Before anything is written: a release of somebody else must not get our pull secret
        // either.
        self.require_ownership(
            planned,
            &ReleaseHistory::read(self.cluster, namespace, name).await?,
        )?;
        let mut beside = namespace::prepare_namespace(self.cluster, namespace, self.site).await?;
        let (state, mended) =
            records::repair_release(self.cluster, self.helm, namespace, name).await?;
        if let Some(how) = mended {
            watch.note(&format!("{name}: {}", describe_repair(how)));
        }
        let after = self.render_for_install(planned, &state, watch).await?;
        let coming = self.plan_changes(planned, &state, after).await?;
        // Before helm creates any pod: a pod takes the pull secrets of its service account when it
        // is admitted, and does not get those that are added later.
        beside.extend(self.give_pull_secret(planned, &coming).await?);
        let before = state.deployed_revision().map_or(0, |revision| revision.number);
        let outcome = self.install_and_wait(planned, &coming, before, watch).await;
        let failed = match outcome {
            Ok((revision, restarted)) => {
                return Ok(DeployedRelease {
                    restarted,
                    release: name.to_owned(),
                    namespace: namespace.to_owned(),
                    chart: format!("{} {}", planned.chart, planned.version),
                    action: coming.action,
                    mended,
                    revision,
                    changed: coming.changes.len(),
                    drift: coming.list_drift(),
                    beside,
                });
            }
            Err(error) => error,
        };
        // If nothing was installed, the failure is one of waiting: the running revision stays.
        let is_installed = !matches!(coming.action, ReleaseAction::None | ReleaseAction::Restore);
        if self.options.on_failure == OnFailure::RollBack && is_installed {
            self.restore_previous(planned, before, watch).await?;
        }
        Err(failed)
    }

    /// Adds the pull secret to the service accounts of pods that do not name it themselves.
    async fn give_pull_secret(
        &self,
        planned: &PlannedRelease,
        coming: &UpcomingChange,
    ) -> Result<Vec<SupportObject>> {
        let Some(pull) = &self.site.pull_secret else { return Ok(vec![]) };
        let registry = self.target.prefix.registry();
        let needed = accounts::find_accounts_without_secret(&coming.objects, registry, &pull.name);
        let release = (planned.name(), planned.namespace());
        accounts::give_pull_secret(self.cluster, &needed, &pull.name, &coming.objects, release)
            .await
    }

    /// Installs the new revision if anything changes, waits until it is ready, and restarts what reads
    /// models that changed. Returns the number of the revision that runs then, and what was restarted.
    async fn install_and_wait(
        &self,
        planned: &PlannedRelease,
        coming: &UpcomingChange,
        before: u32,
        watch: &dyn ProgressWatcher,
    ) -> Result<(u32, Vec<String>)> {
        let (name, namespace) = (planned.name(), planned.namespace());
        let earlier = self.list_earlier_pods(planned).await?;
        let timeout = self.options.timeout;
        let mut revision = before;
        // Before an upgrade too: helm leaves alone what it never set, and helm 4 refuses to change
        // fields that somebody else owns.
        for drifted in coming.drifted.iter().filter(|one| one.is_to_restore()) {
            drifted.restore(self.cluster).await?;
        }
        if !matches!(coming.action, ReleaseAction::None | ReleaseAction::Restore) {
            // Includes hooks: helm waits for them itself, so their pods are shown while it does.
            let all = AwaitedObjects::from_objects(&coming.objects);
            let install = planned.install.clone();
            let upgrade = helm::run_helm(self.helm, move |with, stop| {
                with.upgrade_release(&install, timeout, stop)
            });
            // `show_progress` never ends, so the upgrade always decides. Dropping it on
            // cancellation stops the helm process as well.
            revision = tokio::select! {
                done = upgrade => done.map_err(|error| name_release_in_error(error, planned))?.number,
                () = wait::show_progress(self.cluster, &all, name, watch) => before,
            };
        }
        let workloads = self.list_workloads(namespace, name).await?;
        wait::wait_until_ready(self.cluster, &workloads, (name, namespace), timeout, watch).await?;
        let restarted = self.restart_model_readers(planned, &workloads, &earlier, watch).await?;
        Ok((revision, restarted))
    }

    /// Lists the objects of the newest revision that have to become ready; its hooks are done by
    /// then.
    async fn list_workloads(&self, namespace: &str, name: &str) -> Result<AwaitedObjects> {
        let state = ReleaseHistory::read(self.cluster, namespace, name).await?;
        let objects = match state.newest() {
            Some(last) => super::objects::read_objects(&last.revision.manifest, namespace)?,
            None => vec![],
        };
        Ok(AwaitedObjects::from_objects(&objects))
    }

    /// Rolls back to the revision that ran before, or uninstalls a first install.
    async fn restore_previous(
        &self,
        planned: &PlannedRelease,
        before: u32,
        watch: &dyn ProgressWatcher,
    ) -> Result<()> {
        let name = planned.name().to_owned();
        let namespace = planned.namespace().to_owned();
        let hooks = HookPolicy::Run(self.options.timeout);
        if before == 0 {
            watch.note(&format!("{name}: the first install failed and is uninstalled"));
            // Even a failed first install may have written data that somebody wants to look at.
            let claims = super::claim_retention::ClaimRetention::Kept;
            super::undeploy::undeploy_release(
                self.cluster,
                self.helm,
                &namespace,
                &name,
                claims,
                hooks,
            )
            .await?;
            return Ok(());
        }
        watch.note(&format!("{name}: rolling back to revision {before}"));
        helm::run_helm(self.helm, move |with, stop| {
            with.roll_back_release(&namespace, &name, before, hooks, stop)
        })
        .await
    }
}

/// Names the release and its namespace in an error of helm, which often does not.
fn name_release_in_error(error: Error, planned: &PlannedRelease) -> Error {
    match error {
        Error::Helm(remote::Error::Helm { message, .. }) => Error::Helm(remote::Error::Helm {
            release: format!("{} in {}", planned.name(), planned.namespace()),
            message,
        }),
        other => other,
    }
}

fn describe_repair(how: ReleaseRepair) -> &'static str {
    match how {
        ReleaseRepair::Forgotten => {
            "an earlier install was interrupted; it is repeated and adopts the objects that exist"
        }
        ReleaseRepair::RolledBack => "an earlier upgrade was interrupted; it was rolled back first",
        ReleaseRepair::Uninstalled => {
            "an earlier uninstall was interrupted; it was completed first"
        }
        ReleaseRepair::Continued => "an earlier deploy was interrupted; it is continued",
    }
}
