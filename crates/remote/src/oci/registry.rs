//! A client of one OCI registry: manifests, tags, referrers, and the requests for blobs. The upload
//! of blobs is in `upload`, and the rules of a push in `push`.

use std::collections::HashSet;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use net::{
    AccessScope, Client, HttpRequest, HttpResponse, Mirrors, RepeatPolicy, UpstreamEndpoint,
};
use serde::Deserialize;
use store::{Source as _, Store};
use types::{Descriptor, Digest, DigestAlgorithm, Manifest, Reference, media_type};

use crate::paging::PageReader;
use crate::{Error, Result};

/// Limit for one page of a list of tags. Repositories with tens of thousands of tags stay below 1 MB.
const MOST_TAGS_BYTES: u64 = 8 << 20;
/// Limit for the tags of a repository; a build per commit and platform makes some tens of thousands.
const MAX_TAGS: usize = 1_000_000;
/// Limit for one page of a referrers index.
const MOST_REFERRERS_BYTES: u64 = 8 << 20;
/// Limit for the referrers of one manifest.
const MAX_REFERRERS: usize = 100_000;

/// A client of one registry, or of the mirror that is configured for it.
#[derive(Clone)]
pub struct RegistryClient {
    client: Client,
    endpoint: UpstreamEndpoint,
    host: String,
}

/// A manifest or index with its exact bytes, whose digest was checked.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    /// The bytes as they were received: their digest is the image's identity.
    pub bytes: Bytes,
    /// Digest, length, media type.
    pub descriptor: Descriptor,
    /// The bytes, parsed.
    pub manifest: Manifest,
}

impl RegistryClient {
    /// A client for the registry of a host, or for the mirror that the configuration names for it.
    pub fn new(client: &Client, mirrors: &Mirrors, host: &str) -> Self {
        Self {
            client: client.clone(),
            endpoint: mirrors.registry_endpoint(host),
            host: host.to_owned(),
        }
    }

    /// The registry's own host, also where a mirror is used.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Downloads the manifest or index of a reference. Its digest is checked against the one in the
    /// reference, or else against the registry's `Docker-Content-Digest` header.
    /// [`Error::NotFound`] names tags that are similar.
    pub async fn get_manifest(&self, reference: &Reference) -> Result<FetchedManifest> {
        match self.find_manifest(reference).await? {
            Some(fetched) => Ok(fetched),
            None => Err(self.not_found_error(reference).await),
        }
    }

    /// As [`Self::get_manifest`], but `None` when it does not exist.
    pub async fn find_manifest(&self, reference: &Reference) -> Result<Option<FetchedManifest>> {
        self.request_manifest(reference, RefusalMeaning::Failure).await
    }

    /// As [`Self::get_manifest`], but what the store has is not downloaded again: by digest nothing
    /// is requested then, by tag only its digest with a HEAD. (Registries limit how many manifests
    /// an address may GET, and count no HEAD: Docker Hub, "Pull usage and limits".) What is
    /// downloaded is written to the store.
    pub async fn look_up_manifest(
        &self,
        store: &Store,
        reference: &Reference,
    ) -> Result<FetchedManifest> {
        match self.find_stored_manifest(store, reference, RefusalMeaning::Failure).await? {
            Some(fetched) => Ok(fetched),
            None => Err(self.not_found_error(reference).await),
        }
    }

    /// As [`Self::look_up_manifest`], for one that need not exist, beside an image that was read
    /// from the same repository: there a refusal (400, 401, 403) means the same as a 404, since
    /// some registries answer so for a tag that they do not have.
    pub(super) async fn look_up_optional_manifest(
        &self,
        store: &Store,
        reference: &Reference,
    ) -> Result<Option<FetchedManifest>> {
        self.find_stored_manifest(store, reference, RefusalMeaning::Absence).await
    }

