//! Media types of the formats that Gantry reads and writes, and what each of them is.

/// OCI image manifest (image-spec 1.1).
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index (image-spec 1.1).
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, not compressed.
pub const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The empty JSON object `{}` as the config of an artifact that has none (image-spec 1.1, manifest.md,
/// "Guidance for an Empty Descriptor").
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Docker's image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// A Helm chart's config in OCI (helm 3.8 and later).
pub const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
/// A Helm chart's archive in OCI.
pub const HELM_CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// A Helm chart's provenance file in OCI.
pub const HELM_PROVENANCE: &str = "application/vnd.cncf.helm.chart.provenance.v1.prov";
/// CNCF ModelPack: the manifest's artifact type.
pub const MODEL_MANIFEST: &str = "application/vnd.cncf.model.manifest.v1+json";
/// CNCF ModelPack: the config.
pub const MODEL_CONFIG: &str = "application/vnd.cncf.model.config.v1+json";
/// CNCF ModelPack: weights, one raw file a layer.
pub const MODEL_WEIGHT: &str = "application/vnd.cncf.model.weight.v1.raw";
/// CNCF ModelPack: configuration and tokenizer files.
pub const MODEL_WEIGHT_CONFIG: &str = "application/vnd.cncf.model.weight.config.v1.raw";
/// CNCF ModelPack: documents.
pub const MODEL_DOC: &str = "application/vnd.cncf.model.doc.v1.raw";
/// CNCF ModelPack: code.
pub const MODEL_CODE: &str = "application/vnd.cncf.model.code.v1.raw";
/// Gantry's artifact type for a plain file (a runbook, a model from a URL).
pub const GANTRY_FILE: &str = "application/vnd.gantry.file.v1";
/// Gantry's artifact type for a set of plain Kubernetes manifests.
pub const GANTRY_MANIFESTS: &str = "application/vnd.gantry.manifests.v1";
/// A stream of YAML documents (RFC 9512).
pub const YAML: &str = "application/yaml";

/// The `Accept` header of a manifest request. All four: a registry that finds none of its types here
/// converts the manifest (docker's schema 1), which changes its digest, or answers 404.
pub const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
application/vnd.oci.image.manifest.v1+json, \
application/vnd.docker.distribution.manifest.list.v2+json, \
application/vnd.docker.distribution.manifest.v2+json";

/// Whether the media type is that of an index: a document that lists manifests.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

/// Whether the media type is that of a manifest or an index: a document that names blobs.
pub fn is_manifest(media_type: &str) -> bool {
    is_index(media_type) || matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// The `ModelPack` layer type for a model's file, by its name (CNCF model-spec v0.0.7, "Layer media
/// types"). What no rule knows is a configuration or tokenizer file.
pub fn for_model_file(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension {
        "safetensors" | "bin" | "gguf" | "onnx" | "pt" | "pth" | "h5" | "ckpt" | "msgpack"
        | "ot" | "pkl" | "joblib" | "npz" | "tflite" => MODEL_WEIGHT,
        "md" | "txt" | "pdf" | "png" | "jpg" | "jpeg" | "gif" | "svg"
            // vocab.txt and merges.txt are text files that a tokenizer reads.
            if !name.contains("vocab") && !name.contains("merges") =>
        {
            MODEL_DOC
        }
        "py" | "sh" | "ipynb" | "cpp" | "c" | "h" | "rs" => MODEL_CODE,
        _ if name.starts_with("license") || name.starts_with("readme") || name == "notice" => {
            MODEL_DOC
        }
        _ => MODEL_WEIGHT_CONFIG,
    }
}
