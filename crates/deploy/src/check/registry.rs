//! The site's registry, as it is reached from here: whether it answers, and whether it takes the
//! cluster's pull secret. (`node_pull` asks whether the nodes can.)

use std::path::PathBuf;

use cluster::Scope;
use cluster::objects::api::core::v1::Secret;
use net::{Access, Client, Credential, Credentials, Mirrors, Repeat, Request};
use types::Reference;
use types::naming::{Naming, Prefix};

use super::{Deployed, Finding, Name, State, Subject};

/// The type of a pull secret, and its key.
const PULL_SECRET: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");

/// The site's registry and the way to it.
#[derive(Clone)]
pub struct SiteRegistry {
    /// The registry and the path in it.
    pub prefix: Prefix,
    /// How names are made.
    pub naming: Naming,
    /// The pull secret's name in the cluster.
    pub pull_secret: Option<String>,
    /// The client, with the user's own credentials.
    pub client: Client,
    /// Where hosts really are.
    pub mirrors: Mirrors,
    /// Further certificate authorities.
    pub ca: Vec<PathBuf>,
}

impl SiteRegistry {
    /// The registry as a reader.
    pub(super) fn reader(&self) -> remote::oci::Registry {
        remote::oci::Registry::new(&self.client, &self.mirrors, self.prefix.registry())
    }

    /// An image's name at the site.
    pub(super) fn target(&self, reference: &Reference) -> types::Result<Reference> {
        self.prefix.target(self.naming, reference)
    }

    /// Logs in and asks for the version of the API (distribution-spec, "Determining support").
    async fn greet(&self, client: &Client, subject: &Subject) -> net::Result<()> {
        let endpoint = self.mirrors.registry(self.prefix.registry());
        let mut images = subject.lock.iter().flat_map(|lock| &lock.images);
        let repository = images.find_map(|image| self.target(&image.reference).ok());
        // A token is for a repository: one that will be pulled.
        let scope = repository.map_or_else(String::new, |reference| {
            format!("repository:{}:pull", reference.repository())
        });
        let request = Request::get(&format!("{}/v2/", endpoint.base))?
            .access(Access { server: endpoint.server, scope });
        client.send(&request, Repeat::Safe).await?.success().await.map(drop)
    }
}

/// Whether the registry answers.
pub(super) async fn check(subject: &Subject) -> Vec<Finding> {
    let what = "the registry from here";
    let Some(registry) = &subject.registry else { return vec![no_site(Name::Registry, what)] };
    let place = registry.prefix.to_string();
    vec![match registry.greet(&registry.client, subject).await {
        Ok(()) => Finding::ok(Name::Registry, place, what, "it answers, and takes our credential"),
        Err(error) => refused(Name::Registry, &place, what, &error),
    }]
}

/// Whether the pull secret is there, and the registry takes it.
pub(super) async fn pull_secret(subject: &Subject) -> Vec<Finding> {
    let what = "the pull secret";
    let Some(registry) = &subject.registry else { return vec![no_site(Name::PullSecret, what)] };
    let Some(name) = &registry.pull_secret else {
        let why = "site.yaml has no registry.pullSecret";
        return vec![Finding::skipped(Name::PullSecret, "site", what, why)];
    };
    let mut namespaces: Vec<&str> =
        subject.releases.iter().map(|release| release.namespace.as_str()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    let mut findings = Vec::new();
    for namespace in namespaces {
        findings.push(one_secret(subject, registry, namespace, name).await);
    }
    if findings.is_empty() {
        let why = "there is no release, so no namespace that it should be in";
        findings.push(Finding::skipped(Name::PullSecret, "cluster", what, why));
    }
    findings
}

async fn one_secret(
    subject: &Subject,
    registry: &SiteRegistry,
    namespace: &str,
    name: &str,
) -> Finding {
    let what = format!("Secret {name}");
    let failed = || Finding::failed(Name::PullSecret, namespace, &what);
    let secret = match subject.cluster.get::<Secret>(Scope::Namespace(namespace), name).await {
        Ok(Some(secret)) => secret,
        Ok(None) => {
            let next = format!(
                "gantry deploy makes it from docker's credentials (docker login {}), or: kubectl create secret docker-registry {name} --namespace {namespace} …",
                registry.prefix.registry()
            );
            return match subject.deployed {
                Deployed::Expected => failed(),
                Deployed::Maybe => Finding::warning(Name::PullSecret, namespace, &what),
            }
            .because("it is not there", next);
        }
        Err(error) => {
            return Finding::refused(Name::PullSecret, namespace, what, &error, State::Warning);
        }
    };
    let host = registry.prefix.registry();
    let make_again = format!(
        "make it again: kubectl create secret docker-registry {name} --docker-server {host} …"
    );
    let (kind, key) = PULL_SECRET;
    if secret.type_.as_deref() != Some(kind) {
        let why = format!("it is of the type {}, not {kind}", secret.type_.unwrap_or_default());
        return failed().because(why, make_again);
    }
    let Some(config) = secret.data.as_ref().and_then(|data| data.get(key)) else {
        return failed().because(format!("it has no {key}"), make_again);
    };
    let server = registry.mirrors.registry(host).server;
    let credential = match Credential::of_docker_config(&config.0, host) {
        Ok(Some(credential)) => credential,
        Ok(None) => {
            let why = format!("it has no login for {host}");
            return failed().because(why, make_again);
        }
        Err(error) => return failed().because(error.to_string(), make_again),
    };
    let user = credential.user().to_owned();
    let client = Client::builder()
        .ca(registry.ca.iter().cloned())
        .credentials(Credentials::with(&server, credential))
        .build();
    let greeted = match client {
        Ok(client) => registry.greet(&client, subject).await,
        Err(error) => Err(error),
    };
    match greeted {
        Ok(()) => {
            let why = format!("{host} takes the login of {user}");
            Finding::ok(Name::PullSecret, namespace, what, why)
        }
        Err(error @ net::Error::Unauthorized { .. }) => failed()
            .because(format!("{host} does not take the login of {user}: {error}"), make_again),
        Err(error) => refused(Name::PullSecret, namespace, &what, &error),
    }
}

/// There is no site to ask about.
pub(super) fn no_site(name: Name, what: &str) -> Finding {
    Finding::skipped(name, "site", what, "no site was given (--site site.yaml)")
}

fn refused(name: Name, place: &str, what: &str, error: &net::Error) -> Finding {
    let text = error.to_string();
    let (why, next) = match text.rsplit_once("; ") {
        Some((why, next)) => (why, next),
        None => (text.as_str(), "check registry: in site.yaml, and the way to it from here"),
    };
    Finding::failed(name, place, what).because(why, next)
}
