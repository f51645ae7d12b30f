//! Where Kubernetes objects keep their pods: one table of kinds, and walkers over objects as JSON
//! values that ask it. Whoever looks into pods (the finder of images, the policies, the webhook,
//! the checks, the audit) uses this module, so that no kind and no list of containers is seen by
//! one and missed by another.
//!
//! ```text
//! document ─visit_objects─▶ object ─find_pod_spec─▶ pod spec ─┬─visit_containers─▶ container
//!            (opens Lists)            (PodKind)               ├─list_images─▶ image references
//!                                                             └─list_claims─▶ claims
//! ```
//!
//! A kind is recognised by its name alone, not by its group: charts still write old groups
//! (`extensions/v1beta1`), and where another group's kind of the same name keeps something else, the
//! path leads nowhere and the object counts as one without pods.

use std::fmt;

use serde_json::Value;

/// A kind whose objects are pods, or have a template that pods are created from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodKind {
    /// The kind's name: `Deployment`.
    pub kind: &'static str,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version of the group.
    pub version: &'static str,
    /// The resource, as URLs and roles name it: `deployments`.
    pub resource: &'static str,
    /// The keys that lead from the object to the pod template: the map with `metadata` and `spec`
    /// of the pods. Empty for a pod, which is its own template.
    pub template_path: &'static [&'static str],
}

/// The path in most kinds.
const TEMPLATE: &[&str] = &["spec", "template"];

/// Every kind that Gantry looks into: those of Kubernetes itself (API reference, "Workload
/// Resources"), then those of other makers that have exactly one pod template.
#[rustfmt::skip]
pub const POD_KINDS: &[PodKind] = &[
    kind("Pod", "", "v1", "pods", &[]),
    kind("PodTemplate", "", "v1", "podtemplates", &["template"]),
    kind("ReplicationController", "", "v1", "replicationcontrollers", TEMPLATE),
    kind("DaemonSet", "apps", "v1", "daemonsets", TEMPLATE),
    kind("Deployment", "apps", "v1", "deployments", TEMPLATE),
    kind("ReplicaSet", "apps", "v1", "replicasets", TEMPLATE),
    kind("StatefulSet", "apps", "v1", "statefulsets", TEMPLATE),
    kind("CronJob", "batch", "v1", "cronjobs", &["spec", "jobTemplate", "spec", "template"]),
    kind("Job", "batch", "v1", "jobs", TEMPLATE),
    // OpenShift. With an image change trigger the image is blank until the first build.
    kind("DeploymentConfig", "apps.openshift.io", "v1", "deploymentconfigs", TEMPLATE),
    // Argo Rollouts. With `workloadRef` it has no template: the Deployment named there has it.
    kind("Rollout", "argoproj.io", "v1alpha1", "rollouts", TEMPLATE),
];

const fn kind(
    kind: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    template_path: &'static [&'static str],
) -> PodKind {
    PodKind { kind, group, version, resource, template_path }
}

/// The lists of containers in a pod's spec. They, and [`VOLUMES`] with an image, are all the places
/// of a pod whose images the kubelet pulls.
pub const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The list of volumes in a pod's spec.
pub const VOLUMES: &str = "volumes";

/// The path from a volume to the reference of its image (Kubernetes 1.31, ImageVolumeSource).
pub const VOLUME_IMAGE: [&str; 2] = ["image", "reference"];

impl PodKind {
    /// The kind of this name.
    pub fn find_by_name(kind: &str) -> Option<&'static Self> {
        POD_KINDS.iter().find(|own| own.kind == kind)
    }

    /// The kind of an object.
    pub fn of_object(object: &Value) -> Option<&'static Self> {
        Self::find_by_name(object.get("kind")?.as_str()?)
    }

    /// The kinds that every cluster has.
    pub fn built_in() -> impl Iterator<Item = &'static Self> {
        POD_KINDS.iter().filter(|own| own.is_built_in())
    }

    /// The groups of the kinds that every cluster has, each once and with its kinds.
    pub fn built_in_groups() -> impl Iterator<Item = (&'static str, Vec<&'static Self>)> {
        let mut groups: Vec<&str> = Self::built_in().map(|own| own.group).collect();
        groups.dedup();
        groups
            .into_iter()
            .map(|group| (group, Self::built_in().filter(|own| own.group == group).collect()))
    }

    /// Whether Kubernetes itself has the kind; others exist where somebody installed them.
    pub fn is_built_in(&self) -> bool {
        matches!(self.group, "" | "apps" | "batch")
    }

    /// Whether pods come of its objects. A PodTemplate is only stored: other objects copy it.
    pub fn creates_pods(&self) -> bool {
        self.kind != "PodTemplate"
    }

    /// The `apiVersion` of its objects: `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The keys that lead from the object to the pod's spec.
    pub fn spec_path(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.template_path.iter().copied().chain(["spec"])
    }

    /// The pod template in an object of this kind.
    pub fn template_of<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.template_path.iter().try_fold(object, |value, key| value.get(key))
    }

    /// The pod's spec in an object of this kind.
    pub fn spec_of<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.template_of(object)?.get("spec")
    }
}

