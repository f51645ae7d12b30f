//! Where models are loaded to: the value of `--to` of `gantry models push` and of `to:` of a model
//! target in site.yaml.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Error, Result, snapshot};

/// Where models are loaded to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelDestination {
    /// A folder: a mounted volume, a disk of a node.
    Folder(PathBuf),
    /// A bucket of an object store, and a prefix in it.
    Bucket(Bucket),
    /// A claim in the cluster: `pvc://namespace/claim`, and a folder in its volume.
    Claim(ClaimFolder),
    /// The site's depot. Nothing is copied: it serves models from the bundle or store it runs on.
    Depot,
}

/// A bucket and a prefix in it: `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The API of its object store.
    pub cloud: BucketProtocol,
    /// The bucket's name; Azure calls it a container.
    pub name: String,
    /// The prefix of each object's name, without a slash at either end; empty for none.
    pub prefix: String,
}

/// The API of an object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketProtocol {
    /// S3, of Amazon or of any compatible server (MinIO, Ceph).
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// A PersistentVolumeClaim, and a folder in its volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimFolder {
    /// The claim's namespace.
    pub namespace: String,
    /// The claim's name.
    pub name: String,
    /// The folder in the volume, without a slash at either end; empty for the whole of it.
    pub folder: String,
}

impl BucketProtocol {
    /// `s3`, `gs` or `az`.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

impl FromStr for ModelDestination {
    type Err = Error;

    /// `depot`, a URL of a known scheme, else a folder.
    fn from_str(text: &str) -> Result<Self> {
        let error = |reason: &str| Error::invalid_text("model target", text, reason);
        if text == "depot" {
            return Ok(Self::Depot);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            // Every text without a scheme is a folder: `depots` is one, not a misspelt `depot`.
            return if text.is_empty() {
                Err(error(
                    "it is empty; write s3://bucket/prefix, pvc://namespace/claim, or ./folder",
                ))
            } else {
                Ok(Self::Folder(PathBuf::from(text)))
            };
        };
        match scheme {
            "s3" => parse_bucket(BucketProtocol::S3, rest)
                .map(Self::Bucket)
                .map_err(|reason| error(&reason)),
            "gs" => parse_bucket(BucketProtocol::Gcs, rest)
                .map(Self::Bucket)
                .map_err(|reason| error(&reason)),
            "az" => parse_bucket(BucketProtocol::Azure, rest)
                .map(Self::Bucket)
                .map_err(|reason| error(&reason)),
            "pvc" => parse_claim(rest).map(Self::Claim).map_err(|reason| error(&reason)),
            "file" => Err(error("write a folder as a plain path, such as /srv/models")),
            "http" | "https" => {
                Err(error("write the bucket as s3://bucket/prefix, and its server as the endpoint"))
            }
            _ => Err(error("write s3://, gs://, az:// or pvc://…, depot, or the path of a folder")),
        }
    }
}

fn parse_bucket(cloud: BucketProtocol, rest: &str) -> Result<Bucket, String> {
    /// Google's longest, with dots in it; Amazon's and Azure's is 63.
    const MAX: usize = 222;
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let scheme = cloud.scheme();
    // Not stricter than the servers: MinIO and Ceph have buckets that Amazon would not make.
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > MAX || !name.bytes().all(is_valid) {
        return Err(format!(
            "{name:?} is not a valid bucket name; write {scheme}://bucket/prefix with letters, digits, \
             dots and hyphens, and give the server as the endpoint"
        ));
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if !prefix.is_empty() {
        snapshot::check_model_path(prefix).map_err(|fault| {
            // `check_path` speaks of a model's repository, which is not what a prefix is in.
            let fault = if fault == "leaves the repository" {
                "has an empty segment, `.` or `..`"
            } else {
                fault
            };
            format!("the prefix {prefix:?} {fault}; write {scheme}://{name}/models")
        })?;
    }
    Ok(Bucket { cloud, name: name.to_owned(), prefix: prefix.to_owned() })
}

fn parse_claim(rest: &str) -> Result<ClaimFolder, String> {
    // Kubernetes, "Object Names and IDs": a namespace is a DNS label, a claim a DNS subdomain.
    let is_name = |name: &str, max: usize, dots: &[u8]| {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = name.as_bytes();
        name.len() <= max
            && bytes.iter().all(|b| valid(*b) || dots.contains(b))
            && ends(bytes.first())
            && ends(bytes.last())
    };
    // The folder is the rest and may contain slashes.
    let mut parts = rest.splitn(3, '/');
    let (namespace, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if !is_name(namespace, 63, b"") || !is_name(name, 253, b".") {
        return Err("write pvc://namespace/claim, such as pvc://rag/models".to_owned());
    }
    let folder = parts.next().unwrap_or_default();
    let folder = folder.strip_suffix('/').unwrap_or(folder);
    if !folder.is_empty() {
        snapshot::check_model_path(folder).map_err(|fault| {
            format!("the folder {folder:?} {fault}; write pvc://{namespace}/{name}/folder")
        })?;
    }
    let (namespace, name, folder) = (namespace.to_owned(), name.to_owned(), folder.to_owned());
    Ok(ClaimFolder { namespace, name, folder })
}

impl fmt::Display for ModelDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Bucket(bucket) => bucket.fmt(f),
            Self::Claim(claim) => claim.fmt(f),
            Self::Depot => f.write_str("depot"),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.cloud.scheme(), self.name)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl fmt::Display for ClaimFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pvc://{}/{}", self.namespace, self.name)?;
        if self.folder.is_empty() { Ok(()) } else { write!(f, "/{}", self.folder) }
    }
}

crate::text::serde_as_text!(ModelDestination);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_destination_is_told_by_its_scheme_and_prints_as_it_was_written() {
        for text in [
            "s3://models",
            "gs://models/weights/v1",
            "az://c/x",
            "pvc://ai/models",
            "pvc://ai/all/ollama",
            "depot",
            "./m",
        ] {
            assert_eq!(text.parse::<ModelDestination>().unwrap().to_string(), text);
        }
        let bucket =
            Bucket { cloud: BucketProtocol::S3, name: "b".into(), prefix: "weights".into() };
        assert_eq!("s3://b/weights/".parse(), Ok(ModelDestination::Bucket(bucket)));
        assert_eq!("depots".parse(), Ok(ModelDestination::Folder("depots".into())));
    }

    #[test]
    fn a_wrong_destination_says_what_would_be_right() {
        for (text, reason) in [
            ("", "it is empty"),
            ("s3://", "not a valid bucket name"),
            ("s3://minio:9000/b", "the server as the endpoint"),
            ("s3://b/a/../c", "`.` or `..`"),
            ("gs://b//c", "an empty segment"),
            ("pvc://models", "pvc://namespace/claim"),
            ("pvc://AI/models", "pvc://namespace/claim"),
            ("https://s3.internal/b", "s3://bucket/prefix"),
            ("file:///srv", "as a plain path"),
            ("ftp://x", "write s3://, gs://"),
        ] {
            let error = text.parse::<ModelDestination>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
