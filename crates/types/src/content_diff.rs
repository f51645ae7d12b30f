//! Compares two lists of content (locks, bundles, stores, receipts): which images, charts, models and
//! files were added, removed or changed, and how many bytes that is.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::lock::{Blob, ImageReason, Lock};
use crate::receipt::Receipt;
use crate::{Digest, Reference, RootKind};

/// The length of a commit of git in hexadecimal, and what is shown of it.
const COMMIT: usize = 40;
const SHORT_COMMIT: usize = 12;
/// What is shown of a tag that is longer than that.
const SHORT_TAG: usize = 24;

/// What a lock, a bundle, a store or a registry has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContentListing {
    items: BTreeMap<Reference, ListedContent>,
    /// Every blob with its size in bytes; one that several items share is here once.
    blobs: BTreeMap<Digest, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ListedContent {
    kind: RootKind,
    digest: Digest,
    /// The size of all of its blobs in bytes; `None` where it is not known.
    bytes: Option<u64>,
    /// Why an image is there; `None` where it is not known.
    reason: Option<ImageReason>,
}

/// One image, chart, model or file of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiffItem {
    /// Whether it is an image, a chart, a model, …
    pub kind: RootKind,
    /// Its name.
    pub name: Reference,
    /// Its digest.
    pub digest: Digest,
    /// The size of all of its blobs; absent where the list does not have it (a receipt).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why an image is there; absent where the list does not have it (a store, a receipt).
    #[serde(flatten)]
    pub reason: Option<ImageReason>,
}

/// An item that is in both lists, with another digest, tag or version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiffChange {
    /// The item of the first list.
    #[serde(rename = "olderItem")]
    pub before: DiffItem,
    /// The item of the second list.
    #[serde(rename = "newerItem")]
    pub after: DiffItem,
}

/// The difference between two lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContentDiff {
    /// Items of the second list alone, sorted by name.
    #[serde(rename = "addedItems")]
    pub added: Vec<DiffItem>,
    /// Items of the first list alone, sorted by name.
    #[serde(rename = "removedItems")]
    pub removed: Vec<DiffItem>,
    /// Items of both lists that differ, sorted by name.
    #[serde(rename = "changedItems")]
    pub changed: Vec<DiffChange>,
    /// The number of items that are the same in both.
    #[serde(rename = "sameCount")]
    pub same: usize,
    /// The size of the blobs that only the second list has: what has to be carried.
    pub added_bytes: u64,
    /// The size of the blobs that only the first list has.
    pub removed_bytes: u64,
    /// The size of the blobs that both have.
    pub shared_bytes: u64,
}

impl ContentListing {
    /// What a lock lists.
    pub fn from_lock(lock: &Lock) -> Self {
        let mut owned: BTreeMap<&Reference, BTreeSet<Blob>> = BTreeMap::new();
        for content in lock.blobs() {
            owned.entry(content.owner).or_default().insert(content.blob);
        }
        let mut listing = Self::default();
        for root in lock.roots() {
            let blobs = owned.remove(&root.name).unwrap_or_default();
            listing.add_item(root.kind, root.name, root.descriptor.digest, blobs);
        }
        for (name, reason) in lock.image_reasons() {
            if let Some(item) = listing.items.get_mut(&name) {
                item.reason = Some(reason);
            }
        }
        listing
    }

    /// What a receipt says that a target holds, under the names of the source.
    pub fn from_receipt(receipt: &Receipt) -> Self {
        let items = receipt.roots.iter().map(|root| {
            let (kind, digest) = (root.kind, root.digest);
            let content = ListedContent { kind, digest, bytes: None, reason: None };
            (root.name.clone(), content)
        });
        let blobs = receipt.blobs.iter().map(|blob| (blob.digest, blob.size));
        Self { items: items.collect(), blobs: blobs.collect() }
    }

    /// Adds an item with all of its blobs, manifests included, each once.
    pub fn add_item(
        &mut self,
        kind: RootKind,
        name: Reference,
        digest: Digest,
        blobs: impl IntoIterator<Item = Blob>,
    ) {
        let mut bytes = 0;
        for blob in blobs {
            bytes += blob.size;
            self.blobs.insert(blob.digest, blob.size);
        }
        self.items.insert(name, ListedContent { kind, digest, bytes: Some(bytes), reason: None });
    }