/// The pod template of an object, whose labels selectors select by; the pod itself for a pod.
/// `None` for an object without pods.
pub fn find_pod_template(object: &Value) -> Option<&Value> {
    PodKind::of_object(object)?.template_of(object)
}

/// The spec of the pod that an object is or creates. `None` for an object without pods.
pub fn find_pod_spec(object: &Value) -> Option<&Value> {
    PodKind::of_object(object)?.spec_of(object)
}

/// Like [`find_pod_spec`], and also for kinds that are not in the table: of these, what stands where
/// a kind of the table has its pods and has containers.
pub fn find_pod_spec_in_any_kind(object: &Value) -> Option<&Value> {
    let is_pod = |spec: &&Value| spec.get("containers").is_some();
    find_pod_spec(object)
        .or_else(|| POD_KINDS.iter().filter_map(|own| own.spec_of(object)).find(is_pod))
}

/// Calls `visit` with each object of a document: the document itself or, for a `List` (also a
/// `ConfigMapList` and the like), its items, at any depth. With each come the indexes of the items
/// that lead to it: `[2, 0]` is `items[2].items[0]`.
pub fn visit_objects<'a>(document: &'a Value, visit: &mut impl FnMut(&'a Value, &[usize])) {
    // A stack instead of a recursion: the depth is whatever the document has. The last is the next.
    let mut open = vec![(document, Vec::new())];
    while let Some((value, indexes)) = open.pop() {
        match list_items(value) {
            None => visit(value, &indexes),
            Some(items) => open.extend(items.iter().enumerate().rev().map(|(index, item)| {
                let mut inner = indexes.clone();
                inner.push(index);
                (item, inner)
            })),
        }
    }
}

/// The objects of a document, without their locations; see [`visit_objects`].
pub fn list_objects(document: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    visit_objects(document, &mut |object, _| found.push(object));
    found
}

/// The items of a `List`; `None` for any other object.
fn list_items(document: &Value) -> Option<&Vec<Value>> {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    document.get("items").and_then(Value::as_array).filter(|_| kind.ends_with("List"))
}

/// The location of a container in a pod's spec: `initContainers[0]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerLocation {
    /// One of [`CONTAINER_LISTS`].
    pub list: &'static str,
    /// The index in the list.
    pub index: usize,
}

/// The containers of a pod's spec, of all lists, each with its location.
pub fn list_containers(spec: &Value) -> impl Iterator<Item = (ContainerLocation, &Value)> {
    CONTAINER_LISTS.into_iter().flat_map(move |list| {
        let containers = spec.get(list).and_then(Value::as_array).into_iter().flatten();
        containers
            .enumerate()
            .map(move |(index, container)| (ContainerLocation { list, index }, container))
    })
}

/// The location of an image in a pod's spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodImageLocation {
    /// The image of a container.
    Container(ContainerLocation),
    /// The image of the volume with this index.
    Volume(usize),
}

/// A JSON pointer from the pod's spec: `/containers/0/image`.
impl fmt::Display for PodImageLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(ContainerLocation { list, index }) => {
                write!(f, "/{list}/{index}/image")
            }
            Self::Volume(index) => write!(f, "/{VOLUMES}/{index}/{}", VOLUME_IMAGE.join("/")),
        }
    }
}

/// The images of a pod's spec, of all containers and image volumes, each with its location. The texts
/// are as they are written: also an empty one, which an injector fills in.
pub fn list_images(spec: &Value) -> impl Iterator<Item = (PodImageLocation, &str)> {
    let containers = list_containers(spec).filter_map(|(location, container)| {
        Some((PodImageLocation::Container(location), container.get("image")?.as_str()?))
    });
    let volumes = list_volumes(spec).enumerate().filter_map(|(index, volume)| {
        let reference = VOLUME_IMAGE.iter().try_fold(volume, |value, key| value.get(key))?;
        Some((PodImageLocation::Volume(index), reference.as_str()?))
    });
    containers.chain(volumes)
}

/// The names of the claims that a pod mounts. Those of `volumeClaimTemplates` are not among them: a
/// StatefulSet adds them when it creates its pods.
pub fn list_claims(spec: &Value) -> impl Iterator<Item = &str> {
    list_volumes(spec)
        .filter_map(|volume| volume.get("persistentVolumeClaim")?.get("claimName")?.as_str())
}

/// The volumes of a pod's spec.
fn list_volumes(spec: &Value) -> impl Iterator<Item = &Value> {
    spec.get(VOLUMES).and_then(Value::as_array).into_iter().flatten()
}

/// Objects for tests: one of each kind, so that each user of the table can show that it sees them
/// all.
pub mod sample {
    use serde_json::{Map, Value, json};

