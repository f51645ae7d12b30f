//! The folders in which docker, podman and containerd look for certificates of single registries.
//!
//! - docker and podman: `certs.d/HOST[:PORT]/*.crt` are authorities, `*.cert` with `*.key` the client's
//!   certificate and key (docker's documentation, "Verify repository client with certificates";
//!   containers-certs.d(5)).
//! - containerd: `certs.d/HOST[:PORT]/hosts.toml` with `ca` and `client`, at the top for the registry
//!   itself and below `[host."https://HOST"]` (containerd, docs/hosts.md). Its `skip_verify` is
//!   containerd's alone: a file of another program must not switch off a check here.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use types::{Cause, ClientCertificate};

use crate::{Error, Result};

/// The file of containerd.
const HOSTS_FILE: &str = "hosts.toml";

/// What the folders have for one server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HostCertificates {
    /// PEM files of authorities that are trusted for this server.
    pub(super) ca: Vec<PathBuf>,
    pub(super) client: Option<ClientCertificate>,
}

/// The folders of this system and user, in the order in which they are read.
pub(crate) fn list_certificate_folders() -> Vec<PathBuf> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let of_user = [".config/docker/certs.d", ".docker/certs.d", ".config/containers/certs.d"];
    let of_system = ["/etc/docker/certs.d", "/etc/containers/certs.d", "/etc/containerd/certs.d"];
    let of_user = of_user.iter().filter_map(|folder| Some(home.as_ref()?.join(folder)));
    of_user.chain(of_system.iter().map(PathBuf::from)).collect()
}

impl HostCertificates {
    /// Reads what the folders have for a server with these names.
    pub(super) fn read(folders: &[PathBuf], names: &[String]) -> Result<Self> {
        let mut found = Self::default();
        for folder in folders {
            for name in names {
                found.read_folder(&folder.join(name), name)?;
            }
        }
        found.ca.sort();
        Ok(found)
    }

    fn read_folder(&mut self, folder: &Path, name: &str) -> Result<()> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(());
            }
            Err(cause) => {
                return Err(Error::Tls { path: folder.to_owned(), reason: cause.into() });
            }
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => self.ca.push(path),
                Some("cert") => {
                    let key = path.with_extension("key");
                    self.client.get_or_insert(ClientCertificate { certificate: path, key });
                }
                _ if path.ends_with(HOSTS_FILE) => self.read_hosts_file(&path, name)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_hosts_file(&mut self, path: &Path, name: &str) -> Result<()> {
        let unusable = |reason: Cause| Error::Tls { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|cause| unusable(cause.into()))?;
        let document: toml::Table =
            text.parse().map_err(|cause| unusable(Cause::about("it is not valid TOML", cause)))?;
        let own = document.get("host").and_then(toml::Value::as_table).and_then(|hosts| {
            let address =
                |key: &str| key.trim_start_matches("https://").trim_end_matches('/') == name;
            hosts.iter().find(|(key, _)| address(key))?.1.as_table()
        });
        let folder = path.parent().unwrap_or(path);
        for table in std::iter::once(&document).chain(own) {
            self.ca.extend(list_texts(table.get("ca")).map(|file| folder.join(file)));
            if let Some(client) = table.get("client").and_then(first_client) {
                let (certificate, key) = client;
                let (certificate, key) = (folder.join(certificate), folder.join(key));
                self.client.get_or_insert(ClientCertificate { certificate, key });
            }
        }
        Ok(())
    }
}

/// A text, or the texts of a list.
fn list_texts(value: Option<&toml::Value>) -> impl Iterator<Item = &str> {
    let list = value.and_then(toml::Value::as_array).map_or(&[][..], Vec::as_slice);
    value
        .and_then(toml::Value::as_str)
        .into_iter()
        .chain(list.iter().filter_map(toml::Value::as_str))
}

/// The files of certificate and key: one file with both, a list of those, or a list of pairs.
fn first_client(value: &toml::Value) -> Option<(&str, &str)> {
    match value {
        toml::Value::String(both) => Some((both, both)),
        toml::Value::Array(list) => match list.first()? {
            toml::Value::Array(pair) => Some((pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
            toml::Value::String(both) => Some((both, both)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn the_folders_of_docker_and_containerd_are_read_for_their_host_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (docker, containerd) = (folder.path().join("docker"), folder.path().join("containerd"));
        for path in
            [docker.join("reg.corp:5000"), docker.join("other"), containerd.join("reg.corp:5000")]
        {
            fs::create_dir_all(path).unwrap();
        }
        for name in ["reg.corp:5000/ca.crt", "reg.corp:5000/client.cert", "other/ca.crt"] {
            fs::write(docker.join(name), "").unwrap();
        }
        let hosts = "server = \"https://reg.corp:5000\"\nca = [\"/etc/a.pem\", \"b.pem\"]\n\
                     [host.\"https://reg.corp:5000\"]\nca = \"c.pem\"\nclient = [[\"x.pem\", \"x.key\"]]\n\
                     skip_verify = true\n[host.\"https://mirror\"]\nca = \"d.pem\"\n";
        fs::write(containerd.join("reg.corp:5000").join(HOSTS_FILE), hosts).unwrap();
        let names = ["reg.corp:5000".to_owned()];

        let found = HostCertificates::read(&[docker.clone(), containerd.clone()], &names).unwrap();

        let below = |name: &str| containerd.join("reg.corp:5000").join(name);
        let own = docker.join("reg.corp:5000");
        let mut ca = vec![own.join("ca.crt"), "/etc/a.pem".into(), below("b.pem"), below("c.pem")];
        ca.sort();
        assert_eq!(found.ca, ca);
        let client =
            ClientCertificate { certificate: own.join("client.cert"), key: own.join("client.key") };
        assert_eq!(found.client, Some(client));
        let of_containerd =
            HostCertificates::read(std::slice::from_ref(&containerd), &names).unwrap();
        assert_eq!(of_containerd.client.unwrap().key, below("x.key"));

        let none = HostCertificates::read(&[docker], &["reg.corp:443".to_owned()]).unwrap();
        assert_eq!(none, HostCertificates::default());
    }
}
