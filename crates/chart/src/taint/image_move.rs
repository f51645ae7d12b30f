//! An image to move: where it was found, the text that names it now, the text that has to name it
//! then, and how to read that text in another render of the same chart.
//!
//! Tags stay as they are, and so do digests, but for one case: the site's registry takes no index
//! without all of its platforms, and has another one. A pin then has to name that one, and the texts
//! include the digest also where a field of its own has it.

use types::{DigestAlgorithm, Reference};

use super::indexed_render::IndexedRender;
use crate::find::{FoundImage, PartRole, ReferencePart};
use crate::image_names::name_length;
use crate::path::{DocumentPath, PathStep, TextEncoding};
use crate::words::split_text_words;

/// One image at one location, and the name that it has to get.
#[derive(Debug, Clone)]
pub(crate) struct ImageMove {
    /// Where and how the image was found.
    pub(crate) found: FoundImage,
    /// The image's name at the site.
    pub(crate) target: Reference,
    /// The text that names the image now: the whole reference, or registry and repository if the
    /// manifest has the tag in a field of its own.
    pub(crate) text: String,
    /// The text that names it at the site.
    pub(crate) wanted: String,
    /// The digest's change, where the site has another index.
    pub(crate) digest: Option<DigestChange>,
}

/// The digest of an index at the source and at the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DigestChange {
    /// The hexadecimal digits of the digest at the source, without the algorithm.
    pub(crate) was: String,
    /// Those at the site.
    pub(crate) now: String,
    /// The algorithms at the source and at the site.
    pub(crate) algorithms: [DigestAlgorithm; 2],
}

impl DigestChange {
    /// The change from one reference to another; `None` where both name the same, or one names none.
    fn between(source: &Reference, site: &Reference) -> Option<Self> {
        let (was, now) = (source.digest()?, site.digest()?);
        let algorithms = [was.algorithm(), now.algorithm()];
        (was != now).then(|| Self { was: was.hex(), now: now.hex(), algorithms })
    }

    /// A text with the digest at the site.
    pub(crate) fn apply(&self, text: &str) -> String {
        let [was, now] = self.algorithms;
        if was == now {
            return text.replace(&self.was, &self.now);
        }
        // A registry that does not know the algorithm keeps the same bytes under another digest.
        let whole = text.replace(&format!("{was}:{}", self.was), &format!("{now}:{}", self.now));
        whole.replace(&self.was, &self.now)
    }
}

impl ImageMove {
    /// An image as it was found, and its name at the site.
    pub(crate) fn new(found: &FoundImage, target: Reference) -> Self {
        let digest = DigestChange::between(&found.reference, &target);
        let text = join_name_parts(name_parts(found).map(|part| part.text.clone()));
        // Only a whole reference carries its tag or digest along; separate fields keep their own,
        // if the digest does not change.
        let is_whole = found.parts.iter().any(|part| part.role == PartRole::Whole);
        let version = if is_whole { &text[name_length(&text)..] } else { "" };
        let version = digest.as_ref().map_or(version.to_owned(), |change| change.apply(version));
        let wanted = format!("{}{version}", target.name());
        let mut site = Self { found: found.clone(), target, text, wanted, digest };
        if let Some((part, wanted)) = site.digest_part() {
            let was = part.text.trim().to_owned();
            site.text = format!("{}@{was}", site.text);
            site.wanted = format!("{}@{wanted}", site.wanted);
        }
        site
    }

    /// The field that has the digest and nothing else, with its text at the site; `None` where the
    /// digest does not change.
    pub(crate) fn digest_part(&self) -> Option<(&ReferencePart, String)> {
        let change = self.digest.as_ref()?;
        let part = self.found.parts.iter().find(|part| part.role == PartRole::Digest)?;
        Some((part, change.apply(part.text.trim())))
    }

