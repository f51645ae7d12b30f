//! What can go wrong with a cluster, by meaning: no way to it, no right, somebody else's field, an
//! object that it refuses, something that does not come up. Every message names the thing, the
//! cause and the next step.

use kube::core::Status;

use crate::Right;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no kubeconfig, or it cannot be read.
    #[error(
        "no cluster is configured: {cause}; name a kubeconfig with --kubeconfig or KUBECONFIG, or run inside of a pod"
    )]
    NoAccess {
        /// What was tried.
        cause: String,
    },
    /// The kubeconfig has no such context.
    #[error("the kubeconfig has no context {name:?}; it has: {known}")]
    NoContext {
        /// The context that was asked for.
        name: String,
        /// Those that are there, separated by commas.
        known: String,
    },
    /// The API server does not answer.
    #[error(
        "{server} (context {context}) does not answer: {cause}; is this the right context, and is the API server reachable from here?"
    )]
    Unreachable {
        /// The context's name.
        context: String,
        /// The API server.
        server: String,
        /// The cause, innermost last.
        cause: String,
    },
    /// The user may not do this.
    #[error("{doing}: not allowed: {reason}; ask an administrator of the cluster for the right")]
    Forbidden {
        /// What was being done.
        doing: String,
        /// The API server's words.
        reason: String,
    },
    /// Rights that were asked for beforehand are missing.
    #[error("{} missing for {doing}: {}", rights(.missing.len()), list(.missing))]
    MissingRights {
        /// What they are needed for.
        doing: String,
        /// The rights; each displays as the rule that grants it.
        missing: Vec<Right>,
    },
    /// Another manager owns a field that was to be set.
    #[error(
        "{doing}: somebody else set this: {reason}; take it out of their hands or out of the input"
    )]
    Conflict {
        /// What was being done.
        doing: String,
        /// The API server's words, with the manager and the fields.
        reason: String,
    },
    /// The API server refuses the object: it is invalid, over a quota, or an admission says no.
    #[error("{doing}: the cluster refuses it: {reason}")]
    Refused {
        /// What was being done.
        doing: String,
        /// The API server's words.
        reason: String,
    },
    /// The cluster has no such kind of object.
    #[error("the cluster knows no {kind} of {version}; is the operator that brings it installed?")]
    NoKind {
        /// `apiVersion`.
        version: String,
        /// `kind`.
        kind: String,
    },
    /// A manifest is no Kubernetes object.
    #[error("this is no Kubernetes object: {reason}")]
    NoObject {
        /// What is missing.
        reason: String,
    },
    /// Something is there that Gantry did not make and will not change.
    #[error("{what} is there already and was not made by Gantry; {next}")]
    NotOurs {
        /// The object.
        what: String,
        /// What to do.
        next: String,
    },
    /// Something is not there.
    #[error("there is no {what}; {next}")]
    Missing {
        /// The object.
        what: String,
        /// What to do.
        next: String,
    },
    /// Something did not come up in time, or cannot come up.
    #[error("{what} is not ready: {why}; {next}")]
    NotReady {
        /// The object.
        what: String,
        /// Why it is not.
        why: String,
        /// What to do.
        next: String,
    },
    /// A program in a pod ended with a failure.
    #[error("{what} failed: {cause}")]
    Program {
        /// The pod and the program.
        what: String,
        /// Its exit code and last words.
        cause: String,
    },
    /// A connection to a pod broke.
    #[error("{what}: the connection through the API server broke: {cause}; run it again")]
    Connection {
        /// The pod and the port or program.
        what: String,
        /// The cause.
        cause: String,
    },
    /// Anything else of the client.
    #[error("{doing}: {cause}")]
    Other {
        /// What was being done.
        doing: String,
        /// The cause.
        cause: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What an error of the client means while `doing` something.
    pub(crate) fn of(doing: impl Into<String>, error: kube::Error) -> Self {
        let doing = doing.into();
        match error {
            kube::Error::Api(status) => Self::of_status(doing, &status),
            error => Self::Other { doing, cause: chain(&error) },
        }
    }

    fn of_status(doing: String, status: &Status) -> Self {
        let reason =
            if status.message.is_empty() { status.reason.clone() } else { status.message.clone() };
        match status.code {
            // An admission that says no has the same code as a right that is missing.
            403 if is_admission(&reason) => Self::Refused { doing, reason },
            401 | 403 => Self::Forbidden { doing, reason },
            409 => Self::Conflict { doing, reason },
            400 | 413 | 422 => Self::Refused { doing, reason },
            _ => Self::Other { doing, cause: reason },
        }
    }

    /// Whether the API server said that there is no such object.
    pub(crate) fn is_not_found(error: &kube::Error) -> bool {
        matches!(error, kube::Error::Api(status) if status.code == 404)
    }
}

/// Whether the API server's words are those of an admission (`apiserver`, `pkg/admission`): a webhook
/// or a policy, or pod security and quota, which speak of `violates` and `exceeded`.
fn is_admission(reason: &str) -> bool {
    let words = [
        "admission webhook \"",
        "ValidatingAdmissionPolicy '",
        "violates PodSecurity",
        "exceeded quota",
    ];
    words.iter().any(|words| reason.contains(words))
}

/// An error and its causes in one line; kube's own messages often hide the cause.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

fn rights(count: usize) -> String {
    if count == 1 { "a right is".to_owned() } else { format!("{count} rights are") }
}

/// One rule a kind of object, with all verbs that it has to grant.
fn list(missing: &[Right]) -> String {
    let mut rules: Vec<(Right, Vec<&str>)> = Vec::new();
    for right in missing {
        let of = Right { verb: String::new(), ..right.clone() };
        match rules.iter_mut().find(|(rule, _)| *rule == of) {
            Some((_, verbs)) => verbs.push(&right.verb),
            None => rules.push((of, vec![&right.verb])),
        }
    }
    let lines: Vec<String> = rules.iter().map(|(of, verbs)| of.rule(verbs)).collect();
    match lines.as_slice() {
        [one] => one.clone(),
        several => format!("\n- {}", several.join("\n- ")),
    }
}
