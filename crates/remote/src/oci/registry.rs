//! A client of one OCI registry: manifests, tags, referrers, and the requests for blobs. The upload
//! of blobs is in `upload`, and the rules of a push in `push`.

use std::collections::HashSet;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use net::{
    AccessScope, Client, HttpRequest, HttpResponse, Mirrors, RepeatPolicy, UpstreamEndpoint,
};
use serde::Deserialize;
use types::{Descriptor, Digest, Manifest, Reference, media_type};

use crate::{Error, Result};

/// Limit for a list of tags. Repositories with tens of thousands of tags stay below 1 MB.
const MOST_TAGS_BYTES: u64 = 8 << 20;
/// Limit for one page of a referrers index.
const MOST_REFERRERS_BYTES: u64 = 8 << 20;
/// Limit for the pages of a referrers list, against a server that never ends it.
const MOST_PAGES: usize = 64;

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
        let what = reference.to_string();
        let request = self.manifest_request(reference)?;
        let response =
            self.client.send(&request, RepeatPolicy::Safe).await.map_err(Error::from_net(&what))?;
        // Some registries answer 401 or 403 for a repository that does not exist; that remains an
        // error, since it cannot be told from a missing right.
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = response.require_success().await.map_err(Error::from_net(&what))?;
        let told = response.header("docker-content-digest").and_then(|text| text.parse().ok());
        let content_type = response_media_type(&response);
        let bytes =
            response.read_bytes(Manifest::MAX_SIZE).await.map_err(Error::from_net(&what))?;
        let actual = store::hash::sha256(&bytes);
        // The reference's own digest is what counts; the header only guards against a broken
        // transfer.
        if let Some(expected) = reference.digest().copied().or(told)
            && expected != actual
        {
            return Err(Error::DigestMismatch {
                server: self.endpoint.base.clone(),
                what,
                expected: expected.to_string(),
                actual: actual.to_string(),
            });
        }
        let manifest = Manifest::parse(&what, &bytes)?;
        // Some registries answer with a generic type such as `application/json`.
        let media_type = match &content_type {
            Some(content_type) if media_type::is_manifest(content_type) => content_type.clone(),
            _ => manifest.effective_media_type().to_owned(),
        };
        let mut descriptor = Descriptor::new(&media_type, actual, bytes.len() as u64);
        descriptor.artifact_type.clone_from(&manifest.artifact_type);
        Ok(Some(FetchedManifest { bytes, descriptor, manifest }))
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

    /// Lists the tags of a repository; empty when the repository does not exist.
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
        let response =
            self.client.send(&request, RepeatPolicy::Safe).await.map_err(Error::from_net(&what))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        let response = response.require_success().await.map_err(Error::from_net(&what))?;
        let bytes = response.read_bytes(MOST_TAGS_BYTES).await.map_err(Error::from_net(&what))?;
        let tags: TagList =
            serde_json::from_slice(&bytes).map_err(|cause| types::Error::Document {
                document: what,
                line: cause.line() as u64,
                column: cause.column() as u64,
                message: cause.into(),
            })?;
        Ok(tags.tags.unwrap_or_default())
    }

    /// Lists the referrers of a manifest (signatures, SBOMs, attestations): by the referrers API,
    /// or by the referrers tag in registries without it (distribution-spec 1.1, "Unavailable
    /// Referrers API").
    pub async fn list_referrers(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>> {
        let what = format!("the referrers of {}/{repository}@{digest}", self.host);
        let path = format!("referrers/{digest}");
        let mut request =
            self.build_request(Method::GET, repository, &path, RegistryScope::Pull)?;
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        for _ in 0..MOST_PAGES {
            let response = self
                .client
                .send(&request, RepeatPolicy::Safe)
                .await
                .map_err(Error::from_net(&what))?;
            // Registries without the API answer 404, 400 or even 200 with a web page.
            let is_index = response_media_type(&response).as_deref() == Some(media_type::OCI_INDEX);
            if !response.status().is_success() || !is_index {
                if found.is_empty() {
                    break;
                }
                // The first page was an index, so the API exists: the other pages must not be left
                // out silently.
                return Err(Error::Net { what, cause: response.into_error().await });
            }
            let next = next_page_path(&response);
            let bytes =
                response.read_bytes(MOST_REFERRERS_BYTES).await.map_err(Error::from_net(&what))?;
            let index = Manifest::parse(&what, &bytes)?;
            // Pages may overlap when a referrer is added between two requests.
            found.extend(index.manifests.into_iter().filter(|d| seen.insert(d.digest)));
            match next {
                Some(next) => request.follow_location(&next).map_err(Error::from_net(&what))?,
                None => return Ok(found),
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
        // The API is missing: its substitute is a tag. A host or repository that makes no valid
        // reference has no such tag either.
        let Ok(fallback) = referrers_tag(&self.host, repository, digest) else {
            return Ok(Vec::new());
        };
        let index = self.find_manifest(&fallback).await?;
        Ok(index.map(|fetched| fetched.manifest.manifests).unwrap_or_default())
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
        let url = format!("{}/v2/{repository}/{path}", self.endpoint.base);
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
            scope: format!("repository:{repository}:{actions}"),
        }
    }

    async fn not_found_error(&self, reference: &Reference) -> Error {
        let tags = self.list_tags(reference.repository()).await.unwrap_or_default();
        let hint = match reference.tag() {
            _ if tags.is_empty() => {
                format!("check the name, and that {} has this repository", self.host)
            }
            Some(tag) => suggest_tags(tag, &tags),
            None => "check the digest".to_owned(),
        };
        Error::NotFound { what: reference.to_string(), hint }
    }
}

/// What a request does in a repository: the actions in the scope of its token (distribution,
/// docs/spec/auth/scope.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RegistryScope {
    Pull,
    Push,
}

/// The tag `sha256-<hex>`, under which a registry without the referrers API keeps the index of a
/// manifest's referrers (distribution-spec 1.1, "Referrers Tag Schema").
pub(crate) fn referrers_tag(
    host: &str,
    repository: &str,
    digest: &Digest,
) -> types::Result<Reference> {
    Reference::new(host, repository, Some(&format!("sha256-{}", digest.hex())), None)
}

fn response_media_type(response: &HttpResponse) -> Option<String> {
    let text = response.header("content-type")?;
    Some(text.split(';').next().unwrap_or(text).trim().to_owned())
}

/// The next page's address, from `Link: </v2/…?last=…>; rel="next"` (RFC 8288).
fn next_page_path(response: &HttpResponse) -> Option<String> {
    let link = response.header("link")?;
    let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
    rest.contains("rel=\"next\"").then(|| target.to_owned())
}

/// A hint with the tags that share the longest beginning with the requested one. For versions this
/// is better than edit distance: `1.25.3` is a better suggestion for `1.25.4` than `1.15.4`.
fn suggest_tags(tag: &str, tags: &[String]) -> String {
    const SHOWN: usize = 5;
    let common = |other: &str| tag.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    // Tags of signatures are no images.
    let mut ranked: Vec<_> = tags.iter().filter(|tag| !tag.starts_with("sha256-")).collect();
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
