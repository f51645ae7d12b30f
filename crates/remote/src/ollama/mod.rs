//! A client of the Ollama registry. It speaks the Docker Registry HTTP API V2, but with media types
//! of its own and manifests whose exact bytes matter: they are kept unchanged.

mod name;

use http::{HeaderValue, StatusCode, header};
use net::{AccessScope, Client, HttpRequest, Mirrors, RepeatPolicy, UpstreamEndpoint};
use store::Store;
use types::{Descriptor, Digest, Manifest, Root, RootKind, annotation, lock, media_type};

pub use self::name::OllamaName;
use crate::{Error, Result};

/// A client of the registry of one model, or of the mirror that is configured for it.
#[derive(Clone)]
pub struct OllamaRegistry {
    client: Client,
    endpoint: UpstreamEndpoint,
    name: OllamaName,
}

impl OllamaRegistry {
    /// A client for the registry that the name belongs to. For Ollama's own registry the mirror
    /// `ollama` is used, if one is configured; for others the mirror of their host.
    pub fn new(client: &Client, mirrors: &Mirrors, name: &OllamaName) -> Result<Self> {
        let by_host = mirrors.registry_endpoint(name.host());
        let endpoint = if name.host() == name::HOST {
            mirrors
                .service_endpoint("ollama", &by_host.base)
                .map_err(Error::from_net(name.to_string()))?
        } else {
            by_host
        };
        Ok(Self { client: client.clone(), endpoint, name: name.clone() })
    }

    /// Downloads the model's manifest and writes it to the store, byte for byte.
    pub async fn look_up_model(&self, store: &Store) -> Result<OllamaArtifact> {
        let what = self.name.to_string();
        let request = self.manifest_request()?;
        let response =
            self.client.send(&request, RepeatPolicy::Safe).await.map_err(Error::from_net(&what))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(Error::NotFound {
                what: format!("the Ollama model {what} at {}", self.endpoint.base),
                hint: "search for its name and tags at https://ollama.com/search".into(),
            });
        }
        let response = response.require_success().await.map_err(Error::from_net(&what))?;
        let bytes =
            response.read_bytes(Manifest::MAX_SIZE).await.map_err(Error::from_net(&what))?;
        let (manifest, descriptor) = parse_manifest(&self.name, &bytes)?;
        store.put_bytes(&bytes)?;
        let locked = crate::lock_manifest::to_lock_manifest(&descriptor, &manifest, None);
        OllamaArtifact::new(&self.name, &descriptor, locked)
    }

    /// The GET request for the manifest.
    pub fn manifest_request(&self) -> Result<HttpRequest> {
        let request = self.build_request(&format!("manifests/{}", self.name.tag()))?;
        // Ollama's registry has no other media type, whatever is accepted.
        let accept = HeaderValue::from_static(media_type::DOCKER_MANIFEST);
        Ok(request.header(header::ACCEPT, accept))
    }

    /// The GET request for a blob of the model.
    pub fn blob_request(&self, digest: &Digest) -> Result<HttpRequest> {
        self.build_request(&format!("blobs/{digest}"))
    }

    fn build_request(&self, path: &str) -> Result<HttpRequest> {
        let repository = self.name.repository();
        let (base, prefix) = (&self.endpoint.base, &self.endpoint.repository_prefix);
        let url = format!("{base}/v2/{prefix}{repository}/{path}");
        let request = HttpRequest::get(&url).map_err(Error::from_net(self.name.to_string()))?;
        Ok(request.access(AccessScope {
            server: self.endpoint.server.clone(),
            scope: format!("repository:{prefix}{repository}:pull"),
        }))
    }
}

/// An Ollama model whose manifest is in the store: its root, and its blobs as a lock lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OllamaArtifact {
    /// The root to publish.
    pub root: Root,
    /// The manifest's digest, and those of its config and layers.
    pub manifest: lock::LockedManifest,
}

impl OllamaArtifact {
    /// The artifact of a manifest that is in the store.
    pub(crate) fn new(
        name: &OllamaName,
        descriptor: &Descriptor,
        manifest: lock::LockedManifest,
    ) -> Result<Self> {
        let root = Root::new(name.reference()?, RootKind::Ollama, descriptor.clone());
        Ok(Self { root, manifest })
    }
}

/// Parses a manifest. References in a store are in lower case; where the model's name has upper
/// case, the returned descriptor keeps it in an annotation.
pub(crate) fn parse_manifest(name: &OllamaName, bytes: &[u8]) -> Result<(Manifest, Descriptor)> {
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
