//! `site.yaml`: the air-gapped side, i.e. its registry, model targets, cluster and depot. `load`,
//! `deploy`, `check` and `audit` read it.

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::destination::ModelDestination;
use crate::naming::{self, NamingRule, RegistryPrefix};
use crate::node_folder::NodeFolder;
use crate::site_namespaces::{SiteCaObject, SiteNamespaces};
use crate::{ByteSize, ClientCertificate, Error, ImagePin, Reference, Result, own_image, yaml};

/// A whole `site.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Site {
    /// The format's version: 1.
    pub version: u32,
    /// The kubeconfig context of the site's cluster: what Gantry changes in a cluster, it changes there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The registry that images, charts and models are pushed to.
    pub registry: RegistryTarget,
    /// How releases are told of a tag with new content; that of gantry.yaml counts first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<ImagePin>,
    /// Where models are loaded to besides the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelTarget>,
    /// Folders on the nodes' own disks: `models push --to node:///…` writes to them and below them, and to
    /// no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_folders: Vec<NodeFolder>,
    /// minisign public keys whose bundles are trusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<String>,
    /// The storage class of claims that Gantry creates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// The cert-manager ClusterIssuer of the cluster's certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_issuer: Option<String>,
    /// The depot that runtimes in the cluster load models from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depot: Option<SiteDepot>,
    /// More objects with the registry's CA in each namespace, beside the ConfigMap and the Secret
    /// `gantry-ca`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ca_objects: Vec<SiteCaObject>,
    /// Namespaces beside those of releases that get the pull secret, the CA and policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<SiteNamespaces>,
}

/// The address of the site's depot, as pods reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SiteDepot {
    /// `http://…` or `https://…`: what `HF_ENDPOINT` is set to.
    pub url: String,
}

/// The site's registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RegistryTarget {
    /// `host[:port][/path]`.
    pub url: String,
    /// How the names of images in it are made from their names at the source.
    #[serde(default)]
    pub naming: NamingRule,
    /// A PEM file with the CA that signed the registry's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whether the registry is reached by http without TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
    /// Whether this machine does not verify the registry's certificate: whoever is in between can read
    /// and change everything. Each connection prints a warning. Nodes are not affected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_tls_verify: bool,
    /// The certificate with which this machine shows the registry who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// The name of the pull secret in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret: Option<String>,
}

/// A place that models are loaded to, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ModelTarget {
    /// `s3://…`, `gs://…`, `az://…`, `pvc://namespace/claim`, `depot`, or a folder.
    pub to: ModelDestination,
    /// The folder structure there.
    #[serde(default)]
    pub layout: ModelLayout,
    /// Only these models, by id (`BAAI/bge-m3`) or reference; all that fit the layout when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Links or plain files, for the layout `hf-cache` in a folder or a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<CacheFileStyle>,
    /// The bucket's server, `https://host[:port]`, where it is not the cloud's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// A PEM file with the CA that signed the certificate of the bucket's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whether the bucket's server is reached by http without TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
    /// How the claim is created where it does not exist; when absent, it must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<NewClaim>,
    /// How many revisions of each model are kept in a folder or a claim; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<NonZeroU16>,
    /// Whether `deploy` restarts what reads these models when they changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
}

/// How a claim is created.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NewClaim {
    /// Its size; the size of the models plus a fifth when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// Who may mount it.
    #[serde(default)]
    pub access_mode: AccessMode,
    /// Its storage class; the site's, then the cluster's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

/// Which pods may mount a claim (Kubernetes' `accessModes`).
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

impl AccessMode {
    /// The mode as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteMany => "ReadWriteMany",
        }
    }
}

// By hand, since a derived schema leaves out the short forms.
impl schemars::JsonSchema for AccessMode {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AccessMode".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Which pods may mount the claim: those of one node, or of all nodes.",
            "enum": ["ReadWriteOnce", "ReadWriteMany", "RWO", "RWX"],
        })
    }
}

/// How a Hugging Face cache in a folder or claim stores its files.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum CacheFileStyle {
    /// As `hf download` does: content in `blobs/`, symbolic links in `snapshots/`. Two revisions
    /// share what they have in common.
    #[default]
    Links,
    /// Plain files in `snapshots/`, for file systems and copy tools without symbolic links.
    Plain,
}

/// The folder structure in which a model's files are stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ModelLayout {
    /// A Hugging Face cache.
    #[default]
    HfCache,
    /// The files under `org/name/`.
    Flat,
    /// Ollama's models folder.
    Ollama,
    /// The cluster cache of the Superlinked inference engine.
    Sie,
}

impl Site {
    /// Reads a `site.yaml`. `name` is what errors call it.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let site: Self = yaml::read_document(name, text)?;
        let error = |message: String| Error::Document {
            document: name.to_owned(),
            line: 0,
            column: 0,
            message: message.into(),
        };
        if site.version != 1 {
            return Err(error(format!(
                "version {} is not supported; write `version: 1`",
                site.version
            )));
        }
        // All addresses are checked when the file is read, not when a load of hours comes to them.
        site.registry.parse_prefix().map_err(|cause| error(format!("registry.url: {cause}")))?;
        let depot = site.depot.as_ref().map(|depot| depot.url.as_str());
        if depot.is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            return Err(error("depot.url must start with http:// or https://".into()));
        }
        for (index, target) in site.models.iter().enumerate() {
            target.check_keys().map_err(|fault| error(format!("models[{index}]: {fault}")))?;
        }
        if !site.ca_objects.is_empty() && site.registry.ca.is_none() {
            return Err(error(
                "caObjects: there is no CA for them; name its file: registry.ca".into(),
            ));
        }
        for (index, object) in site.ca_objects.iter().enumerate() {
            let invalid = |fault: String| error(format!("caObjects[{index}]: {fault}"));
            object.check_keys().map_err(invalid)?;
            let is_same = |other: &SiteCaObject| {
                (&other.config_map, &other.secret) == (&object.config_map, &object.secret)
            };
            if site.ca_objects[..index].iter().any(is_same) {
                return Err(invalid(
                    "a second entry of this name; give each a name of its own".into(),
                ));
            }
        }
        if let Some(namespaces) = &site.namespaces {
            namespaces.check_keys().map_err(|fault| error(format!("namespaces: {fault}")))?;
        }
        Ok(site)
    }
}