    /// Compares this list, the older one, with a newer one.
    pub fn diff(&self, newer: &Self) -> ContentDiff {
        let mut diff = ContentDiff::default();
        for (name, content) in &newer.items {
            match self.items.get(name) {
                Some(before) if before.digest == content.digest => diff.same += 1,
                Some(before) => diff.changed.push(DiffChange {
                    before: describe_item(name, before),
                    after: describe_item(name, content),
                }),
                None => diff.added.push(describe_item(name, content)),
            }
        }
        let removed = self.items.iter().filter(|(name, _)| !newer.items.contains_key(name));
        diff.removed = removed.map(|(name, content)| describe_item(name, content)).collect();
        diff.pair_versions();
        for (digest, size) in &newer.blobs {
            match self.blobs.contains_key(digest) {
                true => diff.shared_bytes += size,
                false => diff.added_bytes += size,
            }
        }
        let gone = self.blobs.iter().filter(|(digest, _)| !newer.blobs.contains_key(digest));
        diff.removed_bytes = gone.map(|(_, size)| size).sum();
        diff
    }
}

impl ContentDiff {
    /// Whether both lists have the same items.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Turns an item that was removed and one that was added with another tag into one change. Where a
    /// repository has several of either, nobody can say which replaces which.
    fn pair_versions(&mut self) {
        let mut by_repository: BTreeMap<String, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for (at, item) in self.removed.iter().enumerate() {
            by_repository.entry(item.repository_key()).or_default().0.push(at);
        }
        for (at, item) in self.added.iter().enumerate() {
            by_repository.entry(item.repository_key()).or_default().1.push(at);
        }
        let (mut gone, mut new) = (BTreeSet::new(), BTreeSet::new());
        for pair in by_repository.values() {
            if let ([removed], [added]) = (pair.0.as_slice(), pair.1.as_slice()) {
                self.changed.push(DiffChange {
                    before: self.removed[*removed].clone(),
                    after: self.added[*added].clone(),
                });
                gone.insert(*removed);
                new.insert(*added);
            }
        }
        keep_others(&mut self.removed, &gone);
        keep_others(&mut self.added, &new);
        self.changed.sort_by(|a, b| a.after.name.cmp(&b.after.name));
    }
}

impl DiffChange {
    /// The version before and after: `1.25 → 1.26`, or one of them where it is the same.
    pub fn version_change(&self) -> String {
        describe_change(self.before.short_version(), self.after.short_version())
    }

    /// The digest before and after, in short.
    pub fn digest_change(&self) -> String {
        describe_change(self.before.digest.short_hex(), self.after.digest.short_hex())
    }
}

fn describe_change(before: String, after: String) -> String {
    if before == after { after } else { format!("{before} → {after}") }
}

impl DiffItem {
    /// Its tag, version or commit, in short; empty where its name has a digest alone.
    pub fn short_version(&self) -> String {
        match self.name.tag() {
            // The commit of a model.
            Some(tag) if tag.len() == COMMIT && tag.bytes().all(|b| b.is_ascii_hexdigit()) => {
                tag[..SHORT_COMMIT].to_owned()
            }
            // That of a signature is made of the digest of its image. Tags are ASCII.
            Some(tag) if tag.len() > COMMIT => format!("{}…", &tag[..SHORT_TAG]),
            Some(tag) => tag.to_owned(),
            None => String::new(),
        }
    }

    /// What items of the same thing in different versions have in common.
    fn repository_key(&self) -> String {
        format!("{} {}", self.kind.as_str(), self.name.name())
    }
}

fn describe_item(name: &Reference, content: &ListedContent) -> DiffItem {
    let ListedContent { kind, digest, bytes, reason } = content.clone();
    DiffItem { kind, name: name.clone(), digest, bytes, reason }
}

