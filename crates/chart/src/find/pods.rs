//! Images of pods: all lists of containers and image volumes, in every kind that has a pod
//! template. The kubelet pulls these, so the confidence is `Certain`.

use serde_json::Value;

use super::findings::{Confidence, ImageCollector, LocationKind};
use crate::path::DocumentPath;

/// The lists of containers in a pod's spec.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The path of the pod's spec in an object of this kind; `None` for kinds without pods.
pub(crate) fn pod_spec_path(kind: &str) -> Option<DocumentPath> {
    let keys: &[&str] = match kind {
        "Pod" => &["spec"],
        "Deployment"
        | "StatefulSet"
        | "DaemonSet"
        | "ReplicaSet"
        | "Job"
        | "ReplicationController" => &["spec", "template", "spec"],
        "CronJob" => &["spec", "jobTemplate", "spec", "template", "spec"],
        "PodTemplate" => &["template", "spec"],
        _ => return None,
    };
    Some(keys.iter().fold(DocumentPath::default(), |path, key| path.key(*key)))
}

/// Calls `visit` with each Kubernetes object of a document and its path: the document itself or,
/// for a `List`, its items, at any depth.
pub(crate) fn visit_objects<'a>(
    document: &'a Value,
    path: &DocumentPath,
    visit: &mut impl FnMut(&'a Value, &DocumentPath),
) {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    match document.get("items").and_then(Value::as_array) {
        Some(items) if kind.ends_with("List") => {
            for (index, item) in items.iter().enumerate() {
                visit_objects(item, &path.key("items").index(index), visit);
            }
        }
        _ => visit(document, path),
    }
}

/// Calls `visit` with each container of a pod's spec and its path.
pub(crate) fn visit_containers<'a>(
    spec: &'a Value,
    path: &DocumentPath,
    visit: &mut impl FnMut(&'a Value, &DocumentPath),
) {
    for list in CONTAINERS {
        let containers = spec.get(list).and_then(Value::as_array).into_iter().flatten();
        for (index, container) in containers.enumerate() {
            visit(container, &path.key(list).index(index));
        }
    }
}

/// Finds the images of the pods in a document.
pub(crate) fn find_images_in_pods(document: &Value, collector: &mut ImageCollector) {
    visit_objects(document, &DocumentPath::default(), &mut |object, path| {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        let Some(to_spec) = pod_spec_path(kind) else { return };
        let Some(spec) = to_spec.find_value(object) else { return };
        find_images_in_pod_spec(spec, &path.join(&to_spec), Confidence::Certain, collector);
    });
}

/// Finds the images of one pod's spec.
pub(crate) fn find_images_in_pod_spec(
    spec: &Value,
    path: &DocumentPath,
    sure: Confidence,
    collector: &mut ImageCollector,
) {
    visit_containers(spec, path, &mut |container, path| {
        if let Some(image) = container.get("image").and_then(Value::as_str) {
            collector.add_required_image(path.key("image"), image, LocationKind::Pod, sure);
        }
    });
    let volumes = spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
    for (index, volume) in volumes.enumerate() {
        let reference = volume.get("image").and_then(|image| image.get("reference"));
        if let Some(reference) = reference.and_then(Value::as_str) {
            let path = path.key("volumes").index(index).key("image").key("reference");
            collector.add_required_image(path, reference, LocationKind::Pod, sure);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::find::{Confidence, find_images};

    fn find_certain_images(rendered: &str) -> Vec<String> {
        let findings = find_images(rendered);
        assert!(findings.broken.is_empty() && findings.unread.is_empty(), "{findings:?}");
        assert!(findings.images.iter().all(|found| found.confidence == Confidence::Certain));
        findings.images.iter().map(|f| format!("{} {}", f.place.path, f.reference)).collect()
    }

    #[test]
    fn every_kind_that_holds_a_pod_is_opened() {
        let pod = "{containers: [{image: 'a:1'}]}";
        for kind in
            ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "ReplicationController"]
        {
            let rendered = format!("kind: {kind}\nspec: {{template: {{spec: {pod}}}}}");
            let expected = "spec.template.spec.containers[0].image docker.io/library/a:1";
            assert_eq!(find_certain_images(&rendered), [expected]);
        }
        assert_eq!(find_certain_images(&format!("kind: Pod\nspec: {pod}")).len(), 1);
        assert_eq!(
            find_certain_images(&format!("kind: PodTemplate\ntemplate: {{spec: {pod}}}")).len(),
            1
        );
        let cron = format!(
            "kind: CronJob\nspec: {{jobTemplate: {{spec: {{template: {{spec: {pod}}}}}}}}}"
        );
        assert_eq!(find_certain_images(&cron).len(), 1);
        let list =
            format!("kind: List\nitems: [{{kind: Pod, spec: {pod}}}, {{kind: Pod, spec: {pod}}}]");
        assert_eq!(
            find_certain_images(&list)[1],
            "items[1].spec.containers[0].image docker.io/library/a:1"
        );
    }

    #[test]
    fn all_sorts_of_containers_and_image_volumes_count() {
        let rendered = "kind: Pod\nspec:\n  containers: [{image: a}]\n  initContainers: [{image: b}]\n  \
            ephemeralContainers: [{image: c}]\n  volumes: [{image: {reference: quay.io/x/m:1}}]\n";
        let paths = find_certain_images(rendered);
        assert_eq!(paths.len(), 4);
        assert_eq!(paths[3], "spec.volumes[0].image.reference quay.io/x/m:1");
    }

    #[test]
    fn an_image_field_that_holds_none_is_broken_but_auto_is_left_to_the_injector() {
        let rendered = "kind: Pod\nspec: {containers: [{image: auto}, {image: 'app:%!s(<nil>)'}]}";
        let findings = find_images(rendered);
        assert!(findings.images.is_empty());
        assert_eq!(findings.broken.len(), 1);
        assert!(findings.broken[0].reason.contains("tag"), "{:?}", findings.broken);
    }
}
