//! The catalogue of a depot: repositories with their tags, every manifest that can be pulled, and
//! the referrers of each. It is filled once by [`crate::catalogue_reader`] and only looked up
//! afterwards: no name from a request ever becomes a path on the disk.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use serde::Serialize;
use types::snapshot::find_annotation;
use types::{Descriptor, Digest, Manifest, Root, annotation};

/// All repositories and manifests of a depot.
#[derive(Default)]
pub(crate) struct Catalogue {
    /// By full name without tag: `docker.io/library/nginx`.
    repositories: BTreeMap<String, CatalogueRepository>,
    /// By path without host (`library/nginx`): the full names that have this path.
    by_path: HashMap<String, BTreeSet<String>>,
    pub(crate) manifests: HashMap<Digest, CachedManifest>,
    pub(crate) referrers: HashMap<Digest, Vec<Descriptor>>,
    roots: BTreeMap<&'static str, usize>,
    pub(crate) left_out: Vec<UnservedRoot>,
}

/// One repository: everything that can be pulled by its name.
#[derive(Default)]
pub(crate) struct CatalogueRepository {
    pub(crate) tags: BTreeMap<String, Digest>,
    pub(crate) manifests: HashSet<Digest>,
    /// The blobs, with the sizes that manifests give them.
    pub(crate) blobs: HashMap<Digest, u64>,
    /// Manifests that belong here and cannot be served, with the reasons.
    pub(crate) damaged: HashMap<Digest, String>,
}

/// What a repository has under a tag or digest.
pub(crate) enum ManifestEntry<'a> {
    /// A manifest that can be pulled.
    Served(Digest, &'a CachedManifest),
    /// One that is damaged; with the reason.
    Damaged(&'a str),
    /// None.
    Absent,
}

/// A manifest or image index, with its bytes if they fit into the cache.
pub(crate) struct CachedManifest {
    pub(crate) media_type: String,
    pub(crate) size: u64,
    /// The bytes; `None` when the cache was full, then they are read for each request.
    pub(crate) bytes: Option<Bytes>,
}

/// What can be pulled from a depot, in numbers.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DepotSummary {
    /// The number of roots of each kind.
    #[serde(rename = "rootCounts")]
    pub roots: BTreeMap<&'static str, usize>,
    /// The number of repositories at the OCI endpoint.
    #[serde(rename = "repositoryCount")]
    pub repositories: usize,
    /// The number of models at the Hugging Face endpoint.
    #[serde(rename = "modelCount")]
    pub models: usize,
    /// What the source names but the depot cannot serve.
    #[serde(rename = "notServed")]
    pub left_out: Vec<UnservedRoot>,
}

/// A root, or a manifest below it, that is absent or damaged. The depot serves the rest.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnservedRoot {
    /// The root's full name.
    pub name: String,
    /// Which of its manifests is absent or damaged, and how.
    pub reason: String,
}

/// Why no repository was found for a name.
pub(crate) enum RepositoryLookupError {
    /// The depot has no such repository.
    Absent,
    /// Several repositories have this path; these are their full names.
    Ambiguous(Vec<String>),
}

