//! One registry, as a reader.

use std::collections::HashSet;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use net::{Access, Client, Endpoint, Mirrors, Repeat, Request, Response};
use serde::Deserialize;
use types::{Descriptor, Digest, Manifest, Reference, media_type};

use crate::{Error, Result};

/// A list of tags is read up to this length.
const MOST_TAGS_BYTES: u64 = 8 << 20;
/// A referrers index likewise.
const MOST_REFERRERS_BYTES: u64 = 8 << 20;
/// Pages of a referrers list that are followed.
const MOST_PAGES: usize = 64;

/// One registry, or the mirror that stands for it.
#[derive(Clone)]
pub struct Registry {
    client: Client,
    endpoint: Endpoint,
    host: String,
}

/// A manifest with its exact bytes.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The bytes, as they came.
    pub bytes: Bytes,
    /// Digest, length, media type.
    pub descriptor: Descriptor,
    /// The bytes, read.
    pub manifest: Manifest,
}

impl Registry {
    /// The registry of a host, asked through the mirror that the configuration names for it.
    pub fn new(client: &Client, mirrors: &Mirrors, host: &str) -> Self {
        Self { client: client.clone(), endpoint: mirrors.registry(host), host: host.to_owned() }
    }

    /// The registry's own name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The manifest or index of a reference; its digest is checked against the reference's, or
    /// against the one that the registry tells.
    pub async fn manifest(&self, reference: &Reference) -> Result<Fetched> {
        match self.find(reference).await? {
            Some(fetched) => Ok(fetched),
            None => Err(self.not_found(reference).await),
        }
    }

    /// As [`Self::manifest`], but `None` when it is not there.
    pub async fn find(&self, reference: &Reference) -> Result<Option<Fetched>> {
        let what = reference.to_string();
        let request = self.manifest_request(reference)?;
        let response = self.client.send(&request, Repeat::Safe).await.map_err(Error::net(&what))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = response.success().await.map_err(Error::net(&what))?;
        let told = response.header("docker-content-digest").and_then(|text| text.parse().ok());
        let content_type = media_type_of(&response);
        let bytes = response.bytes(Manifest::MAX_SIZE).await.map_err(Error::net(&what))?;
        let actual = store::hash::sha256(&bytes);
        if let Some(expected) = reference.digest().copied().or(told)
            && expected != actual
        {
            return Err(Error::Lie {
                server: self.endpoint.base.clone(),
                what,
                expected: expected.to_string(),
                actual: actual.to_string(),
            });
        }
        let manifest = Manifest::parse(&what, &bytes)?;
        let media_type = match &content_type {
            Some(content_type) if media_type::is_manifest(content_type) => content_type.clone(),
            _ => manifest.effective_media_type().to_owned(),
        };
        let mut descriptor = Descriptor::new(&media_type, actual, bytes.len() as u64);
        descriptor.artifact_type.clone_from(&manifest.artifact_type);
        Ok(Some(Fetched { bytes, descriptor, manifest }))
    }

    /// The digest and media type that a name stands for, without the document.
    pub async fn head(&self, reference: &Reference) -> Result<Option<Digest>> {
        let what = reference.to_string();
        let mut request = self.manifest_request(reference)?;
        request.set_method(Method::HEAD);
        let response = self.client.send(&request, Repeat::Safe).await.map_err(Error::net(&what))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = response.success().await.map_err(Error::net(&what))?;
        Ok(response.header("docker-content-digest").and_then(|text| text.parse().ok()))
    }

    /// The request for a manifest.
    pub fn manifest_request(&self, reference: &Reference) -> Result<Request> {
        let path = format!("manifests/{}", reference.version());
        let request = self.request(Method::GET, reference.repository(), &path, Scope::Pull)?;
        Ok(request.header(header::ACCEPT, HeaderValue::from_static(media_type::ACCEPT_MANIFESTS)))
    }

    /// The request for a blob of a repository.
    pub fn blob_request(&self, repository: &str, digest: &Digest) -> Result<Request> {
        self.request(Method::GET, repository, &format!("blobs/{digest}"), Scope::Pull)
    }

    /// The tags of a repository.
    pub async fn tags(&self, repository: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let what = format!("the tags of {}/{repository}", self.host);
        let request = self.request(Method::GET, repository, "tags/list", Scope::Pull)?;
        let response = self.client.send(&request, Repeat::Safe).await.map_err(Error::net(&what))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        let response = response.success().await.map_err(Error::net(&what))?;
        let bytes = response.bytes(MOST_TAGS_BYTES).await.map_err(Error::net(&what))?;
        let tags: Tags =
            serde_json::from_slice(&bytes).map_err(|cause| types::Error::Document {
                document: what,
                line: cause.line() as u64,
                column: cause.column() as u64,
                message: cause.to_string(),
            })?;
        Ok(tags.tags.unwrap_or_default())
    }

