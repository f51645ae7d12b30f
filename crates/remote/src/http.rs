//! A file at a URL (`url:` under `models:` and `files:`). `gantry lock` finds out its length and,
//! where the input gives no checksum, its sha256.

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};
use net::{AccessScope, Client, HttpRequest, RepeatPolicy};
use percent_encoding::percent_decode_str;
use store::Store;
use store::progress::Progress;
use types::Digest;
use types::lock::Blob;
use url::Url;

use crate::receive::receive_blob;
use crate::{Error, Result};

/// A file at a URL, as it goes into a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlFile {
    /// The file's name: the last segment of the URL.
    pub title: String,
    /// The content's digest and length.
    pub content: Blob,
}

/// Finds out digest and length of the file at the URL. With a `sha256` from the input only the
/// length is requested, if the server gives it; otherwise the whole file is downloaded into the
/// store. [`Error::DigestMismatch`] when the content does not have the given `sha256`.
pub async fn look_up_file(
    client: &Client,
    url: &str,
    sha256: Option<Digest>,
    store: &Store,
    progress: &Arc<dyn Progress>,
) -> Result<UrlFile> {
    let parsed = parse_url(url)?;
    let title = file_name_from_url(&parsed)?;
    let size = find_length(client, url).await?;
    if let (Some(digest), Some(size)) = (sha256, size) {
        return Ok(UrlFile { title, content: Blob { digest, size } });
    }
    // Checked first: a model of many gigabytes should not fail at its last byte.
    if let Some(size) = size {
        progress.expect_bytes(size);
        store.ensure_free_space(size)?;
    }
    let received =
        receive_blob(client, url, build_file_request(url)?, size, store, progress).await?;
    match sha256 {
        Some(expected) if expected != received.blob.digest => Err(Error::DigestMismatch {
            server: parsed.host_str().unwrap_or_default().to_owned(),
            what: types::redact_urls(url),
            expected: expected.to_string(),
            actual: received.blob.digest.to_string(),
        }),
        _ => Ok(UrlFile { title, content: received.blob }),
    }
}

/// The GET request for the file, with the credential of its server, if there is one.
pub fn build_file_request(url: &str) -> Result<HttpRequest> {
    let parsed = parse_url(url)?;
    let request = HttpRequest::get(url).map_err(Error::from_net(url))?;
    Ok(request.access(access_for_url(&parsed)))
}

/// The GET request for a file at an address that nobody who is trusted wrote, without a credential.
pub fn build_anonymous_request(url: &str) -> Result<HttpRequest> {
    HttpRequest::get(url).map_err(Error::from_net(url))
}

/// The credential to use for a URL: that of its `host[:port]` in docker's configuration.
pub(crate) fn access_for_url(url: &Url) -> AccessScope {
    let host = url.host_str().unwrap_or_default();
    let server = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    AccessScope { server, scope: String::new() }
}

/// Parses a URL; the error says where other kinds of sources go in the input.
fn parse_url(url: &str) -> Result<Url> {
    let invalid = |reason: &str| {
        let cause = net::Error::Url { text: url.to_owned(), reason: reason.to_owned() };
        Error::Net { what: types::SecretUrl::new(url).to_string(), cause }
    };
    let parsed = Url::parse(url)
        .map_err(|_| invalid("write a full address, such as https://example.org/model.gguf"))?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        "file" => Err(invalid("for a file on this machine, give its path under files:")),
        "hf" => Err(invalid("for a model of the Hugging Face Hub, write hf: org/name")),
        "s3" | "gs" => {
            Err(invalid("give the object's https:// address, presigned if it is private"))
        }
        _ => Err(invalid("the address must begin with http:// or https://")),
    }
}

/// The file's name: the last segment of the URL, decoded. A name that would be a path is refused,
/// since the file is written under it on the other side.
/// The name of a file from the last segment of a URL's path, as it is written there.
pub fn decode_file_name(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

fn file_name_from_url(url: &Url) -> Result<String> {
    let last =
        url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    let title = decode_file_name(last);
    // `%2f` and `..` were decoded just above, so they must be checked after that.
    let is_name = !matches!(title.as_str(), "" | "." | "..")
        && !title.contains(|sign: char| sign.is_control() || matches!(sign, '/' | '\\'));
    if is_name {
        return Ok(title);
    }
    Err(Error::Net {
        what: types::redact_urls(url.as_str()),
        cause: net::Error::Url {
            text: url.to_string(),
            reason: "the address must end with a file name, such as https://example.org/model.gguf"
                .into(),
        },
    })
}

/// The length of the file at the URL; `None` when the server does not give it. Some servers do not
/// support HEAD, and presigned S3 URLs are valid for GET only: then the first byte is requested,
/// and the total is in `Content-Range: bytes 0-0/TOTAL` (RFC 9110, section 14.4).
async fn find_length(client: &Client, url: &str) -> Result<Option<u64>> {
    let mut head = build_file_request(url)?;
    head.set_method(Method::HEAD);
    let answer = client.send(&head, RepeatPolicy::Safe).await.map_err(Error::from_net(url))?;
    match answer.status() {
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Error::NotFound {
            what: types::redact_urls(url),
            hint: "check the address, for example in a browser".into(),
        }),
        status if status.is_success() => Ok(answer.content_length()),
        // Also 401 and 403: a presigned URL refuses HEAD with them. If GET fails too, its error is
        // told.
        _ => {
            let first = build_file_request(url)?
                .header(header::RANGE, HeaderValue::from_static("bytes=0-0"));
            let answer =
                client.send(&first, RepeatPolicy::Safe).await.map_err(Error::from_net(url))?;
            let answer = answer.require_success().await.map_err(Error::from_net(url))?;
            let total = answer.header("content-range").and_then(|range| range.rsplit_once('/'));
            Ok(match total {
                Some((_, total)) => total.parse().ok(),
                // A server without ranges answers with the whole file, whose length is the total.
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
            ("/models/a.gguf", "full address"),
        ] {
            let error = build_file_request(url).err().unwrap().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn a_file_is_called_by_the_last_segment() {
        let title_of = |url: &str| file_name_from_url(&Url::parse(url).unwrap());
        assert_eq!(title_of("https://x.example/a/b%20c.gguf?sig=1").unwrap(), "b c.gguf");
        assert!(title_of("https://x.example/a/").is_err());
        assert!(title_of("https://x.example/a/..%2f..%2fetc").is_err());
    }
}
