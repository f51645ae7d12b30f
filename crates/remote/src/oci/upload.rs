//! Uploads one blob to a registry: by a mount from another repository, or by an upload that goes on
//! after an interruption, also one of an earlier run (distribution-spec 1.1, "Pushing blobs").
//!
//! ```text
//! POST uploads/?mount=…  ─▶ 201 mounted, done
//!   │    └ refused ─▶ POST uploads/
//!   └▶ 202 session ─▶ short blob: PUT of all bytes ─▶ 201 done
//!            │
//!            └▶ PATCH of a piece, and of the next … ─▶ PUT without a body ─▶ 201 done
//!                  │ interrupted, or killed: the last confirmed address is kept
//!                  └▶ GET session: Range 0-N ─▶ PATCH from N + 1 on …
//!                        └ the registry has lost it ─▶ a new session, from the start
//! ```
//!
//! docker-registry 2.8 signs the offset into the address and keeps what arrived of an interrupted
//! piece: then no address fits what it has, and it knows the upload no more (404), not even to
//! cancel it. It resumes only between two pieces: after a run that was asked to stop, or behind a
//! proxy that passes on whole requests (nginx does). What it has lost is sent again, and told.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use net::{HttpRequest, HttpResponse, RepeatPolicy, RequestBody};
use store::{PutResult, Source, TransferCallback};
use types::{Descriptor, Digest, DigestAlgorithm};

use super::registry::{RegistryClient, RegistryScope};
use super::upload_failure::{UploadFailure, UploadInterruptions};
use super::upload_session_folder::KeptUploadFile;
use super::upload_state::UploadState;
use crate::{Error, Result};

/// How often the waits of the retry policy are waited for a blob that the registry was closing when
/// the connection broke: about a minute.
const CLOSING_ROUNDS: u32 = 6;

/// The upload of one blob to one repository.
pub(super) struct BlobUpload<'a> {
    registry: &'a RegistryClient,
    state: &'a UploadState,
    repository: &'a str,
    digest: Digest,
    size: u64,
    from: Arc<dyn Source>,
    moved: TransferCallback,
    /// The offset up to which progress was reported: bytes that are sent again are not reported
    /// again.
    told: Arc<AtomicU64>,
    /// What messages call the upload.
    what: String,
}

/// How far an upload has come.
struct UploadPosition {
    /// A request for the session's present address.
    session: HttpRequest,
    /// The bytes that the registry has confirmed.
    offset: u64,
    /// The shortest piece that the registry takes (`OCI-Chunk-Min-Length`).
    least_piece: u64,
    /// The length of the last request's body.
    sent: u64,
    /// Whether all bytes were sent, so that the blob may be there although no answer said so.
    is_closing: bool,
    /// Whether the bytes were sent without an interruption, so that a wrong digest is the source's.
    is_straight: bool,
}

impl<'a> BlobUpload<'a> {
    pub(super) fn new(
        (registry, state): (&'a RegistryClient, &'a UploadState),
        repository: &'a str,
        blob: &Descriptor,
        from: Arc<dyn Source>,
        moved: TransferCallback,
    ) -> Self {
        let (digest, size, told) = (blob.digest, blob.size, Arc::default());
        let what = format!("pushing {}/{repository}@{digest}", registry.host());
        Self { registry, state, repository, digest, size, from, moved, told, what }
    }

    /// Uploads the blob, or mounts it from the repository `other`, where the registry supports
    /// that.
    pub(super) async fn send_or_mount(self, other: Option<&str>) -> Result<PutResult> {
        if self.state.is_stopping() {
            return Err(Error::Stopped);
        }
        let kept = self.take_kept_file();
        let mut begun = None;
        if let Some(other) = other.filter(|_| self.state.takes_mounts()) {
            match self.try_mount(other).await {
                Some(UploadStart::Mounted) if !self.is_mounted().await? => {}
                Some(UploadStart::Mounted) => {
                    self.discard_kept_upload(kept).await;
                    return Ok(PutResult::Linked);
                }
                Some(UploadStart::Session(position)) => begun = Some(*position),
                None => {}
            }
        }
        let resumed = match &kept {
            Some(file) => self.resume_kept_upload(file).await,
            None => None,
        };
        let position = match (resumed, begun) {
            (Some(position), opened) => {
                if let Some(opened) = opened {
                    self.cancel_session(&opened.session).await;
                }
                position
            }
            (None, Some(position)) => position,
            (None, None) => self.open_session().await?,
        };
        let sent = self.send_until_done(position, kept.as_ref()).await;
        if sent.is_ok()
            && let Some(file) = kept
        {
            file.remove_file();
        }
        sent.map(|()| PutResult::Moved)
    }

