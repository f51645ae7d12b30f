//! Ways out for images that no value moves: what a node's runtime has to be told so that it takes
//! them from the site. Each writer gives the text of one file; paths are the ones that the
//! runtimes' own documents name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use types::Reference;
use types::naming::Naming;

use crate::Result;
use crate::relocate::Target;

/// A file that makes nodes pull from the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// What reads it.
    pub reader: &'static str,
    /// Where it belongs.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// How the site's registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// With TLS.
    Https,
    /// Without.
    Http,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// All ways out for these images. Containerd maps whole registries, so it has no way for the
/// naming `name`.
pub fn remedies(
    images: &BTreeSet<Reference>,
    target: &Target,
    scheme: Scheme,
) -> Result<Vec<Remedy>> {
    let mut all = Vec::new();
    if images.is_empty() {
        return Ok(all);
    }
    all.extend(containerd(images, target, scheme));
    all.push(k3s(images, target, scheme)?);
    all.push(crio(images, target, scheme)?);
    all.extend(openshift(images, target)?);
    Ok(all)
}

/// The path behind the site's registry under which the repositories of a source registry are.
fn folder(target: &Target, host: &str) -> String {
    let prefix = target.prefix.to_string();
    let own = prefix.strip_prefix(target.prefix.registry()).unwrap_or_default();
    match target.naming {
        Naming::HostPath => format!("{own}/{}", host.replace(':', "-")),
        Naming::Path | Naming::Name => own.to_owned(),
    }
}

fn hosts(images: &BTreeSet<Reference>) -> BTreeSet<&str> {
    images.iter().map(Reference::registry).collect()
}

/// containerd's `hosts.toml`, one a registry (containerd, docs/hosts.md). With `override_path` the
/// path is taken as it is, so it has the `/v2` itself.
fn containerd(images: &BTreeSet<Reference>, target: &Target, scheme: Scheme) -> Vec<Remedy> {
    if target.naming == Naming::Name {
        return vec![];
    }
    let files = hosts(images).into_iter().map(|host| {
        let server = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let endpoint = format!(
            "{}://{}/v2{}",
            scheme.as_str(),
            target.prefix.registry(),
            folder(target, host)
        );
        let text = format!(
            "server = \"https://{server}\"\n\n[host.\"{endpoint}\"]\n  capabilities = [\"pull\", \
             \"resolve\"]\n  override_path = true\n"
        );
        let path = format!("/etc/containerd/certs.d/{host}/hosts.toml");
        Remedy { reader: "containerd", path, text }
    });
    files.collect()
}

/// k3s' `registries.yaml` with rewrites (k3s, Private Registry Configuration).
fn k3s(images: &BTreeSet<Reference>, target: &Target, scheme: Scheme) -> Result<Remedy> {
    let mut text = "mirrors:\n".to_owned();
    for host in hosts(images) {
        let endpoint = format!("{}://{}", scheme.as_str(), target.prefix.registry());
        let _ = writeln!(text, "  \"{host}\":\n    endpoint: [\"{endpoint}\"]\n    rewrite:");
        if target.naming == Naming::Name {
            let own = images.iter().filter(|image| image.registry() == host);
            let repositories: BTreeMap<&str, &Reference> =
                own.map(|image| (image.repository(), image)).collect();
            for (repository, image) in repositories {
                let name = target.prefix.target(target.naming, image)?;
                let pattern = repository.replace('.', "\\\\.");
                let _ = writeln!(text, "      \"^{pattern}$\": \"{}\"", name.repository());
            }
        } else {
            let folder = folder(target, host);
            let folder = folder.trim_start_matches('/');
            let slash = if folder.is_empty() { "" } else { "/" };
            let _ = writeln!(text, "      \"^(.*)$\": \"{folder}{slash}$1\"");
        }
    }
    Ok(Remedy { reader: "k3s", path: "/etc/rancher/k3s/registries.yaml".into(), text })
}

