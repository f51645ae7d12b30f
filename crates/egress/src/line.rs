//! What the parts in the cluster tell: one JSON object a line on their standard output, which the
//! audit reads as the log of their pods. Nothing else has to reach them.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::tally::Seen;

/// The longest line that is read.
const LONGEST: usize = 4096;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub enum Line {
    /// It is at work.
    Ready {
        /// By what it sees.
        source: Source,
        /// Why it does not see by something better.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A name was asked for.
    Query {
        /// What was asked, by whom.
        query: Query,
        /// When and how often.
        seen: Seen,
    },
    /// A packet went out.
    Attempt {
        /// From where to where.
        attempt: Attempt,
        /// When and how often.
        seen: Seen,
    },
    /// A question of the sink's own to a name server came back to the sink.
    Reached {
        /// The name server.
        server: SocketAddr,
    },
    /// Questions of the sink's own to a name server come back no more.
    Lost {
        /// The name server.
        server: SocketAddr,
    },
    /// There was no room for more.
    LeftOut {
        /// How many sightings so far.
        count: u64,
    },
}

/// By what something is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Questions that CoreDNS forwards.
    Dns,
    /// Packets of all of the node's interfaces: also those that a network policy drops.
    Packets,
    /// The kernel's table of connections: what a policy drops may not be in it.
    Conntrack,
    /// Nothing.
    None,
}

/// A question for a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Query {
    /// The name, in lower case, without the last dot.
    pub name: String,
    /// The type: `A`, `AAAA`, …
    pub kind: String,
    /// Who asked; absent when the name server did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
}

/// The first packet of something that would leave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attempt {
    /// The sender's address.
    pub from: IpAddr,
    /// Where it was sent.
    pub to: IpAddr,
    /// The port; absent where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The protocol.
    pub protocol: Protocol,
    /// The name that a DNS question in it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<String>,
}

/// A protocol above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// An echo request of ICMP.
    Icmp,
}

impl Protocol {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

impl Line {
    /// Reads the lines of a log; what is no line of ours (a warning, half a line) is left out.
    pub fn read(log: &str) -> impl Iterator<Item = Self> + '_ {
        log.lines()
            .filter(|line| line.len() <= LONGEST && line.starts_with('{'))
            .filter_map(|line| serde_json::from_str(line).ok())
    }
}
