//! An image out of a container engine that speaks the Docker API at a Unix socket (docker, podman's
//! service): own builds that were never pushed anywhere. The engine streams what `docker save`
//! writes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use store::Store;
use store::progress::Progress;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use types::{Platform, Reference};

use super::archive::Archive;
use super::image::{self, Image, Wanted};
use crate::{Error, Result};

/// Largest answer that is no image: the list of all images of a large build machine has some MB.
const MAX_ANSWER: usize = 32 << 20;
/// An engine answers a question at once; only the image itself takes long to begin (podman
/// assembles the archive first).
const ANSWER: Duration = Duration::from_secs(30);
const FIRST_BYTE: Duration = Duration::from_mins(10);

/// Takes an image out of the engine at the socket. It is asked for by its full name, and then as
/// podman calls own builds (`localhost/name`).
pub async fn image_from_engine(
    socket: &Path,
    reference: &Reference,
    platforms: &[Platform],
    store: &Store,
    progress: Arc<dyn Progress>,
) -> Result<Image> {
    let engine = Engine { socket };
    let name = engine.find(reference).await?;
    let spooled = engine.save(&name, store).await?;
    let place = format!("{name} of {}", socket.display());
    let (reference, platforms, store) = (reference.clone(), platforms.to_vec(), store.clone());
    let taken = tokio::task::spawn_blocking(move || {
        let archive = Archive::from_file(place, spooled)?;
        let wanted = Wanted { reference: &reference, platforms: &platforms };
        image::from_archive(archive, wanted, &store, progress.as_ref())
    });
    taken.await.map_err(|error| engine.failed(format!("the work was cut: {error}")))?
}

struct Engine<'a> {
    socket: &'a Path,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "RepoTags")]
    repo_tags: Option<Vec<String>>,
}

impl Engine<'_> {
    /// The name under which the engine has the image.
    async fn find(&self, reference: &Reference) -> Result<String> {
        for name in names(reference) {
            let answer = self.get(&format!("/images/{name}/json"), ANSWER).await?;
            match answer.status() {
                StatusCode::OK => return Ok(name),
                StatusCode::NOT_FOUND => {}
                status => return Err(self.refused(status, answer.into_body()).await),
            }
        }
        let answer = self.get("/images/json", ANSWER).await?;
        let bytes = self.small(answer.into_body()).await?;
        let listed: Vec<Listed> = serde_json::from_slice(&bytes).unwrap_or_default();
        let there: Vec<String> =
            listed.into_iter().flat_map(|image| image.repo_tags.unwrap_or_default()).collect();
        let what = format!("image {reference} in {}", self.socket.display());
        Err(Error::absent(what, &there))
    }

    /// What `docker save` writes, in a nameless file on the store's disk.
    async fn save(&self, name: &str, store: &Store) -> Result<std::fs::File> {
        let answer = self.get(&format!("/images/{name}/get"), FIRST_BYTE).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.refused(answer.status(), answer.into_body()).await);
        }
        let folder = store.path();
        let unwritable = |cause| Error::Write { what: folder.display().to_string(), cause };
        let file = tempfile::tempfile_in(folder).map_err(unwritable)?;
        let mut file = tokio::fs::File::from_std(file);
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.failed(format!("it was cut: {error}")))?;
            if let Some(bytes) = frame.data_ref() {
                file.write_all(bytes).await.map_err(unwritable)?;
            }
        }
        file.flush().await.map_err(unwritable)?;
        Ok(file.into_std().await)
    }

    async fn get(&self, path: &str, patience: Duration) -> Result<http::Response<Incoming>> {
        let stream = UnixStream::connect(self.socket).await.map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                    "; start it (`systemctl start docker`, or `podman system service --time=0 \
                     unix:///run/podman/podman.sock`)"
                }
                std::io::ErrorKind::PermissionDenied => {
                    "; your user must be in the group `docker`, or use podman's socket of your own \
                     (`$XDG_RUNTIME_DIR/podman/podman.sock`)"
                }
                _ => "",
            };
            self.failed(format!("{error}{hint}"))
        })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.failed(error))?;
        // It ends with the answer's body; what it has to say comes out of that.
        tokio::spawn(connection);
        let request = Request::get(path)
            .header(http::header::HOST, "docker")
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.failed(format!("{path}: {error}")))?;
        tokio::time::timeout(patience, sender.send_request(request))
            .await
            .map_err(|_| self.failed(format!("no answer in {} s", patience.as_secs())))?
            .map_err(|error| self.failed(error))
    }

    async fn small(&self, body: Incoming) -> Result<Bytes> {
        let collected = Limited::new(body, MAX_ANSWER).collect().await;
        Ok(collected.map_err(|error| self.failed(error))?.to_bytes())
    }

    async fn refused(&self, status: StatusCode, body: Incoming) -> Error {
        const SHOWN: usize = 300;
        let said = self.small(body).await.unwrap_or_default();
        let said: String = String::from_utf8_lossy(&said).trim().chars().take(SHOWN).collect();
        self.failed(format!("it answers {status}: {said}"))
    }

    fn failed(&self, reason: impl std::fmt::Display) -> Error {
        Error::Local {
            path: self.socket.to_owned(),
            reason: format!("no container engine answers: {reason}"),
        }
    }
}

/// The names under which an engine may have the image.
fn names(reference: &Reference) -> Vec<String> {
    let mut names = vec![reference.to_string()];
    if reference.registry() == "docker.io" {
        let own = reference.repository();
        let own = own.strip_prefix("library/").unwrap_or(own);
        names.push(format!("localhost/{own}:{}", reference.version()));
    }
    names
}
