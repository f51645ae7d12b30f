//! What would leave the cluster, and what tried to.

mod error;
mod evidence;
mod helpers;
mod line;
mod surroundings;
mod tally;

pub mod connections;
pub mod corefile;
pub mod coverage;
pub mod dns;
pub mod findings;
pub mod inside;
pub mod pods;
pub mod report;
pub mod sink;
pub mod soak;

pub use error::{Error, Result};
pub use evidence::{Evidence, Exercised, Outcome, Seeing};
pub use helpers::NAMESPACE;
pub use inside::{Declared, Inside};
pub use line::{Attempt, Line, Protocol, Query, Source};
pub use surroundings::{Surroundings, surroundings};
pub use tally::Seen;

/// A word of ten letters and digits that nobody guesses.
fn token() -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..10).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}
