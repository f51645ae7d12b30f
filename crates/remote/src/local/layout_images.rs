//! The images that a layout's `index.json` lists, found by name without looking at each: thousands of
//! images may come from one layout, and each is asked for by itself.

use std::collections::HashMap;

use types::{Descriptor, Digest, Index, Reference, Root};

/// The manifests and indexes that an `index.json` lists.
#[derive(Debug)]
pub(super) struct LayoutImages {
    entries: Vec<Descriptor>,
    /// Places in `entries`, the first of each name and tag.
    by_name: HashMap<(String, Option<String>), usize>,
    by_digest: HashMap<Digest, usize>,
}

impl LayoutImages {
    pub(super) fn new(index: Index) -> Self {
        // `index.json` may list other things than manifests and indexes.
        let entries: Vec<Descriptor> =
            index.manifests.into_iter().filter(Descriptor::is_manifest).collect();
        let (mut by_name, mut by_digest) = (HashMap::new(), HashMap::new());
        for (place, entry) in entries.iter().enumerate() {
            by_digest.entry(entry.digest).or_insert(place);
            if let Some(root) = Root::from_descriptor(entry) {
                by_name.entry(name_key(&root.name)).or_insert(place);
            }
        }
        Self { entries, by_name, by_digest }
    }

    /// All of them.
    pub(super) fn entries(&self) -> &[Descriptor] {
        &self.entries
    }

    /// The entry of a digest, or else of exactly this name and tag.
    pub(super) fn find_exact(&self, wanted: &Reference) -> Option<&Descriptor> {
        let place = match wanted.digest() {
            Some(digest) => self.by_digest.get(digest),
            None => self.by_name.get(&name_key(wanted)),
        };
        place.and_then(|place| self.entries.get(*place))
    }
}

fn name_key(name: &Reference) -> (String, Option<String>) {
    (name.name(), name.tag().map(str::to_owned))
}
