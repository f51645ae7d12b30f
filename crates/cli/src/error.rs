//! Turns errors into what a user sees: an exit code, a message and hints.
//!
//! The library crates describe errors by meaning and know nothing of exit codes. A `From` impl here
//! converts each library's error into a [`CommandError`] with a kind, and nowhere else.

mod conversions;

/// The class of an error. It decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// The work was attempted and failed: exit code 1.
    Failed,
    /// Bad input or usage, found before anything was changed: exit code 2.
    Usage,
    /// Content does not match its digest, or a proof failed: exit code 3.
    Integrity,
    /// Part of the work is done, and running the same command again resumes it: exit code 4.
    Partial,
}

impl ErrorKind {
    fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Integrity => 3,
            Self::Partial => 4,
        }
    }

    /// The class as `--output json` names it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Integrity => "integrity",
            Self::Partial => "partial",
        }
    }
}

/// An error as the user sees it: what failed and why, and hints for the next step.
#[derive(Debug)]
pub(crate) struct CommandError {
    kind: ErrorKind,
    message: String,
    /// The causes that the message does not say, outermost first.
    causes: Vec<String>,
    hints: Vec<String>,
}

/// The result of a subcommand or a part of one, with [`CommandError`] as its error.
pub(crate) type Result<T, E = CommandError> = std::result::Result<T, E>;

