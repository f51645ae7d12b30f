//! Uploads one blob to a registry: by a mount from another repository, or by an upload that is
//! resumed after an interruption (distribution-spec 1.1, "Pushing blobs").
//!
//! ```text
//! POST uploads/?mount=…  ─▶ 201 mounted, done
//!        └▶ 202 session ─▶ PUT of all bytes ─▶ 201 done
//!                             └ interrupted ─▶ GET session: Range 0-N ─▶ PATCH the rest ─▶ PUT
//!                                                └ 404 ─▶ a new session, from the start
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use net::{HttpRequest, HttpResponse, RepeatPolicy, RequestBody};
use store::{PutResult, Source, TransferCallback};
use types::{Descriptor, Digest};

use super::registry::{RegistryClient, RegistryScope};
use crate::{Error, Result};

/// The upload of one blob to one repository.
pub(super) struct BlobUpload<'a> {
    registry: &'a RegistryClient,
    repository: &'a str,
    digest: Digest,
    size: u64,
    from: Arc<dyn Source>,
    moved: TransferCallback,
    /// The offset up to which progress was reported: bytes that are sent again are not reported
    /// again.
    told: Arc<AtomicU64>,
}

impl<'a> BlobUpload<'a> {
    pub(super) fn new(
        registry: &'a RegistryClient,
        repository: &'a str,
        blob: &Descriptor,
        from: Arc<dyn Source>,
        moved: TransferCallback,
    ) -> Self {
        let (digest, size, told) = (blob.digest, blob.size, Arc::default());
        Self { registry, repository, digest, size, from, moved, told }
    }

    /// Uploads the blob, or mounts it from the repository `other`, where the registry supports
    /// that.
    pub(super) async fn send_or_mount(self, other: Option<&str>) -> Result<PutResult> {
        let what = format!("pushing {}/{}@{}", self.registry.host(), self.repository, self.digest);
        let (mut begun, mut offset) = (self.open_session(&what, other).await?, 0);
        let mut cuts = UploadInterruptions::new();
        loop {
            let session = match begun {
                UploadStart::Mounted => return Ok(PutResult::Linked),
                UploadStart::Session(session) => *session,
            };
            match self.send_from(&what, &session, offset).await {
                Ok(()) => return Ok(PutResult::Moved),
                Err(error) => cuts.record(error, offset)?,
            }
            if !self.registry.client().wait_before_retry(cuts.in_a_row).await {
                return Err(cuts.into_error(what, session.redacted_url()));
            }
            (begun, offset) = match self.query_offset(&session).await {
                Some((session, at)) => {
                    // Progress resets the patience: only attempts without any gain count.
                    if at > offset {
                        cuts.in_a_row = 0;
                    }
                    (UploadStart::Session(Box::new(session)), at)
                }
                // docker-registry 2.8 signs the offset into the session's address, and discards the
                // session when an interrupted request left more bytes than that: start again.
                None => (self.open_session(&what, None).await?, 0),
            };
        }
    }

    /// Opens an upload session; a registry that supports mounts may answer that it has mounted the
    /// blob from `other`.
    async fn open_session(&self, what: &str, other: Option<&str>) -> Result<UploadStart> {
        let mut request = self.registry.build_request(
            Method::POST,
            self.repository,
            "blobs/uploads/",
            RegistryScope::Push,
        )?;
        // A registry that cannot mount ignores both parameters and opens a session.
        if let Some(other) = other {
            request = request.query("mount", &self.digest.to_string()).query("from", other);
            // The token must allow to read the other repository as well.
            let mut access =
                self.registry.access_to_repository(self.repository, RegistryScope::Push);
            access.scope = format!("{} repository:{other}:pull", access.scope);
            request = request.access(access);
        }
        let response = self
            .registry
            .client()
            .send(&request, RepeatPolicy::Safe)
            .await
            .map_err(Error::from_net(what))?
            .require_success()
            .await
            .map_err(Error::from_net(what))?;
        if response.status() == StatusCode::CREATED {
            return Ok(UploadStart::Mounted);
        }
        Ok(UploadStart::Session(Box::new(follow_location(&request, &response, what)?)))
    }

    /// Sends the bytes from `offset` on in one request and closes the session. From the start that
    /// is a single PUT; after an interruption it is a PATCH of the rest and a PUT without a body.
    async fn send_from(&self, what: &str, session: &HttpRequest, offset: u64) -> Result<()> {
        let digest = self.digest.to_string();
        let octets = HeaderValue::from_static("application/octet-stream");
        let mut close = session.clone();
        close.set_method(Method::PUT);
        if offset == 0 {
            let request = close
                .header(header::CONTENT_TYPE, octets)
                .query("digest", &digest)
                .body(self.body_from(0));
            return self
                .close_session(what, &request)
                .await
                .map_err(|error| self.explain_mismatch(error));
        }
        if offset < self.size {
            let mut patch = session.clone();
            patch.set_method(Method::PATCH);
            // The registry's form of the header, without `bytes` and the total (distribution-spec
            // 1.1).
            let range = format!("{offset}-{}", self.size - 1);
            if let Ok(value) = HeaderValue::from_str(&range) {
                patch = patch.header(header::CONTENT_RANGE, value);
            }
            let patch = patch.header(header::CONTENT_TYPE, octets).body(self.body_from(offset));
            let client = self.registry.client();
            let response =
                client.send(&patch, RepeatPolicy::PutOff).await.map_err(Error::from_net(what))?;
            let response = response.require_success().await.map_err(Error::from_net(what))?;
            close = follow_location(session, &response, what)?;
            close.set_method(Method::PUT);
        }
        self.close_session(what, &close.query("digest", &digest)).await
    }

