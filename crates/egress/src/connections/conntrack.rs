//! The second best method: the kernel's connection table. Connections whose first packet a network
//! policy drops are not in it, and those that come and go between two reads are not seen.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;

use crate::observer::{ObservedProtocol, OutgoingPacket};
use crate::perimeter::Perimeter;

/// The table of this process's network namespace. It exists while the module nf_conntrack is loaded and
/// the kernel has CONFIG_NF_CONNTRACK_PROCFS; root alone may read it.
pub(super) const TABLE: &str = "/proc/self/net/nf_conntrack";

/// Reads the table, and calls `visit` for each connection from inside to outside.
pub(super) fn read_table(
    inside: &Perimeter,
    mut visit: impl FnMut(OutgoingPacket),
) -> std::io::Result<()> {
    for line in BufReader::new(File::open(TABLE)?).lines() {
        if let Some(attempt) = parse_entry(&line?, inside) {
            visit(attempt);
        }
    }
    Ok(())
}

/// Reads one entry: `ipv4 2 tcp 6 89 SYN_SENT src=… dst=… sport=… dport=… [UNREPLIED] src=… …`. Each
/// `src=` and `dst=` is there twice, for the packets of each direction; the first is the side that
/// began.
fn parse_entry(line: &str, inside: &Perimeter) -> Option<OutgoingPacket> {
    let mut words = line.split_whitespace();
    let protocol = match words.nth(2)? {
        "tcp" => ObservedProtocol::Tcp,
        "udp" => ObservedProtocol::Udp,
        "icmp" | "icmpv6" => ObservedProtocol::Icmp,
        _ => return None,
    };
    let first = |key: &str| {
        let mut values = line.split_whitespace().filter_map(|word| word.strip_prefix(key));
        values.next()
    };
    let address = |key| first(key)?.parse::<IpAddr>().ok();
    let (from, to) = (address("src=")?, address("dst=")?);
    let port = first("dport=").and_then(|port| port.parse().ok());
    (inside.contains(from) && !inside.contains(to)).then_some(OutgoingPacket {
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
        let inside = Perimeter::from_networks(["10.244.0.0/16".parse().unwrap()]);
        let line = "ipv4     2 tcp      6 114 SYN_SENT src=10.244.1.9 dst=192.0.2.1 sport=40000 dport=443 \
                    [UNREPLIED] src=192.0.2.1 dst=10.244.1.9 sport=443 dport=40000 mark=0 zone=0 use=2";
        let found = parse_entry(line, &inside).unwrap();
        assert_eq!((found.to.to_string(), found.port), ("192.0.2.1".into(), Some(443)));
        let within = line.replace("192.0.2.1", "10.244.1.2");
        assert_eq!(parse_entry(&within, &inside), None);
        let other = "ipv4 2 unknown 2 500 src=10.244.1.9 dst=224.0.0.1";
        assert_eq!(parse_entry(other, &inside), None);
    }
}
