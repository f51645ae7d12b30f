//! Check `running`: the running containers have the locked digests, and their images come from the
//! site. This finds tags that were pushed again, and images that nobody locked.

use std::collections::{BTreeMap, BTreeSet};

use cluster::ObjectScope;
use cluster::objects::api::core::v1::{ContainerStatus, Pod};
use types::rewritten_index::IndexCoverage;
use types::site_content::{SiteContent, SiteRoot};
use types::{Digest, Reference, RootKind};

use super::pods::pod_title;
use super::{CheckFinding, CheckName, CheckSubject, FindingState, SiteRegistry};

/// What the site holds, to look up what a container runs.
struct RunningImageJudge<'a> {
    registry: &'a SiteRegistry,
    content: &'a SiteContent,
    /// Digests that were looked up in the registry, and whether each is an index of locked
    /// manifests only. Replicas would otherwise repeat the request.
    asked: BTreeMap<(String, Digest), bool>,
}

/// Checks all containers in the namespaces of the releases.
pub(super) async fn check_running_images(subject: &CheckSubject) -> Vec<CheckFinding> {
    let what = "running images";
    let Some(registry) = &subject.registry else {
        return vec![super::registry::skip_without_site(CheckName::Running, what)];
    };
    let Some(lock) = &subject.lock else {
        return vec![CheckFinding::skipped(
            CheckName::Running,
            "site",
            what,
            "there is no gantry.lock",
        )];
    };
    let namespaces: BTreeSet<&str> =
        subject.releases.iter().map(|release| release.namespace.as_str()).collect();
    let content = match registry.content(lock) {
        Ok(content) => content,
        Err(error) => {
            return vec![
                CheckFinding::failed(CheckName::Running, "site", what)
                    .with_reason(error.to_string(), "correct registry: in site.yaml"),
            ];
        }
    };
    let mut judge = RunningImageJudge { registry, content: &content, asked: BTreeMap::new() };
    let mut findings = Vec::new();
    for namespace in namespaces {
        let pods = match subject
            .cluster
            .list_objects::<Pod>(ObjectScope::Namespace(namespace), "")
            .await
        {
            Ok(pods) => pods,
            Err(error) => {
                let failed = FindingState::Failed;
                findings.push(CheckFinding::from_cluster_error(
                    CheckName::Running,
                    namespace,
                    what,
                    &error,
                    failed,
                ));
                continue;
            }
        };
        let (mut right, mut all) = (0_usize, 0_usize);
        let mut bad = Vec::new();
        // The images of pods that are being deleted run no more in a moment.
        for pod in pods.iter().filter(|pod| !cluster::is_being_deleted(pod)) {
            for (container, wanted) in list_running_containers(pod) {
                all += 1;
                match judge.judge_container(namespace, pod, &container, wanted).await {
                    None => right += 1,
                    Some(finding) => bad.push(finding),
                }
            }
        }
        if all == 0 {
            let why = "no containers run there";
            findings.push(CheckFinding::skipped(CheckName::Running, namespace, what, why));
        } else if right > 0 {
            let why = format!("{right} of {all} containers run a locked image of the site");
            findings.push(CheckFinding::ok(CheckName::Running, namespace, what, why));
        }
        findings.extend(bad);
    }
    if findings.is_empty() {
        let why = "there are no releases, as gantry.lock has no charts";
        findings.push(CheckFinding::skipped(CheckName::Running, "cluster", what, why));
    }
    findings
}

/// Lists the containers of a pod, each with the image that the pod specifies.
fn list_running_containers(pod: &Pod) -> Vec<(ReportedContainer, &str)> {
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
    // The status names containers in another order than the specification, so they are joined by
    // name.
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
            Some((ReportedContainer { name, id }, image?.as_str()))
        })
        .collect()
}

/// A container, and the image that the runtime reports for it.
struct ReportedContainer {
    name: String,
    /// `registry/repository@sha256:…`, or the digest of the image config alone; empty before the
    /// start.
    id: String,
}