impl ModelTarget {
    /// Refuses keys that have no meaning for this kind of target. The error names the key and why.
    pub fn check_keys(&self) -> Result<(), String> {
        let to = &self.to;
        let is_bucket = matches!(to, ModelDestination::Bucket(_));
        let of_a_bucket = [
            ("endpoint", self.endpoint.is_some()),
            ("ca", self.ca.is_some()),
            ("plainHttp", self.plain_http),
        ];
        if let Some((key, _)) = of_a_bucket.iter().find(|(_, is_given)| *is_given && !is_bucket) {
            return Err(format!(
                "{key} can only be used with a bucket (s3://, gs://, az://), and {to} is not one"
            ));
        }
        if self.files.is_some() && (is_bucket || self.layout != ModelLayout::HfCache) {
            return Err(format!(
                "files can only be used with the layout hf-cache in a folder or a claim; {to} always gets plain files"
            ));
        }
        if self.create.is_some() && !matches!(to, ModelDestination::Claim(_)) {
            return Err(format!(
                "create can only be used with a claim (pvc://), and {to} is not one"
            ));
        }
        if self.keep.is_some()
            && !matches!(to, ModelDestination::Claim(_) | ModelDestination::Folder(_))
        {
            return Err(format!(
                "keep can only be used with a folder or a claim, and {to} is neither"
            ));
        }
        if self.restart && matches!(to, ModelDestination::Folder(_)) {
            return Err(format!(
                "restart can only be used with a claim, a bucket or the depot, which pods read, and {to} is a folder"
            ));
        }
        let is_url = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        if let Some(endpoint) = self.endpoint.as_ref().filter(|url| !is_url(url)) {
            return Err(format!("endpoint {endpoint:?} is not a URL; write https://host[:port]"));
        }
        Ok(())
    }
}

/// The folder to which the paths in a site.yaml are relative; `.` for a bare file name.
pub fn site_folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

impl RegistryTarget {
    /// The registry and the path in it.
    pub fn parse_prefix(&self) -> Result<RegistryPrefix> {
        self.url.parse()
    }

    /// A registry of which only the address is known, as it is given on the command line.
    pub fn from_prefix(prefix: &RegistryPrefix, naming: NamingRule) -> Self {
        Self {
            url: prefix.to_string(),
            naming,
            ca: None,
            plain_http: false,
            insecure_skip_tls_verify: false,
            client_certificate: None,
            pull_secret: None,
        }
    }

    /// The registry with its paths as the process reads them: in site.yaml they are relative to the
    /// folder of that file.
    #[must_use]
    pub fn with_paths_below(&self, folder: &Path) -> Self {
        let client_certificate =
            self.client_certificate.as_ref().map(|files| files.with_paths_below(folder));
        Self {
            ca: self.ca.as_ref().map(|path| folder.join(path)),
            client_certificate,
            ..self.clone()
        }
    }

    /// The name that a reference gets in this registry. Tag and digest stay.
    pub fn site_reference(&self, source: &Reference) -> Result<Reference> {
        self.parse_prefix()?.site_reference(self.naming, source)
    }

    /// The name of Gantry's own image in this registry, for the pods that Gantry starts.
    pub fn own_image(&self) -> Result<Reference> {
        self.site_reference(&own_image::image_reference()?)
    }

    /// Requires that nodes can be told to pull from this registry: that they read its name as that
    /// of a registry.
    pub fn require_pullable(&self) -> Result<()> {
        // Any name will do; that of Gantry's own image is always valid.
        naming::require_read_back(&self.own_image()?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_relative_to_the_sites_file() {
        for (file, ca) in
            [("site.yaml", "./ca.pem"), ("/etc/gantry/site.yaml", "/etc/gantry/ca.pem")]
        {
            let text = "version: 1\nregistry: {url: r:5000, ca: ca.pem}\n";
            let registry = Site::parse(file, text).unwrap().registry;
            let resolved = registry.with_paths_below(site_folder(Path::new(file)));
            assert_eq!(resolved.ca, Some(PathBuf::from(ca)));
        }
    }

    #[test]
    fn a_site_is_read_and_its_mistakes_are_named() {
        let text = "version: 1\nregistry:\n  url: registry.internal:5000/ai\n  naming: host-path\n";
        let site = Site::parse("site.yaml", text).unwrap();
        assert_eq!(site.registry.naming, NamingRule::HostPath);
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
            ("to: /srv/models, ca: ca.pem", "models[0]: ca can only be used with a bucket"),
            ("to: s3://b, files: links", "models[0]: files can only be used with the layout"),
            ("to: /srv, layout: flat, files: plain", "files can only be used with the layout"),
            ("to: s3://b, endpoint: minio", "write https://host[:port]"),
            ("to: s4://b", "write s3://, gs://"),
            ("to: /srv, create: {}", "models[0]: create can only be used with a claim"),
            ("to: s3://b, keep: 2", "models[0]: keep can only be used with a folder"),
        ] {
            let error = site(target).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
