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
    /// The name under which docker's configuration has the credential: the mirror's, not that of the
    /// registry that it mirrors.
    pub server: String,
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
            return UpstreamEndpoint { base: base_address(&public), server: server_address(url) };
        }
        // The credential, too, has another name: `docker login` stores it under its old API's URL.
        if host == "docker.io" {
            return UpstreamEndpoint {
                base: "https://registry-1.docker.io".into(),
                server: DOCKER_HUB_SERVER.into(),
            };
        }
        let is_plain =
            is_loopback(host_without_port(host)) || self.plain_http.iter().any(|h| h == host);
        let scheme = if is_plain { "http" } else { "https" };
        UpstreamEndpoint { base: format!("{scheme}://{host}"), server: host.to_owned() }
    }

    /// The endpoint of a service that is not a registry (`hf`, `ollama`): its mirror, or `default`.
    pub fn service_endpoint(&self, name: &str, default: &str) -> Result<UpstreamEndpoint> {
        let url = match self.endpoints.get(name) {
            Some(url) => url.clone(),
            None => parse_url(default)?,
        };
        Ok(UpstreamEndpoint { base: base_address(&url), server: server_address(&url) })
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

fn base_address(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

fn server_address(url: &Url) -> String {
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
}
