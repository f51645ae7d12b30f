//! What can go wrong with things outside, by meaning.

use std::io;
use std::path::PathBuf;

/// An error of something outside: a registry, the Hub, a repository, an archive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network, or a server's answer.
    #[error("{what}: {cause}")]
    Net {
        /// What was asked for.
        what: String,
        /// What went wrong, with its history.
        #[source]
        cause: net::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A document that came does not parse.
    #[error(transparent)]
    Document(#[from] types::Error),
    /// What was asked for is not there.
    #[error("{what} does not exist{}", hint_after(hint))]
    NotFound {
        /// What was asked for, in full.
        what: String,
        /// What is near, or what to check.
        hint: String,
    },
    /// The image is not made for what was asked.
    #[error("{reference} is not made for {wanted}; it has {available}")]
    NoPlatform {
        /// The image.
        reference: String,
        /// The platforms that were asked for and are missing.
        wanted: String,
        /// The platforms that it has.
        available: String,
    },
    /// A server's bytes are not what their digest says.
    #[error(
        "{server} lies about {what}: {expected} was promised, the bytes are {actual}; nothing of it was kept"
    )]
    Lie {
        /// The server.
        server: String,
        /// What was asked for.
        what: String,
        /// The digest that was promised.
        expected: String,
        /// The digest that the bytes have.
        actual: String,
    },
    /// A registry found that what it was sent does not have the digest that was promised.
    #[error(
        "{registry} does not take {digest}: the bytes that were read for it have another digest ({message})"
    )]
    Mismatch {
        /// The registry.
        registry: String,
        /// The digest that was promised.
        digest: String,
        /// The registry's words.
        message: String,
    },
    /// A registry refuses an index of which not all manifests are there.
    #[error(
        "{registry} takes no index without all of its platforms ({target}); load with --sparse rewrite (the index gets another digest) or lock all its platforms"
    )]
    Sparse {
        /// The registry.
        registry: String,
        /// The name at the target.
        target: String,
    },
    /// What a push goes to refuses the first request of one.
    #[error(
        "{target} takes no push ({cause}); check the address and its path, and that it is a registry that you may write to"
    )]
    NoPush {
        /// The host and the first repository that would be written to.
        target: String,
        /// What it answered.
        #[source]
        cause: net::Error,
    },
    /// Something on this machine cannot be used as what it was given for.
    #[error("{}: {reason}", path.display())]
    Local {
        /// The file, folder or socket.
        path: PathBuf,
        /// Why not, and what would be right.
        reason: String,
    },
    /// Reading something of this machine failed.
    #[error("cannot read {what}: {cause}")]
    Read {
        /// The path or member.
        what: String,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
    /// Writing something of this machine failed.
    #[error("cannot write to {what}: {cause}")]
    Write {
        /// The path.
        what: String,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
    /// Content is not what it says of itself.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// The archive, layer or file.
        what: String,
        /// What does not fit.
        reason: String,
    },
    /// A document or member is larger than is read.
    #[error("{what} has {size} bytes, more than the {most} that are read of such a thing")]
    TooLarge {
        /// The thing.
        what: String,
        /// Its length.
        size: u64,
        /// The limit.
        most: u64,
    },
    /// A model cannot be carried as it was asked for.
    #[error("model {id}: {reason}")]
    Model {
        /// The model.
        id: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The model is given only to those who accepted its terms.
    #[error(
        "{id} is gated ({reason}); accept its terms at https://huggingface.co/{id}, then set HF_TOKEN to a token of that account"
    )]
    Gated {
        /// The model.
        id: String,
        /// What the Hub said.
        reason: String,
    },
    /// A server that is no registry wants a credential, or does not take the one that it got.
    #[error("{place} refused access to {what} ({reason}); {next}")]
    Refused {
        /// The server.
        place: String,
        /// What was asked for.
        what: String,
        /// What the server said.
        reason: String,
        /// What to do.
        next: String,
    },
    /// helm could not do something with a release in a cluster.
    #[error("helm and release {release}: {message}")]
    Helm {
        /// The release.
        release: String,
        /// helm's words.
        message: String,
    },
    /// helm cannot render a chart.
    #[error(
        "helm cannot render {chart}: {message}; mend the template, or give the values that it asks for (-f and --set; values: and set: in gantry.yaml)"
    )]
    Render {
        /// The chart.
        chart: String,
        /// What helm said.
        message: String,
    },
    /// A program that is needed is missing, too old, or failed.
    #[error("{program}: {reason}")]
    Program {
        /// The program.
        program: String,
        /// Its own message, or how to get it.
        reason: String,
    },
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Turns an error of `net` into one that says what was asked for.
    pub(crate) fn net(what: impl Into<String>) -> impl FnOnce(net::Error) -> Self {
        let what = what.into();
        move |cause| Self::Net { what, cause }
    }

    /// A document of another program that does not parse.
    pub(crate) fn document(document: impl Into<String>, message: impl std::fmt::Display) -> Self {
        let (document, message) = (document.into(), message.to_string());
        Self::Document(types::Error::Document { document, line: 0, column: 0, message })
    }

    /// Something that is not at a place, with what is there.
    pub(crate) fn absent(what: impl Into<String>, there: &[String]) -> Self {
        const SHOWN: usize = 8;
        let hint = match there {
            [] => "there is none".to_owned(),
            some if some.len() > SHOWN => {
                format!("there are {} and {} more", some[..SHOWN].join(", "), some.len() - SHOWN)
            }
            some => format!("there is {}", some.join(", ")),
        };
        Self::NotFound { what: what.into(), hint }
    }

    /// Whether the input is at fault: another input would go through.
    pub fn is_input(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::NoPlatform { .. }
            | Self::NoPush { .. }
            | Self::Local { .. }
            | Self::Document(_)
            | Self::Read { .. }
            | Self::Damaged { .. }
            | Self::TooLarge { .. }
            | Self::Model { .. }
            | Self::Gated { .. }
            | Self::Refused { .. }
            | Self::Render { .. }
            | Self::Program { .. } => true,
            Self::Net { cause, .. } => matches!(
                cause,
                net::Error::Unauthorized { .. }
                    | net::Error::Url { .. }
                    | net::Error::Tls { .. }
                    | net::Error::Untrusted { .. }
                    | net::Error::Credentials { .. }
                    | net::Error::Request { unreachable: true, .. }
            ),
            Self::Store(_)
            | Self::Write { .. }
            | Self::Lie { .. }
            | Self::Mismatch { .. }
            | Self::Sparse { .. }
            | Self::Helm { .. } => false,
        }
    }

    /// Whether content is not what it should be.
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::Lie { .. } | Self::Mismatch { .. } => true,
            Self::Store(error) => matches!(
                error,
                store::Error::DigestMismatch { .. } | store::Error::SizeMismatch { .. }
            ),
            _ => false,
        }
    }
}

fn hint_after(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!("; {hint}") }
}
