//! Gathers what `gantry check` examines: everything that is read from this machine, before the first
//! request to the cluster.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deploy::check::{
    CheckName, CheckSubject, CheckedModelTarget, CheckedRelease, ModelVerification, SiteRegistry,
    TargetVerifier,
};
use deploy::inference::recognise::InferenceRules;
use net::Credentials;
use remote::site_registry::RegistryConnection;
use serde_json::Value;
use store::progress::SilentProgress;
use types::destination::ModelDestination;
use types::input::{ChartSource, Input};
use types::lock::{Lock, LockedChart, LockedModel};
use types::site::{ModelLayout, ModelTarget, Site, site_folder};

use super::CheckArgs;
use crate::charts;
use crate::claims;
use crate::clusters;
use crate::context::CommandContext;
use crate::error::{CommandError, Result};
use crate::{environment, model_targets};

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
    let registry =
        site.as_ref().map(|site| connect_site_registry(context, site, folder)).transpose()?;
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
                true => render_locked_chart(context, input.as_ref(), &chart),
                false => Err("its chart was not rendered".to_owned()),
            };
            (chart, manifests)
        })
        .collect();
    let models = site.iter().flat_map(|site| {
        site.models.iter().map(|target| describe_model_target(context, site, target, lock.as_ref()))
    });
    let models = models.collect();
    Ok(CheckInput { site, registry, ca, lock, input, releases, models })
}

impl CheckInput {
    /// The model targets. A bucket has an async runtime of its own, which must not be dropped inside the
    /// caller's: the caller has to hold these until its runtime has ended.
    pub(super) fn model_targets(&self) -> Vec<CheckedModelTarget> {
        self.models.clone()
    }

