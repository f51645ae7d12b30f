//! A client of a chart repository on a web server: its index, and the archives that the index
//! lists.

use http::StatusCode;
use net::{AccessScope, Client, HttpRequest, RepeatPolicy};
use store::{Source as _, Store};
use url::Url;

use super::archive::{ChartArchive, MAX_ARCHIVE};
use super::index::{MAX_INDEX, RepositoryChart, RepositoryIndex, redact_url};
use crate::{Error, Result};

/// Limit for a provenance file, which is a signed `Chart.yaml` with a checksum.
const MAX_PROVENANCE: u64 = 1 << 20;

/// A repository with an `index.yaml`. Its credential is in the URL, or in docker's configuration
/// under the repository's host. As in helm, it is not sent to other hosts that have archives.
#[derive(Clone)]
pub struct ChartRepository {
    client: Client,
    url: Url,
}

impl ChartRepository {
    /// A client for the repository at an `http(s)://` address.
    pub fn new(client: &Client, url: &str) -> Result<Self> {
        let parsed = Url::parse(url).map_err(|_| Error::Net {
            what: format!("the chart repository {}", types::SecretUrl::new(url)),
            cause: net::Error::Url {
                text: url.to_owned(),
                reason: "write a full address, such as https://charts.example.org/stable".into(),
            },
        })?;
        Ok(Self { client: client.clone(), url: parsed })
    }

    /// Downloads the repository's index.
    pub async fn fetch_index(&self) -> Result<RepositoryIndex> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/index.yaml", self.url.path().trim_end_matches('/')));
        let what = format!("the chart repository {}", redact_url(&self.url));
        let answer = self.get_document(&what, &url, MAX_INDEX).await?;
        let bytes = answer.ok_or_else(|| Error::NotFound {
            what: format!("{what} (its index.yaml)"),
            hint: "give the same address as for `helm repo add`; for a chart in a registry write oci://…"
                .into(),
        })?;
        RepositoryIndex::parse(self.url.clone(), &bytes)
    }

    /// Downloads a chart's archive and checks it against the digest in the index; also its
    /// provenance file, if there is one. A chart whose archive is in a registry is not here: see
    /// [`RepositoryChart::registry_location`].
    pub async fn download_chart(
        &self,
        chart: &RepositoryChart,
        store: &Store,
    ) -> Result<ChartArchive> {
        let what = format!("chart {} {} of {}", chart.name, chart.version, redact_url(&self.url));
        let bytes = match read_stored_archive(chart, store)? {
            Some(bytes) => bytes,
            None => self.get_document(&what, &chart.url, MAX_ARCHIVE).await?.ok_or_else(|| {
                Error::NotFound {
                    what: what.clone(),
                    hint: "the repository's index lists it, but the archive is missing; tell the publisher"
                        .into(),
                }
            })?,
        };
        let actual = store::hash::sha256(&bytes);
        if let Some(expected) = chart.digest
            && expected != actual
        {
            return Err(Error::DigestMismatch {
                server: redact_url(&self.url),
                what,
                expected: expected.to_string(),
                actual: actual.to_string(),
            });
        }
        let mut archive = ChartArchive::new(&what, bytes)?;
        let mut provenance = chart.url.clone();
        provenance.set_path(&format!("{}.prov", chart.url.path()));
        // Optional. Many servers answer 403 for a missing file, so no error is taken for a failure.
        archive.provenance =
            self.get_document(&what, &provenance, MAX_PROVENANCE).await.unwrap_or(None);
        Ok(archive)
    }

    /// Downloads a document of at most `most` bytes; `None` when it does not exist.
    async fn get_document(&self, what: &str, url: &Url, most: u64) -> Result<Option<Vec<u8>>> {
        let same_host = url.origin() == self.url.origin();
        let mut url = url.clone();
        // The index may give archives with a credential of their own in the URL.
        if same_host && url.username().is_empty() {
            // Both fail only for a URL without a host.
            let _ = url.set_username(self.url.username());
            let _ = url.set_password(self.url.password());
        }
        let mut request = HttpRequest::get(url.as_str()).map_err(Error::from_net(what))?;
        if same_host {
            let AccessScope { server, scope } = crate::http::access_for_url(&url);
            request = request.access(AccessScope { server, scope });
        }
        let response =
            self.client.send(&request, RepeatPolicy::Safe).await.map_err(Error::from_net(what))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = response.require_success().await.map_err(Error::from_net(what))?;
        let bytes = response.read_bytes(most).await.map_err(Error::from_net(what))?;
        // Taken over, not copied: nobody else has these bytes.
        Ok(Some(Vec::from(bytes)))
    }
}

/// The archive as an earlier lock has stored it, where the index gives its digest.
fn read_stored_archive(chart: &RepositoryChart, store: &Store) -> Result<Option<Vec<u8>>> {
    let Some(digest) = chart.digest else { return Ok(None) };
    match store.blob_size(&digest)? {
        Some(size) if size <= MAX_ARCHIVE => {
            let bytes = store::read_blob(store, &digest, MAX_ARCHIVE)?;
            // A damaged blob is downloaded again.
            Ok(store::hash::has_digest(&bytes, &digest).then_some(bytes))
        }
        _ => Ok(None),
    }
}

/// The repository in a registry for the charts of a web repository: its host and path, in
/// characters that a registry allows. `https://charts.example/Stable` becomes
/// `charts.example/stable`.
pub fn derive_artifact_repository(url: &str) -> Result<String> {
    let parsed = Url::parse(url).map_err(|_| Error::Net {
        what: format!("the chart repository {}", types::SecretUrl::new(url)),
        cause: net::Error::Url {
            text: url.to_owned(),
            reason: "write a full address, such as https://charts.example.org/stable".into(),
        },
    })?;
    let AccessScope { server, .. } = crate::http::access_for_url(&parsed);
    let segments = parsed.path_segments().into_iter().flatten();
    let path =
        segments.filter(|segment| !segment.is_empty()).map(crate::artifact::to_repository_segment);
    Ok(std::iter::once(server).chain(path).collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_web_repository_becomes_a_registry_s_path() {
        for (url, expected) in [
            ("https://charts.example/Stable/", "charts.example/stable"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("https://org.github.io/charts_v2", "org.github.io/charts_v2"),
            ("https://x.example/a%20b", "x.example/a-20b"),
        ] {
            assert_eq!(derive_artifact_repository(url).unwrap(), expected);
        }
    }
}
