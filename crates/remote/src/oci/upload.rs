//! One blob into a registry: mount, or an upload that goes on after a cut (distribution-spec 1.1,
//! "Pushing blobs").

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use net::{Body, Repeat, Request, Response};
use store::{Moved, Put, Source};
use types::Digest;

use super::registry::{Registry, Scope};
use crate::{Error, Result};

/// Tries of an upload that is cut; each goes on from where the registry says it is.
const MOST_TRIES: u32 = 6;

/// A blob on its way to a repository.
pub(super) struct Upload<'a> {
    pub(super) registry: &'a Registry,
    pub(super) repository: &'a str,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) from: Arc<dyn Source>,
    pub(super) moved: Moved,
}

impl Upload<'_> {
    /// Puts the blob, by a mount from `other` where the registry can.
    pub(super) async fn run(self, other: Option<&str>) -> Result<Put> {
        let what = format!("pushing {}/{}@{}", self.registry.host(), self.repository, self.digest);
        let mut session = match self.begin(&what, other).await? {
            Begun::Mounted => return Ok(Put::Linked),
            Begun::Session(session) => *session,
        };
        let mut offset = 0;
        for attempt in 1.. {
            let error = match self.send(&what, &session, offset).await {
                Ok(()) => return Ok(Put::Moved),
                Err(error) => error,
            };
            if attempt == MOST_TRIES || !is_cut(&error) {
                return Err(error);
            }
            tracing::info!(target: "gantry", "{error}; going on");
            (session, offset) = match self.status(&session).await {
                Some(state) => state,
                None => match self.begin(&what, None).await? {
                    Begun::Mounted => return Ok(Put::Linked),
                    Begun::Session(session) => (*session, 0),
                },
            };
        }
        Ok(Put::Moved)
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
            return self.finish(what, &request).await;
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
            let response = client.send(&patch, Repeat::Never).await.map_err(Error::net(what))?;
            let response = response.success().await.map_err(Error::net(what))?;
            close = follow(session, &response, what)?;
            close.set_method(Method::PUT);
        }
        self.finish(what, &close.query("digest", &digest)).await
    }

    async fn finish(&self, what: &str, request: &Request) -> Result<()> {
        let client = self.registry.client();
        let response = client.send(request, Repeat::Never).await.map_err(Error::net(what))?;
        response.success().await.map(|_| ()).map_err(Error::net(what))
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

    fn body(&self, offset: u64) -> Body {
        let (from, digest, size, moved) =
            (Arc::clone(&self.from), self.digest, self.size, Arc::clone(&self.moved));
        let open = move || -> BoxStream<'static, io::Result<Bytes>> {
            let (from, moved) = (Arc::clone(&from), Arc::clone(&moved));
            net::body::stream(move || {
                from.open(&digest, offset..size)
                    .map_err(|error| io::Error::other(error.to_string()))
            })
            .inspect(move |chunk| {
                if let Ok(chunk) = chunk {
                    moved(chunk.len() as u64);
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

/// Whether the upload may go on after this failure: the connection broke, or the registry was busy.
fn is_cut(error: &Error) -> bool {
    matches!(error, Error::Net { cause: net::Error::Request { .. }, .. })
}
