//! The namespaces that site.yaml names beside those of releases: each gets the pull secret, the CA, the
//! pull secret in its service accounts, and network policies. Written once by `gantry deploy`, kept by
//! the operator as namespaces appear, or printed as manifests.

use std::collections::{BTreeMap, BTreeSet};

use cluster::objects::api::core::v1::{LocalObjectReference, Namespace, Secret, ServiceAccount};
use cluster::objects::api::networking::v1::NetworkPolicy;
use cluster::objects::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use cluster::objects::serde_json::{from_value, to_value};
use cluster::{Cluster, ObjectScope, Permission, TypedObject, mark_as_own};
use policy::egress::{EgressPolicySpec, build_egress_policies};
use policy::{AllowedFlow, AllowedNamespace};
use serde_json::Value;
use types::Cause;
use types::site::Site;
use types::site_namespaces::SiteNamespaces;

use super::labels::PART;
use super::namespace::{self, SiteObjects, SupportObject, SupportObjectStatus};
use super::{accounts, undeploy};
use crate::Result;

/// What is checked before namespaces are prepared, for the message about missing rights.
const DOING: &str = "preparing the namespaces of site.yaml";

/// What each namespace of `namespaces:` in site.yaml gets.
#[derive(Debug, Clone)]
pub struct SiteNamespaceObjects {
    site: Site,
    rules: SiteNamespaces,
    objects: SiteObjects,
    egress: Option<AllowedEgress>,
}

/// What pods may reach, as site.yaml has it.
#[derive(Debug, Clone)]
struct AllowedEgress {
    flows: Vec<AllowedFlow>,
    neighbours: Vec<AllowedNamespace>,
}

/// Whether Secrets are among the manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretManifests {
    /// With their content in plain text.
    Included,
    /// Left out: they come from somewhere else.
    LeftOut,
}

impl SiteNamespaceObjects {
    /// What a site gives to its namespaces. `objects` are the pull secret and the CA. Without
    /// `namespaces:` in the site no namespace is selected, and one that is named by hand gets what it
    /// would get by default.
    ///
    /// # Errors
    /// An address in `namespaces.egress` that is not valid.
    pub fn of_site(site: &Site, objects: SiteObjects) -> Result<Self> {
        let rules = site.namespaces.clone().unwrap_or_default();
        let egress = match &rules.egress {
            None => None,
            Some(egress) => {
                let flows: Vec<AllowedFlow> = parse_all(&egress.allow, "allow")?;
                let neighbours = parse_all(&egress.allow_namespaces, "allowNamespaces")?;
                Some(AllowedEgress { flows, neighbours })
            }
        };
        Ok(Self { site: site.clone(), rules, objects, egress })
    }

    /// Whether the site selects this namespace. One that is being deleted is not selected.
    pub fn is_selected(&self, namespace: &Namespace) -> bool {
        let metadata = &namespace.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        metadata.deletion_timestamp.is_none()
            && self.rules.is_selected(name, metadata.labels.as_ref())
    }

    /// The namespaces that the site names, and those in the cluster that have its labels.
    pub async fn select_namespaces(&self, cluster: &Cluster) -> Result<BTreeSet<String>> {
        let mut names: BTreeSet<String> = self.rules.names.iter().cloned().collect();
        if let Some(selector) = &self.rules.selector {
            let labelled = cluster
                .list_objects::<Namespace>(ObjectScope::Cluster, &selector.to_query())
                .await?;
            let selected = labelled.into_iter().filter(|namespace| self.is_selected(namespace));
            names.extend(selected.filter_map(|namespace| namespace.metadata.name));
        }
        Ok(names)
    }

    /// Writes everything to all selected namespaces, and makes those of the list that do not exist. A
    /// right that is missing for any of them is an error before the first one is changed.
    pub async fn prepare(&self, cluster: &Cluster) -> Result<Vec<SupportObject>> {
        let names = self.select_namespaces(cluster).await?;
        self.require_rights(cluster, &names).await?;
        let mut beside = Vec::new();
        for name in &names {
            beside.extend(namespace::prepare_namespace(cluster, name, &self.objects).await?);
            beside.extend(self.apply_accounts_and_policies(cluster, name).await?);
        }
        Ok(beside)
    }

