//! What a relocation found, in the form of a GitOps controller: the `helm` block of an Application for
//! Argo CD, or for Flux a HelmRelease with values and post-renderers. Each is a part of an object, which a
//! person merges into theirs or names as a patch in a kustomization.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use types::pod_kinds::{PodKind, find_pod_spec, list_containers, list_objects};

use crate::manifest::Manifests;
use crate::wiring::patch::{ObjectPatch, PatchFile};
use crate::{Error, Result, values};

/// A controller that installs charts from a Git repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitOpsController {
    /// Argo CD: `Application`.
    ArgoCd,
    /// Flux: `HelmRelease`.
    Flux,
}

/// What a controller is told about a release.
#[derive(Debug, Clone, Copy)]
pub struct GitOpsRelease<'a> {
    /// The release's name.
    pub name: &'a str,
    /// The namespace that it is installed into, where one is known.
    pub namespace: Option<&'a str>,
    /// The text of the overlay.
    pub overlay: &'a str,
    /// The changes that no value makes.
    pub patches: &'a PatchFile,
    /// The rendered manifests, with the objects that are patched.
    pub manifests: &'a Manifests,
}

/// Writes a release in the form of a controller. Its first lines are those of the overlay.
///
/// # Errors
/// [`Error::Patch`] for patches that the controller cannot apply: Argo CD applies none to charts, and
/// kustomize has no merge keys for kinds that are not of Kubernetes.
pub fn write_gitops_object(
    controller: GitOpsController,
    release: &GitOpsRelease<'_>,
) -> Result<String> {
    let mut text = String::new();
    let head = release.overlay.lines().take_while(|line| line.starts_with('#'));
    for line in head {
        let _ = writeln!(text, "{line}");
    }
    let overlay = values::read_values("the overlay", release.overlay)?;
    let object = match controller {
        GitOpsController::ArgoCd => build_application(release, &overlay)?,
        GitOpsController::Flux => build_helm_release(release, &overlay)?,
    };
    text.push_str(&types::yaml::write_manifest(&object).map_err(Error::Document)?);
    Ok(text)
}

/// The helm block of an Application (argoproj.io/v1alpha1, `ApplicationSourceHelm`). `valuesObject` wins
/// over `valueFiles`, where the user's own values are.
fn build_application(release: &GitOpsRelease<'_>, overlay: &Value) -> Result<Value> {
    if let Some(patch) = release.patches.patches.first() {
        return Err(patch_error(
            patch,
            "no value of the chart makes this change, and Argo CD applies no patches to charts; \
             commit the manifests instead: gantry render --site site.yaml -o DIR",
        ));
    }
    let mut spec = Map::new();
    if let Some(namespace) = release.namespace {
        spec.insert("destination".to_owned(), json!({"namespace": namespace}));
    }
    spec.insert(
        "source".to_owned(),
        json!({"helm": {"releaseName": release.name, "valuesObject": overlay}}),
    );
    Ok(json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
        "metadata": {"name": release.name, "namespace": "argocd"},
        "spec": spec,
    }))
}

/// A HelmRelease (helm.toolkit.fluxcd.io/v2). `values` win over `valuesFrom`, where the user's own values
/// are.
fn build_helm_release(release: &GitOpsRelease<'_>, overlay: &Value) -> Result<Value> {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), release.name.into());
    if let Some(namespace) = release.namespace {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    let mut spec = Map::new();
    spec.insert("releaseName".to_owned(), release.name.into());
    spec.insert("values".to_owned(), overlay.clone());
    let patches = release.patches.patches.iter();
    let patches: Vec<Value> = patches
        .map(|patch| build_kustomize_patch(patch, release.manifests))
        .collect::<Result<_>>()?;
    if !patches.is_empty() {
        spec.insert("postRenderers".to_owned(), json!([{"kustomize": {"patches": patches}}]));
    }
    Ok(json!({
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
        "metadata": metadata, "spec": spec,
    }))
}

/// A patch as kustomize takes it: a strategic merge, which finds containers and variables by their names
/// and mounts by their paths, wherever they stand in their lists.
fn build_kustomize_patch(patch: &ObjectPatch, manifests: &Manifests) -> Result<Value> {
    let object = find_object(patch, manifests)
        .ok_or_else(|| patch_error(patch, "it is not in the rendered manifests"))?;
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), patch.name.as_str().into());
    if !patch.annotations.is_empty() {
        metadata.insert("annotations".to_owned(), json!(patch.annotations));
    }
    let mut merge = json!({
        "apiVersion": object.get("apiVersion").cloned().unwrap_or_default(),
        "kind": patch.kind, "metadata": metadata,
    });
    if !patch.containers.is_empty() || !patch.volumes.is_empty() {
        let kind = PodKind::of_object(object).filter(|kind| kind.is_built_in());
        let kind = kind.ok_or_else(|| {
            patch_error(
                patch,
                "kustomize cannot merge the lists of a kind that is not one of Kubernetes; commit the \
                 manifests instead: gantry render --site site.yaml -o DIR",
            )
        })?;
        let spec = build_pod_spec(patch, object)?;
        // A pod is its own template, and in a template the pod's specification is `spec`.
        let inner = kind
            .template_path
            .iter()
            .rev()
            .fold(json!({"spec": spec}), |inner, key| json!({ *key: inner }));
        if let (Value::Object(merge), Value::Object(inner)) = (&mut merge, inner) {
            merge.extend(inner);
        }
    }
    let text = types::yaml::write_manifest(&merge).map_err(Error::Document)?;
    Ok(json!({"target": {"kind": patch.kind, "name": patch.name}, "patch": text}))
}

