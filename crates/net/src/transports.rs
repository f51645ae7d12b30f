//! The connection pools: which one a request uses, by how its server is reached (directly or through a
//! proxy) and by what its server needs of TLS.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use types::Cause;
use url::Url;

use crate::client_tls::{ClientTlsSettings, HostTls};
use crate::error::chain_of_request;
use crate::mirrors::is_loopback;
use crate::no_proxy::NoProxyRules;
use crate::{Error, Result};

/// A connection that is not established in this time is not going to be: TCP's own retries have waits
/// of 1, 2, 4 and 8 seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// An idle connection of which the other side is gone is noticed after three of these: a server may be
/// silent for minutes, a machine may not.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// All connection pools of a client.
pub(crate) struct Transports {
    tls: ClientTlsSettings,
    no_proxy: NoProxyRules,
    idle_connections: usize,
    pools: Mutex<HashMap<TransportKey, reqwest::Client>>,
    /// By `host:port`.
    schemes: Mutex<HashMap<String, LoopbackScheme>>,
}

/// What makes two servers need pools of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TransportKey {
    route: TransportRoute,
    /// The origin of a server with TLS settings of its own.
    origin: Option<String>,
}

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum TransportRoute {
    /// Without a proxy.
    Direct,
    /// As `HTTPS_PROXY`, `HTTP_PROXY` and `ALL_PROXY` say.
    Environment,
}

/// What a server on this machine speaks, of which only the port is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoopbackScheme {
    Http,
    Https,
}

impl Transports {
    pub(crate) fn new(tls: ClientTlsSettings, idle_connections: usize) -> Self {
        Self {
            tls,
            no_proxy: NoProxyRules::from_environment(),
            idle_connections,
            pools: Mutex::default(),
            schemes: Mutex::default(),
        }
    }

    /// The pool for requests to a URL.
    pub(crate) fn find_transport(&self, url: &Url) -> Result<reqwest::Client> {
        // Loopback addresses never through a proxy: an inherited HTTPS_PROXY without NO_PROXY would make
        // a local registry or depot unreachable.
        let is_direct = url.host_str().is_some_and(is_loopback) || self.no_proxy.match_url(url);
        let route = if is_direct { TransportRoute::Direct } else { TransportRoute::Environment };
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = url.origin().ascii_serialization();
        let own = TransportKey { route, origin: Some(origin.clone()) };
        if let Some(found) = pools.get(&own) {
            return Ok(found.clone());
        }
        let host = self.tls.find_host_settings(url)?;
        if host.as_ref().is_some_and(HostTls::is_unchecked) {
            // At each run, so that nobody forgets it.
            tracing::warn!(
                target: "gantry",
                "the certificate of {} is not verified: whoever is in between can read and change \
                 everything",
                url.authority()
            );
        }
        let common = TransportKey { route, origin: None };
        let found = match (&host, pools.get(&common)) {
            (None, Some(found)) => found.clone(),
            _ => self.build_transport(route, self.tls.build_config(host.as_ref())?)?,
        };
        // Under the origin as well, so that folders are read once for each.
        pools.insert(own, found.clone());
        if host.is_none() {
            pools.insert(common, found.clone());
        }
        Ok(found)
    }

    fn build_transport(
        &self,
        route: TransportRoute,
        tls: rustls::ClientConfig,
    ) -> Result<reqwest::Client> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("gantry/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(KEEP_ALIVE)
            .tcp_keepalive_interval(KEEP_ALIVE)
            .tcp_keepalive_retries(3)
            .tls_backend_preconfigured(tls)
            // One idle connection per transfer: small files would otherwise pay for a handshake each.
            .pool_max_idle_per_host(self.idle_connections)
            // `Client` follows redirects, since it decides for each server how it is reached and what it
            // may see.
            .redirect(reqwest::redirect::Policy::none())
            // Only `RetryPolicy` retries, so that every attempt is counted and reported.
            .retry(reqwest::retry::never());
        let builder = match route {
            TransportRoute::Direct => builder.no_proxy(),
            TransportRoute::Environment => builder,
        };
        builder.build().map_err(|cause| Error::Setup {
            what: "the HTTP client cannot be set up".into(),
            cause: Cause::described(chain_of_request(&cause), cause),
        })
    }

    /// What the server of an http URL on this machine was found to speak; `None` when it is not known.
    pub(crate) fn known_scheme(&self, url: &Url) -> Option<LoopbackScheme> {
        let schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        schemes.get(url.authority()).copied()
    }

    pub(crate) fn remember_scheme(&self, url: &Url, scheme: LoopbackScheme) {
        let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        schemes.insert(url.authority().to_owned(), scheme);
    }
}
