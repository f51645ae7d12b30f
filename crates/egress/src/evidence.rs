//! The evidence of an audit: all that the sink and the watchers saw while it listened. [`crate::soak`]
//! collects it, [`crate::report`] makes a report of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::line::{Attempt, Line, Query, Source};
use crate::pods::Book;
use crate::tally::Seen;

/// Everything that was seen during an audit.
#[derive(Debug, Default)]
pub struct Evidence {
    /// DNS names that were asked for.
    pub queries: BTreeMap<Query, Seen>,
    /// Packets that went out, each with the node that saw it.
    pub attempts: BTreeMap<(String, Attempt), Seen>,
    /// The pods that had the addresses.
    pub book: Book,
    /// How each observer saw: the sink, and the watcher of each node.
    pub sources: Vec<Seeing>,
    /// What was done meanwhile so that the workloads do their work.
    pub exercised: Vec<Exercised>,
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
pub struct Seeing {
    /// `names` for the DNS sink, or the name of the node.
    pub place: String,
    /// How it saw.
    pub source: Source,
    /// Why it could not use a better method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something that was done during an audit so that the workloads do their work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exercised {
    /// What was done: a first inference of a release, or a command.
    pub what: String,
    /// Whether it worked.
    pub outcome: Outcome,
    /// The answer or the error.
    pub detail: String,
}

/// Whether an exercise worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It worked.
    Done,
    /// It did not.
    Failed,
}

/// The state of an observer, from its own messages.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// How it sees, and why not better; absent until it has started.
    pub(crate) source: Option<(Source, Option<String>)>,
    /// For the sink: the CoreDNS pods that were seen to forward to it, and whether they still do.
    pub(crate) servers: BTreeMap<SocketAddr, bool>,
    /// How many sightings it had no room for.
    pub(crate) left_out: u64,
}

impl Evidence {
    /// Records a message of the observer at `place`. Messages have totals, not increments: one that is
    /// read twice, because the log is read again after a connection broke, changes nothing.
    pub(crate) fn take(&mut self, place: &str, told: &mut Told, line: Line) {
        match line {
            Line::Ready { source, reason } => told.source = Some((source, reason)),
            Line::Query { query, seen } => {
                self.queries.insert(query, seen);
            }
            Line::Attempt { attempt, seen } => {
                self.attempts.insert((place.to_owned(), attempt), seen);
            }
            Line::Reached { server } => {
                told.servers.insert(server, true);
            }
            Line::Lost { server } => {
                told.servers.insert(server, false);
            }
            Line::LeftOut { count } => told.left_out = count,
        }
    }
}
