//! `site.yaml`: where things go on the inside.

use std::num::NonZeroU16;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::destination::Destination;
use crate::naming::{Naming, Prefix};
use crate::{ByteSize, Error, Result, yaml};

/// A whole `site.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Site {
    /// The format's version: 1.
    pub version: u32,
    /// The context of the kubeconfig that this site's cluster is; what is written is written there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The registry that images, charts and models are pushed to.
    pub registry: Registry,
    /// Where models are put beside the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelTarget>,
    /// minisign public keys whose bundles are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<String>,
    /// The storage class of volumes that Gantry makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// The issuer of the cluster's certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_issuer: Option<String>,
    /// The depot that runtimes in the cluster load models from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depot: Option<DepotTarget>,
}

/// The site's depot, as pods reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DepotTarget {
    /// `http://…` or `https://…`: what `HF_ENDPOINT` is set to.
    pub url: String,
}

/// The site's registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Registry {
    /// `host[:port][/path]`.
    pub url: String,
    /// How names are made.
    #[serde(default)]
    pub naming: Naming,
    /// A PEM file with the CA that signed the registry's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whether the registry speaks http.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
    /// The name of the pull secret in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret: Option<String>,
}

/// A place for models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ModelTarget {
    /// `s3://…`, `gs://…`, `az://…`, `pvc://namespace/claim`, `depot`, or a folder.
    pub to: Destination,
    /// How the files are laid out there.
    #[serde(default)]
    pub layout: ModelLayout,
    /// Only these models, by id (`BAAI/bge-m3`) or reference; all that fit the layout when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// How the files of a Hugging Face cache are kept in a folder or a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<ModelFiles>,
    /// The bucket's server, `https://host[:port]`, where it is not the cloud's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// A PEM file with the CA that signed the certificate of the bucket's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whether the bucket's server speaks http.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
    /// How the claim is made where there is none; it has to be there when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<NewClaim>,
    /// Revisions of each model that are kept in a folder or a claim; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<NonZeroU16>,
}

/// How a claim is made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NewClaim {
    /// Its size; that of the models and a fifth more when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// Who may mount it.
    #[serde(default)]
    pub access_mode: AccessMode,
    /// Its storage class; the site's, then the cluster's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

/// Who may mount a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum AccessMode {
    /// Pods of one node.
    #[default]
    #[serde(alias = "RWO")]
    ReadWriteOnce,
    /// Pods of all nodes.
    #[serde(alias = "RWX")]
    ReadWriteMany,
}

/// How the files of a Hugging Face cache are kept in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelFiles {
    /// As `hf download` does: content in `blobs/`, symbolic links in `snapshots/`. Two revisions
    /// share what they have in common.
    #[default]
    Links,
    /// Plain files in `snapshots/`, for file systems and copies that know no links.
    Plain,
}

/// How a model's files are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelLayout {
    /// A Hugging Face cache.
    #[default]
    HfCache,
    /// The files under `org/name/`.
    Flat,
    /// Ollama's models folder.
    Ollama,
    /// SIE's cluster cache.
    Sie,
}

impl Site {
    /// Reads a `site.yaml`. `name` is what errors call it.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let site: Self = yaml::read(name, text)?;
        let error = |message: String| Error::Document {
            document: name.to_owned(),
            line: 0,
            column: 0,
            message,
        };
        if site.version != 1 {
            return Err(error(format!("version {} is not known, only 1", site.version)));
        }
        site.registry.prefix().map_err(|cause| error(format!("registry.url: {cause}")))?;
        let depot = site.depot.as_ref().map(|depot| depot.url.as_str());
        if depot.is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            return Err(error("depot.url: it starts with http:// or https://".into()));
        }
        for (index, target) in site.models.iter().enumerate() {
            target.check().map_err(|fault| error(format!("models[{index}]: {fault}")))?;
        }
        Ok(site)
    }
}

impl ModelTarget {
    /// Refuses keys that mean nothing where the target is; says which, and why.
    pub fn check(&self) -> Result<(), String> {
        let to = &self.to;
        let is_bucket = matches!(to, Destination::Bucket(_));
        let of_a_bucket = [
            ("endpoint", self.endpoint.is_some()),
            ("ca", self.ca.is_some()),
            ("plainHttp", self.plain_http),
        ];
        if let Some((key, _)) = of_a_bucket.iter().find(|(_, is_given)| *is_given && !is_bucket) {
            return Err(format!("{key} is a bucket's (s3://, gs://, az://), and {to} is none"));
        }
        if self.files.is_some() && (is_bucket || self.layout != ModelLayout::HfCache) {
            return Err(format!(
                "files is for the layout hf-cache in a folder or a claim; {to} has plain files in any case"
            ));
        }
        if self.create.is_some() && !matches!(to, Destination::Claim(_)) {
            return Err(format!("create is for claims (pvc://), and {to} is none"));
        }
        if self.keep.is_some() && !matches!(to, Destination::Claim(_) | Destination::Folder(_)) {
            return Err(format!("keep is for folders and claims, and {to} is none"));
        }
        let is_url = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        if let Some(endpoint) = self.endpoint.as_ref().filter(|url| !is_url(url)) {
            return Err(format!("endpoint {endpoint:?} is no URL; write https://host[:port]"));
        }
        Ok(())
    }
}

impl Registry {
    /// The registry and the path in it.
    pub fn prefix(&self) -> Result<Prefix> {
        self.url.parse()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_site_is_read_and_its_mistakes_are_named() {
        let text = "version: 1\nregistry:\n  url: registry.internal:5000/ai\n  naming: host-path\n";
        let site = Site::parse("site.yaml", text).unwrap();
        assert_eq!(site.registry.naming, Naming::HostPath);
        let wrong = text.replace("host-path", "hostpath");
        let error = Site::parse("site.yaml", &wrong).unwrap_err().to_string();
        assert!(error.contains("did you mean \"host-path\""), "{error}");
        let wrong = text.replace("registry.internal", "https://registry.internal");
        let error = Site::parse("site.yaml", &wrong).unwrap_err().to_string();
        assert!(error.contains("scheme"), "{error}");
    }

    #[test]
    fn a_model_target_has_the_keys_of_its_kind_and_no_others() {
        let site = |target: &str| {
            let text = format!("version: 1\nregistry: {{url: r:5000}}\nmodels:\n- {{{target}}}\n");
            Site::parse("site.yaml", &text)
        };
        let bucket = "to: s3://b/m, layout: sie, endpoint: 'http://minio:9000', plainHttp: true";
        assert_eq!(site(bucket).unwrap().models[0].to.to_string(), "s3://b/m");
        site("to: /srv/models, files: plain, models: [BAAI/bge-m3], keep: 2").unwrap();
        let made = site("to: pvc://a/b, create: {size: 20GiB, accessMode: RWX}").unwrap();
        let made = made.models[0].create.clone().unwrap();
        assert_eq!(made.access_mode, AccessMode::ReadWriteMany);
        for (target, expected) in [
            ("to: /srv/models, ca: ca.pem", "models[0]: ca is a bucket's"),
            ("to: s3://b, files: links", "models[0]: files is for the layout hf-cache"),
            ("to: /srv, layout: flat, files: plain", "models[0]: files is for the layout hf-cache"),
            ("to: s3://b, endpoint: minio", "write https://host[:port]"),
            ("to: s4://b", "known are s3://"),
            ("to: /srv, create: {}", "models[0]: create is for claims"),
            ("to: s3://b, keep: 2", "models[0]: keep is for folders and claims"),
        ] {
            let error = site(target).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