fn build_pod_spec(patch: &ObjectPatch, object: &Value) -> Result<Map<String, Value>> {
    let pod = find_pod_spec(object).ok_or_else(|| patch_error(patch, "it has no pod template"))?;
    let mut spec = Map::new();
    if !patch.volumes.is_empty() {
        spec.insert("volumes".to_owned(), json!(patch.volumes));
    }
    for container in &patch.containers {
        let is_named =
            |value: &Value| value.get("name").and_then(Value::as_str) == Some(&container.name);
        let found = list_containers(pod).find(|(_, value)| is_named(value));
        let Some((location, own)) = found else {
            return Err(patch_error(patch, &format!("it has no container {}", container.name)));
        };
        let mut merge = json!({"name": container.name});
        if !container.env.is_empty() {
            let variables = own.get("env").and_then(Value::as_array);
            let env = container.env.iter().map(|(name, value)| {
                let is_from = variables.into_iter().flatten().any(|own| {
                    own.get("name").and_then(Value::as_str) == Some(name)
                        && own.get("valueFrom").is_some()
                });
                // A merge keeps what it does not name, and a variable cannot have both.
                match is_from {
                    true => json!({"name": name, "value": value, "valueFrom": null}),
                    false => json!({"name": name, "value": value}),
                }
            });
            merge["env"] = env.collect();
        }
        if !container.volume_mounts.is_empty() {
            merge["volumeMounts"] = json!(container.volume_mounts);
        }
        let list = spec.entry(location.list).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(merge);
        }
    }
    Ok(spec)
}

fn find_object<'a>(patch: &ObjectPatch, manifests: &'a Manifests) -> Option<&'a Value> {
    let is_named = |object: &&Value| {
        object.get("kind").and_then(Value::as_str) == Some(&patch.kind)
            && object.pointer("/metadata/name").and_then(Value::as_str) == Some(&patch.name)
    };
    manifests.documents.iter().flat_map(|document| list_objects(&document.value)).find(is_named)
}

fn patch_error(patch: &ObjectPatch, reason: &str) -> Error {
    Error::Patch { object: format!("{} {}", patch.kind, patch.name), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RENDER: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: \
        {initContainers: [{name: get, image: a}], containers: [{name: web, image: a, env: [{name: HF_HOME, \
        valueFrom: {fieldRef: {fieldPath: x}}}]}]}}}\n---\napiVersion: argoproj.io/v1alpha1\nkind: Rollout\n\
        metadata: {name: slow}\nspec: {template: {spec: {containers: [{name: web, image: a}]}}}\n";
    const OVERLAY: &str =
        "# Points the images of the chart at site.\nimage:\n  # why\n  tag: \"1\"\n";

    fn read_patches(kind: &str, name: &str, container: &str) -> PatchFile {
        let text = format!(
            "version: 1\npatches:\n- kind: {kind}\n  name: {name}\n  volumes: [{{name: m, emptyDir: {{}}}}]\n  \
             containers: [{{name: {container}, env: {{HF_HOME: /models}}, volumeMounts: [{{name: m, mountPath: /models}}]}}]\n"
        );
        PatchFile::read("patches.yaml", &text).unwrap()
    }

    fn write(controller: GitOpsController, patches: &PatchFile) -> Result<String> {
        let manifests = Manifests::read(RENDER);
        let release = GitOpsRelease {
            name: "web",
            namespace: Some("ai"),
            overlay: OVERLAY,
            patches,
            manifests: &manifests,
        };
        write_gitops_object(controller, &release)
    }

    #[test]
    fn an_application_has_the_overlay_as_its_values() {
        let text = write(GitOpsController::ArgoCd, &PatchFile::new(vec![])).unwrap();
        assert!(
            text.starts_with("# Points the images of the chart at site.\napiVersion: argoproj.io")
        );
        let object = types::yaml::read_manifest(&text).unwrap();
        assert_eq!(
            object["spec"]["source"]["helm"]["valuesObject"],
            json!({"image": {"tag": "1"}})
        );
        let refused = write(GitOpsController::ArgoCd, &read_patches("Deployment", "web", "web"));
        assert!(refused.unwrap_err().to_string().contains("gantry render"));
    }

    #[test]
    fn patches_become_post_renderers_that_find_their_containers() {
        let read = |container: &str| {
            let patches = read_patches("Deployment", "web", container);
            let text = write(GitOpsController::Flux, &patches).unwrap();
            let object = types::yaml::read_manifest(&text).unwrap();
            let patch = object["spec"]["postRenderers"][0]["kustomize"]["patches"][0].clone();
            assert_eq!(patch["target"], json!({"kind": "Deployment", "name": "web"}));
            types::yaml::read_manifest(patch["patch"].as_str().unwrap()).unwrap()
        };
        let spec = read("web")["spec"]["template"]["spec"].clone();
        assert_eq!(
            spec["containers"][0]["env"],
            json!([{"name": "HF_HOME", "value": "/models", "valueFrom": null}])
        );
        assert_eq!(spec["volumes"][0]["name"], "m");
        let spec = read("get")["spec"]["template"]["spec"].clone();
        assert_eq!(
            spec["initContainers"][0]["env"],
            json!([{"name": "HF_HOME", "value": "/models"}])
        );
        assert_eq!(spec.get("containers"), None);
    }

    #[test]
    fn what_kustomize_cannot_merge_is_refused() {
        let refused =
            |patches: PatchFile| write(GitOpsController::Flux, &patches).unwrap_err().to_string();
        assert!(refused(read_patches("Rollout", "slow", "web")).contains("not one of Kubernetes"));
        assert!(refused(read_patches("Deployment", "web", "none")).contains("no container none"));
        assert!(refused(read_patches("Deployment", "none", "web")).contains("not in the rendered"));
    }
}
