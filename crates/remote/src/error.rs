//! What can go wrong with registries, the Hub, repositories and local archives. The variants are
//! grouped by what the user can do about them, since exit codes and hints depend on that.

use std::io;
use std::path::PathBuf;

use types::Cause;

use crate::render_remedy::{describe_render_remedy, requires_other_kubernetes};

/// An error of a source or a target: a registry, the Hub, a chart repository, a local archive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed: the network, or the server's response.
    #[error("{what}: {cause}")]
    Net {
        /// What was asked for.
        what: String,
        /// The failed request, with all attempts that were made.
        #[source]
        cause: net::Error,
    },
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A document that was received does not parse.
    #[error(transparent)]
    Document(#[from] types::Error),
    /// What was requested does not exist.
    #[error("{what} does not exist{}", format_hint(hint))]
    NotFound {
        /// The full name of what was requested.
        what: String,
        /// Similar names, or what to check; empty when there is no advice.
        hint: String,
    },
    /// The image exists, but not for the wanted platforms.
    #[error("{reference} is not available for {wanted}; it is available for {available}")]
    NoPlatform {
        /// The image.
        reference: String,
        /// The wanted platforms that are missing, separated by commas.
        wanted: String,
        /// The platforms that the image has, separated by commas.
        available: String,
    },
    /// A server sent bytes that do not have the digest that was expected.
    #[error(
        "{server} sent wrong content for {what}: expected {expected}, got {actual}; nothing of it was kept. Try again; if it happens again, the server or a proxy on the way alters content"
    )]
    DigestMismatch {
        /// The server.
        server: String,
        /// What was asked for.
        what: String,
        /// The digest that was expected.
        expected: String,
        /// The digest of the bytes that were received.
        actual: String,
    },
    /// A registry rejected an upload, because the content does not have the announced digest. The
    /// source is at fault: it was read once and sent as it was.
    #[error(
        "{registry} rejected {digest}: the content that was read for it has another digest ({message}); check the source with gantry verify or gantry store verify"
    )]
    UploadMismatch {
        /// The registry.
        registry: String,
        /// The digest that was announced.
        digest: String,
        /// The registry's message.
        message: String,
    },
    /// A registry refuses an image index because some of its manifests are not carried.
    #[error(
        "{registry} does not accept an image index without all of its platforms ({target}); load with --sparse rewrite (the index then gets another digest), or lock all of its platforms"
    )]
    SparseIndexRefused {
        /// The registry.
        registry: String,
        /// The image's name in that registry.
        target: String,
    },
    /// Repositories of the target refuse already the first request of an upload.
    #[error(
        "cannot push to {} ({cause}); check the address and its path, that it is a registry that you may write to, and that the repositories exist where the registry does not make them by itself",
        format_repositories(registry, repositories)
    )]
    PushRefused {
        /// The host.
        registry: String,
        /// All repositories that would be written and refuse, sorted.
        repositories: Vec<String>,
        /// The response of the first of them.
        #[source]
        cause: net::Error,
    },
    /// The registry confirmed bytes of an upload that were not sent.
    #[error(
        "{what}: the registry has {offset} bytes of the upload after {length} were sent at {start}"
    )]
    UploadOffset {
        /// What was pushed.
        what: String,
        /// Where the piece began.
        start: u64,
        /// The length of the piece in bytes.
        length: u64,
        /// The number of bytes that the registry says that it has.
        offset: u64,
    },
    /// A request body is too long for the registry or a proxy before it (413), also in pieces.
    #[error(
        "{what}: a body of {size} is too large for the registry or a proxy before it ({cause}), and it takes no smaller pieces; raise the limit there (nginx: client_max_body_size 0; ingress-nginx: the annotation proxy-body-size \"0\")"
    )]
    BodyLimit {
        /// What was pushed.
        what: String,
        /// The length of the body.
        size: types::ByteSize,
        /// The response.
        #[source]
        cause: net::Error,
    },
    /// The run was asked to stop, and the upload ended after the piece that it was sending.
    #[error("stopped; the registry keeps what it has, and the next run goes on from there")]
    Stopped,
    /// A local file, folder or socket is not what it was given as.
    #[error("{}: {reason}", path.display())]
    Local {
        /// The file, folder or socket.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        #[source]
        reason: Cause,
    },
    /// Reading a local file failed.
    #[error("cannot read {what}: {cause}")]
    Read {
        /// The path, or the member of an archive.
        what: String,
        /// The operating system's error.
        #[source]
        cause: io::Error,
    },
    /// Writing a local file failed.
    #[error("cannot write to {what}: {cause}")]
    Write {
        /// The path.
        what: String,
        /// The operating system's error.
        #[source]
        cause: io::Error,
    },
    /// Content does not match its own description (digest, length, manifest).
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// The archive, layer or file that is damaged.
        what: String,
        /// What does not match.
        #[source]
        reason: Cause,
    },
    /// A server gives a list in pages and names ever more of them. A part of a list is not used.
    #[error(
        "{what} does not end: after {read} the server still names a next page; the list is not used in part, ask the server's operator about it"
    )]
    EndlessList {
        /// The list.
        what: String,
        /// How much of it was read.
        read: String,
    },
    /// A document or archive member exceeds the limit for its type, which bounds memory.
    #[error("{what} is too large: it has {size} bytes, and Gantry reads at most {most}")]
    TooLarge {
        /// The document or member.
        what: String,
        /// Its length in bytes.
        size: u64,
        /// The limit in bytes.
        most: u64,
    },
    /// A model cannot be carried as the input names it.
    #[error("model {id}: {reason}")]
    Model {
        /// The model.
        id: String,
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// The model is gated: the Hub serves it only to accounts that accepted its terms.
    #[error(
        "{id} is gated ({reason}); accept its terms at https://huggingface.co/{id}, then set HF_TOKEN to a token of that account"
    )]
    Gated {
        /// The model.
        id: String,
        /// The Hub's message.
        reason: String,
    },
    /// A server other than a registry requires a credential, or rejects the one that was sent.
    #[error("{place} refused access to {what} ({reason}); {next}")]
    AccessRefused {
        /// The server.
        place: String,
        /// What was requested.
        what: String,
        /// The server's message.
        reason: String,
        /// What the user can do.
        next: String,
    },
    /// A helm command on a release in a cluster failed.
    #[error("helm failed for release {release}: {message}")]
    Helm {
        /// The release's name.
        release: String,
        /// helm's message, or why it does not run.
        #[source]
        message: Cause,
    },
    /// helm cannot render a chart: the template fails, or a required value is missing.
    #[error("helm cannot render {chart}: {message}; {}", describe_render_remedy(&message.to_string()))]
    Render {
        /// The chart.
        chart: String,
        /// helm's message, or why it does not run.
        #[source]
        message: Cause,
    },
    /// A set of plain manifests cannot be used.
    #[error("{reason}")]
    Manifests {
        /// The document, what is wrong with it, and the next step.
        #[source]
        reason: Cause,
    },
    /// A program that is needed is missing, too old, or failed.
    #[error("{program}: {reason}")]
    Program {
        /// The program's name.
        program: String,
        /// The program's own message, or how to install it.
        #[source]
        reason: Cause,
    },
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: adds to an error of `net` what was requested.
    pub(crate) fn from_net(what: impl Into<String>) -> impl FnOnce(net::Error) -> Self {
        // It may be an address with a password or a signature.
        let what = types::redact_urls(&what.into());
        move |cause| Self::Net { what, cause }
    }

    /// A file or folder that the user named and that cannot be opened.
    pub(crate) fn unreadable_path(path: &std::path::Path, cause: io::Error) -> Self {
        let what = path.display().to_string();
        if cause.kind() != io::ErrorKind::NotFound {
            return Self::Read { what, cause };
        }
        let hint = "check the path; one in gantry.yaml is relative to the folder of that file";
        Self::NotFound { what, hint: hint.to_owned() }
    }

    /// A document that another program wrote and that does not parse; `document` is its name in the
    /// message.
    pub(crate) fn invalid_document(document: impl Into<String>, message: impl Into<Cause>) -> Self {
        let (document, message) = (document.into(), message.into());
        Self::Document(types::Error::Document { document, line: 0, column: 0, message })
    }

    /// helm's message, if it cannot render the chart for this version of Kubernetes.
    pub fn unsupported_kubernetes(&self) -> Option<String> {
        let Self::Render { message, .. } = self else { return None };
        Some(message.to_string()).filter(|message| requires_other_kubernetes(message))
    }

    /// Something that was not found where it was searched for; `there` are the names that exist.
    pub fn not_found_among(what: impl Into<String>, there: &[String]) -> Self {
        // A repository may have thousands of tags: a message names a few of them.
        const SHOWN: usize = 8;
        let hint = match there {
            [] => "none are available".to_owned(),
            some if some.len() > SHOWN => {
                format!("available: {} and {} more", some[..SHOWN].join(", "), some.len() - SHOWN)
            }
            some => format!("available: {}", some.join(", ")),
        };
        Self::NotFound { what: what.into(), hint }
    }

    /// Whether the input or the configuration is at fault, so that the same command cannot succeed
    /// without a change. Decides the exit code (2 instead of 1).
    pub fn is_input(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::NoPlatform { .. }
            | Self::PushRefused { .. }
            | Self::Local { .. }
            | Self::Document(_)
            | Self::Read { .. }
            | Self::Damaged { .. }
            | Self::TooLarge { .. }
            | Self::EndlessList { .. }
            | Self::Model { .. }
            | Self::Gated { .. }
            | Self::AccessRefused { .. }
            | Self::Render { .. }
            | Self::Manifests { .. }
            | Self::Program { .. } => true,
            // A host that cannot be reached may be so tomorrow: that is the network's, not the input's.
            Self::Net { cause, .. } => matches!(
                cause,
                net::Error::Unauthorized { .. }
                    | net::Error::Url { .. }
                    | net::Error::Tls { .. }
                    | net::Error::Untrusted { .. }
                    | net::Error::PlainHttp { .. }
                    | net::Error::Credentials { .. }
                    | net::Error::Setup { .. }
            ),
            Self::Store(_)
            | Self::Write { .. }
            | Self::DigestMismatch { .. }
            | Self::UploadMismatch { .. }
            | Self::UploadOffset { .. }
            | Self::BodyLimit { .. }
            | Self::Stopped
            | Self::SparseIndexRefused { .. }
            | Self::Helm { .. } => false,
        }
    }

    /// Whether content does not have the digest or length that it must have (exit code 3).
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::DigestMismatch { .. } | Self::UploadMismatch { .. } => true,
            Self::Store(error) => matches!(
                error,
                store::Error::DigestMismatch { .. } | store::Error::SizeMismatch { .. }
            ),
            _ => false,
        }
    }
}

fn format_repositories(registry: &str, repositories: &[String]) -> String {
    match repositories {
        [only] => format!("{registry}/{only}"),
        all => format!("{} repositories of {registry}: {}", all.len(), all.join(", ")),
    }
}

fn format_hint(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!("; {hint}") }
}
