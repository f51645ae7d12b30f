//! Secrets and http without TLS: whoever is in between reads them. So a secret is sent without TLS only
//! to this machine, and to servers that the user named for it. All requests pass here, whatever they are
//! for: registries, token servers, the Hub, chart repositories, files at URLs.

use std::collections::BTreeSet;

use http::HeaderValue;
use url::Url;

use crate::mirrors::{is_loopback, server_address};
use crate::{Error, HttpRequest, Result};

/// The servers that may get secrets without TLS, beside this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlainHttpServers(BTreeSet<String>);

impl PlainHttpServers {
    /// Adds a server, as `plainHttp` has it: a host, with its port where it is not 80.
    pub(crate) fn add_host(&mut self, host: &str) {
        self.0.insert(host.strip_suffix(":80").unwrap_or(host).to_owned());
    }

    /// Adds the server of an `http://` address that the user wrote for this use. Other addresses need
    /// nothing.
    pub(crate) fn add_address(&mut self, address: &str) {
        if let Some(url) = address.parse::<Url>().ok().filter(|url| url.scheme() == "http") {
            self.0.insert(server_address(&url));
        }
    }

    /// Fails if sending something secret to this URL would show it to whoever is in between.
    pub(crate) fn check_secret_to(&self, url: &Url) -> Result<()> {
        let is_safe = url.scheme() != "http"
            || url.host_str().is_some_and(is_loopback)
            || self.0.contains(&server_address(url));
        if is_safe { Ok(()) } else { Err(Error::PlainHttp { server: server_address(url) }) }
    }

    /// As [`Self::check_secret_to`], for a request that may have a secret: in a header that is marked as
    /// sensitive, or as user and password in its address.
    pub(crate) fn check_request(&self, request: &HttpRequest) -> Result<()> {
        let is_secret = request.headers.values().any(HeaderValue::is_sensitive)
            || request.headers.contains_key(http::header::AUTHORIZATION)
            || !request.url.username().is_empty()
            || request.url.password().is_some();
        if is_secret { self.check_secret_to(&request.url) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_go_without_tls_only_to_this_machine_and_to_servers_that_are_named() {
        let mut servers = PlainHttpServers::default();
        servers.add_host("reg.lab:5000");
        servers.add_host("old.lab:80");
        servers.add_address("http://hub.lab:8080/hf");
        servers.add_address("https://mirror.lab");
        for (url, is_safe) in [
            ("https://hub.corp/", true),
            ("http://127.0.0.1:5000/", true),
            ("http://[::1]:5000/", true),
            ("http://localhost/", true),
            ("http://reg.lab:5000/v2/", true),
            ("http://old.lab/v2/", true),
            ("http://hub.lab:8080/api", true),
            ("http://hub.corp/", false),
            ("http://reg.lab/v2/", false),
            ("http://reg.lab:5001/v2/", false),
            ("http://mirror.lab/", false),
            ("http://localhost.corp/", false),
        ] {
            assert_eq!(servers.check_secret_to(&url.parse().unwrap()).is_ok(), is_safe, "{url}");
        }
    }

    #[test]
    fn a_request_without_a_secret_may_go_anywhere() {
        let servers = PlainHttpServers::default();
        let public = HttpRequest::get("http://hub.corp/a").unwrap();
        let with_password = HttpRequest::get("http://me:pw@hub.corp/a").unwrap();
        let mut key = HeaderValue::from_static("abc");
        key.set_sensitive(true);
        let with_key = public.clone().header(http::HeaderName::from_static("x-api-key"), key);

        assert!(servers.check_request(&public).is_ok());
        for request in [with_password, with_key] {
            let error = servers.check_request(&request).unwrap_err().to_string();
            assert!(error.contains("hub.corp") && error.contains("plainHttp"), "{error}");
            assert!(!error.contains("pw"), "{error}");
        }
    }
}
