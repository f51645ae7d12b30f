//! What `gantry check` looks at: everything that is read from this machine, before the cluster is
//! asked for the first time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deploy::check::{Look, ModelPlace, Name, Release, SiteRegistry, Subject, Verified};
use deploy::inference::recognise::Rules;
use serde_json::Value;
use store::progress::Silent;
use types::destination::Destination;
use types::input::{ChartSource, Input};
use types::lock::{Chart, Lock, Model};
use types::site::{ModelLayout, ModelTarget, Site};

use super::Args;
use crate::charts;
use crate::claims;
use crate::clusters;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::{place, world};

/// All that is known before the cluster is asked.
pub(super) struct Plan {
    site: Option<Site>,
    registry: Option<SiteRegistry>,
    ca: Vec<PathBuf>,
    lock: Option<Lock>,
    input: Option<Input>,
    releases: Vec<(Chart, std::result::Result<Vec<Value>, String>)>,
    models: Vec<ModelPlace>,
}

/// Reads everything that is on this machine; bad input ends here.
pub(super) fn plan(context: &Context, args: &Args, names: &[Name]) -> Result<Plan> {
    let site = args.site.as_deref().map(world::site).transpose()?;
    let input = world::optional_input(context)?;
    let lock = world::optional_lock(context)?;
    let charts = releases(lock.as_ref(), &args.releases)?;
    check_declared(input.as_ref(), lock.as_ref())?;
    let folder = args.site.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new("."));
    let mut ca = context.config.ca.clone();
    let own = site.iter().filter_map(|site| site.registry.ca.as_ref());
    ca.extend(own.map(|path| folder.join(path)));
    let registry = site.as_ref().map(|site| registry(context, site, &ca)).transpose()?;
    // Only these look at what a chart renders to.
    let needs_render =
        names.iter().any(|name| matches!(name, Name::Rights | Name::Storage | Name::Quota));
    let releases = charts
        .into_iter()
        .map(|chart| {
            let manifests = match needs_render {
                true => render(context, input.as_ref(), &chart),
                false => Err("its chart was not rendered".to_owned()),
            };
            (chart, manifests)
        })
        .collect();
    let models = site.iter().flat_map(|site| {
        site.models.iter().map(|target| place(context, site, target, lock.as_ref()))
    });
    let models = models.collect();
    Ok(Plan { site, registry, ca, lock, input, releases, models })
}

impl Plan {
    /// The places of models. A bucket turns its sockets on a runtime of its own, which has to end
    /// after the one that asks: the caller holds them so long.
    pub(super) fn models(&self) -> Vec<ModelPlace> {
        self.models.clone()
    }

