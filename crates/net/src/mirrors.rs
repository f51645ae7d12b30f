//! Mirrors: to which URL the requests for a registry or a hub are really sent.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::{Credential, Error, Result};

/// `mirrors:` and `plainHttp:` of the user's configuration: which URL is used instead of a registry
/// host (or of `hf` and `ollama`).
#[derive(Debug, Clone, Default)]
pub struct Mirrors {
    endpoints: BTreeMap<String, Url>,
    plain_http: Vec<String>,
}

/// Where requests for a host are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamEndpoint {
    /// The start of the URL of every request, without a slash at the end; may have a path.
    pub base: String,
    /// What stands before every repository, with a slash at its end: `hub/` for a mirror that keeps
    /// the registry below a project. Empty for all others.
    pub repository_prefix: String,
    /// The name under which docker's configuration has the credential: the mirror's, not that of the
    /// registry that it mirrors.
    pub server: String,
    /// Whether the configuration names this address instead of the registry's own.
    is_mirror: bool,
}

impl UpstreamEndpoint {
    /// What to tell where a mirror does not have something: its address, and how a mirror is written
    /// that keeps registries below projects. `None` where no mirror is configured.
    pub fn describe_mirror(&self) -> Option<String> {
        if !self.is_mirror {
            return None;
        }
        let (base, prefix) = (&self.base, self.repository_prefix.trim_end_matches('/'));
        let (origin, path) = match Url::parse(base) {
            Ok(url) => {
                (url.origin().ascii_serialization(), url.path().trim_matches('/').to_owned())
            }
            Err(_) => (base.clone(), String::new()),
        };
        Some(match (prefix, path.as_str()) {
            ("", "") => format!(
                "the mirror {base}; if it keeps this registry below a project, write {base}/v2/PROJECT in `mirrors:` of the configuration"
            ),
            ("", path) => format!(
                "the mirror {base}, which was asked at {base}/v2/; if {path} is a project of it, write {origin}/v2/{path} in `mirrors:` of the configuration"
            ),
            (prefix, _) => {
                format!("the mirror {base}/v2/{prefix}; check its name, and what it mirrors")
            }
        })
    }
}

/// Docker Hub's name in docker's configuration.
const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";

impl Mirrors {
    /// Reads the maps of the configuration.
    pub fn new(mirrors: &BTreeMap<String, String>, plain_http: &[String]) -> Result<Self> {
        let endpoints = mirrors
            .iter()
            .map(|(host, text)| Ok((host.clone(), parse_url(text)?)))
            .collect::<Result<_>>()?;
        Ok(Self { endpoints, plain_http: plain_http.to_vec() })
    }

    /// The endpoint of a registry. Docker Hub's API has another host than its image names; a loopback
    /// host is used without TLS, as docker and crane do.
    pub fn registry_endpoint(&self, host: &str) -> UpstreamEndpoint {
        if let Some(url) = self.endpoints.get(host) {
            let mut public = url.clone();
            // A credential in the address is the client's matter (`find_mirror_credential`). Both fail
            // only for addresses without a host.
            let _ = public.set_username("");
            let _ = public.set_password(None);
            return mirror_endpoint(&public);
        }
        // The credential, too, has another name: `docker login` stores it under its old API's URL.
        if host == "docker.io" {
            return UpstreamEndpoint {
                base: "https://registry-1.docker.io".into(),
                repository_prefix: String::new(),
                server: DOCKER_HUB_SERVER.into(),
                is_mirror: false,
            };
        }
        let is_plain =
            is_loopback(host_without_port(host)) || self.plain_http.iter().any(|h| h == host);
        let scheme = if is_plain { "http" } else { "https" };
        UpstreamEndpoint {
            base: format!("{scheme}://{host}"),
            repository_prefix: String::new(),
            server: host.to_owned(),
            is_mirror: false,
        }
    }

    /// The endpoint of a service that is not a registry (`hf`, `ollama`): its mirror, or `default`.
    pub fn service_endpoint(&self, name: &str, default: &str) -> Result<UpstreamEndpoint> {
        match self.endpoints.get(name) {
            Some(url) => Ok(mirror_endpoint(url)),
            None => {
                let url = parse_url(default)?;
                Ok(UpstreamEndpoint { is_mirror: false, ..mirror_endpoint(&url) })
            }
        }
    }
}

/// The user and password that the address of a mirror has, with the server that they are for.
pub(crate) fn find_mirror_credential(address: &str) -> Option<(String, Credential)> {
    let url: Url = address.parse().ok()?;
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let password = decode(url.password()?);
    Some((server_address(&url), Credential::Password { user: decode(url.username()), password }))
}

