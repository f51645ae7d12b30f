//! Images of pods: all lists of containers and image volumes, in every kind that has a pod
//! template. The kubelet pulls these, so the confidence is `Certain`.

use serde_json::Value;
use types::pod_kinds::{self, PodImageLocation, PodKind};

use super::findings::{Confidence, ImageCollector, LocationKind};
use crate::path::DocumentPath;

/// The path of the pod's spec in an object of this kind; `None` for kinds without pods.
pub(crate) fn pod_spec_path(kind: &str) -> Option<DocumentPath> {
    let keys = PodKind::find_by_name(kind)?.spec_path();
    Some(keys.fold(DocumentPath::default(), |path, key| path.key(key)))
}

/// Calls `visit` with each Kubernetes object of a document and its path: the document itself or,
/// for a `List`, its items, at any depth.
pub(crate) fn visit_objects<'a>(
    document: &'a Value,
    path: &DocumentPath,
    visit: &mut impl FnMut(&'a Value, &DocumentPath),
) {
    pod_kinds::visit_objects(document, &mut |object, indexes| {
        let path = indexes.iter().fold(path.clone(), |path, index| path.key("items").index(*index));
        visit(object, &path);
    });
}

/// Calls `visit` with each container of a pod's spec and its path.
pub(crate) fn visit_containers<'a>(
    spec: &'a Value,
    path: &DocumentPath,
    visit: &mut impl FnMut(&'a Value, &DocumentPath),
) {
    for (location, container) in pod_kinds::list_containers(spec) {
        visit(container, &path.key(location.list).index(location.index));
    }
}

/// Calls `visit` with each container of the pods in a document and its path.
pub(crate) fn visit_all_containers<'a>(
    document: &'a Value,
    visit: &mut impl FnMut(&'a Value, &DocumentPath),
) {
    visit_objects(document, &DocumentPath::default(), &mut |object, path| {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        let Some(to_spec) = pod_spec_path(kind) else { return };
        let Some(spec) = to_spec.find_value(object) else { return };
        visit_containers(spec, &path.join(&to_spec), visit);
    });
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
    for (location, image) in pod_kinds::list_images(spec) {
        let path = image_path(path, location);
        collector.add_required_image(path, image, LocationKind::Pod, sure);
    }
}

/// The path of an image in the pod's spec at `spec`.
pub(crate) fn image_path(spec: &DocumentPath, location: PodImageLocation) -> DocumentPath {
    match location {
        PodImageLocation::Container(at) => spec.key(at.list).index(at.index).key("image"),
        PodImageLocation::Volume(index) => {
            let volume = spec.key(pod_kinds::VOLUMES).index(index);
            pod_kinds::VOLUME_IMAGE.iter().fold(volume, |path, key| path.key(*key))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use types::pod_kinds::{POD_KINDS, sample};

    use crate::find::{Confidence, find_images};

    fn find_certain_images(rendered: &str) -> Vec<String> {
        let findings = find_images(rendered);
        assert!(findings.broken.is_empty() && findings.unread.is_empty(), "{findings:?}");
        assert!(findings.images.iter().all(|found| found.confidence == Confidence::Certain));
        findings.images.iter().map(|f| format!("{} {}", f.place.path, f.reference)).collect()
    }

    #[test]
    fn every_image_of_every_kind_is_found() {
        let (spec, images) = sample::spec_with_every_image();
        for kind in POD_KINDS {
            let object = sample::object_of_kind(kind, &json!({"spec": spec}));
            let to_spec = kind.spec_path().collect::<Vec<_>>().join(".");
            let expected: Vec<String> = ["initContainers[0].image", "containers[0].image"]
                .into_iter()
                .chain(["ephemeralContainers[0].image", "volumes[0].image.reference"])
                .zip(&images)
                .map(|(place, image)| format!("{to_spec}.{place} {image}"))
                .collect();
            assert_eq!(find_certain_images(&object.to_string()), expected, "{}", kind.kind);
        }
    }

    #[test]
    fn lists_are_opened() {
        let pod = "{kind: Pod, spec: {containers: [{image: 'a:1'}]}}";
        let list = format!("kind: List\nitems: [{pod}, {{kind: PodList, items: [{pod}]}}]");
        assert_eq!(
            find_certain_images(&list)[1],
            "items[1].items[0].spec.containers[0].image docker.io/library/a:1"
        );
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