    async fn find_stored_manifest(
        &self,
        store: &Store,
        reference: &Reference,
        refusal: RefusalMeaning,
    ) -> Result<Option<FetchedManifest>> {
        let known = match reference.digest() {
            Some(digest) => Some((*digest, None)),
            None => match self.ask_for_digest(reference).await? {
                DigestAnswer::Digest(digest, media_type) => Some((digest, media_type)),
                DigestAnswer::Absent => return Ok(None),
                DigestAnswer::Refused if refusal == RefusalMeaning::Absence => return Ok(None),
                // A registry without HEAD, or a refusal that GET explains better.
                DigestAnswer::Refused | DigestAnswer::Unknown => None,
            },
        };
        if let Some((digest, media_type)) = known
            && store.blob_size(&digest)?.is_some_and(|size| size <= Manifest::MAX_SIZE)
        {
            let bytes = store::read_blob(store, &digest, Manifest::MAX_SIZE)?;
            // The store may be damaged: then the registry's bytes are used.
            if store::hash::has_digest(&bytes, &digest) {
                return parse_fetched(&reference.to_string(), bytes.into(), digest, media_type)
                    .map(Some);
            }
        }
        let fetched = self.request_manifest(reference, refusal).await?;
        if let Some(fetched) = &fetched {
            store.put_document(&fetched.descriptor.digest, &fetched.bytes)?;
        }
        Ok(fetched)
    }

    /// Downloads a manifest and checks its digest; `None` when it does not exist.
    async fn request_manifest(
        &self,
        reference: &Reference,
        refusal: RefusalMeaning,
    ) -> Result<Option<FetchedManifest>> {
        let what = reference.to_string();
        let request = self.manifest_request(reference)?;
        let response = match self.client.send(&request, RepeatPolicy::Safe).await {
            Err(error) if refusal.is_absence(error.status()) => return Ok(None),
            sent => sent.map_err(Error::from_net(&what))?,
        };
        // Some registries answer 401 or 403 for a repository that does not exist; that remains an
        // error for an image, since it cannot be told from a missing right.
        if response.status() == StatusCode::NOT_FOUND
            || refusal.is_absence(Some(response.status().as_u16()))
        {
            return Ok(None);
        }
        let response = response.require_success().await.map_err(Error::from_net(&what))?;
        let told = response.header("docker-content-digest").and_then(|text| text.parse().ok());
        let content_type = response_media_type(&response);
        let bytes =
            response.read_bytes(Manifest::MAX_SIZE).await.map_err(Error::from_net(&what))?;
        // The reference's own digest is what counts; the header only guards against a broken
        // transfer.
        let expected = reference.digest().copied().or(told);
        let algorithm = expected.map_or(DigestAlgorithm::Sha256, |digest| digest.algorithm());
        let actual = store::hash::compute_digest(algorithm, &bytes);
        if let Some(expected) = expected
            && expected != actual
        {
            return Err(Error::DigestMismatch {
                server: self.endpoint.base.clone(),
                what,
                expected: expected.to_string(),
                actual: actual.to_string(),
            });
        }
        parse_fetched(&what, bytes, actual, content_type).map(Some)
    }