fn keep_others(items: &mut Vec<DiffItem>, left_out: &BTreeSet<usize>) {
    let mut at = 0..;
    items.retain(|_| at.next().is_none_or(|at| !left_out.contains(&at)));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn make_blob(content: u8, size: u64) -> Blob {
        Blob { digest: Digest::Sha256([content; 32]), size }
    }

    /// A list of images, each with a manifest (its digest, 1 byte) and one layer.
    fn make_listing(images: &[(&str, u8, Blob)]) -> ContentListing {
        let mut listing = ContentListing::default();
        for (name, digest, layer) in images {
            let manifest = make_blob(*digest, 1);
            let blobs = [manifest, *layer];
            listing.add_item(RootKind::Image, name.parse().unwrap(), manifest.digest, blobs);
        }
        listing
    }

    #[test]
    fn a_new_tag_is_a_change_and_shared_layers_are_not_carried_again() {
        let (base, small) = (make_blob(90, 1000), make_blob(91, 10));
        let before = make_listing(&[
            ("docker.io/library/nginx:1.25", 1, base),
            ("docker.io/library/redis:7", 2, small),
            ("quay.io/a/same:1", 3, base),
        ]);
        let after = make_listing(&[
            ("docker.io/library/nginx:1.26", 4, base),
            ("docker.io/library/busybox:1", 5, make_blob(92, 50)),
            ("quay.io/a/same:1", 3, base),
        ]);
        let diff = before.diff(&after);
        let names = |items: &[DiffItem]| -> Vec<String> {
            items.iter().map(|item| item.name.to_string()).collect()
        };
        assert_eq!(names(&diff.added), ["docker.io/library/busybox:1"]);
        assert_eq!(names(&diff.removed), ["docker.io/library/redis:7"]);
        assert_eq!(diff.changed.len(), 1);
        assert_eq!(diff.changed[0].before.name.to_string(), "docker.io/library/nginx:1.25");
        assert_eq!(diff.changed[0].after.bytes, Some(1001));
        assert_eq!(diff.changed[0].version_change(), "1.25 → 1.26");
        assert_eq!(diff.changed[0].digest_change(), "010101010101 → 040404040404");
        assert_eq!(diff.same, 1);
        // Two new manifests and the layer of busybox; the manifests and the layer that nobody needs now.
        assert_eq!((diff.added_bytes, diff.removed_bytes), (52, 12));
        assert_eq!(diff.shared_bytes, 1001);
        assert!(before.diff(&before).is_empty() && !diff.is_empty());
    }

    #[test]
    fn the_same_name_with_another_digest_is_a_change() {
        let layer = make_blob(90, 5);
        let before = make_listing(&[("ghcr.io/a/b:1", 1, layer)]);
        let after = make_listing(&[("ghcr.io/a/b:1", 2, layer)]);
        let diff = before.diff(&after);
        assert_eq!((diff.changed.len(), diff.changed[0].version_change()), (1, "1".to_owned()));
    }

    #[test]
    fn of_several_tags_of_one_repository_nobody_can_say_which_replaces_which() {
        let layer = make_blob(90, 5);
        let before = make_listing(&[("ghcr.io/a/b:1", 1, layer), ("ghcr.io/a/b:2", 2, layer)]);
        let after = make_listing(&[("ghcr.io/a/b:3", 3, layer)]);
        let diff = before.diff(&after);
        assert_eq!((diff.added.len(), diff.removed.len(), diff.changed.len()), (1, 2, 0));
    }

    #[test]
    fn a_receipt_is_compared_by_digest_and_says_no_sizes_of_items() {
        let blob = make_blob(1, 1);
        let text = format!(
            r#"{{"version": 1, "target": "x", "roots": [{{"name": "ghcr.io/a/b:1", "kind": "image",
            "digest": "{}", "target": "x/a/b:1"}}], "blobs": []}}"#,
            blob.digest
        );
        let receipt = ContentListing::from_receipt(&Receipt::parse("receipt.json", &text).unwrap());
        let listing = make_listing(&[("ghcr.io/a/b:1", 1, make_blob(90, 5))]);
        assert!(receipt.diff(&listing).is_empty());
        assert_eq!(listing.diff(&receipt).removed_bytes, 6);
    }
}
