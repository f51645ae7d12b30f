//! What can go wrong with things outside, by meaning.

use std::io;

/// An error of a remote or of a source on this machine. It names the thing, the cause and, where
/// there is one, the next step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A text does not parse.
    #[error(transparent)]
    Types(#[from] types::Error),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The network, or a server's answer.
    #[error("{what}: {cause}")]
    Net {
        /// What was asked for.
        what: String,
        /// What went wrong, with its history.
        #[source]
        cause: net::Error,
    },
    /// A registry has no such thing.
    #[error("{what} does not exist; {hint}")]
    NotFound {
        /// What was asked for, in full.
        what: String,
        /// What is near, or what to check.
        hint: String,
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
    /// A registry refuses an index of which not all manifests are there.
    #[error(
        "{registry} takes no index without all of its platforms ({target}); load with --sparse rewrite (the index gets another digest), or lock all its platforms"
    )]
    Sparse {
        /// The registry.
        registry: String,
        /// The name at the target.
        target: String,
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
    /// A document of another program does not parse.
    #[error("{document} cannot be read: {reason}")]
    Document {
        /// The document.
        document: String,
        /// Why.
        reason: String,
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
    /// The path is no archive or layout with images.
    #[error("{path} has no image: {reason}")]
    NotAnArchive {
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The archive, layout or engine has no such image.
    #[error("{place} has no image {wanted}; {}", there(found, "it has"))]
    NoSuchImage {
        /// Where it was looked for.
        place: String,
        /// The name.
        wanted: String,
        /// What is there.
        found: Vec<String>,
    },
    /// The image is not made for any of the platforms.
    #[error("{image} is not made for {}; {}", wanted.join(" or "), there(found, "it is for"))]
    NoPlatform {
        /// The image.
        image: String,
        /// What was asked for.
        wanted: Vec<String>,
        /// What there is.
        found: Vec<String>,
    },
    /// The image has no such folder.
    #[error("{image} has no folder {path}; look with `podman run --rm {image} ls -la {path}`")]
    NoSuchFolder {
        /// The image.
        image: String,
        /// The folder.
        path: String,
    },
    /// A container engine does not answer at its socket.
    #[error("no container engine answers at {socket}: {reason}")]
    Engine {
        /// The socket.
        socket: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A model has not what a model needs.
    #[error("model {id}: {reason}")]
    BadModel {
        /// The model.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// The cache or folder has no such model.
    #[error("{place} has no model {id}; {}", there(found, "it has"))]
    NoSuchModel {
        /// Where it was looked for.
        place: String,
        /// The model.
        id: String,
        /// What is there.
        found: Vec<String>,
    },
    /// A folder of files without the name of the model that they are.
    #[error(
        "{place} is no Hugging Face cache, so its files do not say which model they are; give `name: org/name`"
    )]
    NamelessModel {
        /// The folder.
        place: String,
    },
    /// The model has no such revision.
    #[error("{id} has no revision {revision:?} at {place}; {}", there(found, "it has"))]
    RevisionNotFound {
        /// The model.
        id: String,
        /// The Hub or the folder.
        place: String,
        /// What was asked for.
        revision: String,
        /// What is there, the nearest first.
        found: Vec<String>,
    },
    /// The Hub has no such repository, or hides it.
    #[error(
        "{place} has no model {id}; check the spelling (upper and lower case count), and if it is private set HF_TOKEN"
    )]
    RepoNotFound {
        /// The Hub.
        place: String,
        /// The model.
        id: String,
    },
    /// The model has no such file.
    #[error("{id} at {revision} has no file {path}")]
    EntryNotFound {
        /// The model.
        id: String,
        /// The revision.
        revision: String,
        /// The file.
        path: String,
    },
    /// The model is given only to those who accepted its terms.
    #[error(
        "{id} is gated: accept its terms at https://huggingface.co/{id} with your account, then set HF_TOKEN to a token of that account ({reason})"
    )]
    Gated {
        /// The model.
        id: String,
        /// What the Hub said.
        reason: String,
    },
    /// A server does not take the credential, or wants one.
    #[error("{place} refused the credential for {what}: {reason}; {hint}")]
    Unauthorised {
        /// The server.
        place: String,
        /// What was asked for.
        what: String,
        /// What the server said.
        reason: String,
        /// The next step.
        hint: &'static str,
    },
    /// A server answered with something that its protocol does not have.
    #[error("{url} answered {status}: {reason}")]
    UnexpectedAnswer {
        /// The URL.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it said, cut.
        reason: String,
    },
    /// An address that cannot be asked.
    #[error("{url} cannot be fetched: {reason}")]
    BadUrl {
        /// The address.
        url: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A glob does not parse.
    #[error("{glob:?} is no glob: {reason}")]
    BadGlob {
        /// The glob.
        glob: String,
        /// Why.
        reason: String,
    },
    /// The repository has no such chart.
    #[error("{repository} has no chart {name}; {}", there(found, "near it are"))]
    NoSuchChart {
        /// The repository.
        repository: String,
        /// The chart.
        name: String,
        /// The nearest names.
        found: Vec<String>,
    },
    /// No version of a chart is what was asked for.
    #[error("{chart} has no version {wanted}; {}", there(found, "its newest are"))]
    NoSuchVersion {
        /// The chart.
        chart: String,
        /// What was asked for.
        wanted: String,
        /// The newest ones.
        found: Vec<String>,
    },
    /// The folder or archive is no chart.
    #[error("{what} is no Helm chart: {reason}")]
    NotAChart {
        /// The folder or archive.
        what: String,
        /// Why.
        reason: String,
    },
    /// helm cannot be run.
    #[error("helm cannot be used: {reason}")]
    HelmUnusable {
        /// Why, and what to do.
        reason: String,
    },
    /// helm refused to render a chart.
    #[error("helm cannot render {chart}:\n{message}")]
    Render {
        /// The chart.
        chart: String,
        /// What helm said.
        message: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Turns an error of `net` into one that says what was asked for.
    pub(crate) fn net(what: impl Into<String>) -> impl FnOnce(net::Error) -> Self {
        let what = what.into();
        move |cause| Self::Net { what, cause }
    }

    /// Whether content is not what it should be.
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::Lie { .. } | Self::Damaged { .. } => true,
            Self::Store(error) => matches!(
                error,
                store::Error::DigestMismatch { .. } | store::Error::SizeMismatch { .. }
            ),
            _ => false,
        }
    }

    /// Whether the input is at fault: with another input it would go through.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Store(_) | Self::Sparse { .. } | Self::Write { .. } => false,
            Self::UnexpectedAnswer { .. } => false,
            Self::Net { cause, .. } => matches!(
                cause,
                net::Error::Unauthorized { .. }
                    | net::Error::Url { .. }
                    | net::Error::Tls { .. }
                    | net::Error::Credentials { .. }
                    | net::Error::Request { unreachable: true, .. }
            ),
            _ => !self.is_integrity(),
        }
    }
}

/// The first few of what is there, for a message.
fn there(found: &[String], words: &str) -> String {
    const SHOWN: usize = 8;
    match found {
        [] => "there is none".to_owned(),
        found if found.len() > SHOWN => {
            format!("{words} {} and {} more", found[..SHOWN].join(", "), found.len() - SHOWN)
        }
        found => format!("{words} {}", found.join(", ")),
    }
}