    /// Asks with a HEAD which digest a reference has.
    async fn ask_for_digest(&self, reference: &Reference) -> Result<DigestAnswer> {
        let what = reference.to_string();
        let mut request = self.manifest_request(reference)?;
        request.set_method(Method::HEAD);
        let response = match self.client.send(&request, RepeatPolicy::Safe).await {
            Ok(response) => response,
            Err(error) if is_refusal(error.status()) => return Ok(DigestAnswer::Refused),
            Err(error) => return Err(Error::from_net(what)(error)),
        };
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(DigestAnswer::Absent);
        }
        if is_refusal(Some(status.as_u16())) {
            return Ok(DigestAnswer::Refused);
        }
        let digest = response.header("docker-content-digest").and_then(|text| text.parse().ok());
        Ok(match digest {
            Some(digest) if status.is_success() => {
                DigestAnswer::Digest(digest, response_media_type(&response))
            }
            _ => DigestAnswer::Unknown,
        })
    }

    /// The digest that a reference currently points to, from a HEAD request. `None` when it does
    /// not exist, or when the registry sends no `Docker-Content-Digest` header.
    pub async fn find_digest(&self, reference: &Reference) -> Result<Option<Digest>> {
        let what = reference.to_string();
        let mut request = self.manifest_request(reference)?;
        request.set_method(Method::HEAD);
        let response =
            self.client.send(&request, RepeatPolicy::Safe).await.map_err(Error::from_net(&what))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = response.require_success().await.map_err(Error::from_net(&what))?;
        Ok(response.header("docker-content-digest").and_then(|text| text.parse().ok()))
    }

    /// The GET request for a manifest.
    pub fn manifest_request(&self, reference: &Reference) -> Result<HttpRequest> {
        let path = format!("manifests/{}", reference.digest_or_tag());
        let request =
            self.build_request(Method::GET, reference.repository(), &path, RegistryScope::Pull)?;
        Ok(request.header(header::ACCEPT, HeaderValue::from_static(media_type::ACCEPT_MANIFESTS)))
    }

    /// The GET request for a blob of a repository.
    pub fn blob_request(&self, repository: &str, digest: &Digest) -> Result<HttpRequest> {
        self.build_request(Method::GET, repository, &format!("blobs/{digest}"), RegistryScope::Pull)
    }

    /// Lists the tags of a repository, all pages of them; empty when the repository does not exist.
    pub async fn list_tags(&self, repository: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct TagList {
            // Some registries send `null` for a repository without tags.
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let what = format!("the tags of {}/{repository}", self.host);
        let request =
            self.build_request(Method::GET, repository, "tags/list", RegistryScope::Pull)?;
        let mut pages = PageReader::new(&self.client, request, &what);
        let mut tags = Vec::new();
        while let Some(response) = pages.request_page().await? {
            if response.status() == StatusCode::NOT_FOUND && pages.is_first() {
                return Ok(tags);
            }
            let response = response.require_success().await.map_err(Error::from_net(&what))?;
            let bytes =
                response.read_bytes(MOST_TAGS_BYTES).await.map_err(Error::from_net(&what))?;
            let page: TagList =
                serde_json::from_slice(&bytes).map_err(|cause| types::Error::Document {
                    document: what.clone(),
                    line: cause.line() as u64,
                    column: cause.column() as u64,
                    message: cause.into(),
                })?;
            tags.extend(page.tags.unwrap_or_default());
            pages.check_length(tags.len(), MAX_TAGS)?;
        }
        Ok(tags)
    }

    /// Lists the referrers of a manifest (signatures, SBOMs, attestations): by the referrers API,
    /// or by the referrers tag in registries without it (distribution-spec 1.1, "Unavailable
    /// Referrers API").
    pub async fn list_referrers(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>> {
        if let Some(found) = self.list_referrers_by_api(repository, digest).await? {
            return Ok(found);
        }
        // A host or repository that makes no valid reference has no such tag either.
        let Ok(fallback) = referrers_tag(&self.host, repository, digest) else {
            return Ok(Vec::new());
        };
        let index = self.find_manifest(&fallback).await?;
        Ok(index.map(|fetched| fetched.manifest.manifests).unwrap_or_default())
    }

    /// As [`Self::list_referrers`], of a manifest that was read before from the same repository:
    /// what the store has is not downloaded again, and a refusal means that there are none. Also
    /// says whether it is the API that lists them.
    pub(super) async fn look_up_referrers(
        &self,
        store: &Store,
        repository: &str,
        digest: &Digest,
    ) -> Result<(Vec<Descriptor>, ReferrersOrigin)> {
        if let Some(found) = self.list_referrers_by_api(repository, digest).await? {
            return Ok((found, ReferrersOrigin::Api));
        }
        let Ok(fallback) = referrers_tag(&self.host, repository, digest) else {
            return Ok((Vec::new(), ReferrersOrigin::Tag));
        };
        let index = self.look_up_optional_manifest(store, &fallback).await?;
        let found = index.map(|fetched| fetched.manifest.manifests).unwrap_or_default();
        Ok((found, ReferrersOrigin::Tag))
    }

    /// Lists the referrers by the API; `None` in a registry that does not have it.
    async fn list_referrers_by_api(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<Vec<Descriptor>>> {
        let what = format!("the referrers of {}/{repository}@{digest}", self.host);
        let path = format!("referrers/{digest}");
        let request = self.build_request(Method::GET, repository, &path, RegistryScope::Pull)?;
        let mut pages = PageReader::new(&self.client, request, &what);
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        loop {
            let response = match pages.request_page().await {
                Ok(Some(response)) => response,
                Ok(None) => return Ok(Some(found)),
                Err(Error::Net { cause, .. }) if pages.is_first() && is_refusal(cause.status()) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            // Registries without the API answer 404, 400, 401, 403 or even 200 with a web page.
            let is_index = response_media_type(&response).as_deref() == Some(media_type::OCI_INDEX);
            if !response.status().is_success() || !is_index {
                if pages.is_first() {
                    return Ok(None);
                }
                // The first page was an index, so the API exists: the other pages must not be left
                // out silently.
                return Err(Error::Net { what, cause: response.into_error().await });
            }
            let bytes =
                response.read_bytes(MOST_REFERRERS_BYTES).await.map_err(Error::from_net(&what))?;
            let index = Manifest::parse(&what, &bytes)?;
            // Pages may overlap when a referrer is added between two requests.
            found.extend(index.manifests.into_iter().filter(|d| seen.insert(d.digest)));
            pages.check_length(found.len(), MAX_REFERRERS)?;
        }
    }

    /// Whether a blob is in a repository.
    pub(crate) async fn has_blob(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let what = format!("{}/{repository}@{digest}", self.host);
        let path = format!("blobs/{digest}");
        let request = self.build_request(Method::HEAD, repository, &path, RegistryScope::Push)?;
        let response =
            self.client.send(&request, RepeatPolicy::Safe).await.map_err(Error::from_net(&what))?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            _ => response.require_success().await.map(|_| true).map_err(Error::from_net(what)),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A request for a path below a repository, with the token scope that it needs.
    pub(crate) fn build_request(
        &self,
        method: Method,
        repository: &str,
        path: &str,
        scope: RegistryScope,
    ) -> Result<HttpRequest> {
        let (base, prefix) = (&self.endpoint.base, &self.endpoint.repository_prefix);
        let url = format!("{base}/v2/{prefix}{repository}/{path}");
        let request = HttpRequest::new(method, &url).map_err(Error::from_net(repository))?;
        Ok(request.access(self.access_to_repository(repository, scope)))
    }

    pub(crate) fn access_to_repository(
        &self,
        repository: &str,
        scope: RegistryScope,
    ) -> AccessScope {
        let actions = match scope {
            RegistryScope::Pull => "pull",
            RegistryScope::Push => "pull,push",
        };
        AccessScope {
            server: self.endpoint.server.clone(),
            scope: format!("repository:{}{repository}:{actions}", self.endpoint.repository_prefix),
        }
    }

    async fn not_found_error(&self, reference: &Reference) -> Error {
        let tags = self.list_tags(reference.repository()).await.unwrap_or_default();
        let hint = match reference.tag() {
            _ if tags.is_empty() => match self.endpoint.describe_mirror() {
                Some(mirror) => format!("{} is read from {mirror}", self.host),
                None => format!("check the name, and that {} has this repository", self.host),
            },
            Some(tag) => suggest_tags(tag, &tags),
            None => "check the digest".to_owned(),
        };
        Error::NotFound { what: reference.to_string(), hint }
    }
}

/// Where a list of referrers comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReferrersOrigin {
    /// The registry's own referrers API, which knows of all of them.
    Api,
    /// The referrers tag, which clients keep themselves.
    Tag,
}

/// What it means that a registry refuses a manifest (400, 401, 403).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RefusalMeaning {
    /// The request fails.
    Failure,
    /// The manifest does not exist.
    Absence,
}

impl RefusalMeaning {
    fn is_absence(self, status: Option<u16>) -> bool {
        self == Self::Absence && is_refusal(status)
    }
}

fn is_refusal(status: Option<u16>) -> bool {
    matches!(status, Some(400 | 401 | 403))
}

/// What a registry answers to a HEAD for a manifest.
enum DigestAnswer {
    /// Its digest, and its media type where that was sent.
    Digest(Digest, Option<String>),
    Absent,
    Refused,
    /// No digest: some registries do not send it.
    Unknown,
}

/// A manifest from its bytes, whose digest was checked. `content_type` is what the registry calls
/// it.
fn parse_fetched(
    name: &str,
    bytes: Bytes,
    digest: Digest,
    content_type: Option<String>,
) -> Result<FetchedManifest> {
    let manifest = Manifest::parse(name, &bytes)?;
    // Some registries answer with a generic type such as `application/json`.
    let media_type = match content_type {
        Some(content_type) if media_type::is_manifest(&content_type) => content_type,
        _ => manifest.effective_media_type().to_owned(),
    };
    let mut descriptor = Descriptor::new(&media_type, digest, bytes.len() as u64);
    descriptor.artifact_type.clone_from(&manifest.artifact_type);
    Ok(FetchedManifest { bytes, descriptor, manifest })
}

/// What a request does in a repository: the actions in the scope of its token (distribution,
/// docs/spec/auth/scope.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RegistryScope {
    Pull,
    Push,
}

/// The tag `sha256-<hex>`, under which a registry without the referrers API keeps the index of a
/// manifest's referrers. Of the digits of a longer digest it has the first 64 (distribution-spec 1.1,
/// "Referrers Tag Schema").
pub(crate) fn referrers_tag(
    host: &str,
    repository: &str,
    digest: &Digest,
) -> types::Result<Reference> {
    const MOST_DIGITS: usize = 64;
    let mut digits = digest.hex();
    digits.truncate(MOST_DIGITS);
    Reference::new(host, repository, Some(&format!("{}-{digits}", digest.algorithm())), None)
}

/// Whether a tag is made of a digest, as those of signatures are.
fn is_digest_tag(tag: &str) -> bool {
    tag.split_once('-').is_some_and(|(algorithm, _)| algorithm.parse::<DigestAlgorithm>().is_ok())
}

fn response_media_type(response: &HttpResponse) -> Option<String> {
    let text = response.header("content-type")?;
    Some(text.split(';').next().unwrap_or(text).trim().to_owned())
}

/// A hint with the tags that share the longest beginning with the requested one. For versions this
/// is better than edit distance: `1.25.3` is a better suggestion for `1.25.4` than `1.15.4`.
fn suggest_tags(tag: &str, tags: &[String]) -> String {
    const SHOWN: usize = 5;
    let common = |other: &str| tag.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    // Tags of signatures are no images.
    let mut ranked: Vec<_> = tags.iter().filter(|tag| !is_digest_tag(tag)).collect();
    ranked.sort_by(|a, b| {
        (common(b), tag.len().abs_diff(a.len()), a).cmp(&(
            common(a),
            tag.len().abs_diff(b.len()),
            b,
        ))
    });
    let shown: Vec<_> = ranked.into_iter().take(SHOWN).map(String::as_str).collect();
    format!("the repository has the tags {}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_tags_come_first() {
        let tags = ["2.0", "1.25.3", "1.25", "1.24"].map(str::to_owned);
        assert_eq!(
            suggest_tags("1.25.4", &tags),
            "the repository has the tags 1.25.3, 1.25, 1.24, 2.0"
        );
    }
}