impl CommandError {
    /// An error of the given kind, without hints.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hints: Vec::new() }
    }

    /// An error of a library crate, with the causes that its message does not say.
    fn from_error(kind: ErrorKind, error: &(dyn std::error::Error + 'static)) -> Self {
        Self { causes: types::causes_of(error), ..Self::new(kind, error.to_string()) }
    }

    fn with_kind(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// An error of kind [`ErrorKind::Usage`]: bad input or usage.
    pub(crate) fn usage_error(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// An error of kind [`ErrorKind::Failed`]: the work was attempted and failed.
    pub(crate) fn failure(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// The class of the error.
    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }

    /// What to do next.
    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The message without the causes and the hints.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The causes that the message does not say, outermost first.
    pub(crate) fn causes(&self) -> &[String] {
        &self.causes
    }

    /// The message with its causes on one line, for a warning.
    pub(crate) fn message_with_causes(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).cloned().collect::<Vec<_>>().join(": ")
    }

    /// The message, the causes and the hints as lines of text, for a file.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        for cause in &self.causes {
            text.push_str(&format!("cause: {cause}\n"));
        }
        for hint in &self.hints {
            text.push_str(&format!("hint: {hint}\n"));
        }
        text
    }

    /// The error as that of one part of a larger task that continued without it. Its kind becomes
    /// [`ErrorKind::Partial`], except that an integrity error stays one.
    pub(crate) fn into_part_of(mut self, part: &str) -> Self {
        self = self.with_context(part);
        if self.kind != ErrorKind::Integrity {
            self.kind = ErrorKind::Partial;
        }
        self
    }

    /// The same error with what it is about in front of its message.
    pub(crate) fn with_context(mut self, about: &str) -> Self {
        self.message = format!("{about}: {}", self.message);
        self
    }

    /// Adds a hint: what to do next, preferably a command to type.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use land::claim::SeederFailureKind;

    use super::*;

    fn kind_of(error: impl Into<CommandError>) -> ErrorKind {
        error.into().kind()
    }

    fn make_mismatch() -> store::Error {
        let digest = store::hash::sha256(b"x");
        store::Error::DigestMismatch { digest, actual: digest }
    }

    fn make_missing(what: &str) -> remote::Error {
        remote::Error::NotFound { what: what.into(), hint: String::new() }
    }

    fn make_full_disk() -> std::io::Error {
        std::io::ErrorKind::StorageFull.into()
    }

    #[test]
    fn each_kind_has_the_exit_code_of_the_help() {
        let codes = [ErrorKind::Failed, ErrorKind::Usage, ErrorKind::Integrity, ErrorKind::Partial]
            .map(|kind| (kind.exit_code(), kind.as_str()));
        assert_eq!(codes, [(1, "failed"), (2, "usage"), (3, "integrity"), (4, "partial")]);
    }

    #[test]
    fn a_failed_part_of_a_task_makes_it_partial_unless_it_is_damage() {
        for (kind, expected) in [
            (ErrorKind::Failed, ErrorKind::Partial),
            (ErrorKind::Usage, ErrorKind::Partial),
            (ErrorKind::Integrity, ErrorKind::Integrity),
        ] {
            let error =
                CommandError::new(kind, "broken").with_hint("mend it").into_part_of("models");
            assert_eq!((error.kind(), error.message()), (expected, "models: broken"));
            assert_eq!(error.to_text(), "error: models: broken\nhint: mend it\n");
        }
    }

    #[test]
    fn damage_is_an_integrity_error_from_whatever_crate_it_comes() {
        assert_eq!(kind_of(make_mismatch()), ErrorKind::Integrity);
        assert_eq!(kind_of(remote::Error::from(make_mismatch())), ErrorKind::Integrity);
        assert_eq!(kind_of(land::models::Error::from(make_mismatch())), ErrorKind::Integrity);
        let in_pod = land::models::Error::from(make_mismatch());
        assert_eq!(kind_of(land::claim::Error::from(in_pod)), ErrorKind::Integrity);
        assert_eq!(kind_of(depot::Error::Source(make_mismatch())), ErrorKind::Integrity);
        assert_eq!(kind_of(land::Error::Source(make_mismatch())), ErrorKind::Integrity);
    }

    #[test]
    fn of_several_problems_damage_outweighs_all_and_one_that_may_pass_outweighs_bad_input() {
        let several = |causes: Vec<remote::Error>| {
            let problem = |cause| resolve::ResolveProblem { thing: "x".into(), cause };
            kind_of(resolve::Error::Several(causes.into_iter().map(problem).collect()))
        };
        let full = || remote::Error::Write { what: "x".into(), cause: make_full_disk() };
        assert_eq!(several(vec![make_missing("a"), make_missing("b")]), ErrorKind::Usage);
        assert_eq!(several(vec![make_missing("a"), full()]), ErrorKind::Failed);
        let damage = remote::Error::from(make_mismatch());
        assert_eq!(several(vec![make_missing("a"), full(), damage]), ErrorKind::Integrity);
    }

    #[test]
    fn a_seeders_failure_keeps_its_kind_and_a_broken_connection_is_resumed() {
        let work = |fault| {
            kind_of(land::claim::Error::Work { what: "x".into(), fault, message: "y".into() })
        };
        assert_eq!(work(SeederFailureKind::Input), ErrorKind::Usage);
        assert_eq!(work(SeederFailureKind::Integrity), ErrorKind::Integrity);
        assert_eq!(work(SeederFailureKind::Failed), ErrorKind::Failed);
        let broken = land::claim::Error::Broken { what: "x".into(), why: "y".into() };
        assert_eq!(kind_of(broken), ErrorKind::Partial);
    }

    #[test]
    fn a_wrong_file_is_bad_input_and_a_damaged_one_is_an_integrity_error() {
        use bundle::BundleFileFault as F;
        let of_file = |fault| kind_of(bundle::Error::InvalidFile { path: "x".into(), fault });
        assert_eq!(of_file(F::NotABundleFile), ErrorKind::Usage);
        assert_eq!(of_file(F::EndDamaged), ErrorKind::Integrity);
        assert_eq!(of_file(F::Cut { actual: 1, expected: 2 }), ErrorKind::Integrity);
        assert_eq!(kind_of(bundle::Error::NoFiles), ErrorKind::Usage);
    }

    #[test]
    fn what_is_in_the_way_is_bad_input_and_a_full_disk_a_failure() {
        let path = std::path::PathBuf::from("/srv/models");
        let in_the_way = land::models::Error::InTheWay { path: path.clone(), reason: "own".into() };
        assert_eq!(kind_of(in_the_way), ErrorKind::Usage);
        let disk = land::models::Error::Disk { path, cause: make_full_disk() };
        assert_eq!(kind_of(disk), ErrorKind::Failed);
    }
}
