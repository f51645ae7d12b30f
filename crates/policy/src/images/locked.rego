package gantrylockedimages

violation[{"msg": msg}] {
  refused := {image | image := brought[_]; not admitted(image)}
  count(refused) > 0
  msg := sprintf("%v: %v", [concat(", ", sort(refused)), input.parameters.advice])
}

# An update is judged by the images that it brings: what was there before the policy must stay
# updatable. A template may leave the image to an injector; the pod that comes of it may not.
brought[image] {
  image := images(input.review.object)[_]
  not had[image]
  not left_to_an_injector(image)
}

had[image] {
  image := images(input.review.oldObject)[_]
}

left_to_an_injector(image) {
  input.review.object.kind != "Pod"
  injected[image]
}

injected = {"", "auto"}

images(object) = all {
  spec := pod(object)
  lists := [CONTAINER_LISTS]
  containers := {image | image := spec[lists[_]][_].image}
  volumes := {image | image := spec.VOLUME_IMAGES}
  all := containers | volumes
}

# Kinds whose pod is not at USUAL_TEMPLATE.spec.
elsewhere = {KINDS_WITH_OWN_PATH}

PODS_AT_OWN_PATH

pod(object) = spec {
  not elsewhere[object.kind]
  spec := object.USUAL_TEMPLATE.spec
}

admitted(image) {
  startswith(image, input.parameters.site)
  rest := substring(image, count(input.parameters.site), -1)
  regex.match(`FORM`, rest)
  path := split(split(rest, "@")[0], ":")[0]
  input.parameters.images[path][_] == version(rest)
}

version(rest) = found {
  contains(rest, "@")
  found := split(rest, "@")[1]
}

version(rest) = found {
  not contains(rest, "@")
  contains(rest, ":")
  found := split(rest, ":")[1]
}

version(rest) = "latest" {
  not contains(rest, "@")
  not contains(rest, ":")
}
