//! Decides which differences between the plain render and the one with the overlay are expected:
//! the images themselves, and a few things that may differ beside them. Any other difference
//! refutes the proof in `prove`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::differences::LeafDifference;
use crate::find::{names, positions};
use crate::image_names::{name_length, replace_name};
use crate::path::{DocumentPath, PathStep, TextEncoding};
use crate::taint::image_move::ImageMove;
use crate::words::split_text_words;

/// The images that were moved, by document number and path of the text that names them.
pub(super) type MovedTexts<'a> = BTreeMap<(usize, &'a DocumentPath), Vec<&'a ImageMove>>;

/// What may differ between two renders beside image references.
#[derive(Debug, Default)]
pub(crate) struct ExpectedChanges {
    /// Leaves (document number and path) that differ between renders of the same values: generated
    /// passwords, dates. `None` until a second plain render was needed to find them.
    pub(crate) volatile: Option<BTreeSet<(usize, DocumentPath)>>,
    /// Texts of values before and after the overlay. Objects that show values as they are, such as
    /// a Secret with the chart's whole values, may differ by exactly these.
    pub(crate) echoes: BTreeSet<(String, String)>,
    /// Images at the site that the overlay passes to operators, and that the plain render does not
    /// name.
    pub(crate) inserted: BTreeSet<String>,
    /// The name of the pull secret that the overlay sets.
    pub(crate) pull_secret: Option<String>,
    /// The last keys of the guard values that the overlay sets.
    pub(crate) guards: BTreeSet<String>,
}

/// Whether a difference in a document, given by its number and its content, is a moved image, or one
/// that is allowed beside them.
pub(super) fn is_explained(
    difference: &LeafDifference,
    (document, content): (usize, &Value),
    moved: &MovedTexts,
    allowed: &ExpectedChanges,
) -> bool {
    let path = &difference.path;
    if moved.contains_key(&(document, path)) {
        return true;
    }
    let (before, after) = (difference.before.as_deref(), difference.after.as_deref());
    // `key: null` and no key mean the same in Kubernetes, and `before` may be either.
    let (old, new) = (before.unwrap_or_default(), after.unwrap_or_default());
    let old = if old == "null" { "" } else { old };
    // An image inside a longer text (an argument) is found by its word: only that may differ.
    if let Some(sites) = moved.get(&(document, &path.inside(TextEncoding::Text)))
        && are_words_moved(old, new, sites)
    {
        return true;
    }
    // Generated values change anyway; that must not hide a moved image, which was checked above.
    let is_volatile =
        allowed.volatile.as_ref().is_some_and(|all| all.contains(&(document, path.clone())));
    let key = path.last_key().unwrap_or_default();
    is_volatile
        || is_changed_hash(key, old, new)
        || allowed.echoes.contains(&(old.to_owned(), new.to_owned()))
        || allowed.guards.contains(key)
        || is_pull_secret(path, new, allowed)
        || is_insertion(old, new, &allowed.inserted)
        || !positions::is_place_without_images(content, path) && is_mention_moved(old, new, moved)
}

/// Whether a list or a text is as before with images for operators added, and nothing else.
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
    // In a text like `a=x` that becomes `a=x,key=image`, the word before the image is its key.
    let mut words = Vec::new();
    for word in list_words(after) {
        if inserted.contains(word) {
            words.pop();
        } else {
            words.push(word);
        }
    }
    words == list_words(before)
}

/// The words of a text, as image references are separated in arguments.
fn list_words(text: &str) -> Vec<&str> {
    split_text_words(text).map(|(_, word)| word).collect()
}

/// Whether two texts differ only in words that are moved images.
fn are_words_moved(before: &str, after: &str, sites: &[&ImageMove]) -> bool {
    let (before, after) = (list_words(before), list_words(after));
    before.len() == after.len()
        && before.iter().zip(&after).all(|(old, new)| {
            old == new || sites.iter().any(|site| old.replace(&site.text, &site.wanted) == *new)
        })
}

/// Whether a leaf is a hash of other objects, such as the `checksum/config` annotation of Helm's tips
/// and tricks: it changes with the images in them. Two hexadecimal texts of the length of a usual
/// hash (MD5, SHA-1, SHA-2) are hashes under any key; where the key says so, they may be cut off.
pub(crate) fn is_changed_hash(key: &str, before: &str, after: &str) -> bool {
    const LENGTHS: &[usize] = &[32, 40, 56, 64, 96, 128];
    // Charts that cut hashes off keep at least this much.
    const SHORTEST: usize = 6;
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    if before == after || before.len() != after.len() || !is_hex(before) || !is_hex(after) {
        return false;
    }
    let says_so = || {
        names::split_words(key).iter().any(|word| {
            matches!(word.as_str(), "checksum" | "hash" | "sha" | "sha1" | "sha256" | "md5")
        })
    };
    LENGTHS.contains(&before.len()) || before.len() >= SHORTEST && says_so()
}

/// Whether a text mentions images by their names, and now by those that they have at the site: the
/// bare repository in another variable, the images that a policy allows.
fn is_mention_moved(before: &str, after: &str, moved: &MovedTexts) -> bool {
    // A word without a slash may mean anything.
    let name = |site: &ImageMove| -> String { site.text[..name_length(&site.text)].to_owned() };
    let mut names: BTreeMap<String, String> = moved
        .values()
        .flatten()
        .map(|site| (name(site), site.target.name()))
        .filter(|(name, _)| name.contains('/'))
        .collect();
    let mut text = before.to_owned();
    // The longest first: `org/app` is the start of `org/app/worker`.
    while let Some(name) = names.keys().max_by_key(|name| name.len()).cloned() {
        if let Some(target) = names.remove(&name) {
            text = replace_name(&text, &name, &target);
        }
    }
    text != before && text == after
}

/// Whether a difference is the site's pull secret in a list of pull secrets.
fn is_pull_secret(path: &DocumentPath, after: &str, allowed: &ExpectedChanges) -> bool {
    // Also where a Secret or a ConfigMap shows the chart's own values.
    let is_list = path
        .steps()
        .iter()
        .any(|step| matches!(step, PathStep::Key(key) if names::is_pull_secret_key(key)));
    is_list && allowed.pull_secret.as_deref().is_some_and(|secret| after.contains(secret))
}
