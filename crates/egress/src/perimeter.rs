//! The perimeter: what counts as inside. These are the cluster's own networks and addresses, what the
//! user declared with `--inside`, and names that no name server outside would be asked for. Everything
//! else is outside, also private addresses: another network of the company is not the cluster.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// The networks, addresses and names that are inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Perimeter {
    networks: Vec<IpNet>,
    addresses: BTreeSet<IpAddr>,
    names: Vec<String>,
}

/// Something that a user declares to be inside: a network, an address, or a DNS name with all names
/// below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InsideDeclaration {
    /// A network or an address.
    Network(IpNet),
    /// A DNS name and all names below it.
    Name(String),
}

/// A text that is neither a network nor a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is neither a network, an address nor a DNS name; write for example 10.1.0.0/16, 10.0.0.5, \
     fd00::/8 or git.site.net"
)]
pub struct InvalidInsideDeclaration {
    text: String,
}

impl FromStr for InsideDeclaration {
    type Err = InvalidInsideDeclaration;

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
        // A top-level domain cannot be a site's own, and digits with dots are a mistyped address.
        let is_name = name.len() <= 253
            && name.contains('.')
            && name.split('.').all(is_label)
            && !name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if is_name {
            Ok(Self::Name(name))
        } else {
            Err(InvalidInsideDeclaration { text: text.to_owned() })
        }
    }
}

impl Perimeter {
    /// A perimeter of these networks; what is inside everywhere (loopback, …) is inside as well.
    pub fn from_networks(networks: impl IntoIterator<Item = IpNet>) -> Self {
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
        if !self.contains(address) {
            self.addresses.insert(address);
        }
    }

    /// Adds a name and all names below it.
    pub fn add_name(&mut self, name: &str) {
        let name = name.trim_matches('.').to_ascii_lowercase();
        if !name.is_empty() && !self.names.contains(&name) {
            self.names.push(name);
        }
    }

    /// Adds what a user declared.
    pub fn add_declaration(&mut self, declared: &InsideDeclaration) {
        match declared {
            InsideDeclaration::Network(network) => self.add_network(*network),
            InsideDeclaration::Name(name) => self.add_name(name),
        }
    }

    /// The networks, and the single addresses as networks: the options of a watcher on a node.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.networks.iter().copied().chain(self.addresses.iter().map(|a| IpNet::from(*a)))
    }

    /// The names that were declared.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether an address is inside. Loopback, link-local, multicast and broadcast addresses always are:
    /// no router forwards packets to them.
    pub fn contains(&self, address: IpAddr) -> bool {
        // ::ffff:10.0.0.1 is 10.0.0.1.
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

    /// Whether a name is inside: one that was declared, or one that cannot lead outside. These are single
    /// labels (a service that does not exist), reverse lookups of addresses inside, and names in zones
    /// that are reserved for private use.
    pub fn contains_name(&self, name: &str) -> bool {
        const RESERVED: &[&str] = &[
            // RFC 6761 (special names), 6762 (mDNS), 7686 (onion), 8375 (home networks), 9476 (alt), and
            // `internal`, which ICANN reserved in 2024.
            "localhost",
            "local",
            "invalid",
            "test",
            "onion",
            "home.arpa",
            "alt",
            "internal",
            // Kubernetes' own, also with a part of the search path missing.
            "svc",
            "cluster.local",
        ];
        let is_below = |zone: &str| {
            name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if self.names.iter().any(|zone| is_below(zone)) {
            return true;
        }
        // A reverse lookup of a private address tells nobody outside anything they could use.
        if let Some(address) = parse_reverse_name(name) {
            return self.contains(address) || is_private_address(address);
        }
        !name.contains('.') || RESERVED.iter().any(|zone| is_below(zone))
    }
}

/// The address that a reverse lookup asks for: `7.1.244.10.in-addr.arpa` is 10.244.1.7, and `ip6.arpa`
/// has the 32 hexadecimal digits, last first.
fn parse_reverse_name(name: &str) -> Option<IpAddr> {
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

fn is_private_address(address: IpAddr) -> bool {
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
        let read = |text: &str| text.parse::<InsideDeclaration>();
        assert_eq!(
            read("10.1.0.0/16").unwrap(),
            InsideDeclaration::Network("10.1.0.0/16".parse().unwrap())
        );
        assert_eq!(
            read("fd00::5").unwrap(),
            InsideDeclaration::Network("fd00::5/128".parse().unwrap())
        );
        assert_eq!(read("Git.Site.Net.").unwrap(), InsideDeclaration::Name("git.site.net".into()));
        for wrong in ["", "com", "10.0.0", "10.0.0.0/33", "a b.c", "http://x.y", "*.site.net"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("git.site.net"), "{error}");
        }
    }

    #[test]
    fn what_is_not_declared_is_outside_also_where_it_is_private() {
        let mut inside = Perimeter::from_networks(["10.244.0.0/16".parse().unwrap()]);
        let has = |inside: &Perimeter, text: &str| inside.contains(text.parse().unwrap());
        assert!(
            has(&inside, "10.244.9.9") && has(&inside, "127.0.0.53") && has(&inside, "fe80::1")
        );
        assert!(has(&inside, "::ffff:10.244.9.9"));
        assert!(
            !has(&inside, "10.1.2.3") && !has(&inside, "8.8.8.8") && !has(&inside, "2001:db8::1")
        );
        inside.add_declaration(&"10.1.0.0/16".parse().unwrap());
        assert!(has(&inside, "10.1.2.3"));
    }

    #[test]
    fn names_inside_are_the_sites_and_those_that_cannot_lead_outside() {
        let mut inside = Perimeter::from_networks(["203.0.113.0/24".parse().unwrap()]);
        inside.add_declaration(&"site.net".parse().unwrap());
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
            assert!(inside.contains_name(name), "{name}");
        }
        for name in ["huggingface.co", "notsite.net", "8.8.8.8.in-addr.arpa", "x.ip6.arpa"] {
            assert!(!inside.contains_name(name), "{name}");
        }
        let v6 = format!("{}ip6.arpa", "1.0.0.0.".repeat(7) + "0.0.d.f.");
        assert!(inside.contains_name(&v6), "{v6}");
    }
}