    /// Writes everything to one namespace that exists, without changing the namespace itself.
    pub async fn apply_to_namespace(
        &self,
        cluster: &Cluster,
        name: &str,
    ) -> Result<Vec<SupportObject>> {
        let mut beside = namespace::apply_site_objects(cluster, name, &self.objects).await?;
        beside.extend(self.apply_accounts_and_policies(cluster, name).await?);
        Ok(beside)
    }

    /// Reports what [`Self::prepare`] would do, without doing it.
    pub async fn plan(&self, cluster: &Cluster) -> Result<Vec<SupportObject>> {
        let names = self.select_namespaces(cluster).await?;
        let mut beside = Vec::new();
        for name in &names {
            beside.extend(namespace::plan_namespace(cluster, name, &self.objects).await?);
            let scope = ObjectScope::Namespace(name);
            for policy in self.build_policies(name)? {
                let policy_name = policy.metadata.name.clone().unwrap_or_default();
                let found = cluster.get_object::<NetworkPolicy>(scope, &policy_name).await?;
                let outcome = namespace::plan_object(found.as_ref().map(|one| &one.metadata));
                let place = format!("{name}/{policy_name}");
                beside.push(SupportObject::new("NetworkPolicy", &place, outcome));
            }
            let Some(pull) = &self.objects.pull_secret else { continue };
            for account in &self.rules.service_accounts {
                let found = cluster.get_object::<ServiceAccount>(scope, account).await?;
                let outcome = match found {
                    Some(found) if accounts::is_giving_secret(&found, &pull.name) => {
                        SupportObjectStatus::Same
                    }
                    _ => SupportObjectStatus::Changed,
                };
                let place = format!("{name}/{account}");
                beside.push(SupportObject::new("ServiceAccount", &place, outcome));
            }
        }
        Ok(beside)
    }

