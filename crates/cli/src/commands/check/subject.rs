//! Gathers what `gantry check` examines: everything that is read from this machine, before the first
//! request to the cluster.

use std::path::{Path, PathBuf};

use deploy::check::{
    CheckName, CheckSubject, CheckedModelTarget, CheckedRelease, SiteRegistry, find_input_chart,
    render_locked_chart, require_locked_releases, select_locked_charts,
};
use deploy::inference::recognise::InferenceRules;
use deploy::prepare::choose_namespace;
use net::Credentials;
use remote::site_registry::RegistryConnection;
use serde_json::Value;
use types::input::Input;
use types::lock::{Lock, LockedChart};
use types::site::{Site, site_folder};

use super::args::CheckArgs;
use crate::clusters;
use crate::context::CommandContext;
use crate::environment;
use crate::error::Result;

/// Everything that is known before the first request to the cluster.
pub(super) struct CheckInput {
    site: Option<Site>,
    registry: Option<SiteRegistry>,
    ca: Vec<PathBuf>,
    lock: Option<Lock>,
    input: Option<Input>,
    releases: Vec<(LockedChart, std::result::Result<Vec<Value>, String>)>,
    models: Vec<CheckedModelTarget>,
}

/// Reads everything that is on this machine, and refuses bad input.
pub(super) fn read_check_input(
    context: &CommandContext,
    args: &CheckArgs,
    names: &[CheckName],
) -> Result<CheckInput> {
    let site = args.site.as_deref().map(environment::read_site).transpose()?;
    let input = environment::read_optional_input(context)?;
    let lock = environment::read_optional_lock(context)?;
    let charts = select_locked_charts(lock.as_ref(), &args.releases)?;
    require_locked_releases(input.as_ref(), lock.as_ref())?;
    let folder = args.site.as_deref().map_or_else(|| Path::new("."), site_folder);
    let (registry, models) = match &site {
        None => (None, vec![]),
        Some(site) => {
            let registry = site.registry.with_paths_below(folder);
            let credentials = Credentials::from_system();
            let opened = RegistryConnection::new(&context.config, &registry, credentials, None)?;
            let config = &context.config;
            let models = CheckedModelTarget::list_of_site(site, folder, lock.as_ref(), config)?;
            (Some(SiteRegistry::new(&registry, opened)?), models)
        }
    };
    let ca = match &registry {
        Some(registry) => registry.ca.clone(),
        None => context.config.ca.clone(),
    };
    // Rendering runs helm, so it is done only for the checks that need manifests.
    let needs_render = names
        .iter()
        .any(|name| matches!(name, CheckName::Rights | CheckName::Storage | CheckName::Quota));
    let releases = charts
        .into_iter()
        .map(|chart| {
            let manifests = match needs_render {
                true => render_locked_chart(&context.directory, input.as_ref(), &chart),
                false => Err("its chart was not rendered".to_owned()),
            };
            (chart, manifests)
        })
        .collect();
    Ok(CheckInput { site, registry, ca, lock, input, releases, models })
}

impl CheckInput {
    /// Connects to the cluster and returns everything that the checks need.
    pub(super) async fn connect_subject(self, args: &CheckArgs) -> Result<CheckSubject> {
        let cluster = clusters::connect_cluster(&args.cluster, self.site.as_ref()).await?;
        let input = self.input.as_ref();
        let kube_version = |chart: &LockedChart| {
            input.and_then(|input| find_input_chart(input, chart)?.kube_version.clone())
        };
        let releases = self.releases.into_iter().map(|(chart, manifests)| CheckedRelease {
            namespace: choose_namespace(chart.namespace.as_deref(), &cluster),
            kube_version: kube_version(&chart),
            name: chart.release,
            manifests,
        });
        let releases = releases.collect();
        let checks = input.map(|input| input.checks.clone()).unwrap_or_default();
        let is_asked = |release: Option<&String>| {
            args.releases.is_empty() || release.is_some_and(|name| args.releases.contains(name))
        };
        let own = input.map(|input| input.inference.clone()).unwrap_or_default();
        Ok(CheckSubject {
            cluster,
            registry: self.registry,
            storage_class: self.site.and_then(|site| site.storage_class),
            checks: checks.into_iter().filter(|one| is_asked(one.release.as_ref())).collect(),
            servers: InferenceRules::builtin().with_own_rules(&own),
            lock: self.lock,
            releases,
            deployed: args.expected_deployment(),
            models: self.models,
            ca: self.ca,
        })
    }
}
