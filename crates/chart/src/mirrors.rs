//! Workarounds for images that no value moves: configuration that makes the container runtimes of
//! nodes pull them from the site. One function for each runtime returns the text of its files;
//! paths and formats are those of the runtimes' own documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use types::Reference;
use types::naming::NamingRule;

use crate::Result;
use crate::target::RelocationTarget;

/// A configuration file that makes nodes pull from the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct MirrorFile {
    /// The program that reads it: containerd, k3s, CRI-O, OpenShift.
    pub reader: &'static str,
    /// Its path on each node; for OpenShift, the file to apply.
    pub path: String,
    /// Its path in a folder of such files: `containerd/certs.d/docker.io/hosts.toml`.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// The protocol of the site's registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryScheme {
    /// HTTP with TLS.
    Https,
    /// Plain HTTP.
    Http,
}

impl RegistryScheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// Builds the mirror configuration of all runtimes for these images. No file lets a node fall back
/// to the original registry when the site does not have an image: nodes would connect to the
/// internet. Containerd can only map whole registries, so there is no file for it with the naming
/// `name`, nor for images in other folders of the site's own registry.
pub fn build_mirror_files(
    images: &BTreeSet<Reference>,
    target: &RelocationTarget,
    scheme: RegistryScheme,
) -> Result<Vec<MirrorFile>> {
    let mut all = Vec::new();
    if images.is_empty() {
        return Ok(all);
    }
    all.extend(build_containerd_files(images, target, scheme));
    all.push(build_k3s_file(images, target, scheme)?);
    all.push(build_crio_file(images, target, scheme)?);
    all.extend(build_openshift_files(images, target)?);
    Ok(all)
}

/// The path at the site's registry below which all repositories of a source registry are. `None` if
/// they have no common path, or if mapping the registry would also map the site's own names.
fn find_site_folder(target: &RelocationTarget, host: &str) -> Option<String> {
    let prefix = target.prefix.to_string();
    let own = prefix.strip_prefix(target.prefix.registry()).unwrap_or_default();
    match target.naming {
        _ if host == target.prefix.registry() => None,
        NamingRule::HostPath => Some(format!("{own}/{}", host.replace(':', "-"))),
        NamingRule::Path => Some(own.to_owned()),
        NamingRule::Name => None,
    }
}

/// The distinct registries of the images.
fn list_hosts(images: &BTreeSet<Reference>) -> BTreeSet<&str> {
    images.iter().map(Reference::registry).collect()
}

/// The first line of a file, a comment: where it belongs and what else is needed.
fn format_head(path: &str, needs: &str) -> String {
    format!("# Written by gantry: {path}. {needs}\n")
}

/// Builds containerd's `hosts.toml`, one for each registry (containerd, docs/hosts.md). The site is
/// also the `server`, which containerd asks last, so that it never asks the original registry;
/// containerd 1 rejects a file without a `host`. With `override_path` containerd does not add `/v2`
/// to the URL, so it is part of it.
fn build_containerd_files(
    images: &BTreeSet<Reference>,
    target: &RelocationTarget,
    scheme: RegistryScheme,
) -> Vec<MirrorFile> {
    let files = list_hosts(images).into_iter().filter_map(|host| {
        let folder = find_site_folder(target, host)?;
        let server = format!("{}://{}/v2{folder}", scheme.as_str(), target.prefix.registry());
        // FAT, the file system of many USB disks, does not allow a colon in a name. containerd
        // looks for the form `host_port_` first (docs/hosts.md).
        let host = match host.rsplit_once(':') {
            Some((name, port)) => format!("{name}_{port}_"),
            None => host.to_owned(),
        };
        let file = format!("certs.d/{host}/hosts.toml");
        let path = format!("/etc/containerd/{file}");
        let needs = "Set config_path in containerd's config.toml to /etc/containerd/certs.d.";
        let pulls = "capabilities = [\"pull\", \"resolve\"]\noverride_path = true\n";
        let head = format_head(&path, needs);
        let text = format!("{head}server = \"{server}\"\n{pulls}\n[host.\"{server}\"]\n{pulls}");
        Some(MirrorFile { reader: "containerd", path, file: format!("containerd/{file}"), text })
    });
    files.collect()
}

