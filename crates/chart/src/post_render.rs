//! Moves the images of a rendered stream itself, for what no value reaches: the heart of
//! `gantry post-render`, which helm calls between its templates and the cluster. The text is edited
//! in place, never written anew, so that no number or quoting changes on the way; then it is read
//! again and proven like an overlay.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::Value;
use types::Reference;

use crate::find::{self, Confidence, Pattern, Role, text};
use crate::manifest::{Document, Manifests};
use crate::path::Path;
use crate::relocate::site::{Rendered, Site};
use crate::relocate::{Allowed, CompiledIn, Locked, NotLocked, Proof, Target, prove};
use crate::{Error, Result, Rules};

/// A stream that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostRendered {
    /// The stream to hand on.
    pub stream: String,
    /// What it shows against the stream before.
    pub proof: Proof,
}

/// Moves every image of a rendered stream to the site.
pub fn post_render(stream: &str, target: &Target) -> Result<PostRendered> {
    post_render_with(stream, target, &Rules::default(), None)
}

/// Moves every image of a rendered stream to the site. `rules` tell what operators will pull beside
/// it; with `locked`, an image that is not in the lock is named in the proof.
pub fn post_render_with(
    stream: &str,
    target: &Target,
    rules: &Rules,
    locked: Option<&Locked>,
) -> Result<PostRendered> {
    let manifests = Manifests::read(stream);
    if let Some(unread) = manifests.unread.first() {
        return Err(Error::Unread {
            template: unread.template.clone().unwrap_or_else(|| "a document".into()),
            line: unread.line,
            reason: unread.reason.clone(),
        });
    }
    let findings = find::in_manifests(&manifests);
    let outside: Vec<_> =
        findings.images.iter().filter(|found| !target.is_home(&found.reference)).collect();
    let names = outside.iter().map(|found| &found.reference);
    let names = target.prefix.targets(target.naming, names)?;
    let sites: Vec<Site> = outside
        .into_iter()
        .filter_map(|found| Some(Site::new(found, names.get(&found.reference)?.clone())))
        .collect();
    let mut edited = stream.to_owned();
    // From the back, so that what is edited does not move what is still to come.
    let mut end = edited.len();
    for (index, document) in manifests.documents.iter().enumerate().rev() {
        let Some(start) = edited[..end].rfind(&document.text) else { continue };
        let own: Vec<&Site> =
            sites.iter().filter(|site| site.found.place.document == index).collect();
        if !own.is_empty() {
            edited.replace_range(start..start + document.text.len(), &moved(document, &own));
        }
        end = start;
    }
    let is_home = |reference: &Reference| target.is_home(reference);
    let before = Rendered::new(manifests);
    let after = Rendered::new(Manifests::read(&edited));
    let mut proof = prove::prove(&before, &after, &sites, &Allowed::default(), &is_home);
    compiled_in(&after, target, rules, &mut proof);
    if let Some(locked) = locked {
        proof.not_locked = not_locked(&sites, locked);
    }
    Ok(PostRendered { stream: edited, proof })
}

/// Adds to a proof what operators will pull and no manifest names: nothing here moves it.
fn compiled_in(after: &Rendered, target: &Target, rules: &Rules, proof: &mut Proof) {
    let mut findings = after.findings().clone();
    rules.apply(&after.manifests, &mut findings);
    let outside = findings
        .images
        .into_iter()
        .filter(|found| found.pattern == Pattern::Rule && !target.is_home(&found.reference));
    for found in outside {
        let Ok(to) = target.prefix.target(target.naming, &found.reference) else { continue };
        let all = match found.confidence {
            Confidence::Possible => &mut proof.possible,
            Confidence::Likely | Confidence::Certain => &mut proof.compiled_in,
        };
        all.push(CompiledIn {
            image: found.reference,
            to,
            place: found.place,
            values: found.values,
            why: found.note.unwrap_or_default(),
        });
    }
}

/// The images that the site has to have and that the lock does not.
fn not_locked(sites: &[Site], locked: &Locked) -> Vec<NotLocked> {
    let mut missing: Vec<NotLocked> = Vec::new();
    for Site { found, .. } in sites {
        let image = &found.reference;
        let is_known = missing.iter().any(|missing| missing.image == *image);
        if found.confidence > Confidence::Possible && !is_known && !locked.has(image) {
            missing.push(NotLocked { image: image.clone(), place: found.place.clone() });
        }
    }
    missing
}

