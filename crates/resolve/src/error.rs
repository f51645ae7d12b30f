//! What can go wrong when a lock is made. Usually several things at once; all of them are reported.

use std::fmt;

/// One item of the input that could not be resolved.
#[derive(Debug)]
pub struct ResolveProblem {
    /// The item, as it is written in the input.
    pub thing: String,
    /// Why it could not be resolved.
    pub cause: remote::Error,
}

impl std::error::Error for ResolveProblem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl fmt::Display for ResolveProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = self.cause.to_string();
        // Most errors name the item already; naming it twice would only be longer.
        if cause.contains(&self.thing) {
            f.write_str(&cause)
        } else {
            write!(f, "{}: {cause}", self.thing)
        }
    }
}

/// An error of resolving.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Items that could not be resolved.
    #[error("{}", format_problems(.0))]
    Several(Vec<ResolveProblem>),
    /// Reading or writing the store failed.
    #[error(transparent)]
    Store(store::Error),
    /// A name given to `--upgrade` is not in the lock.
    #[error(
        "gantry.lock has nothing called {name:?} to upgrade; give an image reference, a chart, a release or a model as it is written there"
    )]
    Upgrade {
        /// The name.
        name: String,
    },
    /// Two entries of the input give one name to different content.
    #[error(
        "{name} would be two things: {first}, and {second}; remove one of the two, or give it another name"
    )]
    NameCollision {
        /// The name.
        name: String,
        /// Where the one comes from, and its digest.
        first: String,
        /// Where the other comes from, and its digest.
        second: String,
    },
    /// The input cannot be written in its normal form.
    #[error("gantry.yaml cannot be recorded in the lock: {entry}: {cause}")]
    Request {
        /// The entry.
        entry: String,
        /// Why.
        #[source]
        cause: serde_json::Error,
    },
    /// Content on this machine, or at an unpinned address, is no longer what was locked.
    #[error(
        "{thing} has changed since it was locked; accept the change with: gantry lock --upgrade {thing}"
    )]
    Changed {
        /// The root's name.
        thing: String,
    },
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One problem in one line, several as a list.
fn format_problems(problems: &[ResolveProblem]) -> String {
    match problems {
        [only] => only.to_string(),
        several => {
            let lines: Vec<_> = several.iter().map(|problem| format!("\n  {problem}")).collect();
            format!("{} items of gantry.yaml cannot be resolved:{}", several.len(), lines.concat())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn make_problem(thing: &str, what: &str) -> ResolveProblem {
        let cause = remote::Error::NotFound { what: what.into(), hint: String::new() };
        ResolveProblem { thing: thing.into(), cause }
    }

    #[test]
    fn a_problem_names_its_item_once() {
        let named = make_problem("nginx:1", "nginx:1 at docker.io").to_string();
        assert_eq!(named, "nginx:1 at docker.io does not exist");
        let other = make_problem("nginx:1", "the manifest").to_string();
        assert_eq!(other, "nginx:1: the manifest does not exist");
    }

    #[test]
    fn one_problem_is_a_line_and_several_are_a_list() {
        let problems = || vec![make_problem("a", "a"), make_problem("b", "b")];
        let one = Error::Several(problems().split_off(1)).to_string();
        assert_eq!(one, "b does not exist");
        let two = Error::Several(problems()).to_string();
        assert_eq!(
            two,
            "2 items of gantry.yaml cannot be resolved:\n  a does not exist\n  b does not exist"
        );
    }
}
