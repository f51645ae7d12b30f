//! Folders on the nodes' own disks: which of them models may be written to. A pod that mounts a folder
//! of the system writable can take over its node, so those are refused always; of the others site.yaml
//! has to name the ones that are meant.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result, snapshot};

/// The folders of the operating system and of Kubernetes. Whoever writes there controls the node.
const SYSTEM: [&str; 36] = [
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "opt/cni",
    "opt/containerd",
    "opt/rke2",
    "proc",
    "root",
    "run",
    "sbin",
    "snap",
    "sys",
    "usr",
    "var/lib/calico",
    "var/lib/cilium",
    "var/lib/cloud",
    "var/lib/cni",
    "var/lib/containerd",
    "var/lib/containers",
    "var/lib/crio",
    "var/lib/docker",
    "var/lib/dpkg",
    "var/lib/etcd",
    "var/lib/k0s",
    "var/lib/kubelet",
    "var/lib/rancher",
    "var/lib/rpm",
    "var/lib/systemd",
    "var/log",
    "var/run",
    "var/spool",
];

/// An absolute path of a folder on nodes, such as `/var/lib/models`. It is none of the system's, none that
/// contains one of those, and not directly below `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeFolder(String);

impl NodeFolder {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `other` is this folder or one below it.
    pub fn contains(&self, other: &Self) -> bool {
        is_below(&other.0, &self.0)
    }
}

impl FromStr for NodeFolder {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason: &str| {
            let reason = format!("{reason}; write a folder such as /var/lib/models");
            Error::invalid_text("folder on nodes", text, reason)
        };
        let folder = text.trim_end_matches('/');
        let below =
            folder.strip_prefix('/').ok_or_else(|| invalid("its folder does not start with /"))?;
        snapshot::check_model_path(below).map_err(|fault| match fault {
            // That function speaks of a model's repository.
            "leaves the repository" => invalid("its folder has an empty segment, `.` or `..`"),
            fault => invalid(&format!("its folder {fault}")),
        })?;
        // A folder directly below the root (`/models`) is a typing error away from `/`, and often a
        // mount point of its own.
        let is_system = SYSTEM.iter().any(|it| is_below(below, it) || is_below(it, below));
        if is_system || !below.contains('/') {
            return Err(invalid(
                "its folder belongs to the system or contains one that does, or is directly below /",
            ));
        }
        Ok(Self(folder.to_owned()))
    }
}

/// Whether a path is `folder` or below it, by whole names.
fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl fmt::Display for NodeFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::text::serde_as_text!(NodeFolder "^/.+/.+$");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_of_the_system_is_refused_and_so_is_one_that_contains_it() {
        for text in [
            "/",
            "",
            "models",
            "/models",
            "/etc",
            "/etc/models",
            "/var",
            "/var/lib",
            "/var/lib/",
            "/var/lib/kubelet",
            "/var/lib/kubelet/pods/x",
            "/var/lib/containerd/x",
            "/opt/cni/bin",
            "/root/models",
            "/run/models",
            "/usr/local/models",
            "/proc/1/root/srv",
            "/var/run/x",
            "/var/log/pods",
            "/srv/../etc/x",
            "/srv//x",
            "/srv/./x",
            "/srv/a\nb",
        ] {
            let error = text.parse::<NodeFolder>().unwrap_err().to_string();
            assert!(error.contains("write a folder such as"), "{text}: {error}");
        }
        // Only whole names belong to the system.
        for text in ["/var/lib/models", "/var/lib/kubelet2", "/data/etc", "/libs/m", "/opt/models"]
        {
            assert_eq!(text.parse::<NodeFolder>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_folder_contains_itself_and_what_is_below_it() {
        let folder = |text: &str| text.parse::<NodeFolder>().unwrap();
        let models = folder("/var/lib/models/");
        assert!(models.contains(&folder("/var/lib/models")));
        assert!(models.contains(&folder("/var/lib/models/team")));
        assert!(!models.contains(&folder("/var/lib/models2")));
        assert!(!models.contains(&folder("/srv/models")));
    }
}
