//! Whether what runs is what was locked: the digests of running containers against the lock, and
//! nothing from outside the site.

use std::collections::{BTreeMap, BTreeSet};

use cluster::Scope;
use cluster::objects::api::core::v1::{ContainerStatus, Pod};
use types::lock::{Image, Lock};
use types::{Digest, Reference};

use super::images::is_rewritten;
use super::pods::called;
use super::{Finding, Name, SiteRegistry, State, Subject};

/// What is known of the locked images.
struct Locked<'a> {
    registry: &'a SiteRegistry,
    /// By their names at the site, without tag: several tags may be locked.
    at_site: BTreeMap<String, Vec<&'a Image>>,
    /// By their own names, which node mirrors serve.
    by_name: BTreeMap<String, Vec<&'a Image>>,
    /// Digests that were asked for already, and whether they are an index of locked manifests.
    asked: BTreeMap<(String, Digest), bool>,
}

pub(super) async fn check(subject: &Subject) -> Vec<Finding> {
    let what = "running images";
    let Some(registry) = &subject.registry else {
        return vec![super::registry::no_site(Name::Running, what)];
    };
    let Some(lock) = &subject.lock else {
        return vec![Finding::skipped(Name::Running, "site", what, "there is no gantry.lock")];
    };
    let namespaces: BTreeSet<&str> =
        subject.releases.iter().map(|release| release.namespace.as_str()).collect();
    let mut locked = Locked::new(registry, lock);
    let mut findings = Vec::new();
    for namespace in namespaces {
        let pods = match subject.cluster.list::<Pod>(Scope::Namespace(namespace), "").await {
            Ok(pods) => pods,
            Err(error) => {
                let failed = State::Failed;
                findings.push(Finding::refused(Name::Running, namespace, what, &error, failed));
                continue;
            }
        };
        let (mut right, mut all) = (0_usize, 0_usize);
        let mut bad = Vec::new();
        for pod in &pods {
            for (container, wanted) in containers(pod) {
                all += 1;
                match locked.judge(namespace, pod, &container, wanted).await {
                    None => right += 1,
                    Some(finding) => bad.push(finding),
                }
            }
        }
        if all == 0 {
            let why = "nothing runs there";
            findings.push(Finding::skipped(Name::Running, namespace, what, why));
        } else if right > 0 {
            let why = format!("{right} of {all} containers have a locked image of the site");
            findings.push(Finding::ok(Name::Running, namespace, what, why));
        }
        findings.extend(bad);
    }
    if findings.is_empty() {
        let why = "there is no release: gantry.lock has no charts";
        findings.push(Finding::skipped(Name::Running, "cluster", what, why));
    }
    findings
}

/// Each container with the image that its pod asks for.
fn containers(pod: &Pod) -> Vec<(Container, &str)> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let status = pod.status.as_ref();
    let statuses: Vec<&ContainerStatus> = status
        .iter()
        .flat_map(|status| {
            let init = status.init_container_statuses.iter().flatten();
            let main = status.container_statuses.iter().flatten();
            init.chain(main).chain(status.ephemeral_container_statuses.iter().flatten())
        })
        .collect();
    let of = |name: &str, image: Option<&String>| {
        let status = statuses.iter().find(|status| status.name == name);
        let id = status.map(|status| status.image_id.clone()).unwrap_or_default();
        (name.to_owned(), id, image.cloned())
    };
    let init = spec.init_containers.iter().flatten().map(|c| (&c.name, c.image.as_ref()));
    let main = spec.containers.iter().map(|c| (&c.name, c.image.as_ref()));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (&c.name, c.image.as_ref()));
    init.chain(main)
        .chain(ephemeral)
        .filter_map(|(name, image)| {
            let (name, id, _) = of(name, image);
            Some((Container { name, id }, image?.as_str()))
        })
        .collect()
}

/// A container and the image that it runs.
struct Container {
    name: String,
    /// `registry/repository@sha256:…`, or the config's digest alone; empty before it started.
    id: String,
}

impl<'a> Locked<'a> {
    fn new(registry: &'a SiteRegistry, lock: &'a Lock) -> Self {
        let mut at_site: BTreeMap<String, Vec<&Image>> = BTreeMap::new();
        let mut by_name: BTreeMap<String, Vec<&Image>> = BTreeMap::new();
        for image in &lock.images {
            if let Ok(target) = registry.target(&image.reference) {
                at_site.entry(target.name()).or_default().push(image);
            }
            by_name.entry(image.reference.name()).or_default().push(image);
        }
        Self { registry, at_site, by_name, asked: BTreeMap::new() }
    }

