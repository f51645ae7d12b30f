//! Which differences between two renders a move explains: the images themselves, and what may
//! differ beside them. Everything else is a change that refutes the proof.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::difference::Difference;
use super::site::Site;
use crate::find::{names, text};
use crate::path::{Encoding, Path, Step};

/// The places whose images were moved, by document and path of the text.
pub(super) type Moves<'a> = BTreeMap<(usize, &'a Path), Vec<&'a Site>>;

/// What may change beside references.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    /// Places that differ from render to render of the same values: made-up passwords, dates.
    /// Not known before something needs them.
    pub(crate) volatile: Option<BTreeSet<(usize, Path)>>,
    /// Texts that the overlay replaces, and what by. A Secret that holds the chart's values echoes
    /// them.
    pub(crate) echoes: BTreeSet<(String, String)>,
    /// Images that the overlay makes operators be told, and that no manifest named before.
    pub(crate) inserted: BTreeSet<String>,
    /// The name of the pull secret that the overlay gives.
    pub(crate) pull_secret: Option<String>,
    /// The keys of guards that the overlay sets.
    pub(crate) guards: BTreeSet<String>,
}

/// Whether a difference is a moved image, or may be there.
pub(super) fn is_explained(
    difference: &Difference,
    document: usize,
    moved: &Moves,
    allowed: &Allowed,
) -> bool {
    let path = &difference.path;
    if moved.contains_key(&(document, path)) {
        return true;
    }
    let (before, after) = (difference.before.as_deref(), difference.after.as_deref());
    // A value that is null reads as one that is not there.
    let (old, new) = (before.unwrap_or_default(), after.unwrap_or_default());
    let old = if old == "null" { "" } else { old };
    if let Some(sites) = moved.get(&(document, &path.inside(Encoding::Text)))
        && words_are_moved(old, new, sites)
    {
        return true;
    }
    let is_volatile =
        allowed.volatile.as_ref().is_some_and(|all| all.contains(&(document, path.clone())));
    let key = path.last_key().unwrap_or_default();
    is_volatile
        || is_checksum(key, old) && is_checksum(key, new)
        || allowed.echoes.contains(&(old.to_owned(), new.to_owned()))
        || allowed.guards.contains(key)
        || is_pull_secret(path, new, allowed)
        || is_insertion(old, new, &allowed.inserted)
}

/// Whether a list or a text has nothing more than before but images that operators are told.
fn is_insertion(before: &str, after: &str, inserted: &BTreeSet<String>) -> bool {
    let is_one = |text: &str| inserted.iter().any(|image| text.contains(image.as_str()));
    if !is_one(after) {
        return false;
    }
    let list = |text: &str| serde_json::from_str::<Vec<Value>>(text).ok();
    if let (Some(before), Some(mut after)) = (list(before), list(after)) {
        after.retain(|item| !is_one(&item.to_string()));
        return before == after;
    }
    // `a=x` becomes `a=x,key=image`.
    let mut words = Vec::new();
    for word in split(after) {
        if inserted.contains(&word) {
            words.pop();
        } else {
            words.push(word);
        }
    }
    words == split(before)
}

fn split(text: &str) -> Vec<String> {
    text.split(text::is_between).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Whether two texts differ in words that are moved images only.
fn words_are_moved(before: &str, after: &str, sites: &[&Site]) -> bool {
    let (before, after) = (split(before), split(after));
    before.len() == after.len()
        && before.iter().zip(&after).all(|(old, new)| {
            old == new || sites.iter().any(|site| old.replace(&site.text, &site.wanted) == *new)
        })
}

/// A digest of something that holds references: `checksum/config` and its kin.
pub(crate) fn is_checksum(key: &str, text: &str) -> bool {
    const SHORTEST: usize = 32;
    let says_so =
        names::words(key).iter().any(|w| matches!(w.as_str(), "checksum" | "hash" | "sha256"));
    says_so && text.len() >= SHORTEST && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_pull_secret(path: &Path, after: &str, allowed: &Allowed) -> bool {
    let is_list = path.steps().iter().any(|step| *step == Step::Key("imagePullSecrets".into()));
    is_list && allowed.pull_secret.as_deref().is_some_and(|secret| after.contains(secret))
}
