//! The final manifests of a release: with its patches, moved where no value moves them, proven once more,
//! and with the pull secret in the service accounts of pods that do not name it.

use std::collections::{BTreeMap, BTreeSet};

use chart::image_pins;
use chart::post_render::post_render_with_rules;
use chart::relocate::RelocationTarget;
use cluster::ObjectId;
use serde_json::{Value, json};
use types::site::Site;

use super::object_file::{ObjectFile, complete_namespaces, is_hook};
use crate::prepare::{
    ManifestPreparer, PreparedManifests, PreparedRelease, ReleasePreparer, ReleaseRefusal,
};
use crate::release::{
    DEFAULT_ACCOUNT, ImageProof, PullAccount, RenderedObject, find_accounts_without_secret,
    read_objects,
};
use crate::{Error, Result};

/// The hooks that helm runs when it installs or upgrades (helm.sh, "Chart Hooks"). The others (tests,
/// removal, rollback) are no part of what a deploy brings into a cluster.
const INSTALL_HOOKS: [&str; 4] = ["pre-install", "post-install", "pre-upgrade", "post-upgrade"];

/// Whether the hooks of a release are written. Argo CD runs them as helm does; for Flux and kubectl they are
/// objects like all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookManifests {
    /// Those that helm runs when it installs or upgrades.
    Written,
    /// None.
    LeftOut,
}

/// A release as files.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderedRelease {
    /// The release.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// The chart and its version, such as `nginx 15.1.0`; for a set of manifests that word.
    pub chart: String,
    /// Its objects, sorted by path.
    pub files: Vec<ObjectFile>,
    /// Hooks that are not written.
    pub left_out: Vec<ObjectId>,
    /// Service accounts (namespace/name) of its pods that are not part of it, and need the pull secret.
    pub accounts: Vec<String>,
}

impl ReleasePreparer<'_> {
    /// Renders a prepared release as files. helm renders it once more, to learn what the chart makes up
    /// anew each time; this needs a multi-threaded runtime.
    ///
    /// # Errors
    /// An image would come from outside the site, or two objects would have the same file.
    pub fn render_release(
        &self,
        prepared: &PreparedRelease,
        hooks: HookManifests,
    ) -> Result<RenderedRelease> {
        let planned = &prepared.planned;
        let again =
            tokio::task::block_in_place(|| self.binary.render_release(&planned.install.release))?;
        let own = planned.namespace();
        let first = self.finish_stream(prepared, &planned.rendered)?;
        let again = self.finish_stream(prepared, &again)?;
        let first = finish_objects(&first, own, hooks, self.site, self.target)?;
        let again = finish_objects(&again, own, hooks, self.site, self.target)?;
        let chart = format!("{} {}", planned.chart, planned.version);
        build_release((planned.name(), own), chart, first, again)
    }

    /// What helm and the post-renderer make of a render, hooks included.
    fn finish_stream(&self, prepared: &PreparedRelease, rendered: &str) -> Result<String> {
        let patches = prepared.wiring.patches();
        let mut stream = patches.apply(rendered)?;
        let (rules, planned) = (self.rules.rules(), &prepared.planned);
        if let Some(need) = prepared.post_render {
            if !need.is_pin_only {
                let locked = Some(self.locked);
                stream = post_render_with_rules(&stream, self.target, rules, locked)?.stream;
            }
            stream = image_pins::pin_images(&stream, self.locked, need.pin)?.stream;
        }
        let proof = ImageProof {
            target: self.target,
            rules,
            locked: self.locked,
            elsewhere: &planned.elsewhere,
        };
        let places = proof.find_outside_images(&stream)?;
        match places.is_empty() {
            true => Ok(stream),
            false => {
                let release = planned.name().to_owned();
                Err(ReleaseRefusal::OutsideImages { release, places }.into())
            }
        }
    }
}

impl ManifestPreparer<'_> {
    /// Renders a prepared set of manifests as files. `namespace` is that of the objects that name none.
    ///
    /// # Errors
    /// Two objects would have the same file.
    pub fn render_manifests(
        &self,
        prepared: &PreparedManifests,
        namespace: &str,
    ) -> Result<RenderedRelease> {
        let hooks = HookManifests::Written;
        let objects = finish_objects(&prepared.stream, namespace, hooks, self.site, self.target)?;
        let release = (prepared.release.as_str(), namespace);
        build_release(release, "manifests".to_owned(), objects.clone(), objects)
    }
}

/// The objects of a release as they are applied.
#[derive(Clone)]
struct FinishedObjects {
    objects: Vec<RenderedObject>,
    /// The hooks that are left out.
    left_out: Vec<ObjectId>,
    /// The service accounts that are not part of the release.
    accounts: Vec<String>,
}

