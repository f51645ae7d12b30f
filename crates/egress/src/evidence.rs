//! What was seen while an audit soaked, as the parts in the cluster told it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::line::{Attempt, Line, Query, Source};
use crate::pods::Book;
use crate::tally::Seen;

/// Everything that was seen.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Names that were asked for.
    pub queries: BTreeMap<Query, Seen>,
    /// Packets that went out, by the node that saw them.
    pub attempts: BTreeMap<(String, Attempt), Seen>,
    /// Whose addresses they were.
    pub book: Book,
    /// By what each part saw.
    pub sources: Vec<Seeing>,
    /// What was done in between.
    pub exercised: Vec<Exercised>,
    /// What was not seen, and why.
    pub gaps: Vec<String>,
    /// From when on everything was in place.
    pub from: Option<Timestamp>,
    /// Until when.
    pub to: Option<Timestamp>,
}

/// By what something was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seeing {
    /// `names`, or the node.
    pub place: String,
    /// By what.
    pub source: Source,
    /// Why not by something better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something that was done so that the workloads do what they do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exercised {
    /// What: a release and its first inference, or a command.
    pub what: String,
    /// What came of it.
    pub outcome: Outcome,
    /// In words.
    pub detail: String,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It worked.
    Done,
    /// It did not.
    Failed,
}

/// What a part in the cluster has told so far, beside what it saw.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// By what it sees; absent until it is at work.
    pub(crate) source: Option<(Source, Option<String>)>,
    /// The name servers that forward to it, and whether they still do.
    pub(crate) servers: BTreeMap<SocketAddr, bool>,
    /// What it had no room for.
    pub(crate) left_out: u64,
}

impl Evidence {
    /// Takes a line of the part at `place`. Lines carry totals, so that one that is read again, after
    /// a connection broke, changes nothing.
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
