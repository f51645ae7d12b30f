//! Reads specs of pods as the API server returns them: their images and claims. The same as
//! [`types::pod_kinds`] does for JSON values, and by its lists.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use types::pod_kinds::{CONTAINER_LISTS, ContainerLocation, PodImageLocation};

/// The images of a pod's spec, of all containers and image volumes, each with its location.
pub fn list_images(spec: &PodSpec) -> impl Iterator<Item = (PodImageLocation, &str)> {
    let [init, main, ephemeral] = CONTAINER_LISTS;
    let at = |list, index| PodImageLocation::Container(ContainerLocation { list, index });
    let init_containers = spec.init_containers.iter().flatten().enumerate();
    let init = init_containers.map(move |(index, own)| (at(init, index), &own.image));
    let main =
        spec.containers.iter().enumerate().map(move |(index, own)| (at(main, index), &own.image));
    let ephemeral_containers = spec.ephemeral_containers.iter().flatten().enumerate();
    let ephemeral =
        ephemeral_containers.map(move |(index, own)| (at(ephemeral, index), &own.image));
    let volumes = spec.volumes.iter().flatten().enumerate().filter_map(|(index, volume)| {
        Some((PodImageLocation::Volume(index), &volume.image.as_ref()?.reference))
    });
    let all = init.chain(main).chain(ephemeral).chain(volumes);
    all.filter_map(|(location, image)| Some((location, image.as_deref()?)))
}

/// The names of the claims that a pod mounts.
pub fn list_claims(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use types::pod_kinds::{self, sample};

    use super::*;

    #[test]
    fn typed_pods_are_read_like_values() {
        let (mut value, _) = sample::spec_with_every_image();
        let claim = json!({"name": "data", "persistentVolumeClaim": {"claimName": "data"}});
        value["volumes"].as_array_mut().unwrap().push(claim);
        let spec: PodSpec = serde_json::from_value(value.clone()).unwrap();
        assert!(list_images(&spec).eq(pod_kinds::list_images(&value)));
        let pod = Pod { spec: Some(spec), ..Pod::default() };
        assert!(list_claims(&pod).eq(pod_kinds::list_claims(&value)));
    }
}