    /// The text at the same location in another render; `None` if that does not have it. `before`
    /// is the render in which the image was found.
    pub(crate) fn name_text_in(
        &self,
        before: &IndexedRender,
        after: &IndexedRender,
    ) -> Option<String> {
        let own = self.found.place.document;
        let other = after.find_same_document(before, own)?;
        // The same document has the same text everywhere; walking it again would take most of the
        // time.
        if after.manifests.documents[other].text == before.manifests.documents[own].text {
            return Some(self.text.clone());
        }
        let mut texts = Vec::new();
        for part in name_parts(&self.found) {
            let now = after.text_at(other, &part.path)?;
            if part.path.steps().last() == Some(&PathStep::Inside(TextEncoding::Text)) {
                // The image is one word of a longer text, such as `--sidecar=ghcr.io/a/b:1 -v`.
                let was = before.text_at(own, &part.path)?;
                texts.push(find_replaced_word(&was, &part.text, &now, self.digest.as_ref())?);
            } else {
                texts.push(now);
            }
        }
        let name = join_name_parts(texts.into_iter());
        match self.digest_part() {
            None => Some(name),
            Some((part, _)) => Some(format!("{name}@{}", after.text_at(other, &part.path)?.trim())),
        }
    }

    /// The paths of the texts that make up the image's name; those of tag and digest are left out,
    /// if the digest does not change.
    pub(crate) fn name_paths(&self) -> impl Iterator<Item = &DocumentPath> {
        let digest = self.digest_part().map(|(part, _)| &part.path);
        name_parts(&self.found).map(|part| &part.path).chain(digest)
    }
}

/// The parts of a found image that make up registry and repository.
fn name_parts(found: &FoundImage) -> impl Iterator<Item = &ReferencePart> {
    found.parts.iter().filter(|part| !matches!(part.role, PartRole::Tag | PartRole::Digest))
}

/// One text stays as it is; several (registry, repository) are joined with slashes.
fn join_name_parts(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.collect();
    match texts.as_slice() {
        [text] => text.trim().to_owned(),
        many => many.iter().map(|text| text.trim().trim_matches('/')).collect::<Vec<_>>().join("/"),
    }
}

/// The word in `now` at the position of `word` in `was`, without the text around it in its own word
/// (`a=org/a:1` becomes `a=x/org/a:1`). A digest behind it may change with it. `None` if the texts have
/// different numbers of words.
fn find_replaced_word(
    was: &str,
    word: &str,
    now: &str,
    digest: Option<&DigestChange>,
) -> Option<String> {
    fn words(text: &str) -> Vec<&str> {
        split_text_words(text).map(|(_, word)| word).collect()
    }
    let (was, now) = (words(was), words(now));
    if was.len() != now.len() {
        return None;
    }
    let all = || was.iter().zip(&now);
    // `org/app` is also a part of `org/app-worker`, another image: a whole word is better.
    let own = all().find_map(|(old, new)| Some((old, new, find_whole_word(old, word)?)));
    let (old, new, start) =
        own.or_else(|| all().find_map(|(old, new)| Some((old, new, old.find(word)?))))?;
    let behind = &old[start + word.len()..];
    let new = match new.strip_suffix(behind) {
        Some(new) => new,
        None => new.strip_suffix(digest?.apply(behind).as_str())?,
    };
    new.strip_prefix(&old[..start]).map(str::to_owned)
}

/// The position of `word` in a text where it is not part of a longer name.
fn find_whole_word(text: &str, word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
    text.match_indices(word).map(|(start, _)| start).find(|start| {
        let behind = text[start + word.len()..].trim_start_matches('.');
        !text[..*start].ends_with(|c| is_part(c) || c == '.') && !behind.starts_with(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_again_where_it_stood() {
        let was = "--images=a=org/a:1,b=org/b:2";
        let now = "--images=a=x/org/a:1,b=y/org/b:2";
        assert_eq!(find_replaced_word(was, "org/b:2", now, None).as_deref(), Some("y/org/b:2"));
        assert_eq!(find_replaced_word(was, "org/b:2", "--images=", None), None);
        let (was, now) = ("q.io/o/app-x:1 q.io/o/app:1", "q.io/o/app-x:1 site/o/app:1");
        assert_eq!(find_replaced_word(was, "q.io/o/app", now, None).as_deref(), Some("site/o/app"));
    }
}
