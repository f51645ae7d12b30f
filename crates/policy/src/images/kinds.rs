//! The kinds that a policy judges: those of the table of pod kinds that every cluster has. Kinds that
//! somebody has to install (a Rollout) are left out on purpose: Kyverno refuses a policy that names a
//! kind which the cluster lacks, and their pods are judged as pods in any case.

use types::pod_kinds::PodKind;

/// The path to the pod template in most kinds. The rules in CEL and Rego name only the kinds that
/// have another one.
pub(super) const USUAL_TEMPLATE: [&str; 2] = ["spec", "template"];

/// The kinds that a policy judges, by API group.
pub(super) fn judged_kinds_by_group() -> impl Iterator<Item = (&'static str, Vec<&'static PodKind>)>
{
    PodKind::built_in_groups()
}

/// The judged kinds whose pod template is not at [`USUAL_TEMPLATE`].
pub(super) fn kinds_with_own_path() -> impl Iterator<Item = &'static PodKind> {
    PodKind::built_in().filter(|own| own.template_path != USUAL_TEMPLATE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use types::lock::Lock;
    use types::pod_kinds::{CONTAINER_LISTS, PodKind};
    use types::site::Site;
    use types::site_content::SiteContent;

    use crate::images::{ImagePolicySpec, PolicyAction, PolicyEngine, build_manifests};
    use crate::{AdmittedVersions, AllowedImages, NamespaceScope};

    /// A policy of each engine, as the text that is applied.
    fn write_policies() -> Vec<(PolicyEngine, String)> {
        let site = "version: 1\nregistry: {url: 'registry.internal:5000/ai'}\n";
        let site = Site::parse("site.yaml", site).unwrap();
        let (index, own) = ("a".repeat(64), "b".repeat(64));
        let lock = format!(
            "version: 1\nname: shop\nplatforms: [linux/amd64]\nimages:\n- reference: docker.io/library/nginx:1.22\n  \
             digest: sha256:{index}\n  mediaType: index\n  size: 1\n  platforms: [linux/amd64]\n  \
             manifests: [{{digest: 'sha256:{own}', size: 1, mediaType: m}}]\n  seen: [{{by: gantry.yaml}}]\n"
        );
        let lock = Lock::parse("gantry.lock", &lock).unwrap();
        let content = SiteContent::new(&[lock], &[], &site.registry).unwrap();
        let spec = ImagePolicySpec {
            name: "p".to_owned(),
            allowed: AllowedImages::new(&content, AdmittedVersions::TagsAndDigests).unwrap(),
            scope: NamespaceScope::Only(["shop".parse().unwrap()].into()),
            action: PolicyAction::Deny,
        };
        [PolicyEngine::Vap, PolicyEngine::Kyverno, PolicyEngine::Gatekeeper]
            .into_iter()
            .map(|engine| {
                let manifests = build_manifests(engine, &spec).unwrap();
                (engine, crate::format_manifests(&[], &manifests).unwrap())
            })
            .collect()
    }

    #[test]
    fn every_engine_judges_every_kind_that_clusters_have() {
        for (engine, text) in write_policies() {
            for kind in PodKind::built_in() {
                // The API server's own rules name resources, the others kinds.
                let name = if engine == PolicyEngine::Vap { kind.resource } else { kind.kind };
                assert!(text.contains(&format!("- {name}\n")), "{engine:?} {name}: {text}");
                let path: Vec<&str> = kind.spec_path().collect();
                let path = match engine {
                    PolicyEngine::Gatekeeper => format!("spec := object.{}\n", path.join(".")),
                    _ => format!("dyn(object).?{}", path.join(".?")),
                };
                assert!(text.contains(&path), "{engine:?} {path}: {text}");
            }
        }
    }

    #[test]
    fn every_engine_judges_every_image_of_a_pod() {
        for (engine, text) in write_policies() {
            for list in CONTAINER_LISTS {
                let own = match engine {
                    PolicyEngine::Gatekeeper => format!("\"{list}\""),
                    _ => format!("variables.pod.?{list}"),
                };
                assert!(text.contains(&own), "{engine:?} {own}: {text}");
            }
            let volume = match engine {
                PolicyEngine::Gatekeeper => "spec.volumes[_].image.reference",
                _ => "v.image.?reference",
            };
            assert!(text.contains(volume), "{engine:?}: {text}");
        }
    }
}
