//! What can go wrong with a cluster, by its meaning: no connection, a missing permission, a field
//! that another manager owns, an object that the API server rejects, a pod that does not become
//! ready. Every message names the object, the cause and the next step.

use kube::core::Status;
use types::error_chain;

use crate::Permission;

/// The next steps of errors that always have the same.
const GIVE_KUBECONFIG: &str =
    "give a kubeconfig with --kubeconfig or KUBECONFIG, or run inside a pod";
const CHECK_CONTEXT: &str = "is this the right context, and is the API server reachable from here?";
const ASK_ADMINISTRATOR: &str = "ask an administrator of the cluster for the permission";
const REMOVE_FIELD: &str = "remove the field there or from your own input";
const INSTALL_DEFINITION: &str =
    "install the CustomResourceDefinition (usually its operator) that defines it";
const RUN_AGAIN: &str = "run the command again";
const WAIT_UNTIL_GONE: &str = "wait until it is gone, and run the command again (kubectl get namespace NAME -o yaml says what keeps a namespace)";
/// What the API server says about new objects in a namespace that is being deleted
/// (kubernetes/apiserver, `plugin/namespace/lifecycle`).
const IN_TERMINATING_NAMESPACE: &str = "because it is being terminated";
/// What it says about a new object of the name of one that is being deleted (kubernetes/apiserver,
/// `registry/generic/registry/store.go`).
const OBJECT_BEING_DELETED: &str = "object is being deleted: ";

