//! One blob into a registry: mount, or an upload that goes on after a cut (distribution-spec 1.1,
//! "Pushing blobs").

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use net::{Body, Repeat, Request, Response};
use store::{Moved, Put, Source};
use types::{Descriptor, Digest};

use super::registry::{Registry, Scope};
use crate::{Error, Result};

/// A blob on its way to a repository.
pub(super) struct Upload<'a> {
    registry: &'a Registry,
    repository: &'a str,
    digest: Digest,
    size: u64,
    from: Arc<dyn Source>,
    moved: Moved,
    /// How far the progress was told.
    told: Arc<AtomicU64>,
}

impl<'a> Upload<'a> {
    pub(super) fn new(
        registry: &'a Registry,
        repository: &'a str,
        blob: &Descriptor,
        from: Arc<dyn Source>,
        moved: Moved,
    ) -> Self {
        let (digest, size, told) = (blob.digest, blob.size, Arc::default());
        Self { registry, repository, digest, size, from, moved, told }
    }

    /// Puts the blob, by a mount from `other` where the registry can.
    pub(super) async fn run(self, other: Option<&str>) -> Result<Put> {
        let what = format!("pushing {}/{}@{}", self.registry.host(), self.repository, self.digest);
        let (mut begun, mut offset) = (self.begin(&what, other).await?, 0);
        let mut cuts = Cuts::new();
        loop {
            let session = match begun {
                Begun::Mounted => return Ok(Put::Linked),
                Begun::Session(session) => *session,
            };
            match self.send(&what, &session, offset).await {
                Ok(()) => return Ok(Put::Moved),
                Err(error) => cuts.note(error, offset)?,
            }
            if !self.registry.client().pause(cuts.in_a_row).await {
                return Err(cuts.into_error(what, session.shown()));
            }
            (begun, offset) = match self.status(&session).await {
                Some((session, at)) => {
                    if at > offset {
                        cuts.in_a_row = 0;
                    }
                    (Begun::Session(Box::new(session)), at)
                }
                // docker-registry 2.8 signs the offset into the session's address, and throws the
                // session away when a cut request left more than that: it has to start anew.
                None => (self.begin(&what, None).await?, 0),
            };
        }
    }

    /// Opens an upload session; a registry that can mounts the blob instead.
    async fn begin(&self, what: &str, other: Option<&str>) -> Result<Begun> {
        let mut request =
            self.registry.request(Method::POST, self.repository, "blobs/uploads/", Scope::Push)?;
        if let Some(other) = other {
            request = request.query("mount", &self.digest.to_string()).query("from", other);
            let mut access = self.registry.access(self.repository, Scope::Push);
            access.scope = format!("{} repository:{other}:pull", access.scope);
            request = request.access(access);
        }
        let response = self
            .registry
            .client()
            .send(&request, Repeat::Safe)
            .await
            .map_err(Error::net(what))?
            .success()
            .await
            .map_err(Error::net(what))?;
        if response.status() == StatusCode::CREATED {
            return Ok(Begun::Mounted);
        }
        Ok(Begun::Session(Box::new(follow(&request, &response, what)?)))
    }

    /// Sends the bytes from the offset on in one request, and closes the upload. From the start
    /// that is one PUT; later a PATCH of the rest, then a PUT without a body.
    async fn send(&self, what: &str, session: &Request, offset: u64) -> Result<()> {
        let digest = self.digest.to_string();
        let octets = HeaderValue::from_static("application/octet-stream");
        let mut close = session.clone();
        close.set_method(Method::PUT);
        if offset == 0 {
            let request = close
                .header(header::CONTENT_TYPE, octets)
                .query("digest", &digest)
                .body(self.body(0));
            return self.finish(what, &request).await.map_err(|error| self.mismatch(error));
        }
        if offset < self.size {
            let mut patch = session.clone();
            patch.set_method(Method::PATCH);
            let range = format!("{offset}-{}", self.size - 1);
            if let Ok(value) = HeaderValue::from_str(&range) {
                patch = patch.header(header::CONTENT_RANGE, value);
            }
            let patch = patch.header(header::CONTENT_TYPE, octets).body(self.body(offset));
            let client = self.registry.client();
            let response = client.send(&patch, Repeat::PutOff).await.map_err(Error::net(what))?;
            let response = response.success().await.map_err(Error::net(what))?;
            close = follow(session, &response, what)?;
            close.set_method(Method::PUT);
        }
        self.finish(what, &close.query("digest", &digest)).await
    }

