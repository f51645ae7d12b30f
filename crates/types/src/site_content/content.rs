//! Builds the list of what a site holds, and looks things up in it.

use std::collections::{BTreeMap, BTreeSet};

use super::root::{DigestRole, PinState, SiteRoot};
use crate::lock::Lock;
use crate::naming::{self, NamingRule, RegistryPrefix};
use crate::receipt::Receipt;
use crate::site::RegistryTarget;
use crate::{Digest, Reference, Result, RootKind};

/// Everything that is locked for a site, under the names and digests that the site has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteContent {
    prefix: RegistryPrefix,
    naming: NamingRule,
    /// Sorted by name at the source, then digest.
    roots: Vec<SiteRoot>,
    /// The indexes in `roots` by `registry/repository` of the source.
    by_source: BTreeMap<String, Vec<usize>>,
    /// The same by `registry/repository` of the site.
    by_target: BTreeMap<String, Vec<usize>>,
    by_digest: BTreeMap<Digest, Vec<usize>>,
    without_images: BTreeSet<String>,
}

/// What is found in several locks, each once.
type RootsByName = BTreeMap<(Reference, Digest), SiteRoot>;

impl SiteContent {
    /// What a site holds once everything in the locks is loaded. The receipts say which indexes its
    /// registry has in rewritten form. The order of the locks does not matter; of two receipts that
    /// differ, the later is the newer.
    ///
    /// # Errors
    /// [`crate::Error::Collision`] when two roots would get the same name at the site, [`crate::Error::NotAHost`]
    /// when nodes would read a name at the site as one of Docker Hub, and a name that is not valid
    /// at the site.
    pub fn new(locks: &[Lock], receipts: &[Receipt], registry: &RegistryTarget) -> Result<Self> {
        let prefix = registry.parse_prefix()?;
        let mut found = RootsByName::new();
        for lock in locks {
            for root in lock.roots() {
                add_root(&mut found, &root.name, root.kind, root.descriptor.digest);
            }
            for image in &lock.images {
                add_root(&mut found, &image.reference, RootKind::Image, image.digest)
                    .add_manifests(image);
            }
        }
        // All roots, also charts and files, as `load` does: so two that would get the same name are
        // found.
        let names = found.keys().map(|(name, _)| name);
        let targets = prefix.site_references(registry.naming, names)?;
        let mut content = Self {
            prefix,
            naming: registry.naming,
            roots: Vec::with_capacity(found.len()),
            by_source: BTreeMap::new(),
            by_target: BTreeMap::new(),
            by_digest: BTreeMap::new(),
            without_images: BTreeSet::new(),
        };
        for lock in locks.iter().filter(|lock| lock.images.is_empty()) {
            content.without_images.insert(lock.name.clone());
        }
        for ((name, _), mut root) in found {
            let Some(target) = targets.get(&name) else { continue };
            naming::require_read_back(target)?;
            root.settle(target.clone(), receipts);
            content.push(root);
        }
        Ok(content)
    }

    fn push(&mut self, root: SiteRoot) {
        let index = self.roots.len();
        self.by_source.entry(root.source().name()).or_default().push(index);
        self.by_target.entry(root.target().name()).or_default().push(index);
        let digests = root.startable_digests().into_iter().chain(root.manifests());
        for digest in digests.collect::<BTreeSet<_>>() {
            self.by_digest.entry(digest).or_default().push(index);
        }
        self.roots.push(root);
    }

    /// The registry and the path under which the site keeps everything.
    pub fn prefix(&self) -> &RegistryPrefix {
        &self.prefix
    }

    /// The name that a reference gets at the site, locked or not. Tag and digest stay.
    pub fn site_reference(&self, source: &Reference) -> Result<Reference> {
        self.prefix.site_reference(self.naming, source)
    }

    /// Whether a reference is a name at the site, locked or not.
    pub fn is_site_name(&self, reference: &Reference) -> bool {
        self.prefix.contains(reference)
    }

    /// A lock that has no images, if there is one: what admits only locked images would refuse
    /// every pod with it.
    pub fn lock_without_images(&self) -> Option<&str> {
        self.without_images.first().map(String::as_str)
    }

    /// Everything, sorted by name at the source.
    pub fn roots(&self) -> &[SiteRoot] {
        &self.roots
    }

    /// The images, without models and what is attached to images.
    pub fn images(&self) -> impl Iterator<Item = &SiteRoot> {
        self.roots.iter().filter(|root| root.kind() == RootKind::Image)
    }