    /// What is wrong with a container's image; `None` when nothing is.
    async fn judge(
        &mut self,
        namespace: &str,
        pod: &Pod,
        container: &Container,
        wanted: &str,
    ) -> Option<Finding> {
        let what = format!("{}, container {}", called(pod), container.name);
        let failed = || Finding::failed(Name::Running, namespace, &what);
        let Ok(reference) = wanted.parse::<Reference>() else {
            let why = format!("{wanted:?} is no image name");
            return Some(failed().because(why, "correct the values"));
        };
        let site = self.registry.prefix.to_string();
        let name = reference.name();
        let (images, is_public) = match (self.at_site.get(&name), self.by_name.get(&name)) {
            (Some(images), _) => (images.clone(), false),
            (None, Some(images)) => (images.clone(), true),
            (None, None) if name.starts_with(&format!("{site}/")) => {
                let why = format!("it runs {wanted}, which is no image of the lock");
                let next = "add it to gantry.yaml and lock it, or find out who deployed it";
                return Some(failed().because(why, next).with_wrong_digest());
            }
            (None, None) => {
                let why = format!("it runs {wanted}, an image from outside of the site ({site})");
                let next = "move it: gantry relocate, or gantry deploy; gantry policy images keeps such images out";
                return Some(failed().because(why, next));
            }
        };
        if container.id.is_empty() {
            // It has not started; its pod says why.
            return None;
        }
        let Some(digest) = digest_of(&container.id) else {
            let why = format!("its node tells no digest of {wanted} ({})", container.id);
            let next = "the image was imported past a registry: let the node pull it";
            return Some(Finding::warning(Name::Running, namespace, &what).because(why, next));
        };
        if !self.is_locked(&images, &reference, digest).await {
            let locked: Vec<String> = images.iter().map(|image| image.digest.to_string()).collect();
            let why = format!("it runs {wanted} as {digest}; locked is {}", locked.join(" or "));
            let next = "the tag was pushed again, or the node has an older image: load the bundle and deploy again";
            return Some(failed().because(why, next).with_wrong_digest());
        }
        is_public.then(|| {
            let why = format!("it runs the locked digest under the public name {wanted}: only a mirror on the node keeps it inside");
            let next = "move it where the chart lets you: gantry relocate";
            Finding::warning(Name::Running, namespace, &what).because(why, next)
        })
    }

    /// Whether a digest is of the lock: an index, a platform's manifest, a config, or an index at
    /// the site that has only locked manifests.
    async fn is_locked(
        &mut self,
        images: &[&Image],
        reference: &Reference,
        digest: Digest,
    ) -> bool {
        if images.iter().any(|image| names(image, digest)) {
            return true;
        }
        let key = (reference.name(), digest);
        if let Some(known) = self.asked.get(&key) {
            return *known;
        }
        let target = reference.with_digest(digest);
        let reader = self.registry.reader();
        let mut is = false;
        // Only the site's registry is asked: a public name would lead outside.
        if reference.registry() == self.registry.prefix.registry() {
            for image in images {
                is = is || is_rewritten(&reader, image, &target).await.unwrap_or(false);
            }
        }
        self.asked.insert(key, is);
        is
    }
}

fn names(image: &Image, digest: Digest) -> bool {
    image.digest == digest
        || image.manifests.iter().any(|manifest| {
            manifest.digest == digest
                || manifest.config.as_ref().is_some_and(|config| config.digest == digest)
        })
}

/// The digest of an image id, as containerd and CRI-O write it.
fn digest_of(id: &str) -> Option<Digest> {
    let last = id.rsplit('@').next().unwrap_or(id);
    last.rsplit("://").next().unwrap_or(last).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_id_has_its_digest_however_the_runtime_writes_it() {
        let hex = "ab".repeat(32);
        for id in [
            format!("registry.internal:5000/ai/app@sha256:{hex}"),
            format!("sha256:{hex}"),
            format!("docker-pullable://registry.internal/app@sha256:{hex}"),
        ] {
            assert_eq!(digest_of(&id).map(|digest| digest.hex()), Some(hex.clone()), "{id}");
        }
        assert_eq!(digest_of("docker.io/library/import-2026"), None);
    }
}
