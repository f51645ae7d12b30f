//! What the site offers to the containers of a release: where its models are, its CA, and its
//! issuer of certificates. Made from `site.yaml`.

use types::destination::ModelDestination;
use types::site::{ModelLayout, Site};

/// The name of the ConfigMap and of the Secret that `gantry deploy` puts the site's CA into.
pub const CA_NAME: &str = "gantry-ca";
/// The key of the CA in them.
pub const CA_KEY: &str = "ca.crt";

/// What the site offers to containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteServices {
    /// Where models are, the best first. A runtime uses the first one that it can read.
    pub models: Vec<ModelSource>,
    /// The CA that signed the certificates of the site's services.
    pub ca: Option<SiteCa>,
    /// The issuer of the cluster's certificates: the name of a `ClusterIssuer`.
    pub issuer: Option<String>,
    /// The namespace of the release, if known. A pod can only mount claims of its own namespace.
    pub namespace: Option<String>,
    /// The hosts of the site's services, with port; containers that name one of them get the CA.
    pub hosts: Vec<String>,
}

/// A location of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A PersistentVolumeClaim, mounted into the pods that read it.
    Claim {
        /// Its namespace.
        namespace: String,
        /// Its name.
        claim: String,
        /// The folder in it, relative; empty for its root.
        folder: String,
        /// The layout of the models in it.
        layout: ModelLayout,
    },
    /// A Gantry depot, or another server with the HTTP API of the Hugging Face Hub.
    Depot {
        /// The URL for `HF_ENDPOINT`.
        url: String,
    },
    /// A bucket.
    Bucket {
        /// `s3://bucket/path`.
        url: String,
        /// The URL of the server, if it is not the cloud provider's own.
        endpoint: Option<String>,
        /// The layout of the models in it.
        layout: ModelLayout,
    },
}

/// The site's CA in the cluster: a PEM file in a ConfigMap or Secret of the release's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteCa {
    /// The kind of the object that has it.
    pub from: CaObjectKind,
    /// The object's name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// The kind of object that has the CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaObjectKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl SiteServices {
    /// Reads a site for a release in this namespace. If the site has a CA, it is expected in the
    /// ConfigMap [`CA_NAME`], where `gantry deploy` puts it.
    pub fn from_site(site: &Site, namespace: Option<&str>) -> Self {
        let depot = site.depot.as_ref().map(|depot| depot.url.clone());
        let mut models: Vec<ModelSource> = site
            .models
            .iter()
            .filter_map(|target| {
                let layout = target.layout;
                match &target.to {
                    ModelDestination::Claim(own) => Some(ModelSource::Claim {
                        namespace: own.namespace.clone(),
                        claim: own.name.clone(),
                        folder: own.folder.clone(),
                        layout,
                    }),
                    ModelDestination::Bucket(bucket) => Some(ModelSource::Bucket {
                        url: bucket.to_string(),
                        endpoint: target.endpoint.clone(),
                        layout,
                    }),
                    ModelDestination::Depot => Some(ModelSource::Depot { url: depot.clone()? }),
                    // A folder is on some machine and not reachable from a pod.
                    ModelDestination::Folder(_) => None,
                }
            })
            .collect();
        // The depot serves runtimes that can read nothing else, so it comes last.
        if let Some(url) = depot.filter(|_| !models.iter().any(is_depot)) {
            models.push(ModelSource::Depot { url });
        }
        // `gantry deploy` writes the CAs of all services into one file, so one CA anywhere is
        // enough.
        let cas = site.models.iter().map(|target| &target.ca).chain([&site.registry.ca]);
        let ca = cas.flatten().next().map(|_| SiteCa {
            from: CaObjectKind::ConfigMap,
            name: CA_NAME.into(),
            key: CA_KEY.into(),
        });
        let mut hosts = Vec::new();
        hosts.extend(site.registry.parse_prefix().ok().map(|prefix| prefix.registry().to_owned()));
        hosts.extend(models.iter().filter_map(host_of_source));
        let namespace = namespace.map(str::to_owned);
        Self { models, ca, issuer: site.cluster_issuer.clone(), namespace, hosts }
    }
}

/// Whether models are served by a depot.
fn is_depot(models: &ModelSource) -> bool {
    matches!(models, ModelSource::Depot { .. })
}

/// The host, with port, of the server that has the models; `None` for claims and provider's
/// buckets.
fn host_of_source(models: &ModelSource) -> Option<String> {
    let url = match models {
        ModelSource::Depot { url } => url,
        ModelSource::Bucket { endpoint, .. } => endpoint.as_ref()?,
        ModelSource::Claim { .. } => return None,
    };
    let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    Some(rest.split('/').next().unwrap_or(rest).to_owned()).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_site_says_where_its_models_are_and_who_talks_to_it() {
        let text = "version: 1\nregistry: {url: 'r.internal:5000/ai', ca: ca.pem}\nmodels:\n\
            - {to: 'pvc://ai/models'}\n- {to: 'pvc://ai/all/ollama', layout: ollama}\n\
            - {to: 's3://m/w', layout: sie, endpoint: 'https://s3.internal'}\n- {to: ./folder}\ndepot: {url: 'https://d.internal:8443/'}\n";
        let offline = SiteServices::from_site(&Site::parse("site.yaml", text).unwrap(), Some("ai"));
        assert_eq!(offline.models.len(), 4);
        let ModelSource::Claim { claim, folder, .. } = &offline.models[1] else { unreachable!() };
        assert_eq!((claim.as_str(), folder.as_str()), ("all", "ollama"));
        assert_eq!(offline.hosts, ["r.internal:5000", "s3.internal", "d.internal:8443"]);
        assert_eq!(offline.ca.unwrap().name, CA_NAME);
    }
}