/// What to write instead of an address that does not parse; url's own reasons (`relative URL without a
/// base`) are for programmers.
const WRITE_URL: &str = "write http://host or https://host";

fn parse_url(text: &str) -> Result<Url> {
    let url: Url = text
        .parse()
        .map_err(|_| Error::Url { text: text.to_owned(), reason: WRITE_URL.to_owned() })?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(Error::Url { text: text.to_owned(), reason: WRITE_URL.to_owned() });
    }
    Ok(url)
}

/// The endpoint of a mirror. Its address may have a path: before the API's `/v2/` (a proxy that
/// routes by path), or behind it (`https://host/v2/PROJECT`: the registries of Harbor, Nexus,
/// Artifactory, GitLab and the clouds keep what they mirror below a project, in the repository's
/// path).
fn mirror_endpoint(url: &Url) -> UpstreamEndpoint {
    let address = base_address(url);
    let path = url.path().trim_end_matches('/');
    let (base, prefix) = match path.split_once("/v2") {
        Some((_, rest)) if rest.is_empty() || rest.starts_with('/') => {
            (address.trim_end_matches(&format!("/v2{rest}")).to_owned(), rest.trim_matches('/'))
        }
        _ => (address, ""),
    };
    let repository_prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    UpstreamEndpoint { base, repository_prefix, server: server_address(url), is_mirror: true }
}

fn base_address(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// A server's name: its host, with the port where it is not that of the scheme.
pub(crate) fn server_address(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn host_without_port(host_and_port: &str) -> &str {
    match host_and_port.rsplit_once(':') {
        // `[::1]` has colons as well, but no digits alone behind the last one.
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => host_and_port,
    }
}

/// Whether a host is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mirror_stands_for_its_host_and_keeps_its_path() {
        let map = BTreeMap::from([
            ("docker.io".to_owned(), "http://127.0.0.1:5000".to_owned()),
            ("ghcr.io".to_owned(), "https://me:p%40w@mirror.corp/ghcr/".to_owned()),
        ]);
        let credential = find_mirror_credential(&map["ghcr.io"]).unwrap();
        let password = Credential::Password { user: "me".into(), password: "p@w".into() };
        assert_eq!(credential, ("mirror.corp".to_owned(), password));
        let mirrors = Mirrors::new(&map, &["plain.corp".to_owned()]).unwrap();
        assert_eq!(mirrors.registry_endpoint("docker.io").base, "http://127.0.0.1:5000");
        assert_eq!(mirrors.registry_endpoint("docker.io").server, "127.0.0.1:5000");
        assert_eq!(mirrors.registry_endpoint("ghcr.io").base, "https://mirror.corp/ghcr");
        assert_eq!(mirrors.registry_endpoint("quay.io").base, "https://quay.io");
        assert_eq!(mirrors.registry_endpoint("localhost:5000").base, "http://localhost:5000");
        assert_eq!(mirrors.registry_endpoint("plain.corp").base, "http://plain.corp");
        assert_eq!(
            mirrors.service_endpoint("hf", "https://huggingface.co").unwrap().base,
            "https://huggingface.co"
        );
        assert_eq!(Mirrors::default().registry_endpoint("docker.io").server, DOCKER_HUB_SERVER);
    }

    #[test]
    fn a_mirror_below_a_project_has_it_before_each_repository_and_the_hint_names_it() {
        let endpoint = |address: &str| {
            let map = BTreeMap::from([("docker.io".to_owned(), address.to_owned())]);
            Mirrors::new(&map, &[]).unwrap().registry_endpoint("docker.io")
        };
        for (address, base, prefix) in [
            ("https://harbor.corp/v2/hub", "https://harbor.corp", "hub/"),
            ("https://nexus.corp/v2/a/b/", "https://nexus.corp", "a/b/"),
            ("https://proxy.corp/x/v2/hub", "https://proxy.corp/x", "hub/"),
            ("https://proxy.corp/v2/", "https://proxy.corp", ""),
            ("https://proxy.corp/hub", "https://proxy.corp/hub", ""),
            ("https://proxy.corp/v2x", "https://proxy.corp/v2x", ""),
        ] {
            let found = endpoint(address);
            assert_eq!((found.base.as_str(), found.repository_prefix.as_str()), (base, prefix));
        }
        let hint = endpoint("https://harbor.corp/hub").describe_mirror().unwrap();
        assert!(hint.contains("write https://harbor.corp/v2/hub"), "{hint}");
        assert_eq!(Mirrors::default().registry_endpoint("docker.io").describe_mirror(), None);
    }
}
