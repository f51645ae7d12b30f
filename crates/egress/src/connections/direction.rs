//! Decides which packets are attempts to leave. A node sees a pod's packet twice when its address is
//! translated on the way out (NAT), and it sees answers to what came in from outside; neither is an
//! attempt of its own.
//!
//! An example with the pod 10.244.1.7 on the node 10.0.0.11, both inside:
//!
//! ```text
//! seen on   from         to             result
//! veth      10.244.1.7   192.0.2.1:443  outgoing, counted for the pod
//! eth0      10.0.0.11    192.0.2.1:443  the same packet after NAT (same sequence number): not counted
//! eth0      192.0.2.9    10.244.1.7:53  from outside: not outgoing, the caller is remembered
//! veth      10.244.1.7   192.0.2.9      UDP to a caller within three minutes: an answer, not counted
//! ```
//!
//! TCP needs no such memory: the filter passes only first packets (SYN), never answers (SYN, ACK).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::packet::Packet;
use crate::observer::{ObservedProtocol, OutgoingPacket};
use crate::perimeter::Perimeter;

/// The longest time that a packet may take through a node.
const PASSAGE: Duration = Duration::from_secs(1);
/// How many packets are remembered for that time. They are searched one by one, which bounds the work of
/// each packet.
const PASSING: usize = 4096;
/// How long after a packet from outside an answer to it is expected: conntrack's timeout for UDP streams
/// in older kernels.
const ANSWER: Duration = Duration::from_secs(180);
/// How many senders outside are remembered.
const CALLERS: usize = 8192;

/// What was seen lately.
#[derive(Debug, Default)]
pub(super) struct DirectionTracker {
    /// Outgoing packets of the last second, oldest first.
    passing: VecDeque<(Instant, IpAddr, PacketFingerprint)>,
    /// Addresses and ports outside that sent a UDP packet in, and when last.
    callers: HashMap<(IpAddr, u16), Instant>,
}

/// What of a packet NAT leaves as it is: destination, port, protocol, and a hash of its content.
type PacketFingerprint = (IpAddr, Option<u16>, ObservedProtocol, u64);

impl DirectionTracker {
    /// The packet as an attempt to leave, if it is one that was not counted yet.
    pub(super) fn outgoing_packet(
        &mut self,
        packet: Packet,
        inside: &Perimeter,
    ) -> Option<OutgoingPacket> {
        let now = Instant::now();
        // A pod that was made after the watcher started is not in the list of what is inside; but its
        // address is nearly always a private one.
        let is_from_inside = inside.contains(packet.from) || is_private_address(packet.from);
        let is_to_inside = inside.contains(packet.to);
        if is_to_inside || !is_from_inside {
            if !is_from_inside && is_to_inside && packet.protocol == ObservedProtocol::Udp {
                self.record_caller(packet.from, packet.from_port?, now);
            }
            return None;
        }
        if packet.protocol == ObservedProtocol::Udp {
            // The answer goes to the port that the question came from.
            let caller = (packet.to, packet.to_port?);
            if self.callers.get(&caller).is_some_and(|at| now.duration_since(*at) < ANSWER) {
                return None;
            }
        }
        while self.passing.front().is_some_and(|(at, ..)| now.duration_since(*at) > PASSAGE)
            || self.passing.len() >= PASSING
        {
            self.passing.pop_front();
        }
        let print = (packet.to, packet.to_port, packet.protocol, packet.mark);
        if self.passing.iter().any(|(_, _, known)| *known == print) {
            return None;
        }
        self.passing.push_back((now, packet.from, print));
        Some(OutgoingPacket {
            from: packet.from,
            to: packet.to,
            port: packet.to_port,
            protocol: packet.protocol,
            asks: packet.asks,
        })
    }

    /// Remembers a sender outside. When the memory is full of recent ones (a scan from outside), all are
    /// forgotten: better to count some answers than to grow without end.
    fn record_caller(&mut self, from: IpAddr, port: u16, now: Instant) {
        if self.callers.len() >= CALLERS {
            self.callers.retain(|_, at| now.duration_since(*at) < ANSWER);
            if self.callers.len() >= CALLERS {
                self.callers.clear();
            }
        }
        self.callers.insert((from, port), now);
    }
}