    async fn close_session(&self, what: &str, request: &HttpRequest) -> Result<()> {
        let client = self.registry.client();
        let response =
            client.send(request, RepeatPolicy::PutOff).await.map_err(Error::from_net(what))?;
        response.require_success().await.map(|_| ()).map_err(Error::from_net(what))
    }

    /// Explains a wrong digest after a single complete request: then the content that was read does
    /// not have the digest of its descriptor. (After a resumed upload the registry may have
    /// miscounted; see [`UploadInterruptions::record`].)
    fn explain_mismatch(&self, error: Error) -> Error {
        match error {
            Error::Net { cause: net::Error::Status { status: 400, message, .. }, .. }
                if message.contains("DIGEST_INVALID") =>
            {
                let registry = self.registry.host().to_owned();
                Error::UploadMismatch { registry, digest: self.digest.to_string(), message }
            }
            other => other,
        }
    }

    /// Asks how many bytes the registry has of the upload. `None` when the session is gone, or when
    /// it has to start again for another reason.
    async fn query_offset(&self, session: &HttpRequest) -> Option<(HttpRequest, u64)> {
        let mut request = session.clone();
        request.set_method(Method::GET);
        let response = self.registry.client().send(&request, RepeatPolicy::Safe).await.ok()?;
        if response.status() != StatusCode::NO_CONTENT {
            return None;
        }
        let next = follow_location(session, &response, "").ok()?;
        // `Range: 0-<last byte>`; `0-0` is also what distribution sends when it has nothing.
        let (_, last) = response.header("range")?.trim_start_matches("bytes=").split_once('-')?;
        let last: u64 = last.trim().parse().ok()?;
        let offset = if last == 0 { 0 } else { last + 1 };
        // At offset 0 the old session is not used again: it may hold bytes that it did not report,
        // and a PUT of the whole blob would come after them.
        (offset <= self.size && offset > 0).then_some((next, offset))
    }

    /// A request body with the bytes from `offset` on, opened again for each attempt of the client.
    fn body_from(&self, offset: u64) -> RequestBody {
        let (from, digest, size) = (Arc::clone(&self.from), self.digest, self.size);
        let (moved, told) = (Arc::clone(&self.moved), Arc::clone(&self.told));
        let open = move || -> BoxStream<'static, io::Result<Bytes>> {
            let (from, moved, told) = (Arc::clone(&from), Arc::clone(&moved), Arc::clone(&told));
            let mut position = offset;
            net::body::stream_reader(move || {
                from.open_blob(&digest, offset..size).map_err(io::Error::other)
            })
            .inspect(move |chunk| {
                position += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                // Only what is beyond the farthest attempt so far is progress.
                let before = told.fetch_max(position, Ordering::Relaxed);
                if position > before {
                    moved(position - before);
                }
            })
            .boxed()
        };
        RequestBody::Stream { length: self.size - offset, open: Arc::new(open) }
    }
}

/// The response to the request that begins an upload.
enum UploadStart {
    Mounted,
    Session(Box<HttpRequest>),
}

/// A request for the address in the response's `Location` header. It changes with every request of
/// a session, since registries keep the upload's state in it.
fn follow_location(
    request: &HttpRequest,
    response: &HttpResponse,
    what: &str,
) -> Result<HttpRequest> {
    let location = response.header("location").map(str::to_owned).ok_or_else(|| Error::Net {
        what: what.to_owned(),
        cause: net::Error::Range {
            url: request.redacted_url(),
            reason: "the registry opened an upload, but sent no Location header with its address"
                .into(),
        },
    })?;
    let mut next = request.clone();
    next.follow_location(&location).map_err(Error::from_net(what))?;
    Ok(next)
}

/// The interruptions of one upload so far, for the decision to go on and for the final error.
struct UploadInterruptions {
    started: Instant,
    in_a_row: u32,
    attempts: Vec<net::RequestAttempt>,
}

impl UploadInterruptions {
    fn new() -> Self {
        Self { started: Instant::now(), in_a_row: 0, attempts: Vec::new() }
    }

    /// Notes a failure after which the upload may go on, and hands every other one back. It may
    /// when the connection broke, when the registry had a fault of its own or lost the session (it
    /// was restarted), and when it miscounted over a cut, which shows in the digest at the end.
    fn record(&mut self, error: Error, offset: u64) -> Result<()> {
        let cause: types::Cause = match &error {
            Error::Net { cause: net::Error::Request { attempts, .. }, .. } => {
                attempts.last().map_or_else(|| "".into(), |attempt| attempt.cause.clone())
            }
            Error::Net { cause: net::Error::Status { status: 404 | 416, message, .. }, .. } => {
                format!("the upload was lost ({message})").into()
            }
            Error::Net { cause: net::Error::Status { status: 400, message, .. }, .. }
                if offset > 0 && message.contains("DIGEST_INVALID") =>
            {
                format!("the resumed parts did not fit together ({message})").into()
            }
            _ => return Err(error),
        };
        tracing::info!(target: "gantry", "{error}; resuming the upload");
        self.in_a_row += 1;
        self.attempts.push(net::RequestAttempt { after: self.started.elapsed(), cause });
        Ok(())
    }

    fn into_error(self, what: String, url: String) -> Error {
        let (method, attempts) = ("PUT".to_owned(), self.attempts);
        Error::Net {
            what,
            cause: net::Error::Request { method, url, attempts, unreachable: false },
        }
    }
}
