//! One release, from what is there to what is wanted: its namespace, helm's install or upgrade, and
//! the wait. The same input again changes nothing.

use remote::helm::Hooks;
use serde::Serialize;

use super::error::{Error, Result};
use super::live::{self, Watch};
use super::namespace::{self, Beside};
use super::plan::Coming;
use super::state::{self, Mended, State};
use super::workloads::Workloads;
use super::{Deployer, OnFailure, Planned, accounts, helm};

/// What is done to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is installed for the first time.
    Install,
    /// It gets a new revision.
    Upgrade,
    /// It is as it should be.
    None,
    /// A killed run left it half done: it is mended, and then installed.
    Mend,
}

/// A release that is up.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployed {
    /// The release.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// The chart and its version.
    pub chart: String,
    /// What was done.
    pub action: Action,
    /// How a half release was mended before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mended: Option<Mended>,
    /// helm's revision.
    pub revision: u32,
    /// The objects that changed.
    pub changed: usize,
    /// The objects beside the release.
    pub beside: Vec<Beside>,
}

impl Deployer<'_> {
    /// Deploys a release and waits until it is up. A failure leaves it as the options say.
    pub async fn deploy(&self, planned: &Planned, watch: &dyn Watch) -> Result<Deployed> {
        let (name, namespace) = (planned.name(), planned.namespace());
        self.own(planned, &State::of(self.cluster, namespace, name).await?)?;
        let mut beside = namespace::prepare(self.cluster, namespace, self.site).await?;
        let (state, mended) = state::mend(self.cluster, self.helm, namespace, name).await?;
        if let Some(how) = mended {
            watch.note(&format!("{name}: {}", words(how)));
        }
        let coming = self.coming(planned, &state).await?;
        beside.extend(self.give_secret(planned, &coming).await?);
        let before = state.deployed().map_or(0, |revision| revision.number);
        let outcome = self.install(planned, &coming, before, watch).await;
        let failed = match outcome {
            Ok(revision) => {
                return Ok(Deployed {
                    release: name.to_owned(),
                    namespace: namespace.to_owned(),
                    chart: format!("{} {}", planned.chart, planned.version),
                    action: coming.action,
                    mended,
                    revision,
                    changed: coming.changes.len(),
                    beside,
                });
            }
            Err(error) => error,
        };
        // What was up before is as it was.
        if self.options.on_failure == OnFailure::RollBack && coming.action != Action::None {
            self.put_back(planned, before, watch).await?;
        }
        Err(failed)
    }

    /// Gives the pull secret to the accounts of the pods that no value gives it to.
    async fn give_secret(&self, planned: &Planned, coming: &Coming) -> Result<Vec<Beside>> {
        let Some(pull) = &self.site.pull_secret else { return Ok(vec![]) };
        let registry = self.target.prefix.registry();
        let needed = accounts::needed(&coming.objects, registry, &pull.name);
        let release = (planned.name(), planned.namespace());
        accounts::give(self.cluster, &needed, &pull.name, &coming.objects, release).await
    }

    /// Installs what is coming, where something is, and waits. The revision that runs then.
    async fn install(
        &self,
        planned: &Planned,
        coming: &Coming,
        before: u32,
        watch: &dyn Watch,
    ) -> Result<u32> {
        let (name, namespace) = (planned.name(), planned.namespace());
        let timeout = self.options.timeout;
        let mut revision = before;
        if coming.action != Action::None {
            // Hooks are among them: helm waits for those, and they are shown meanwhile.
            let all = Workloads::of(&coming.objects);
            let install = planned.install.clone();
            let upgrade =
                helm::run(self.helm, move |with, stop| with.upgrade(&install, timeout, stop));
            revision = tokio::select! {
                done = upgrade => done.map_err(|error| told(error, planned))?.number,
                () = live::look_on(self.cluster, &all, name, watch) => before,
            };
        }
        let workloads = self.workloads(namespace, name).await?;
        live::wait(self.cluster, &workloads, (name, namespace), timeout, watch).await?;
        Ok(revision)
    }

    /// What of the release that runs has to come up; its hooks are done.
    async fn workloads(&self, namespace: &str, name: &str) -> Result<Workloads> {
        let state = State::of(self.cluster, namespace, name).await?;
        let objects = match state.last() {
            Some(last) => super::objects::read(&last.revision.manifest, namespace)?,
            None => vec![],
        };
        Ok(Workloads::of(&objects))
    }

    /// Puts the revision back that ran before, or takes a first install away.
    async fn put_back(&self, planned: &Planned, before: u32, watch: &dyn Watch) -> Result<()> {
        let name = planned.name().to_owned();
        let namespace = planned.namespace().to_owned();
        let hooks = Hooks::Run(self.options.timeout);
        if before == 0 {
            watch.note(&format!("{name}: the first install failed, it is taken away"));
            let claims = super::undeploy::Claims::Kept;
            super::undeploy::release(self.cluster, self.helm, &namespace, &name, claims, hooks)
                .await?;
            return Ok(());
        }
        watch.note(&format!("{name}: revision {before} is put back"));
        helm::run(self.helm, move |with, stop| {
            with.rollback(&namespace, &name, before, hooks, stop)
        })
        .await
    }
}

/// helm says of a hook that failed only that its time was up; what was pending says more.
fn told(error: Error, planned: &Planned) -> Error {
    match error {
        Error::Helm(remote::Error::Helm { message, .. }) => Error::Helm(remote::Error::Helm {
            release: format!("{} in {}", planned.name(), planned.namespace()),
            message,
        }),
        other => other,
    }
}

fn words(how: Mended) -> &'static str {
    match how {
        Mended::Forgotten => {
            "an install was killed before it was done; it is done again with what is there"
        }
        Mended::RolledBack => "an upgrade was killed before it was done; it was rolled back first",
        Mended::Uninstalled => "it was being taken away when that was killed; that is done now",
    }
}
