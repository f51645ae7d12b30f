//! Parses one packet, from its IP header on: sender, destination, and a hash by which the same packet
//! is recognised when it is seen a second time on its way out. `etherparse` reads the headers, also
//! IPv6's extension headers; the bytes are hostile, and a packet that is too short is `None`.
//!
//! It repeats some checks of [`super::filter`]: packets that arrive before the filter is attached come
//! here unfiltered, and of the packets with extension headers the filter does not see more.
//!
//! VLAN tags are not there to be read: the kernel takes them off before a packet socket of datagrams
//! gets the packet (packet(7), `SOCK_DGRAM`).

use std::net::IpAddr;

use etherparse::{
    IpNumber, Ipv6ExtensionSlice, LaxIpSlice, TcpHeaderSlice, UdpHeaderSlice, icmpv4, icmpv6,
    ip_number,
};
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
        // Lax: the filter hands over only the beginning of a packet, and what a length field says
        // beyond it is no error. Headers that cannot be read leave a protocol that nothing matches.
        let (ip, _) = LaxIpSlice::from_slice(bytes).ok()?;
        // Only the first fragment has the ports.
        if fragment_offset(&ip) != 0 {
            return None;
        }
        let payload = ip.payload();
        let packet = Self {
            from: ip.source_addr(),
            to: ip.destination_addr(),
            from_port: None,
            to_port: None,
            protocol: ObservedProtocol::Icmp,
            asks: None,
            mark: 0,
        };
        match payload.ip_number {
            ip_number::TCP => packet.with_tcp(payload.payload),
            ip_number::UDP => packet.with_udp(payload.payload),
            number => packet.with_echo_request(number, payload.payload),
        }
    }

    /// The packet with what its TCP header says, if it is the first of a connection.
    fn with_tcp(mut self, segment: &[u8]) -> Option<Self> {
        let header = TcpHeaderSlice::from_slice(segment).ok()?;
        // Of the flags SYN and ACK only SYN: the side that begins.
        if !header.syn() || header.ack() {
            return None;
        }
        self.protocol = ObservedProtocol::Tcp;
        self.mark = hash_bytes(&header.sequence_number().to_be_bytes());
        self.from_port = Some(header.source_port());
        self.to_port = Some(header.destination_port());
        Some(self)
    }

    /// The packet with what its UDP header says, and the name that it asks for.
    fn with_udp(mut self, datagram: &[u8]) -> Option<Self> {
        let header = UdpHeaderSlice::from_slice(datagram).ok()?;
        let payload = datagram.get(header.slice().len()..)?;
        self.protocol = ObservedProtocol::Udp;
        self.mark = hash_bytes(&payload[..payload.len().min(32)]) ^ u64::from(header.length());
        self.from_port = Some(header.source_port());
        self.to_port = Some(header.destination_port());
        if header.destination_port() == DNS {
            self.asks = dns_question(payload);
        }
        Some(self)
    }

    /// The packet, if it is an echo request. NAT may change its identifier, not its sequence number.
    fn with_echo_request(mut self, number: IpNumber, message: &[u8]) -> Option<Self> {
        let request = match number {
            ip_number::ICMP => icmpv4::TYPE_ECHO_REQUEST,
            ip_number::IPV6_ICMP => icmpv6::TYPE_ECHO_REQUEST,
            _ => return None,
        };
        self.mark = hash_bytes(message.get(6..8)?);
        (*message.first()? == request).then_some(self)
    }
}

/// The place of a fragment in its packet, in units of 8 bytes; 0 for a whole packet as well.
fn fragment_offset(ip: &LaxIpSlice<'_>) -> u16 {
    match ip {
        LaxIpSlice::Ipv4(v4) => v4.header().fragments_offset().value(),
        LaxIpSlice::Ipv6(v6) => {
            let fragments = v6.extensions().clone().into_iter().filter_map(|header| match header {
                Ipv6ExtensionSlice::Fragment(fragment) => Some(fragment.fragment_offset().value()),
                _ => None,
            });
            fragments.max().unwrap_or_default()
        }
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

    /// A DNS question over IPv6 for `a.example`, behind these extension headers.
    fn make_ipv6_question(first: u8, extensions: &[u8]) -> Vec<u8> {
        let question: &[u8] =
            b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x01\x00\x01";
        let udp = u16::try_from(8 + question.len()).unwrap().to_be_bytes();
        let length = u16::try_from(extensions.len() + 8 + question.len()).unwrap().to_be_bytes();
        let mut bytes = vec![0x60, 0, 0, 0, length[0], length[1], first, 64];
        bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        bytes.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        bytes.extend(extensions);
        bytes.extend([0xc0, 0, 0, 53, udp[0], udp[1], 0, 0]);
        bytes.extend(question);
        bytes
    }

    /// A fragment header: next header UDP, this offset, "more fragments".
    fn make_fragment_header(offset: u16) -> [u8; 8] {
        let [high, low] = (offset << 3 | 1).to_be_bytes();
        [17, 0, high, low, 0, 0, 0, 1]
    }

    #[test]
    fn extension_headers_of_ipv6_are_followed() {
        let hop_by_hop = [17, 0, 1, 4, 0, 0, 0, 0];
        let both = [[60, 0, 1, 4, 0, 0, 0, 0], hop_by_hop].concat();
        for (first, extensions) in
            [(17, &[][..]), (0, &hop_by_hop), (0, &both), (44, &make_fragment_header(0))]
        {
            let packet = Packet::parse(&make_ipv6_question(first, extensions)).unwrap();
            assert_eq!(packet.to.to_string(), "2001:db8::9");
            assert_eq!(packet.to_port, Some(53));
            assert_eq!(packet.asks.as_deref(), Some("a.example"));
        }
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let later = make_ipv6_question(44, &make_fragment_header(100));
        assert_eq!(Packet::parse(&later), None);
        let mut fragment = make_tcp_packet(0x02);
        fragment[7] = 1;
        assert_eq!(Packet::parse(&fragment), None);
        // The first one, with more to come.
        fragment[6..8].copy_from_slice(&[0x20, 0]);
        assert_eq!(Packet::parse(&fragment).unwrap().to_port, Some(443));
    }

    #[test]
    fn a_packet_that_was_cut_off_is_read() {
        let mut long = make_tcp_packet(0x02);
        long[2..4].copy_from_slice(&1500_u16.to_be_bytes());
        assert_eq!(Packet::parse(&long).unwrap().to_port, Some(443));
    }

    #[test]
    fn only_echo_requests_of_their_own_version_count() {
        let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1, 0, 0];
        bytes.extend([10, 244, 1, 7, 192, 0, 2, 1, 8, 0, 0, 0, 0, 1, 0, 2]);
        assert_eq!(Packet::parse(&bytes).unwrap().protocol, ObservedProtocol::Icmp);
        for kind in [0, 128] {
            bytes[20] = kind;
            assert_eq!(Packet::parse(&bytes), None);
        }
    }

    #[test]
    fn no_bytes_can_break_it() {
        let whole = make_tcp_packet(0x02);
        for length in 0..whole.len() {
            let _ = Packet::parse(&whole[..length]);
        }
        let question = make_ipv6_question(44, &make_fragment_header(0));
        for length in 0..question.len() {
            let _ = Packet::parse(&question[..length]);
        }
        for first in 0..=255 {
            let _ = Packet::parse(&[first; 64]);
            let _ = Packet::parse(&[first]);
        }
    }
}
