//! The volumes that containers need: the claim with the models, and the CA. If the chart mounts the
//! same claim or object already, that mount is used.

use serde_json::{Value, json};
use types::site::ModelLayout;

use super::entries::{ContainerMount, PodVolume};
use super::needs::WiringNeeds;
use super::pods::{RenderedContainer, RenderedPod, list_field, text_field};
use super::site::{CaObjectKind, ModelSource, SiteCa, SiteServices};

/// Where models are mounted; a path that no image has.
const MODELS_AT: &str = "/gantry/models";
/// Where the CA is mounted.
const CA_AT: &str = "/gantry/ca";
/// The names of the volumes; with several claims, the start of the names.
const MODELS: &str = "gantry-models";
const CA: &str = "gantry-ca";
/// Names of volumes are DNS labels (RFC 1123), at most 63 characters.
const LONGEST: usize = 63;

/// The path of the models' claim in a container. If the chart does not mount the claim there, the
/// mount is added to `wants`. `None` if `models` is not a claim.
pub(super) fn mount_claim(
    offline: &SiteServices,
    pod: &RenderedPod,
    container: &RenderedContainer,
    models: &ModelSource,
    why: &str,
    wants: &mut WiringNeeds,
) -> Option<String> {
    let ModelSource::Claim { claim, folder, layout, .. } = models else { return None };
    let layout_of = *layout;
    let is_claim = |volume: &&Value| is_volume_of(volume, claim);
    // One claim for each layout is the rule; its name is then short and stable. Only with several
    // of one layout does the claim's name become part of it.
    let layout = match layout_of {
        ModelLayout::HfCache => MODELS.to_owned(),
        other => format!("{MODELS}-{}", layout_name(other)),
    };
    let is_like = |models: &&ModelSource| matches!(models, ModelSource::Claim { layout: own, .. } if *own == layout_of);
    let name: String = match offline.models.iter().filter(is_like).count() {
        1 => layout,
        // Names of claims may have dots (DNS subdomains), those of volumes may not.
        _ => format!("{layout}-{claim}").replace('.', "-").chars().take(LONGEST).collect(),
    };
    let name = name.trim_end_matches('-');
    let source = json!({"persistentVolumeClaim": {"claimName": claim, "readOnly": true}});
    let wanted = DesiredMount { name, at: MODELS_AT, folder, source };
    Some(mount_volume(pod, container, &is_claim, wanted, why, wants))
}

/// Whether a container mounts the claim that has the models; `false` for what is not a claim.
pub(super) fn is_claim_mounted(
    pod: &RenderedPod,
    container: &RenderedContainer,
    models: &ModelSource,
) -> bool {
    let ModelSource::Claim { claim, .. } = models else { return false };
    let volumes = list_field(pod.spec, "volumes").filter(|volume| is_volume_of(volume, claim));
    volumes.map(|volume| text_field(volume, "name")).any(|name| {
        list_field(container.value, "volumeMounts").any(|mount| text_field(mount, "name") == name)
    })
}

/// Whether a volume of a pod is the claim of this name.
fn is_volume_of(volume: &Value, claim: &str) -> bool {
    volume.pointer("/persistentVolumeClaim/claimName").and_then(Value::as_str) == Some(claim)
}

/// A volume that a container needs: its name, mount path, folder, and source.
struct DesiredMount<'a> {
    name: &'a str,
    at: &'a str,
    folder: &'a str,
    source: Value,
}

/// The path of the CA file in a container. If the chart does not mount the object with the CA
/// there, the mount is added to `wants`.
pub(super) fn mount_ca(
    pod: &RenderedPod,
    container: &RenderedContainer,
    ca: &SiteCa,
    why: &str,
    wants: &mut WiringNeeds,
) -> String {
    let (source, field, key) = match ca.from {
        CaObjectKind::ConfigMap => (json!({"configMap": {"name": ca.name}}), "configMap", "name"),
        CaObjectKind::Secret => {
            (json!({"secret": {"secretName": ca.name}}), "secret", "secretName")
        }
    };
    let is_ca = |volume: &&Value| {
        volume.get(field).and_then(|own| own.get(key)?.as_str()) == Some(ca.name.as_str())
    };
    let wanted = DesiredMount { name: CA, at: CA_AT, folder: "", source };
    format!("{}/{}", mount_volume(pod, container, &is_ca, wanted, why, wants), ca.key)
}

/// The path of a volume in a container: where the chart mounts it already (`is_it` recognises the
/// volume), else the wanted path, with volume and mount added to `wants`.
fn mount_volume(
    pod: &RenderedPod,
    container: &RenderedContainer,
    is_it: &dyn Fn(&&Value) -> bool,
    wanted: DesiredMount,
    why: &str,
    wants: &mut WiringNeeds,
) -> String {
    let DesiredMount { name, at, folder, source } = wanted;
    let known =
        list_field(pod.spec, "volumes").find(is_it).map(|volume| text_field(volume, "name"));
    if let Some(known) = known {
        let mount = list_field(container.value, "volumeMounts")
            .find(|mount| text_field(mount, "name") == known);
        if let Some(mount) = mount {
            // A mount of a part of the volume has the folder only below that part.
            let below = folder.strip_prefix(text_field(mount, "subPath")).unwrap_or(folder);
            let path = format!("{}/{below}", text_field(mount, "mountPath").trim_end_matches('/'));
            return path.trim_end_matches('/').to_owned();
        }
    }
    let mount = ContainerMount {
        volume: known.unwrap_or(name).to_owned(),
        path: at.to_owned(),
        folder: folder.to_owned(),
        is_own: known.is_none(),
    };
    // The pod may have the volume without this container mounting it: then only a mount is needed.
    if known.is_none() {
        wants.volumes.entry(PodVolume::new(name, source)).or_default().insert(pod.spot.clone());
    }
    wants.why.insert((container.spot.clone(), mount.volume.clone()), why.to_owned());
    wants.mounts.entry(mount).or_default().insert(container.spot.clone());
    at.to_owned()
}

/// The layout of the models in a source.
pub(super) fn layout_of_source(models: &ModelSource) -> ModelLayout {
    match models {
        ModelSource::Claim { layout, .. } | ModelSource::Bucket { layout, .. } => *layout,
        ModelSource::Depot { .. } => ModelLayout::default(),
    }
}

/// The name of a layout, as in site.yaml.
pub(super) fn layout_name(layout: ModelLayout) -> &'static str {
    match layout {
        ModelLayout::HfCache => "hf-cache",
        ModelLayout::Flat => "flat",
        ModelLayout::Ollama => "ollama",
        ModelLayout::Sie => "sie",
    }
}