/// Builds k3s' `registries.yaml` with rewrites (k3s, Private Registry Configuration). RKE2 reads
/// the same format.
fn build_k3s_file(
    images: &BTreeSet<Reference>,
    target: &RelocationTarget,
    scheme: RegistryScheme,
) -> Result<MirrorFile> {
    let path = "/etc/rancher/k3s/registries.yaml".to_owned();
    let needs =
        "Start nodes with --disable-default-registry-endpoint: they must not ask other registries.";
    let mut text = format_head(&path, needs) + "mirrors:\n";
    for host in list_hosts(images) {
        let endpoint = format!("{}://{}", scheme.as_str(), target.prefix.registry());
        let _ = writeln!(text, "  \"{host}\":\n    endpoint: [\"{endpoint}\"]\n    rewrite:");
        if let Some(folder) = find_site_folder(target, host) {
            // All repositories of the registry have a common path at the site: one rewrite will do.
            let folder = folder.trim_start_matches('/');
            let slash = if folder.is_empty() { "" } else { "/" };
            let _ = writeln!(text, "      \"^(.*)$\": \"{folder}{slash}$1\"");
            continue;
        }
        // No common path at the site: one rewrite for each repository. The pattern is a regular
        // expression of Go inside a YAML string, so a dot needs two backslashes.
        let own = images.iter().filter(|image| image.registry() == host);
        let repositories: BTreeMap<&str, &Reference> =
            own.map(|image| (image.repository(), image)).collect();
        for (repository, image) in repositories {
            let name = target.prefix.site_reference(target.naming, image)?;
            let pattern = repository.replace('.', "\\\\.");
            let _ = writeln!(text, "      \"^{pattern}$\": \"{}\"", name.repository());
        }
    }
    Ok(MirrorFile { reader: "k3s", path, file: "k3s/registries.yaml".into(), text })
}

/// Maps the repositories of the images to their names at the site, both with the registry.
fn map_repositories(
    images: &BTreeSet<Reference>,
    target: &RelocationTarget,
) -> Result<BTreeMap<String, String>> {
    let pair = |image: &Reference| {
        Ok((image.name(), target.prefix.site_reference(target.naming, image)?.name()))
    };
    images.iter().map(pair).collect()
}

/// Builds the `registries.conf` of CRI-O and podman (containers-registries.conf(5)). It replaces
/// the location instead of adding a mirror, since after a mirror the original registry would be
/// asked. Short names such as `alpine` belong to no registry there until an alias assigns them.
fn build_crio_file(
    images: &BTreeSet<Reference>,
    target: &RelocationTarget,
    scheme: RegistryScheme,
) -> Result<MirrorFile> {
    let file = "50-gantry.conf";
    let path = format!("/etc/containers/registries.conf.d/{file}");
    let mut text = format_head(&path, "Then run: systemctl reload crio.");
    let mut aliases = String::new();
    for (from, to) in map_repositories(images, target)? {
        let _ = writeln!(text, "\n[[registry]]\nprefix = \"{from}\"\nlocation = \"{to}\"");
        if scheme == RegistryScheme::Http {
            let _ = writeln!(text, "insecure = true");
        }
        if let Some(name) = from.strip_prefix("docker.io/") {
            let short = name.strip_prefix("library/").unwrap_or(name);
            let _ = writeln!(aliases, "\"{short}\" = \"{from}\"");
        }
    }
    if !aliases.is_empty() {
        let _ = write!(text, "\n[aliases]\n{aliases}");
    }
    Ok(MirrorFile { reader: "CRI-O", path, file: format!("cri-o/{file}"), text })
}

