//! A file at a URL (`url:` under `models:` and `files:`). `gantry lock` finds out its length and,
//! where the input gives no checksum, its sha256.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use net::{AccessScope, Client, HttpRequest, HttpResponse, RepeatPolicy};
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
/// store, unless an earlier lookup has left it there and the server still says the same of it. [`Error::DigestMismatch`] when the content does not have the given `sha256`.
pub async fn look_up_file(
    client: &Client,
    url: &str,
    sha256: Option<Digest>,
    store: &Store,
    progress: &Arc<dyn Progress>,
) -> Result<UrlFile> {
    let parsed = parse_url(url)?;
    let title = file_name_from_url(&parsed)?;
    let state = ask_state(client, url).await?;
    let size = state.size;
    if let (Some(digest), Some(size)) = (sha256, size) {
        return Ok(UrlFile { title, content: Blob { digest, size } });
    }
    let lookup = state.lookup_key(url);
    if let Some(key) = lookup.as_ref().filter(|_| sha256.is_none())
        && let Some((digest, size)) = store.find_lookup(key)
    {
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
        _ => {
            if let Some(key) = lookup {
                store.remember_lookup(&key, &received.blob.digest, received.blob.size);
            }
            Ok(UrlFile { title, content: received.blob })
        }
    }
}

/// What a server says of a file before it sends it.
struct UrlFileState {
    /// The length, where the server gives it.
    size: Option<u64>,
    /// What changes whenever the content does: a strong `ETag`, or the time of the last change.
    validator: Option<String>,
}

/// A time of the last change that is closer to the response than this may hide another change within
/// the same second (RFC 9110, section 8.8.2.2).
const SETTLED: Duration = Duration::from_secs(60);

impl UrlFileState {
    fn new(size: Option<u64>, answer: &HttpResponse) -> Self {
        let etag = answer.header("etag").filter(|etag| !etag.starts_with("W/"));
        let time = |name| httpdate::parse_http_date(answer.header(name)?).ok();
        let changed = answer.header("last-modified").filter(|_| {
            let age =
                time("last-modified").zip(time("date")).map(|(at, now)| now.duration_since(at));
            age.is_some_and(|age| age.is_ok_and(|age| age >= SETTLED))
        });
        let validator = match (etag, changed) {
            (Some(etag), _) => Some(format!("etag {etag}")),
            (None, Some(changed)) => Some(format!("last-modified {changed}")),
            (None, None) => None,
        };
        Self { size, validator }
    }

    /// The key of a lookup of the file in this state; `None` where it could change unnoticed.
    fn lookup_key(&self, url: &str) -> Option<String> {
        let (size, validator) = (self.size?, self.validator.as_ref()?);
        Some(format!("url {}\n{validator}\nlength {size}", types::SecretUrl::new(url)))
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

/// What the server says of the file at the URL. Some servers do not support HEAD, and presigned S3 URLs are valid for GET only: then the first byte is requested,
/// and the total is in `Content-Range: bytes 0-0/TOTAL` (RFC 9110, section 14.4).
async fn ask_state(client: &Client, url: &str) -> Result<UrlFileState> {
    let mut head = build_file_request(url)?;
    head.set_method(Method::HEAD);
    let answer = client.send(&head, RepeatPolicy::Safe).await.map_err(Error::from_net(url))?;
    match answer.status() {
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Error::NotFound {
            what: types::redact_urls(url),
            hint: "check the address, for example in a browser".into(),
        }),
        status if status.is_success() => Ok(UrlFileState::new(answer.content_length(), &answer)),
        // Also 401 and 403: a presigned URL refuses HEAD with them. If GET fails too, its error is
        // told.
        _ => {
            let first = build_file_request(url)?
                .header(header::RANGE, HeaderValue::from_static("bytes=0-0"));
            let answer =
                client.send(&first, RepeatPolicy::Safe).await.map_err(Error::from_net(url))?;
            let answer = answer.require_success().await.map_err(Error::from_net(url))?;
            let total = answer.header("content-range").and_then(|range| range.rsplit_once('/'));
            let size = match total {
                Some((_, total)) => total.parse().ok(),
                // A server without ranges answers with the whole file, whose length is the total.
                None => answer.content_length(),
            };
            Ok(UrlFileState::new(size, &answer))
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
