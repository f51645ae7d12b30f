//! A chart repository's `index.yaml` (helm 3.22, pkg/repo/index.go): which charts and versions it
//! has, and where their archives are.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use types::Cause;
use types::Digest;
use url::Url;

use super::{version, yaml};
use crate::{Error, Result};

/// Limit for an index; Bitnami's, the largest known one, has about 25 MB.
pub(super) const MAX_INDEX: u64 = 64 << 20;

/// The parsed index of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryIndex {
    url: Url,
    entries: BTreeMap<String, Vec<IndexEntry>>,
}

/// `index.yaml` as it is written; a chart without versions may be `null`.
#[derive(Debug, serde::Deserialize)]
struct IndexDocument {
    #[serde(default)]
    entries: BTreeMap<String, ChartVersions>,
}

/// The versions of one chart; `null` is none. An entry without a version, which cannot be chosen, is
/// not kept: a list of a million empty ones must not take the memory of a million charts.
#[derive(Debug, Default)]
struct ChartVersions(Vec<IndexEntry>);

impl<'de> Deserialize<'de> for ChartVersions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VersionList;

        impl<'de> Visitor<'de> for VersionList {
            type Value = ChartVersions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of versions")
            }

            fn visit_unit<E>(self) -> Result<ChartVersions, E> {
                Ok(ChartVersions::default())
            }

            fn visit_none<E>(self) -> Result<ChartVersions, E> {
                Ok(ChartVersions::default())
            }

            fn visit_some<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<ChartVersions, D::Error> {
                deserializer.deserialize_seq(self)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ChartVersions, A::Error> {
                let mut versions = Vec::new();
                while let Some(entry) = list.next_element::<IndexEntry>()? {
                    if entry.version.is_some() {
                        versions.push(entry);
                    }
                }
                Ok(ChartVersions(versions))
            }
        }

        deserializer.deserialize_option(VersionList)
    }
}

/// One version of a chart in `index.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
struct IndexEntry {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    urls: Option<Vec<String>>,
    #[serde(default)]
    digest: Option<String>,
}

/// A version of a chart in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryChart {
    /// The chart's name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The archive's address.
    pub url: Url,
    /// The archive's sha256, if the index has it.
    pub digest: Option<Digest>,
}

impl RepositoryChart {
    /// Repository and version of a chart whose archive is in a registry. Bitnami's index has such
    /// addresses: `oci://registry-1.docker.io/bitnamicharts/redis:1.2.3`. `None` for all others.
    pub fn registry_location(&self) -> Option<(String, String)> {
        let path = self.url.as_str().strip_prefix("oci://")?;
        match path.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((repository, tag)) => Some((repository.to_owned(), tag.replace('_', "+"))),
            // helm adds the version of the index's entry (pkg/downloader, `ResolveChartVersion`).
            None => Some((path.trim_end_matches('/').to_owned(), self.version.clone())),
        }
    }
}

impl RepositoryIndex {
    /// Parses an index. `url` is the repository's address; addresses of archives may be relative to
    /// it.
    pub fn parse(url: Url, bytes: &[u8]) -> Result<Self> {
        let document: IndexDocument =
            yaml::parse_index(&format!("index.yaml of {}", redact_url(&url)), bytes)?;
        let entries =
            document.entries.into_iter().map(|(name, versions)| (name, versions.0)).collect();
        Ok(Self { url, entries })
    }