/// Reads the objects of a stream, with namespaces, without hooks that are not wanted, and with the pull
/// secret in their service accounts. `own` is the release's namespace.
fn finish_objects(
    stream: &str,
    own: &str,
    hooks: HookManifests,
    site: &Site,
    target: &RelocationTarget,
) -> Result<FinishedObjects> {
    let mut objects = read_objects(stream, own)?;
    let mut left_out = Vec::new();
    objects.retain(|object| {
        let is_kept = !is_hook(&object.value)
            || hooks == HookManifests::Written && is_install_hook(&object.value);
        if !is_kept {
            left_out.push(object.id.clone());
        }
        is_kept
    });
    complete_namespaces(&mut objects, own);
    let mut accounts = Vec::new();
    if let Some(secret) = &site.registry.pull_secret {
        let needed = find_accounts_without_secret(&objects, target.prefix.registry(), secret);
        accounts = give_pull_secret(&mut objects, &needed, secret);
    }
    Ok(FinishedObjects { objects, left_out, accounts })
}

/// Makes files of the objects of a release (its name and namespace). `again` are those of another render.
fn build_release(
    release: (&str, &str),
    chart: String,
    first: FinishedObjects,
    again: FinishedObjects,
) -> Result<RenderedRelease> {
    let mut again: BTreeMap<ObjectId, Value> =
        again.objects.into_iter().map(|object| (object.id, object.value)).collect();
    let objects = first.objects.into_iter();
    let mut files: Vec<ObjectFile> = objects
        .map(|object| {
            // What another render does not have at all is made up as a whole.
            let again = again.remove(&object.id).unwrap_or_default();
            ObjectFile::new(release, object, again)
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some([first, second]) = files.array_windows().find(|[a, b]| a.path == b.path) {
        return Err(Error::SameFile {
            release: release.0.to_owned(),
            path: first.path.clone(),
            objects: [first.object.to_string(), second.object.to_string()],
        });
    }
    Ok(RenderedRelease {
        release: release.0.to_owned(),
        namespace: release.1.to_owned(),
        chart,
        files,
        left_out: first.left_out,
        accounts: first.accounts,
    })
}

fn is_install_hook(value: &Value) -> bool {
    let events = value.pointer("/metadata/annotations/helm.sh~1hook").and_then(Value::as_str);
    events.unwrap_or_default().split(',').any(|event| INSTALL_HOOKS.contains(&event.trim()))
}

/// Adds the pull secret to the service accounts among the objects, and the account `default` where pods
/// use that. Returns the accounts of others, which their owner has to give it.
fn give_pull_secret(
    objects: &mut Vec<RenderedObject>,
    accounts: &BTreeSet<PullAccount>,
    secret: &str,
) -> Vec<String> {
    let mut others = Vec::new();
    for PullAccount { namespace, name } in accounts {
        let own = objects.iter_mut().find(|object| {
            object.id.kind == "ServiceAccount"
                && object.id.namespace.as_ref() == Some(namespace)
                && object.id.name == *name
        });
        match own {
            Some(account) => add_secret(&mut account.value, secret),
            None if name == DEFAULT_ACCOUNT => {
                let id = ObjectId {
                    api_version: "v1".to_owned(),
                    kind: "ServiceAccount".to_owned(),
                    namespace: Some(namespace.clone()),
                    name: name.clone(),
                };
                let value = json!({
                    "apiVersion": id.api_version, "kind": id.kind,
                    "metadata": {"name": name, "namespace": namespace},
                    "imagePullSecrets": [{"name": secret}],
                });
                objects.push(RenderedObject { id, value });
            }
            None => others.push(format!("{namespace}/{name}")),
        }
    }
    others
}

fn add_secret(account: &mut Value, secret: &str) {
    let entry = json!({"name": secret});
    match account.get_mut("imagePullSecrets").and_then(Value::as_array_mut) {
        Some(secrets) if secrets.contains(&entry) => {}
        Some(secrets) => secrets.push(entry),
        None => account["imagePullSecrets"] = json!([entry]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pods_get_the_pull_secret_by_their_accounts() {
        let stream = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: own}\nimagePullSecrets: [{name: x}]\n";
        let mut objects = read_objects(stream, "shop").unwrap();
        let account = |namespace: &str, name: &str| PullAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let needed =
            [account("shop", "own"), account("shop", "default"), account("shop", "theirs")];

        let others = give_pull_secret(&mut objects, &needed.into(), "site-pull");

        assert_eq!(others, ["shop/theirs"]);
        let secrets = |at: usize| objects[at].value["imagePullSecrets"].clone();
        assert_eq!(secrets(0), json!([{"name": "x"}, {"name": "site-pull"}]));
        assert_eq!(objects[1].id.to_string(), "ServiceAccount shop/default");
        assert_eq!(secrets(1), json!([{"name": "site-pull"}]));
    }

    #[test]
    fn only_hooks_of_an_install_or_upgrade_are_brought_into_a_cluster() {
        let hook = |events: &str| json!({"metadata": {"annotations": {"helm.sh/hook": events}}});
        assert!(is_install_hook(&hook("pre-install, pre-upgrade")));
        assert!(is_install_hook(&hook("post-delete,post-install")));
        assert!(!is_install_hook(&hook("test")) && !is_install_hook(&hook("pre-delete")));
        assert!(is_hook(&hook("test")) && !is_hook(&json!({"metadata": {}})));
    }
}