    use super::{CONTAINER_LISTS, PodKind, VOLUME_IMAGE, VOLUMES};

    /// An object of a kind, with this pod template (`metadata` and `spec`), in the namespace `shop`
    /// and named after its kind.
    pub fn object_of_kind(kind: &PodKind, template: &Value) -> Value {
        let mut object = kind
            .template_path
            .iter()
            .rev()
            .fold(template.clone(), |inner, key| json!({*key: inner}));
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.into();
        object["metadata"]["name"] = kind.kind.to_lowercase().into();
        object["metadata"]["namespace"] = "shop".into();
        object
    }

    /// A pod's spec with one image in each list of containers and in an image volume, and the
    /// images, in the order in which [`super::list_images`] lists them.
    pub fn spec_with_every_image() -> (Value, Vec<String>) {
        let mut spec = Map::new();
        let mut images = Vec::new();
        let mut next = |place: &str| {
            images.push(format!("registry.example/{}:1", place.to_lowercase()));
            images.last().cloned().unwrap_or_default()
        };
        for list in CONTAINER_LISTS {
            let container = json!({"name": list.to_lowercase(), "image": next(list)});
            spec.insert(list.to_owned(), json!([container]));
        }
        let [image, reference] = VOLUME_IMAGE;
        let volume = json!({"name": "models", image: {reference: next("volume")}});
        spec.insert(VOLUMES.to_owned(), json!([volume]));
        (spec.into(), images)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_has_its_pod_where_the_table_says() {
        let (spec, images) = sample::spec_with_every_image();
        let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": spec});
        for kind in POD_KINDS {
            let object = sample::object_of_kind(kind, &template);
            let found = find_pod_spec(&object).unwrap();
            assert_eq!(found, &spec, "{}", kind.kind);
            let own: Vec<&str> = list_images(found).map(|(_, image)| image).collect();
            assert_eq!(own, images, "{}", kind.kind);
            assert_eq!(
                find_pod_template(&object).unwrap().pointer("/metadata/labels/app"),
                Some(&json!("a")),
                "{}",
                kind.kind
            );
        }
        assert_eq!(find_pod_spec(&json!({"kind": "Service", "spec": {"containers": []}})), None);
    }

    #[test]
    fn kinds_are_listed_once_and_by_group() {
        for (number, kind) in POD_KINDS.iter().enumerate() {
            assert!(POD_KINDS[number + 1..].iter().all(|other| other.kind != kind.kind));
        }
        let groups: Vec<_> =
            PodKind::built_in_groups().map(|(group, kinds)| (group, kinds.len())).collect();
        assert_eq!(groups, [("", 3), ("apps", 4), ("batch", 2)]);
        assert_eq!(PodKind::find_by_name("CronJob").unwrap().api_version(), "batch/v1");
    }

    #[test]
    fn lists_are_opened_at_any_depth_and_in_their_order() {
        let pod = |name: &str| json!({"kind": "Pod", "metadata": {"name": name}});
        let document = json!({"kind": "List", "items": [
            pod("a"), {"kind": "PodList", "items": [pod("b"), pod("c")]}, {"kind": "Stock", "items": []}]});
        let mut found = Vec::new();
        visit_objects(&document, &mut |object, indexes| {
            let name = object.pointer("/metadata/name").and_then(Value::as_str);
            found.push((name.unwrap_or_default().to_owned(), indexes.to_vec()));
        });
        assert_eq!(
            found,
            [
                ("a".to_owned(), vec![0]),
                ("b".to_owned(), vec![1, 0]),
                ("c".to_owned(), vec![1, 1]),
                // Not a List by its name: an object that happens to have items.
                (String::new(), vec![2]),
            ]
        );
    }

    #[test]
    fn an_unknown_kind_counts_where_it_has_containers() {
        let spec = json!({"containers": []});
        let shaped = json!({"kind": "Other", "spec": {"template": {"spec": spec}}});
        assert_eq!(find_pod_spec(&shaped), None);
        assert_eq!(find_pod_spec_in_any_kind(&shaped), Some(&spec));
        let plain = json!({"kind": "Service", "spec": {"ports": []}});
        assert_eq!(find_pod_spec_in_any_kind(&plain), None);
    }

    #[test]
    fn locations_are_pointers_and_claims_are_listed() {
        let spec = json!({
            "containers": [{"name": "a"}, {"image": "b"}],
            "volumes": [{"persistentVolumeClaim": {"claimName": "data"}}, {"image": {"reference": "c"}}]});
        let images: Vec<_> =
            list_images(&spec).map(|(location, image)| format!("{location} {image}")).collect();
        assert_eq!(images, ["/containers/1/image b", "/volumes/1/image/reference c"]);
        assert_eq!(list_claims(&spec).collect::<Vec<_>>(), ["data"]);
    }
}
