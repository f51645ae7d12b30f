//! What leaves a node, or tries to: `gantry audit watch-node`, which runs on each node in the
//! node's own network. The best source that the kernel gives is taken: its packets, else its table
//! of connections, else none, and it is told why.

mod conntrack;
mod direction;
mod filter;
mod packet;

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol as Number, Socket, Type};

use crate::inside::Inside;
use crate::line::{Attempt, Line, Source};
use crate::sink::Tell;
use crate::tally::{MOST, Tally};
use direction::Directions;
use packet::Packet;

/// linux/if_ether.h, `ETH_P_ALL`: packets of all protocols, those that leave included.
const ALL: u16 = 0x0003;
/// How long to wait for a packet until something else is looked at.
const BEAT: Duration = Duration::from_millis(250);
/// How often the table of connections is read.
const LOOK: Duration = Duration::from_millis(500);
/// What the kernel keeps for us while we count.
const BUFFER: usize = 4 << 20;

/// Watches this node until it is told to stop. What is inside is no attempt.
pub fn watch(inside: &Inside, tell: &Tell, stop: &AtomicBool) {
    let mut tally = Tally::new(MOST);
    match packets() {
        Ok(socket) => {
            tell(Line::Ready { source: Source::Packets, reason: None });
            watch_packets(socket, inside, &mut tally, tell, stop);
        }
        Err(cause) => {
            let reason = format!("packets cannot be read: {cause}");
            match conntrack::read(inside, |_| {}) {
                Ok(()) => {
                    tell(Line::Ready { source: Source::Conntrack, reason: Some(reason) });
                    watch_table(inside, &mut tally, tell, stop);
                }
                Err(cause) => {
                    let reason = format!("{reason}; {} cannot be read: {cause}", conntrack::TABLE);
                    tell(Line::Ready { source: Source::None, reason: Some(reason) });
                    while !stop.load(Ordering::Relaxed) {
                        std::thread::sleep(BEAT);
                    }
                }
            }
        }
    }
    for (attempt, seen) in tally.rest() {
        tell(Line::Attempt { attempt, seen });
    }
}

/// A socket on all interfaces of the network namespace. Datagrams: without the link's header.
fn packets() -> std::io::Result<Socket> {
    let number = Number::from(i32::from(ALL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(number))?;
    socket.attach_filter(&filter::program())?;
    socket.set_read_timeout(Some(BEAT))?;
    // Best effort: the kernel gives what its limit allows.
    let _ = socket.set_recv_buffer_size(BUFFER);
    Ok(socket)
}

fn watch_packets(
    mut socket: Socket,
    inside: &Inside,
    tally: &mut Tally<Attempt>,
    tell: &Tell,
    stop: &AtomicBool,
) {
    let mut directions = Directions::default();
    let mut bytes = [0; filter::LENGTH];
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match socket.read(&mut bytes) {
            Ok(length) => {
                let packet = Packet::read(&bytes[..length]);
                if let Some(attempt) = packet.and_then(|p| directions.attempt(p, inside)) {
                    note(tally, attempt, tell);
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                // An interface went away: the others go on.
                _ => std::thread::sleep(BEAT),
            },
        }
        if last.elapsed() >= BEAT {
            last = Instant::now();
            tell_due(tally, tell);
        }
    }
}

fn watch_table(inside: &Inside, tally: &mut Tally<Attempt>, tell: &Tell, stop: &AtomicBool) {
    // A connection stays in the table for minutes: it is counted when it comes.
    let mut known = std::collections::BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        let mut now = std::collections::BTreeSet::new();
        let read = conntrack::read(inside, |attempt| {
            if now.len() < MOST {
                now.insert(attempt);
            }
        });
        if read.is_ok() {
            for attempt in now.difference(&known) {
                note(tally, attempt.clone(), tell);
            }
            known = now;
        }
        tell_due(tally, tell);
        std::thread::sleep(LOOK);
    }
}

fn note(tally: &mut Tally<Attempt>, attempt: Attempt, tell: &Tell) {
    if let Some(seen) = tally.note(&attempt) {
        tell(Line::Attempt { attempt, seen });
    }
}

fn tell_due(tally: &mut Tally<Attempt>, tell: &Tell) {
    for (attempt, seen) in tally.due() {
        tell(Line::Attempt { attempt, seen });
    }
}
