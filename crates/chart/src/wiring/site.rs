//! What the site has for runtimes: where its models are, its CA, its issuer.

use types::destination::Destination;
use types::site::{ModelLayout, Site};

/// The name of the ConfigMap and of the Secret that `gantry deploy` puts the site's CA into.
pub const CA_NAME: &str = "gantry-ca";
/// The key of the CA in them.
pub const CA_KEY: &str = "ca.crt";

/// What the site has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offline {
    /// Where models are, the best first: of the first that a runtime can read it reads.
    pub models: Vec<Models>,
    /// The CA that signed the certificates of the site's services.
    pub ca: Option<Ca>,
    /// The issuer of the cluster's certificates: the name of a `ClusterIssuer`.
    pub issuer: Option<String>,
    /// The namespace of the release, where it is known: a pod mounts only claims of its own.
    pub namespace: Option<String>,
    /// The hosts of the site's services; what talks to one of them gets the CA.
    pub hosts: Vec<String>,
}

/// A place where models are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Models {
    /// A claim, mounted into the pods that read it.
    Claim {
        /// Its namespace.
        namespace: String,
        /// Its name.
        claim: String,
        /// The folder in it, relative; empty for its root.
        folder: String,
        /// How the models lie there.
        layout: ModelLayout,
    },
    /// A depot of Gantry's, or anything that speaks the protocol of the Hugging Face Hub.
    Depot {
        /// What `HF_ENDPOINT` is set to.
        url: String,
    },
    /// A bucket.
    Bucket {
        /// `s3://bucket/path`.
        url: String,
        /// The server, where it is not the provider's own.
        endpoint: Option<String>,
        /// How the models lie there.
        layout: ModelLayout,
    },
}

/// The site's CA in the cluster: a PEM file in an object of the release's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ca {
    /// What holds it.
    pub from: CaFrom,
    /// The object's name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// What holds the CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaFrom {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl Offline {
    /// What a site says of itself, for a release in this namespace. The CA is taken to be in the
    /// ConfigMap [`CA_NAME`] where the site has one.
    pub fn of_site(site: &Site, namespace: Option<&str>) -> Self {
        let depot = site.depot.as_ref().map(|depot| depot.url.clone());
        let mut models: Vec<Models> = site
            .models
            .iter()
            .filter_map(|target| {
                let layout = target.layout;
                match &target.to {
                    Destination::Claim(own) => Some(Models::Claim {
                        namespace: own.namespace.clone(),
                        claim: own.name.clone(),
                        folder: own.folder.clone(),
                        layout,
                    }),
                    Destination::Bucket(bucket) => Some(Models::Bucket {
                        url: bucket.to_string(),
                        endpoint: target.endpoint.clone(),
                        layout,
                    }),
                    Destination::Depot => Some(Models::Depot { url: depot.clone()? }),
                    // A folder is on a machine, not in a pod.
                    Destination::Folder(_) => None,
                }
            })
            .collect();
        // A depot is there for whom nothing else serves.
        if let Some(url) = depot.filter(|_| !models.iter().any(is_depot)) {
            models.push(Models::Depot { url });
        }
        // One file holds the CAs of all of the site's services.
        let cas = site.models.iter().map(|target| &target.ca).chain([&site.registry.ca]);
        let ca = cas.flatten().next().map(|_| Ca {
            from: CaFrom::ConfigMap,
            name: CA_NAME.into(),
            key: CA_KEY.into(),
        });
        let mut hosts = Vec::new();
        hosts.extend(site.registry.prefix().ok().map(|prefix| prefix.registry().to_owned()));
        hosts.extend(models.iter().filter_map(host));
        let namespace = namespace.map(str::to_owned);
        Self { models, ca, issuer: site.cluster_issuer.clone(), namespace, hosts }
    }
}

fn is_depot(models: &Models) -> bool {
    matches!(models, Models::Depot { .. })
}

fn host(models: &Models) -> Option<String> {
    let url = match models {
        Models::Depot { url } => url,
        Models::Bucket { endpoint, .. } => endpoint.as_ref()?,
        Models::Claim { .. } => return None,
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
        let offline = Offline::of_site(&Site::parse("site.yaml", text).unwrap(), Some("ai"));
        assert_eq!(offline.models.len(), 4);
        let Models::Claim { claim, folder, .. } = &offline.models[1] else { unreachable!() };
        assert_eq!((claim.as_str(), folder.as_str()), ("all", "ollama"));
        assert_eq!(offline.hosts, ["r.internal:5000", "s3.internal", "d.internal:8443"]);
        assert_eq!(offline.ca.unwrap().name, CA_NAME);
    }
}