/// Builds OpenShift's mirror sets (config.openshift.io/v1): one for images that are pulled by
/// digest, one for those that are pulled by tag.
fn build_openshift_files(
    images: &BTreeSet<Reference>,
    target: &RelocationTarget,
) -> Result<Vec<MirrorFile>> {
    let (by_digest, by_tag): (BTreeSet<Reference>, BTreeSet<Reference>) =
        images.iter().cloned().partition(|image| image.digest().is_some());
    let mut sets = Vec::new();
    for (kind, field, images) in [
        ("ImageDigestMirrorSet", "imageDigestMirrors", by_digest),
        ("ImageTagMirrorSet", "imageTagMirrors", by_tag),
    ] {
        if images.is_empty() {
            continue;
        }
        let path = format!("{kind}.yaml");
        let mut text = format_head(
            &format!("oc apply -f {path}"),
            "It replaces an earlier object of the same name.",
        );
        let _ = write!(
            text,
            "apiVersion: config.openshift.io/v1\nkind: {kind}\nmetadata:\n  name: gantry\nspec:\n  \
             {field}:\n"
        );
        // The default policy of mirror sets lets a node fall back to the source.
        for (from, to) in map_repositories(&images, target)? {
            let _ = writeln!(
                text,
                "  - source: {from}\n    mirrors: [\"{to}\"]\n    mirrorSourcePolicy: NeverContactSource"
            );
        }
        let file = format!("openshift/{path}");
        sets.push(MirrorFile { reader: "OpenShift", path, file, text });
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn build_for_naming(naming: NamingRule) -> Vec<MirrorFile> {
        let images = ["alpine:3.19", "registry.k8s.io/pause:3.10"];
        let pinned = format!("quay.io/a/b@sha256:{}", "0a".repeat(32));
        let images = images.iter().copied().chain([pinned.as_str()]).map(|i| i.parse().unwrap());
        let target =
            RelocationTarget { prefix: "site:5000/ai".parse().unwrap(), naming, pull_secret: None };
        build_mirror_files(&images.collect(), &target, RegistryScheme::Https).unwrap()
    }

    #[test]
    fn every_runtime_gets_a_file_that_it_can_read() {
        for naming in [NamingRule::Path, NamingRule::HostPath, NamingRule::Name] {
            for remedy in build_for_naming(naming) {
                if remedy.file.ends_with(".yaml") {
                    crate::manifest::parse_yaml(&remedy.text).unwrap();
                } else {
                    toml::from_str::<toml::Table>(&remedy.text).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_mirror_leads_to_the_name_at_the_site() {
        let all = build_for_naming(NamingRule::Path);
        let text = |file: &str| &all.iter().find(|remedy| remedy.file == file).unwrap().text;
        let hosts = text("containerd/certs.d/docker.io/hosts.toml");
        assert!(hosts.contains("server = \"https://site:5000/v2/ai\"\n"), "{hosts}");
        assert!(hosts.contains("[host.\"https://site:5000/v2/ai\"]\n"), "{hosts}");
        assert!(text("k3s/registries.yaml").contains("\"^(.*)$\": \"ai/$1\""));
        let crio = text("cri-o/50-gantry.conf");
        assert!(crio.contains("location = \"site:5000/ai/library/alpine\""), "{crio}");
        assert!(crio.contains("\n\"alpine\" = \"docker.io/library/alpine\"\n"), "{crio}");
        assert!(text("openshift/ImageDigestMirrorSet.yaml").contains("source: quay.io/a/b\n"));
        assert!(
            text("openshift/ImageTagMirrorSet.yaml").contains("source: registry.k8s.io/pause\n")
        );
        let by_name = build_for_naming(NamingRule::Name);
        assert!(by_name.iter().all(|r| r.reader != "containerd"));
        let k3s = by_name.iter().find(|r| r.reader == "k3s").unwrap();
        assert!(k3s.text.contains("\"^library/alpine$\": \"ai/alpine\""), "{}", k3s.text);
    }

    #[test]
    fn no_file_names_the_source_as_a_place_to_pull_from() {
        for remedy in build_for_naming(NamingRule::HostPath) {
            let pulls_from = ["server = ", "location = ", "endpoint: ", "mirrors: ["];
            for line in remedy.text.lines().map(str::trim_start) {
                if let Some(key) = pulls_from.iter().find(|key| line.starts_with(**key)) {
                    assert!(line[key.len()..].contains("site:5000"), "{line}");
                }
            }
        }
    }

    #[test]
    fn other_folders_of_the_sites_own_registry_leave_its_own_names_alone() {
        let image = "site:5000/other/x:1".parse().unwrap();
        let prefix = "site:5000/ai".parse().unwrap();
        let target = RelocationTarget { prefix, naming: NamingRule::Path, pull_secret: None };
        let all =
            build_mirror_files(&BTreeSet::from([image]), &target, RegistryScheme::Http).unwrap();
        assert!(all.iter().all(|remedy| remedy.reader != "containerd"));
        let k3s = all.iter().find(|remedy| remedy.reader == "k3s").unwrap();
        assert!(k3s.text.contains("\"^other/x$\": \"ai/other/x\""), "{}", k3s.text);
    }

    #[test]
    fn a_registry_with_a_port_has_a_folder_that_any_disk_takes() {
        let image = "host.example:5000/x:1".parse().unwrap();
        let prefix = "site:5000".parse().unwrap();
        let target = RelocationTarget { prefix, naming: NamingRule::Path, pull_secret: None };
        let all =
            build_mirror_files(&BTreeSet::from([image]), &target, RegistryScheme::Http).unwrap();
        assert_eq!(all[0].file, "containerd/certs.d/host.example_5000_/hosts.toml");
        assert!(all[0].text.contains("server = \"http://site:5000/v2\"\n"), "{}", all[0].text);
    }
}
