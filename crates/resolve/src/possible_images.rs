//! Images that are only possible: an operator may pull them, or a feature that is turned off would.
//! They are left out and listed, unless `include:` of `gantry.yaml` chooses them.

use std::collections::BTreeSet;

use chart::find::{Confidence, FoundImage};
use remote::name_pattern::NamePattern;
use types::Reference;
use types::input::{Input, PossibleImages};

use crate::ResolveProblem;

/// Why an image that releases name is not in the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOutCause {
    /// It is only possible that it is pulled, and the input does not include it.
    Possible,
    /// No registry has it; what names it may be no image.
    Absent,
}

/// An image that releases name and that is not in the lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOutImage {
    /// The release that names it.
    pub release: String,
    /// The image.
    pub reference: Reference,
    /// Where it was found.
    pub location: String,
    /// Why it is left out.
    pub cause: LeftOutCause,
    /// The same for people, in a sentence without a capital letter.
    pub reason: String,
}

/// What happens when a registry does not have an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MissingImagePolicy {
    /// It is left out, with a note: something only looks like an image, or is a guess.
    LeaveOut,
    /// The lock fails: a pod uses it, or the input names it.
    Fail,
}

/// Which images that are only possible are carried for a release.
pub(crate) enum PossibleSelection {
    Nothing,
    All,
    Matching(Vec<NamePattern>),
}

impl PossibleSelection {
    /// The selection of a release: its own, or that of the whole input.
    ///
    /// # Errors
    /// A pattern that is not valid.
    pub(crate) fn new(input: &Input, own: Option<&PossibleImages>) -> remote::Result<Self> {
        Self::from_input(own.unwrap_or(&input.include))
    }

    fn from_input(include: &PossibleImages) -> remote::Result<Self> {
        Ok(match include {
            PossibleImages::LeftOut => Self::Nothing,
            PossibleImages::Carried => Self::All,
            PossibleImages::Matching(patterns) => {
                let patterns = patterns.iter().map(|pattern| NamePattern::parse(pattern));
                Self::Matching(patterns.collect::<remote::Result<_>>()?)
            }
        })
    }

    /// Whether an image is carried, and what happens if no registry has it; `None` if it is left out.
    pub(crate) fn find_policy(&self, found: &FoundImage) -> Option<MissingImagePolicy> {
        match found.confidence {
            Confidence::Certain => Some(MissingImagePolicy::Fail),
            Confidence::Likely => Some(MissingImagePolicy::LeaveOut),
            Confidence::Possible => match self {
                Self::Nothing => None,
                Self::All => Some(MissingImagePolicy::LeaveOut),
                Self::Matching(patterns) => {
                    let mut own = patterns.iter().filter(|one| one.matches(&found.reference));
                    let first = own.next()?;
                    // What is written in full is meant; what a glob finds may be a guess.
                    let is_named = !first.is_glob() || own.any(|pattern| !pattern.is_glob());
                    Some(if is_named {
                        MissingImagePolicy::Fail
                    } else {
                        MissingImagePolicy::LeaveOut
                    })
                }
            },
        }
    }

    /// The patterns that match none of the images.
    pub(crate) fn list_unmatched(&self, images: &BTreeSet<Reference>) -> Vec<&str> {
        let Self::Matching(patterns) = self else { return Vec::new() };
        let unmatched =
            patterns.iter().filter(|pattern| !images.iter().any(|image| pattern.matches(image)));
        unmatched.map(NamePattern::as_str).collect()
    }
}

/// Why an image is only possible, in a sentence without a capital letter.
pub(crate) fn explain_possible(found: &FoundImage) -> String {
    found.note.clone().unwrap_or_else(|| found.pattern.as_str().to_owned())
}

/// Adds a problem for each pattern of the top level's `include:` that matches no image of the releases
/// that it counts for.
pub(crate) fn check_common_patterns(
    input: &Input,
    images: &BTreeSet<Reference>,
    problems: &mut Vec<ResolveProblem>,
) {
    let thing = "include:";
    match PossibleSelection::from_input(&input.include) {
        Ok(selection) => {
            for pattern in selection.list_unmatched(images) {
                let cause = unmatched_error(pattern, "the charts and manifests", images);
                problems.push(ResolveProblem { thing: thing.to_owned(), cause });
            }
        }
        Err(cause) => problems.push(ResolveProblem { thing: thing.to_owned(), cause }),
    }
}

/// The error for a pattern of `include:` that matches nothing.
pub(crate) fn unmatched_error(
    pattern: &str,
    place: &str,
    images: &BTreeSet<Reference>,
) -> remote::Error {
    let there: Vec<String> = images.iter().map(ToString::to_string).collect();
    let what = format!(
        "include: an image of {place} that matches {pattern:?} (one that no release names belongs under images:)"
    );
    remote::Error::not_found_among(what, &there)
}
