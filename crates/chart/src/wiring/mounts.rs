//! The volumes of the wiring: the claim with the models, the CA. Where a chart mounts one already it
//! is used as it is.

use serde_json::{Value, json};
use types::site::ModelLayout;

use super::pods::{Container, Pod, list, text};
use super::site::{Ca, CaFrom, Models, Offline};
use super::wants::Wants;
use crate::values;

/// Where models are mounted.
const MODELS_AT: &str = "/gantry/models";
/// Where the CA is mounted.
const CA_AT: &str = "/gantry/ca";
/// What volumes of the wiring are called, and begin with.
const MODELS: &str = "gantry-models";
const CA: &str = "gantry-ca";
/// The names of volumes are labels of DNS.
const LONGEST: usize = 63;

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mount {
    /// The volume's name.
    pub(super) volume: String,
    pub(super) path: String,
    /// The folder of the volume; empty for all of it.
    pub(super) folder: String,
    /// Whether the volume is one of the wiring.
    pub(super) is_own: bool,
}

impl Mount {
    pub(super) fn value(&self) -> Value {
        let mut mount = json!({"name": self.volume, "mountPath": self.path, "readOnly": true});
        if !self.folder.is_empty() {
            mount["subPath"] = json!(self.folder);
        }
        mount
    }
}

/// A volume of a pod: its name, and what it is, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Volume {
    pub(super) name: String,
    text: String,
}

impl Volume {
    fn new(name: &str, source: Value) -> Self {
        let mut value = json!({"name": name});
        values::merge(&mut value, &source);
        Self { name: name.to_owned(), text: value.to_string() }
    }

    pub(super) fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// Where the claim is mounted in a container: where it is already, else where the wiring does.
pub(super) fn claim(
    offline: &Offline,
    pod: &Pod,
    container: &Container,
    models: &Models,
    why: &str,
    wants: &mut Wants,
) -> Option<String> {
    let Models::Claim { claim, folder, layout, .. } = models else { return None };
    let layout_of = *layout;
    let is_claim = |volume: &&Value| {
        volume.pointer("/persistentVolumeClaim/claimName").and_then(Value::as_str)
            == Some(claim.as_str())
    };
    let layout = match layout_of {
        ModelLayout::HfCache => MODELS.to_owned(),
        other => format!("{MODELS}-{}", named(other)),
    };
    let is_like =
        |models: &&Models| matches!(models, Models::Claim { layout: own, .. } if *own == layout_of);
    let name: String = match offline.models.iter().filter(is_like).count() {
        1 => layout,
        // The name of a claim may have dots in it.
        _ => format!("{layout}-{claim}").replace('.', "-").chars().take(LONGEST).collect(),
    };
    let name = name.trim_end_matches('-');
    let source = json!({"persistentVolumeClaim": {"claimName": claim, "readOnly": true}});
    let wanted = Wanted { name, at: MODELS_AT, folder, source };
    Some(mounted(pod, container, &is_claim, wanted, why, wants))
}

/// A volume that a container is to have, and where.
struct Wanted<'a> {
    name: &'a str,
    at: &'a str,
    folder: &'a str,
    source: Value,
}

/// The file of the CA in a container.
pub(super) fn ca(
    pod: &Pod,
    container: &Container,
    ca: &Ca,
    why: &str,
    wants: &mut Wants,
) -> String {
    let (source, field, key) = match ca.from {
        CaFrom::ConfigMap => (json!({"configMap": {"name": ca.name}}), "configMap", "name"),
        CaFrom::Secret => (json!({"secret": {"secretName": ca.name}}), "secret", "secretName"),
    };
    let is_ca = |volume: &&Value| {
        volume.get(field).and_then(|own| own.get(key)?.as_str()) == Some(ca.name.as_str())
    };
    let wanted = Wanted { name: CA, at: CA_AT, folder: "", source };
    format!("{}/{}", mounted(pod, container, &is_ca, wanted, why, wants), ca.key)
}

/// Where a volume is mounted in a container: where the chart does so already, else where it is
/// noted to be.
fn mounted(
    pod: &Pod,
    container: &Container,
    is_it: &dyn Fn(&&Value) -> bool,
    wanted: Wanted,
    why: &str,
    wants: &mut Wants,
) -> String {
    let Wanted { name, at, folder, source } = wanted;
    let known = list(pod.spec, "volumes").find(is_it).map(|volume| text(volume, "name"));
    if let Some(known) = known {
        let mount =
            list(container.value, "volumeMounts").find(|mount| text(mount, "name") == known);
        if let Some(mount) = mount {
            let below = folder.strip_prefix(text(mount, "subPath")).unwrap_or(folder);
            let path = format!("{}/{below}", text(mount, "mountPath").trim_end_matches('/'));
            return path.trim_end_matches('/').to_owned();
        }
    }
    let mount = Mount {
        volume: known.unwrap_or(name).to_owned(),
        path: at.to_owned(),
        folder: folder.to_owned(),
        is_own: known.is_none(),
    };
    if known.is_none() {
        wants.volumes.entry(Volume::new(name, source)).or_default().insert(pod.spot.clone());
    }
    wants.why.insert((container.spot.clone(), mount.volume.clone()), why.to_owned());
    wants.mounts.entry(mount).or_default().insert(container.spot.clone());
    at.to_owned()
}

/// How models lie at a place.
pub(super) fn layout(models: &Models) -> ModelLayout {
    match models {
        Models::Claim { layout, .. } | Models::Bucket { layout, .. } => *layout,
        Models::Depot { .. } => ModelLayout::default(),
    }
}

/// A layout as site.yaml writes it.
pub(super) fn named(layout: ModelLayout) -> &'static str {
    match layout {
        ModelLayout::HfCache => "hf-cache",
        ModelLayout::Flat => "flat",
        ModelLayout::Ollama => "ollama",
        ModelLayout::Sie => "sie",
    }
}
