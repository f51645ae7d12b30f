//! Watches what leaves a node, or tries to: `gantry audit watch-node`, which runs on each node in the
//! node's own network namespace. It uses the best method that the kernel allows: packets, else the
//! connection table, else none, and reports why it is not a better one.
//!
//! ```text
//!  packet socket ─▶ filter (in the kernel) ─▶ packet (parse) ─▶ direction (whose?) ─┐
//!  nf_conntrack ──────────────────────────▶ conntrack (parse) ──────────────────────┴─▶ tally ─▶ log
//! ```

mod conntrack;
mod direction;
mod filter;
mod packet;

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol as Number, Socket, Type};

use crate::observer::{ObservationMethod, ObserverMessage, OutgoingPacket};
use crate::perimeter::Perimeter;
use crate::sink::ObserverOutput;
use crate::tally::{MOST, SightingTally};
use direction::DirectionTracker;
use packet::Packet;

/// linux/if_ether.h, `ETH_P_ALL`: packets of all protocols, and with this value alone also those that
/// are being sent. A pod's packet is seen as it comes out of the pod, before a policy's rules drop it.
const ALL: u16 = 0x0003;
/// How long a read waits for a packet: so often reports and the stop flag get their turn.
const BEAT: Duration = Duration::from_millis(250);
/// How often the connection table is read: short connections are in it for seconds after their end.
const LOOK: Duration = Duration::from_millis(500);
/// The socket's buffer in bytes: a burst of new connections while a report is written.
const BUFFER: usize = 4 << 20;

/// Watches this node until `stop` is set, and reports with `tell`. Packets to what is `inside` do not
/// count. Blocks.
pub fn watch_node(inside: &Perimeter, tell: &ObserverOutput, stop: &AtomicBool) {
    let mut tally = SightingTally::new(MOST);
    match open_packet_socket() {
        Ok(socket) => {
            tell(ObserverMessage::Ready { source: ObservationMethod::Packets, reason: None });
            watch_packets(socket, inside, &mut tally, tell, stop);
        }
        Err(cause) => {
            let reason = format!("packets cannot be captured: {cause}");
            match conntrack::read_table(inside, |_| {}) {
                Ok(()) => {
                    tell(ObserverMessage::Ready {
                        source: ObservationMethod::Conntrack,
                        reason: Some(reason),
                    });
                    watch_conntrack(inside, &mut tally, tell, stop);
                }
                Err(cause) => {
                    let reason = format!("{reason}; {} cannot be read: {cause}", conntrack::TABLE);
                    tell(ObserverMessage::Ready {
                        source: ObservationMethod::None,
                        reason: Some(reason),
                    });
                    // The pod stays: its log says why nothing was seen, and an end would look like a crash.
                    while !stop.load(Ordering::Relaxed) {
                        std::thread::sleep(BEAT);
                    }
                }
            }
        }
    }
    for (attempt, seen) in tally.take_unreported() {
        tell(ObserverMessage::Attempt { attempt, seen });
    }
}

/// A packet socket on all interfaces of the network namespace. As datagrams, so that packets begin with
/// their IP header on any kind of interface (packet(7)). The filter is attached before the first read;
/// packets that came in between are parsed like all others.
fn open_packet_socket() -> std::io::Result<Socket> {
    let number = Number::from(i32::from(ALL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(number))?;
    socket.attach_filter(&filter::build_program())?;
    socket.set_read_timeout(Some(BEAT))?;
    // Best effort: the kernel caps it at net.core.rmem_max.
    let _ = socket.set_recv_buffer_size(BUFFER);
    Ok(socket)
}

/// Watches packets until `stop` is set.
fn watch_packets(
    mut socket: Socket,
    inside: &Perimeter,
    tally: &mut SightingTally<OutgoingPacket>,
    tell: &ObserverOutput,
    stop: &AtomicBool,
) {
    let mut directions = DirectionTracker::default();
    let mut bytes = [0; filter::LENGTH];
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match socket.read(&mut bytes) {
            Ok(length) => {
                let packet = Packet::parse(&bytes[..length]);
                if let Some(attempt) = packet.and_then(|p| directions.outgoing_packet(p, inside)) {
                    record_packet(tally, attempt, tell);
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                // An interface went down (ENETDOWN): the others go on.
                _ => std::thread::sleep(BEAT),
            },
        }
        if last.elapsed() >= BEAT {
            last = Instant::now();
            report_due(tally, tell);
        }
    }
}

/// Watches the connection table until `stop` is set.
fn watch_conntrack(
    inside: &Perimeter,
    tally: &mut SightingTally<OutgoingPacket>,
    tell: &ObserverOutput,
    stop: &AtomicBool,
) {
    // A connection stays in the table for minutes, and is counted once, when it appears.
    let mut known = std::collections::BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        let mut now = std::collections::BTreeSet::new();
        let read = conntrack::read_table(inside, |attempt| {
            // The table may have a million entries.
            if now.len() < MOST {
                now.insert(attempt);
            }
        });
        if read.is_ok() {
            for attempt in now.difference(&known) {
                record_packet(tally, attempt.clone(), tell);
            }
            known = now;
        }
        report_due(tally, tell);
        std::thread::sleep(LOOK);
    }
}

/// Counts a packet, and reports it when it is new.
fn record_packet(
    tally: &mut SightingTally<OutgoingPacket>,
    attempt: OutgoingPacket,
    tell: &ObserverOutput,
) {
    if let Some(seen) = tally.add_sighting(&attempt) {
        tell(ObserverMessage::Attempt { attempt, seen });
    }
}

/// Reports what goes on.
fn report_due(tally: &mut SightingTally<OutgoingPacket>, tell: &ObserverOutput) {
    for (attempt, seen) in tally.take_due() {
        tell(ObserverMessage::Attempt { attempt, seen });
    }
}