    /// Whether a mount that the registry confirmed has the blob under its digest. docker-registry 2.8
    /// mounts a sha512, and has it under its sha256 alone then.
    async fn is_mounted(&self) -> Result<bool> {
        match self.digest.algorithm() {
            DigestAlgorithm::Sha256 => Ok(true),
            DigestAlgorithm::Sha512 => self.registry.has_blob(self.repository, &self.digest).await,
        }
    }

    /// Sends the blob, with new attempts after what an upload can survive.
    async fn send_until_done(
        &self,
        mut position: UploadPosition,
        kept: Option<&KeptUploadFile>,
    ) -> Result<()> {
        let mut cuts = UploadInterruptions::new();
        let mut farthest = position.offset;
        loop {
            let Err(error) = self.send_rest(&mut position, kept).await else { return Ok(()) };
            // Progress resets the patience: only attempts without any gain count. What was sent
            // before and lost is no gain.
            if position.offset > farthest {
                farthest = position.offset;
                cuts.forgive();
            }
            let sent = position.sent;
            let (cause, may_go_on) = match UploadFailure::from_error(error, position.is_straight) {
                UploadFailure::Final(error) => return Err(self.explain_failure(error, sent)),
                UploadFailure::TooLong(error) => {
                    if !self.state.shorten_pieces(sent, position.least_piece) {
                        return Err(self.explain_failure(error, sent));
                    }
                    (None, true)
                }
                UploadFailure::Cut(cause) => (Some(cause), true),
                UploadFailure::Lost(cause) => (Some(cause), false),
                UploadFailure::NoPieces(cause) => {
                    self.state.refuse_pieces();
                    (Some(cause), false)
                }
            };
            if let Some(cause) = cause
                && !self.wait_before_retry(&mut cuts, &cause).await
            {
                return Err(cuts.into_error(self.what.clone(), &position.session));
            }
            if may_go_on && cuts.in_a_row() > 2 {
                // A proxy may break connections whose bodies it does not take.
                self.state.shorten_pieces(sent, position.least_piece);
            }
            let may_be_done = position.is_closing && self.is_all_sent();
            if may_be_done && self.is_there().await {
                return Ok(());
            }
            let resumed = match may_go_on {
                true => self.query_offset(&position.session).await,
                false => None,
            };
            if may_be_done && may_go_on && resumed.is_none() && self.comes_to_be_there().await {
                return Ok(());
            }
            position = match resumed {
                Some((session, offset)) if offset > 0 => UploadPosition {
                    session,
                    offset,
                    is_closing: false,
                    is_straight: false,
                    ..position
                },
                // At offset 0 the old session is not used again: it may hold bytes that it did not
                // report, and a PUT of the whole blob would come after them.
                _ => self.restart_upload(position, kept).await?,
            };
        }
    }

    async fn wait_before_retry(
        &self,
        cuts: &mut UploadInterruptions,
        cause: &types::Cause,
    ) -> bool {
        tracing::info!(target: "gantry", "{}: {cause}; resuming the upload", self.what);
        cuts.record(cause.clone());
        self.registry.client().wait_before_retry(cuts.in_a_row()).await
    }

    /// Whether the last byte was handed to a connection.
    fn is_all_sent(&self) -> bool {
        self.told.load(Ordering::Relaxed) >= self.size
    }

    async fn is_there(&self) -> bool {
        self.registry.has_blob(self.repository, &self.digest).await.unwrap_or(false)
    }

    /// Whether the registry has the blob after some time: it may still be moving it into its place
    /// when a proxy has lost patience.
    async fn comes_to_be_there(&self) -> bool {
        for _ in 0..CLOSING_ROUNDS {
            let mut failures = 1;
            while self.registry.client().wait_before_retry(failures).await {
                if self.is_there().await {
                    return true;
                }
                failures += 1;
            }
        }
        false
    }

    async fn restart_upload(
        &self,
        position: UploadPosition,
        kept: Option<&KeptUploadFile>,
    ) -> Result<UploadPosition> {
        if let Some(file) = kept {
            file.clear_upload();
        }
        self.cancel_session(&position.session).await;
        if position.offset > 0 {
            self.state.record_restart(self.repository, self.digest, position.offset);
        }
        self.open_session().await
    }

