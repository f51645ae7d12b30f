//! The registry from which a seeder pod downloads models: a depot (`gantry serve`) or the site's
//! registry, under the names that `gantry load` gives them there.

use std::collections::BTreeMap;
use std::path::Path;

use remote::site_registry::read_ca;
use store::Source;
use types::naming::{NamingRule, RegistryPrefix};
use types::site::Site;
use types::{Manifest, Root, RootKind};

use super::error::{Error, Result};
use super::order::ModelRegistry;
use crate::models::{self, ModelPlan};

/// How the content of models gets to the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeedRoute {
    /// From the depot or the site's registry; what neither has goes through the API server.
    #[default]
    Auto,
    /// From the depot only.
    Depot,
    /// From the site's registry only.
    Registry,
    /// Through the API server only.
    Api,
}

/// How the content gets to the pod, as the user chose it.
#[derive(Debug, Clone, Default)]
pub struct SeedRouteChoice {
    /// The route.
    pub via: SeedRoute,
    /// The URL of a depot that the pod can reach.
    pub depot: Option<String>,
}

/// The registry that the pod asks first; `None` if everything goes through the API server. `site` is
/// the site and the folder of its file.
pub(super) fn choose_registry(
    ways: &SeedRouteChoice,
    site: Option<(&Site, &Path)>,
    source: &dyn Source,
    plans: &[ModelPlan],
) -> Result<Option<ModelRegistry>> {
    let of_site = |(site, folder)| use_site_registry(site, folder, source, plans).map(Some);
    let known = site.and_then(|(site, _)| site.depot.as_ref()).map(|depot| depot.url.as_str());
    // `auto` prefers a depot that is named on the command line, then the site's registry; the depot of
    // site.yaml is used only if `depot` is asked for.
    match (ways.via, ways.depot.as_deref(), site) {
        (SeedRoute::Api, _, _) | (SeedRoute::Auto, None, None) => Ok(None),
        (SeedRoute::Depot | SeedRoute::Auto, Some(url), _) => {
            use_depot(url, source, plans).map(Some)
        }
        (SeedRoute::Registry | SeedRoute::Auto, _, Some(site)) => of_site(site),
        (SeedRoute::Depot, None, _) => match known {
            Some(url) => use_depot(url, source, plans).map(Some),
            None => Err(Error::NoDepot),
        },
        (SeedRoute::Registry, _, None) => Err(Error::NoSiteRegistry),
    }
}

fn use_depot(url: &str, source: &dyn Source, plans: &[ModelPlan]) -> Result<ModelRegistry> {
    let url = url.trim_end_matches('/');
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let prefix: Option<RegistryPrefix> = host.and_then(|host| host.parse().ok());
    // A depot serves from the root of its host, so an address with a path cannot be right.
    let (Some(host), Some(prefix)) = (host.filter(|host| !host.contains('/')), prefix) else {
        return Err(Error::NotADepot { url: url.to_owned() });
    };
    // The depot names repositories with the source's host as the first part of the path.
    let repositories = map_blobs_to_repositories(&prefix, NamingRule::HostPath, source, plans)?;
    let (host, url) = (host.to_owned(), url.to_owned());
    Ok(ModelRegistry { host, url, ca: None, repositories, bytes_per_second: None })
}

fn use_site_registry(
    site: &Site,
    folder: &Path,
    source: &dyn Source,
    plans: &[ModelPlan],
) -> Result<ModelRegistry> {
    let registry = &site.registry;
    let prefix = registry.parse_prefix()?;
    let ca = read_ca(&registry.with_paths_below(folder))?;
    let scheme = if registry.plain_http { "http" } else { "https" };
    let host = prefix.registry().to_owned();
    let url = format!("{scheme}://{host}");
    let repositories = map_blobs_to_repositories(&prefix, registry.naming, source, plans)?;
    Ok(ModelRegistry { host, url, ca, repositories, bytes_per_second: None })
}

/// Maps each blob that the plans need to a repository of the registry that contains it.
fn map_blobs_to_repositories(
    prefix: &RegistryPrefix,
    naming: NamingRule,
    source: &dyn Source,
    plans: &[ModelPlan],
) -> Result<BTreeMap<types::Digest, String>> {
    let wanted: std::collections::BTreeSet<_> =
        plans.iter().flat_map(ModelPlan::files).map(|(_, content)| content.digest).collect();
    let is_model = |root: &Root| matches!(root.kind, RootKind::Model | RootKind::Ollama);
    let mut repositories = BTreeMap::new();
    for root in source.roots().map_err(models::Error::from)?.into_iter().filter(is_model) {
        let bytes = store::read_blob(source, &root.descriptor.digest, Manifest::MAX_SIZE)
            .map_err(models::Error::from)?;
        let manifest = Manifest::parse(&root.name.to_string(), &bytes)?;
        let target = prefix.site_reference(naming, &root.name)?;
        // A blob in several repositories may be pulled from any of them: its digest is what counts.
        for blob in manifest.config.iter().chain(&manifest.layers) {
            if wanted.contains(&blob.digest) {
                repositories.insert(blob.digest, target.repository().to_owned());
            }
        }
    }
    Ok(repositories)
}
