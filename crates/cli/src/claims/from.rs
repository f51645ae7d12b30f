//! Which registry a seeder pod asks for the models: a depot, or the site's, by the names that `load`
//! gives them there.

use std::collections::BTreeMap;
use std::path::Path;

use land::claim::From;
use land::models::Plan;
use store::Source;
use types::naming::{Naming, Prefix};
use types::site::Site;
use types::{Kind, Manifest, Root};

use super::Via;
use crate::error::{CommandError, Result};

/// The ways that bytes may take.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ways {
    /// Which one is meant.
    pub(crate) via: Via,
    /// A depot that pods reach.
    pub(crate) depot: Option<String>,
}

/// The registry that the pod asks first; `None` when all comes over the API server. `site` is the
/// site's description and the folder of its file.
pub(crate) fn registry(
    ways: &Ways,
    site: Option<(&Site, &Path)>,
    source: &dyn Source,
    plans: &[Plan],
) -> Result<Option<From>> {
    let missing = |what: &str, hint: &str| Err(CommandError::usage(what).hint(hint));
    let of_site = |(site, folder)| of_site(site, folder, source, plans).map(Some);
    let known = site.and_then(|(site, _)| site.depot.as_ref()).map(|depot| depot.url.as_str());
    match (ways.via, ways.depot.as_deref(), site) {
        (Via::Api, _, _) | (Via::Auto, None, None) => Ok(None),
        (Via::Depot | Via::Auto, Some(url), _) => depot(url, source, plans).map(Some),
        (Via::Registry | Via::Auto, _, Some(site)) => of_site(site),
        (Via::Depot, None, _) => match known {
            Some(url) => depot(url, source, plans).map(Some),
            None => missing(
                "it is not known where the depot is",
                "name it with --from-depot URL, or depot: {url: …} in site.yaml",
            ),
        },
        (Via::Registry, _, None) => {
            missing("it is not known which registry is meant", "name the site with --site")
        }
    }
}

fn depot(url: &str, source: &dyn Source, plans: &[Plan]) -> Result<From> {
    let url = url.trim_end_matches('/');
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let prefix: Option<Prefix> = host.and_then(|host| host.parse().ok());
    let (Some(host), Some(prefix)) = (host.filter(|host| !host.contains('/')), prefix) else {
        return Err(CommandError::usage(format!("--from-depot {url:?} is no address of a depot"))
            .hint("write http://HOST:PORT or https://HOST:PORT"));
    };
    let repositories = repositories(&prefix, Naming::HostPath, source, plans)?;
    Ok(From { host: host.to_owned(), url: url.to_owned(), ca: None, repositories })
}

fn of_site(site: &Site, folder: &Path, source: &dyn Source, plans: &[Plan]) -> Result<From> {
    let registry = &site.registry;
    let prefix = registry.prefix()?;
    let ca = match &registry.ca {
        Some(path) => {
            let path = folder.join(path);
            let pem = std::fs::read_to_string(&path).map_err(|cause| {
                CommandError::usage(format!(
                    "cannot read the registry's ca {}: {cause}",
                    path.display()
                ))
            })?;
            Some(pem)
        }
        None => None,
    };
    let scheme = if registry.plain_http { "http" } else { "https" };
    let host = prefix.registry().to_owned();
    let url = format!("{scheme}://{host}");
    let repositories = repositories(&prefix, registry.naming, source, plans)?;
    Ok(From { host, url, ca, repositories })
}

/// Which repository has which blob of the plans.
fn repositories(
    prefix: &Prefix,
    naming: Naming,
    source: &dyn Source,
    plans: &[Plan],
) -> Result<BTreeMap<types::Digest, String>> {
    let wanted: std::collections::BTreeSet<_> =
        plans.iter().flat_map(Plan::files).map(|(_, content)| content.digest).collect();
    let is_model = |root: &Root| matches!(root.kind, Kind::Model | Kind::Ollama);
    let mut repositories = BTreeMap::new();
    for root in source.roots()?.into_iter().filter(is_model) {
        let bytes = store::document(source, &root.descriptor.digest, Manifest::MAX_SIZE)?;
        let manifest = Manifest::parse(&root.name.to_string(), &bytes)?;
        let target = prefix.target(naming, &root.name)?;
        for blob in manifest.config.iter().chain(&manifest.layers) {
            if wanted.contains(&blob.digest) {
                repositories.insert(blob.digest, target.repository().to_owned());
            }
        }
    }
    Ok(repositories)
}