    /// Removes from all selected namespaces what Gantry wrote there. Returns what was removed.
    pub async fn remove(&self, cluster: &Cluster) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for name in self.select_namespaces(cluster).await? {
            removed.extend(undeploy::remove_site_objects(cluster, &name).await?);
        }
        Ok(removed)
    }

    /// Everything of one namespace as manifests: the namespace, then what is in it.
    ///
    /// # Errors
    /// A pull secret for which no credential is known, if Secrets are included.
    pub fn build_manifests(&self, name: &str, secrets: SecretManifests) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let namespace = namespace::build_namespace(name, &self.objects);
        push_manifest(&mut all, &namespace, None)?;
        if let Some(pull) = &self.objects.pull_secret {
            if secrets == SecretManifests::Included {
                let mut metadata = ObjectMeta::default();
                mark_as_own(&mut metadata, PART);
                let secret = pull.to_secret(metadata).ok_or_else(|| pull.missing_credential())?;
                push_manifest(&mut all, &secret, Some(name))?;
            }
            for account in &self.rules.service_accounts {
                let account = ServiceAccount {
                    metadata: ObjectMeta {
                        name: Some(account.clone()),
                        annotations: Some(BTreeMap::from([(
                            accounts::GIVEN.to_owned(),
                            pull.name.clone(),
                        )])),
                        ..ObjectMeta::default()
                    },
                    image_pull_secrets: Some(vec![LocalObjectReference {
                        name: pull.name.clone(),
                    }]),
                    ..ServiceAccount::default()
                };
                push_manifest(&mut all, &account, Some(name))?;
            }
        }
        let (maps, ca_secrets) = self.objects.build_ca_objects();
        for map in &maps {
            push_manifest(&mut all, map, Some(name))?;
        }
        let ca_secrets: Vec<&Secret> = match secrets {
            SecretManifests::Included => ca_secrets.iter().collect(),
            SecretManifests::LeftOut => vec![],
        };
        for secret in ca_secrets {
            push_manifest(&mut all, secret, Some(name))?;
        }
        for policy in self.build_policies(name)? {
            push_manifest(&mut all, &policy, Some(name))?;
        }
        Ok(all)
    }

    /// The names of the objects in each namespace, by kind: what a controller needs rights for.
    pub fn list_object_names(&self) -> Result<BTreeMap<&'static str, BTreeSet<String>>> {
        let mut names: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
        let mut add = |kind, name: Option<&String>| {
            names.entry(kind).or_default().extend(name.cloned());
        };
        let (maps, secrets) = self.objects.build_ca_objects();
        for map in &maps {
            add("configmaps", map.metadata.name.as_ref());
        }
        for secret in &secrets {
            add("secrets", secret.metadata.name.as_ref());
        }
        if let Some(pull) = &self.objects.pull_secret {
            add("secrets", Some(&pull.name));
            self.rules.service_accounts.iter().for_each(|name| add("serviceaccounts", Some(name)));
        }
        for policy in self.build_policies("any")? {
            add("networkpolicies", policy.metadata.name.as_ref());
        }
        Ok(names)
    }

    async fn require_rights(&self, cluster: &Cluster, names: &BTreeSet<String>) -> Result<()> {
        let mut rights = BTreeSet::new();
        for name in names {
            rights.extend(namespace::list_prepare_rights(cluster, name, &self.objects).await?);
            let mut need = |verbs: &[&str], group: &str, resource: &str| {
                let right = |verb: &&str| Permission::new(verb, group, resource).in_namespace(name);
                rights.extend(verbs.iter().map(right));
            };
            if self.objects.pull_secret.is_some() {
                need(&["get", "update"], "", "serviceaccounts");
            }
            if self.egress.is_some() {
                need(&["get", "create", "patch"], "networking.k8s.io", "networkpolicies");
            }
        }
        let rights: Vec<Permission> = rights.into_iter().collect();
        Ok(cluster.require_permissions(DOING, &rights).await?)
    }

    async fn apply_accounts_and_policies(
        &self,
        cluster: &Cluster,
        name: &str,
    ) -> Result<Vec<SupportObject>> {
        let mut beside = Vec::new();
        if let Some(pull) = &self.objects.pull_secret {
            let names = &self.rules.service_accounts;
            beside.extend(accounts::extend_accounts(cluster, name, names, &pull.name).await?);
        }
        let scope = ObjectScope::Namespace(name);
        for policy in self.build_policies(name)? {
            let policy_name = policy.metadata.name.clone().unwrap_or_default();
            let outcome = namespace::apply_unless_foreign(cluster, scope, &policy).await?;
            let place = format!("{name}/{policy_name}");
            beside.push(SupportObject::new("NetworkPolicy", &place, outcome));
        }
        Ok(beside)
    }

    /// The network policies of a namespace; none unless the site asks for them.
    fn build_policies(&self, namespace: &str) -> Result<Vec<NetworkPolicy>> {
        let Some(egress) = &self.egress else { return Ok(vec![]) };
        let spec = EgressPolicySpec {
            namespace: namespace.parse().map_err(|error| invalid("names", error))?,
            flows: egress.flows.clone(),
            neighbours: egress.neighbours.clone(),
        };
        let policies = build_egress_policies(&spec, &self.site);
        let policies = policies.map_err(|error| invalid("egress", error))?;
        let typed = policies.manifests.into_iter().map(|manifest| {
            let mut policy: NetworkPolicy = from_value(manifest).map_err(encoding_error)?;
            mark_as_own(&mut policy.metadata, PART);
            Ok(policy)
        });
        typed.collect()
    }
}

/// Parses all entries of a list under `namespaces.egress`.
fn parse_all<T: std::str::FromStr<Err = policy::Error>>(
    texts: &[String],
    key: &str,
) -> Result<Vec<T>> {
    let parsed = texts.iter().map(|text| text.parse::<T>());
    parsed.collect::<policy::Result<_>>().map_err(|error| invalid(&format!("egress.{key}"), error))
}

/// The error of a key under `namespaces:` in site.yaml.
fn invalid(key: &str, error: policy::Error) -> crate::Error {
    let text = error.to_string();
    crate::Error::Types(types::Error::Document {
        document: format!("namespaces.{key} of site.yaml"),
        line: 0,
        column: 0,
        message: Cause::described(text, error),
    })
}

fn encoding_error(source: serde_json::Error) -> crate::Error {
    let doing = "writing an object as JSON".to_owned();
    crate::Error::Cluster(cluster::Error::Encoding { doing, source })
}

