//! The second best source: the kernel's table of connections. What a network policy drops at once
//! is not in it, and what ends between two looks is not seen.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;

use crate::inside::Inside;
use crate::line::{Attempt, Protocol};

/// The table of the network namespace that this process is in.
pub(super) const TABLE: &str = "/proc/self/net/nf_conntrack";

/// Reads the table; calls `visit` for each connection that leaves.
pub(super) fn read(inside: &Inside, mut visit: impl FnMut(Attempt)) -> std::io::Result<()> {
    for line in BufReader::new(File::open(TABLE)?).lines() {
        if let Some(attempt) = attempt(&line?, inside) {
            visit(attempt);
        }
    }
    Ok(())
}

/// `ipv4 2 tcp 6 89 SYN_SENT src=… dst=… sport=… dport=… [UNREPLIED] src=… …`: the first four say
/// who began it.
fn attempt(line: &str, inside: &Inside) -> Option<Attempt> {
    let mut words = line.split_whitespace();
    let protocol = match words.nth(2)? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "icmp" | "icmpv6" => Protocol::Icmp,
        _ => return None,
    };
    let first = |key: &str| {
        let mut values = line.split_whitespace().filter_map(|word| word.strip_prefix(key));
        values.next()
    };
    let address = |key| first(key)?.parse::<IpAddr>().ok();
    let (from, to) = (address("src=")?, address("dst=")?);
    let port = first("dport=").and_then(|port| port.parse().ok());
    (inside.has(from) && !inside.has(to)).then_some(Attempt {
        from,
        to,
        port,
        protocol,
        asks: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_connection_is_whose_it_was_first() {
        let inside = Inside::of_networks(["10.244.0.0/16".parse().unwrap()]);
        let line = "ipv4     2 tcp      6 114 SYN_SENT src=10.244.1.9 dst=192.0.2.1 sport=40000 dport=443 \
                    [UNREPLIED] src=192.0.2.1 dst=10.244.1.9 sport=443 dport=40000 mark=0 zone=0 use=2";
        let found = attempt(line, &inside).unwrap();
        assert_eq!((found.to.to_string(), found.port), ("192.0.2.1".into(), Some(443)));
        let within = line.replace("192.0.2.1", "10.244.1.2");
        assert_eq!(attempt(&within, &inside), None);
        let other = "ipv4 2 unknown 2 500 src=10.244.1.9 dst=224.0.0.1";
        assert_eq!(attempt(other, &inside), None);
    }
}