    /// Connects to the cluster and returns everything that the checks need.
    pub(super) async fn connect_subject(self, args: &CheckArgs) -> Result<CheckSubject> {
        let cluster = clusters::connect_cluster(&args.cluster, self.site.as_ref()).await?;
        let input = self.input.as_ref();
        let kube_version = |chart: &LockedChart| {
            input
                .and_then(|input| find_input_chart(input, chart))
                .and_then(|one| one.kube_version.clone())
        };
        let releases = self
            .releases
            .into_iter()
            .map(|(chart, manifests)| CheckedRelease {
                namespace: chart
                    .namespace
                    .clone()
                    .unwrap_or_else(|| cluster.namespace().to_owned()),
                kube_version: kube_version(&chart),
                name: chart.release,
                manifests,
            })
            .collect::<Vec<_>>();
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

/// The locked charts of the named releases, or of all releases if none is named.
fn select_locked_charts(lock: Option<&Lock>, named: &[String]) -> Result<Vec<LockedChart>> {
    let all = lock.map(|lock| lock.charts.clone()).unwrap_or_default();
    if named.is_empty() {
        return Ok(all);
    }
    for name in named {
        if !all.iter().any(|chart| chart.release == *name) {
            let known: Vec<&str> = all.iter().map(|chart| chart.release.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(CommandError::usage_error(format!("gantry.lock has no release {name:?}"))
                .with_hint(format!("its releases are: {known}")));
        }
    }
    Ok(all.into_iter().filter(|chart| named.contains(&chart.release)).collect())
}

/// Refuses a declared check for a release that is not locked, which is most likely a typing error.
fn require_locked_releases(input: Option<&Input>, lock: Option<&Lock>) -> Result<()> {
    let charts = lock.map(|lock| lock.charts.as_slice()).unwrap_or_default();
    for check in input.iter().flat_map(|input| &input.checks) {
        if let Some(release) = &check.release
            && !charts.iter().any(|chart| chart.release == *release)
        {
            let name = &check.name;
            let message = format!(
                "checks: {name:?} is for the release {release:?}, which is not in gantry.lock"
            );
            let known: Vec<&str> = charts.iter().map(|chart| chart.release.as_str()).collect();
            let hint = match known.is_empty() {
                true => "lock the chart first: gantry lock".to_owned(),
                false => format!("its releases are: {}", known.join(", ")),
            };
            return Err(CommandError::usage_error(message).with_hint(hint));
        }
    }
    Ok(())
}

fn connect_site_registry(
    context: &CommandContext,
    site: &Site,
    folder: &Path,
) -> Result<SiteRegistry> {
    let registry = site.registry.with_paths_below(folder);
    let credentials = Credentials::from_system();
    let opened = RegistryConnection::new(&context.config, &registry, credentials, None)?;
    Ok(SiteRegistry {
        prefix: registry.parse_prefix()?,
        naming: registry.naming,
        pull_secret: registry.pull_secret,
        client: opened.client,
        mirrors: opened.mirrors,
        ca: opened.ca,
    })
}

/// The chart of gantry.yaml that a locked chart belongs to.
fn find_input_chart<'a>(
    input: &'a Input,
    locked: &LockedChart,
) -> Option<&'a types::input::InputChart> {
    input.charts.iter().find(|chart| {
        let name = chart.release.as_deref();
        let source = match &chart.source {
            ChartSource::Local(path) => path.display().to_string(),
            ChartSource::Oci { repository } => format!("oci://{repository}"),
            ChartSource::Repository { url, .. } => url.clone(),
        };
        // Without `release:` in gantry.yaml the release is named after the chart, which only the lock knows.
        let is_named = name.is_none_or(|name| name == locked.release);
        is_named && source.trim_end_matches('/') == locked.chart.trim_end_matches('/')
    })
}

/// Renders a locked chart. Only a local chart can be rendered, since others would need the network.
fn render_locked_chart(
    context: &CommandContext,
    input: Option<&Input>,
    locked: &LockedChart,
) -> std::result::Result<Vec<Value>, String> {
    let Some(input) = input else {
        return Err(
            "there is no gantry.yaml beside gantry.lock, so its values are not known".into()
        );
    };
    let Some(chart) = find_input_chart(input, locked) else {
        return Err("gantry.yaml has no chart of this release".into());
    };
    if !matches!(chart.source, ChartSource::Local(_)) {
        return Err(format!(
            "its chart {} is not on this machine, so the objects it will create are not known",
            locked.chart
        ));
    }
    let release = charts::open_chart(context, chart, &[]).map_err(|error| error.to_line())?;
    let text = release.render(None).map_err(|error| error.to_string())?;
    let manifests = chart::manifest::Manifests::read(&text);
    Ok(manifests.documents.into_iter().map(|document| document.value).collect())
}

/// A model target of site.yaml, the models that should be there, and how to verify them.
fn describe_model_target(
    context: &CommandContext,
    site: &Site,
    target: &ModelTarget,
    lock: Option<&Lock>,
) -> CheckedModelTarget {
    let look = match &target.to {
        ModelDestination::Depot => {
            TargetVerifier::Unavailable("a depot verifies what it serves when it starts".to_owned())
        }
        ModelDestination::Claim(claim) => {
            let (image, claim) = (claims::build_site_image(site), claim.clone());
            let image = image.map_err(|error| error.to_line());
            TargetVerifier::InCluster(Arc::new(move |cluster| {
                let (image, claim) = (image.clone(), claim.clone());
                Box::pin(async move {
                    let checked = claims::verify_claim(cluster, image?, &claim).await;
                    checked.map(convert_verification).map_err(|error| error.to_line())
                })
            }))
        }
        ModelDestination::Folder(_) | ModelDestination::Bucket(_) => {
            let opened = model_targets::OpenModelTarget::open(
                context,
                &target.to,
                model_targets::build_bucket_access(target),
            );
            let opened = opened.map_err(|error| error.to_line());
            TargetVerifier::Local(Arc::new(move || {
                let checked = opened.as_ref().map_err(String::clone)?.verify(&SilentProgress);
                checked.map(convert_verification).map_err(|error| error.to_line())
            }))
        }
    };
    let models = lock.iter().flat_map(|lock| &lock.models);
    let wanted = models.filter_map(|model| find_model_name(target, model)).collect();
    CheckedModelTarget { name: target.to.to_string(), wanted, verifier: look }
}

/// The name of a model if it belongs to this target: the layout must suit it, and the target must name
/// it or take all models.
fn find_model_name(target: &ModelTarget, model: &LockedModel) -> Option<String> {
    let (name, reference) = match model {
        LockedModel::Hub(model) if target.layout != ModelLayout::Ollama => {
            (model.hf.to_string(), &model.reference)
        }
        LockedModel::Ollama(model) if target.layout == ModelLayout::Ollama => {
            (model.ollama.clone(), &model.reference)
        }
        _ => return None,
    };
    let is_named =
        |named: &String| named.eq_ignore_ascii_case(&name) || *named == reference.to_string();
    (target.models.is_empty() || target.models.iter().any(is_named)).then_some(name)
}

fn convert_verification(checked: land::models::ModelVerifyReport) -> ModelVerification {
    let bad = |bad: &land::models::DamagedFile| {
        format!("{} of {}: {}", bad.path.display(), bad.model, bad.fault)
    };
    ModelVerification {
        models: checked.models.iter().map(|(name, _)| name.clone()).collect(),
        bytes: checked.bytes,
        bad: checked.bad.iter().map(bad).collect(),
    }
}
