//! What can go wrong on the way, told with its history: which request, how often, how long, why.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// One try of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it failed, from the start of the first one.
    pub after: Duration,
    /// Why.
    pub cause: String,
}

/// An error of the network or of what a server answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every try failed.
    #[error("{method} {url} failed{}", history(attempts))]
    Request {
        /// The method.
        method: String,
        /// The address, without secrets.
        url: String,
        /// The tries, oldest first.
        attempts: Vec<Attempt>,
        /// Whether no connection could be made at all.
        unreachable: bool,
    },
    /// The server answered with a status that is no success.
    #[error("{method} {url} answered {status}{}", detail(message))]
    Status {
        /// The method.
        method: String,
        /// The address, without secrets.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The server's own words, cut.
        message: String,
    },
    /// No credential, or one that is not taken.
    #[error("{server} refused access{}; {next}", detail(message))]
    Unauthorized {
        /// The registry or host.
        server: String,
        /// The server's own words.
        message: String,
        /// What to do: which credential was used, and how to give one.
        next: String,
    },
    /// The server's certificate is not trusted.
    #[error(
        "the certificate of {host} is not trusted ({reason}); give its authority's file with --ca or SSL_CERT_FILE"
    )]
    Untrusted {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// The credentials of docker's configuration could not be read.
    #[error(
        "the credential for {server} could not be read: {cause}; mend docker's config.json or run: docker login {server}"
    )]
    Credentials {
        /// The registry.
        server: String,
        /// The reason.
        cause: String,
    },
    /// The server's content changed, or its answer to a range does not fit.
    #[error("{url}: {reason}; run the same command again")]
    Range {
        /// The address, without secrets.
        url: String,
        /// What does not fit.
        reason: String,
    },
    /// The answer is larger than such an answer may be.
    #[error("{url} answers more than {most} bytes where a small document is expected")]
    TooLarge {
        /// The address, without secrets.
        url: String,
        /// The limit.
        most: u64,
    },
    /// A URL does not parse.
    #[error("{text:?} is no URL: {reason}")]
    Url {
        /// The text.
        text: String,
        /// Why.
        reason: String,
    },
    /// A certificate, key or CA file cannot be used.
    #[error("{}: {reason}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The client or the listener could not be set up.
    #[error("{what}: {cause}")]
    Setup {
        /// What was being set up.
        what: String,
        /// Why it failed.
        cause: String,
    },
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The HTTP status, where the server gave one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Unauthorized { .. } => Some(401),
            _ => None,
        }
    }
}

fn history(attempts: &[Attempt]) -> String {
    struct History<'a>(&'a [Attempt]);
    impl fmt::Display for History<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 {
                [] => Ok(()),
                [only] => write!(f, ": {}", only.cause),
                [.., last] => {
                    let seconds = last.after.as_secs_f32();
                    write!(f, " {} times in {seconds:.1} s", self.0.len())?;
                    let mut previous: Option<&str> = None;
                    for attempt in self.0 {
                        if previous != Some(&attempt.cause) {
                            write!(
                                f,
                                "; at {:.1} s: {}",
                                attempt.after.as_secs_f32(),
                                attempt.cause
                            )?;
                        }
                        previous = Some(&attempt.cause);
                    }
                    Ok(())
                }
            }
        }
    }
    History(attempts).to_string()
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

/// An error with all its causes, each once: reqwest hides the reason three levels deep.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut current = Some(error);
    while let Some(error) = current {
        let own = error.to_string();
        // Skip levels that only repeat, and reqwest's own "error sending request for url (…)".
        let is_noise = own.starts_with("error sending request") || own.starts_with("client error");
        if !is_noise && !text.contains(&own) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&own);
        }
        current = error.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}