    /// What speaks of a manifest: the referrers API, or the tag that stands for it in registries
    /// without one (distribution-spec 1.1, "Unavailable Referrers API").
    pub async fn referrers(&self, repository: &str, digest: &Digest) -> Result<Vec<Descriptor>> {
        let what = format!("the referrers of {}/{repository}@{digest}", self.host);
        let path = format!("referrers/{digest}");
        let mut request = self.request(Method::GET, repository, &path, Scope::Pull)?;
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        for _ in 0..MOST_PAGES {
            let response =
                self.client.send(&request, Repeat::Safe).await.map_err(Error::net(&what))?;
            let is_index = media_type_of(&response).as_deref() == Some(media_type::OCI_INDEX);
            if !response.status().is_success() || !is_index {
                if found.is_empty() {
                    break;
                }
                // The first page came: there is an API, and what is missing must not be lost.
                return Err(Error::Net { what, cause: response.into_error().await });
            }
            let next = next_page(&response);
            let bytes = response.bytes(MOST_REFERRERS_BYTES).await.map_err(Error::net(&what))?;
            let index = Manifest::parse(&what, &bytes)?;
            found.extend(index.manifests.into_iter().filter(|d| seen.insert(d.digest)));
            match next {
                Some(next) => request.set_path_and_query(&next).map_err(Error::net(&what))?,
                None => return Ok(found),
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let Ok(fallback) = fallback_tag(&self.host, repository, digest) else {
            return Ok(Vec::new());
        };
        let index = self.find(&fallback).await?;
        Ok(index.map(|fetched| fetched.manifest.manifests).unwrap_or_default())
    }

    /// Whether a blob is in a repository.
    pub(crate) async fn has_blob(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let what = format!("{}/{repository}@{digest}", self.host);
        let path = format!("blobs/{digest}");
        let request = self.request(Method::HEAD, repository, &path, Scope::Push)?;
        let response = self.client.send(&request, Repeat::Safe).await.map_err(Error::net(&what))?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            _ => response.success().await.map(|_| true).map_err(Error::net(what)),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A request below a repository, with the access that it needs.
    pub(crate) fn request(
        &self,
        method: Method,
        repository: &str,
        path: &str,
        scope: Scope,
    ) -> Result<Request> {
        let url = format!("{}/v2/{repository}/{path}", self.endpoint.base);
        let request = Request::new(method, &url).map_err(Error::net(repository))?;
        Ok(request.access(self.access(repository, scope)))
    }

    pub(crate) fn access(&self, repository: &str, scope: Scope) -> Access {
        let actions = match scope {
            Scope::Pull => "pull",
            Scope::Push => "pull,push",
        };
        Access {
            server: self.endpoint.server.clone(),
            scope: format!("repository:{repository}:{actions}"),
        }
    }

    async fn not_found(&self, reference: &Reference) -> Error {
        let tags = self.tags(reference.repository()).await.unwrap_or_default();
        let hint = match reference.tag() {
            _ if tags.is_empty() => format!("check the name, and that {} has it", self.host),
            Some(tag) => near(tag, &tags),
            None => "check the digest".to_owned(),
        };
        Error::NotFound { what: reference.to_string(), hint }
    }
}

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Pull,
    Push,
}

/// `sha256-<hex>`: where a registry without the referrers API keeps the index of referrers.
pub(crate) fn fallback_tag(
    host: &str,
    repository: &str,
    digest: &Digest,
) -> types::Result<Reference> {
    Reference::new(host, repository, Some(&format!("sha256-{}", digest.hex())), None)
}

fn media_type_of(response: &Response) -> Option<String> {
    let text = response.header("content-type")?;
    Some(text.split(';').next().unwrap_or(text).trim().to_owned())
}

/// `Link: </v2/…?last=…>; rel="next"`.
fn next_page(response: &Response) -> Option<String> {
    let link = response.header("link")?;
    let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
    rest.contains("rel=\"next\"").then(|| target.to_owned())
}

/// Tags that look like the one that was asked for, the most alike first.
fn near(tag: &str, tags: &[String]) -> String {
    const SHOWN: usize = 5;
    let common = |other: &str| tag.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
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
        assert_eq!(near("1.25.4", &tags), "the repository has the tags 1.25.3, 1.25, 1.24, 2.0");
    }
}
