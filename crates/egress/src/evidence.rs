//! The evidence of an audit: all that the sink and the watchers saw while it listened. [`crate::run_soak`]
//! collects it, [`crate::make_report`] makes a report of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::observer::{DnsQuery, ObservationMethod, ObserverMessage, OutgoingPacket};
use crate::pods::PodAddressBook;
use crate::tally::Sightings;

/// Everything that was seen during an audit.
#[derive(Debug, Default)]
pub struct AuditEvidence {
    /// DNS names that were asked for.
    pub queries: BTreeMap<DnsQuery, Sightings>,
    /// Packets that went out, each with the node that saw it.
    pub attempts: BTreeMap<(String, OutgoingPacket), Sightings>,
    /// The pods that had the addresses.
    pub book: PodAddressBook,
    /// How each observer saw: the sink, and the watcher of each node.
    pub sources: Vec<Observer>,
    /// What was done meanwhile so that the workloads do their work.
    pub exercised: Vec<ExerciseResult>,
    /// What could not be seen, and why. With gaps, silence proves nothing.
    pub gaps: Vec<String>,
    /// When everything was in place and the audit began to listen.
    pub from: Option<Timestamp>,
    /// When it ended.
    pub to: Option<Timestamp>,
}

/// An observer, and how it saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observer {
    /// `names` for the DNS sink, or the name of the node.
    pub place: String,
    /// How it saw.
    pub source: ObservationMethod,
    /// Why it could not use a better method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something that was done during an audit so that the workloads do their work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExerciseResult {
    /// What was done: a first inference of a release, or a command.
    pub what: String,
    /// Whether it worked.
    pub outcome: ExerciseOutcome,
    /// The answer or the error.
    pub detail: String,
}

/// Whether an exercise worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExerciseOutcome {
    /// It worked.
    Done,
    /// It did not.
    Failed,
}

/// The state of an observer, from its own messages.
#[derive(Debug, Default)]
pub(crate) struct ObserverStatus {
    /// How it sees, and why not better; absent until it has started.
    pub(crate) source: Option<(ObservationMethod, Option<String>)>,
    /// For the sink: the CoreDNS pods that were seen to forward to it, and whether they still do.
    pub(crate) servers: BTreeMap<SocketAddr, bool>,
    /// How many sightings it had no room for.
    pub(crate) left_out: u64,
}

impl AuditEvidence {
    /// Records a message of the observer at `place`. Messages have totals, not increments: one that is
    /// read twice, because the log is read again after a connection broke, changes nothing.
    pub(crate) fn record_message(
        &mut self,
        place: &str,
        told: &mut ObserverStatus,
        line: ObserverMessage,
    ) {
        match line {
            ObserverMessage::Ready { source, reason } => told.source = Some((source, reason)),
            ObserverMessage::Query { query, seen } => {
                self.queries.insert(query, seen);
            }
            ObserverMessage::Attempt { attempt, seen } => {
                self.attempts.insert((place.to_owned(), attempt), seen);
            }
            ObserverMessage::Reached { server } => {
                told.servers.insert(server, true);
            }
            ObserverMessage::Lost { server } => {
                told.servers.insert(server, false);
            }
            ObserverMessage::LeftOut { count } => told.left_out = count,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::observer::ObservedProtocol;

    use super::*;

    fn make_seen(count: u64) -> Sightings {
        Sightings { count, ..Sightings::once("2026-11-21T12:00:00Z".parse().unwrap()) }
    }

    #[test]
    fn a_message_that_is_read_twice_changes_nothing() {
        let (mut evidence, mut status) = (AuditEvidence::default(), ObserverStatus::default());
        let query = DnsQuery { name: "maker.com".into(), kind: "A".into(), client: None };
        for count in [1, 5, 5] {
            let line = ObserverMessage::Query { query: query.clone(), seen: make_seen(count) };
            evidence.record_message("names", &mut status, line);
            let left_out = ObserverMessage::LeftOut { count };
            evidence.record_message("names", &mut status, left_out);
        }
        assert_eq!((evidence.queries[&query].count, status.left_out), (5, 5));
    }

    #[test]
    fn the_same_packet_on_two_nodes_is_two_sightings() {
        let (mut evidence, mut status) = (AuditEvidence::default(), ObserverStatus::default());
        for node in ["node1", "node2"] {
            let attempt = OutgoingPacket {
                from: "10.244.1.7".parse().unwrap(),
                to: "192.0.2.1".parse().unwrap(),
                port: None,
                protocol: ObservedProtocol::Icmp,
                asks: None,
            };
            let line = ObserverMessage::Attempt { attempt, seen: make_seen(1) };
            evidence.record_message(node, &mut status, line);
        }
        assert_eq!(evidence.attempts.len(), 2);
    }

    #[test]
    fn a_name_server_that_was_lost_is_remembered_as_lost() {
        let (mut evidence, mut status) = (AuditEvidence::default(), ObserverStatus::default());
        let server: SocketAddr = "10.244.0.2:53".parse().unwrap();
        for line in [ObserverMessage::Reached { server }, ObserverMessage::Lost { server }] {
            evidence.record_message("names", &mut status, line);
        }
        assert_eq!(status.servers, [(server, false)].into());
    }
}
