//! Full names of images and artifacts in registries: `registry/repository[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

use crate::{Cause, Digest, Error, Result};

/// A full reference: `registry/repository[:tag][@digest]`.
///
/// Parsing follows docker's rules (distribution/reference): `nginx` is
/// `docker.io/library/nginx:latest`; the first segment is a host when it has a dot, a colon or is
/// `localhost`. A reference always has a tag, a digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The registry of a name that has no host.
pub(crate) const DOCKER_HUB: &str = "docker.io";
/// distribution/reference: a repository path has at most 255 characters.
const MAX_REPOSITORY: usize = 255;
/// OCI distribution-spec: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
const MAX_TAG: usize = 128;

impl Reference {
    /// A reference from its parts, checked like a parsed one.
    pub fn new(
        registry: &str,
        repository: &str,
        tag: Option<&str>,
        digest: Option<Digest>,
    ) -> Result<Self> {
        let whole = || format!("{registry}/{repository}");
        if !is_host(registry) {
            return Err(invalid_reference(
                &whole(),
                format!("{registry:?} is not a registry host"),
            ));
        }
        check_repository(repository).map_err(|reason| invalid_reference(&whole(), reason))?;
        if let Some(tag) = tag {
            check_tag(tag).map_err(|reason| invalid_reference(&whole(), reason))?;
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            // With a digest alone no tag is implied: `latest` could name other content.
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), tag, digest })
    }

    /// The registry's host, with its port if it has one: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's path in the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, when there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when the reference is pinned.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository with another tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self> {
        Self::new(&self.registry, &self.repository, Some(tag), None)
    }

    /// The same repository by digest alone.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The last segment of the URL of a manifest request: the digest when there is one, else the tag
    /// (OCI distribution-spec, "Pulling manifests").
    pub fn digest_or_tag(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

fn invalid_reference(text: &str, reason: impl Into<Cause>) -> Error {
    Error::invalid_text("image reference", text, reason)
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(invalid_reference(text, "it is empty"));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(invalid_reference(text, format!("write it without {scheme}://")));
        }
        // A tag may stand before the digest (`nginx:1.25@sha256:…`), never behind it.
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(
                    digest
                        .parse::<Digest>()
                        .map_err(|error| invalid_reference(text, Cause::from_error(error)))?,
                ),
            ),
            None => (text, None),
        };
        // A colon after the last slash starts the tag; one before it starts a port.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        let (registry, repository) = match path.split_once('/') {
            Some((first, rest)) if looks_like_host(first) => (first, rest.to_owned()),
            Some(_) => (DOCKER_HUB, path.to_owned()),
            None => (DOCKER_HUB, format!("library/{path}")),
        };
        // Old docker configurations and some charts name Docker Hub by its API hosts.
        let (registry, repository) = match registry {
            "index.docker.io" | "registry-1.docker.io" => (DOCKER_HUB, repository),
            other => (other, repository),
        };
        // Only Docker Hub has the implied `library/`; `ghcr.io/nginx` stays as it is.
        let repository = if registry == DOCKER_HUB && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        Self::new(registry, &repository, tag, digest).map_err(|error| match error {
            Error::Invalid { reason, .. } => invalid_reference(text, reason),
            other => other,
        })
    }
}

/// Whether a first segment is a host and not the start of a Docker Hub repository
/// (distribution/reference, `splitDockerDomain`).
fn looks_like_host(segment: &str) -> bool {
    segment == "localhost" || segment.contains(['.', ':'])
}

/// A host name or address with an optional port.
pub(crate) fn is_host(text: &str) -> bool {
    // The last colon of `[::1]` belongs to the address, that of `[::1]:5000` starts the port.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let host_is_valid = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.split('.').all(|label| {
                    !label.is_empty()
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                        && label
                            .bytes()
                            // DNS has no underscores, but docker compose makes host names with them.
                            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                })
        }
    };
    host_is_valid && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn check_repository(repository: &str) -> Result<(), String> {
    if repository.is_empty() {
        return Err("the repository is missing".into());
    }
    if repository.len() > MAX_REPOSITORY {
        return Err(format!("the repository is longer than {MAX_REPOSITORY} characters"));
    }
    for segment in repository.split('/') {
        if !is_path_segment(segment) {
            let hint = if segment.bytes().any(|b| b.is_ascii_uppercase()) {
                "it must be lower case"
            } else {
                "write a-z and 0-9, with single separators . _ - between them"
            };
            return Err(format!("{segment:?} is not a valid segment of a repository path: {hint}"));
        }
    }
    Ok(())
}

/// distribution/reference `path-component`: alphanumeric runs joined by `.`, `_`, `__` or dashes.
fn is_path_segment(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    // Splitting at every alphanumeric leaves the separators, and an empty text between two
    // neighbours: `a--b_c` gives "", "--", "_", "".
    segment.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
    })
}

fn check_tag(tag: &str) -> Result<(), String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let Some(first) = tag.bytes().next() else { return Err("the tag is empty".into()) };
    if tag.len() > MAX_TAG {
        return Err(format!("the tag is longer than {MAX_TAG} characters"));
    }
    if !tag.bytes().all(valid) || matches!(first, b'.' | b'-') {
        return Err(format!(
            "{tag:?} is not a valid tag: write letters, digits, _ . - and start with none of . and -"
        ));
    }
    Ok(())
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

crate::text::serde_as_text!(Reference);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn short_names_become_full_ones_as_docker_has_it() {
        for (short, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("bitnami/redis:7", "docker.io/bitnami/redis:7"),
            ("docker.io/nginx:1", "docker.io/library/nginx:1"),
            ("index.docker.io/library/nginx:1", "docker.io/library/nginx:1"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("127.0.0.1:5000/x:1", "127.0.0.1:5000/x:1"),
            ("[::1]:5000/x:1", "[::1]:5000/x:1"),
            ("ghcr.io/a/b__c.d--e:v1", "ghcr.io/a/b__c.d--e:v1"),
        ] {
            assert_eq!(short.parse::<Reference>().unwrap().to_string(), full);
        }
    }

    #[test]
    fn a_pinned_reference_keeps_its_tag_and_asks_by_digest() {
        let pinned = format!("quay.io/a/b:1@sha256:{}", "ab".repeat(32));
        let reference: Reference = pinned.parse().unwrap();
        assert_eq!(reference.to_string(), pinned);
        assert_eq!(reference.digest_or_tag(), format!("sha256:{}", "ab".repeat(32)));
    }

    #[test]
    fn what_is_no_reference_says_why() {
        for (wrong, why) in [
            ("", "empty"),
            ("https://ghcr.io/a", "without https://"),
            ("Nginx:1", "lower case"),
            ("a//b", "segment"),
            ("nginx:", "empty"),
            ("nginx:.x", "not a valid tag"),
            ("nginx@sha256:12", "64"),
            ("ghcr.io/", "missing"),
            ("a b", "segment"),
        ] {
            let error = wrong.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