impl Catalogue {
    /// The blobs of all repositories, with the sizes that manifests give them; some more than once.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = (Digest, u64)> {
        self.repositories
            .values()
            .flat_map(|repository| repository.blobs.iter().map(|(digest, size)| (*digest, *size)))
    }

    /// The repository for a name in a request: a full name (`docker.io/library/nginx`), a path with
    /// the host in the query parameter `ns` (which containerd sends to mirrors), or a path alone
    /// (`library/nginx`) if only one host has it.
    pub(crate) fn find_repository(
        &self,
        name: &str,
        ns: Option<&str>,
    ) -> Result<&CatalogueRepository, RepositoryLookupError> {
        if let Some(host) = ns {
            // A proxy in between may put the host into the path as well (`ns=quay.io` and
            // `/v2/quay.io/org/app/…`). A path of another host is never an answer: that would serve
            // a different image under the requested name.
            let prefix = format!("{host}/");
            let below = self.repository_by_full_name(&format!("{prefix}{name}"));
            let rewritten =
                || name.starts_with(&prefix).then(|| self.repository_by_full_name(name)).flatten();
            return below.or_else(rewritten).ok_or(RepositoryLookupError::Absent);
        }
        if let Some(repository) = self.repository_by_full_name(name) {
            return Ok(repository);
        }
        let Some(candidates) = self.by_path.get(name) else {
            return Err(RepositoryLookupError::Absent);
        };
        let mut names = candidates.iter();
        match (names.next(), names.next()) {
            (Some(only), None) => self.repositories.get(only).ok_or(RepositoryLookupError::Absent),
            _ => Err(RepositoryLookupError::Ambiguous(candidates.iter().cloned().collect())),
        }
    }

    pub(crate) fn repositories(&self) -> &BTreeMap<String, CatalogueRepository> {
        &self.repositories
    }

    /// A manifest of a repository by tag or digest.
    pub(crate) fn find_manifest<'a>(
        &'a self,
        repository: &'a CatalogueRepository,
        version: &str,
    ) -> ManifestEntry<'a> {
        let digest = match version.parse::<Digest>() {
            Ok(digest) => Some(digest),
            Err(_) => repository.tags.get(version).copied(),
        };
        let Some(digest) = digest else { return ManifestEntry::Absent };
        if let Some(reason) = repository.damaged.get(&digest) {
            return ManifestEntry::Damaged(reason);
        }
        match self.manifests.get(&digest) {
            Some(document) if repository.manifests.contains(&digest) => {
                ManifestEntry::Served(digest, document)
            }
            _ => ManifestEntry::Absent,
        }
    }

    /// The size of a blob that can be pulled from a repository: of a config or a layer as manifests give
    /// it, or, as in other registries, of a manifest.
    pub(crate) fn find_blob_size(
        &self,
        repository: &CatalogueRepository,
        digest: &Digest,
    ) -> Option<u64> {
        let as_manifest = || {
            let document = self.manifests.get(digest)?;
            repository.manifests.contains(digest).then_some(document.size)
        };
        repository.blobs.get(digest).copied().or_else(as_manifest)
    }

    /// The manifests of a repository whose `subject` is this digest.
    pub(crate) fn list_referrers<'a>(
        &'a self,
        repository: &'a CatalogueRepository,
        subject: &Digest,
    ) -> impl Iterator<Item = &'a Descriptor> {
        let all = self.referrers.get(subject).map_or(&[][..], Vec::as_slice);
        all.iter().filter(|descriptor| repository.manifests.contains(&descriptor.digest))
    }

    pub(crate) fn summarize(&self, models: usize) -> DepotSummary {
        DepotSummary {
            roots: self.roots.clone(),
            repositories: self.repositories.len(),
            models,
            left_out: self.left_out.clone(),
        }
    }

    /// Adds a root with all manifests and blobs that were found below it.
    pub(crate) fn add_root(
        &mut self,
        root: &Root,
        manifest: &Manifest,
        found: CatalogueRepository,
    ) {
        *self.roots.entry(root.kind.as_str()).or_default() += 1;
        let repository = self.add_repository(root, found);
        // A model can be pulled by its branch as well as by its commit.
        let revision = find_annotation(root, manifest, annotation::MODEL_REVISION);
        if let Some(revision) = revision
            && root.name.with_tag(revision).is_ok()
        {
            // A root that really has this tag wins.
            repository.tags.entry(revision.to_owned()).or_insert(root.descriptor.digest);
        }
    }

    /// Adds a root whose manifest is damaged, so that clients are told so, and not that it is unknown.
    pub(crate) fn add_damaged_root(&mut self, root: &Root, reason: &str) {
        let mut found = CatalogueRepository::default();
        found.damaged.insert(root.descriptor.digest, reason.to_owned());
        self.add_repository(root, found);
    }

    fn add_repository(
        &mut self,
        root: &Root,
        found: CatalogueRepository,
    ) -> &mut CatalogueRepository {
        let name = root.name.name();
        let path = root.name.repository().to_owned();
        self.by_path.entry(path).or_default().insert(name.clone());
        let repository = self.repositories.entry(name).or_default();
        repository.manifests.extend(found.manifests);
        repository.blobs.extend(found.blobs);
        repository.damaged.extend(found.damaged);
        if let Some(tag) = root.name.tag() {
            repository.tags.insert(tag.to_owned(), root.descriptor.digest);
        }
        repository
    }

    fn repository_by_full_name(&self, name: &str) -> Option<&CatalogueRepository> {
        self.repositories.get(&*expand_short_name(name))
    }
}

/// Expands docker's short forms: `docker.io/nginx` is `docker.io/library/nginx`,
/// `index.docker.io` and `registry-1.docker.io` are `docker.io` (distribution/reference).
fn expand_short_name(name: &str) -> Cow<'_, str> {
    const HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    match name.split_once('/') {
        Some((host, path)) if HOSTS.contains(&host) && !path.contains('/') => {
            Cow::Owned(format!("docker.io/library/{path}"))
        }
        Some((host, path)) if HOSTS[1..].contains(&host) => Cow::Owned(format!("docker.io/{path}")),
        _ => Cow::Borrowed(name),
    }
}