    /// Finds the cluster and puts everything together.
    pub(super) async fn connect(self, args: &Args) -> Result<Subject> {
        let cluster = clusters::connect(&args.cluster, self.site.as_ref()).await?;
        let input = self.input.as_ref();
        let kube_version = |chart: &Chart| {
            input.and_then(|input| chart_of(input, chart)).and_then(|one| one.kube_version.clone())
        };
        let releases = self
            .releases
            .into_iter()
            .map(|(chart, manifests)| Release {
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
        Ok(Subject {
            cluster,
            registry: self.registry,
            storage_class: self.site.and_then(|site| site.storage_class),
            checks: checks.into_iter().filter(|one| is_asked(one.release.as_ref())).collect(),
            servers: Rules::builtin().with(&own),
            lock: self.lock,
            releases,
            deployed: args.deployed(),
            models: self.models,
            ca: self.ca,
        })
    }
}

/// The charts of the releases that were named; all when none was.
fn releases(lock: Option<&Lock>, named: &[String]) -> Result<Vec<Chart>> {
    let all = lock.map(|lock| lock.charts.clone()).unwrap_or_default();
    if named.is_empty() {
        return Ok(all);
    }
    for name in named {
        if !all.iter().any(|chart| chart.release == *name) {
            let known: Vec<&str> = all.iter().map(|chart| chart.release.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(CommandError::usage(format!("gantry.lock has no release {name:?}"))
                .hint(format!("it has: {known}")));
        }
    }
    Ok(all.into_iter().filter(|chart| named.contains(&chart.release)).collect())
}

/// A declared check that belongs to a release that nobody knows is a slip of the pen.
fn check_declared(input: Option<&Input>, lock: Option<&Lock>) -> Result<()> {
    let charts = lock.map(|lock| lock.charts.as_slice()).unwrap_or_default();
    for check in input.iter().flat_map(|input| &input.checks) {
        if let Some(release) = &check.release
            && !charts.iter().any(|chart| chart.release == *release)
        {
            let name = &check.name;
            let message = format!(
                "the check {name:?} belongs to the release {release:?}, which gantry.lock does not have"
            );
            let known: Vec<&str> = charts.iter().map(|chart| chart.release.as_str()).collect();
            let hint = match known.is_empty() {
                true => "lock the chart first: gantry lock".to_owned(),
                false => format!("it has: {}", known.join(", ")),
            };
            return Err(CommandError::usage(message).hint(hint));
        }
    }
    Ok(())
}

fn registry(context: &Context, site: &Site, ca: &[PathBuf]) -> Result<SiteRegistry> {
    let prefix = site.registry.prefix()?;
    let host = prefix.registry().to_owned();
    let mut config = context.config.clone();
    if site.registry.plain_http {
        config.plain_http.push(host);
    } else if site.registry.ca.is_some() {
        // A loopback registry with a CA speaks TLS all the same.
        config.mirrors.entry(host.clone()).or_insert_with(|| format!("https://{host}"));
    }
    Ok(SiteRegistry {
        prefix,
        naming: site.registry.naming,
        pull_secret: site.registry.pull_secret.clone(),
        client: net::Client::builder().ca(ca.iter().cloned()).build()?,
        mirrors: net::Mirrors::new(&config.mirrors, &config.plain_http)?,
        ca: ca.to_vec(),
    })
}

/// The input's chart of a release of the lock.
fn chart_of<'a>(input: &'a Input, locked: &Chart) -> Option<&'a types::input::Chart> {
    input.charts.iter().find(|chart| {
        let name = chart.release.as_deref();
        let source = match &chart.source {
            ChartSource::Local(path) => path.display().to_string(),
            ChartSource::Oci { repository } => format!("oci://{repository}"),
            ChartSource::Repository { url, .. } => url.clone(),
        };
        let is_named = name.is_none_or(|name| name == locked.release);
        is_named && source.trim_end_matches('/') == locked.chart.trim_end_matches('/')
    })
}

/// What a release renders to. Only a chart that lies here can be rendered without the way out.
fn render(
    context: &Context,
    input: Option<&Input>,
    locked: &Chart,
) -> std::result::Result<Vec<Value>, String> {
    let Some(input) = input else {
        return Err("there is no gantry.yaml beside the lock, so its values are not known".into());
    };
    let Some(chart) = chart_of(input, locked) else {
        return Err("gantry.yaml has no chart of this release".into());
    };
    if !matches!(chart.source, ChartSource::Local(_)) {
        return Err(format!(
            "its chart {} does not lie on this machine, so what it will make is not known",
            locked.chart
        ));
    }
    let release = charts::open(context, chart, &[]).map_err(|error| error.line())?;
    let text = release.render(None).map_err(|error| error.to_string())?;
    let manifests = chart::manifest::Manifests::read(&text);
    Ok(manifests.documents.into_iter().map(|document| document.value).collect())
}

/// A place of models of site.yaml, what should be there, and how it is looked at.
fn place(context: &Context, site: &Site, target: &ModelTarget, lock: Option<&Lock>) -> ModelPlace {
    let look = match &target.to {
        Destination::Depot => Look::Not("a depot proves what it serves when it starts".to_owned()),
        Destination::Claim(claim) => {
            let (image, claim) = (claims::site_image(site), claim.clone());
            let image = image.map_err(|error| error.line());
            Look::Inside(Arc::new(move |cluster| {
                let (image, claim) = (image.clone(), claim.clone());
                Box::pin(async move {
                    let checked = claims::verify(cluster, image?, &claim).await;
                    checked.map(verified).map_err(|error| error.line())
                })
            }))
        }
        Destination::Folder(_) | Destination::Bucket(_) => {
            let opened = place::Opened::new(context, &target.to, place::access(target));
            let opened = opened.map_err(|error| error.line());
            Look::Verify(Arc::new(move || {
                let checked = opened.as_ref().map_err(String::clone)?.verify(&Silent);
                checked.map(verified).map_err(|error| error.line())
            }))
        }
    };
    let models = lock.iter().flat_map(|lock| &lock.models);
    let wanted = models.filter_map(|model| wanted(target, model)).collect();
    ModelPlace { name: target.to.to_string(), wanted, look }
}

/// A model as people call it, where it goes to this place: its layout has room for it, and the place
/// names it or takes all.
fn wanted(target: &ModelTarget, model: &Model) -> Option<String> {
    let (name, reference) = match model {
        Model::Hub(model) if target.layout != ModelLayout::Ollama => {
            (model.hf.to_string(), &model.reference)
        }
        Model::Ollama(model) if target.layout == ModelLayout::Ollama => {
            (model.ollama.clone(), &model.reference)
        }
        _ => return None,
    };
    let is_named =
        |named: &String| named.eq_ignore_ascii_case(&name) || *named == reference.to_string();
    (target.models.is_empty() || target.models.iter().any(is_named)).then_some(name)
}

fn verified(checked: land::models::Checked) -> Verified {
    let bad =
        |bad: &land::models::Bad| format!("{} of {}: {}", bad.path.display(), bad.model, bad.fault);
    Verified {
        models: checked.models.iter().map(|(name, _)| name.clone()).collect(),
        bytes: checked.bytes,
        bad: checked.bad.iter().map(bad).collect(),
    }
}
