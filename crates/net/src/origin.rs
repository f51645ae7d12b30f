//! The origin of a URL, within which a secret stays.

use http::{HeaderMap, HeaderValue, header};
use url::Url;

use crate::mirrors::is_loopback;

/// Which redirects of a request are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedirectPolicy {
    /// All of them. A credential is not sent to another origin.
    #[default]
    Any,
    /// Those within the same scheme, host and port: for a request of which the body is a secret.
    SameOrigin,
}

/// Removes what must not leave its origin: credentials, cookies, and every header that is marked as
/// sensitive.
pub(crate) fn remove_secret_headers(headers: &mut HeaderMap) {
    let sensitive = headers.iter().filter(|(_, value)| HeaderValue::is_sensitive(value));
    let mut names: Vec<_> = sensitive.map(|(name, _)| name.clone()).collect();
    names.extend([header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION]);
    for name in names {
        headers.remove(name);
    }
}

/// Whether both URLs have the same scheme, host and port. On this machine http and https of one port are
/// the same server: which of them it speaks is found out only by asking it.
pub(crate) fn is_same_origin(one: &Url, other: &Url) -> bool {
    let is_one_port =
        || one.host_str() == other.host_str() && one.port().is_some() && one.port() == other.port();
    one.origin() == other.origin() || one.host_str().is_some_and(is_loopback) && is_one_port()
}
