//! What deploying a release would change: asked of the cluster, nothing is written.

use cluster::{Error as Cause, Id, Mode};
use futures::{StreamExt as _, TryStreamExt as _};
use remote::helm::record::Revision;
use serde::Serialize;

use super::compare::{self, Difference};
use super::error::{Error, Result};
use super::install::Action;
use super::namespace::{self, Beside, Outcome};
use super::objects::Rendered;
use super::state::State;
use super::{Deployer, Foreign, Planned, accounts, helm, prove};

/// Questions that are asked at once.
const AT_ONCE: usize = 8;
/// What helm says where the chart's own definitions are not in the cluster yet.
const NO_KIND: [&str; 2] = ["no matches for kind", "resource mapping not found"];

/// What deploying a release would change.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The release.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// The chart and its version.
    pub chart: String,
    /// What would be done.
    pub action: Action,
    /// The objects beside the release.
    pub beside: Vec<Beside>,
    /// The objects of the release that would change.
    pub changes: Vec<Difference>,
    /// What could not be looked at, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What would come, beside what is there.
pub(super) struct Coming {
    pub(super) action: Action,
    pub(super) changes: Vec<Difference>,
    /// The objects that would come, hooks included.
    pub(super) objects: Vec<Rendered>,
}

impl Deployer<'_> {
    /// What deploying a release would change. The API server is asked whether it would take the
    /// changed objects.
    pub async fn plan(&self, planned: &Planned) -> Result<Plan> {
        let (name, namespace) = (planned.name(), planned.namespace());
        let state = State::of(self.cluster, namespace, name).await?;
        self.own(planned, &state)?;
        let mut beside = namespace::plan(self.cluster, namespace, self.site).await?;
        let mut notes = Vec::new();
        let coming = match state.half() {
            // helm says nothing of a half release; what it would render is compared with what ran.
            Some(_) => Coming { action: Action::Mend, changes: vec![], objects: vec![] },
            None => self.coming(planned, &state).await?,
        };
        let is_new = beside.first().is_some_and(|first| first.outcome == Outcome::Created);
        if is_new {
            notes.push(format!(
                "the namespace {namespace} is not there yet: objects in it were not tried on the server"
            ));
        }
        self.try_objects(planned, &coming, is_new, &mut notes).await?;
        if let Some(pull) = &self.site.pull_secret {
            let registry = self.target.prefix.registry();
            let needed = accounts::needed(&coming.objects, registry, &pull.name);
            beside.extend(needed.iter().map(|account| {
                let place = format!("{}/{}", account.namespace, account.name);
                Beside::new("ServiceAccount", &place, Outcome::Changed)
            }));
        }
        Ok(Plan {
            release: name.to_owned(),
            namespace: namespace.to_owned(),
            chart: format!("{} {}", planned.chart, planned.version),
            action: coming.action,
            beside,
            changes: coming.changes,
            notes,
        })
    }

    /// [`Error::NotOurs`] when somebody else installed it and it is not to be taken over.
    pub(super) fn own(&self, planned: &Planned, state: &State) -> Result<()> {
        match state.last() {
            Some(last) if !last.is_own && self.options.foreign == Foreign::Refused => {
                Err(Error::NotOurs {
                    release: planned.name().to_owned(),
                    namespace: planned.namespace().to_owned(),
                    chart: last.revision.chart.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// What would come of a release that is not half done, proven to point nowhere outside.
    pub(super) async fn coming(&self, planned: &Planned, state: &State) -> Result<Coming> {
        let after = match self.render(planned).await {
            Ok(after) => after,
            // Its own definitions come with it: what renders without a cluster has to do.
            Err(Error::Helm(remote::Error::Helm { message, .. }))
                if state.last().is_none() && NO_KIND.iter().any(|text| message.contains(text)) =>
            {
                let objects = super::objects::read(&planned.rendered, planned.namespace())?;
                let changes = compare::differences(&[], &objects);
                return Ok(Coming { action: Action::Install, changes, objects });
            }
            Err(error) => return Err(error),
        };
        prove::prove(self, planned, &after)?;
        let objects = compare::all(&after)?;
        let Some(before) = state.deployed() else {
            let changes = compare::differences(&[], &objects);
            return Ok(Coming { action: Action::Install, changes, objects });
        };
        let old = compare::all(before)?;
        let changes = compare::differences(&old, &objects);
        let is_same_input = before.values == after.values
            && (&before.chart, &before.version) == (&after.chart, &after.version)
            && state
                .last()
                .is_some_and(|last| last.is_own && last.revision.number == before.number);
        let is_same = is_same_input
            && (changes.is_empty() || {
                let again = compare::all(&self.render(planned).await?)?;
                compare::is_noise(&old, &objects, &again)
            });
        if !is_same {
            return Ok(Coming { action: Action::Upgrade, changes, objects });
        }
        let missing = self.missing(before).await?;
        let changes: Vec<_> = compare::differences(&[], &missing);
        let action = if missing.is_empty() { Action::None } else { Action::Upgrade };
        Ok(Coming { action, changes, objects })
    }

    async fn render(&self, planned: &Planned) -> Result<Revision> {
        let install = planned.install.clone();
        helm::run(self.helm, move |with, stop| with.render(&install, stop)).await
    }

    /// The objects of a revision that are not in the cluster any more.
    async fn missing(&self, revision: &Revision) -> Result<Vec<Rendered>> {
        let objects = super::objects::read(&revision.manifest, &revision.namespace)?;
        let asked = futures::stream::iter(objects).map(|object| async move {
            match self.cluster.read_manifest(&object.id).await {
                Ok(Some(_)) => Ok(None),
                Ok(None) | Err(Cause::NoKind { .. }) => Ok(Some(object)),
                // Who may not look cannot say that it is missing.
                Err(Cause::Forbidden { .. }) => Ok(None),
                Err(error) => Err(Error::from(error)),
            }
        });
        let answers: Vec<Option<Rendered>> = asked.buffered(AT_ONCE).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Asks the API server whether it would take the objects that change.
    async fn try_objects(
        &self,
        planned: &Planned,
        coming: &Coming,
        is_new: bool,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let namespace = planned.namespace();
        let is_changing = |id: &Id| coming.changes.iter().any(|change| change.object == *id);
        let mut reasons = Vec::new();
        for object in coming.objects.iter().filter(|object| is_changing(&object.id)) {
            let resource = self.kinds.resource(&object.id.api_version, &object.id.kind);
            let Some(resource) = resource else {
                notes.push(format!(
                    "{}: the cluster has no such kind yet, it was not tried",
                    object.id
                ));
                continue;
            };
            if resource.is_namespaced && is_new {
                continue;
            }
            match self.cluster.apply_manifest(&object.value, namespace, Mode::DryRun).await {
                // Its fields are helm's, which will not ask for them.
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
