//! The manifests of an image: of an index and of the indexes that it lists (image-spec 1.1,
//! image-index.md allows that; ko and some other builders write them). The rules for platforms hold at
//! each level.

use std::collections::HashSet;

use futures::future::try_join_all;
use store::Store;
use types::descriptor::PlatformObject;
use types::{Descriptor, Digest, Platform, Reference, lock, media_type};

use super::registry::{FetchedManifest, RegistryClient};
use crate::lock_manifest::to_lock_manifest;
use crate::{Error, Result};

/// How deep indexes in indexes are followed, as far as [`store::find_closure`] follows them.
const MAX_DEPTH: usize = 8;
/// Limit for the indexes of one image.
const MAX_INDEXES: usize = 256;

/// BuildKit stores attestations in the index itself; this annotation names the manifest that one
/// describes (BuildKit, docs/attestations/attestation-storage.md).
const ATTESTATION_OF: &str = "vnd.docker.reference.digest";

/// How many of the wanted platforms an image must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformRequirement {
    /// All of them: the input names platforms for this very image.
    All,
    /// At least one: the platforms are those of the whole input, and not every image has all.
    Any,
}

/// Which platforms of an image are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedPlatforms<'a> {
    pub(super) reference: &'a Reference,
    pub(super) platforms: &'a [Platform],
    pub(super) requirement: PlatformRequirement,
}

/// What is carried of an index.
pub(super) struct ChosenManifests {
    /// The manifests of the wanted platforms, and the attestations for them.
    pub(super) manifests: Vec<lock::LockedManifest>,
    /// The indexes below the image's own, as far as they lead to those manifests; outer ones first.
    pub(super) indexes: Vec<lock::LockedManifest>,
}

/// One index of the tree, and the places of the indexes that it lists.
struct IndexNode {
    fetched: FetchedManifest,
    /// The platform that the outer index gives to all of it.
    platform: Option<Platform>,
    inner: Vec<usize>,
    /// The platforms of the indexes that it lists and that are not wanted.
    skipped: Vec<Platform>,
}

/// A manifest that an index of the tree lists.
struct ListedManifest<'a> {
    descriptor: &'a Descriptor,
    platform: Option<Platform>,
}

/// Looks up the manifests of an index for the wanted platforms, and the attestations for them.
pub(super) async fn choose_manifests(
    registry: &RegistryClient,
    store: &Store,
    wanted: WantedPlatforms<'_>,
    root: FetchedManifest,
) -> Result<ChosenManifests> {
    let tree = fetch_index_tree(registry, store, wanted, root).await?;
    let listed: Vec<Vec<ListedManifest<'_>>> = tree.iter().map(list_manifests).collect();
    let is_wanted = |platform: &Platform| wanted.accepts(platform);
    // Indexes of other platforms were not looked up, and still say what there is.
    let skipped: Vec<Platform> = tree.iter().flat_map(|node| node.skipped.clone()).collect();
    let own = listed.iter().flatten().filter_map(|listed| listed.platform.as_ref());
    let available: Vec<&Platform> = own.chain(&skipped).collect();
    // All of it was asked for, or it is an index of artifacts without platforms.
    let takes_all = wanted.platforms.iter().any(Platform::is_all)
        || available.is_empty()
            && listed.iter().flatten().all(|listed| listed.descriptor.platform.is_none());
    if !takes_all {
        wanted.check_available(&available)?;
    }
    let mut chosen: Vec<Vec<&ListedManifest<'_>>> = Vec::new();
    for level in &listed {
        let is_chosen =
            |listed: &&ListedManifest<'_>| listed.platform.as_ref().is_some_and(is_wanted);
        let mut own: Vec<_> =
            level.iter().filter(|listed| takes_all || is_chosen(listed)).collect();
        // Attestations have the platform `unknown/unknown`, so they are found by what they describe.
        let digests: HashSet<String> =
            own.iter().map(|listed| listed.descriptor.digest.to_string()).collect();
        own.extend(level.iter().filter(|listed| {
            let described = listed.descriptor.annotations.get(ATTESTATION_OF);
            described.is_some_and(|of| digests.contains(of))
        }));
        chosen.push(own);
    }
    // From the leaves up: an index is kept for what it lists or for an index that it lists.
    let mut is_kept = vec![false; tree.len()];
    for at in (0..tree.len()).rev() {
        is_kept[at] = !chosen[at].is_empty() || tree[at].inner.iter().any(|inner| is_kept[*inner]);
    }
    // Some indexes list a manifest twice, for a platform and for its variant.
    let mut seen = HashSet::new();
    let mut manifests: Vec<_> = chosen.into_iter().flatten().collect();
    manifests.retain(|listed| seen.insert(listed.descriptor.digest));
    let manifests = try_join_all(manifests.into_iter().map(|listed| async {
        let name = wanted.reference.with_digest(listed.descriptor.digest);
        let fetched = registry.look_up_manifest(store, &name).await?;
        if fetched.manifest.is_index() {
            return Err(Error::Damaged {
                what: wanted.reference.to_string(),
                reason: format!(
                    "{} is an index, but the index that lists it calls it {}",
                    listed.descriptor.digest, listed.descriptor.media_type
                )
                .into(),
            });
        }
        Ok(to_lock_manifest(&fetched.descriptor, &fetched.manifest, listed.platform.clone()))
    }))
    .await?;
    let inner = tree.iter().enumerate().skip(1).filter(|(at, _)| is_kept[*at]);
    let indexes = inner
        .map(|(_, node)| to_lock_manifest(&node.fetched.descriptor, &node.fetched.manifest, None))
        .collect();
    Ok(ChosenManifests { manifests, indexes })
}

