//! What to do when helm cannot render a chart. helm's message says what is wrong, in one of a few
//! forms, and seldom what to do.

/// What helm says of a chart that does not support a version of Kubernetes (helm 3.22,
/// pkg/action/install.go).
const OTHER_KUBERNETES: &str = "requires kubeVersion:";

/// A part of helm's message, and the next step after such a one. The first that matches counts.
const REMEDIES: &[(&str, &str)] = &[
    (
        OTHER_KUBERNETES,
        "render it for a Kubernetes that it supports (--kube-version; kubeVersion: in gantry.yaml), or take another version of the chart",
    ),
    // helm 3.22, pkg/action/dependency.go and pkg/action/install.go, CheckDependencies
    ("missing in charts/ directory", "run helm dependency build in the chart's folder"),
    // helm 3.22, pkg/chartutil/jsonschema.go
    (
        "values don't meet the specifications of the schema",
        "give values that the chart's schema allows (-f and --set; values: and set: in gantry.yaml)",
    ),
    // helm 3.22, pkg/engine/engine.go: a template that includes itself, 1000 times
    ("nested reference name", "fix the template: it includes itself without an end"),
    // Go, text/template/exec.go
    ("exceeded maximum template depth", "fix the template: it includes itself without an end"),
    // helm 3.22, pkg/releaseutil/manifest_sorter.go
    (
        "YAML parse error on",
        "fix the template, or the values that it prints (-f and --set; values: and set: in gantry.yaml)",
    ),
    (
        "did not finish within",
        "look for a loop without an end in its templates, such as a range over a large number",
    ),
];

/// The next step after a message of helm.
pub(crate) fn describe_render_remedy(message: &str) -> &'static str {
    let own = REMEDIES.iter().find(|(part, _)| message.contains(part));
    own.map_or(
        "fix the template, or give the values that it requires (-f and --set; values: and set: in gantry.yaml)",
        |(_, remedy)| *remedy,
    )
}

/// Whether a message of helm says that the chart does not support the version of Kubernetes.
pub(crate) fn requires_other_kubernetes(message: &str) -> bool {
    message.contains(OTHER_KUBERNETES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_message_has_its_own_next_step() {
        for (message, remedy) in [
            (
                "chart requires kubeVersion: >=1.99.0 which is incompatible with Kubernetes v1.33.0",
                "--kube-version",
            ),
            (
                "found in Chart.yaml, but missing in charts/ directory: redis",
                "helm dependency build",
            ),
            ("execution error at (a/b.yaml:2:6): choose a region", "give the values"),
        ] {
            assert!(describe_render_remedy(message).contains(remedy), "{message}");
        }
    }
}