impl RunningImageJudge<'_> {
    /// Judges the image of a container. `None` if nothing is wrong with it.
    async fn judge_container(
        &mut self,
        namespace: &str,
        pod: &Pod,
        container: &ReportedContainer,
        wanted: &str,
    ) -> Option<CheckFinding> {
        let what = format!("{}, container {}", pod_title(pod), container.name);
        let failed = || CheckFinding::failed(CheckName::Running, namespace, &what);
        let Ok(reference) = wanted.parse::<Reference>() else {
            let why = format!("{wanted:?} is not a valid image name");
            return Some(failed().with_reason(why, "correct it in the values"));
        };
        let is_at_site = self.content.is_site_name(&reference);
        let images = self.find_meant(&reference);
        if images.is_empty() && is_at_site {
            // In the site's registry, so somebody put it there on purpose: as serious as a wrong
            // digest.
            let why = format!("it runs {wanted}, which is not in the lock");
            let next = "add it to gantry.yaml and lock it, or find out who deployed it";
            return Some(failed().with_reason(why, next).with_wrong_digest());
        }
        if images.is_empty() {
            let site = self.content.prefix();
            let why = format!("it runs {wanted}, an image from outside the site ({site})");
            let next = "deploy the release with gantry deploy, or use the values of gantry relocate; gantry policy images blocks such images";
            return Some(failed().with_reason(why, next));
        }
        if container.id.is_empty() {
            // It has not started yet; the check `pods` reports why.
            return None;
        }
        let Some(digest) = parse_image_id_digest(&container.id) else {
            let why = format!("its node reports no digest for {wanted} ({})", container.id);
            let next = "the image was imported on the node without a registry: remove it there, so that the node pulls it";
            return Some(
                CheckFinding::warning(CheckName::Running, namespace, &what).with_reason(why, next),
            );
        };
        if !self.is_locked_digest(&images, &reference, digest).await {
            // A job that is done keeps the pods that it had, and an update of its image does not run it again.
            if cluster::has_ended(pod) {
                return None;
            }
            let locked: Vec<String> =
                images.iter().map(|image| image.digest().to_string()).collect();
            let why = format!(
                "it runs {wanted} with the digest {digest}, but the locked digest is {}",
                locked.join(" or ")
            );
            let next = "somebody pushed the tag again, or the node has an older image: load the bundle and deploy again; deploy names the locked digest, unless pin: in site.yaml or gantry.yaml says otherwise";
            return Some(failed().with_reason(why, next).with_wrong_digest());
        }
        (!is_at_site).then(|| {
            let why = format!("it runs the locked digest under the public name {wanted}: only a registry mirror on the node keeps the pull inside the site");
            let next = "set the name of the site if the chart has a value for it: gantry relocate";
            CheckFinding::warning(CheckName::Running, namespace, &what).with_reason(why, next)
        })
    }

    /// The locked images that a name of a container means.
    fn find_meant(&self, reference: &Reference) -> Vec<SiteRoot> {
        let mut found = self.content.find(reference);
        // The digest of a rewritten index is in no lock. Whether it is one of these images is asked of
        // the registry, once it is known what runs.
        if found.is_empty() && reference.digest().is_some() && self.content.is_site_name(reference)
        {
            found = self.content.versions(reference);
        }
        found.into_iter().filter(|root| root.kind() == RootKind::Image).cloned().collect()
    }

    /// Whether a digest is one of the images (as an index, the manifest of a platform, or a
    /// config), or is that of an index at the site that has only locked manifests.
    async fn is_locked_digest(
        &mut self,
        images: &[SiteRoot],
        reference: &Reference,
        digest: Digest,
    ) -> bool {
        if images.iter().any(|image| image.runs_as(&digest)) {
            return true;
        }
        // Only the site's registry is asked: a public name would lead to a request to the internet.
        if reference.registry() != self.registry.prefix.registry() {
            return false;
        }
        let key = (reference.to_string(), digest);
        if let Some(known) = self.asked.get(&key) {
            return *known;
        }
        let found = self.registry.reader().find_manifest(&reference.with_digest(digest)).await;
        // What runs has a locked manifest then, even if the index lacks other platforms.
        let is_locked = found.ok().flatten().is_some_and(|fetched| {
            images
                .iter()
                .any(|image| image.compare_index(&fetched.manifest) != IndexCoverage::Foreign)
        });
        self.asked.insert(key, is_locked);
        is_locked
    }
}

/// Parses the digest in an image id. containerd and CRI-O write it after `@`, or alone; dockershim
/// wrote `docker-pullable://` in front.
fn parse_image_id_digest(id: &str) -> Option<Digest> {
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
            assert_eq!(
                parse_image_id_digest(&id).map(|digest| digest.hex()),
                Some(hex.clone()),
                "{id}"
            );
        }
        assert_eq!(parse_image_id_digest("docker.io/library/import-2026"), None);
    }
}
