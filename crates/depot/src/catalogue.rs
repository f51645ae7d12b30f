//! What is there: repositories with their tags, every manifest that can be asked for, and who
//! speaks of whom. Read once, then only looked up: no name from a request ever becomes a path.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use serde::Serialize;
use store::{Source, document};
use types::{Descriptor, Digest, Kind, Manifest, Root};

use crate::Result;

/// Manifests are kept in memory up to this many bytes in all (some ten thousand images); those
/// beyond are read when they are asked for.
const MOST_CACHED: u64 = 64 << 20;
/// Indexes in indexes are followed this deep.
const MAX_DEPTH: usize = 8;

/// What is there.
#[derive(Default)]
pub(crate) struct Catalogue {
    /// By full name without tag: `docker.io/library/nginx`.
    repositories: BTreeMap<String, Repository>,
    /// The full names that share a path: `library/nginx`.
    by_path: HashMap<String, BTreeSet<String>>,
    manifests: HashMap<Digest, Document>,
    referrers: HashMap<Digest, Vec<Descriptor>>,
    roots: Vec<Root>,
}

/// One repository.
#[derive(Default)]
pub(crate) struct Repository {
    pub(crate) tags: BTreeMap<String, Digest>,
    /// Manifests that can be pulled by digest here.
    manifests: BTreeSet<Digest>,
}

/// A manifest.
#[derive(Clone)]
pub(crate) struct Document {
    pub(crate) media_type: String,
    pub(crate) size: u64,
    /// The bytes, unless the cache was full.
    pub(crate) bytes: Option<Bytes>,
}

/// What there is to pull, in numbers.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Roots by kind.
    pub roots: BTreeMap<&'static str, usize>,
    /// Repositories at the OCI door.
    pub repositories: usize,
    /// Models at the Hub door.
    pub models: usize,
}

/// Why a name is none.
pub(crate) enum Unknown {
    Absent,
    /// The full names that it could mean.
    Ambiguous(Vec<String>),
}

impl Catalogue {
    pub(crate) fn read(source: &dyn Source) -> Result<Self> {
        let mut catalogue = Self { roots: source.roots()?, ..Self::default() };
        let mut cached = 0;
        for root in catalogue.roots.clone() {
            let name = root.name.name();
            let mut found = BTreeSet::new();
            let label = root.name.to_string();
            catalogue.walk(source, &root.descriptor, &label, &mut found, &mut cached, 0)?;
            let path = root.name.repository().to_owned();
            catalogue.by_path.entry(path).or_default().insert(name.clone());
            let repository = catalogue.repositories.entry(name).or_default();
            repository.manifests.extend(found);
            if let Some(tag) = root.name.tag() {
                repository.tags.insert(tag.to_owned(), root.descriptor.digest);
            }
            // A model can be asked for by its branch as well as by its commit.
            let revision = root.descriptor.annotations.get(types::annotation::MODEL_REVISION);
            if let Some(revision) = revision.filter(|_| root.kind == Kind::Model)
                && root.name.with_tag(revision).is_ok()
            {
                repository.tags.entry(revision.clone()).or_insert(root.descriptor.digest);
            }
        }
        for list in catalogue.referrers.values_mut() {
            list.sort_by_key(|descriptor| descriptor.digest);
            list.dedup_by_key(|descriptor| descriptor.digest);
        }
        Ok(catalogue)
    }

    /// Notes a manifest and those below it that are there.
    fn walk(
        &mut self,
        source: &dyn Source,
        descriptor: &Descriptor,
        label: &str,
        found: &mut BTreeSet<Digest>,
        cached: &mut u64,
        depth: usize,
    ) -> Result<()> {
        if depth > MAX_DEPTH || source.size(&descriptor.digest)?.is_none() {
            return Ok(());
        }
        if !found.insert(descriptor.digest) {
            return Ok(());
        }
        let bytes = match self.manifests.get(&descriptor.digest) {
            Some(Document { bytes: Some(bytes), .. }) => bytes.clone(),
            _ => Bytes::from(document(source, &descriptor.digest, Manifest::MAX_SIZE)?),
        };
        let manifest = Manifest::parse(label, &bytes)?;
        if let Entry::Vacant(vacant) = self.manifests.entry(descriptor.digest) {
            let size = bytes.len() as u64;
            let is_kept = *cached + size <= MOST_CACHED;
            *cached += if is_kept { size } else { 0 };
            let media_type = if descriptor.is_manifest() {
                descriptor.media_type.clone()
            } else {
                manifest.effective_media_type().to_owned()
            };
            let kept = is_kept.then(|| bytes.clone());
            let document = Document { media_type: media_type.clone(), size, bytes: kept };
            vacant.insert(document);
            if let Some(subject) = &manifest.subject {
                let mut referrer = Descriptor::new(&media_type, descriptor.digest, size);
                // distribution-spec 1.1: the config's media type stands in for a missing type.
                referrer.artifact_type = manifest
                    .artifact_type
                    .clone()
                    .or_else(|| manifest.config.as_ref().map(|config| config.media_type.clone()));
                referrer.annotations.clone_from(&manifest.annotations);
                self.referrers.entry(subject.digest).or_default().push(referrer);
            }
        }
        for child in &manifest.manifests {
            self.walk(source, child, label, found, cached, depth + 1)?;
        }
        Ok(())
    }

    /// The repository that a name means: its full name (`docker.io/library/nginx`), its path with
    /// the host in `ns` (containerd's mirrors), or its path alone where only one has it.
    pub(crate) fn repository(&self, name: &str, ns: Option<&str>) -> Result<&Repository, Unknown> {
        if let Some(ns) = ns {
            return self.repositories.get(&format!("{ns}/{name}")).ok_or(Unknown::Absent);
        }
        if let Some(repository) = self.repositories.get(name) {
            return Ok(repository);
        }
        let path = match name.strip_prefix("docker.io/") {
            // docker's short form of `library/`.
            Some(short) if !short.contains('/') => format!("library/{short}"),
            _ => name.to_owned(),
        };
        let Some(candidates) = self.by_path.get(&path) else { return Err(Unknown::Absent) };
        let mut names = candidates.iter();
        match (names.next(), names.next()) {
            (Some(only), None) => self.repositories.get(only).ok_or(Unknown::Absent),
            _ => Err(Unknown::Ambiguous(candidates.iter().cloned().collect())),
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.repositories.keys()
    }

    /// A manifest of a repository by tag or digest.
    pub(crate) fn manifest(
        &self,
        repository: &Repository,
        version: &str,
    ) -> Option<(Digest, &Document)> {
        let digest = match version.parse::<Digest>() {
            Ok(digest) => digest,
            Err(_) => *repository.tags.get(version)?,
        };
        let document = self.manifests.get(&digest)?;
        repository.manifests.contains(&digest).then_some((digest, document))
    }

    pub(crate) fn referrers(&self, subject: &Digest) -> &[Descriptor] {
        self.referrers.get(subject).map_or(&[], Vec::as_slice)
    }

    /// The roots of Hugging Face snapshots.
    pub(crate) fn models(&self) -> impl Iterator<Item = &Root> {
        self.roots.iter().filter(|root| {
            root.kind == Kind::Model && self.manifests.contains_key(&root.descriptor.digest)
        })
    }

    pub(crate) fn summary(&self, models: usize) -> Summary {
        let mut roots = BTreeMap::new();
        for root in &self.roots {
            *roots.entry(root.kind.as_str()).or_default() += 1;
        }
        Summary { roots, repositories: self.repositories.len(), models }
    }
}