    async fn finish(&self, what: &str, request: &Request) -> Result<()> {
        let client = self.registry.client();
        let response = client.send(request, Repeat::PutOff).await.map_err(Error::net(what))?;
        response.success().await.map(|_| ()).map_err(Error::net(what))
    }

    /// A digest that does not fit after one whole request: what was read is not what was promised.
    fn mismatch(&self, error: Error) -> Error {
        match error {
            Error::Net { cause: net::Error::Status { status: 400, message, .. }, .. }
                if message.contains("DIGEST_INVALID") =>
            {
                let registry = self.registry.host().to_owned();
                Error::Mismatch { registry, digest: self.digest.to_string(), message }
            }
            other => other,
        }
    }

    /// Where the registry is with the upload, or `None` when it knows nothing of it any more.
    async fn status(&self, session: &Request) -> Option<(Request, u64)> {
        let mut request = session.clone();
        request.set_method(Method::GET);
        let response = self.registry.client().send(&request, Repeat::Safe).await.ok()?;
        if response.status() != StatusCode::NO_CONTENT {
            return None;
        }
        let next = follow(session, &response, "").ok()?;
        // `Range: 0-<last byte>`; `0-0` is also what distribution says when there is nothing.
        let (_, last) = response.header("range")?.trim_start_matches("bytes=").split_once('-')?;
        let last: u64 = last.trim().parse().ok()?;
        let offset = if last == 0 { 0 } else { last + 1 };
        // Only a whole session is used from 0; a PUT over a part of the bytes would double them.
        (offset <= self.size && offset > 0).then_some((next, offset))
    }

    /// The bytes from the offset on, opened anew for each try. What goes a second time is not told
    /// as progress again.
    fn body(&self, offset: u64) -> Body {
        let (from, digest, size) = (Arc::clone(&self.from), self.digest, self.size);
        let (moved, told) = (Arc::clone(&self.moved), Arc::clone(&self.told));
        let open = move || -> BoxStream<'static, io::Result<Bytes>> {
            let (from, moved, told) = (Arc::clone(&from), Arc::clone(&moved), Arc::clone(&told));
            let mut position = offset;
            net::body::stream(move || {
                from.open(&digest, offset..size)
                    .map_err(|error| io::Error::other(error.to_string()))
            })
            .inspect(move |chunk| {
                position += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                let before = told.fetch_max(position, Ordering::Relaxed);
                if position > before {
                    moved(position - before);
                }
            })
            .boxed()
        };
        Body::Stream { length: self.size - offset, open: Arc::new(open) }
    }
}

enum Begun {
    Mounted,
    Session(Box<Request>),
}

/// The request for the address that the registry gave in `Location`.
fn follow(request: &Request, response: &Response, what: &str) -> Result<Request> {
    let location = response.header("location").map(str::to_owned).ok_or_else(|| Error::Net {
        what: what.to_owned(),
        cause: net::Error::Range {
            url: request.shown(),
            reason: "the registry opened an upload without saying where (no Location)".into(),
        },
    })?;
    let mut next = request.clone();
    next.set_path_and_query(&location).map_err(Error::net(what))?;
    Ok(next)
}

/// The cuts of one upload.
struct Cuts {
    started: Instant,
    in_a_row: u32,
    attempts: Vec<net::Attempt>,
}

impl Cuts {
    fn new() -> Self {
        Self { started: Instant::now(), in_a_row: 0, attempts: Vec::new() }
    }

    /// Notes a failure after which the upload may go on, and hands every other one back. It may when
    /// the connection broke, when the registry had a fault of its own or lost the session (it was
    /// restarted), and when it miscounted over a cut, which shows in the digest at the end.
    fn note(&mut self, error: Error, offset: u64) -> Result<()> {
        let cause = match &error {
            Error::Net { cause: net::Error::Request { attempts, .. }, .. } => {
                attempts.last().map(|attempt| attempt.cause.clone()).unwrap_or_default()
            }
            Error::Net { cause: net::Error::Status { status: 404 | 416, message, .. }, .. } => {
                format!("the upload was lost ({message})")
            }
            Error::Net { cause: net::Error::Status { status: 400, message, .. }, .. }
                if offset > 0 && message.contains("DIGEST_INVALID") =>
            {
                format!("what was gone on with does not fit together ({message})")
            }
            _ => return Err(error),
        };
        tracing::info!(target: "gantry", "{error}; going on");
        self.in_a_row += 1;
        self.attempts.push(net::Attempt { after: self.started.elapsed(), cause });
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