/// An error of working with a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no kubeconfig, or it cannot be read.
    #[error(
        "no cluster is configured: {}; {}",
        format_access(.what.as_deref(), .source.as_ref()),
        GIVE_KUBECONFIG
    )]
    NoAccess {
        /// Where the configuration came from, a file or a context; `None` for the default places.
        what: Option<String>,
        /// Why it cannot be used; a text where there is none.
        #[source]
        source: BoxError,
    },
    /// The kubeconfig has no such context.
    #[error("the kubeconfig has no context {name:?}; it has: {known}")]
    NoContext {
        /// The requested context.
        name: String,
        /// The contexts that it has, separated by commas.
        known: String,
    },
    /// The API server does not answer.
    #[error(
        "{server} (context {context}) does not answer: {}; {}",
        error_chain(.source), CHECK_CONTEXT
    )]
    Unreachable {
        /// The context's name.
        context: String,
        /// The API server.
        server: String,
        /// Why not; the message has the whole chain.
        #[source]
        source: kube::Error,
    },
    /// The user lacks the permission for this.
    #[error("{doing}: not allowed: {reason}; {}", ASK_ADMINISTRATOR)]
    Forbidden {
        /// What was being done.
        doing: String,
        /// The API server's words.
        reason: String,
    },
    /// Permissions that were checked beforehand are missing.
    #[error("{} missing for {doing}: {}", format_permission_count(.missing.len()), format_rules(.missing))]
    MissingRights {
        /// What the permissions are needed for.
        doing: String,
        /// The missing permissions; each displays as the RBAC rule that grants it.
        missing: Vec<Permission>,
    },
    /// Another field manager owns a field that was to be set (server-side apply).
    #[error("{doing}: somebody else set this: {reason}; {}", REMOVE_FIELD)]
    Conflict {
        /// What was being done.
        doing: String,
        /// The API server's message, with the manager and the fields.
        reason: String,
        /// The fields, each with its manager; empty if the object changed or exists already.
        fields: Vec<FieldConflict>,
    },
    /// The API server rejects the object: it is invalid, exceeds a quota, or an admission policy or
    /// webhook denies it.
    #[error("{doing}: the cluster rejects it: {reason}")]
    Refused {
        /// What was being done.
        doing: String,
        /// The API server's words.
        reason: String,
    },
    /// The cluster does not have this kind of object.
    #[error("the cluster has no kind {kind} in {version}; {}", INSTALL_DEFINITION)]
    NoKind {
        /// `apiVersion`.
        version: String,
        /// `kind`.
        kind: String,
    },
    /// A manifest is not a Kubernetes object.
    #[error("this is not a Kubernetes object: {source}")]
    NoObject {
        /// What is missing (a text) or wrong (an error of the parser).
        #[source]
        source: BoxError,
    },
    /// An object exists that Gantry did not create and will not change.
    #[error("{what} exists already and was not created by Gantry; {next}")]
    NotOurs {
        /// The object.
        what: String,
        /// What to do.
        next: String,
    },
    /// An object does not exist.
    #[error("there is no {what}; {next}")]
    Missing {
        /// The object.
        what: String,
        /// What to do.
        next: String,
    },
    /// An object did not become ready in time, or never will.
    #[error("{what} is not ready: {why}; {next}")]
    NotReady {
        /// The object.
        what: String,
        /// Why it is not ready.
        why: String,
        /// What to do.
        next: String,
    },
    /// A program in a pod failed.
    #[error("{what} failed: {cause}")]
    Program {
        /// The pod and the program.
        what: String,
        /// Its exit code and the end of its output.
        cause: String,
    },
    /// A connection to a pod broke.
    #[error(
        "{what}: the connection through the API server was lost: {}; {}",
        error_chain(.source.as_ref()), RUN_AGAIN
    )]
    Connection {
        /// The pod and the port or program.
        what: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// A log or a local port cannot be read.
    #[error("{doing}: {source}")]
    Stream {
        /// What was being done.
        doing: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// An object cannot be written as JSON.
    #[error("{doing}: {source}")]
    Encoding {
        /// What was being done.
        doing: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// An object of the API server has not the fields of its kind.
    #[error("{doing}: {source}")]
    Parsing {
        /// What was being done.
        doing: String,
        /// What is wrong in it.
        #[source]
        source: kube::core::dynamic::ParseDynamicObjectError,
    },
    /// The object or its namespace is being deleted, so that it can be neither changed nor created.
    #[error("{doing}: {what} is being deleted; {}", WAIT_UNTIL_GONE)]
    BeingDeleted {
        /// What was being done.
        doing: String,
        /// The object or the namespace.
        what: String,
    },
    /// Any other error that the API server answers with.
    #[error("{doing}: {reason}")]
    Answer {
        /// What was being done.
        doing: String,
        /// The API server's words.
        reason: String,
    },
    /// Any other error of the client.
    #[error("{doing}: {}", error_chain(.source))]
    Other {
        /// What was being done.
        doing: String,
        /// The client's error; the message has the whole chain.
        #[source]
        source: kube::Error,
    },
}

/// A field that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldConflict {
    /// The field: `.spec.template.spec.containers[name="web"].image`.
    pub field: String,
    /// The manager.
    pub manager: String,
    /// The subresource that it wrote to; empty for the object itself.
    pub subresource: String,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An underlying error of one of several types.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Error {
    /// The next step, where the message ends with one.
    pub fn next_step(&self) -> Option<&str> {
        match self {
            Self::NoAccess { .. } => Some(GIVE_KUBECONFIG),
            Self::Unreachable { .. } => Some(CHECK_CONTEXT),
            Self::Forbidden { .. } => Some(ASK_ADMINISTRATOR),
            Self::Conflict { .. } => Some(REMOVE_FIELD),
            Self::NoKind { .. } => Some(INSTALL_DEFINITION),
            Self::NotOurs { next, .. }
            | Self::Missing { next, .. }
            | Self::NotReady { next, .. } => Some(next),
            Self::Connection { .. } => Some(RUN_AGAIN),
            Self::BeingDeleted { .. } => Some(WAIT_UNTIL_GONE),
            Self::NoContext { .. }
            | Self::MissingRights { .. }
            | Self::Refused { .. }
            | Self::NoObject { .. }
            | Self::Program { .. }
            | Self::Stream { .. }
            | Self::Encoding { .. }
            | Self::Parsing { .. }
            | Self::Answer { .. }
            | Self::Other { .. } => None,
        }
    }

    /// The meaning of an error of the client that occurred while `doing` something.
    pub(crate) fn from_kube(doing: impl Into<String>, error: kube::Error) -> Self {
        let doing = doing.into();
        match error {
            kube::Error::Api(status) => Self::from_status(doing, &status),
            source => Self::Other { doing, source },
        }
    }

    fn from_status(doing: String, status: &Status) -> Self {
        let reason =
            if status.message.is_empty() { status.reason.clone() } else { status.message.clone() };
        if let Some(what) = find_deleted_object(&reason) {
            return Self::BeingDeleted { doing, what };
        }
        match status.code {
            // A denied admission has the same status as a missing permission; only the message
            // tells them apart.
            403 if is_admission_refusal(&reason) => Self::Refused { doing, reason },
            401 | 403 => Self::Forbidden { doing, reason },
            409 => Self::Conflict { doing, reason, fields: list_field_conflicts(status) },
            400 | 413 | 422 => Self::Refused { doing, reason },
            _ => Self::Answer { doing, reason },
        }
    }

    /// Whether the API server answered that the object does not exist.
    pub(crate) fn is_not_found(error: &kube::Error) -> bool {
        matches!(error, kube::Error::Api(status) if status.code == 404)
    }
}

/// What is being deleted, where the API server's message is about that: `namespace shop`, or the object.
fn find_deleted_object(reason: &str) -> Option<String> {
    if let Some((before, _)) = reason.split_once(IN_TERMINATING_NAMESPACE) {
        let namespace = before.trim_end().rsplit(' ').next().unwrap_or_default();
        return Some(format!("namespace {namespace}"));
    }
    let object = reason.strip_prefix(OBJECT_BEING_DELETED)?;
    Some(object.strip_suffix(" already exists").unwrap_or(object).to_owned())
}

/// The fields of a conflict (kubernetes/apimachinery, `managedfields/internal/conflict.go`), which
/// name the manager in a sentence: `conflict with "kubectl" with subresource "scale" using apps/v1`.
fn list_field_conflicts(status: &Status) -> Vec<FieldConflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let conflicts = causes.filter(|cause| cause.reason == "FieldManagerConflict").map(|cause| {
        let quoted: Vec<&str> = cause.message.split('"').skip(1).step_by(2).collect();
        FieldConflict {
            field: cause.field.clone(),
            manager: quoted.first().copied().unwrap_or_default().to_owned(),
            subresource: quoted.get(1).copied().unwrap_or_default().to_owned(),
        }
    });
    conflicts.collect()
}

/// Whether the API server's message is that of an admission plugin (kubernetes/apiserver,
/// `pkg/admission`): a webhook or a policy, Pod Security (`violates`) or a quota (`exceeded`).
fn is_admission_refusal(reason: &str) -> bool {
    let words = [
        "admission webhook \"",
        "ValidatingAdmissionPolicy '",
        "violates PodSecurity",
        "exceeded quota",
    ];
    words.iter().any(|words| reason.contains(words))
}

/// Where the configuration came from, where that is known, and what is wrong with it.
fn format_access(what: Option<&str>, error: &(dyn std::error::Error + 'static)) -> String {
    let cause = error_chain(error);
    match what {
        Some(what) => format!("{what}: {cause}"),
        None => cause,
    }
}

fn format_permission_count(count: usize) -> String {
    if count == 1 { "a permission is".to_owned() } else { format!("{count} permissions are") }
}

/// The RBAC rules that grant the permissions: one for each resource, with all its verbs.
fn format_rules(missing: &[Permission]) -> String {
    let mut rules: Vec<(Permission, Vec<&str>)> = Vec::new();
    for right in missing {
        let of = Permission { verb: String::new(), ..right.clone() };
        match rules.iter_mut().find(|(rule, _)| *rule == of) {
            Some((_, verbs)) => verbs.push(&right.verb),
            None => rules.push((of, vec![&right.verb])),
        }
    }
    let lines: Vec<String> = rules.iter().map(|(of, verbs)| of.format_rule(verbs)).collect();
    match lines.as_slice() {
        [one] => one.clone(),
        several => format!("\n- {}", several.join("\n- ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_deleted_is_no_missing_right_and_no_conflict() {
        let error = |code: u16, message: &str| {
            let status = Status { code, message: message.to_owned(), ..Status::default() };
            Error::from_status("creating Pod shop/a".to_owned(), &status).to_string()
        };
        let namespace = "pods \"a\" is forbidden: unable to create new content in namespace shop because it is being terminated";
        let text = error(403, namespace);
        assert!(text.starts_with("creating Pod shop/a: namespace shop is being deleted"), "{text}");
        assert!(!text.contains("administrator"), "{text}");
        let text = error(409, "object is being deleted: secrets \"site\" already exists");
        assert!(text.contains("secrets \"site\" is being deleted; wait"), "{text}");
        assert!(error(403, "pods is forbidden: User x cannot create").contains("administrator"));
    }
}