    /// What pods can start or mount, by the name of its repository at the source.
    pub fn startable_repositories(&self) -> BTreeMap<&str, Vec<&SiteRoot>> {
        let all = self.by_source.iter().map(|(name, indexes)| {
            (name.as_str(), self.startable_at(Some(indexes)).collect::<Vec<_>>())
        });
        all.filter(|(_, roots)| !roots.is_empty()).collect()
    }

    /// What pods can start or mount of the repository that a reference names, whatever its tag and
    /// digest. A name at the site is looked up among the names at the site, any other among those of
    /// the sources.
    pub fn versions(&self, reference: &Reference) -> Vec<&SiteRoot> {
        let all = if self.is_site_name(reference) { &self.by_target } else { &self.by_source };
        self.startable_at(all.get(&reference.name())).collect()
    }

    /// What a reference of a pod means, at the source or at the site. Empty: it is not locked.
    /// Several: the same content is locked with several tags, or several locks have the same tag
    /// with different content.
    pub fn find(&self, reference: &Reference) -> Vec<&SiteRoot> {
        self.versions(reference).into_iter().filter(|root| root.is_meant_by(reference)).collect()
    }

    /// What a reference that is not locked was probably meant to be: something locked of the
    /// repository whose name is most like its own. `None` if none is similar enough.
    pub fn find_nearest(&self, reference: &Reference) -> Option<&SiteRoot> {
        // In the measure of Jaro and Winkler: high enough that little more than typos and other
        // spellings pass.
        const ALIKE: f64 = 0.86;
        let name = reference.name();
        let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        let own = last(&name);
        let likeness = |known: &str| {
            // The same last part (`nginx` of another registry or mirror) counts more than any
            // similarity of letters.
            let same = if last(known) == own { 1.0 } else { 0.0 };
            same + strsim::jaro_winkler(known, &name)
        };
        let nearest = self
            .startable_repositories()
            .into_iter()
            .map(|(known, versions)| (likeness(known), versions))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, _)| *likeness > ALIKE);
        let (_, versions) = nearest?;
        let version = reference.digest_or_tag();
        let same = versions.iter().find(|root| root.source().digest_or_tag() == version);
        same.or(versions.first()).copied()
    }

    /// Whether a pod may name this: it is locked, at the source or at the site.
    pub fn is_locked(&self, reference: &Reference) -> bool {
        !self.find(reference).is_empty()
    }

    /// The one root that a reference means at the site now. Where several locks have the same tag
    /// with different content, the newest receipt decides; `None` where none does.
    pub fn find_current(&self, reference: &Reference) -> Option<&SiteRoot> {
        let found = self.find(reference);
        let newest = found
            .iter()
            .copied()
            .reduce(|best, next| if next.is_held_later_than(best) { next } else { best })?;
        let is_decided = found.iter().all(|other| {
            other.site_digest() == newest.site_digest() || newest.is_held_later_than(other)
        });
        is_decided.then_some(newest)
    }

    /// The digest by which the site has what a reference means. `None` if it is not locked, or if
    /// its tag means several contents and no receipt decides.
    pub fn digest_at_site(&self, reference: &Reference) -> Option<Digest> {
        let Some(digest) = reference.digest() else {
            return Some(self.find_current(reference)?.site_digest());
        };
        let found = self.find(reference);
        // The site may have another index than the source. The manifest of a platform is the same
        // on both sides.
        let own = found.iter().find(|root| root.digest() == *digest);
        own.map(|root| root.site_digest()).or_else(|| found.first().map(|_| *digest))
    }

    /// The images of which it is not known by which digest the site has them: their index is not
    /// carried whole, and no receipt tells.
    pub fn unconfirmed_roots(&self) -> impl Iterator<Item = &SiteRoot> {
        self.images().filter(|root| !root.is_site_digest_known())
    }

    /// Whether the site has the digest that a reference names, at the source or at the site. Held, if
    /// it names none or is not locked.
    pub fn pin_state(&self, reference: &Reference) -> PinState {
        let Some(digest) = reference.digest() else { return PinState::Held };
        let states: Vec<PinState> =
            self.find(reference).into_iter().map(|root| root.pin_state(digest)).collect();
        // The same content may be locked with several tags.
        let is_any = |state| states.contains(&state);
        match (states.is_empty() || is_any(PinState::Held), is_any(PinState::Unknown)) {
            (true, _) => PinState::Held,
            (false, true) => PinState::Unknown,
            (false, false) => PinState::Absent,
        }
    }

    /// Everything that has this digest, and what the digest is of it; what is attached included.
    pub fn find_digest(&self, digest: &Digest) -> Vec<(&SiteRoot, DigestRole)> {
        let indexes = self.by_digest.get(digest).into_iter().flatten();
        let roots = indexes.filter_map(|index| self.roots.get(*index));
        roots.filter_map(|root| Some((root, root.role_of(digest)?))).collect()
    }

    /// Whether an answer depends on what receipts say of a name: its index was rewritten, or
    /// several locks have it with different content.
    pub fn depends_on_receipts(&self, source: &Reference) -> bool {
        let indexes = self.by_source.get(&source.name()).into_iter().flatten();
        let roots: Vec<_> = indexes.filter_map(|index| self.roots.get(*index)).collect();
        roots.iter().any(|root| root.has_rewritten())
            || roots.iter().filter(|root| root.source() == source).count() > 1
    }

    fn startable_at<'a>(
        &'a self,
        indexes: Option<&'a Vec<usize>>,
    ) -> impl Iterator<Item = &'a SiteRoot> {
        let roots = indexes.into_iter().flatten().filter_map(|index| self.roots.get(*index));
        roots.filter(|root| root.is_startable())
    }
}

