//! Imports an image from a container engine that serves the Docker Engine API on a Unix socket
//! (docker, podman's service): for local builds that were never pushed to a registry. The engine
//! streams the archive that `docker save` writes; it is then read as any other archive.

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
use types::{Cause, Platform, Reference};

use super::archive::ImageArchive;
use super::imported_image::ImportedImage;
use super::local_images::LocalImages;
use crate::{Error, Result};

/// Limit for a response other than an image: the list of all images of a large build machine has a
/// few MB.
const MAX_ANSWER: usize = 32 << 20;
/// How long to wait for a response: an engine answers queries at once, but podman assembles the
/// whole archive of an image before it sends the first byte.
const ANSWER: Duration = Duration::from_secs(30);
const FIRST_BYTE: Duration = Duration::from_mins(10);

/// Imports an image from the engine at the socket. It is looked up by its full name, and then by
/// the name that podman gives to local builds (`localhost/name`).
pub async fn import_image_from_engine(
    socket: &Path,
    reference: &Reference,
    platforms: &[Platform],
    store: &Store,
    progress: Arc<dyn Progress>,
) -> Result<ImportedImage> {
    let engine = ContainerEngine { socket };
    let name = engine.find_image_name(reference).await?;
    let spooled = engine.save_image(&name, store).await?;
    let place = format!("{name} of {}", socket.display());
    let (reference, platforms, store) = (reference.clone(), platforms.to_vec(), store.clone());
    let taken = tokio::task::spawn_blocking(move || {
        let archive = ImageArchive::from_file(place, spooled)?;
        let images = LocalImages::from_archive(archive)?;
        images.import_image(&reference, &platforms, &store, progress.as_ref())
    });
    taken
        .await
        .map_err(|error| engine.engine_error(Cause::about("the import was interrupted", error)))?
}

struct ContainerEngine<'a> {
    socket: &'a Path,
}

/// An image in the engine's list.
#[derive(Deserialize)]
struct EngineImage {
    #[serde(rename = "RepoTags")]
    repo_tags: Option<Vec<String>>,
}

impl ContainerEngine<'_> {
    /// Finds the name under which the engine has the image.
    async fn find_image_name(&self, reference: &Reference) -> Result<String> {
        for name in list_candidate_names(reference) {
            let answer = self.get(&format!("/images/{name}/json"), ANSWER).await?;
            match answer.status() {
                StatusCode::OK => return Ok(name),
                StatusCode::NOT_FOUND => {}
                status => return Err(self.answer_error(status, answer.into_body()).await),
            }
        }
        let answer = self.get("/images/json", ANSWER).await?;
        let bytes = self.read_answer(answer.into_body()).await?;
        // Only for the hint in the error, so a list that cannot be read is no failure of its own.
        let listed: Vec<EngineImage> = serde_json::from_slice(&bytes).unwrap_or_default();
        let there: Vec<String> =
            listed.into_iter().flat_map(|image| image.repo_tags.unwrap_or_default()).collect();
        let what = format!("image {reference} in {}", self.socket.display());
        Err(Error::not_found_among(what, &there))
    }

    /// Writes the image's archive to an unnamed temporary file on the store's disk.
    async fn save_image(&self, name: &str, store: &Store) -> Result<std::fs::File> {
        let answer = self.get(&format!("/images/{name}/get"), FIRST_BYTE).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.answer_error(answer.status(), answer.into_body()).await);
        }
        let folder = store.path();
        let unwritable = |cause| Error::Write { what: folder.display().to_string(), cause };
        let file = tempfile::tempfile_in(folder).map_err(unwritable)?;
        let mut file = tokio::fs::File::from_std(file);
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                self.engine_error(Cause::about("the transfer was interrupted", error))
            })?;
            if let Some(bytes) = frame.data_ref() {
                file.write_all(bytes).await.map_err(unwritable)?;
            }
        }
        file.flush().await.map_err(unwritable)?;
        Ok(file.into_std().await)
    }

    /// Sends a GET request on a connection of its own.
    async fn get(&self, path: &str, patience: Duration) -> Result<http::Response<Incoming>> {
        let stream = UnixStream::connect(self.socket).await.map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                    "; start the engine (`systemctl start docker`, or `podman system service --time=0 \
                     unix:///run/podman/podman.sock`)"
                }
                std::io::ErrorKind::PermissionDenied => {
                    "; your user must be in the group `docker`, or use podman's socket of your own \
                     (`$XDG_RUNTIME_DIR/podman/podman.sock`)"
                }
                _ => "",
            };
            self.engine_error(Cause::described(format!("{error}{hint}"), error))
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.engine_error(Cause::from_error(error)))?;
        // Drives the connection until the body is read; its errors also show when reading the body.
        tokio::spawn(connection);
        let request = Request::get(path)
            // HTTP/1.1 requires a host; over a Unix socket its value has no meaning.
            .header(http::header::HOST, "docker")
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.engine_error(Cause::about(path, error)))?;
        tokio::time::timeout(patience, sender.send_request(request))
            .await
            .map_err(|_| {
                self.engine_error(
                    format!("it did not answer within {} s", patience.as_secs()).into(),
                )
            })?
            .map_err(|error| self.engine_error(Cause::from_error(error)))
    }

    /// Reads a response that must be small.
    async fn read_answer(&self, body: Incoming) -> Result<Bytes> {
        let collected = Limited::new(body, MAX_ANSWER).collect().await;
        Ok(collected.map_err(|error| self.engine_error(Cause::from_boxed(error)))?.to_bytes())
    }

    /// The error for an unexpected status, with the beginning of the engine's message.
    async fn answer_error(&self, status: StatusCode, body: Incoming) -> Error {
        const SHOWN: usize = 300;
        let said = self.read_answer(body).await.unwrap_or_default();
        let said: String = String::from_utf8_lossy(&said).trim().chars().take(SHOWN).collect();
        self.engine_error(format!("it answered {status}: {said}").into())
    }

    fn engine_error(&self, reason: Cause) -> Error {
        let text = format!("the container engine cannot be used: {reason}");
        Error::Local { path: self.socket.to_owned(), reason: reason.with_text(text) }
    }
}

/// The names under which an engine may have the image.
fn list_candidate_names(reference: &Reference) -> Vec<String> {
    let mut names = vec![reference.to_string()];
    if reference.registry() == "docker.io" {
        let own = reference.repository();
        let own = own.strip_prefix("library/").unwrap_or(own);
        names.push(format!("localhost/{own}:{}", reference.digest_or_tag()));
    }
    names
}
