//! The messages of an audit's observers (the DNS sink and the watchers on the nodes): one line of JSON
//! each on their standard output. The audit reads them as logs of the pods, through the API server, so
//! that no network path to the pods is needed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::tally::Sightings;

/// The longest line that is read; the longest of ours, with two names of 255 bytes, is far below.
const LONGEST: usize = 4096;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub enum ObserverMessage {
    /// The observer has started.
    Ready {
        /// How it sees.
        source: ObservationMethod,
        /// Why it cannot use a better method.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A DNS name was asked for.
    Query {
        /// The name and who asked.
        query: DnsQuery,
        /// When and how often so far.
        seen: Sightings,
    },
    /// A packet went out that begins a connection.
    Attempt {
        /// Its sender and destination.
        attempt: OutgoingPacket,
        /// When and how often so far.
        seen: Sightings,
    },
    /// A test question that the sink sent to a name server came back: the server forwards to the sink.
    Reached {
        /// The name server.
        server: SocketAddr,
    },
    /// Test questions to a name server do not come back any more.
    Lost {
        /// The name server.
        server: SocketAddr,
    },
    /// The observer's memory is full; further new things are only counted.
    LeftOut {
        /// How many sightings were left out so far.
        count: u64,
    },
}

/// How an observer sees what leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ObservationMethod {
    /// DNS questions that CoreDNS forwards to the sink.
    Dns,
    /// Packets on all interfaces of the node, also those that a network policy drops.
    Packets,
    /// The kernel's connection table (conntrack); what a policy drops may be missing in it.
    Conntrack,
    /// Not at all.
    None,
}

/// A DNS question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DnsQuery {
    /// The name, in lower case, without a dot at the end.
    pub name: String,
    /// The record type: `A`, `AAAA`, …
    pub kind: String,
    /// The address that asked; absent when the name server did not pass it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
}

/// The first packet of a connection to the outside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OutgoingPacket {
    /// The sender's address.
    pub from: IpAddr,
    /// The destination's address.
    pub to: IpAddr,
    /// The destination's port; absent where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The protocol.
    pub protocol: ObservedProtocol,
    /// The name that it asks for, when it is a DNS question to a server outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<String>,
}

/// A protocol above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObservedProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// An echo request of ICMP.
    Icmp,
}

impl ObservedProtocol {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

impl ObserverMessage {
    /// Reads the messages in a log. Lines that are not messages (a warning of the runtime, a line that
    /// was cut) are skipped.
    pub fn parse_log(log: &str) -> impl Iterator<Item = Self> + '_ {
        log.lines()
            .filter(|line| line.len() <= LONGEST && line.starts_with('{'))
            .filter_map(|line| serde_json::from_str(line).ok())
    }
}

/// Where an observer's messages go: standard output, or the audit in the same process.
pub type ObserverOutput = Arc<dyn Fn(ObserverMessage) + Send + Sync>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn messages_are_read_out_of_a_log_with_other_lines_in_it() {
        let server = "10.244.0.2:53".parse().unwrap();
        let messages = [
            ObserverMessage::Ready { source: ObservationMethod::Dns, reason: None },
            ObserverMessage::Reached { server },
            ObserverMessage::LeftOut { count: 7 },
        ];
        let mut log = "a warning of the runtime\n".to_owned();
        for message in &messages {
            log.push_str(&format!("{}\n", serde_json::to_string(message).unwrap()));
        }
        // One of another program, one that is too long, and one that was cut.
        log.push_str("{\"level\":\"info\"}\n");
        log.push_str(&format!("{{\"is\":\"leftOut\",\"count\":9{}}}\n", " ".repeat(LONGEST)));
        log.push_str("{\"is\":\"leftOut\",\"cou");
        assert_eq!(ObserverMessage::parse_log(&log).collect::<Vec<_>>(), messages);
    }
}
