//! Annotation keys on index entries, manifests and layers.

/// OCI image-spec: the name in a layout. Gantry writes the full reference; other tools write a bare
/// tag (skopeo, oras) or repo:tag (hauler), all of which are read.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's name for an image in a layout (`ctr image import`, nerdctl, hauler).
pub const IMAGE_NAME: &str = "io.containerd.image.name";
/// OCI image-spec: the file's name of a layer in an artifact.
pub const TITLE: &str = "org.opencontainers.image.title";
/// OCI image-spec: where the content came from.
pub const SOURCE: &str = "org.opencontainers.image.source";
/// OCI image-spec: the revision of the content.
pub const REVISION: &str = "org.opencontainers.image.revision";
/// OCI image-spec: the version of the content.
pub const VERSION: &str = "org.opencontainers.image.version";
/// buildkit: on an entry of an index that is an attestation of another one, its kind.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// CNCF model-spec: a layer's path in the model.
pub const MODEL_FILEPATH: &str = "org.cncf.model.filepath";
/// What an entry of `index.json` is for Gantry: one of [`crate::RootKind`].
pub const KIND: &str = "dev.gantry.kind";
/// On an index that was rewritten for a registry that refuses sparse indexes: the digest of the
/// original index, which lists all platforms.
pub const WRITTEN_FROM: &str = "dev.gantry.written.from";
/// A model's id as the Hub writes it (`BAAI/bge-m3`); a repository must be lower case.
pub const MODEL_ID: &str = "dev.gantry.model.id";
/// The 40-hex commit of a model's snapshot.
pub const MODEL_COMMIT: &str = "dev.gantry.model.commit";
/// The branch or tag that was asked for (`main`).
pub const MODEL_REVISION: &str = "dev.gantry.model.revision";
/// A model file's git sha1: of the file, or of the LFS pointer for an LFS file.
pub const GIT_ID: &str = "dev.gantry.git.id";
/// `true` on a model file that the Hub keeps in LFS; its `ETag` is the sha256.
pub const LFS: &str = "dev.gantry.git.lfs";