    /// Asks the registry to mount the blob from another repository. `None` when it refuses: a mount
    /// is only a shortcut, and what registries answer to one that they do not allow is anything
    /// (403, 404, 405, 400, 401, 500).
    async fn try_mount(&self, other: &str) -> Option<UploadStart> {
        let request = self.open_request().ok()?;
        let mut access = self.registry.access_to_repository(self.repository, RegistryScope::Push);
        // The token must allow to read the other repository as well.
        access.scope = format!("{} repository:{other}:pull", access.scope);
        let request =
            request.query("mount", &self.digest.to_string()).query("from", other).access(access);
        let answer = self.registry.client().send_without_retry(&request).await;
        match answer.map(|response| (response.status(), response)) {
            Ok((StatusCode::CREATED, _)) => Some(UploadStart::Mounted),
            // A registry that cannot mount ignores both parameters and opens a session.
            Ok((StatusCode::ACCEPTED, response)) => {
                let position = self.position_from(&request, &response).ok()?;
                Some(UploadStart::Session(Box::new(position)))
            }
            Ok((status, _)) => {
                tracing::info!(target: "gantry", "{}: the mount from {other} is refused ({status})", self.what);
                // Others than these may be about this one blob, or this moment.
                if matches!(status.as_u16(), 403 | 405 | 501) {
                    self.state.refuse_mounts();
                }
                None
            }
            Err(_) => None,
        }
    }

    fn open_request(&self) -> Result<HttpRequest> {
        let path = "blobs/uploads/";
        self.registry.build_request(Method::POST, self.repository, path, RegistryScope::Push)
    }

    async fn open_session(&self) -> Result<UploadPosition> {
        let request = self.open_request()?;
        let client = self.registry.client();
        let response = client.send(&request, RepeatPolicy::Safe).await;
        let response = response.map_err(Error::from_net(&self.what))?;
        let response = response.require_success().await.map_err(Error::from_net(&self.what))?;
        self.position_from(&request, &response)
    }

    fn position_from(
        &self,
        request: &HttpRequest,
        response: &HttpResponse,
    ) -> Result<UploadPosition> {
        let least = response.header("oci-chunk-min-length").and_then(|text| text.parse().ok());
        Ok(UploadPosition {
            session: follow_location(request, response, &self.what)?,
            offset: 0,
            least_piece: least.unwrap_or(0),
            sent: 0,
            is_closing: false,
            is_straight: true,
        })
    }

    /// The file that keeps this upload. A blob that fits into one request is not kept.
    fn take_kept_file(&self) -> Option<KeptUploadFile> {
        if self.size <= self.state.piece_length(0) {
            return None;
        }
        self.state.take_file(self.registry.host(), self.repository, &self.digest)
    }

    /// Goes on with the upload of an earlier run, if the registry still has it.
    async fn resume_kept_upload(&self, file: &KeptUploadFile) -> Option<UploadPosition> {
        let kept = file.read_upload()?;
        let mut session = self.open_request().ok()?;
        session.follow_location(&kept.location).ok()?;
        match self.query_offset(&session).await {
            Some((session, offset)) if offset > 0 => {
                self.told.store(offset, Ordering::Relaxed);
                let least_piece = kept.least_piece;
                Some(UploadPosition {
                    session,
                    offset,
                    least_piece,
                    sent: 0,
                    is_closing: false,
                    is_straight: false,
                })
            }
            _ => {
                file.clear_upload();
                self.cancel_session(&session).await;
                self.state.record_restart(self.repository, self.digest, kept.offset);
                None
            }
        }
    }

    /// Frees what the registry holds of an earlier run's upload that is not needed any more.
    async fn discard_kept_upload(&self, file: Option<KeptUploadFile>) {
        let Some(file) = file else { return };
        if let Some(kept) = file.read_upload()
            && let Ok(mut session) = self.open_request()
            && session.follow_location(&kept.location).is_ok()
        {
            self.cancel_session(&session).await;
        }
        file.remove_file();
    }

    /// Tells the registry that a session is not needed any more. One that cannot cancel drops it by
    /// itself after some time.
    async fn cancel_session(&self, session: &HttpRequest) {
        let mut cancel = session.clone();
        cancel.set_method(Method::DELETE);
        let _ = self.registry.client().send_without_retry(&cancel).await;
    }

