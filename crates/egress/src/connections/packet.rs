//! Parses one packet, from its IP header on: sender, destination, and a hash by which the same packet
//! is recognised when it is seen a second time on its way out. The bytes are hostile: every access is
//! checked (`get`), so that a packet that is too short is `None` and no panic.
//!
//! It repeats some checks of [`super::filter`]: packets that arrive before the filter is attached come
//! here unfiltered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Message, MessageType};

use crate::observer::ObservedProtocol;
use crate::sink::message;

/// The port of name servers.
const DNS: u16 = 53;

/// The first packet of a connection, a UDP packet, or an echo request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) from_port: Option<u16>,
    pub(super) to_port: Option<u16>,
    pub(super) protocol: ObservedProtocol,
    /// The name that it asks for, when it is a DNS question.
    pub(super) asks: Option<String>,
    /// A hash of what NAT leaves as it is: TCP's sequence number, the first bytes of UDP's content,
    /// an echo request's sequence number.
    pub(super) mark: u64,
}

impl Packet {
    /// Parses a packet; `None` for one that begins nothing, or that is not complete.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (from, to, protocol, rest) = match bytes.first()? >> 4 {
            4 => {
                // RFC 791: the header's length in words of 4 bytes; with options it is more than 20 bytes.
                let header = usize::from(bytes[0] & 0xf) * 4;
                let address = |at: usize| {
                    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
                    Some(IpAddr::from(Ipv4Addr::from(octets)))
                };
                (address(12)?, address(16)?, *bytes.get(9)?, bytes.get(header.max(20)..)?)
            }
            6 => {
                let address = |at: usize| {
                    let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
                    Some(IpAddr::from(Ipv6Addr::from(octets)))
                };
                // RFC 8200: a fixed header of 40 bytes. Packets with extension headers are left out, as in
                // the filter: TCP and UDP of pods have none.
                (address(8)?, address(24)?, *bytes.get(6)?, bytes.get(40..)?)
            }
            _ => return None,
        };
        let half = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let mut packet = Self {
            from,
            to,
            from_port: None,
            to_port: None,
            protocol: ObservedProtocol::Icmp,
            asks: None,
            mark: 0,
        };
        match protocol {
            6 => {
                packet.protocol = ObservedProtocol::Tcp;
                packet.mark = hash_bytes(rest.get(4..8)?);
                // Of the flags SYN and ACK only SYN: the side that begins.
                if rest.get(13)? & 0x12 != 0x02 {
                    return None;
                }
            }
            17 => {
                let payload = rest.get(8..)?;
                packet.protocol = ObservedProtocol::Udp;
                packet.mark = hash_bytes(&payload[..payload.len().min(32)]) ^ u64::from(half(4)?);
                if half(2)? == DNS {
                    packet.asks = dns_question(payload);
                }
            }
            1 | 58 => {
                // Echo requests alone (type 8, for IPv6 128). NAT may change their identifier, not their
                // sequence number.
                packet.mark = hash_bytes(rest.get(6..8)?);
                return matches!(rest.first()?, 8 | 128).then_some(packet);
            }
            _ => return None,
        }
        packet.from_port = half(0);
        packet.to_port = half(2);
        Some(packet)
    }
}

/// The name of a DNS question: a program that asks a server outside goes around the cluster's DNS.
fn dns_question(payload: &[u8]) -> Option<String> {
    let message = Message::from_vec(payload).ok()?;
    let is_question = message.metadata.message_type == MessageType::Query;
    let query = message.queries.first().filter(|_| is_question)?;
    Some(message::normalize_name(&query.name().to_ascii()))
}

/// FNV-1a: fast, and enough to tell packets apart; it is no protection against made-up packets.
fn hash_bytes(bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn make_tcp_packet(flags: u8) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
        bytes.extend([10, 244, 1, 7, 192, 0, 2, 1]);
        bytes.extend([0xc0, 0, 1, 0xbb, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn the_first_packet_of_a_connection_is_read_and_no_other() {
        let packet = Packet::parse(&make_tcp_packet(0x02)).unwrap();
        assert_eq!(packet.from, "10.244.1.7".parse::<IpAddr>().unwrap());
        assert_eq!((packet.to.to_string(), packet.to_port), ("192.0.2.1".into(), Some(443)));
        for flags in [0x12, 0x10, 0x11, 0x04] {
            assert_eq!(Packet::parse(&make_tcp_packet(flags)), None);
        }
    }

    #[test]
    fn no_bytes_can_break_it() {
        let whole = make_tcp_packet(0x02);
        for length in 0..whole.len() {
            let _ = Packet::parse(&whole[..length]);
        }
        for first in 0..=255 {
            let _ = Packet::parse(&[first; 64]);
            let _ = Packet::parse(&[first]);
        }
    }
}
