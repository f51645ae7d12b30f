//! Makes the objects that a cluster needs for the webhook: two pods of Gantry's own image behind a
//! Service, the locks in a ConfigMap, the few permissions that the pods need, and the configuration
//! that makes the API server call them.

use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};
use types::lock::Lock;
use types::receipt::Receipt;
use types::site::Site;
use types::site_content::SiteContent;
use types::{own_image, yaml};

use super::configuration::{WebhookAddress, WebhookConfiguration};
use super::configuration_guard::build_guard_manifests;
use super::images::{ImageDecision, ImagePinning, WebhookImages};
use super::labels::object_labels;
use super::shortened_locks;
use crate::namespaces::{NamespaceRights, SITE_CA};
use crate::{Error, Result};

/// The default name of the webhook.
pub const NAME: &str = "gantry-webhook";
/// The default namespace of the webhook.
pub const NAMESPACE: &str = "gantry-system";

/// The port that its pods listen on: above 1024, since they have no privileges.
const PORT: u16 = 8443;
/// Gantry's image runs as this user (`docs/reference/image.md`).
const USER: u32 = 65532;
/// How many seconds a pod that is to end goes on listening, until the Service has removed it from
/// its addresses.
const SHUTDOWN_DELAY: u32 = 5;
/// How many seconds a pod has to end: first [`SHUTDOWN_DELAY`], then finishing open requests.
const GRACE: u32 = 40;

/// Where the webhook's certificate comes from.
#[derive(Debug, Clone)]
pub enum CertificateSource {
    /// The webhook makes its own, stores it in a Secret, and writes its authority into the
    /// configuration.
    SelfSigned,
    /// Somebody else provides and renews it, for example cert-manager.
    Given {
        /// The name of a Secret of the type `kubernetes.io/tls` in the webhook's namespace; absent
        /// if the webhook runs outside the cluster.
        secret: Option<String>,
        /// The certificate of the authority that signed it, as PEM.
        authority: String,
    },
}

/// A webhook to be installed.
#[derive(Debug, Clone)]
pub struct WebhookDeployment<'a> {
    /// The name of the webhook, of its objects and of its certificate's Secret.
    pub name: &'a str,
    /// The namespace that the webhook runs in.
    pub namespace: &'a str,
    /// The locks whose images are allowed.
    pub locks: &'a [Lock],
    /// The receipts of `load`, which say what the site's registry has in rewritten form.
    pub receipts: &'a [Receipt],
    /// The description of the site.
    pub site: &'a Site,
    /// How the images at the site are named.
    pub pin: ImagePinning,
    /// The image to run; when absent, Gantry's own image from the locks.
    pub image: Option<&'a str>,
    /// Where the API server finds the webhook.
    pub address: WebhookAddress,
    /// Where its certificate comes from.
    pub certificate: CertificateSource,
    /// The only namespaces that may be guarded; all when empty.
    pub only: &'a [String],
    /// The rights to keep the site's objects in its namespaces; absent when it names none.
    pub namespaces: Option<&'a NamespaceRights>,
    /// The CA that these get, as PEM.
    pub ca: Option<&'a str>,
}