    /// Chooses the newest version of a chart that matches `wanted`, a version or a range; without
    /// it the newest release. The error lists similar charts, or the versions that exist.
    pub fn choose_version(&self, name: &str, wanted: Option<&str>) -> Result<RepositoryChart> {
        let versions = self.entries.get(name).ok_or_else(|| {
            let what = format!("chart {name} in {}", redact_url(&self.url));
            match self.suggest_charts(name) {
                near if near.is_empty() => {
                    Error::not_found_among(what, &self.entries.keys().cloned().collect::<Vec<_>>())
                }
                near => {
                    Error::NotFound { what, hint: format!("similar names: {}", near.join(", ")) }
                }
            }
        })?;
        let candidates =
            versions.iter().filter_map(|entry| Some((entry.version.as_deref()?, entry)));
        let chart = format!("{name} in {}", redact_url(&self.url));
        let entry = version::choose_version(&chart, candidates, wanted)?;
        let version = entry.version.clone().unwrap_or_default();
        let bad = |reason: Cause| {
            let text = format!("{name} {version}: {reason}");
            Error::invalid_document(
                format!("index.yaml of {}", redact_url(&self.url)),
                reason.with_text(text),
            )
        };
        // helm as well takes the first address only.
        let address = entry.urls.iter().flatten().next();
        let address = address.ok_or_else(|| bad("the entry has no URL".into()))?;
        let digest = match entry.digest.as_deref().filter(|digest| !digest.is_empty()) {
            None => None,
            Some(text) => Some(
                Digest::from_sha256_hex(text.strip_prefix("sha256:").unwrap_or(text))
                    .map_err(|error| bad(Cause::from_error(error)))?,
            ),
        };
        let url = self.resolve_url(address).map_err(|error| bad(Cause::about(address, error)))?;
        Ok(RepositoryChart { name: name.to_owned(), version, url, digest })
    }

    /// Resolves an archive's address as helm does (helm 3.22, pkg/repo/chartrepo.go,
    /// `ResolveReferenceURL`): relative to the repository as a folder, and with the repository's
    /// query, which may be a token.
    fn resolve_url(&self, address: &str) -> Result<Url, url::ParseError> {
        if let Ok(absolute) = Url::parse(address) {
            return Ok(absolute);
        }
        let mut base = self.url.clone();
        base.set_path(&format!("{}/", self.url.path().trim_end_matches('/')));
        let mut resolved = base.join(address)?;
        resolved.set_query(self.url.query());
        Ok(resolved)
    }

    fn suggest_charts(&self, name: &str) -> Vec<String> {
        crate::similar_names::find_similar_names(name, self.entries.keys().map(String::as_str))
    }
}

/// A URL for messages: without user, password and query, which may be secrets.
pub(super) fn redact_url(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for an address without a host, which has no user either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const INDEX: &str = r#"
apiVersion: v1
entries:
  web:
    - {name: web, version: 1.2.0, urls: [web-1.2.0.tgz], digest: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}
    - {name: web, version: 1.10.0, urls: ["charts/web-1.10.0.tgz"]}
    - {name: web, version: 2.0.0-rc1, urls: ["https://cdn.example/web-2.0.0-rc1.tgz"]}
  empty:
generated: "2024-01-01T00:00:00Z"
"#;

    fn sample_index() -> RepositoryIndex {
        let url = Url::parse("https://charts.example/stable?token=x").unwrap();
        RepositoryIndex::parse(url, INDEX.as_bytes()).unwrap()
    }

    #[test]
    fn the_newest_is_chosen_and_addresses_are_relative_to_the_repository() {
        let chart = sample_index().choose_version("web", None).unwrap();
        assert_eq!(chart.version, "1.10.0");
        assert_eq!(
            chart.url.as_str(),
            "https://charts.example/stable/charts/web-1.10.0.tgz?token=x"
        );
        let exact = sample_index().choose_version("web", Some("1.2.0")).unwrap();
        assert!(exact.digest.is_some());
        let elsewhere = sample_index().choose_version("web", Some("2.0.0-rc1")).unwrap();
        assert_eq!(elsewhere.url.host_str(), Some("cdn.example"));
    }

    #[test]
    fn a_chart_or_a_version_that_is_not_there_names_what_is() {
        let error = sample_index().choose_version("wep", None).unwrap_err().to_string();
        assert!(error.contains("chart wep") && error.contains("similar names: web"), "{error}");
        assert!(!error.contains("token"), "{error}");
        let error = sample_index().choose_version("web", Some("^3")).unwrap_err().to_string();
        assert!(error.contains("^3") && error.contains("1.10.0"), "{error}");
        assert!(sample_index().choose_version("empty", None).is_err());
    }
}
