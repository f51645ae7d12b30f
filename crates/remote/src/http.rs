//! A file at a URL: its length and, where nobody gives it, its sha256 are learnt when a lock is
//! made.

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};
use net::{Access, Client, Repeat, Request};
use percent_encoding::percent_decode_str;
use store::Store;
use store::progress::Progress;
use types::Digest;
use types::lock::Blob;
use url::Url;

use crate::receive::receive;
use crate::{Error, Result};

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file's name: the last segment of the URL.
    pub title: String,
    /// The content.
    pub content: Blob,
}

/// Finds out what is at the URL. With a sha256 only the length is asked for, where the server tells
/// it; else the whole file comes into the store.
pub async fn find(
    client: &Client,
    url: &str,
    sha256: Option<Digest>,
    store: &Store,
    progress: &Arc<dyn Progress>,
) -> Result<Found> {
    let parsed = check(url)?;
    let title = title(&parsed)?;
    let size = length(client, url).await?;
    if let (Some(digest), Some(size)) = (sha256, size) {
        return Ok(Found { title, content: Blob { digest, size } });
    }
    if let Some(size) = size {
        progress.expect(size);
        store.need(size)?;
    }
    let received = receive(client, url, request(url)?, size, store, progress).await?;
    match sha256 {
        Some(expected) if expected != received.blob.digest => Err(Error::Lie {
            server: parsed.host_str().unwrap_or_default().to_owned(),
            what: url.to_owned(),
            expected: expected.to_string(),
            actual: received.blob.digest.to_string(),
        }),
        _ => Ok(Found { title, content: received.blob }),
    }
}

/// The request whose answer is the file.
pub fn request(url: &str) -> Result<Request> {
    let parsed = check(url)?;
    let request = Request::get(url).map_err(Error::net(url))?;
    Ok(request.access(access(&parsed)))
}

/// The name under which docker's configuration has the credential of a server.
pub(crate) fn access(url: &Url) -> Access {
    let host = url.host_str().unwrap_or_default();
    let server = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    Access { server, scope: String::new() }
}

fn check(url: &str) -> Result<Url> {
    let invalid = |reason: &str| {
        let cause = net::Error::Url { text: url.to_owned(), reason: reason.to_owned() };
        Error::Net { what: url.to_owned(), cause }
    };
    let parsed = Url::parse(url).map_err(|error| invalid(&error.to_string()))?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        "file" => Err(invalid("a file of this machine goes under files:, by its path")),
        "hf" => Err(invalid("write hf: org/name for a model of the Hugging Face Hub")),
        "s3" | "gs" => Err(invalid("give the bucket's https:// address, presigned if need be")),
        _ => Err(invalid("write http:// or https://")),
    }
}

fn title(url: &Url) -> Result<String> {
    let last =
        url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    let title = percent_decode_str(last).decode_utf8_lossy().into_owned();
    let is_name = !matches!(title.as_str(), "" | "." | "..")
        && !title.contains(|sign: char| sign.is_control() || matches!(sign, '/' | '\\'));
    if is_name {
        return Ok(title);
    }
    Err(Error::Net {
        what: url.to_string(),
        cause: net::Error::Url {
            text: url.to_string(),
            reason: "it names a folder; give the address of one file".into(),
        },
    })
}

/// The length of what is at the URL. Some servers do not know HEAD, or sign URLs for GET only:
/// then the first byte is asked for.
async fn length(client: &Client, url: &str) -> Result<Option<u64>> {
    let mut head = request(url)?;
    head.set_method(Method::HEAD);
    let answer = client.send(&head, Repeat::Safe).await.map_err(Error::net(url))?;
    match answer.status() {
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Error::NotFound {
            what: url.to_owned(),
            hint: "the server does not have it; open the address in a browser".into(),
        }),
        status if status.is_success() => Ok(answer.content_length()),
        _ => {
            let first = request(url)?.header(header::RANGE, HeaderValue::from_static("bytes=0-0"));
            let answer = client.send(&first, Repeat::Safe).await.map_err(Error::net(url))?;
            let answer = answer.success().await.map_err(Error::net(url))?;
            let total = answer.header("content-range").and_then(|range| range.rsplit_once('/'));
            Ok(match total {
                Some((_, total)) => total.parse().ok(),
                None => answer.content_length(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_web_address_gets_a_hint() {
        for (url, hint) in [
            ("file:///etc/passwd", "files:"),
            ("s3://bucket/key", "https://"),
            ("/models/a.gguf", "relative URL"),
        ] {
            let error = request(url).err().unwrap().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn a_file_is_called_by_the_last_segment() {
        let title_of = |url: &str| title(&Url::parse(url).unwrap());
        assert_eq!(title_of("https://x.example/a/b%20c.gguf?sig=1").unwrap(), "b c.gguf");
        assert!(title_of("https://x.example/a/").is_err());
        assert!(title_of("https://x.example/a/..%2f..%2fetc").is_err());
    }
}