/// The repositories of the images and their names at the site.
fn repositories(images: &BTreeSet<Reference>, target: &Target) -> Result<BTreeMap<String, String>> {
    let pair =
        |image: &Reference| Ok((image.name(), target.prefix.target(target.naming, image)?.name()));
    images.iter().map(pair).collect()
}

/// CRI-O's and podman's `registries.conf` (containers-registries.conf(5)).
fn crio(images: &BTreeSet<Reference>, target: &Target, scheme: Scheme) -> Result<Remedy> {
    let mut text = String::new();
    for (from, to) in repositories(images, target)? {
        let _ = writeln!(text, "[[registry]]\nprefix = \"{from}\"\nlocation = \"{from}\"\n");
        let _ = writeln!(text, "[[registry.mirror]]\nlocation = \"{to}\"");
        if scheme == Scheme::Http {
            let _ = writeln!(text, "insecure = true");
        }
        text.push('\n');
    }
    let path = "/etc/containers/registries.conf.d/50-gantry.conf".into();
    Ok(Remedy { reader: "CRI-O", path, text })
}

/// OpenShift's mirror sets: one for what is pulled by digest, one for what is pulled by tag.
fn openshift(images: &BTreeSet<Reference>, target: &Target) -> Result<Vec<Remedy>> {
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
        let mut text = format!(
            "apiVersion: config.openshift.io/v1\nkind: {kind}\nmetadata:\n  name: gantry\nspec:\n  \
             {field}:\n"
        );
        for (from, to) in repositories(&images, target)? {
            let _ = writeln!(
                text,
                "  - source: {from}\n    mirrors: [\"{to}\"]\n    mirrorSourcePolicy: NeverContactSource"
            );
        }
        sets.push(Remedy { reader: "OpenShift", path: format!("{kind}.yaml"), text });
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written(naming: Naming) -> Vec<Remedy> {
        let images = ["alpine:3.19", "registry.k8s.io/pause:3.10"];
        let pinned = format!("quay.io/a/b@sha256:{}", "0a".repeat(32));
        let images = images.iter().copied().chain([pinned.as_str()]).map(|i| i.parse().unwrap());
        let target = Target { prefix: "site:5000/ai".parse().unwrap(), naming, pull_secret: None };
        remedies(&images.collect(), &target, Scheme::Https).unwrap()
    }

    #[test]
    fn every_runtime_gets_a_file_that_it_can_read() {
        for naming in [Naming::Path, Naming::HostPath, Naming::Name] {
            for remedy in written(naming) {
                if remedy.text.contains(":\n") {
                    crate::manifest::parse(&remedy.text).unwrap();
                } else {
                    toml::from_str::<toml::Table>(&remedy.text).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_mirror_leads_to_the_name_at_the_site() {
        let all = written(Naming::Path);
        let hosts = all.iter().find(|r| r.path.ends_with("/docker.io/hosts.toml")).unwrap();
        assert!(hosts.text.contains("[host.\"https://site:5000/v2/ai\"]"), "{}", hosts.text);
        let k3s = all.iter().find(|r| r.reader == "k3s").unwrap();
        assert!(k3s.text.contains("\"^(.*)$\": \"ai/$1\""), "{}", k3s.text);
        let crio = all.iter().find(|r| r.reader == "CRI-O").unwrap();
        assert!(crio.text.contains("location = \"site:5000/ai/library/alpine\""), "{}", crio.text);
        let digests = all.iter().find(|r| r.path == "ImageDigestMirrorSet.yaml").unwrap();
        assert!(digests.text.contains("source: quay.io/a/b\n"), "{}", digests.text);
        let by_name = written(Naming::Name);
        assert!(by_name.iter().all(|r| r.reader != "containerd"));
        let k3s = by_name.iter().find(|r| r.reader == "k3s").unwrap();
        assert!(k3s.text.contains("\"^library/alpine$\": \"ai/alpine\""), "{}", k3s.text);
    }
}