impl WebhookDeployment<'_> {
    /// The objects in the order in which they are to be applied, the configuration last. For a
    /// webhook that runs outside the cluster, only the configuration.
    pub fn build_manifests(&self) -> Result<Vec<Value>> {
        // First of all, so that input that makes no webhook is an error before anything is written.
        let locked = WebhookImages::new(self.locks, self.receipts, self.site, self.pin)?;
        let configuration = WebhookConfiguration {
            name: self.name,
            namespace: self.namespace,
            address: &self.address,
            ca_bundle: match &self.certificate {
                CertificateSource::SelfSigned => None,
                CertificateSource::Given { authority, .. } => {
                    let bundle = ByteString(authority.clone().into_bytes());
                    Some(serde_json::to_value(bundle).unwrap_or_default())
                }
            },
            only: self.only,
        };
        if matches!(self.address, WebhookAddress::Url(_)) {
            return Ok(vec![configuration.to_manifest()]);
        }
        let image = self.choose_image(&locked)?;
        let mut all =
            vec![self.namespace_object(), self.named_object("v1", "ServiceAccount", json!({}))];
        let is_self_signed = matches!(self.certificate, CertificateSource::SelfSigned);
        // Before the rights that they restrict.
        if is_self_signed {
            all.push(self.named_object("v1", "Secret", json!({"type": "Opaque"})));
            all.extend(build_guard_manifests(self.name, self.namespace));
        }
        if let Some(rights) = self.namespaces {
            let labels = object_labels(self.name);
            all.extend(rights.build_guard_manifests(self.name, self.namespace, &labels));
        }
        all.extend(self.rbac_objects());
        all.push(self.config_map(locked.content())?);
        all.push(self.deployment_object(&image));
        all.push(self.named_object(
            "policy/v1",
            "PodDisruptionBudget",
            json!({"spec": {
                "minAvailable": 1, "selector": {"matchLabels": pod_selector(self.name)},
            }}),
        ));
        all.push(self.named_object(
            "v1",
            "Service",
            json!({"spec": {
                "selector": pod_selector(self.name),
                "ports": [{"name": "https", "port": 443, "targetPort": "https", "protocol": "TCP"}],
            }}),
        ));
        all.push(configuration.to_manifest());
        Ok(all)
    }

    /// The image that the pods run, by its name at the site: the given one, or Gantry's own by its
    /// digest.
    fn choose_image(&self, locked: &WebhookImages) -> Result<String> {
        if let Some(image) = self.image {
            return match locked.decide(image) {
                ImageDecision::Moves(image) => Ok(image),
                // An image that is not locked may be the site's own build: use it as it is.
                ImageDecision::Stays | ImageDecision::Unknown => Ok(image.to_owned()),
            };
        }
        let own = own_image::image_reference()?;
        // Only the version of this binary: another one may not know the same arguments.
        let found = locked.content().find_current(&own);
        let found = found.ok_or_else(|| Error::NoImage { image: own.to_string() })?;
        Ok(found.target().with_digest(found.site_digest()).to_string())
    }

    /// The webhook's namespace, with the strictest Pod Security level.
    fn namespace_object(&self) -> Value {
        let mut labels = object_labels(self.name);
        for mode in ["enforce", "warn"] {
            labels[format!("pod-security.kubernetes.io/{mode}")] = json!("restricted");
        }
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.namespace, "labels": labels},
        })
    }

    /// RBAC: the pods may change their own Secret and their own configuration, each by name, and the
    /// site's objects in its namespaces. What they may change, `configuration_guard` and
    /// `namespaces::guard` say. Nothing for a webhook that asks the API server for nothing.
    fn rbac_objects(&self) -> Vec<Value> {
        let own_object = |resource: &str, group: &str| {
            json!({
                "apiGroups": [group], "resources": [resource], "resourceNames": [self.name],
                "verbs": ["get", "update"],
            })
        };
        let binding = |kind: &str| {
            json!({
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": self.name},
                "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": self.namespace}],
            })
        };
        let rbac = "rbac.authorization.k8s.io/v1";
        let (mut all, mut cluster_rules) = (Vec::new(), Vec::new());
        if matches!(self.certificate, CertificateSource::SelfSigned) {
            let rules = json!({"rules": [own_object("secrets", "")]});
            all.push(self.named_object(rbac, "Role", rules));
            all.push(self.named_object(rbac, "RoleBinding", binding("Role")));
            cluster_rules
                .push(own_object("mutatingwebhookconfigurations", "admissionregistration.k8s.io"));
        }
        cluster_rules.extend(self.namespaces.iter().flat_map(|rights| rights.build_rules()));
        if cluster_rules.is_empty() {
            return all;
        }
        let rules = json!({"rules": cluster_rules});
        for (kind, fields) in
            [("ClusterRole", rules), ("ClusterRoleBinding", binding("ClusterRole"))]
        {
            let mut object = self.named_object(rbac, kind, fields);
            // Cluster-scoped objects must not name a namespace.
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("namespace");
            }
            all.push(object);
        }
        all
    }

    /// The ConfigMap with the files that the pods read: the site, the locks, the receipts.
    fn config_map(&self, content: &SiteContent) -> Result<Value> {
        let mut site = self.site.clone();
        // The webhook never connects to the registry or another cluster: leave out what is only for
        // that.
        site.registry.ca = self.namespaces.and(self.ca).map(|_| SITE_CA.into());
        if site.registry.ca.is_none() {
            site.ca_objects.clear();
        }
        if self.namespaces.is_none() {
            site.namespaces = None;
        }
        site.context = None;
        site.models.clear();
        let mut data = Map::new();
        data.insert("site.yaml".to_owned(), json!(yaml::write_document(&site)?));
        if let (Some(_), Some(ca)) = (&site.registry.ca, self.ca) {
            data.insert(SITE_CA.to_owned(), json!(ca));
        }
        for (index, text) in
            shortened_locks::encode_shortened_locks(self.locks)?.into_iter().enumerate()
        {
            data.insert(lock_file_name(index), json!(text));
        }
        for (index, receipt) in self.receipts.iter().enumerate() {
            let mut receipt = receipt.clone();
            receipt.blobs.clear();
            receipt.roots.retain(|held| content.depends_on_receipts(&held.name));
            data.insert(receipt_file_name(index), json!(receipt.to_json()?));
        }
        Ok(self.named_object("v1", "ConfigMap", json!({"data": data})))
    }

    /// The Deployment: two pods on different nodes if possible, without privileges.
    fn deployment_object(&self, image: &str) -> Value {
        let (mut arguments, mut volumes, mut mounts) = (self.container_arguments(), vec![], vec![]);
        let mut volume = |name: &str, source: Value, path: &str| {
            let mut volume = json!({"name": name});
            if let (Some(volume), Value::Object(source)) = (volume.as_object_mut(), source) {
                volume.extend(source);
            }
            volumes.push(volume);
            mounts.push(json!({"name": name, "mountPath": path}));
        };
        volume("files", json!({"configMap": {"name": self.name}}), "/etc/gantry");
        volume("tmp", json!({"emptyDir": {"sizeLimit": "16Mi"}}), "/tmp");
        match &self.certificate {
            CertificateSource::SelfSigned => arguments.extend([
                format!("--self-signed={}/{}", self.namespace, self.name),
                format!("--configuration={}", self.name),
                format!("--host={}.{}.svc", self.name, self.namespace),
            ]),
            CertificateSource::Given { secret, .. } => {
                volume("tls", json!({"secret": {"secretName": secret}}), "/etc/gantry-tls");
                arguments.extend(
                    ["--tls-cert=/etc/gantry-tls/tls.crt", "--tls-key=/etc/gantry-tls/tls.key"]
                        .map(str::to_owned),
                );
            }
        }
        if self.namespaces.is_some() {
            arguments.push(format!("--keep-namespaces={}", self.namespace));
        }
        // Nobody in a pod can confirm the cluster.
        let has_rights =
            matches!(self.certificate, CertificateSource::SelfSigned) || self.namespaces.is_some();
        if has_rights {
            arguments.push("--yes".to_owned());
        }
        let probe =
            |path: &str| json!({"httpGet": {"path": path, "port": "https", "scheme": "HTTPS"}});
        let container = json!({
            "name": "webhook",
            "image": image,
            "args": arguments,
            "ports": [{"name": "https", "containerPort": PORT, "protocol": "TCP"}],
            "livenessProbe": probe("/healthz"),
            "readinessProbe": probe("/readyz"),
            "resources": {
                "requests": {"cpu": "10m", "memory": "32Mi"},
                "limits": {"memory": "128Mi"},
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": mounts,
        });
        let mut pod = json!({
            "serviceAccountName": self.name,
            "automountServiceAccountToken": has_rights,
            "terminationGracePeriodSeconds": GRACE,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "topologySpreadConstraints": [{
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": pod_selector(self.name)},
            }],
            "containers": [container],
            "volumes": volumes,
        });
        if let Some(secret) = &self.site.registry.pull_secret {
            pod["imagePullSecrets"] = json!([{"name": secret}]);
        }
        self.named_object(
            "apps/v1",
            "Deployment",
            json!({"spec": {
                "replicas": 2,
                "selector": {"matchLabels": pod_selector(self.name)},
                // While namespaces fail closed, a new pod has to be ready before an old one ends.
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {"metadata": {"labels": object_labels(self.name)}, "spec": pod},
            }}),
        )
    }

    /// The arguments of `gantry webhook`, except those for the certificate.
    fn container_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["webhook".to_owned(), format!("--listen=0.0.0.0:{PORT}")];
        arguments.push(format!("--shutdown-delay={SHUTDOWN_DELAY}"));
        arguments.push("--site=/etc/gantry/site.yaml".to_owned());
        let locks =
            (0..self.locks.len()).map(|n| format!("--lock=/etc/gantry/{}", lock_file_name(n)));
        arguments.extend(locks);
        let receipts = (0..self.receipts.len())
            .map(|n| format!("--receipt=/etc/gantry/{}", receipt_file_name(n)));
        arguments.extend(receipts);
        if self.pin == ImagePinning::Digest {
            arguments.push("--digests".to_owned());
        }
        arguments
    }

    /// An object with the webhook's name and labels in its namespace, and these fields.
    fn named_object(&self, api_version: &str, kind: &str, fields: Value) -> Value {
        let mut object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": object_labels(self.name)},
        });
        if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
            object.extend(fields);
        }
        object
    }
}

fn pod_selector(name: &str) -> Value {
    json!({"app.kubernetes.io/name": name})
}

fn lock_file_name(index: usize) -> String {
    format!("{index}.lock")
}

fn receipt_file_name(index: usize) -> String {
    format!("{index}.receipt.json")
}