/// The text of a document with its images moved.
fn moved(document: &Document, sites: &[&Site]) -> String {
    let mut text = document.text.clone();
    let mut secrets: BTreeMap<Path, Vec<&Site>> = BTreeMap::new();
    for site in sites {
        match site.name_paths().find(|path| path.is_base64()) {
            Some(path) => secrets.entry(path.outer()).or_default().push(site),
            None => text = edited(&text, site),
        }
    }
    for (path, sites) in secrets {
        let old = path.find(&document.value).and_then(Value::as_str);
        let Some((old, plain)) = old.and_then(|old| Some((old, text::decode(old)?))) else {
            continue;
        };
        let new = sites.iter().fold(plain, |plain, site| edited(&plain, site));
        text = text.replace(old, &base64::engine::general_purpose::STANDARD.encode(new));
    }
    text
}

/// A text with the image of one place moved: the whole reference wherever it stands as a word, or,
/// where name and tag stand apart, the value behind the key of its first part.
fn edited(text: &str, site: &Site) -> String {
    let names: Vec<_> = site
        .found
        .parts
        .iter()
        .filter(|part| !matches!(part.role, Role::Tag | Role::Digest))
        .collect();
    let [first, rest @ ..] = names.as_slice() else { return text.to_owned() };
    if first.role == Role::Whole {
        return replaced(text, &site.text, &site.wanted, |_| true);
    }
    // The first part takes all that comes before the others.
    let mut tail = String::new();
    for part in rest {
        tail.push('/');
        tail.push_str(part.text.trim_matches('/'));
    }
    let Some(head) = site.wanted.strip_suffix(&tail) else { return text.to_owned() };
    let key = first.path.last_key().unwrap_or_default().to_owned();
    replaced(text, &first.text, head, |before| {
        let line = before.rsplit('\n').next().unwrap_or_default();
        let line = line.trim_end_matches(['"', '\'', ' ', ':', '=', '\t']);
        line.ends_with(&key)
    })
}

/// Replaces a word wherever it stands by itself and `is_meant` says so of the text before it.
fn replaced(text: &str, word: &str, new: &str, is_meant: impl Fn(&str) -> bool) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = 0;
    for (start, _) in text.match_indices(word) {
        let end = start + word.len();
        if start < rest {
            continue;
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || "./-_:@".contains(c);
        let behind = &text[end..];
        let before = text[..start].chars().next_back();
        // A key's colon is no part of the word behind it: `image:nginx` is text, `image: nginx` a key.
        let stands_alone = !before.is_some_and(is_part) && !behind.starts_with(is_part);
        if stands_alone && is_meant(&text[..start]) {
            result.push_str(&text[rest..start]);
            result.push_str(new);
            rest = end;
        }
    }
    result.push_str(&text[rest..]);
    result
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::relocate::Verdict;

    fn target() -> Target {
        Target {
            prefix: "site:5000/ai".parse().unwrap(),
            naming: types::naming::Naming::Path,
            pull_secret: None,
        }
    }

    #[test]
    fn images_are_moved_in_place_and_everything_else_stays_byte_for_byte() {
        let stream = "---\n# Source: a/templates/x.yaml\nkind: Pod\nspec:\n  # by hand\n  containers:\n  \
            - image: \"alpine:3.19\"\n    args: [--x-image=ghcr.io/a/b:1, --mode=0644]\n---\nkind: X\n\
            apiVersion: x.y/v1\nspec:\n  driver: {repository: nvcr.io/nvidia, image: driver, version: '5'}\n";
        let after = post_render(stream, &target()).unwrap();
        assert_eq!(after.proof.verdict(), Verdict::Proven, "{:?}", after.proof);
        let expected = stream
            .replace("alpine:3.19", "site:5000/ai/library/alpine:3.19")
            .replace("ghcr.io/a/b", "site:5000/ai/a/b")
            .replace("nvcr.io/nvidia", "site:5000/ai/nvidia");
        assert_eq!(after.stream, expected);
    }

    #[test]
    fn a_secret_is_opened_and_closed_again() {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let values = "a:\n  image: quay.io/x/y:1\nb:\n  image: {name: quay.io/x/z, tag: 2}\n";
        let stream = format!("kind: Secret\ndata:\n  v: {}\n", encode(values));
        let after = post_render(&stream, &target()).unwrap();
        assert_eq!(after.proof.verdict(), Verdict::Proven, "{:?}", after.proof);
        assert_eq!(
            after.stream.matches(&encode(&values.replace("quay.io", "site:5000/ai"))).count(),
            1
        );
    }

    #[test]
    fn what_is_moved_already_is_left_alone() {
        let stream = "kind: Pod\nspec: {containers: [{image: 'site:5000/ai/a/b:1'}]}\n";
        assert_eq!(post_render(stream, &target()).unwrap().stream, stream);
    }
}
