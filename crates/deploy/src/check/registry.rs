//! Checks `registry` and `pull-secret`: the site's registry answers from this machine, and accepts
//! the login in the cluster's pull secret. Whether the nodes can pull is the business of
//! `node_pull`.

use cluster::ObjectScope;
use cluster::objects::api::core::v1::Secret;
use net::{AccessScope, Client, Credential, Credentials, HttpRequest, RepeatPolicy};

use super::{
    CheckFinding, CheckName, CheckSubject, FindingState, ReleaseExpectation, SiteRegistry,
};

/// The type of a pull secret, and its key (kubernetes.io, "Docker config Secrets").
const PULL_SECRET: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");

/// Checks whether the registry answers.
pub(super) async fn check_registry(subject: &CheckSubject) -> Vec<CheckFinding> {
    let what = "the registry from here";
    let Some(registry) = &subject.registry else {
        return vec![skip_without_site(CheckName::Registry, what)];
    };
    let place = registry.prefix.to_string();
    vec![match check_api_support(registry, &registry.client, subject).await {
        Ok(()) => CheckFinding::ok(
            CheckName::Registry,
            place,
            what,
            "it answers, and accepts your credential",
        ),
        Err(error) => explain_registry_error(CheckName::Registry, &place, what, &error),
    }]
}

/// Checks the pull secret in every namespace that has a release.
pub(super) async fn check_pull_secret(subject: &CheckSubject) -> Vec<CheckFinding> {
    let what = "the pull secret";
    let Some(registry) = &subject.registry else {
        return vec![skip_without_site(CheckName::PullSecret, what)];
    };
    let Some(name) = &registry.pull_secret else {
        let why = "site.yaml names no registry.pullSecret";
        return vec![CheckFinding::skipped(CheckName::PullSecret, "site", what, why)];
    };
    let mut namespaces: Vec<&str> =
        subject.releases.iter().map(|release| release.namespace.as_str()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    let mut findings = Vec::new();
    for namespace in namespaces {
        findings.push(check_secret_in_namespace(subject, registry, namespace, name).await);
    }
    if findings.is_empty() {
        let why = "there are no releases, so no namespace needs it";
        findings.push(CheckFinding::skipped(CheckName::PullSecret, "cluster", what, why));
    }
    findings
}

/// Checks whether the pull secret exists in a namespace, and whether the registry accepts its
/// login.
async fn check_secret_in_namespace(
    subject: &CheckSubject,
    registry: &SiteRegistry,
    namespace: &str,
    name: &str,
) -> CheckFinding {
    let what = format!("Secret {name}");
    let failed = || CheckFinding::failed(CheckName::PullSecret, namespace, &what);
    let secret = match subject
        .cluster
        .get_object::<Secret>(ObjectScope::Namespace(namespace), name)
        .await
    {
        Ok(Some(secret)) => secret,
        Ok(None) => {
            let next = format!(
                "gantry deploy creates it from docker's credentials (docker login {}); or create it with: kubectl create secret docker-registry {name} --namespace {namespace} …",
                registry.prefix.registry()
            );
            return match subject.deployed {
                ReleaseExpectation::Required => failed(),
                ReleaseExpectation::Optional => {
                    CheckFinding::warning(CheckName::PullSecret, namespace, &what)
                }
            }
            .with_reason("it does not exist", next);
        }
        Err(error) => {
            return CheckFinding::from_cluster_error(
                CheckName::PullSecret,
                namespace,
                what,
                &error,
                FindingState::Warning,
            );
        }
    };
    let host = registry.prefix.registry();
    let make_again = format!(
        "create it again: kubectl create secret docker-registry {name} --docker-server {host} …"
    );
    let (kind, key) = PULL_SECRET;
    if secret.type_.as_deref() != Some(kind) {
        let why = format!("its type is {} instead of {kind}", secret.type_.unwrap_or_default());
        return failed().with_reason(why, make_again);
    }
    let Some(config) = secret.data.as_ref().and_then(|data| data.get(key)) else {
        return failed().with_reason(format!("it has no key {key}"), make_again);
    };
    let server = registry.mirrors.registry_endpoint(host).server;
    let credential = match Credential::from_docker_config(&config.0, host) {
        Ok(Some(credential)) => credential,
        Ok(None) => {
            let why = format!("it has no login for {host}");
            return failed().with_reason(why, make_again);
        }
        Err(error) => return failed().with_reason(error.to_string(), make_again),
    };
    let user = credential.user().to_owned();
    // A client of its own: the login of the user must not stand in for the one in the secret.
    let credentials = Credentials::with_credential(&server, credential);
    let client = registry.client.with_credentials(credentials);
    match check_api_support(registry, &client, subject).await {
        Ok(()) => {
            let why = format!("{host} accepts the login of {user}");
            CheckFinding::ok(CheckName::PullSecret, namespace, what, why)
        }
        Err(error @ net::Error::Unauthorized { .. }) => failed().with_reason(
            format!("{host} does not accept the login of {user}: {error}"),
            make_again,
        ),
        Err(error) => explain_registry_error(CheckName::PullSecret, namespace, &what, &error),
    }
}

/// Logs in, and asks whether the registry supports the API (distribution-spec, "Determining
/// support").
async fn check_api_support(
    registry: &SiteRegistry,
    client: &Client,
    subject: &CheckSubject,
) -> net::Result<()> {
    let endpoint = registry.mirrors.registry_endpoint(registry.prefix.registry());
    let mut images = subject.lock.iter().flat_map(|lock| &lock.images);
    let repository = images.find_map(|image| registry.target_reference(&image.reference).ok());
    // Tokens are for one repository (distribution, "Token Authentication Specification"): ask
    // for one that will be pulled later.
    let scope = repository.map_or_else(String::new, |reference| {
        format!("repository:{}:pull", reference.repository())
    });
    let request = HttpRequest::get(&format!("{}/v2/", endpoint.base))?
        .access(AccessScope { server: endpoint.server, scope });
    client.send(&request, RepeatPolicy::Safe).await?.require_success().await.map(drop)
}

/// Skips a check that needs a site.
pub(super) fn skip_without_site(name: CheckName, what: &str) -> CheckFinding {
    CheckFinding::skipped(name, "site", what, "no site was given (--site site.yaml)")
}

/// Reports that the registry could not be reached or refused.
fn explain_registry_error(
    name: CheckName,
    place: &str,
    what: &str,
    error: &net::Error,
) -> CheckFinding {
    let otherwise = "check registry: in site.yaml, and that this machine can reach it";
    CheckFinding::failed(name, place, what).with_error(error, error.next_step(), otherwise)
}
