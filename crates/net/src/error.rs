//! The errors of requests and servers. An error of a request says which request, how often it was
//! tried, for how long, and why each attempt failed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use types::Cause;

/// One failed attempt of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestAttempt {
    /// When it failed, counted from the start of the first attempt.
    pub after: Duration,
    /// Why it failed.
    pub cause: Cause,
}

/// The next steps of errors that always have the same.
const GIVE_CA: &str = "name the PEM file of the CA that signed it: registry.ca in site.yaml for the site's registry, else --ca or SSL_CERT_FILE";
const NAME_PLAIN_HTTP: &str =
    "use its https:// address, or name it under plainHttp: in the configuration";
const RUN_AGAIN: &str = "run the same command again";

/// An error of the network, or of a server's response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every attempt failed.
    #[error("{method} {url} failed{}", format_attempts(attempts))]
    Request {
        /// The method.
        method: String,
        /// The address, without secrets.
        url: String,
        /// The attempts, oldest first.
        attempts: Vec<RequestAttempt>,
        /// Whether no connection could be made at all, so that the server never saw the request.
        unreachable: bool,
    },
    /// The server responded with a status that is not a success.
    #[error("{method} {url} answered {status}{}", format_detail(message))]
    Status {
        /// The method.
        method: String,
        /// The address, without secrets.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The error message in the server's response, cut.
        message: String,
    },
    /// The server requires a credential, or rejected the one it got.
    #[error("{server} refused access{}; {next}", format_detail(message))]
    Unauthorized {
        /// The registry or host.
        server: String,
        /// The error message in the server's response.
        message: String,
        /// Which credential was used, if any, and what to do.
        next: String,
    },
    /// The server's certificate is not trusted.
    #[error("the certificate of {host} is not trusted ({reason}); {}", GIVE_CA)]
    Untrusted {
        /// The host.
        host: String,
        /// Why it is not trusted.
        reason: rustls::CertificateError,
    },
    /// A secret (a token, a password, a sensitive header) would have been sent without TLS to a server
    /// that the user did not name for it.
    #[error(
        "{server} is reached by http, and no credential is sent without TLS, where others can read it; {}",
        NAME_PLAIN_HTTP
    )]
    PlainHttp {
        /// The server: its host, with the port where it is not 80.
        server: String,
    },
    /// The credentials of docker's configuration could not be read.
    #[error(
        "the credential for {server} could not be read: {cause}; fix docker's config.json or run: docker login {server}"
    )]
    Credentials {
        /// The registry.
        server: String,
        /// The reason.
        #[source]
        cause: Cause,
    },
    /// The server's content changed during a download, or its response to a range request is wrong.
    #[error("{url}: {reason}; {}", RUN_AGAIN)]
    Range {
        /// The address, without secrets.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The response is larger than a document of its kind may be.
    #[error("{url} returned more than {most} bytes where a small document was expected")]
    TooLarge {
        /// The address, without secrets.
        url: String,
        /// The limit.
        most: u64,
    },
    /// A URL does not parse.
    #[error("{:?} is not a valid URL: {reason}", types::SecretUrl::new(text.as_str()).to_string())]
    Url {
        /// The text, which may hold secrets.
        text: String,
        /// Why, and what to write.
        reason: String,
    },
    /// A certificate, key or CA file cannot be used.
    #[error("{}: {reason}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why it cannot be used.
        #[source]
        reason: Cause,
    },
    /// The client or the listener could not be set up.
    #[error("{what}: {cause}")]
    Setup {
        /// What was being set up.
        what: String,
        /// Why it failed.
        #[source]
        cause: Cause,
    },
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The next step, where the message ends with one.
    pub fn next_step(&self) -> Option<&str> {
        match self {
            Self::Unauthorized { next, .. } => Some(next),
            Self::Untrusted { .. } => Some(GIVE_CA),
            Self::PlainHttp { .. } => Some(NAME_PLAIN_HTTP),
            Self::Range { .. } => Some(RUN_AGAIN),
            _ => None,
        }
    }

    /// The HTTP status, where the server responded.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Unauthorized { .. } => Some(401),
            _ => None,
        }
    }
}

fn format_attempts(attempts: &[RequestAttempt]) -> String {
    struct AttemptsDisplay<'a>(&'a [RequestAttempt]);
    impl fmt::Display for AttemptsDisplay<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 {
                [] => Ok(()),
                [only] => write!(f, ": {}", only.cause),
                // ` 3 times in 4.2 s; at 0.0 s: status 503; at 1.1 s: connection refused`; the same
                // cause several times in a row is printed once.
                [.., last] => {
                    let seconds = last.after.as_secs_f32();
                    write!(f, " {} times in {seconds:.1} s", self.0.len())?;
                    let mut previous: Option<&Cause> = None;
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
    AttemptsDisplay(attempts).to_string()
}

fn format_detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

/// An error with all its causes on one line, each once: reqwest has the reason (`Connection refused`)
/// three levels deep in its sources, under levels that say nothing.
pub(crate) fn chain_of_request(error: &(dyn std::error::Error + 'static)) -> String {
    types::error_chain_without(error, |text| {
        text.starts_with("error sending request") || text.starts_with("client error")
    })
}