/// Private addresses: RFC 1918, RFC 6598 (100.64.0.0/10, which clouds give to pods), RFC 4193.
fn is_private_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn make_packet(from: &str, to: &str, protocol: ObservedProtocol, mark: u64) -> Packet {
        Packet {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            from_port: Some(40_000),
            to_port: Some(443),
            protocol,
            asks: None,
            mark,
        }
    }

    fn make_perimeter() -> Perimeter {
        Perimeter::from_networks([
            "10.244.0.0/16".parse().unwrap(),
            "10.99.0.0/24".parse().unwrap(),
        ])
    }

    #[test]
    fn a_packet_whose_address_was_translated_is_the_pods_and_counted_once() {
        let (mut directions, inside) = (DirectionTracker::default(), make_perimeter());
        let tcp = |from, mark| make_packet(from, "192.0.2.1", ObservedProtocol::Tcp, mark);
        let first = directions.outgoing_packet(tcp("10.244.1.7", 1), &inside).unwrap();
        assert_eq!(first.from.to_string(), "10.244.1.7");
        assert_eq!(directions.outgoing_packet(tcp("10.99.0.11", 1), &inside), None);
        assert!(directions.outgoing_packet(tcp("10.99.0.11", 2), &inside).is_some());
    }

    #[test]
    fn an_answer_to_what_came_in_is_no_attempt() {
        let (mut directions, inside) = (DirectionTracker::default(), make_perimeter());
        let mut question = make_packet("192.0.2.1", "10.244.1.7", ObservedProtocol::Udp, 1);
        question.from_port = Some(443);
        assert_eq!(directions.outgoing_packet(question, &inside), None);
        let answer = make_packet("10.244.1.7", "192.0.2.1", ObservedProtocol::Udp, 2);
        assert_eq!(directions.outgoing_packet(answer, &inside), None);
        let own = make_packet("10.244.1.7", "192.0.2.2", ObservedProtocol::Udp, 3);
        assert!(directions.outgoing_packet(own, &inside).is_some());
    }

    #[test]
    fn only_what_goes_to_the_port_that_asked_is_an_answer_and_only_for_udp() {
        let (mut directions, inside) = (DirectionTracker::default(), make_perimeter());
        let mut question = make_packet("192.0.2.1", "10.244.1.7", ObservedProtocol::Udp, 1);
        question.from_port = Some(5000);
        directions.outgoing_packet(question, &inside);
        let to_port = |port, protocol, mark| {
            let packet = make_packet("10.244.1.7", "192.0.2.1", protocol, mark);
            Packet { to_port: Some(port), ..packet }
        };
        assert_eq!(
            directions.outgoing_packet(to_port(5000, ObservedProtocol::Udp, 2), &inside),
            None
        );
        for (port, protocol, mark) in
            [(5001, ObservedProtocol::Udp, 3), (5000, ObservedProtocol::Tcp, 4)]
        {
            assert!(directions.outgoing_packet(to_port(port, protocol, mark), &inside).is_some());
        }
    }

    #[test]
    fn a_sender_with_a_private_address_that_nobody_declared_is_a_new_pod() {
        let (mut directions, inside) = (DirectionTracker::default(), make_perimeter());
        let mut mark = 0;
        let mut is_counted = |from: &str, to: &str| {
            mark += 1;
            let packet = make_packet(from, to, ObservedProtocol::Tcp, mark);
            directions.outgoing_packet(packet, &inside).is_some()
        };
        for from in ["172.20.0.5", "100.64.0.1", "100.127.255.254", "fd00::5"] {
            let to = if from.contains(':') { "2001:db8::1" } else { "192.0.2.1" };
            assert!(is_counted(from, to), "{from}");
        }
        for from in ["100.63.255.255", "100.128.0.1", "198.51.100.1", "2001:db8::2"] {
            assert!(!is_counted(from, "192.0.2.1"), "{from}");
        }
        // Within the cluster, and in from outside.
        assert!(!is_counted("10.244.1.7", "10.99.0.11"));
        assert!(!is_counted("192.0.2.1", "10.244.1.7"));
    }

    #[test]
    fn what_is_remembered_is_bounded_however_much_is_seen() {
        let (mut directions, inside) = (DirectionTracker::default(), make_perimeter());
        for mark in 0..=PASSING as u64 {
            let packet = make_packet("10.244.1.7", "192.0.2.1", ObservedProtocol::Tcp, mark);
            assert!(directions.outgoing_packet(packet, &inside).is_some());
        }
        assert_eq!(directions.passing.len(), PASSING);
        let now = Instant::now();
        for caller in 0..=CALLERS as u32 {
            directions.record_caller(IpAddr::from(caller.to_be_bytes()), 53, now);
        }
        assert!(directions.callers.len() <= CALLERS);
        assert!(
            directions.callers.contains_key(&(IpAddr::from((CALLERS as u32).to_be_bytes()), 53))
        );
    }
}