fn add_root<'a>(
    found: &'a mut RootsByName,
    name: &Reference,
    kind: RootKind,
    digest: Digest,
) -> &'a mut SiteRoot {
    let new = || SiteRoot::new(name.clone(), kind, digest);
    let root = found.entry((name.clone(), digest)).or_insert_with(new);
    root.add_kind(kind);
    root
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::receipt::ReceiptRoot;

    fn digest(n: u8) -> Digest {
        Digest::Sha256([n; 32])
    }

    /// A lock with one image: an index `n` with the manifest `n + 1`.
    fn lock_with(reference: &str, n: u8) -> Lock {
        let text = format!(
            "version: 1\nname: lock-{n}\nplatforms: [linux/amd64]\nimages:\n- reference: {reference}\n  \
             digest: {}\n  mediaType: index\n  size: 1\n  platforms: [linux/amd64]\n  manifests:\n  \
             - {{digest: '{}', size: 1, mediaType: m, platform: linux/amd64}}\n  seen: [{{by: gantry.yaml}}]\n",
            digest(n),
            digest(n + 1)
        );
        Lock::parse("gantry.lock", &text).unwrap()
    }

    fn registry(url: &str) -> RegistryTarget {
        RegistryTarget {
            url: url.to_owned(),
            naming: NamingRule::Path,
            ca: None,
            plain_http: false,
            insecure_skip_tls_verify: false,
            client_certificate: None,
            pull_secret: None,
        }
    }

    /// A receipt of `ghcr.io/org/app:1` with the digest `n`, in a registry.
    fn receipt(host: &str, n: u8, rewritten: Option<u8>) -> Receipt {
        let root = ReceiptRoot {
            name: "ghcr.io/org/app:1".parse().unwrap(),
            kind: RootKind::Image,
            digest: digest(n),
            target: format!("{host}/org/app:1"),
            rewritten: rewritten.map(digest),
        };
        Receipt::new(host.to_owned(), vec![root], vec![])
    }

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn a_site_whose_names_are_read_as_docker_hubs_is_refused() {
        for (url, read) in [
            ("registry/ai", "docker.io/registry/ai/org/app"),
            ("index.docker.io/ai", "docker.io/ai/org/app"),
        ] {
            let error = SiteContent::new(&[lock_with("ghcr.io/org/app:1", 1)], &[], &registry(url))
                .unwrap_err()
                .to_string();
            assert!(error.contains(read), "{error}");
        }
        SiteContent::new(&[lock_with("ghcr.io/org/app:1", 1)], &[], &registry("localhost"))
            .unwrap();
    }

    #[test]
    fn the_receipt_of_the_sites_registry_counts_before_others_and_the_last_before_earlier_ones() {
        let locks = [lock_with("ghcr.io/org/app:1", 1)];
        let site = registry("site:5000");
        let held = |receipts: &[Receipt]| {
            let content = SiteContent::new(&locks, receipts, &site).unwrap();
            let root = &content.roots()[0];
            let known = [6, 7].map(|n| root.role_of(&digest(n)).is_some());
            (root.site_digest(), known)
        };
        let (here, elsewhere) = ("site:5000", "127.0.0.1:5000");
        // Loaded through a tunnel: the only receipt names the registry by another address.
        assert_eq!(held(&[receipt(elsewhere, 1, Some(6))]), (digest(6), [true, false]));
        assert_eq!(
            held(&[receipt(here, 1, Some(6)), receipt(elsewhere, 1, Some(7))]),
            (digest(6), [true, false])
        );
        assert_eq!(
            held(&[receipt(here, 1, Some(6)), receipt(here, 1, Some(7))]),
            (digest(7), [true, true])
        );
        // The registry takes sparse indexes by now.
        assert_eq!(
            held(&[receipt(here, 1, Some(6)), receipt(here, 1, None)]),
            (digest(1), [true, false])
        );
        // A receipt of other content says nothing.
        assert_eq!(held(&[receipt(here, 9, Some(6))]), (digest(1), [false, false]));
    }

    #[test]
    fn a_pin_is_held_where_a_receipt_or_the_whole_content_says_so() {
        use PinState::{Absent, Held, Unknown};
        let locks = [lock_with("ghcr.io/org/app:1", 1)];
        let site = registry("site:5000");
        let states = |receipts: &[Receipt]| {
            let content = SiteContent::new(&locks, receipts, &site).unwrap();
            // The index at the source, the manifest of its platform, and a rewritten index.
            let state =
                |n| content.pin_state(&reference(&format!("site:5000/org/app@{}", digest(n))));
            ([1, 2, 6].map(state), content.unconfirmed_roots().count())
        };
        // What is not locked is nothing that could be held.
        assert_eq!(states(&[]), ([Unknown, Held, Held], 1));
        assert_eq!(states(&[receipt("site:5000", 1, None)]), ([Held, Held, Held], 0));
        assert_eq!(states(&[receipt("site:5000", 1, Some(6))]), ([Absent, Held, Held], 0));
        // A store that took everything says nothing of the registry.
        assert_eq!(states(&[receipt("other:1", 1, None)]), ([Unknown, Held, Held], 1));

        let single = lock_with("ghcr.io/org/app:1", 1);
        let text =
            single.to_yaml().unwrap().replace(&digest(2).to_string(), &digest(1).to_string());
        let single = Lock::parse("gantry.lock", &text).unwrap();
        let content = SiteContent::new(&[single], &[], &site).unwrap();
        let pinned = reference(&format!("ghcr.io/org/app:1@{}", digest(1)));
        assert_eq!(content.pin_state(&pinned), Held, "an image without an index");
    }

    #[test]
    fn a_tag_with_two_contents_is_decided_by_the_newest_receipt_alone() {
        let locks = [lock_with("ghcr.io/org/app:1", 1), lock_with("ghcr.io/org/app:1", 11)];
        let site = registry("site:5000");
        let current = |receipts: &[Receipt]| {
            let content = SiteContent::new(&locks, receipts, &site).unwrap();
            assert_eq!(content.find(&reference("site:5000/org/app:1")).len(), 2);
            content.find_current(&reference("ghcr.io/org/app:1")).map(SiteRoot::digest)
        };
        let (one, two) = (receipt("site:5000", 1, None), receipt("site:5000", 11, None));
        assert_eq!(current(&[]), None);
        assert_eq!(current(std::slice::from_ref(&one)), Some(digest(1)));
        assert_eq!(current(&[one.clone(), two.clone()]), Some(digest(11)));
        assert_eq!(current(&[two, one]), Some(digest(1)));
    }

    #[test]
    fn a_pin_that_is_not_of_the_locked_content_is_not_locked() {
        let pinned = format!("ghcr.io/org/app:1@{}", digest(8));
        let content =
            SiteContent::new(&[lock_with(&pinned, 1)], &[], &registry("site:5000")).unwrap();
        assert!(!content.is_locked(&reference(&pinned)));
        assert!(content.is_locked(&reference("ghcr.io/org/app:1")));
    }

    #[test]
    fn a_source_in_the_sites_own_registry_is_a_name_at_the_site_alone() {
        let locks = [lock_with("site:5000/ai/app:1", 1)];
        let content = SiteContent::new(&locks, &[], &registry("site:5000/ai")).unwrap();
        assert!(!content.is_locked(&reference("site:5000/ai/app:1")));
        assert!(content.is_locked(&reference("site:5000/ai/ai/app:1")));
    }
}
