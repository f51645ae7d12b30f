//! What can go wrong on the way to a lock: usually several things at once, all of them told.

use std::fmt;

/// One thing of the input that could not be resolved.
#[derive(Debug)]
pub struct Problem {
    /// The thing, as the input has it.
    pub thing: String,
    /// Why.
    pub cause: remote::Error,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = self.cause.to_string();
        // Most errors name the thing already.
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
    /// Things that could not be resolved.
    #[error("{}", list(.0))]
    Several(Vec<Problem>),
    /// The store.
    #[error(transparent)]
    Store(store::Error),
    /// A name to upgrade that the lock does not have.
    #[error(
        "nothing in the lock is called {name:?}; give a reference, a chart, a release or a model as gantry.lock has it"
    )]
    Upgrade {
        /// The name.
        name: String,
    },
    /// Something on this machine, or at an unpinned address, is no longer what was locked.
    #[error("{thing} is no longer what gantry.lock has; run: gantry lock --upgrade {thing}")]
    Changed {
        /// The thing.
        thing: String,
    },
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn list(problems: &[Problem]) -> String {
    match problems {
        [only] => only.to_string(),
        several => {
            let lines: Vec<_> = several.iter().map(|problem| format!("\n  {problem}")).collect();
            format!("{} things cannot be resolved:{}", several.len(), lines.concat())
        }
    }
}
