//! A client of the Ollama registry. It speaks the Docker Registry HTTP API V2, but with media types
//! of its own and manifests whose exact bytes matter: they are kept unchanged.

mod name;

use http::{HeaderValue, StatusCode, header};
use net::{Access, Client, Endpoint, Mirrors, Repeat, Request};
use store::Store;
use types::{Descriptor, Digest, Kind, Manifest, Root, annotation, lock, media_type};

pub use self::name::Name;
use crate::{Error, Result};

/// A client of the registry of one model, or of the mirror that is configured for it.
#[derive(Clone)]
pub struct Registry {
    client: Client,
    endpoint: Endpoint,
    name: Name,
}

impl Registry {
    /// A client for the registry that the name belongs to. For Ollama's own registry the mirror
    /// `ollama` is used, if one is configured; for others the mirror of their host.
    pub fn new(client: &Client, mirrors: &Mirrors, name: &Name) -> Result<Self> {
        let by_host = mirrors.registry(name.host());
        let endpoint = if name.host() == name::HOST {
            mirrors.service("ollama", &by_host.base).map_err(Error::net(name.to_string()))?
        } else {
            by_host
        };
        Ok(Self { client: client.clone(), endpoint, name: name.clone() })
    }

    /// Downloads the model's manifest and writes it to the store, byte for byte.
    pub async fn model(&self, store: &Store) -> Result<Model> {
        let what = self.name.to_string();
        let request = self.manifest_request()?;
        let response = self.client.send(&request, Repeat::Safe).await.map_err(Error::net(&what))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(Error::NotFound {
                what: format!("the Ollama model {what} at {}", self.endpoint.base),
                hint: "search for its name and tags at https://ollama.com/search".into(),
            });
        }
        let response = response.success().await.map_err(Error::net(&what))?;
        let bytes = response.bytes(Manifest::MAX_SIZE).await.map_err(Error::net(&what))?;
        let (manifest, descriptor) = manifest(&self.name, &bytes)?;
        store.put_bytes(&bytes)?;
        let locked = crate::local::locked(&descriptor, &manifest, None);
        Model::new(&self.name, &descriptor, locked)
    }

    /// The GET request for the manifest.
    pub fn manifest_request(&self) -> Result<Request> {
        let request = self.request(&format!("manifests/{}", self.name.tag()))?;
        // Ollama's registry has no other media type, whatever is accepted.
        let accept = HeaderValue::from_static(media_type::DOCKER_MANIFEST);
        Ok(request.header(header::ACCEPT, accept))
    }

    /// The GET request for a blob of the model.
    pub fn blob_request(&self, digest: &Digest) -> Result<Request> {
        self.request(&format!("blobs/{digest}"))
    }

    fn request(&self, path: &str) -> Result<Request> {
        let repository = self.name.repository();
        let url = format!("{}/v2/{repository}/{path}", self.endpoint.base);
        let request = Request::get(&url).map_err(Error::net(self.name.to_string()))?;
        Ok(request.access(Access {
            server: self.endpoint.server.clone(),
            scope: format!("repository:{repository}:pull"),
        }))
    }
}

/// An Ollama model whose manifest is in the store: its root, and its blobs as a lock lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The root to publish.
    pub root: Root,
    /// The manifest's digest, and those of its config and layers.
    pub manifest: lock::Manifest,
}

impl Model {
    /// The artifact of a manifest that is in the store.
    pub(crate) fn new(
        name: &Name,
        descriptor: &Descriptor,
        manifest: lock::Manifest,
    ) -> Result<Self> {
        let root = Root::new(name.reference()?, Kind::Ollama, descriptor.clone());
        Ok(Self { root, manifest })
    }
}

/// Parses a manifest. References in a store are in lower case; where the model's name has upper
/// case, the returned descriptor keeps it in an annotation.
pub(crate) fn manifest(name: &Name, bytes: &[u8]) -> Result<(Manifest, Descriptor)> {
    let manifest = Manifest::parse(&format!("the manifest of {name}"), bytes)?;
    if manifest.is_index() || manifest.layers.is_empty() {
        return Err(Error::Model {
            id: name.to_string(),
            reason: "its manifest has no layers".into(),
        });
    }
    // Ollama writes docker's media type; manifests of some models have none at all.
    let media_type = match manifest.media_type.as_deref() {
        Some(own) if !own.is_empty() => own,
        _ => media_type::DOCKER_MANIFEST,
    };
    let mut descriptor =
        Descriptor::new(media_type, store::hash::sha256(bytes), bytes.len() as u64);
    if name.repository() != name.repository().to_ascii_lowercase() {
        let full = format!("{}/{}", name.host(), name.repository());
        descriptor.annotations.insert(annotation::MODEL_ID.to_owned(), full);
    }
    Ok((manifest, descriptor))
}
