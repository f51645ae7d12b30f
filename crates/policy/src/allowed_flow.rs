//! Allowed destinations as they are written on the command line: an address with a port, or a
//! namespace with a port. Host names are not possible, since network policies know only addresses
//! and labels.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::name::NAME_LABEL;
use crate::{Error, Namespace, Result};

/// The advice in errors about an address.
const FORM: &str = "write ADDRESS or CIDR, with :PORT and /udp where needed: 10.0.0.5:5000, \
    10.1.0.0/16, 169.254.20.10:53/udp, [fd00::5]:443";

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl TransportProtocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// Addresses that pods may reach: `CIDR[:PORT][/udp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedFlow {
    address: IpAddr,
    bits: u8,
    /// The port; `None` for all.
    pub(crate) port: Option<u16>,
    protocol: TransportProtocol,
}

impl AllowedFlow {
    /// A single address with a TCP port.
    pub(crate) fn from_host(address: IpAddr, port: u16) -> Self {
        Self {
            address,
            bits: address_bits(address),
            port: Some(port),
            protocol: TransportProtocol::Tcp,
        }
    }

    /// The addresses as a CIDR: `10.1.0.0/16`.
    pub fn cidr(&self) -> String {
        format!("{}/{}", self.address, self.bits)
    }

    /// The rule of a network policy that allows it.
    pub(crate) fn to_rule(&self) -> Value {
        let to = json!([{"ipBlock": {"cidr": self.cidr()}}]);
        build_rule(to, self.port.map(|port| (port, self.protocol)))
    }
}

impl FromStr for AllowedFlow {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason: &str| Error::invalid("destination", text, reason);
        let (rest, protocol) = split_protocol(text);
        let (block, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (block, port) = rest.split_once(']').ok_or_else(|| invalid(FORM))?;
                match port {
                    "" => (block, None),
                    port => (block, Some(port.strip_prefix(':').ok_or_else(|| invalid(FORM))?)),
                }
            }
            // One colon separates a port; several belong to an IPv6 address without a port.
            None => match rest.split_once(':') {
                Some((block, port)) if !port.contains(':') => (block, Some(port)),
                _ => (rest, None),
            },
        };
        let (address, bits) = match block.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (block, None),
        };
        let address: IpAddr = match address.parse() {
            Ok(address) => address,
            Err(_) if address.bytes().any(|b| b.is_ascii_alphabetic()) => {
                return Err(invalid(
                    "network policies know addresses, not names: write its address at the site",
                ));
            }
            Err(_) => return Err(invalid(FORM)),
        };
        let bits = match bits {
            None => address_bits(address),
            Some(bits) => match bits.parse::<u8>() {
                Ok(0) => {
                    return Err(invalid("it would allow everything; write only what is needed"));
                }
                Ok(bits) if bits <= address_bits(address) => bits,
                _ => return Err(invalid(FORM)),
            },
        };
        // The API server takes such a CIDR, but it would allow more than its author may think.
        let masked = mask_address(address, bits);
        if masked != address {
            let own = address_bits(address);
            return Err(invalid(&format!(
                "it has bits after the first {bits}: write {masked}/{bits} or {address}/{own}"
            )));
        }
        Ok(Self { address, bits, port: port.map(|p| parse_port(text, p)).transpose()?, protocol })
    }
}

/// Another namespace whose pods may be reached: `NAMESPACE[:PORT][/udp]`. The port is that of the
/// pods, not of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedNamespace {
    namespace: Namespace,
    port: Option<(u16, TransportProtocol)>,
}

impl AllowedNamespace {
    /// All ports of all pods of a namespace.
    pub(crate) fn from_namespace(namespace: Namespace) -> Self {
        Self { namespace, port: None }
    }

    /// The rule of a network policy that allows it.
    pub(crate) fn to_rule(&self) -> Value {
        let labels = json!({NAME_LABEL: self.namespace.as_str()});
        build_rule(json!([{"namespaceSelector": {"matchLabels": labels}}]), self.port)
    }
}

impl FromStr for AllowedNamespace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (rest, protocol) = split_protocol(text);
        let (namespace, port) = match rest.split_once(':') {
            Some((namespace, port)) => (namespace, Some((parse_port(text, port)?, protocol))),
            None => (rest, None),
        };
        Ok(Self { namespace: namespace.parse()?, port })
    }
}

impl fmt::Display for AllowedNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.namespace)
    }
}

/// An egress rule; without a port it allows all of them.
pub(crate) fn build_rule(to: Value, port: Option<(u16, TransportProtocol)>) -> Value {
    match port {
        Some((port, protocol)) => {
            json!({"to": to, "ports": [{"protocol": protocol.as_str(), "port": port}]})
        }
        None => json!({"to": to}),
    }
}

/// Splits `/udp` or `/tcp` off the end; TCP is the default.
fn split_protocol(text: &str) -> (&str, TransportProtocol) {
    match text.strip_suffix("/udp") {
        Some(rest) => (rest, TransportProtocol::Udp),
        None => (text.strip_suffix("/tcp").unwrap_or(text), TransportProtocol::Tcp),
    }
}

/// Parses a port. `text` is the whole destination, for the error.
fn parse_port(text: &str, port: &str) -> Result<u16> {
    match port.parse() {
        Ok(0) | Err(_) => {
            Err(Error::invalid("destination", text, "a port is a number from 1 to 65535"))
        }
        Ok(port) => Ok(port),
    }
}

/// The number of bits of an address.
fn address_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with all but its first `bits` bits set to zero. `bits` is at least 1: a shift by the
/// whole width would overflow.
fn mask_address(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & (u32::MAX << (32 - u32::from(bits)))).into()),
        IpAddr::V6(v6) => {
            IpAddr::V6((u128::from(v6) & (u128::MAX << (128 - u32::from(bits)))).into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_flow_is_an_address_with_an_optional_port() {
        for (text, cidr, port) in [
            ("10.0.0.5", "10.0.0.5/32", None),
            ("10.0.0.5:5000", "10.0.0.5/32", Some(("TCP", 5000))),
            ("10.1.0.0/16:53/udp", "10.1.0.0/16", Some(("UDP", 53))),
            ("fd00::/64", "fd00::/64", None),
            ("[fd00::5]:443", "fd00::5/128", Some(("TCP", 443))),
        ] {
            let rule = text.parse::<AllowedFlow>().unwrap().to_rule();
            assert_eq!(rule["to"][0]["ipBlock"]["cidr"], cidr);
            match port {
                Some((protocol, port)) => {
                    assert_eq!(rule["ports"][0], json!({"protocol": protocol, "port": port}));
                }
                None => assert!(rule.get("ports").is_none()),
            }
        }
    }

    #[test]
    fn what_is_no_flow_says_what_to_write() {
        for (text, why) in [
            ("registry.internal:5000", "addresses, not names"),
            ("0.0.0.0/0", "everything"),
            ("::/0", "everything"),
            ("10.0.0.5/24", "10.0.0.0/24 or 10.0.0.5/32"),
            ("10.0.0.0/33", "ADDRESS or CIDR"),
            ("10.0.0.5:0", "1 to 65535"),
            ("10.0.0.5:70000", "1 to 65535"),
            ("[fd00::5", "ADDRESS or CIDR"),
            ("", "ADDRESS or CIDR"),
        ] {
            let error = text.parse::<AllowedFlow>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!("Shop:80".parse::<AllowedNamespace>().is_err());
    }
}
