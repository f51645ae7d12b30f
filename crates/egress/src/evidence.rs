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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