/// Adds an object as JSON, in this namespace.
fn push_manifest<K: TypedObject>(
    all: &mut Vec<Value>,
    object: &K,
    namespace: Option<&str>,
) -> Result<()> {
    let mut object = object.clone();
    object.meta_mut().namespace = namespace.map(str::to_owned);
    all.push(to_value(object).map_err(encoding_error)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use net::Credential;

    use super::super::namespace::PullSecret;
    use super::*;

    const SITE: &str = "version: 1
registry: {url: '10.0.0.5:5000/ai', pullSecret: site, ca: ca.pem}
caObjects: [{configMap: corp-ca, key: tls-ca.pem}]
namespaces:
  names: [jobs]
  selector: {matchLabels: {site: 'true'}}
  serviceAccounts: [default, builder]
  egress: {allow: ['10.0.0.9:443'], allowNamespaces: ['databases:5432']}
";

    fn site_objects(site: &str) -> Result<SiteNamespaceObjects> {
        let site = Site::parse("site.yaml", site).unwrap();
        let credential = Credential::Password { user: "me".into(), password: "secret".into() };
        let pull = PullSecret {
            name: "site".into(),
            host: "10.0.0.5:5000".into(),
            credential: Some(credential),
        };
        let objects = SiteObjects {
            pull_secret: Some(pull),
            ca: Some("PEM".into()),
            ca_objects: site.ca_objects.clone(),
            ..SiteObjects::default()
        };
        SiteNamespaceObjects::of_site(&site, objects)
    }

    #[test]
    fn a_namespace_as_manifests_has_all_that_the_site_gives() {
        let objects = site_objects(SITE).unwrap();
        let all = objects.build_manifests("jobs", SecretManifests::Included).unwrap();
        let names: Vec<String> = all
            .iter()
            .map(|one| format!("{} {}", one["kind"].as_str().unwrap(), one["metadata"]["name"]))
            .collect();
        assert_eq!(
            names.join(", ").replace('"', ""),
            "Namespace jobs, Secret site, ServiceAccount default, ServiceAccount builder, \
             ConfigMap gantry-ca, ConfigMap corp-ca, Secret gantry-ca, \
             NetworkPolicy gantry-deny-egress, NetworkPolicy gantry-allow-dns, \
             NetworkPolicy gantry-allow-namespace, NetworkPolicy gantry-allow-site, \
             NetworkPolicy gantry-allow-declared"
        );
        assert!(all.iter().skip(1).all(|one| one["metadata"]["namespace"] == "jobs"));
        assert_eq!(all[5]["data"]["tls-ca.pem"], "PEM");
        assert_eq!(all[2]["imagePullSecrets"][0]["name"], "site");
        // The namespace may be somebody else's, so it is not marked as Gantry's.
        assert!(!all[0].to_string().contains("managed-by"), "{}", all[0]);
        let without = objects.build_manifests("jobs", SecretManifests::LeftOut).unwrap();
        assert!(without.iter().all(|one| one["kind"] != "Secret"));
        assert_eq!(without.len(), all.len() - 2);
    }

    #[test]
    fn a_controller_needs_rights_for_these_names_and_no_others() {
        let names = site_objects(SITE).unwrap().list_object_names().unwrap();
        let names = |kind: &str| names[kind].iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(names("configmaps"), "corp-ca gantry-ca");
        assert_eq!(names("secrets"), "gantry-ca site");
        assert_eq!(names("serviceaccounts"), "builder default");
        assert!(names("networkpolicies").starts_with("gantry-allow-declared"));
    }

    #[test]
    fn a_wrong_address_names_its_key() {
        let error = site_objects(&SITE.replace("10.0.0.9:443", "example.com")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("namespaces.egress.allow of site.yaml"), "{error}");
        assert!(error.contains("addresses, not names"), "{error}");
    }

    #[test]
    fn a_namespace_that_is_being_deleted_is_left_alone() {
        let objects = site_objects(SITE).unwrap();
        let namespace = |more: Value| -> Namespace {
            let mut metadata = more;
            metadata["name"] = "any".into();
            from_value(serde_json::json!({"metadata": metadata})).unwrap()
        };
        let labels = serde_json::json!({"site": "true"});
        assert!(objects.is_selected(&namespace(serde_json::json!({"labels": labels}))));
        assert!(!objects.is_selected(&namespace(serde_json::json!({
            "labels": labels, "deletionTimestamp": "2026-01-01T00:00:00Z"}))));
    }
}
