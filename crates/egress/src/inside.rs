//! What is inside: the cluster's own networks and addresses, what the site has declared, and names
//! that no name server outside is asked for. Everything else is outside.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// Networks, addresses and names that are inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    networks: Vec<IpNet>,
    addresses: BTreeSet<IpAddr>,
    names: Vec<String>,
}

/// What a user declares to be inside: a network, an address, or a name with all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    /// A network or an address.
    Network(IpNet),
    /// A name.
    Name(String),
}

/// Why a text is neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is neither a network nor a name: write 10.1.0.0/16, 10.0.0.5, fd00::/8 or git.site.net"
)]
pub struct NotInside {
    text: String,
}

impl FromStr for Declared {
    type Err = NotInside;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        let name = text.trim_matches('.').to_ascii_lowercase();
        let is_label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // All of `com` cannot be a site's own, and digits with dots are a mistyped address.
        let is_name = name.len() <= 253
            && name.contains('.')
            && name.split('.').all(is_label)
            && !name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if is_name { Ok(Self::Name(name)) } else { Err(NotInside { text: text.to_owned() }) }
    }
}

impl Inside {
    /// These networks, and what is inside everywhere.
    pub fn of_networks(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self { networks: networks.into_iter().collect(), ..Self::default() }
    }

    /// Adds a network.
    pub fn add_network(&mut self, network: IpNet) {
        if !self.networks.contains(&network) {
            self.networks.push(network);
        }
    }

    /// Adds an address.
    pub fn add_address(&mut self, address: IpAddr) {
        if !self.has(address) {
            self.addresses.insert(address);
        }
    }

    /// Adds a name with all below it.
    pub fn add_name(&mut self, name: &str) {
        let name = name.trim_matches('.').to_ascii_lowercase();
        if !name.is_empty() && !self.names.contains(&name) {
            self.names.push(name);
        }
    }

    /// Adds what a user declared.
    pub fn add(&mut self, declared: &Declared) {
        match declared {
            Declared::Network(network) => self.add_network(*network),
            Declared::Name(name) => self.add_name(name),
        }
    }

    /// The networks and single addresses, for a watcher on a node.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.networks.iter().copied().chain(self.addresses.iter().map(|a| IpNet::from(*a)))
    }

    /// The names that the site has declared.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether an address is inside. Loopback, link-local, multicast and broadcast never leave.
    pub fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let stays = match address {
            IpAddr::V4(v4) => {
                v4.is_loopback()
                    || v4.is_link_local()
                    || v4.is_multicast()
                    || v4.is_broadcast()
                    || v4.is_unspecified()
            }
            IpAddr::V6(v6) => {
                v6.is_loopback()
                    || v6.is_unicast_link_local()
                    || v6.is_multicast()
                    || v6.is_unspecified()
            }
        };
        stays
            || self.addresses.contains(&address)
            || self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whether a name is the site's own, or one that cannot lead outside: a single label (a service
    /// that is not there), a reverse lookup of an address inside, a zone that is reserved for inside.
    pub fn has_name(&self, name: &str) -> bool {
        const RESERVED: &[&str] = &[
            // RFC 6761, 6762, 8375, 9476, and ICANN's `internal`.
            "localhost",
            "local",
            "invalid",
            "test",
            "onion",
            "home.arpa",
            "alt",
            "internal",
            // Kubernetes.
            "svc",
            "cluster.local",
        ];
        let is_below = |zone: &str| {
            name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if self.names.iter().any(|zone| is_below(zone)) {
            return true;
        }
        if let Some(address) = reverse(name) {
            return self.has(address) || is_private(address);
        }
        !name.contains('.') || RESERVED.iter().any(|zone| is_below(zone))
    }
}

/// The address that a reverse lookup asks for.
fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let mut octets: Vec<&str> = octets.split('.').collect();
        octets.reverse();
        return octets.join(".").parse().ok();
    }
    let digits: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').collect();
    let digits: String = digits.into_iter().rev().collect();
    (digits.len() == 32 && digits.is_ascii())
        .then(|| u128::from_str_radix(&digits, 16).ok())
        .flatten()
        .map(|bits| IpAddr::from(bits.to_be_bytes()))
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_declaration_is_a_network_an_address_or_a_name() {
        let read = |text: &str| text.parse::<Declared>();
        assert_eq!(read("10.1.0.0/16").unwrap(), Declared::Network("10.1.0.0/16".parse().unwrap()));
        assert_eq!(read("fd00::5").unwrap(), Declared::Network("fd00::5/128".parse().unwrap()));
        assert_eq!(read("Git.Site.Net.").unwrap(), Declared::Name("git.site.net".into()));
        for wrong in ["", "com", "10.0.0", "10.0.0.0/33", "a b.c", "http://x.y", "*.site.net"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("git.site.net"), "{error}");
        }
    }

    #[test]
    fn what_is_not_declared_is_outside_also_where_it_is_private() {
        let mut inside = Inside::of_networks(["10.244.0.0/16".parse().unwrap()]);
        let has = |inside: &Inside, text: &str| inside.has(text.parse().unwrap());
        assert!(
            has(&inside, "10.244.9.9") && has(&inside, "127.0.0.53") && has(&inside, "fe80::1")
        );
        assert!(has(&inside, "::ffff:10.244.9.9"));
        assert!(
            !has(&inside, "10.1.2.3") && !has(&inside, "8.8.8.8") && !has(&inside, "2001:db8::1")
        );
        inside.add(&"10.1.0.0/16".parse().unwrap());
        assert!(has(&inside, "10.1.2.3"));
    }

    #[test]
    fn names_inside_are_the_sites_and_those_that_cannot_lead_outside() {
        let mut inside = Inside::of_networks(["203.0.113.0/24".parse().unwrap()]);
        inside.add(&"site.net".parse().unwrap());
        for name in [
            "redis",
            "git.site.net",
            "site.net",
            "db.ns.svc",
            "x.cluster.local",
            "printer.local",
            "7.1.244.10.in-addr.arpa",
            "9.113.0.203.in-addr.arpa",
            "",
        ] {
            assert!(inside.has_name(name), "{name}");
        }
        for name in ["huggingface.co", "notsite.net", "8.8.8.8.in-addr.arpa", "x.ip6.arpa"] {
            assert!(!inside.has_name(name), "{name}");
        }
        let v6 = format!("{}ip6.arpa", "1.0.0.0.".repeat(7) + "0.0.d.f.");
        assert!(inside.has_name(&v6), "{v6}");
    }
}
