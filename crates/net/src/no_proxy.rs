//! `NO_PROXY`: to which servers requests go directly although the environment names a proxy. reqwest
//! reads it too and knows fewer forms: neither `*.domain` nor `host:port`.

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

/// The entries of `NO_PROXY`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NoProxyRules(Vec<NoProxyRule>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum NoProxyRule {
    /// `*`
    Everything,
    /// `10.0.0.0/8`
    Network(IpNet),
    /// `10.1.2.3`, `[::1]:5000`
    Address { address: IpAddr, port: Option<u16> },
    /// `corp.example`, `.corp.example`, `*.corp.example`, each with `:port`: the domain and all below it.
    Domain { name: String, port: Option<u16> },
}

impl NoProxyRules {
    /// Those of the environment: `NO_PROXY`, else `no_proxy`.
    pub(crate) fn from_environment() -> Self {
        let text = ["NO_PROXY", "no_proxy"].iter().find_map(|name| std::env::var(name).ok());
        text.map_or_else(Self::default, |text| Self::parse(&text))
    }

    /// Parses entries that are separated by commas or spaces. What is no entry matches nothing.
    pub(crate) fn parse(text: &str) -> Self {
        let entries = text.split(|sign: char| sign == ',' || sign.is_whitespace());
        Self(entries.filter(|entry| !entry.is_empty()).map(NoProxyRule::parse).collect())
    }

    /// Whether requests for this URL go directly.
    pub(crate) fn match_url(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address).to_canonical()),
            _ => None,
        };
        let Some(host) = url.host_str() else { return false };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let is_port = |wanted: &Option<u16>| wanted.is_none() || *wanted == port;
        self.0.iter().any(|rule| match rule {
            NoProxyRule::Everything => true,
            NoProxyRule::Network(network) => address.is_some_and(|ip| network.contains(&ip)),
            NoProxyRule::Address { address: wanted, port } => {
                address == Some(*wanted) && is_port(port)
            }
            NoProxyRule::Domain { name, port } => {
                let is_below = || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
                address.is_none() && is_port(port) && (host == *name || is_below())
            }
        })
    }
}

impl NoProxyRule {
    fn parse(entry: &str) -> Self {
        if entry == "*" {
            return Self::Everything;
        }
        if let Ok(network) = entry.parse() {
            return Self::Network(network);
        }
        let (host, port) = match entry.rsplit_once(':') {
            // An IPv6 address has colons and no port unless it is in brackets.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().ok())
            }
            _ => (entry, None),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Self::Address { address: address.to_canonical(), port };
        }
        let name = host.strip_prefix('*').unwrap_or(host);
        let name = name.trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
        Self::Domain { name, port }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_form_of_an_entry_matches_what_it_names_and_nothing_else() {
        for (entries, url, expected) in [
            ("corp.example", "https://corp.example/v2/", true),
            ("corp.example", "https://reg.corp.example/v2/", true),
            ("corp.example", "https://notcorp.example/v2/", false),
            (".corp.example", "https://reg.corp.example/", true),
            ("*.corp.example", "https://reg.corp.example:5000/", true),
            ("*.corp.example", "https://corp.example.org/", false),
            ("reg.corp:5000", "http://reg.corp:5000/", true),
            ("reg.corp:5000", "https://reg.corp/", false),
            ("reg.corp:443", "https://reg.corp/", true),
            ("*.corp:5000", "https://a.corp:5000/", true),
            ("10.0.0.0/8", "http://10.20.30.40:5000/", true),
            ("10.0.0.0/8", "http://11.0.0.1/", false),
            ("10.1.2.3", "https://10.1.2.3/", true),
            ("10.1.2.3:5000", "https://10.1.2.3/", false),
            ("fd00::/8", "https://[fd00::1]/", true),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/", true),
            ("fd00::1", "https://[fd00::1]:5000/", true),
            ("*", "https://anything.example/", true),
            ("a.example, b.example", "https://b.example/", true),
            ("a.example b.example", "https://b.example/", true),
            ("REG.Corp", "https://reg.corp/", true),
            ("", "https://reg.corp/", false),
        ] {
            let rules = NoProxyRules::parse(entries);
            assert_eq!(rules.match_url(&url.parse().unwrap()), expected, "{entries:?} for {url}");
        }
    }
}