    /// Sends what is missing and closes the session: a short blob in one PUT, a longer one in pieces.
    async fn send_rest(
        &self,
        position: &mut UploadPosition,
        kept: Option<&KeptUploadFile>,
    ) -> Result<()> {
        let is_one = position.offset == 0
            && (!self.state.takes_pieces()
                || self.size <= self.state.piece_length(position.least_piece));
        let body = if is_one { self.size } else { 0 };
        while !is_one && position.offset < self.size {
            if self.state.is_stopping() {
                return Err(Error::Stopped);
            }
            self.send_piece(position).await?;
            if let Some(file) = kept {
                let location = position.session.url().as_str();
                file.write_upload(location, position.offset, position.least_piece);
            }
        }
        (position.sent, position.is_closing) = (body, true);
        let mut close = position.session.clone().query("digest", &self.digest.to_string());
        close.set_method(Method::PUT);
        if is_one {
            close = close.header(header::CONTENT_TYPE, octets()).body(self.body_of(0, self.size));
        }
        let client = self.registry.client();
        let response = client.send(&close, RepeatPolicy::PutOff).await;
        let response = response.map_err(Error::from_net(&self.what))?;
        response.require_success().await.map(|_| ()).map_err(Error::from_net(&self.what))
    }

    /// Sends the next piece, and moves the position to where the registry says that it is.
    async fn send_piece(&self, position: &mut UploadPosition) -> Result<()> {
        let start = position.offset;
        let longest = match self.state.takes_pieces() {
            true => self.state.piece_length(position.least_piece),
            // A registry that holds the beginning of a blob all the same.
            false => self.size,
        };
        let length = longest.min(self.size - start);
        position.sent = length;
        let mut patch = position.session.clone();
        patch.set_method(Method::PATCH);
        // The registry's form of the header, without `bytes` and the total (distribution-spec 1.1).
        let range = format!("{start}-{}", start + length - 1);
        if let Ok(value) = HeaderValue::from_str(&range) {
            patch = patch.header(header::CONTENT_RANGE, value);
        }
        let patch = patch.header(header::CONTENT_TYPE, octets()).body(self.body_of(start, length));
        let begun = Instant::now();
        let client = self.registry.client();
        let response = client.send(&patch, RepeatPolicy::PutOff).await;
        let response = response.map_err(Error::from_net(&self.what))?;
        let response = response.require_success().await.map_err(Error::from_net(&self.what))?;
        // A registry that sends no new address has the same one still.
        if response.header("location").is_some() {
            position.session = follow_location(&position.session, &response, &self.what)?;
        }
        position.offset = match confirmed_offset(&response) {
            None => start + length,
            Some(offset) if offset > start && offset <= start + length => offset,
            Some(offset) => {
                return Err(Error::UploadOffset { what: self.what.clone(), start, length, offset });
            }
        };
        self.state.record_piece(length, begun.elapsed());
        Ok(())
    }

    /// Explains a wrong digest after an upload without an interruption (then the content that was
    /// read does not have the digest of its descriptor), and a body of `sent` bytes that is too long
    /// for what is between this machine and the registry.
    fn explain_failure(&self, error: Error, sent: u64) -> Error {
        match error {
            Error::Net { cause: net::Error::Status { status: 400, message, .. }, .. }
                if message.contains("DIGEST_INVALID") =>
            {
                let registry = self.registry.host().to_owned();
                Error::UploadMismatch { registry, digest: self.digest.to_string(), message }
            }
            Error::Net { what, cause: cause @ net::Error::Status { status: 413, .. } } => {
                Error::BodyLimit { what, size: types::ByteSize(sent), cause }
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
        let next = match response.header("location") {
            Some(_) => follow_location(session, &response, "").ok()?,
            None => session.clone(),
        };
        let offset = confirmed_offset(&response)?;
        (offset <= self.size).then_some((next, offset))
    }

    /// A request body with `length` bytes from `offset` on, opened again for each attempt of the
    /// client.
    fn body_of(&self, offset: u64, length: u64) -> RequestBody {
        let (from, digest) = (Arc::clone(&self.from), self.digest);
        let (moved, told) = (Arc::clone(&self.moved), Arc::clone(&self.told));
        let open = move || -> BoxStream<'static, io::Result<Bytes>> {
            let (from, moved, told) = (Arc::clone(&from), Arc::clone(&moved), Arc::clone(&told));
            let mut position = offset;
            net::body::stream_reader(net::body::ReadAhead::AtOnce, move || {
                from.open_blob(&digest, offset..offset + length).map_err(io::Error::other)
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
        RequestBody::Stream { length, open: Arc::new(open) }
    }
}

/// The response to the request that begins an upload.
enum UploadStart {
    Mounted,
    Session(Box<UploadPosition>),
}

fn octets() -> HeaderValue {
    HeaderValue::from_static("application/octet-stream")
}

/// How many bytes a registry has of an upload, by its `Range: 0-<last byte>`. `0-0` is also what
/// distribution sends when it has nothing.
fn confirmed_offset(response: &HttpResponse) -> Option<u64> {
    let (_, last) = response.header("range")?.trim_start_matches("bytes=").split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
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