/// Looks up all indexes below an index that may have manifests of the wanted platforms; outer ones
/// come before those that they list.
async fn fetch_index_tree(
    registry: &RegistryClient,
    store: &Store,
    wanted: WantedPlatforms<'_>,
    root: FetchedManifest,
) -> Result<Vec<IndexNode>> {
    let refuse = |reason: String| Error::Damaged {
        what: wanted.reference.to_string(),
        reason: reason.into(),
    };
    let mut seen = HashSet::from([root.descriptor.digest]);
    let mut tree =
        vec![IndexNode { fetched: root, platform: None, inner: Vec::new(), skipped: Vec::new() }];
    let mut round = vec![0];
    for depth in 0.. {
        let mut next = Vec::new();
        for parent in std::mem::take(&mut round) {
            let IndexNode { fetched, platform: inherited, .. } = &tree[parent];
            let children: Vec<(Digest, Option<Platform>)> = fetched
                .manifest
                .manifests
                .iter()
                .filter(|child| media_type::is_index(&child.media_type))
                .map(|child| (child.digest, platform_of(child).or_else(|| inherited.clone())))
                .collect();
            for (digest, platform) in children {
                if let Some(platform) = &platform
                    && !wanted.accepts(platform)
                {
                    tree[parent].skipped.push(platform.clone());
                    continue;
                }
                // An index that is listed twice is looked up once.
                if !seen.insert(digest) {
                    continue;
                }
                if tree.len() >= MAX_INDEXES {
                    return Err(refuse(format!("it has more than {MAX_INDEXES} indexes")));
                }
                let name = wanted.reference.with_digest(digest);
                let fetched = registry.look_up_manifest(store, &name).await?;
                let at = tree.len();
                tree.push(IndexNode { fetched, platform, inner: Vec::new(), skipped: Vec::new() });
                tree[parent].inner.push(at);
                next.push(at);
            }
        }
        if next.is_empty() {
            break;
        }
        if depth >= MAX_DEPTH {
            return Err(refuse(format!("its indexes are nested more than {MAX_DEPTH} deep")));
        }
        round = next;
    }
    Ok(tree)
}

/// The manifests that one index lists, with their platforms; without the indexes.
fn list_manifests(node: &IndexNode) -> Vec<ListedManifest<'_>> {
    let children = node.fetched.manifest.manifests.iter();
    children
        .filter(|child| !media_type::is_index(&child.media_type))
        .map(|descriptor| {
            // An attestation says `unknown/unknown`: it has no platform, not the index's.
            let inherited = match &descriptor.platform {
                None => node.platform.clone(),
                Some(_) => None,
            };
            ListedManifest { descriptor, platform: platform_of(descriptor).or(inherited) }
        })
        .collect()
}

fn platform_of(descriptor: &Descriptor) -> Option<Platform> {
    descriptor.platform.as_ref().and_then(PlatformObject::to_platform)
}

impl WantedPlatforms<'_> {
    fn accepts(&self, platform: &Platform) -> bool {
        self.platforms.iter().any(|wanted| wanted.is_all() || platform.satisfies(wanted))
    }

    /// Checks that an image has as many of the wanted platforms as required.
    pub(super) fn check_available(&self, available: &[&Platform]) -> Result<()> {
        let missing: Vec<&Platform> = self
            .platforms
            .iter()
            .filter(|wanted| !available.iter().any(|have| have.satisfies(wanted)))
            .collect();
        let is_enough = match self.requirement {
            PlatformRequirement::All => missing.is_empty(),
            PlatformRequirement::Any => missing.len() < self.platforms.len(),
        };
        if is_enough {
            return Ok(());
        }
        let join = |list: &[&Platform]| {
            let mut names: Vec<String> = list.iter().map(ToString::to_string).collect();
            names.dedup();
            names.join(", ")
        };
        Err(Error::NoPlatform {
            reference: self.reference.to_string(),
            wanted: join(&missing),
            available: join(available),
        })
    }
}
